"""Tests of one running command, in every order of what its process, client and clock may say."""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.interfaces import IRunObserver, IServedChannel
from sockproto.services.command.processes import Run, Spawn
from sockproto.services.command.running import RunningCommand
from tests.commandfakes import FakeChannel, FakeHost, FakeRun, PollingReactor, openDescriptors

ENDS = [("end", 1), ("end", 2)]


class RunningCommandTests(SynchronousTestCase):
    """A command between a fake process host and a fake channel."""

    def setUp(self) -> None:
        self.descriptors = openDescriptors()
        self.reactor = PollingReactor()
        self.channel = FakeChannel()
        self.host = FakeHost()
        self.freed: list[RunningCommand] = []
        self.addCleanup(self.host.closeChildren)

    def command(self, stdin: bool = False, **settings: Any) -> RunningCommand:
        """A command that has been asked for."""
        settings = {
            "label": "test",
            "timeout": None,
            "maxOutput": None,
            "drainSeconds": 5.0,
            "finishAlone": False,
            "slotFree": self.freed.append,
            **settings,
        }
        host: Any = self.host
        spawn = Spawn(argv=("test",), env={}, cwd="/", stdin=stdin)
        return RunningCommand(self.reactor, host, spawn, self.channel, **settings)

    def started(self, **settings: Any) -> RunningCommand:
        """A command that runs."""
        command = self.command(**settings)
        command.started(4711)
        return command

    @property
    def run_(self) -> FakeRun:
        return self.host.runs[-1]

    def write(self, data: bytes, stream: int = 1) -> None:
        descriptor = self.run_.childOutput if stream == 1 else self.run_.childError
        self.assertEqual(os.write(descriptor, data), len(data))

    def expectNothingLeft(self, command: RunningCommand) -> None:
        """The slot is free, and nothing is open, watched, or timed."""
        self.run_.closeChild()
        self.assertEqual(self.freed, [command])
        self.assertEqual(openDescriptors(), self.descriptors)
        self.assertEqual((self.reactor.readers, self.reactor.writers), ({}, {}))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_interfaces(self) -> None:
        """It observes a run and serves a channel."""
        command = self.command()
        self.assertTrue(verifyObject(IRunObserver, command))
        self.assertTrue(verifyObject(IServedChannel, command))
        command.failed("busy", "no room")

    def test_ordinary(self) -> None:
        """ACCEPT, output, an END for each stream, CLOSE with the status; its time
        no longer counts."""
        command = self.started(timeout=60)
        self.assertEqual(self.channel.said, [("accept", {})])
        self.write(b"out")
        self.write(b"err", 2)
        self.run_.exit(3)
        self.assertEqual(self.freed, [command])
        self.reactor.settle()
        self.assertEqual(self.channel.data, {1: b"out", 2: b"err"})
        self.assertEqual(self.channel.said[1:], [*ENDS, ("close", {"exit_status": 3})])
        self.expectNothingLeft(command)

    def test_signalled(self) -> None:
        """The signal that ended it is in the result."""
        command = self.started()
        self.run_.exit(None, "KILL")
        self.reactor.settle()
        self.assertEqual(self.channel.said[-1], ("close", {"signal": "KILL"}))
        self.expectNothingLeft(command)

    def test_failed(self) -> None:
        """What could not be started is told, and nothing stays."""
        command = self.command(stdin=True, timeout=10)
        command.dataReceived(b"early")
        command.failed("not-found", "no such program")
        self.assertEqual(self.channel.said, [("fail", "not-found", "no such program")])
        self.expectNothingLeft(command)

    def test_noRoom(self) -> None:
        """A run without pipes, for which there was no room, fails as any other."""
        self.host.spawn = lambda spec, observer: Run()  # type: ignore[method-assign]
        command = self.command(stdin=True)
        command.dataReceived(b"early")
        command.endReceived()
        command.stopReceived(1)
        command.creditReceived(1)
        command.failed("busy", "no room")
        self.assertEqual(self.channel.said, [("fail", "busy", "no room")])
        self.assertEqual(self.freed, [command])

    def test_streamsBeforeGone(self) -> None:
        """The CLOSE waits for the tree to be gone."""
        command = self.started()
        self.run_.closeChild()
        self.reactor.settle()
        self.assertEqual(self.channel.said[1:], ENDS)
        command.exited(0, None)
        self.assertEqual(self.channel.said[1:], ENDS)
        command.gone()
        self.assertEqual(self.channel.said[1:], [*ENDS, ("close", {"exit_status": 0})])
        self.expectNothingLeft(command)

    def test_slowReader(self) -> None:
        """The slot is free when the processes have ended; the tail waits for its reader."""
        self.channel.credit[1] = 10
        command = self.started(timeout=60)
        self.write(b"x" * 1000)
        self.run_.exit(0)
        self.assertEqual(self.freed, [command])
        self.reactor.settle()
        self.reactor.advance(1000)
        self.assertNotIn(("close", {"exit_status": 0}), self.channel.said)
        self.channel.credit[1] = 5000
        command.creditReceived(1)
        self.reactor.settle()
        self.assertEqual(len(self.channel.data[1]), 1000)
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 0}))
        self.expectNothingLeft(command)

    def test_heldPipes(self) -> None:
        """What a background process writes within the drain time is delivered; then it is over."""
        command = self.started()
        command.exited(0, None)
        command.gone()
        self.reactor.advance(4)
        self.write(b"late")
        self.reactor.settle()
        self.assertEqual(self.channel.data[1], b"late")
        self.reactor.advance(1)
        self.reactor.settle()
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 0}))
        self.assertRaises(BrokenPipeError, self.write, b"too late")
        self.expectNothingLeft(command)

    # Time

    def test_timeout(self) -> None:
        """When its time is up it is ended, and the result says so; what it wrote is delivered."""
        command = self.started(timeout=10)
        self.write(b"before")
        self.reactor.advance(9.9)
        self.assertEqual(self.run_.said, [])
        self.reactor.advance(0.1)
        self.assertEqual(self.run_.said, ["end"])
        self.run_.exit(None, "TERM")
        self.reactor.settle()
        self.assertEqual(self.channel.data[1], b"before")
        self.assertEqual(self.channel.said[-1], ("close", {"signal": "TERM", "timed_out": True}))
        self.expectNothingLeft(command)

    def test_timeoutBeforeStart(self) -> None:
        """Time counts from the request on."""
        command = self.command(timeout=1)
        self.reactor.advance(1)
        self.assertEqual(self.run_.said, ["end"])
        command.started(1)
        self.run_.exit(None, "TERM")
        self.reactor.settle()
        self.assertEqual(self.channel.said[-1], ("close", {"signal": "TERM", "timed_out": True}))
        self.expectNothingLeft(command)

    def test_timeoutAfterExit(self) -> None:
        """A command that has ended by itself is not timed out while its tree is being seen to."""
        command = self.started(timeout=1)
        command.exited(0, None)
        self.reactor.advance(1)
        self.run_.closeChild()
        command.gone()
        self.reactor.settle()
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 0}))
        self.assertEqual(self.run_.said, [])
        self.expectNothingLeft(command)

    # Cancelling

    def test_cancelBeforeStart(self) -> None:
        """Cancelled before it runs: it is ended as soon as it does, and its CLOSE comes."""
        command = self.command(stdin=True)
        command.cancelled()
        self.assertEqual(self.run_.said, ["end"])
        self.write(b"never")
        command.started(1)
        self.reactor.settle()
        self.run_.exit(None, "TERM")
        self.assertEqual(self.channel.data[1], b"")
        self.assertEqual(self.channel.said[-1], ("close", {"signal": "TERM"}))
        self.expectNothingLeft(command)

    def test_cancelThenFailure(self) -> None:
        """Cancelled before it is found not to be there."""
        command = self.command()
        command.cancelled()
        command.failed("not-found", "no such program")
        self.assertEqual(self.channel.said, [("fail", "not-found", "no such program")])
        self.expectNothingLeft(command)

    def test_endedBeforeStartIsHeard(self) -> None:
        """The end of its pipes that is seen before its start does not confuse anything."""
        command = self.command()
        command.cancelled()
        self.run_.closeChild()
        self.reactor.settle()
        command.started(1)
        self.reactor.settle()
        command.exited(0, None)
        command.gone()
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 0}))
        self.expectNothingLeft(command)

    def test_cancelRunning(self) -> None:
        """Cancelled while it runs: pending output is dropped, whatever credit there is."""
        self.channel.credit[1] = 0
        command = self.started()
        self.write(b"pending")
        self.reactor.settle()
        command.cancelled()
        self.write(b"more")
        self.reactor.settle()
        self.assertEqual(self.run_.said, ["end"])
        command.cancelled()
        self.assertEqual(self.run_.said, ["end"])
        self.run_.exit(None, "TERM")
        self.assertEqual(self.channel.said[-1], ("close", {"signal": "TERM"}))
        self.assertEqual(self.channel.data[1], b"")
        self.expectNothingLeft(command)

    def test_cancelWhileDraining(self) -> None:
        """Cancelled after its end: the CLOSE comes at once, and what it left is left alone."""
        self.channel.credit[1] = 0
        command = self.started()
        self.write(b"tail")
        self.reactor.settle()
        command.exited(5, None)
        command.gone()
        command.cancelled()
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 5}))
        self.assertEqual(self.run_.said, [])
        self.expectNothingLeft(command)

    def test_cancelBetweenExitAndGone(self) -> None:
        """Cancelled when its leader has ended and its tree has not: the CLOSE waits for that."""
        command = self.started()
        command.exited(0, None)
        command.cancelled()
        self.assertNotIn(("close", {"exit_status": 0}), self.channel.said)
        command.gone()
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 0}))
        self.expectNothingLeft(command)

    # A lost client

    def test_lost(self) -> None:
        """A lost client ends its command; nobody is told anything."""
        command = self.started(stdin=True)
        self.write(b"x" * 10)
        command.connectionLost()
        self.assertEqual(self.run_.said, ["end"])
        self.reactor.settle()
        self.run_.exit(None, "TERM")
        self.assertEqual(self.channel.said, [("accept", {})])
        self.assertEqual(self.channel.data[1], b"")
        self.expectNothingLeft(command)

    def test_lostBeforeStart(self) -> None:
        """A client that is lost before its command runs: it is ended all the same."""
        command = self.command(stdin=True)
        command.dataReceived(b"early")
        command.connectionLost()
        self.assertEqual(self.run_.said, ["end"])
        command.started(1)
        self.run_.exit(None, "TERM")
        self.reactor.settle()
        self.assertEqual(self.channel.said, [])
        self.expectNothingLeft(command)

    def test_lostBeforeFailure(self) -> None:
        """A client that is lost before its command fails to start."""
        command = self.command()
        command.connectionLost()
        command.failed("not-found", "no such program")
        self.assertEqual(self.channel.said, [])
        self.expectNothingLeft(command)

    def test_finishAlone(self) -> None:
        """With ``on_disconnect = finish`` it goes on, with the end of its input and its output
        read, and its time still counts."""
        command = self.started(stdin=True, finishAlone=True, timeout=10)
        command.dataReceived(b"last words")
        command.connectionLost()
        self.assertEqual(self.run_.said, [])
        assert self.run_.childInput is not None
        self.assertEqual(os.read(self.run_.childInput, 100), b"last words")
        self.assertEqual(os.read(self.run_.childInput, 100), b"")
        for _ in range(10):
            self.write(b"x" * 60_000)
            self.reactor.settle()
        self.reactor.advance(10)
        self.assertEqual(self.run_.said, ["end"])
        self.run_.exit(None, "TERM")
        self.reactor.settle()
        self.assertEqual((self.channel.data[1], self.channel.said), (b"", [("accept", {})]))
        self.expectNothingLeft(command)

    def test_finishAloneBeforeStart(self) -> None:
        """The same for a client that is lost before: input that had come is still passed on."""
        command = self.command(stdin=True, finishAlone=True)
        command.dataReceived(b"early")
        command.connectionLost()
        command.started(1)
        assert self.run_.childInput is not None
        self.assertEqual(os.read(self.run_.childInput, 100), b"early")
        self.assertEqual(os.read(self.run_.childInput, 100), b"")
        self.run_.exit(0)
        self.assertEqual(self.run_.said, [])
        self.expectNothingLeft(command)

    def test_lostWhileDraining(self) -> None:
        """A client that is lost after the end: everything is let go at once."""
        self.channel.credit[1] = 0
        command = self.started()
        self.write(b"tail")
        self.reactor.settle()
        command.exited(0, None)
        command.gone()
        command.connectionLost()
        self.expectNothingLeft(command)

    def test_lostInAccept(self) -> None:
        """A connection that is lost by the very answer that says it runs."""
        command = self.command(stdin=True)
        self.channel.accept = lambda reply: command.connectionLost()  # type: ignore[method-assign]
        command.started(1)
        self.assertEqual(self.run_.said, ["end"])
        self.run_.exit(None, "TERM")
        self.reactor.settle()
        self.expectNothingLeft(command)

    def test_lostInEnd(self) -> None:
        """A connection that is lost by the END of a stream, on the way to the CLOSE."""
        command = self.started()
        self.channel.end = lambda stream: command.connectionLost()  # type: ignore[method-assign]
        self.run_.exit(0)
        self.reactor.settle()
        self.assertEqual(self.channel.said, [("accept", {})])
        self.expectNothingLeft(command)

    def test_hostLost(self) -> None:
        """A host that died: an end without a status, in every state."""
        for prepare in (
            lambda command: None,
            lambda command: command.started(1),
            lambda command: (command.started(1), command.cancelled()),
            lambda command: (command.started(1), command.exited(0, None)),
        ):
            command = self.command(stdin=True, timeout=5)
            prepare(command)
            command.hostLost()
            self.assertEqual(self.channel.said[-1][:2], ("fail", "lost"))
            self.expectNothingLeft(command)
            self.freed.clear()

    # Output limits and stops

    def test_exactlyTheLimit(self) -> None:
        """Output of exactly the limit, over both streams, is not truncated."""
        command = self.started(maxOutput=100)
        self.write(b"o" * 60)
        self.write(b"e" * 40, 2)
        self.run_.exit(0)
        self.reactor.settle()
        self.assertEqual(self.channel.data, {1: b"o" * 60, 2: b"e" * 40})
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 0}))
        self.expectNothingLeft(command)

    def test_overTheLimit(self) -> None:
        """Of more exactly the limit is delivered, over both streams; the tree is ended, and the
        result says so."""
        command = self.started(maxOutput=100)
        self.write(b"e" * 40, 2)
        self.reactor.settle()
        self.write(b"o" * 61)
        self.reactor.settle()
        self.assertEqual(self.run_.said, ["end"])
        self.write(b"more")
        self.reactor.settle()
        self.run_.exit(None, "TERM")
        self.reactor.settle()
        self.assertEqual(self.channel.data, {1: b"o" * 60, 2: b"e" * 40})
        self.assertEqual(
            self.channel.said[1:],
            [*ENDS, ("close", {"signal": "TERM", "truncated": True})],
        )
        self.expectNothingLeft(command)

    def test_overTheLimitInBackground(self) -> None:
        """A background process that goes over the limit after the command's end is let go: it
        cannot hold the channel by writing for ever."""
        command = self.started(maxOutput=100)
        command.exited(0, None)
        command.gone()
        self.write(b"x" * 50_000)
        self.reactor.settle()
        self.assertEqual(len(self.channel.data[1]), 100)
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 0, "truncated": True}))
        self.assertRaises(BrokenPipeError, self.write, b"x")
        self.expectNothingLeft(command)

    def test_stop(self) -> None:
        """A stream that is not wanted any longer is closed; the other goes on."""
        command = self.started()
        command.stopReceived(1)
        self.assertRaises(BrokenPipeError, self.write, b"x")
        self.write(b"err", 2)
        self.run_.exit(None, "PIPE")
        self.reactor.settle()
        self.assertEqual(self.channel.data, {1: b"", 2: b"err"})
        self.assertEqual(self.channel.said[-1], ("close", {"signal": "PIPE"}))
        self.expectNothingLeft(command)

    def test_stopBeforeStart(self) -> None:
        """A stream that is not wanted before the command runs stays closed."""
        command = self.command()
        command.stopReceived(1)
        command.stopReceived(2)
        command.started(1)
        self.assertEqual(self.reactor.readers, {})
        self.run_.exit(0)
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 0}))
        self.expectNothingLeft(command)

    # Input

    def test_input(self) -> None:
        """Input that came before the start, and after it, and its end."""
        command = self.command(stdin=True)
        command.dataReceived(b"one")
        command.started(1)
        command.dataReceived(b"two")
        command.endReceived()
        assert self.run_.childInput is not None
        self.assertEqual(os.read(self.run_.childInput, 100), b"onetwo")
        self.assertEqual(os.read(self.run_.childInput, 100), b"")
        self.assertEqual(self.channel.passedOn, 6)
        self.run_.exit(0)
        self.reactor.settle()
        self.assertNotIn(("stop",), self.channel.said)
        self.expectNothingLeft(command)

    def test_inputWithoutPipe(self) -> None:
        """Input for a command that takes none is dropped."""
        command = self.started()
        command.dataReceived(b"one")
        command.endReceived()
        self.run_.exit(0)
        self.reactor.settle()
        self.expectNothingLeft(command)

    def test_brokenInput(self) -> None:
        """A command that reads no more gets no more, and its output is still read."""
        command = self.started(stdin=True)
        assert self.run_.childInput is not None
        os.close(self.run_.childInput)
        self.run_.childInput = None
        command.dataReceived(b"x")
        self.assertEqual(self.channel.said[-1], ("stop",))
        self.write(b"still here")
        self.run_.exit(0)
        self.reactor.settle()
        self.assertEqual(self.channel.data[1], b"still here")
        self.assertEqual(self.channel.said[-1], ("close", {"exit_status": 0}))
        self.expectNothingLeft(command)

    def test_inputAfterExit(self) -> None:
        """The end of the command is the end of its input: the client is told not to send more."""
        command = self.started(stdin=True)
        command.exited(0, None)
        self.assertEqual(self.channel.said[-1], ("stop",))
        command.dataReceived(b"x")
        command.gone()
        self.run_.closeChild()
        self.reactor.settle()
        self.expectNothingLeft(command)

    # Control

    def test_signals(self) -> None:
        """Signals are passed on while it runs; what is not known is ignored."""
        command = self.command()
        command.controlReceived({"signal": "HUP"})
        command.started(1)
        for body in ({"signal": "INT"}, {"signal": "NOPE"}, {"signal": 9}, {"window": [80, 24]}):
            command.controlReceived(body)
        self.run_.exit(0)
        command.controlReceived({"signal": "TERM"})
        self.assertEqual(self.run_.said, ["INT"])
        self.reactor.settle()
        self.expectNothingLeft(command)

    def test_end(self) -> None:
        """A server that stops ends what runs once, and its client gets all of its output."""
        command = self.started()
        command.end()
        command.end()
        self.assertEqual(self.run_.said, ["end"])
        self.write(b"goodbye")
        self.run_.exit(0)
        self.reactor.settle()
        command.end()
        self.assertEqual(self.channel.data[1], b"goodbye")
        self.expectNothingLeft(command)
