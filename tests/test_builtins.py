"""Tests of the built-in commands: what everybody may run, and what it tells to whom."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.interfaces import ICommand
from sockproto.limits import Limits
from sockproto.services.command.listing import described
from sockproto.services.command.parameters import Parameter
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import BUILT_IN_RULES, CommandRules
from sockproto.services.command.service import CommandService
from sockproto.tables import aligned, duration
from tests.commandfakes import PRINCIPAL, FakeChannel, FakeHost, PollingReactor

DISK = CommandRule(
    name="disk",
    argv=("/opt/secret/df", "--level={level}", "{path}", "{more}"),
    summary="Free space",
    allow=("ops",),
    timeout=30,
    max_output=1000,
    fresh=5,
    pass_env=("LC_*",),
    parameters={
        "path": Parameter(pattern="/[a-z]*", default="/"),
        "level": Parameter(type="integer", max=9),
        "more": Parameter(choices=("a", "b"), rest=True),
    },
)
ANY = CommandRule(argv="any", summary="Anything", allow=("root",), stdin="stream", tty=True)
HIDDEN = CommandRule(name="reboot", argv=("reboot",), allow=("root",), deny=("ops",))


def who(identity: str, address: str = "192.0.2.7:4711") -> Any:
    return evolve(PRINCIPAL, identity=identity, groups=(), address=address)


class BuiltInTestCase(SynchronousTestCase):
    """A service without any command in Python but the built-in ones."""

    def setUp(self) -> None:
        self.reactor = PollingReactor()
        self.host = FakeHost()
        self.addCleanup(self.host.closeChildren)

    def serve(self, *rules: CommandRule, owner: bool = False, **more: Any) -> None:
        host: Any = self.host
        found = CommandRules(rules, owner)
        self.service = CommandService(self.reactor, host, found, Limits(), **more)

    def ask(self, identity: str, *argv: str) -> FakeChannel:
        channel = FakeChannel(principal=who(identity))
        self.service.open(channel, {"argv": list(argv)})
        self.reactor.advance(0)
        return channel

    def text(self, identity: str, *argv: str) -> str:
        """What it says."""
        channel = self.ask(identity, *argv)
        self.assertEqual(channel.said[-1], ("close", {"exit_status": 0}))
        return channel.data[1].decode()

    def json(self, identity: str, *argv: str) -> Any:
        """The same as JSON."""
        return json.loads(self.text(identity, *argv, "--json"))


class RuleTests(BuiltInTestCase):
    """Who may run them."""

    def test_interface(self) -> None:
        """They are commands like those of any program that embeds the server."""
        self.serve()
        self.assertEqual(sorted(self.service._commands), ["commands", "status"])
        for command in self.service._commands.values():
            verifyObject(ICommand, command)

    def test_everybody(self) -> None:
        """Everybody who has logged in may, and nobody who has not."""
        self.serve()
        for name in ("commands", "status"):
            self.text("anybody", name)
            self.assertEqual(self.ask("tutorial", name).said[0][:2], ("reject", "refused"))
            self.assertEqual(self.ask("anybody", name, "-x").said[0][:2], ("reject", "refused"))

    def test_otherwise(self) -> None:
        """A rule of the same name says otherwise, be it for a program."""
        rule = CommandRule(name="status", argv=("uptime",), allow=("ops",))
        self.serve(rule)
        self.assertEqual(self.ask("anybody", "status").said[0][:2], ("reject", "refused"))
        self.ask("ops", "status")
        self.assertEqual(self.host.runs[0].spec.argv, ("uptime",))
        self.assertEqual(CommandRules([rule]).offered("x"), BUILT_IN_RULES[:1])

    def test_beforeAny(self) -> None:
        """They come before a rule for any argv, as named rules do; a label is no name."""
        self.serve(evolve(ANY, name="status"))
        self.text("root", "status")
        self.assertEqual(self.host.runs, [])

    def test_replaced(self) -> None:
        """A command of the embedder's takes the place of a built-in one."""
        self.serve(commands={"status": lambda _: 9})
        self.assertEqual(self.ask("x", "status").said[-1], ("close", {"exit_status": 9}))

    def test_tellingApart(self) -> None:
        """Only who may run something, and list it, learns that a name is unknown."""
        self.serve(DISK, HIDDEN)
        for name, code in (("disc", "unknown"), ("reboot", "refused")):
            self.assertEqual(self.ask("ops", name).said[0][:2], ("reject", code))
            self.assertEqual(self.ask("anybody", name).said[0][:2], ("reject", "refused"))
        self.assertIn("did you mean disk?", self.ask("ops", "disc").said[0][2])
        self.assertIn("did you mean status?", self.ask("ops", "statu").said[0][2])
        listing = CommandRule(name="commands", python=True, argv=("commands",), allow=("root",))
        self.serve(DISK, HIDDEN, listing)
        self.assertEqual(self.ask("ops", "disc").said[0][1:], ("refused", "'disc' is not allowed"))


class ListingTests(BuiltInTestCase):
    """``commands``."""

    def test_mine(self) -> None:
        """It lists what the caller may run, with its parameters, and nothing of the rest."""
        self.serve(DISK, HIDDEN, ANY)
        self.assertEqual(
            self.text("ops", "commands"),
            "COMMAND                      SUMMARY\n"
            "disk LEVEL [PATH] [MORE...]  Free space\n"
            "commands [OPTIONS...]        The commands that you may run\n"
            "status [OPTIONS...]          What the server is doing\n",
        )
        root = self.text("root", "commands")
        self.assertIn("PROGRAM [WORD...]", root)
        self.assertIn("reboot", root)
        self.assertNotIn("disk", root)
        names = [one["name"] for one in self.json("nobody", "commands")["commands"]]
        self.assertEqual(names, ["commands", "status"])

    def test_json(self) -> None:
        """As JSON it has all that one has to know to ask for it, and not what is run."""
        self.serve(DISK)
        found = self.json("ops", "commands")["commands"][0]
        self.assertNotIn("/opt/secret", json.dumps(found))
        self.assertEqual(
            found,
            {
                "name": "disk",
                "any": False,
                "summary": "Free space",
                "parameters": [
                    {
                        "name": "level",
                        "constraint": "an integer from 0 to 9",
                        "rest": False,
                        "required": True,
                    },
                    {
                        "name": "path",
                        "constraint": "text matching /[a-z]*",
                        "rest": False,
                        "required": False,
                        "default": "/",
                    },
                    {
                        "name": "more",
                        "constraint": "one of a, b",
                        "rest": True,
                        "required": False,
                    },
                ],
                "stdin": False,
                "tty": False,
                "timeout": 30,
                "max_output": 1000,
                "fresh": 5,
                "env": ["LC_*"],
            },
        )

    def test_secret(self) -> None:
        """What a secret parameter may be is not told, nor what it is by default."""
        parameter = Parameter(pattern="tiger[0-9]", default="tiger1", secret=True)
        rule = CommandRule(name="a", argv=("a", "{p}"), parameters={"p": parameter})
        self.assertNotIn("tiger", json.dumps(described(rule)))

    def test_reload(self) -> None:
        """It goes by the rules in force."""
        self.serve(DISK)
        self.service.reconfigure(CommandRules([HIDDEN]), Limits())
        self.assertNotIn("disk", self.text("ops", "commands"))


class StatusTests(BuiltInTestCase):
    """``status``."""

    def setUp(self) -> None:
        super().setUp()
        self.sessions = [who("ops"), who("ops", "unix"), who("nagios")]
        self.serve(
            evolve(DISK, fresh=None),
            ANY,
            CommandRule(
                name="all",
                python=True,
                argv=("status", "--all", "{options}"),
                allow=("boss",),
                parameters={"options": Parameter(choices=("--json",), rest=True)},
            ),
            sessions=lambda: self.sessions,
        )

    def test_mine(self) -> None:
        """It tells of the server, and of the caller's own sessions and commands."""
        self.reactor.advance(90_000)
        self.ask("ops", "disk", "1")
        self.ask("root", "sleep")
        self.reactor.advance(5)
        found = self.json("ops", "status")
        self.assertEqual(
            (found["server_id"], found["uptime"], found["scope"]), ("web1", 90_005, "ops")
        )
        self.assertEqual([one["address"] for one in found["sessions"]], ["192.0.2.7:4711", "unix"])
        self.assertEqual(
            [(one["command"], one["seconds"]) for one in found["running"]],
            [("disk", 5), ("status", 0)],
        )
        self.assertNotIn("root", json.dumps(found))
        self.assertNotIn("started", found)

    def test_all(self) -> None:
        """Who may run any program, or whose rule has --all, is told of all."""
        self.ask("ops", "disk", "1")
        self.ask("ops", "nothing")
        for identity, name in (("root", "status"), ("boss", "all")):
            found = self.json(identity, name)
            self.assertEqual((found["scope"], len(found["sessions"])), ("all", 3))
            self.assertEqual(found["running"][0]["identity"], "ops")
            self.assertEqual((found["refused"], found["shared"]), (1, 0))
        self.assertEqual(found["started"], 3)
        self.assertEqual(self.json("boss", "status")["scope"], "boss")

    def test_denied(self) -> None:
        """A rule for any argv that denies a caller gives it no more than others."""
        rules = CommandRules([ANY, CommandRule(argv="any", allow=("ops",), deny=("root",))])
        self.assertFalse(rules.unrestricted("root"))
        self.assertTrue(rules.unrestricted("ops"))
        self.assertTrue(CommandRules((), True).unrestricted("owner"))

    def test_text(self) -> None:
        """For people it is a few lines and a table."""
        self.ask("ops", "disk", "1")
        self.reactor.advance(61)
        text = self.text("ops", "status")
        self.assertRegex(text, r"server +web1, sockproto ")
        self.assertRegex(text, r"up +1 min 1 s\n")
        self.assertRegex(text, r"sessions of ops +2\n")
        self.assertRegex(text, r"running of ops +2\n")
        self.assertRegex(text, r"\ndisk +ops +192.0.2.7:4711 +1 min 1 s\n")
        self.assertRegex(self.text("root", "status"), r"started +3\n")

    def test_sessionsUnknown(self) -> None:
        """Where a program does not say who is connected, it says nothing of it."""
        self.serve()
        self.assertNotIn("sessions", self.json("x", "status"))


class TextTests(SynchronousTestCase):
    """Columns and times."""

    def test_aligned(self) -> None:
        """Columns are as wide as their widest cell, and lines have no spaces at their ends."""
        self.assertEqual(aligned([("a", "b", "c"), ("long", "", "")]), "a     b  c\nlong\n")

    def test_duration(self) -> None:
        """A time is said in its two largest units."""
        for seconds, text in (
            (0, "0 s"), (4.24, "4.2 s"), (30, "30 s"), (60, "1 min"), (3600 * 25.5, "1 d 1 h"),
            (86_400 * 400, "400 d"), (7384, "2 h 3 min"),
        ):  # fmt: skip
            self.assertEqual(duration(seconds), text)
