"""Tests for ``sockproto ping``, as a program and against a real server."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli import ping as ping_module
from sockproto.cli.main import program
from tests.servers import PATIENCE, ServedTestCase, client


class PingTests(ServedTestCase, SynchronousTestCase):
    """The program."""

    def ping(self, *argv: str, where: str | None = None) -> tuple[int, str, str]:
        with client("ping", *argv, server=self.server, where=where) as process:
            output, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, output.decode(), errors.decode()

    def test_there(self) -> None:
        """An agent that is there: its id and the time, as often as asked; 0."""
        for where in (self.server.tcp, self.server.unix, self.server.tls):
            status, output, errors = self.ping("--count", "3", where=where)
            self.assertEqual((status, errors), (0, ""))
            self.assertRegex(output, r"\A(here: \d+\.\d\d ms\n){3}\Z")

    def test_notThere(self) -> None:
        """One that is not, or does not let us in: 255 and one line."""
        for code, argv in (
            ("connect", ("--connect", "unix:/no/such")),
            ("login", ("--server-id", "other")),
            ("login", ("--keyring", "/no/such")),
        ):
            status, output, errors = self.ping(*argv)
            self.assertEqual((status, output, errors.count("\n")), (255, "", 1), errors)
            self.assertTrue(errors.startswith(f"sockproto: {code}: "), errors)

    def test_silent(self) -> None:
        """One that lets us in and does not answer is not there either."""
        from click.testing import CliRunner

        self.patch(ping_module, "_SECONDS", 0.0)
        result = CliRunner().invoke(
            program,
            ["ping", "--connect", self.server.tcp, "--keyring", self.server.keyring],
        )
        self.assertEqual(result.exit_code, 255)
        self.assertTrue(re.search("sockproto: lost: .*answer", result.output), result.output)

    def test_usage(self) -> None:
        """Wrong usage is 2."""
        self.assertEqual(self.ping("--count", "0")[0], 2)
