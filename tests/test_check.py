"""Tests for ``sockproto check``."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli.main import program

RULES = """
[[listen]]
service = "agent"
endpoint = "tcp:7100"
allow_plaintext = true
[[command]]
name = "disk"
argv = ["df", "-h", "{path}"]
allow = ["ops", "group:monitoring"]
parameters.path = { pattern = "/[a-z]*" }
[[command]]
argv = "any"
allow = ["root"]
"""


class CheckTests(SynchronousTestCase):
    """What the subcommand prints, and its exit status."""

    def setUp(self) -> None:
        self.file = Path(self.mktemp()).absolute()

    def check(self, text: str, *arguments: str) -> Result:
        """Run it on a file of this text."""
        self.file.write_text(text)
        return CliRunner().invoke(program, ["check", str(self.file), *arguments])

    def test_fine(self) -> None:
        """A good configuration is summed up; what it warns of goes to stderr."""
        result = self.check(RULES)
        self.assertEqual(result.exit_code, 0)
        self.assertIn("listen   agent on tcp:7100: login, no TLS, open to the net", result.stdout)
        self.assertIn("command  disk: df -h '{path}'; for ops, group:monitoring", result.stdout)
        self.assertIn('command  argv = "any": any argv; for root', result.stdout)
        self.assertIn("without TLS beyond this machine", result.stderr)

    def test_wrong(self) -> None:
        """Each thing that is wrong is a line on stderr, and the status is 1."""
        result = self.check("[limits]\ncomands = 1\nframe = 1\n")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(
            lines[0], f"{self.file}: [limits]: unknown key comands; did you mean commands?"
        )

    def test_allowed(self) -> None:
        """An allowed request: the rule, and what would run."""
        result = self.check(RULES, "--as", "ops", "--", "disk", "/var")
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(result.stdout, "allowed: disk allows the identity\nruns: df -h /var\n")

    def test_refused(self) -> None:
        """A refused request: why, what the client is told, and status 1."""
        result = self.check(RULES, "--as", "eve", "--", "disk", "/var")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(
            result.stdout,
            "refused: disk: its allow does not name the identity\n"
            "the client is told: 'disk' is not allowed\n",
        )

    def test_options(self) -> None:
        """Words behind -- are not options of this program."""
        result = self.check(RULES, "--as", "root", "--", "ls", "--as", "-h", "a\x1bb")
        self.assertEqual(result.exit_code, 0)
        self.assertIn("runs: ls --as -h 'a\\x1bb'", result.stdout)

    def test_group(self) -> None:
        """--group says which groups the identity's key has."""
        result = self.check(RULES, "--as", "x", "--group", "monitoring", "--", "disk", "/")
        self.assertEqual(result.exit_code, 0)

    def test_from(self) -> None:
        """--from says where the request comes from; a rule that asks for that needs it."""
        text = RULES.replace("parameters.path", 'from = ["10.0.0.0/8", "unix"]\nparameters.path')
        asked = ("--as", "ops", "--", "disk", "/var")
        result = self.check(text, *asked)
        self.assertEqual(result.exit_code, 1)
        self.assertIn("disk: its from does not admit an address that is not known", result.stdout)
        for origin, status in (("10.1.2.3", 0), ("unix", 0), ("192.0.2.1", 1), ("here", 2)):
            self.assertEqual(self.check(text, "--from", origin, *asked).exit_code, status, origin)

    def test_accounts(self) -> None:
        """Users that are not here are a note, for the server may run elsewhere."""
        text = RULES.replace("parameters.path", 'user = "no-such-user"\nparameters.path')
        result = self.check(text)
        self.assertEqual(result.exit_code, 0)
        self.assertIn("disk: user: there is no user 'no-such-user'", result.stderr)

    def test_usage(self) -> None:
        """An identity without a request, or the other way round, is wrong usage."""
        for arguments in (("--as", "x"), ("--", "disk"), ("--group", "x"), ("--from", "unix")):
            self.assertEqual(self.check(RULES, *arguments).exit_code, 2)

    def test_certificate(self) -> None:
        """A certificate that cannot be used is an error, though none that a decision needs."""
        text = RULES.replace("allow_plaintext = true", 'tls = "none.pem"')
        result = self.check(text)
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertIn(f"{self.file.parent}/none.pem: expected a PEM file", result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1)
        self.assertEqual(self.check(text, "--as", "root", "--", "ls").exit_code, 0)

    def test_exposed(self) -> None:
        """A file that anybody can write can be checked, with a warning."""
        self.check(RULES)
        self.file.chmod(0o646)
        result = self.check(RULES)
        self.assertEqual(result.exit_code, 0)
        self.assertIn("expected that only its owner can write it", result.stderr)
