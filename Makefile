# What a developer needs; each target sets up .venv first if that is not done yet.
#
#   make serve       the agent on loopback, in the foreground
#   make tutorials   servers for the clients of socket tutorials, in the foreground
#   make test        all tests under trial and under pytest
#   make test-reactor  Twisted's own tests of reactors, over the reactor on uvloop
#   make lint        ruff, and docutils over the documents
#   make types       mypy
#   make packaging   the sdist and the wheel, in fresh environments
#   make check       the last four together
#   make clean       removes all that the others made
#
# `make PYTHON=/path/to/python3 ...` names the interpreter (3.11 or newer) for a new .venv, and
# `make serve SERVE='--config server.toml'` other options for the server.

SHELL = /bin/sh
.SUFFIXES:
.DEFAULT_GOAL := help

# Nothing of the caller's Python may leak into the environment or into the tests.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV

PYTHON =
SERVE = --listen agent=tcp:7100:interface=127.0.0.1

# All paths are relative, so that a checkout may stand in a folder with spaces in its name.
BIN = .venv/bin
SET_UP = @PYTHON='$(PYTHON)' sh tools/set-up

.PHONY: help serve tutorials test test-reactor lint types packaging check clean

help:
	@sed -n 's/^#   \(make .*\)/\1/p' Makefile

serve:
	$(SET_UP)
	@exec $(BIN)/twistd --pidfile= -n sockproto $(SERVE)

# What is uploaded, and the home of the commands, are in .venv.
tutorials:
	$(SET_UP)
	@mkdir -p .venv/tutorials
	@HOME="$$PWD/.venv/tutorials" exec $(BIN)/twistd --pidfile= -n sockproto \
		--config sockproto/examples/tutorials.toml

test:
	$(SET_UP) test
	@exec $(BIN)/python tools/run_tests.py

test-reactor:
	$(SET_UP) reactor-test
	@exec $(BIN)/python tools/run_reactor_tests.py

lint:
	$(SET_UP) dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/python tools/check_documents.py

types:
	$(SET_UP) test dev
	@$(BIN)/mypy

packaging:
	$(SET_UP) dev
	@exec $(BIN)/python tools/check_packaging.py

check: test lint types packaging

clean:
	@rm -rf .venv build dist sockproto.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache
	@rm -rf _trial_temp* twisted/plugins/dropin.cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
