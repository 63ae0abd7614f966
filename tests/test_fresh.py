"""Tests of rules with ``fresh``: who shares which run, what they get, and what is not shared."""

from __future__ import annotations

import os
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.interfaces import IChannel, IServedChannel
from sockproto.limits import Limits
from sockproto.result import Collected
from sockproto.services.command.audit import MemoryAudit
from sockproto.services.command.auditing import CommandAudit
from sockproto.services.command.parameters import Parameter
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules
from sockproto.services.command.running import RunningCommand
from sockproto.services.command.service import CommandService
from sockproto.services.command.sharer import Sharer
from sockproto.services.command.sharing import SharedRun
from sockproto.wire.commands import CommandResult
from tests.commandfakes import PRINCIPAL, FakeChannel, FakeHost, PollingReactor

RULE = CommandRule(
    name="disk",
    argv=("df", "{path}"),
    allow=("ops", "nagios"),
    fresh=30,
    pass_env=("LC_*",),
    parameters={"path": Parameter(pattern="/[a-z]*", default="/")},
)
NAGIOS = evolve(PRINCIPAL, identity="nagios", groups=())


class Client(FakeChannel):
    """A channel, and what serves it."""

    served: Any

    @property
    def end(self) -> Any:
        """What a test has no interest in: the ends of streams."""
        return lambda stream: None

    @property
    def result(self) -> Any:
        """What it was closed with; ``None`` while it is not."""
        last = self.said[-1] if self.said else ("",)
        return last[1] if last[0] == "close" else None

    @property
    def accepted(self) -> int:
        """How many times it was told that the program runs."""
        return sum(one[0] == "accept" for one in self.said)


class FreshTestCase(SynchronousTestCase):
    """A service between a fake process host and fake channels."""

    def setUp(self) -> None:
        self.reactor = PollingReactor()
        self.host = FakeHost()
        self.audit = MemoryAudit()
        self.addCleanup(self.host.closeChildren)
        self.serve(RULE)

    def serve(self, *rules: CommandRule, **limits: Any) -> None:
        host: Any = self.host
        audit = CommandAudit(self.audit)
        rules_ = CommandRules(rules)
        self.service = CommandService(self.reactor, host, rules_, Limits(**limits), audit)

    def ask(
        self, *words: Any, principal: Any = PRINCIPAL, credit: int = 1 << 20, **request: Any
    ) -> Client:
        """Ask for the command."""
        client = Client(credit, principal)
        argv = ["disk", *words]
        client.served = self.service.open(client, {"argv": argv, **request})
        return client

    def start(self, number: int = -1) -> Any:
        """A run begins."""
        run = self.host.runs[number]
        run.observer.started(1)
        return run

    def say(self, run: Any, out: bytes = b"", err: bytes = b"") -> None:
        """Have a run's program write."""
        for descriptor, data in ((run.childOutput, out), (run.childError, err)):
            while data:
                data = data[os.write(descriptor, data[:4096]) :]
                self.reactor.settle()
        self.reactor.settle()

    def finish(self, run: Any, status: int | None = 0, signal: str | None = None) -> None:
        """Have a run end."""
        run.exit(status, signal)
        self.reactor.settle()

    def expect(self, client: Client, out: bytes, age: float | None, status: int = 0) -> None:
        """A client got this, once, in a run that ended like this."""
        expected: dict[str, Any] = {"exit_status": status}
        if age is not None:
            expected["age"] = age
        self.assertEqual((client.data[1], client.accepted), (out, 1))
        self.assertEqual(client.result, expected)

    def runs(self) -> int:
        """How many runs there were."""
        return len(self.host.runs)


class SharingTests(FreshTestCase):
    """Who shares what."""

    def test_interfaces(self) -> None:
        """A shared run is a channel for its command; each client is served."""
        client = self.ask()
        self.assertIsInstance(client.served, Sharer)
        verifyObject(IServedChannel, client.served)
        run = SharedRun(self.reactor, PRINCIPAL, 1, lambda _: True, lambda _: None)
        verifyObject(IChannel, run)

    def test_first(self) -> None:
        """Who asks first has the output as it comes, and a result without an age."""
        client = self.ask()
        run = self.start()
        self.assertEqual(client.accepted, 1)
        self.say(run, b"one", b"err")
        self.assertEqual(client.data, {1: b"one", 2: b"err"})
        self.finish(run, 3)
        self.expect(client, b"one", None, 3)

    def test_later(self) -> None:
        """While it is fresh, others have the same, with its age since it was asked for; then it is
        run again."""
        self.ask()
        run = self.start()
        self.reactor.advance(2)
        self.say(run, b"out", b"err")
        self.finish(run, 2)
        self.reactor.advance(1.5)
        second = self.ask(principal=NAGIOS)
        self.expect(second, b"out", 3.5, 2)
        self.assertEqual(second.data[2], b"err")
        self.reactor.advance(26.4)
        self.expect(self.ask(), b"out", 29.9, 2)
        self.assertEqual(self.runs(), 1)
        self.reactor.advance(0.2)
        self.ask()
        self.assertEqual(self.runs(), 2)

    def test_joined(self) -> None:
        """Who asks while it runs has all of it at its end."""
        first = self.ask()
        run = self.start()
        self.say(run, b"one ")
        self.reactor.advance(1)
        second = self.ask(principal=NAGIOS)
        self.assertEqual(second.said, [])
        self.say(run, b"two")
        self.finish(run)
        self.expect(first, b"one two", None)
        self.expect(second, b"one two", 1.0)
        self.assertEqual((self.runs(), self.service.running), (1, 0))

    def test_slow(self) -> None:
        """A client that does not read holds up nobody, and gets all of it when it does."""
        slow = self.ask(credit=1)
        run = self.start()
        other = self.ask()
        self.say(run, b"x" * 200_000)
        self.finish(run)
        self.assertEqual((len(slow.data[1]), slow.result), (1, None))
        self.expect(other, b"x" * 200_000, 0.0)
        slow.credit[1] = 1 << 20
        slow.served.creditReceived(1)
        self.expect(slow, b"x" * 200_000, None)

    def test_same(self) -> None:
        """The same is the same rule and the same argv, a default included; a rule that a reload
        has changed is another."""
        self.ask()
        self.ask("/")
        self.assertEqual(self.runs(), 1)
        self.ask("/var")
        self.assertEqual(self.runs(), 2)
        self.service.reconfigure(CommandRules([evolve(RULE, env={"A": "b"})]), Limits())
        self.ask()
        self.assertEqual(self.runs(), 3)
        self.service.reconfigure(CommandRules([evolve(RULE)]), Limits())
        self.ask()
        self.assertEqual(self.runs(), 3)

    def test_rulesStillDecide(self) -> None:
        """Who may not run it gets no result of it either."""
        self.ask()
        self.finish(self.start())
        client = self.ask(principal=evolve(PRINCIPAL, identity="stranger", groups=()))
        self.assertEqual(client.said[0][:2], ("reject", "refused"))

    def test_whoAsked(self) -> None:
        """Such a command is told neither who asked nor in which words, so nobody's result can
        depend on it."""
        self.ask("/")
        env = self.host.runs[0].spec.env
        self.assertEqual(env["SOCKPROTO_COMMAND"], "disk")
        self.assertEqual([name for name in env if name.startswith(("REMOTE", "SSH", "REMCTL"))], [])
        self.assertEqual(
            [name for name in env if name.startswith("SOCKPROTO_")], ["SOCKPROTO_COMMAND"]
        )

    def test_clientsOwn(self) -> None:
        """A request that brings variables has a run of its own."""
        self.ask()
        self.finish(self.start())
        client = self.ask(env=[["LC_ALL", "C"]])
        self.assertIsInstance(client.served, RunningCommand)
        self.assertEqual(self.runs(), 2)
        anything = evolve(RULE, argv="any", name=None, parameters={})
        self.serve(anything)
        self.assertIsInstance(self.ask(cwd="/tmp").served, RunningCommand)
        self.assertIsInstance(self.ask().served, Sharer)

    def test_settings(self) -> None:
        """It goes with neither input nor a terminal, and is a time above 0."""
        for wrong in ({"stdin": "stream"}, {"tty": True}, {"fresh": 0}):
            with self.assertRaises(ValueError):
                evolve(RULE, **wrong)

    def test_audit(self) -> None:
        """The audit has each request, and of those that shared a run the age of their result."""
        self.ask()
        run = self.start()
        self.say(run, b"four")
        self.finish(run)
        self.reactor.advance(2)
        self.ask(principal=NAGIOS)
        events = [(one.event, one.fields["identity"]) for one in self.audit.entries]
        self.assertEqual(
            events, [("start", "ops"), ("end", "ops"), ("start", "nagios"), ("end", "nagios")]
        )
        own, shared = (one.fields for one in self.audit.entries if one.event == "end")
        self.assertNotIn("age", own)
        self.assertEqual((shared["age"], shared["bytes_out"], shared["exit_status"]), (2.0, 4, 0))

    def test_busy(self) -> None:
        """A result that is there takes no slot; a run that cannot start rejects its client, and is
        none for others to join."""
        self.serve(RULE, commands=1)
        self.ask()
        self.finish(self.start())
        self.ask("/var")
        busy = self.ask("/srv")
        self.assertEqual((busy.served, busy.said[0][:2]), (None, ("fail", "busy")))
        self.assertEqual(self.ask().result, {"exit_status": 0, "age": 0.0})
        self.finish(self.start())
        self.ask("/srv")
        self.assertEqual(self.runs(), 3)


class EndTests(FreshTestCase):
    """What is not kept, and who leaves before the end."""

    def test_failures(self) -> None:
        """What could not be started is told to all who wait for it, and kept for nobody."""
        first, second = self.ask(), self.ask()
        self.host.runs[0].observer.failed("not-found", "no such program")
        for client in (first, second):
            self.assertEqual(client.said[-1], ("fail", "not-found", "no such program"))
        self.ask()
        self.assertEqual(self.runs(), 2)
        self.host.runs[1].observer.hostLost()
        self.ask()
        self.assertEqual(self.runs(), 3)

    def test_signals(self) -> None:
        """A result without a status is for those who wait for it alone."""
        self.ask()
        joined = self.ask()
        self.finish(self.start(), None, "SEGV")
        self.assertEqual(joined.result, {"signal": "SEGV", "age": 0.0})
        self.ask()
        self.assertEqual(self.runs(), 2)

    def test_timedOut(self) -> None:
        """The rule's time-out ends the run for all."""
        self.serve(evolve(RULE, timeout=5))
        first, second = self.ask(), self.ask()
        run = self.start()
        self.reactor.advance(5)
        self.assertEqual(run.said, ["end"])
        self.finish(run, None, "TERM")
        self.assertEqual(first.result, {"signal": "TERM", "timed_out": True})
        self.assertEqual(second.result, {"signal": "TERM", "timed_out": True, "age": 5.0})
        self.ask()
        self.assertEqual(self.runs(), 2)
        run = self.start()
        self.reactor.advance(5)
        self.finish(run, 0)  # it took notice of TERM, and has a status
        self.ask()
        self.assertEqual(self.runs(), 3)

    def test_clientsTimeout(self) -> None:
        """A client's own time-out is for that client; the last one's ends the run."""
        first, second = self.ask(timeout=2), self.ask(timeout=4)
        run = self.start()
        self.say(run, b"out")
        self.reactor.advance(2)
        self.assertEqual(first.result, {"signal": "TERM", "timed_out": True})
        self.assertEqual(run.said, [])
        self.reactor.advance(2)
        self.assertEqual((second.result, run.said), (None, ["end"]))
        third = self.ask()
        self.assertEqual(self.runs(), 2)
        self.finish(run, None, "TERM")
        self.assertEqual(second.result, {"signal": "TERM", "timed_out": True, "age": 4.0})
        self.assertEqual(third.said, [])
        self.finish(self.start())
        self.assertEqual(self.reactor.getDelayedCalls()[1:], [])

    def test_cancel(self) -> None:
        """A cancel ends the run only where nobody else waits for it."""
        first, second = self.ask(), self.ask()
        run = self.start()
        first.served.cancelled()
        self.assertEqual((first.result, run.said), ({"signal": "TERM"}, []))
        self.say(run, b"out")
        third = self.ask()
        second.served.cancelled()
        self.assertEqual(run.said, [])
        self.finish(run)
        self.expect(third, b"out", 0.0)
        self.assertEqual(self.service.running, 0)
        self.ask("/var")
        alone = self.ask("/srv")
        alone.served.cancelled()
        self.assertEqual(self.host.runs[-1].said, ["end"])
        self.ask("/srv")
        self.assertEqual(self.runs(), 4)
        self.host.runs[2].observer.started(1)
        self.finish(self.host.runs[2], None, "TERM")
        self.assertEqual(alone.result, {"signal": "TERM"})

    def test_lost(self) -> None:
        """So does a connection that is lost; what was asked again meanwhile is another run."""
        first, second = self.ask(), self.ask()
        run = self.start()
        first.served.connectionLost()
        self.assertEqual(run.said, [])
        second.served.connectionLost()
        self.assertEqual(run.said, ["end"])
        self.ask()
        self.assertEqual(self.runs(), 2)
        self.finish(run, None, "TERM")
        self.assertEqual((first.said, second.said), ([("accept", {})], []))
        self.assertEqual(self.audit.entries[-1].fields["why"], "disconnect")

    def test_lostWhileReading(self) -> None:
        """A client may leave in the middle of a result."""
        self.ask()
        run = self.start()
        self.say(run, b"12345")
        self.finish(run)
        for leave in ("cancelled", "connectionLost"):
            slow = self.ask(credit=2)
            self.assertEqual(slow.data[1], b"12")
            getattr(slow.served, leave)()
            slow.served.connectionLost()
            slow.served.creditReceived(1)
            self.assertEqual(slow.data[1], b"12")
        self.expect(self.ask(), b"12345", 0.0)

    def test_controls(self) -> None:
        """A signal goes to a run that has one client, and then nobody joins it; not to others."""
        first, second = self.ask(), self.ask()
        run = self.start()
        first.served.controlReceived({"signal": "USR1"})
        self.assertEqual(run.said, [])
        second.served.connectionLost()
        first.served.controlReceived({})
        first.served.controlReceived({"signal": "USR1"})
        self.assertEqual(run.said, ["USR1"])
        self.ask()
        self.assertEqual(self.runs(), 2)

    def test_stopped(self) -> None:
        """A client that wants no more of a stream misses it; the others do not."""
        first, second = self.ask(credit=1), self.ask()
        run = self.start()
        first.served.dataReceived(b"?")
        first.served.endReceived()
        self.say(run, b"out", b"err")
        first.served.stopReceived(1)
        self.finish(run)
        first.credit[2] = 10
        first.served.creditReceived(2)
        self.assertEqual(first.data, {1: b"o", 2: b"err"})
        self.assertEqual(first.result, {"exit_status": 0})
        self.assertEqual(second.data, {1: b"out", 2: b"err"})

    def test_shutdown(self) -> None:
        """The end of the server ends the runs and forgets the results; no timer is left."""
        self.ask()
        self.finish(self.start())
        self.ask("/var")
        run = self.start()
        self.service.endAll()
        self.assertEqual(run.said, ["end"])
        self.finish(run, None, "TERM")
        self.successResultOf(self.service.whenEmpty())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.ask()
        self.assertEqual(self.runs(), 3)

    def test_spawnRaises(self) -> None:
        """A run whose spawn fails with an exception leaves nothing behind."""

        def spawn(*_: Any) -> Any:
            raise RuntimeError("no such user")

        self.patch(self.host, "spawn", spawn)
        with self.assertRaises(RuntimeError):
            self.ask(timeout=9)
        self.assertEqual((self.reactor.getDelayedCalls(), self.service.running), ([], 0))


class BoundTests(FreshTestCase):
    """How much is kept."""

    def begin(self, first: int = 1 << 20, **more: Any) -> Any:
        self.first = self.ask(credit=first)
        self.second = self.ask(**more)
        return self.start()

    def test_tooLong(self) -> None:
        """A run with more output than is kept is its first client's alone: whoever joined has a run
        of their own, and so has who asks while it would be fresh."""
        self.serve(RULE, fresh_output=100)
        run = self.begin()
        self.say(run, b"a" * 100)
        self.assertEqual(self.runs(), 1)
        self.say(run, b"b")
        self.assertEqual(self.runs(), 2)
        own = self.start()
        self.say(own, b"c" * 200)
        self.finish(own)
        self.expect(self.second, b"c" * 200, None)
        self.assertIsInstance(self.ask().served, RunningCommand)
        self.finish(run)
        self.expect(self.first, b"a" * 100 + b"b", None)
        self.assertIsInstance(self.ask().served, RunningCommand)
        self.reactor.advance(30)
        self.assertIsInstance(self.ask().served, Sharer)

    def test_tooLongAtTheEnd(self) -> None:
        """So it is if the run ends in the same moment: nobody gets half of its output."""
        self.serve(RULE, fresh_output=100)
        run = self.begin(first=50)
        os.write(run.childOutput, b"a" * 100)
        os.write(run.childError, b"b")
        self.finish(run)
        self.assertEqual((self.second.said, self.runs()), ([], 2))
        self.first.credit[1] = 100
        self.first.served.creditReceived(1)
        self.expect(self.first, b"a" * 100, None)
        run = self.start()
        self.say(run, b"c")
        self.finish(run)
        self.expect(self.second, b"c", None)

    def test_ownRun(self) -> None:
        """What the client of such a run says reaches it, with what is left of the client's time."""
        self.serve(RULE, fresh_output=1)
        run = self.begin(timeout=3)
        self.reactor.advance(1)
        self.say(run, b"ab")
        own = self.start()
        served = self.second.served
        served.controlReceived({"signal": "USR1"})
        served.dataReceived(b"dropped")
        served.endReceived()
        served.creditReceived(1)
        served.stopReceived(2)
        self.reactor.advance(1.9)
        self.assertEqual(own.said, ["USR1"])
        self.reactor.advance(0.2)
        self.assertEqual(own.said, ["USR1", "end"])
        self.assertEqual(run.said, [])
        self.finish(own, None, "TERM")
        self.assertEqual(self.second.result, {"signal": "TERM", "timed_out": True})
        third = self.ask()
        third.served.cancelled()
        self.assertEqual(self.host.runs[2].said, ["end"])

    def test_ownRunLost(self) -> None:
        """Such a run is its client's to cancel and to lose."""
        for leave in ("cancelled", "connectionLost"):
            self.serve(RULE, fresh_output=1)
            run = self.begin()
            self.say(run, b"ab")
            own = self.host.runs[-1]
            getattr(self.second.served, leave)()
            self.assertEqual((own.said, run.said), (["end"], []))

    def test_noRoomForOwn(self) -> None:
        """Where there is no slot for a run of their own, they are told."""
        self.serve(RULE, fresh_output=1, commands=1)
        run = self.begin()
        self.say(run, b"ab")
        self.assertEqual(self.second.said[0][:2], ("reject", "busy"))
        self.second.served.cancelled()
        self.second.served.connectionLost()
        self.assertEqual(run.said, [])

    def test_firstGone(self) -> None:
        """If the first client has left, a run that turns out too long is ended."""
        self.serve(RULE, fresh_output=1)
        run = self.begin()
        self.first.served.cancelled()
        self.say(run, b"ab")
        self.assertEqual((run.said, self.runs()), (["end"], 2))
        self.finish(run, None, "TERM")

    def test_backPressure(self) -> None:
        """Once it is its client's own it waits for that client, and goes on as the client reads."""
        self.serve(RULE, fresh_output=10)
        run = self.begin(first=0)
        os.set_blocking(run.childOutput, False)
        written = 0
        try:
            while written < 1 << 24:
                written += os.write(run.childOutput, b"x" * 65_536)
                self.reactor.settle()
        except BlockingIOError:
            pass
        self.assertLess(written, 1 << 20)
        for _ in range(50):
            self.first.credit[1] += 65_536
            self.first.served.creditReceived(1)
            self.reactor.settle()
        self.assertEqual(len(self.first.data[1]), written)
        self.finish(run)
        self.expect(self.first, b"x" * written, None)

    def test_nothingToSend(self) -> None:
        """Between turning out too long and being told, it takes no more than somebody wants: what
        writes without end would keep the reactor busy."""
        self.serve(RULE, fresh_output=1)
        for leave in (("stopReceived", 1), ("cancelled",)):
            self.begin()
            getattr(self.first.served, leave[0])(*leave[1:])
            channel: Any = self.first.served._run
            self.assertEqual(channel.sendable(1), 65_536)
            channel.write(1, b"ab")
            self.assertEqual(channel.sendable(1), 0)
            self.reactor.advance(31)

    def test_stoppedAlone(self) -> None:
        """Once it is its client's own, that one's wish for no more of a stream is the command's."""
        for early in (True, False):
            self.serve(RULE, fresh_output=10)
            run = self.begin()
            if early:
                self.first.served.stopReceived(1)
            self.say(run, b"x" * 20)
            if not early:
                self.first.served.stopReceived(1)
            self.assertRaises(BrokenPipeError, os.write, run.childOutput, b"y")
            self.finish(run, None, "PIPE")
            self.assertEqual(self.first.result, {"signal": "PIPE"})

    def test_maxOutput(self) -> None:
        """What the rule's max_output lets through is kept, be it more; what is truncated is for
        those who wait for it alone."""
        self.serve(evolve(RULE, max_output=300), fresh_output=10)
        run = self.begin()
        self.say(run, b"x" * 300)
        self.finish(run)
        self.expect(self.ask(), b"x" * 300, 0.0)
        self.reactor.advance(30)
        run = self.begin()
        self.say(run, b"x" * 301)
        self.assertEqual(run.said, ["end"])
        self.finish(run, None, "TERM")
        self.assertEqual(self.second.result, {"signal": "TERM", "truncated": True, "age": 0.0})
        self.assertEqual(self.second.data[1], b"x" * 300)
        self.ask()
        self.assertEqual(self.runs(), 3)

    def test_total(self) -> None:
        """All that is kept has a bound: the oldest results make room, those under way do not."""
        self.serve(RULE, fresh_total=100)
        for path in ("/a", "/b", "/c"):
            self.ask(path)
            run = self.start()
            self.say(run, b"x" * 40)
            self.finish(run)
        self.assertEqual(self.ask("/c").result, {"exit_status": 0, "age": 0.0})
        self.assertEqual(self.ask("/b").result, {"exit_status": 0, "age": 0.0})
        self.ask("/a")
        self.assertEqual(self.runs(), 4)
        long = self.start()
        self.say(long, b"x" * 100)
        self.ask("/b")
        self.assertEqual(self.runs(), 5)
        other = self.start()
        self.say(other, b"y")
        self.assertIsInstance(self.ask("/b").served, RunningCommand)
        self.assertIsInstance(self.ask("/a").served, Sharer)

    def test_totalIsFreed(self) -> None:
        """What is forgotten, and what nobody reads any longer, is counted no more."""
        self.serve(RULE, fresh_total=100)
        slow = self.ask("/a", credit=0)
        run = self.start()
        self.say(run, b"x" * 100)
        self.finish(run)
        self.reactor.advance(30)
        self.ask("/b")
        run = self.start()
        self.say(run, b"y")
        self.assertIsInstance(self.ask("/b").served, RunningCommand)
        slow.served.connectionLost()
        self.ask("/c")
        run = self.start()
        self.say(run, b"y" * 99)
        self.assertIsInstance(self.ask("/c").served, Sharer)


class AgeTests(SynchronousTestCase):
    """The age of a result on the wire, and for those who use a client."""

    def test_wire(self) -> None:
        """It is in CLOSE where there is one; what is no time is none."""
        self.assertNotIn("age", CommandResult(0).encode())
        self.assertEqual(CommandResult(0, age=1.5).encode(), {"exit_status": 0, "age": 1.5})
        for age, found in ((1.5, 1.5), (0, 0), (-1, None), ("1", None), (True, None), ([], None)):
            self.assertEqual(CommandResult.decode({"exit_status": 0, "age": age}).age, found)

    def test_result(self) -> None:
        """It is in the result that both clients give."""
        self.assertEqual(Collected(1).result(CommandResult(0, age=1.5)).age, 1.5)
        self.assertIsNone(Collected(1).result(CommandResult(0)).age)
