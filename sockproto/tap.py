"""``twistd sockproto``: its options, and the service that they make."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from sockproto.errors import ConfigurationError, KeyringError
from sockproto.keyring_file import default_path

__all__ = ["Options", "makeService"]

_log = Logger()


class Options(usage.Options):
    """The command line behind ``twistd sockproto``."""

    synopsis = "[--config FILE] [--keyring FILE] [--listen SERVICE=ENDPOINT]..."
    longdesc = """\
An agent that runs commands for those who hold a key.

With no option it listens on the default endpoints, on this machine only, and whoever holds the key
"owner" of your keyring, which it makes if it is missing, may run anything as you:

  twistd -n sockproto
  sockproto run -- uname -a                      (in another terminal)

Elsewhere, say in a configuration file who may run what:

  twistd -n sockproto --config /etc/sockproto/server.toml --keyring /etc/sockproto/keyring.toml
  twistd -n sockproto --listen agent=unix:/run/user/1000/agent.sock

SIGHUP reads the configuration and the keyring again, SIGTERM lets what runs finish for a while.
The exit status is 1 where the server cannot be started."""

    optParameters = [
        ["config", None, None, "the configuration, a TOML file"],
        [
            "keyring",
            None,
            None,
            "the keyring (SOCKPROTO_KEYRING; else sockproto/keyring.toml in "
            "the user's configuration folder)",
        ],
    ]
    compData = usage.Completions(
        optActions={
            "config": usage.CompleteFiles("*.toml"),
            "keyring": usage.CompleteFiles("*.toml"),
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, listener: str) -> None:
        """listen: SERVICE=ENDPOINT, such as agent=tcp:7100:interface=127.0.0.1; may be repeated"""
        self["listen"].append(listener)

    def opt_version(self) -> None:
        """version: print the version and leave"""
        from importlib.metadata import version

        print(f"sockproto {version('sockproto')}")
        sys.exit(0)


def makeService(options: Options, reactor: Any = None) -> IService:
    """The service that the options describe.

    What cannot be read ends the program with status 1 and a line each on stderr, before anything
    listens.
    """
    if reactor is None:
        from twisted.internet import reactor
    from sockproto.server.config import load_configuration
    from sockproto.server.keys import ServerKeys
    from sockproto.server.service import Server

    # twistd changes to another folder before it serves; what was named is meant as seen from here.
    config = None if options["config"] is None else Path(options["config"]).absolute()
    listen = list(options["listen"])
    try:
        configuration = load_configuration(config, listen)
        keys = ServerKeys(_keyring(options))
        keys.open(create=config is None)
    except (ConfigurationError, KeyringError) as error:
        for line in str(error).splitlines():
            print(f"sockproto: {line}", file=sys.stderr)
        raise SystemExit(1) from None
    server = Server(
        reactor,
        configuration,
        keys,
        None if config is None else lambda: load_configuration(config, listen),
    )
    server.setName("sockproto")
    return server


def _keyring(options: Options) -> Path:
    named = options["keyring"] or os.environ.get("SOCKPROTO_KEYRING")
    return Path(named or default_path(os.environ)).absolute()
