"""Tests of the service ``command``: what it accepts, what it refuses, and what it counts."""

from __future__ import annotations

import os
from typing import Any

from attrs import evolve
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.interfaces import IChannelService
from sockproto.limits import Limits
from sockproto.services.command.environment import base_environment, home_folder
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules
from sockproto.services.command.running import RunningCommand
from sockproto.services.command.service import CommandService
from sockproto.wire.commands import InvalidRequest
from tests.commandfakes import PRINCIPAL, FakeChannel, FakeHost, PollingReactor

DISK = CommandRule(name="disk", argv=("df", "-h"), allow=("ops",))
ANY = CommandRule(
    argv="any", allow=("group:monitoring",), stdin="stream", pass_env=("LC_*", "PATH", "REMOTE_*")
)


class CommandServiceTests(SynchronousTestCase):
    """The service between a fake process host and fake channels."""

    def setUp(self) -> None:
        self.reactor = PollingReactor()
        self.host = FakeHost()
        self.addCleanup(self.finish)
        self.logged: list[LogEvent] = []
        observe: Any = self.logged.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def serve(self, *rules: CommandRule, **limits: Any) -> None:
        host: Any = self.host
        self.service = CommandService(self.reactor, host, CommandRules(rules), Limits(**limits))

    def finish(self) -> None:
        for run in self.host.runs:
            if run.childOutput >= 0:
                run.observer.started(1)
                run.exit()
        self.reactor.settle()

    def open(self, *argv: Any, channel: FakeChannel | None = None, **request: Any) -> FakeChannel:
        """Ask for a command."""
        self.channel = FakeChannel() if channel is None else channel
        self.served = self.service.open(self.channel, {"argv": list(argv), **request})
        return self.channel

    def expectRefusal(self, code: str, words: str) -> None:
        """The last request was refused with this code, and a message that has these words."""
        self.assertIsNone(self.served)
        ((what, found, message),) = self.channel.said
        self.assertEqual((what, found), ("reject", code))
        self.assertIn(words, message)

    def messages(self) -> list[str]:
        """What was logged."""
        return [formatEvent(event) for event in self.logged]

    def test_interface(self) -> None:
        """It is a service for channels."""
        self.serve()
        self.assertTrue(verifyObject(IChannelService, self.service))

    def test_accepted(self) -> None:
        """A rule's argv is executed in the home of the server's user, with the base environment
        and who asked; ACCEPT comes once it runs."""
        self.serve(DISK)
        self.open("disk")
        run = self.host.runs[0]
        self.assertEqual((run.spec.argv, run.spec.cwd), (("df", "-h"), home_folder()))
        self.assertEqual(run.spec.env["SOCKPROTO_COMMAND"], "disk")
        self.assertEqual(run.spec.env["PATH"], base_environment()["PATH"])
        self.assertFalse(run.spec.stdin)
        self.assertEqual(self.channel.said, [])
        run.observer.started(4711)
        self.assertEqual(self.channel.said, [("accept", {})])

    def test_bytes(self) -> None:
        """Any bytes can be argument, folder and value."""
        self.serve(ANY)
        self.open("echo", {"b64": "//4="}, cwd={"b64": "L/8="}, env=[["LC_ALL", {"b64": "/w=="}]])
        spec = self.host.runs[0].spec
        self.assertEqual(os.fsencode(spec.argv[1]), b"\xff\xfe")
        self.assertEqual(os.fsencode(spec.cwd), b"/\xff")
        self.assertEqual(os.fsencode(spec.env["LC_ALL"]), b"\xff")

    def test_refused(self) -> None:
        """What the rules do not allow, and what does not exist, are told apart for those who may
        run something."""
        self.serve(DISK, CommandRule(name="other", argv=("true",), allow=("root",)))
        self.open("other")
        self.expectRefusal("refused", "not allowed")
        self.open("disc")
        self.expectRefusal("unknown", "did you mean disk?")
        self.open("disk", "/srv")
        self.expectRefusal("refused", "takes no words")
        nobody = evolve(PRINCIPAL, identity="nobody", groups=())
        self.open("disc", channel=FakeChannel(principal=nobody))
        self.expectRefusal("refused", "not allowed")
        self.assertEqual(self.host.runs, [])

    def test_invalid(self) -> None:
        """What is no request at all is the session's to reject."""
        self.serve(ANY)
        for request in ({}, {"argv": "ls -l"}, {"argv": ["a\0b"]}, {"argv": ["a"], "timeout": -1}):
            self.assertRaises(InvalidRequest, self.service.open, FakeChannel(), request)

    def test_busy(self) -> None:
        """Beyond the server's limit a command is refused; one that has ended makes room."""
        self.serve(ANY, commands=2)
        self.open("a")
        first = self.host.runs[0]
        self.open("b")
        self.open("c")
        self.expectRefusal("busy", "2 commands are running")
        first.observer.started(1)
        first.observer.exited(0, None)
        self.open("c")
        self.expectRefusal("busy", "2 commands are running")
        first.closeChild()
        first.observer.gone()
        self.open("c")
        self.assertIsInstance(self.served, RunningCommand)
        self.assertEqual(self.service.running, 2)

    def test_busyThenFailed(self) -> None:
        """A command that could not be started takes no slot, nor does one whose host died."""
        self.serve(ANY, commands=1)
        self.open("a")
        self.host.runs[0].observer.failed("not-found", "no such program")
        self.open("b")
        self.host.runs[1].observer.hostLost()
        self.assertEqual(self.service.running, 0)

    def test_concurrency(self) -> None:
        """A rule's own limit counts its own commands, also across a reload."""
        once = evolve(DISK, concurrency=1)
        self.serve(once, evolve(DISK, name="else", concurrency=1))
        self.open("disk")
        self.open("disk")
        self.expectRefusal("busy", "disk is running 1 times")
        self.open("else")
        self.assertIsNotNone(self.served)
        self.service.reconfigure(CommandRules([evolve(once, summary="new")]), Limits())
        self.open("disk")
        self.expectRefusal("busy", "disk is running 1 times")

    def test_concurrencyWithoutNames(self) -> None:
        """Rules that have no name do not count each other's commands."""
        self.serve(
            CommandRule(argv="any", allow=("ops",), concurrency=1),
            CommandRule(argv="any", allow=("nagios",), concurrency=1),
        )
        self.open("a")
        nagios = evolve(PRINCIPAL, identity="nagios", groups=())
        self.open("a", channel=FakeChannel(principal=nagios))
        self.assertIsNotNone(self.served)
        self.open("a")
        self.expectRefusal("busy", "is running 1 times")

    def test_stdin(self) -> None:
        """Only a rule that says so takes input."""
        self.serve(DISK, ANY)
        self.open("disk", stdin=True)
        self.expectRefusal("refused", "disk takes no input")
        self.open("cat", stdin=True)
        self.assertTrue(self.host.runs[0].spec.stdin)

    def test_cwd(self) -> None:
        """The client chooses the folder only where it chooses the program; a relative one starts
        at the rule's folder, else at home."""
        self.serve(evolve(DISK, cwd="/srv"), ANY)
        self.open("disk", cwd="/tmp")
        self.expectRefusal("refused", "working directory")
        self.open("disk")
        self.open("ls", cwd="/tmp")
        self.open("ls", cwd="sub")
        self.serve(evolve(ANY, cwd="/srv"))
        self.open("ls")
        self.open("ls", cwd="sub")
        self.assertEqual(
            [run.spec.cwd for run in self.host.runs],
            ["/srv", "/tmp", os.path.join(home_folder(), "sub"), "/srv", "/srv/sub"],
        )

    def test_env(self) -> None:
        """A client sets what the rule passes, never who asked; the rule's own values go before."""
        self.serve(evolve(ANY, env={"LC_ALL": "C"}))
        self.open(
            "env",
            env=[["LC_ALL", "de"], ["LC_TIME", "fr"], ["PATH", "/x"]],
        )
        env = self.host.runs[0].spec.env
        self.assertEqual(
            (env["LC_ALL"], env["LC_TIME"], env["PATH"], env["REMOTE_USER"]),
            ("C", "fr", "/x", "ops"),
        )
        for name in ("LD_PRELOAD", "LC-X", {"b64": "/w=="}, "REMOTE_USER", "SOCKPROTO_IDENTITY"):
            self.open("env", env=[[name, "x"]])
            self.expectRefusal("refused", "does not let the client set")

    def test_longNames(self) -> None:
        """A refusal does not send long words back, nor does the log keep them."""
        self.serve(ANY)
        self.open("env", env=[["X" * 100_000, "x"]])
        self.assertLess(len(self.channel.said[0][2]), 256)
        self.serve()
        self.open("\x1b[2J\r\n" + "{x}" * 50_000)
        self.assertLess(max(map(len, self.messages())), 600)
        self.assertNotIn("\x1b", "".join(self.messages()))
        self.assertNotIn("\n", "".join(self.messages()))

    def test_timeout(self) -> None:
        """The smaller of the rule's time-out and the client's holds."""
        for rule, client, expected in (
            (None, None, None),
            (10.0, None, 10.0),
            (None, 5, 5),
            (10.0, 5, 5),
            (5.0, 10, 5.0),
        ):
            self.serve(evolve(ANY, timeout=rule))
            self.open("sleep", timeout=client)
            run = self.host.runs[-1]
            self.reactor.advance(0)
            if expected is None:
                self.reactor.advance(100_000)
                self.assertEqual(run.said, [])
            else:
                self.reactor.advance(expected - 0.5)
                self.assertEqual(run.said, [])
                self.reactor.advance(0.5)
                self.assertEqual(run.said, ["end"])

    def test_output(self) -> None:
        """A rule's output limit goes before the server's."""
        for rule, server, expected in ((None, None, 1000), (None, 300, 300), (500, 300, 500)):
            self.serve(evolve(ANY, max_output=rule), output=server)
            channel = self.open("yes")
            run = self.host.runs[-1]
            run.observer.started(1)
            os.write(run.childOutput, b"x" * 1000)
            self.reactor.settle()
            self.assertEqual(len(channel.data[1]), expected)

    def test_disconnect(self) -> None:
        """A lost client ends its command, unless the rule lets it finish."""
        self.serve(DISK, evolve(DISK, name="backup", on_disconnect="finish"))
        for name, said in (("disk", ["end"]), ("backup", [])):
            self.open(name)
            assert self.served is not None
            self.served.connectionLost()
            self.assertEqual(self.host.runs[-1].said, said)

    def test_log(self) -> None:
        """The log names the rule, and the program where the client chose it; never an argument."""
        self.serve(DISK, evolve(ANY, name="shell"))
        for argv in (("disk",), ("mysql", "-psecret"), ("x" * 5000, "secret")):
            self.open(*argv)
            run = self.host.runs[-1]
            run.observer.started(4711)
            run.exit(3)
        self.open("cat", "secret", stdin=True, timeout=5, env=[["BAD", "secret"]])
        messages = self.messages()
        self.assertEqual(
            messages[:4],
            [
                "ops from 192.0.2.7:4711 runs disk, pid 4711",
                "disk of ops from 192.0.2.7:4711 ended: status 3",
                "ops from 192.0.2.7:4711 runs 'mysql' by shell, pid 4711",
                "'mysql' by shell of ops from 192.0.2.7:4711 ended: status 3",
            ],
        )
        self.assertLess(max(map(len, messages)), 400)
        self.assertIn("was refused 'cat': refused:", messages[-1])
        self.assertNotIn("secret", "".join(messages))

    def test_endAll(self) -> None:
        """A server that stops ends what runs, and hears when nothing does any longer."""
        self.serve(ANY)
        self.assertTrue(self.service.whenEmpty().called)
        self.open("a")
        self.open("b")
        empty = self.service.whenEmpty()
        self.service.endAll()
        self.assertEqual([run.said for run in self.host.runs], [["end"], ["end"]])
        for run in self.host.runs:
            self.assertNoResult(empty)
            run.observer.started(1)
            run.exit()
        self.assertIsNone(self.successResultOf(empty))
