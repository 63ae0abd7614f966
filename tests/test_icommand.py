"""Tests of commands in Python: what they are called with, what holds for them, how they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.errors import CommandFailed
from sockproto.interfaces import ICommand, IInvocation, IServedChannel
from sockproto.limits import Limits
from sockproto.server.schema import Configuration
from sockproto.server.service import Server
from sockproto.services.command.audit import MemoryAudit
from sockproto.services.command.auditing import CommandAudit
from sockproto.services.command.calls import RunningCall
from sockproto.services.command.invocation import InputQueue, Invocation
from sockproto.services.command.parameters import Parameter
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules
from sockproto.services.command.service import CommandService
from tests.commandfakes import PRINCIPAL, FakeChannel, FakeHost, PollingReactor

RULE = CommandRule(name="work", python=True, argv=("work",), allow=("ops",), stdin="stream")
DEPLOY = CommandRule(
    name="deploy",
    python=True,
    argv=("release", "--to", "{version}", "{hosts}"),
    allow=("ops",),
    parameters={
        "version": Parameter(pattern="[0-9.]+"),
        "hosts": Parameter(pattern="[a-z]+", rest=True),
    },
)


class CallTestCase(SynchronousTestCase):
    """A service with commands in Python, between a clock and fake channels."""

    def setUp(self) -> None:
        self.reactor = PollingReactor()
        self.audit = MemoryAudit()
        self.logged: list[LogEvent] = []
        observe: Any = self.logged.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def serve(self, command: Any, *rules: CommandRule, **limits: Any) -> None:
        """Have a command called ``work`` and ``release``."""
        host: Any = FakeHost()
        self.service = CommandService(
            self.reactor,
            host,
            CommandRules(rules or (RULE,)),
            Limits(**limits),
            CommandAudit(self.audit),
            commands={"work": command, "release": command},
        )

    def open(self, *argv: str, channel: FakeChannel | None = None, **request: Any) -> FakeChannel:
        """Ask for a command, and let it begin."""
        self.channel = FakeChannel() if channel is None else channel
        self.served: Any = self.service.open(
            self.channel, {"argv": list(argv) or ["work"], **request}
        )
        self.reactor.advance(0)
        return self.channel

    def result(self) -> Any:
        """What the channel was closed with."""
        return self.channel.said[-1]

    def messages(self) -> str:
        """What was logged."""
        return "\n".join(formatEvent(event) for event in self.logged)


class CallTests(CallTestCase):
    """How it is called, and what comes of what it returns."""

    def test_interfaces(self) -> None:
        """Any coroutine function is a command; what it is called with and what serves its channel
        are what they say."""

        async def work(invocation: IInvocation) -> None:
            verifyObject(IInvocation, invocation)

        self.serve(work)
        self.open()
        verifyObject(IServedChannel, self.served)
        self.assertEqual(self.result(), ("close", {"exit_status": 0}))
        for command in self.service._commands.values():
            verifyObject(ICommand, command, tentative=True)

    def test_invocation(self) -> None:
        """It learns who asks, under which rule, the argv and the words of each parameter."""
        calls: list[Any] = []

        async def release(invocation: IInvocation) -> None:
            calls.append(invocation)

        self.serve(release, DEPLOY)
        self.open("deploy", "1.2", "web", "db")
        (call,) = calls
        self.assertEqual((call.principal, call.rule), (PRINCIPAL, "deploy"))
        self.assertEqual(call.argv, ("release", "--to", "1.2", "web", "db"))
        self.assertEqual(call.values, {"version": ("1.2",), "hosts": ("web", "db")})
        self.assertEqual(call.value("version"), "1.2")
        self.assertRaises(ValueError, call.value, "hosts")
        self.assertRaises(KeyError, call.value, "host")
        self.assertFalse(call.cancelled)

    def test_afterOpen(self) -> None:
        """It is called once the channel knows what serves it, and accepted just before."""
        said: list[Any] = []

        async def work(_: IInvocation) -> None:
            said.extend(self.channel.said)

        self.serve(work)
        channel = FakeChannel()
        self.channel = channel
        self.service.open(channel, {"argv": ["work"]})
        self.assertEqual(channel.said, [])
        self.reactor.advance(0)
        self.assertEqual(said, [("accept", {})])

    def test_statuses(self) -> None:
        """What it returns is its exit status; none is 0; coroutine, Deferred or neither."""

        async def three(_: IInvocation) -> int:
            return 3

        commands: list[tuple[Callable[[Any], Any], int]] = [
            (three, 3),
            (lambda _: succeed(255), 255),
            (lambda _: succeed(None), 0),
            (lambda _: 1, 1),
        ]
        for command, status in commands:
            self.serve(command)
            self.open()
            self.assertEqual(self.result(), ("close", {"exit_status": status}))

    def test_failed(self) -> None:
        """CommandFailed is its message on stderr and its status, and no fault of the server's."""

        async def work(_: IInvocation) -> None:
            raise CommandFailed("no such volume", 4)

        self.serve(work)
        self.open()
        self.assertEqual(self.channel.data[2], b"no such volume\n")
        self.assertEqual(self.result(), ("close", {"exit_status": 4}))
        self.assertNotIn("failed", self.messages())
        for status in (0, 256, -1):
            self.assertRaises(ValueError, CommandFailed, "x", status)

    def test_mistakes(self) -> None:
        """An exception that nobody expected, and a result that is none, are logged whole and
        answered blandly."""

        async def work(_: IInvocation) -> None:
            raise RuntimeError("the password is tiger")

        def early(_: IInvocation) -> Any:
            raise RuntimeError("before there was a Deferred")

        async def cancelling(_: IInvocation) -> None:
            raise CancelledError  # while nobody wants it ended

        for command in (work, early, cancelling, lambda _: 256, lambda _: "0", lambda _: True):
            self.serve(command)
            self.open()
            what, code, message = self.result()
            self.assertEqual((what, code), ("fail", "internal"))
            self.assertNotIn("tiger", message)
            self.assertEqual(self.service.running, 0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertEqual(len(self.flushLoggedErrors(CancelledError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 3)

    def test_unregistered(self) -> None:
        """A rule for a command that this server has not is warned of, and its requests are told."""
        self.serve(lambda _: 0, CommandRule(name="x", python=True, argv=("y",), allow=("ops",)))
        self.assertIn("there is no command y in Python here", self.messages())
        self.open("x")
        self.assertEqual(self.channel.said[0][:2], ("reject", "not-found"))

    def test_server(self) -> None:
        """A server in a program takes them as well."""

        async def work(_: IInvocation) -> None:
            pass

        keys: Any = None
        server = Server(PollingReactor(), Configuration(), keys, commands={"work": work})
        self.assertIs(server.commands._commands["work"], work)

    def test_onlyByRules(self) -> None:
        """That it is registered allows it to nobody."""
        self.serve(lambda _: 0)
        for name in ("release", "release2"):
            self.open(name)
            self.assertEqual(self.channel.said[0][0], "reject")

    def test_rule(self) -> None:
        """A rule for one has an argv with its name, and nothing that only a process can have."""
        wrongs: tuple[dict[str, Any], ...] = (
            {"argv": "any"},
            {"user": "nobody"},
            {"tty": True},
            {"env": {"A": "b"}},
            {"cwd": "/"},
            {"fresh": 3},
            {"shell": True},
        )
        for wrong in wrongs:
            with self.assertRaises(ValueError):
                CommandRule(**{"name": "a", "python": True, "argv": ("a",), **wrong})

    def test_audit(self) -> None:
        """The audit has its start and its end, with the bytes each way."""

        async def work(invocation: IInvocation) -> int:
            await invocation.stdin.read()
            await invocation.write("four")
            return 2

        self.serve(work)
        self.open(stdin=True)
        self.served.dataReceived(b"in")
        start, end = self.audit.entries
        self.assertEqual((start.event, end.event), ("start", "end"))
        self.assertEqual(
            [end.fields[key] for key in ("rule", "exit_status", "bytes_in", "bytes_out", "why")],
            ["work", 2, 2, 4, "exit"],
        )


class OutputTests(CallTestCase):
    """What it writes."""

    def test_streams(self) -> None:
        """Both streams are sent, text as UTF-8, and ended before the result."""

        async def work(invocation: IInvocation) -> None:
            await invocation.write("größe ")
            await invocation.write_error(b"\xff")
            await invocation.write(bytearray(b"2"))  # type: ignore[arg-type]
            await invocation.write(b"")

        self.serve(work)
        self.open()
        self.assertEqual(self.channel.data, {1: "größe 2".encode(), 2: b"\xff"})
        self.assertEqual(
            self.channel.said,
            [("accept", {}), ("end", 1), ("end", 2), ("close", {"exit_status": 0})],
        )

    def test_credit(self) -> None:
        """Without credit it waits, on that stream alone; it ends once all is sent."""
        done: list[str] = []

        async def work(invocation: IInvocation) -> None:
            first = invocation.write(b"x" * 10)
            await invocation.write_error(b"e")
            done.append("error")
            await first
            done.append("first")
            invocation.write(b"last")

        self.serve(work)
        channel = FakeChannel()
        channel.credit = {1: 4, 2: 100}
        self.open(channel=channel)
        self.assertEqual((channel.data[1], channel.data[2], done), (b"xxxx", b"e", ["error"]))
        channel.credit[1] = 6
        self.served.creditReceived(1)
        self.assertEqual(done, ["error", "first"])
        self.assertEqual(channel.said, [("accept", {})])
        self.assertEqual(self.service.running, 0)
        channel.credit[1] = 4
        self.served.creditReceived(1)
        self.assertEqual(channel.data[1], b"x" * 10 + b"last")
        self.assertEqual(self.result(), ("close", {"exit_status": 0}))

    def test_turns(self) -> None:
        """It writes in its turn, at most a frame each."""

        async def work(invocation: IInvocation) -> None:
            await invocation.write(b"x" * 100_000)

        self.serve(work)
        channel = FakeChannel()
        channel.free = False
        self.open(channel=channel)
        self.assertEqual(channel.data[1], b"")
        (turn,) = channel.turns
        self.assertTrue(turn())
        self.assertEqual(len(channel.data[1]), 65_536)
        self.assertFalse(turn())
        self.assertEqual(self.result(), ("close", {"exit_status": 0}))

    def test_stopped(self) -> None:
        """A client that wants no more of a stream ends a command that goes on writing on it, as
        SIGPIPE does a program; one that does not care goes on."""

        async def work(invocation: IInvocation) -> None:
            while True:
                await invocation.write(b"y\n")

        self.serve(work)
        self.open(channel=FakeChannel(credit=10))
        self.served.stopReceived(1)
        self.assertEqual(self.result(), ("close", {"signal": "PIPE"}))
        self.assertEqual(self.flushLoggedErrors(), [])

        async def careless(invocation: IInvocation) -> None:
            try:
                await invocation.write(b"z" * 100)
            except BrokenPipeError:
                await invocation.write_error("stopped")

        self.serve(careless)
        self.open(channel=FakeChannel(credit=10))
        self.served.stopReceived(1)
        self.assertEqual(self.channel.data[2], b"stopped")
        self.assertEqual(self.result(), ("close", {"exit_status": 0}))

    def test_limit(self) -> None:
        """What is over the rule's max_output is dropped, and the command ended."""
        rule = CommandRule(name="work", python=True, argv=("work",), allow=("ops",), max_output=10)

        async def work(invocation: IInvocation) -> None:
            while True:
                await invocation.write(b"abc")
                await invocation.write_error(b"d")

        self.serve(work, rule)
        self.open()
        self.reactor.advance(0)
        self.assertEqual(self.channel.data, {1: b"abcabcab", 2: b"dd"})
        self.assertEqual(self.result(), ("close", {"signal": "TERM", "truncated": True}))
        self.assertEqual(self.audit.entries[-1].fields["why"], "output-limit")

    def test_limitWithoutCredit(self) -> None:
        """What may be sent of it is sent, when the client reads."""
        rule = CommandRule(name="work", python=True, argv=("work",), allow=("ops",), max_output=10)
        self.serve(lambda invocation: invocation.write(b"0123456789ab"), rule)
        channel = FakeChannel(credit=4)
        self.open(channel=channel)
        self.reactor.advance(0)
        self.assertEqual(channel.said, [("accept", {})])
        channel.credit[1] = 100
        self.served.creditReceived(1)
        self.assertEqual(channel.data[1], b"0123456789")
        self.assertTrue(self.result()[1]["truncated"])


class InputTests(CallTestCase):
    """What it reads."""

    def test_read(self) -> None:
        """It reads what comes, to the end; credit is granted as it reads."""

        async def work(invocation: IInvocation) -> None:
            async for piece in invocation.stdin:
                await invocation.write(piece.upper())
            await invocation.write(await invocation.stdin.read())

        self.serve(work)
        self.open(stdin=True)
        self.served.dataReceived(b"one")
        self.served.dataReceived(b"two")
        self.assertEqual((self.channel.data[1], self.channel.passedOn), (b"ONETWO", 6))
        self.served.endReceived()
        self.assertEqual(self.result(), ("close", {"exit_status": 0}))
        self.assertNotIn(("stop",), self.channel.said)

    def test_unread(self) -> None:
        """What it has not read gets no credit; when it ends, no more is wanted."""
        waiting: Deferred[None] = Deferred()

        async def work(invocation: IInvocation) -> None:
            await invocation.stdin.read(2)
            await waiting

        self.serve(work)
        self.open(stdin=True)
        self.served.dataReceived(b"12345")
        self.assertEqual(self.channel.passedOn, 2)
        waiting.callback(None)
        self.assertIn(("stop",), self.channel.said)
        self.served.dataReceived(b"6")
        self.served.endReceived()

    def test_none(self) -> None:
        """Without input it reads the end at once, whatever is sent; and a rule may say so."""

        async def work(invocation: IInvocation) -> None:
            assert await invocation.stdin.read() == b""

        self.serve(work)
        self.open()
        self.served.dataReceived(b"dropped")
        self.assertEqual(self.result(), ("close", {"exit_status": 0}))
        self.serve(work, CommandRule(name="work", python=True, argv=("work",), allow=("ops",)))
        self.open(stdin=True)
        self.assertEqual(self.channel.said[0][:2], ("reject", "refused"))

    def test_oneReader(self) -> None:
        """One reads at a time, something; a read that was cancelled takes nothing."""
        queue = InputQueue(lambda _: None)
        reading = queue.read()
        self.assertRaises(RuntimeError, queue.read)
        self.assertRaises(ValueError, queue.read, 0)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        queue.received(b"x")
        self.assertEqual(self.successResultOf(queue.read()), b"x")

    def test_bytes(self) -> None:
        """Bytes that are no text are in words as in those of the operating system."""
        call = Invocation(
            PRINCIPAL, "r", (b"\xff",), {"a": (b"\xfe",)}, InputQueue(print), lambda *_: Deferred()
        )
        self.assertEqual((call.argv, call.value("a")), (("\udcff",), "\udcfe"))


class EndTests(CallTestCase):
    """How it is ended."""

    def hang(self, **more: Any) -> None:
        """Serve a command that waits for ever, and notes how it is ended."""
        self.noted: list[Any] = []

        async def work(invocation: Any) -> None:
            await invocation.write(b"begun")
            try:
                await Deferred()
            finally:
                self.noted.append(invocation.cancelled)

        self.serve(work, CommandRule(**{**_settings(), **more}))
        self.open()

    def test_timeout(self) -> None:
        """When its time is up it is cancelled."""
        self.hang(timeout=3)
        self.reactor.advance(2.9)
        self.assertEqual(self.noted, [])
        self.reactor.advance(0.2)
        self.reactor.advance(0)
        self.assertEqual(self.noted, [True])
        self.assertEqual(self.result(), ("close", {"signal": "TERM", "timed_out": True}))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_clientsTimeout(self) -> None:
        """The client's time-out holds where it is the smaller one."""
        self.serve(lambda _: Deferred(), CommandRule(**{**_settings(), "timeout": 30}))
        self.open(timeout=1)
        self.reactor.advance(1)
        self.reactor.advance(0)
        self.assertEqual(self.result(), ("close", {"signal": "TERM", "timed_out": True}))

    def test_cancel(self) -> None:
        """A client's cancel ends it, and what is not sent is dropped."""
        self.hang()
        self.served.cancelled()
        self.assertEqual(self.channel.said, [("accept", {})])
        self.reactor.advance(0)
        self.assertEqual((self.noted, self.service.running), ([True], 0))
        self.assertEqual(self.result(), ("close", {"signal": "TERM"}))
        self.assertEqual(self.audit.entries[-1].fields["why"], "cancel")

    def test_cancelBeforeBegin(self) -> None:
        """A cancel that comes before the call means that there is none."""
        self.serve(lambda _: self.fail("called"))
        self.channel = FakeChannel()
        served: Any = self.service.open(self.channel, {"argv": ["work"]})
        served.cancelled()
        self.reactor.advance(0)
        self.assertEqual(self.result(), ("close", {"signal": "TERM"}))
        self.assertEqual(self.service.running, 0)

    def test_clean(self) -> None:
        """One that catches the cancel has its say: its status, with what became of its time."""

        async def work(invocation: IInvocation) -> int:
            try:
                await Deferred()
            except CancelledError:
                await invocation.write(b"tidied up")
            return 7

        self.serve(work, CommandRule(**{**_settings(), "timeout": 1}))
        self.open()
        self.reactor.advance(1)
        self.reactor.advance(0)
        self.assertEqual(self.channel.data[1], b"tidied up")
        self.assertEqual(self.result(), ("close", {"exit_status": 7, "timed_out": True}))

    def test_stubborn(self) -> None:
        """One that goes on is given up after the grace: its client is told, its slot stays taken
        until it does return."""
        later: Deferred[None] = Deferred()

        async def work(_: IInvocation) -> None:
            try:
                await Deferred()
            except CancelledError:
                await later

        self.serve(work, kill_seconds=2)
        self.open()
        self.served.cancelled()
        self.reactor.advance(0)
        self.reactor.advance(1.9)
        self.assertEqual(self.channel.said, [("accept", {})])
        self.reactor.advance(0.1)
        self.assertEqual(self.result(), ("close", {"signal": "TERM"}))
        self.assertIn("goes on although it was cancelled", self.messages())
        self.assertEqual(self.service.running, 1)
        later.callback(None)
        self.assertEqual(self.service.running, 0)
        self.assertEqual(len(self.channel.said), 2)

    def test_busyWriter(self) -> None:
        """One that does nothing but write, to a client that is gone, lets others have their turns,
        and is ended."""

        async def work(invocation: IInvocation) -> None:
            while True:
                await invocation.write(b"y\n")

        self.serve(work)
        self.open(channel=FakeChannel(credit=10))
        self.served.connectionLost()
        self.reactor.advance(0)
        self.assertEqual(self.service.running, 0)
        self.assertEqual(self.audit.entries[-1].fields["why"], "disconnect")

    def test_disconnect(self) -> None:
        """When its client is lost it is ended; with on_disconnect = "finish" it goes on, and what
        it writes is dropped."""
        self.hang()
        self.served.connectionLost()
        self.reactor.advance(0)
        self.assertEqual((self.noted, self.service.running), ([True], 0))
        steps: list[Deferred[None]] = [Deferred(), Deferred()]

        async def work(invocation: IInvocation) -> None:
            await steps[0]
            await invocation.write(b"x" * 1000)
            assert not await invocation.stdin.read()
            await steps[1]

        self.serve(work, CommandRule(**{**_settings(), "on_disconnect": "finish"}))
        self.open(channel=FakeChannel(credit=1), stdin=True)
        self.served.connectionLost()
        steps[0].callback(None)
        self.reactor.advance(0)
        self.assertEqual(self.service.running, 1)
        steps[1].callback(None)
        self.assertEqual(self.service.running, 0)

    def test_signals(self) -> None:
        """A signal that ends a program ends it; others mean nothing to it."""
        bodies: list[dict[str, Any]] = [{"signal": "USR1"}, {"signal": 9}, {"signal": []}]
        for body in ({}, *bodies, {"signal": "INT"}):
            self.hang()
            self.served.controlReceived(body)
            self.reactor.advance(0)
            if body.get("signal") == "INT":
                self.assertEqual(self.result(), ("close", {"signal": "INT"}))
            else:
                self.assertEqual(self.noted, [])
                self.served.cancelled()
                self.reactor.advance(0)

    def test_endAll(self) -> None:
        """It is ended with the server, which waits for it."""
        self.hang()
        empty = self.service.whenEmpty()
        self.service.endAll()
        self.assertNoResult(empty)
        self.reactor.advance(0)
        self.successResultOf(empty)

    def test_limits(self) -> None:
        """It takes a slot, of its rule and of all."""
        self.hang(concurrency=1)
        self.open()
        self.assertEqual(self.channel.said[0][:2], ("reject", "busy"))
        self.hang()
        self.service.reconfigure(CommandRules([RULE]), Limits(commands=1))
        self.open()
        self.assertEqual(self.channel.said[0][:2], ("reject", "busy"))

    def test_kind(self) -> None:
        """It is no process."""
        self.hang()
        self.assertIsInstance(self.served, RunningCall)


def _settings() -> dict[str, Any]:
    return {
        "name": "work",
        "python": True,
        "argv": ("work",),
        "allow": ("ops",),
        "stdin": "stream",
    }
