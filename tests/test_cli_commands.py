"""Tests for ``sockproto commands`` and ``run --help-command``, against a real server."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from sockproto.blocking import connect
from sockproto.cli.main import program
from sockproto.cli.options import ConnectionOptions
from sockproto.errors import Refused
from sockproto.key import new_key
from sockproto.keyring_edit import add_keys
from sockproto.result import Result
from sockproto.wire.commands import CommandRequest
from tests.servers import ServedTestCase

RULES = """
[[command]]
name = "disk"
argv = ["/bin/echo", "{path}", "{more}"]
summary = "Free space of a file system"
allow = ["guest"]
timeout = 90
max_output = 5000
fresh = 30
pass_env = ["LC_*"]
[command.parameters.path]
pattern = "/[a-z]*"
default = "/var"
[command.parameters.more]
choices = ["a", "b"]
rest = true

[[command]]
name = "cat"
argv = ["cat"]
allow = ["guest"]
stdin = "stream"
tty = true

[[command]]
name = "reboot"
argv = ["/bin/false"]
allow = ["root"]

[[command]]
name = "stamp"
argv = ["sh", "-c", "sleep 0.2; cat /proc/sys/kernel/random/uuid"]
allow = ["owner", "guest"]
fresh = 60
"""

REQUEST = CommandRequest.of(["stamp"])

DISK = """\
disk [PATH] [MORE...]

  Free space of a file system

  PATH  text matching /[a-z]* (default: /var)
  MORE  one of a, b

  Variables that may be set: LC_*.
  It is ended after 1 min 30 s.
  It is ended once it has written 5000 bytes.
  Its result may be one of the last 30 s.
"""


class CommandsTests(ServedTestCase, SynchronousTestCase):
    """The program."""

    rules = RULES

    def run_(self, *argv: str, identity: str = "guest") -> tuple[int, str]:
        """Run the program; what it printed is on both streams together."""
        options = ["--connect", self.server.unix, "--keyring", self.server.keyring]
        result = CliRunner().invoke(program, [*options, "--identity", identity, *argv])
        return result.exit_code, result.output

    def test_table(self) -> None:
        """What we may run, a line each: the name, the parameters, what it is for."""
        self.assertEqual(
            self.run_("commands"),
            (
                0,
                "COMMAND   PARAMETERS        SUMMARY\n"
                "some\n"
                "disk      [PATH] [MORE...]  Free space of a file system\n"
                "cat\n"
                "stamp\n"
                "commands  [OPTIONS...]      The commands that you may run\n"
                "status    [OPTIONS...]      What the server is doing\n",
            ),
        )

    def test_any(self) -> None:
        """Who may run any program sees that, and the agent's list all the same."""
        status, output = self.run_("commands", identity="owner")
        self.assertEqual(status, 0)
        self.assertRegex(output, r"\nPROGRAM +\[WORD\.\.\.\]\n")
        self.assertNotIn("disk", output)

    def test_json(self) -> None:
        """For programs it is a list of objects."""
        status, output = self.run_("commands", "--json")
        found = json.loads(output)
        self.assertEqual((status, found[1]["name"], found[1]["fresh"]), (0, "disk", 30))

    def test_one(self) -> None:
        """One command in full."""
        self.assertEqual(self.run_("run", "--help-command", "disk"), (0, DISK))
        status, output = self.run_("run", "--help-command", "cat")
        self.assertEqual(status, 0)
        self.assertIn("run --stdin", output)
        self.assertIn("run --tty", output)
        self.assertEqual(self.run_("run", "--help-command", "some")[0], 0)

    def test_noSuch(self) -> None:
        """One that is not there, or not for us, is told with the nearest name; 255."""
        self.assertEqual(
            self.run_("run", "--help-command", "disc"),
            (
                255,
                "sockproto: unknown: there is no command 'disc' that we may run; "
                "did you mean disk?\n",
            ),
        )
        status, output = self.run_("run", "--help-command", "reboot")
        self.assertEqual((status, output.count("\n")), (255, 1))

    def test_usage(self) -> None:
        """A run of nothing is wrong usage."""
        status, output = self.run_("run")
        self.assertEqual(status, 255)
        self.assertIn("Missing argument 'ARGV...'", output)

    def test_noAgent(self) -> None:
        """Where no agent answers it is 255."""
        self.assertEqual(self.run_("commands", "--connect", "unix:/no/such")[0], 255)

    def test_tellingApart(self) -> None:
        """Unknown and forbidden names are told apart for who may run something, and for nobody
        else."""
        add_keys(self.server.keyring, [new_key("stranger")])
        codes = {}
        for identity in ("guest", "stranger"):
            with connect(**self.server.connection(), identity=identity) as session:
                for name in ("reboot", "nothing"):
                    error = self.assertRaises(Refused, session.run, [name])
                    codes[identity, name] = error.code
                    if identity == "stranger":
                        self.assertEqual(str(error), f"'{name}' is not allowed")
        self.assertEqual(
            codes,
            {
                ("guest", "reboot"): "refused",
                ("guest", "nothing"): "unknown",
                ("stranger", "reboot"): "refused",
                ("stranger", "nothing"): "refused",
            },
        )

    def test_fresh(self) -> None:
        """Requests for the same share a run, under way or over, whoever asks; all but the first
        are told its age."""
        with (
            connect(**self.server.connection()) as one,
            connect(**self.server.connection(), identity="guest") as other,
        ):
            commands = [session.ask(REQUEST) for session in (one, one, other)]
            results = [command.wait() for command in commands]
            later = other.run(["stamp"])
        self.assertEqual(len({result.stdout for result in (*results, later)}), 1)
        self.assertEqual(sum(result.age is None for result in results), 1)
        assert later.age is not None
        self.assertTrue(0.2 <= later.age <= 60, later.age)

    def test_status(self) -> None:
        """The agent says how it is, and who is connected."""
        with connect(**self.server.connection()) as session:
            found = json.loads(session.run(["status", "--json"]).stdout)
            self.assertEqual((found["scope"], found["server_id"]), ("all", "here"))
            self.assertIn(
                session.login.session_id.hex(), [each["session"] for each in found["sessions"]]
            )


class AgentTests(SynchronousTestCase):
    """What an agent may say."""

    def commands(self, *argv: str, **result: Any) -> tuple[int, str]:
        """Run the program with an agent that gives this result."""

        class Session:
            def __enter__(self) -> Session:
                return self

            def __exit__(self, *_: Any) -> None:
                pass

            def run(self, *_: Any, **__: Any) -> Result:
                return Result(**{"exit_status": 0, **result})

        self.patch(ConnectionOptions, "connect", lambda _: Session())
        outcome = CliRunner().invoke(program, argv or ["commands"])
        return outcome.exit_code, outcome.output

    def test_escaped(self) -> None:
        """What a terminal would obey is escaped, and what is no text is left out."""
        command = {
            "name": "a\x1b[2J",
            "summary": "b\nc",
            "parameters": [{"name": "\r", "constraint": 3, "rest": 1}, 7],
            "env": ["\x07", 1],
            "timeout": True,
            "fresh": "x",
        }
        stdout = json.dumps({"commands": [command]}).encode()
        for argv in ((), ("run", "--help-command", "a\x1b[2J")):
            status, output = self.commands(*argv, stdout=stdout)
            self.assertEqual(status, 0, output)
            self.assertIn("b\\nc", output)
            self.assertTrue(all(char == "\n" or char.isprintable() for char in output), output)

    def test_none(self) -> None:
        """What is no list is told."""
        for stdout in (
            b"",
            b"[]",
            b"{}",
            b'{"commands": 3}',
            b'{"commands": [3]}',
            b"\xff",
            b"null",
        ):
            status, output = self.commands(stdout=stdout)
            self.assertEqual(status, 255)
            self.assertTrue(output.startswith("sockproto: protocol: "), output)

    def test_failed(self) -> None:
        """So is a program of that name that fails."""
        status, output = self.commands(exit_status=1, stderr=b"no\x1b such\n")
        self.assertEqual(
            (status, output),
            (1, "sockproto: internal: the agent's list of commands: no\\x1b such\n"),
        )
