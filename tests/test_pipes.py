"""Tests of the pipes between a command and its channel; the test stands in for the command."""

from __future__ import annotations

import os

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.interfaces import IChannel
from sockproto.services.command.pipes import InputPipe, OutputPipe
from tests.commandfakes import FakeChannel, PollingReactor, openDescriptors


class PipeTests(SynchronousTestCase):
    """What both directions need."""

    def setUp(self) -> None:
        self.before = openDescriptors()
        self.reactor = PollingReactor()
        self.channel = FakeChannel(credit=1000)
        self.child = -1

    def pipe(self) -> tuple[int, int]:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return reading, writing

    def closeChild(self) -> None:
        if self.child >= 0:
            os.close(self.child)
            self.child = -1

    def expectNothingLeft(self) -> None:
        """No descriptor, no timer, nothing watched, nothing queued."""
        self.closeChild()
        self.assertEqual(openDescriptors(), self.before)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual((self.reactor.readers, self.reactor.writers), ({}, {}))
        self.assertEqual(self.channel.turns, {})


class OutputPipeTests(PipeTests):
    """Output, from the child's end of the pipe to the channel."""

    def setUp(self) -> None:
        super().setUp()
        self.finished: list[int] = []
        self.permitted = 1 << 30
        reading, self.child = self.pipe()
        self.output = OutputPipe(
            self.reactor,
            self.reactor,
            reading,
            self.channel,
            1,
            lambda count: min(count, self.permitted),
            self.finished.append,
        )
        self.addCleanup(self.closeChild)
        self.addCleanup(self.output.close)

    def write(self, data: bytes) -> None:
        self.assertEqual(os.write(self.child, data), len(data))

    def test_interfaces(self) -> None:
        """It is a descriptor that reactors can watch; and the fake channel is a channel."""
        self.assertTrue(verifyObject(IReadDescriptor, self.output))
        self.assertTrue(verifyObject(IChannel, self.channel))
        self.assertEqual(self.output.logPrefix(), "command output")

    def test_carries(self) -> None:
        """What the command writes goes out as it comes; its end is told once."""
        self.output.start()
        self.write(b"one")
        self.reactor.poll()
        self.write(b"two")
        self.reactor.poll()
        self.assertEqual(self.channel.data[1], b"onetwo")
        self.closeChild()
        self.reactor.poll()
        self.assertTrue(self.output.isClosed)
        self.assertEqual(self.output.fileno(), -1)
        self.output.close()
        self.output.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.finished, [1])
        self.expectNothingLeft()

    def test_credit(self) -> None:
        """Without credit nothing is read, and the command waits; with credit it goes on."""
        self.output.start()
        self.write(b"x" * 1500)
        self.reactor.settle()
        self.assertEqual(len(self.channel.data[1]), 1000)
        self.assertEqual(self.reactor.readers, {})
        self.channel.credit[1] = 300
        self.output.creditReceived()
        self.reactor.settle()
        self.assertEqual(len(self.channel.data[1]), 1300)
        self.channel.credit[1] = 300
        self.output.creditReceived()
        self.assertEqual(len(self.channel.data[1]), 1500)
        self.assertEqual(list(self.reactor.readers), [self.output])

    def test_endWithoutCredit(self) -> None:
        """The end of a stream costs no credit: after exactly what there was credit for, and
        without any."""
        for written in (b"x" * 1000, b""):
            with self.subTest(written=len(written)):
                self.output.start()
                if written:
                    self.write(written)
                self.closeChild()
                self.reactor.settle()
                self.assertEqual(self.finished, [1])
                self.setUp()
                self.channel.credit[1] = 0

    def test_emptyWithoutCredit(self) -> None:
        """A pipe that is empty when its credit is used up is watched for its end."""
        self.output.start()
        self.write(b"x" * 1000)
        self.reactor.settle()
        self.assertEqual(list(self.reactor.readers), [self.output])
        self.write(b"more")
        self.reactor.settle()
        self.assertEqual(self.reactor.readers, {})
        self.closeChild()
        self.channel.credit[1] = 1000
        self.output.creditReceived()
        self.reactor.settle()
        self.assertEqual((self.channel.data[1][1000:], self.finished), (b"more", [1]))

    def test_turn(self) -> None:
        """While others write it waits for its turn, without being watched."""
        self.output.start()
        self.channel.free = False
        self.write(b"data")
        self.reactor.settle()
        self.assertEqual((self.channel.data[1], self.reactor.readers), (b"", {}))
        self.channel.takeTurns()
        self.assertEqual(self.channel.data[1], b"data")
        self.assertEqual(list(self.reactor.readers), [self.output])

    def test_fullTurns(self) -> None:
        """A turn carries one frame's worth, and says whether there is more."""
        self.channel.credit[1] = 65_536 + 10
        self.output.start()
        self.channel.free = False
        self.write(b"x" * 65_536)
        self.reactor.settle()
        (turn,) = self.channel.turns
        self.channel.turns.clear()
        self.assertTrue(turn())
        self.write(b"y" * 10)
        self.assertTrue(turn())
        self.assertFalse(turn())
        self.assertEqual(len(self.channel.data[1]), 65_546)

    def test_endInTurn(self) -> None:
        """An end that is met in a turn ends it."""
        self.output.start()
        self.channel.free = False
        self.write(b"last")
        self.reactor.settle()
        self.closeChild()
        self.channel.takeTurns()
        self.reactor.settle()
        self.channel.takeTurns()
        self.assertEqual((self.channel.data[1], self.finished), (b"last", [1]))
        self.expectNothingLeft()

    def test_closedWhileQueued(self) -> None:
        """One that is closed while it is queued leaves the queue."""
        self.output.start()
        self.channel.free = False
        self.write(b"data")
        self.reactor.settle()
        self.assertEqual(len(self.channel.turns), 1)
        self.output.close()
        self.assertEqual(self.channel.data[1], b"")
        self.expectNothingLeft()

    def test_startedAfterItsEnd(self) -> None:
        """One that was closed before the command ran stays closed, whatever has its number now."""
        self.output.close()
        self.output.start()
        self.output.creditReceived()
        self.output.discard()
        self.output.drain(1)
        self.assertEqual(self.finished, [1])
        self.expectNothingLeft()

    def test_creditBeforeStart(self) -> None:
        """Credit that comes before the command runs does not start anything."""
        self.write(b"early")
        self.output.creditReceived()
        self.reactor.settle()
        self.assertEqual(self.channel.data[1], b"")
        self.output.start()
        self.reactor.settle()
        self.assertEqual(self.channel.data[1], b"early")

    def test_discarding(self) -> None:
        """What is discarded is read on, and not passed on: from every state."""
        for state in ("unstarted", "watched", "queued", "without credit"):
            with self.subTest(state=state):
                if state == "unstarted":
                    self.output.discard()
                    self.output.start()
                else:
                    self.output.start()
                    if state == "queued":
                        self.channel.free = False
                    if state == "without credit":
                        self.channel.credit[1] = 0
                    self.write(b"x" * 500)
                    if state != "watched":
                        self.reactor.settle()
                    self.output.discard()
                self.write(b"x" * 50_000)
                self.reactor.settle()
                self.assertEqual((self.channel.data[1], self.channel.turns), (b"", {}))
                self.closeChild()
                self.reactor.settle()
                self.assertEqual(self.finished, [1])
                self.setUp()

    def test_permit(self) -> None:
        """Only so much passes as is permitted; the rest is dropped."""
        self.output.start()
        self.permitted = 3
        self.write(b"abcdef")
        self.reactor.poll()
        self.permitted = 0
        self.write(b"ghi")
        self.reactor.poll()
        self.assertEqual(self.channel.data[1], b"abc")

    def test_readError(self) -> None:
        """A descriptor that cannot be read is at its end."""
        self.output.start()
        os.dup2(self.child, self.output.fileno())
        self.output.doRead()
        self.assertEqual(self.finished, [1])

    def test_spurious(self) -> None:
        """A call for nothing does nothing."""
        self.output.start()
        self.output.doRead()
        self.channel.credit[1] = 0
        self.output.doRead()
        self.assertEqual((self.channel.data[1], self.finished), (b"", []))
        self.assertEqual(list(self.reactor.readers), [self.output])

    # The drain time

    def test_drain(self) -> None:
        """A silent pipe that somebody holds is closed after the drain time."""
        self.output.start()
        self.output.drain(5)
        self.reactor.advance(4.9)
        self.assertFalse(self.output.isClosed)
        self.reactor.advance(0.1)
        self.assertEqual(self.finished, [1])
        self.expectNothingLeft()

    def test_endWhileDraining(self) -> None:
        """The end of the stream ends the drain time, and leaves no timer."""
        self.output.start()
        self.output.drain(5)
        self.closeChild()
        self.reactor.poll()
        self.assertEqual(self.finished, [1])
        self.expectNothingLeft()

    def test_drainWithoutCredit(self) -> None:
        """No time counts while the client has to read first: its tail is not lost."""
        self.output.start()
        self.write(b"x" * 1500)
        self.reactor.settle()
        self.output.drain(5)
        self.reactor.advance(1000)
        self.channel.credit[1] = 1000
        self.output.creditReceived()
        self.assertEqual(len(self.channel.data[1]), 1500)
        self.reactor.advance(4.9)
        self.assertFalse(self.output.isClosed)
        self.reactor.advance(0.1)
        self.assertTrue(self.output.isClosed)

    def test_drainWithEmptyPipeAndNoCredit(self) -> None:
        """Nor does it count for a pipe that is empty when the client's credit is used up."""
        self.output.start()
        self.output.drain(5)
        self.reactor.advance(4)
        self.write(b"x" * 1000)
        self.reactor.settle()
        self.reactor.advance(1000)
        self.write(b"tail")
        self.reactor.settle()
        self.channel.credit[1] = 1000
        self.output.creditReceived()
        self.assertEqual(self.channel.data[1][1000:], b"tail")
        self.reactor.advance(1)
        self.assertTrue(self.output.isClosed)

    def test_drainWhileQueued(self) -> None:
        """Nor while it waits for its turn."""
        self.output.start()
        self.channel.free = False
        self.write(b"tail")
        self.reactor.settle()
        self.output.drain(5)
        self.reactor.advance(1000)
        self.channel.takeTurns()
        self.assertEqual(self.channel.data[1], b"tail")
        self.reactor.advance(5)
        self.assertTrue(self.output.isClosed)

    def test_lateReactor(self) -> None:
        """A reactor that comes late finds the time over and something there: nothing is cut."""
        self.output.start()
        self.output.drain(5)
        self.write(b"tail")
        self.reactor.advance(1000)
        self.assertFalse(self.output.isClosed)
        self.reactor.poll()
        self.assertEqual(self.channel.data[1], b"tail")
        self.reactor.advance(1)
        self.assertTrue(self.output.isClosed)

    def test_drainWhileDiscarding(self) -> None:
        """What is discarded needs no credit for its drain time."""
        self.channel.credit[1] = 0
        self.output.start()
        self.output.drain(5)
        self.reactor.advance(100)
        self.assertFalse(self.output.isClosed)
        self.output.discard()
        self.reactor.advance(5)
        self.assertTrue(self.output.isClosed)


class InputPipeTests(PipeTests):
    """Input, from the channel to the child's end of the pipe."""

    def setUp(self) -> None:
        super().setUp()
        self.child, writing = self.pipe()
        self.input = InputPipe(self.reactor, writing, self.channel)
        self.addCleanup(self.closeChild)
        self.addCleanup(self.input.close)

    def read(self, size: int = 1 << 20) -> bytes | None:
        """What the command finds; ``None`` for nothing so far."""
        try:
            return os.read(self.child, size)
        except BlockingIOError:
            return None

    def test_interface(self) -> None:
        """It is a descriptor that reactors can watch."""
        self.assertTrue(verifyObject(IWriteDescriptor, self.input))
        self.assertEqual(self.input.logPrefix(), "command input")

    def test_passesOn(self) -> None:
        """Bytes are passed on at once, and said to be; the end closes."""
        self.input.start()
        self.input.write(b"one")
        self.input.write(b"two")
        self.assertEqual((self.read(), self.channel.passedOn), (b"onetwo", 6))
        self.input.end()
        self.assertEqual(self.read(), b"")
        self.expectNothingLeft()

    def test_beforeStart(self) -> None:
        """What comes before the command runs waits, its end too."""
        self.input.write(b"one")
        self.input.write(b"two")
        self.input.end()
        self.assertEqual((self.read(), self.channel.passedOn), (None, 0))
        self.input.start()
        self.assertEqual((self.read(), self.channel.passedOn), (b"onetwo", 6))
        self.assertEqual(self.read(), b"")
        self.expectNothingLeft()

    def test_closedBeforeStart(self) -> None:
        """One that was closed before the command ran stays closed."""
        self.input.write(b"one")
        self.input.close()
        self.input.start()
        self.input.end()
        self.input.stop()
        self.assertEqual((self.read(), self.channel.said), (b"", []))
        self.expectNothingLeft()

    def test_backPressure(self) -> None:
        """What the command does not read waits, and counts only once it has been passed on."""
        self.input.start()
        sent = os.urandom(150_000)
        self.input.write(sent[:100_000])
        self.input.write(sent[100_000:])
        self.input.end()
        self.assertEqual(self.channel.passedOn, 65_536)
        self.assertEqual(list(self.reactor.writers), [self.input])
        found = b""
        while piece := self.read():
            found += piece
            self.reactor.poll()
        self.assertEqual(found, sent)
        self.assertEqual(self.channel.passedOn, len(sent))
        self.expectNothingLeft()

    def test_smallPieces(self) -> None:
        """Many small pieces take no more memory than their bytes: what waits is in one piece."""
        for _ in range(50_000):
            self.input.write(b"xy")
        self.assertEqual(len(self.input._waiting), 100_000)
        self.assertLess(self.input._waiting.__sizeof__(), 150_000)

    def test_brokenPipe(self) -> None:
        """A command that reads no more: the client is told to stop, once, and what still comes is
        dropped."""
        self.input.start()
        self.input.write(b"one")
        self.closeChild()
        self.input.write(b"two")
        self.assertEqual(self.channel.said, [("stop",)])
        self.input.write(b"three")
        self.input.end()
        self.assertEqual((self.channel.said, self.channel.passedOn), ([("stop",)], 3))
        self.expectNothingLeft()

    def test_brokenWhileWaiting(self) -> None:
        """The same where bytes wait, however the reactor tells it."""
        for told in ("doWrite", "connectionLost"):
            with self.subTest(told=told):
                self.input.start()
                self.input.write(b"x" * 100_000)
                self.closeChild()
                if told == "doWrite":
                    self.input.doWrite()
                else:
                    self.input.connectionLost(Failure(ConnectionLost()))
                self.assertEqual((self.channel.said, self.input.fileno()), ([("stop",)], -1))
                self.assertEqual(self.reactor.writers, {})
                self.setUp()
