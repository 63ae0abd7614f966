"""Tests of the public names, and of what importing them and running the client program costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import sockproto
from tests.servers import ServedTestCase, client, client_environment

#: What a cold start of the client program must not pay for.
HEAVY = ("twisted", "zope", "cattrs", "OpenSSL", "cryptography", "tomlkit", "asyncio", "ssl")


def loaded(code: str) -> set[str]:
    """What is imported by some code, of the heavy packages."""
    script = f"{code}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-c", script],
        env=client_environment(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return set(ast.literal_eval(output.decode().splitlines()[-1]))


class NamesTests(SynchronousTestCase):
    """The names of the package."""

    def test_all(self) -> None:
        """Every public name is there, is listed, and is the one of its home."""
        self.assertEqual(set(sockproto.__all__), set(sockproto._HOMES))
        self.assertEqual(sorted(sockproto.__all__), sockproto.__all__)
        for name, home in sockproto._HOMES.items():
            module = importlib.import_module(f"sockproto.{home}")
            self.assertIs(getattr(sockproto, name), getattr(module, name))
            self.assertIn(name, dir(sockproto))
            self.assertIn(name, module.__all__)

    def test_typesSeeThem(self) -> None:
        """What type checkers are told is what there is."""
        tree = ast.parse(Path(sockproto.__file__).read_text())
        told = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sockproto")
            for alias in node.names
        }
        self.assertEqual(told, set(sockproto.__all__))

    def test_noOther(self) -> None:
        """Any other name is an AttributeError that says it."""
        error = self.assertRaises(AttributeError, getattr, sockproto, "conect")
        self.assertIn("conect", str(error))

    def test_sameNames(self) -> None:
        """The two clients have the same methods under the same names."""
        import sockproto.blocking

        for asynchronous, blocking in (
            (sockproto.Session, sockproto.blocking.Session),
            (sockproto.Command, sockproto.blocking.Command),
        ):
            for name in (
                "run",
                "start",
                "ping",
                "close",
                "read",
                "wait",
                "write",
                "end_input",
                "signal",
                "cancel",
            ):
                self.assertEqual(hasattr(asynchronous, name), hasattr(blocking, name), name)


class LazinessTests(ServedTestCase, SynchronousTestCase):
    """What is imported when."""

    def test_package(self) -> None:
        """The package itself imports nothing of its own, and an error class only its module."""
        self.assertEqual(loaded("import sockproto"), set())
        self.assertEqual(loaded("from sockproto import Result, AgentError, Key, Keyring"), set())
        self.assertEqual(loaded("from sockproto.blocking import connect"), set())
        self.assertIn("twisted", loaded("from sockproto import connect"))

    def test_run(self) -> None:
        """``sockproto run`` imports nothing heavy; under TLS pyOpenSSL alone, and what it needs."""
        for where, expected in (
            (self.server.tcp, set()),
            (self.server.unix, set()),
            (self.server.tls, {"OpenSSL", "cryptography"}),
        ):
            found = loaded(
                "import os, sys\n"
                f"os.environ.update(SOCKPROTO_CONNECT={where!r},"
                f" SOCKPROTO_KEYRING={self.server.keyring!r})\n"
                "from sockproto.cli.main import program\n"
                "try:\n"
                "    program.main(['run', '--', 'true'])\n"
                "except SystemExit as end:\n"
                "    assert end.code == 0, end.code\n"
            )
            self.assertEqual(found, expected, where)

    def test_module(self) -> None:
        """``python -m sockproto`` is the client program."""
        with client("--version") as process:
            output, errors = process.communicate()
        self.assertEqual((process.returncode, errors), (0, b""))
        self.assertIn(b"sockproto", output)
