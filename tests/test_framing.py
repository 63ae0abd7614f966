"""Tests of `sockproto.framing`, Twisted's own for the class it stands in for among them."""

from __future__ import annotations

import asyncio
import errno
import os
import tracemalloc
from collections.abc import Callable
from select import select
from struct import pack
from typing import Any, ClassVar

from OpenSSL import SSL
from twisted.internet import defer, error, reactor
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
)
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IPushProducer,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols import basic
from twisted.protocols.basic import StringTooLongError
from twisted.protocols.test import test_basic
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockproto.framing import FramedProtocol
from sockproto.outbox import BATCH_LIMIT
from sockproto.tls import automatic_context, client_context
from sockproto.wire.frames import encode_frame

MiB = 2**20


def frames(*payloads: bytes) -> bytes:
    """The payloads as frames, one behind the other."""
    return b"".join(map(encode_frame, payloads))


class Recorder(FramedProtocol):
    """Records what it receives, and does then what it was told to."""

    def __init__(self, then: Callable[[Recorder, bytes], object] | None = None) -> None:
        self.received: list[bytes] = []
        self.lost: list[Failure] = []
        self.then = then
        self.ended: defer.Deferred[None] = defer.Deferred()

    def stringReceived(self, string: bytes) -> None:
        self.received.append(string)
        if self.then is not None:
            self.then(self, string)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        # No upcall: programs written for Twisted's class make none.
        self.lost.append(reason)
        self.ended.callback(None)


class WriteCounter(StringTransport):
    """Records the calls to write."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self.calls.append(b"".join(data))
        super().writeSequence(data)


def connected(
    then: Callable[[Recorder, bytes], object] | None = None, transport: Any = None
) -> tuple[Recorder, Any]:
    """A protocol, and the transport in memory that it is connected to."""
    protocol = Recorder(then)
    transport = WriteCounter() if transport is None else transport
    protocol.makeConnection(transport)
    return protocol, transport


# Twisted's own tests, with our class in its class's place.


class TwistedsReceiver(test_basic.TestMixin, FramedProtocol):  # type: ignore[misc]
    """As ``TestInt32`` in Twisted's tests."""


class TwistedsInt32Tests(test_basic.Int32Tests):
    """Twisted's tests of ``Int32StringReceiver``, all of them."""

    protocol = TwistedsReceiver

    def test_stringReceivedNotImplemented(self) -> None:
        """As Twisted's, which names its own class instead of the one under test."""
        self.assertRaises(NotImplementedError, FramedProtocol().stringReceived, b"foo")


class TwistedsMixinTests(
    SynchronousTestCase, test_basic.IntNTestCaseMixin, test_basic.RecvdAttributeMixin
):
    """The same tests, as another program would apply the mixins to a subclass of its own."""

    protocol = TwistedsReceiver
    strings: ClassVar[list[bytes]] = [b"", b"a", b"b" * 16, b"c" * 50]
    illegalStrings: ClassVar[list[bytes]] = [b"\x00\x00\x00\x33", b"\xff\xff\xff\xff"]
    partialStrings: ClassVar[list[bytes]] = [b"\x00", b"\x00\x00\x00\x32abc", b""]


class ConsumingReceiver(FramedProtocol):
    """As ``ConsumingProtocol`` in Twisted's tests: pauses after every message."""

    def stringReceived(self, string: bytes) -> None:
        self.transport.write(string)
        self.pauseProducing()


class PauseTests(SynchronousTestCase):
    """Pausing and resuming."""

    def test_pauseResume(self) -> None:
        """The steps of Twisted's ``ProducerTests.test_pauseResume``, in frames."""
        p = ConsumingReceiver()
        t = test_basic.OnlyProducerTransport()
        p.makeConnection(t)

        def check(data: list[bytes], paused: bool) -> None:
            self.assertEqual((t.data, t.paused, p.paused), (data, paused, paused))

        p.dataReceived(encode_frame(b"hello, world")[:9])
        check([], False)
        p.dataReceived(encode_frame(b"hello, world")[9:])
        check([b"hello, world"], True)
        p.resumeProducing()
        check([b"hello, world"], False)
        p.dataReceived(frames(b"hello", b"world"))
        check([b"hello, world", b"hello"], True)
        p.resumeProducing()
        check([b"hello, world", b"hello", b"world"], True)
        p.dataReceived(frames(b"goodbye"))
        check([b"hello, world", b"hello", b"world"], True)
        p.resumeProducing()
        check([b"hello, world", b"hello", b"world", b"goodbye"], True)
        p.resumeProducing()
        check([b"hello, world", b"hello", b"world", b"goodbye"], False)

    def test_receivedWhilePaused(self) -> None:
        """What arrives during a pause is delivered in order, portions and all, after it."""
        p, _ = connected()
        p.pauseProducing()
        stream = frames(b"a", b"b" * 300, b"", b"c")
        for index in range(len(stream)):
            p.dataReceived(stream[index : index + 1])
        self.assertEqual(p.received, [])
        self.assertEqual(p.recvd, stream)
        p.resumeProducing()
        self.assertEqual(p.received, [b"a", b"b" * 300, b"", b"c"])

    def test_pauseAndResumeInside(self) -> None:
        """To pause and resume within stringReceived changes nothing, and delivers nothing twice."""

        def then(protocol: Recorder, string: bytes) -> None:
            protocol.pauseProducing()
            protocol.resumeProducing()
            depths.append(protocol.received[-1])

        depths: list[bytes] = []
        p, _ = connected(then)
        p.dataReceived(frames(b"a", b"b", b"c"))
        self.assertEqual(p.received, [b"a", b"b", b"c"])
        self.assertEqual(depths, [b"a", b"b", b"c"])

    def test_pausedBeforeTheConnection(self) -> None:
        """A pause set before the connection holds in it, and in no other protocol."""
        p = Recorder()
        p.paused = True
        p.makeConnection(StringTransport())
        p.dataReceived(frames(b"a"))
        self.assertEqual(p.received, [])
        other, _ = connected()
        other.dataReceived(frames(b"a"))
        self.assertEqual(other.received, [b"a"])


class ReentrancyTests(SynchronousTestCase):
    """Things done within stringReceived."""

    def test_recvdWhilePausedInside(self) -> None:
        """A recvd set between a pause and a resume is what delivery goes on from."""

        def then(protocol: Recorder, string: bytes) -> None:
            if string == b"a":
                protocol.pauseProducing()
                protocol.recvd = frames(b"x", b"y")
                protocol.resumeProducing()

        p, _ = connected(then)
        p.dataReceived(frames(b"a", b"b"))
        self.assertEqual(p.received, [b"a", b"x", b"y"])

    def test_recvdSetToItself(self) -> None:
        """To set recvd to what it is changes nothing."""

        def then(protocol: Recorder, string: bytes) -> None:
            protocol.recvd = protocol.recvd

        p, _ = connected(then)
        stream = frames(b"", b"a", b"b" * 40)
        p.dataReceived(stream[:20])
        p.dataReceived(stream[20:])
        self.assertEqual(p.received, [b"", b"a", b"b" * 40])

    def test_recvdBetweenReads(self) -> None:
        """To set recvd between reads replaces the frame half received."""
        p, _ = connected()
        p.dataReceived(b"\0\0\0\5ab")
        p.recvd = b"\0\0\0\2A"
        p.dataReceived(b"B")
        self.assertEqual(p.received, [b"AB"])

    def test_dataReceivedInside(self) -> None:
        """Data that a program feeds from within goes behind what is being worked through."""

        def then(protocol: Recorder, string: bytes) -> None:
            if string == b"a":
                protocol.dataReceived(frames(b"c")[:3])
                protocol.dataReceived(frames(b"c")[3:])

        p, _ = connected(then)
        p.dataReceived(frames(b"a", b"b"))
        self.assertEqual(p.received, [b"a", b"b", b"c"])

    def test_transportThatAnswersAtOnce(self) -> None:
        """A write that leads to data at once loses none of either."""

        class Mirror(StringTransport):
            answers: ClassVar[list[bytes]] = [frames(b"d")[:2], frames(b"d")[2:]]

            def write(self, data: bytes) -> None:
                if self.answers:
                    p.dataReceived(self.answers.pop(0))

        def then(protocol: Recorder, string: bytes) -> None:
            protocol.sendString(string)
            if string == b"a":
                protocol.transport.write(b"")

        p, _ = connected(then, Mirror())
        p.dataReceived(frames(b"a", b"b") + frames(b"c")[:3])
        p.dataReceived(frames(b"c")[3:])
        self.assertEqual(len(p.received), 3)
        self.assertEqual(p.received[:2], [b"a", b"b"])

    def test_exception(self) -> None:
        """After an exception nothing is delivered, and what was sent before it still goes."""

        def then(protocol: Recorder, string: bytes) -> None:
            if string == b"b":
                raise ZeroDivisionError
            protocol.sendString(string)

        p, t = connected(then)
        self.assertRaises(ZeroDivisionError, p.dataReceived, frames(b"a", b"b", b"c"))
        p.dataReceived(frames(b"d"))
        p.resumeProducing()
        self.assertEqual(p.received, [b"a", b"b"])
        self.assertEqual(t.value(), frames(b"a"))

    def test_exceptionAfterAPause(self) -> None:
        """One during a delivery that resumeProducing began closes: no reactor does it for us."""

        def then(protocol: Recorder, string: bytes) -> None:
            raise ZeroDivisionError

        p, t = connected(then)
        p.pauseProducing()
        p.dataReceived(frames(b"a", b"b"))
        self.assertRaises(ZeroDivisionError, p.resumeProducing)
        self.assertTrue(t.disconnecting)
        self.assertEqual(p.received, [b"a"])


class LimitTests(SynchronousTestCase):
    """MAX_LENGTH, both ways."""

    def test_changedInside(self) -> None:
        """A limit changed in stringReceived holds for the next header of the same read."""

        def then(protocol: Recorder, string: bytes) -> None:
            protocol.MAX_LENGTH = 3

        p, t = connected(then)
        p.dataReceived(frames(b"x" * 10, b"abc", b"abcd", b"a"))
        self.assertEqual(p.received, [b"x" * 10, b"abc"])
        self.assertTrue(t.disconnecting)

    def test_changedForAFrameInPortions(self) -> None:
        """It holds for the next header of a frame that comes in portions as well."""
        p, t = connected()
        p.dataReceived(frames(b"x" * 10)[:6])
        p.MAX_LENGTH = 3
        p.dataReceived(frames(b"x" * 10)[6:] + b"\0\0")
        p.dataReceived(b"\0\4")
        self.assertEqual(p.received, [b"x" * 10])
        self.assertTrue(t.disconnecting)

    def test_nothingAfterIt(self) -> None:
        """After lengthLimitExceeded nothing is parsed or kept, even if an override stays open."""
        for portions in (
            [pack("!I", 11) + b"x" * 11 + frames(b"a")],
            [b"\0\0\0", b"\x0b", frames(b"a"), b"x" * 100],
        ):
            p, _ = connected()
            lengths: list[int] = []
            p.lengthLimitExceeded = lengths.append  # type: ignore[method-assign]
            p.MAX_LENGTH = 10
            for portion in portions:
                p.dataReceived(portion)
            p.MAX_LENGTH = 100
            p.dataReceived(frames(b"b"))
            p.resumeProducing()
            self.assertEqual((lengths, p.received, p.recvd), ([11], [], b""))

    def test_lengthBomb(self) -> None:
        """Lengths up to ffffffff are refused at the header; what follows costs no memory."""
        for length in (2**20 + 1, 2**31, 2**32 - 1):
            p, _ = connected()
            p.lengthLimitExceeded = lambda length: None  # type: ignore[method-assign]
            chunk = bytes(65536)
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                p.dataReceived(pack("!I", length))
                for _ in range(64):
                    p.dataReceived(chunk)
                self.assertLess(tracemalloc.get_traced_memory()[1] - before, 65536)
            finally:
                tracemalloc.stop()
            self.assertEqual(p.received, [])

    def test_memoryOfTheLargestFrame(self) -> None:
        """The default limit lets a peer that trickles make us hold less than 2 MiB."""
        p, _ = connected()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            p.dataReceived(pack("!I", p.MAX_LENGTH))
            for index in range(0, p.MAX_LENGTH - 1, 3):
                p.dataReceived(b"%03d" % (index % 1000))
            self.assertLess(tracemalloc.get_traced_memory()[1] - before, 2 * MiB)
        finally:
            tracemalloc.stop()

    def test_sending(self) -> None:
        """What is sent may have MAX_LENGTH bytes and no more."""
        p, t = connected()
        p.MAX_LENGTH = 10
        p.sendString(b"x" * 10)
        self.assertRaises(StringTooLongError, p.sendString, b"x" * 11)
        self.assertEqual(t.value(), frames(b"x" * 10))

    def test_sendingWhatIsNotBytes(self) -> None:
        """Other buffers are sent as they were when sendString was called; text is refused."""

        def then(protocol: Recorder, string: bytes) -> None:
            buffer = bytearray(b"abc")
            protocol.sendString(buffer)
            buffer[:] = b"xyz"
            protocol.sendString(memoryview(b"def"))
            self.assertRaises(TypeError, protocol.sendString, "text")
            self.assertRaises(TypeError, protocol.sendString, 3)

        p, t = connected(then)
        p.dataReceived(frames(b""))
        self.assertEqual(t.value(), frames(b"abc", b"def"))

    def test_otherHeaders(self) -> None:
        """A subclass that asks for another header is told, instead of being misunderstood."""

        def define() -> None:
            class LittleEndian(FramedProtocol):
                structFormat = "<I"

        self.assertRaises(TypeError, define)
        self.assertEqual((FramedProtocol.structFormat, FramedProtocol.prefixLength), ("!I", 4))


class BatchTests(SynchronousTestCase):
    """What goes to the transport when."""

    def test_oneWriteForARead(self) -> None:
        """The replies to one read go out in one write."""
        p, t = connected(lambda p, s: p.sendString(s))
        p.dataReceived(frames(b"a", b"b") + frames(b"c")[:3])
        p.dataReceived(frames(b"c")[3:] + frames(b"d"))
        self.assertEqual(t.calls, [frames(b"a", b"b"), frames(b"c", b"d")])

    def test_atOnceOtherwise(self) -> None:
        """Outside of a read each goes at once."""
        p, t = connected()
        p.sendString(b"a")
        p.sendString(b"b" * 10_000)
        self.assertEqual(t.calls, [frames(b"a"), frames(b"b" * 10_000)])

    def test_order(self) -> None:
        """Whatever is done with the transport comes after what was sent before it."""

        def then(protocol: Recorder, string: bytes) -> None:
            transport = protocol.transport
            protocol.sendString(b"1")
            write(b"2")
            protocol.sendString(b"3")
            transport.writeSequence([b"4", b"5"])
            protocol.sendString(b"6")
            self.assertEqual(transport.value()[-1:], b"6")
            protocol.sendString(b"7")

        p, t = connected(then)
        write = p.transport.write
        p.dataReceived(frames(b""))
        one, three, six, seven = (encode_frame(b) for b in (b"1", b"3", b"6", b"7"))
        self.assertEqual(t.value(), one + b"2" + three + b"45" + six + seven)

    def test_batchIsBounded(self) -> None:
        """A batch goes out once it is 64 KiB, so that the transport can ask for a pause in time."""

        def then(protocol: Recorder, string: bytes) -> None:
            protocol.sendString(bytes(BATCH_LIMIT // 2))
            counts.append(len(t.calls))

        counts: list[int] = []
        p, t = connected(then)
        p.dataReceived(frames(*[b""] * 5))
        self.assertEqual(counts, [0, 1, 1, 2, 2])
        self.assertEqual(t.value(), frames(*[bytes(BATCH_LIMIT // 2)] * 5))

    def test_largePayloadsAreNotCopied(self) -> None:
        """A large payload itself is given to the transport, in a read or not."""

        class Keeper(StringTransport):
            def writeSequence(self, data: Any) -> None:
                kept.extend(data)

        kept: list[bytes] = []
        payload = bytes(BATCH_LIMIT)
        p, _ = connected(lambda p, s: p.sendString(payload), Keeper())
        p.dataReceived(frames(b""))
        p.sendString(payload)
        self.assertEqual(len(kept), 4)
        self.assertIs(kept[1], payload)
        self.assertIs(kept[3], payload)


class AtOnceTests(SynchronousTestCase):
    """What is sent on a socket without waiting for the reactor."""

    class Socket:
        """Takes a number of bytes, then would block."""

        def __init__(self, room: int) -> None:
            self.room = room
            self.got = b""

        def send(self, data: bytes) -> int:
            if not self.room:
                raise BlockingIOError
            taken = data[: self.room]
            self.got += taken
            self.room -= len(taken)
            return len(taken)

        def sendmsg(self, parts: list[bytes]) -> int:
            if len(parts) > 1024:
                raise OSError(errno.EMSGSIZE, "Message too long")
            return self.send(b"".join(parts))

    class Transport(StringTransport):
        """Has the attributes that tell whether a transport of Twisted's holds anything."""

        dataBuffer = b""
        TLS = False
        waiting = 0

        @property
        def _tempDataLen(self) -> int:
            return self.waiting + len(self.value())

    def echo(self, room: int, payloads: list[bytes], **state: Any) -> tuple[bytes, bytes]:
        """Echo frames.

        :return: what went to the socket, and what to the transport.
        """
        p, t = connected(lambda p, s: p.sendString(s), self.Transport())
        vars(t).update(state)
        p._out.socket = socket = self.Socket(room)  # type: ignore[assignment]
        p.dataReceived(frames(*payloads))
        return socket.got, t.value()

    def test_anyRoom(self) -> None:
        """What the socket does not take goes to the transport, in order."""
        for payloads in ([b"abc"], [b"abc", b"", b"d"]):
            whole = frames(*payloads)
            for room in range(len(whole) + 1):
                self.assertEqual(self.echo(room, payloads), (whole[:room], whole[room:]))

    def test_anyRoomForLargeFrames(self) -> None:
        """The same for parts that are sent without being joined."""
        payloads = [b"a", bytes(BATCH_LIMIT), b"b" * BATCH_LIMIT]
        whole = frames(*payloads)
        for room in (0, 3, 5, 9, 100, BATCH_LIMIT + 9, BATCH_LIMIT + 11, len(whole) - 1):
            self.assertEqual(self.echo(room, payloads), (whole[:room], whole[room:]))

    def test_manyParts(self) -> None:
        """More parts than the system takes in one call are all sent."""
        payloads = [b"%020d" % n for n in range(3000)]
        sent, written = self.echo(10**6, payloads)
        self.assertEqual(sent + written, frames(*payloads))
        self.assertGreaterEqual(len(sent), 1024 * len(frames(payloads[0])))

    def test_notBeforeOthers(self) -> None:
        """With anything waiting in the transport, or TLS on it, all goes through the transport."""
        for state in ({"waiting": 1}, {"dataBuffer": b"x"}, {"TLS": True}):
            for payloads in ([b"a"], [bytes(BATCH_LIMIT)]):
                self.assertEqual(self.echo(10**6, payloads, **state), (b"", frames(*payloads)))

    def test_notAfterAClose(self) -> None:
        """What is sent after a close is left to the transport to drop."""

        def then(protocol: Recorder, string: bytes) -> None:
            protocol.abortConnection()
            protocol.sendString(b"late")

        p, t = connected(then, self.Transport())
        p._out.socket = socket = self.Socket(100)  # type: ignore[assignment]
        p.dataReceived(frames(b"a"))
        self.assertEqual((socket.got, t.value()), (b"", frames(b"late")))


class FacadeTests(SynchronousTestCase):
    """``self.transport``."""

    def test_sameInterfacesAndAttributes(self) -> None:
        """It provides the transport's interfaces, and reads and sets its attributes."""

        @implementer(ITCPTransport)
        class Socket(StringTransport):
            pass

        p, t = connected(transport=Socket())
        self.assertTrue(ITCPTransport.providedBy(p.transport))
        self.assertTrue(ITransport.providedBy(p.transport))
        p.transport.protocol = p
        self.assertIs(t.protocol, p)
        del p.transport.protocol
        self.assertFalse(hasattr(t, "protocol"))
        self.assertIs(p.transport, p.transport)
        self.assertEqual(p.transport.getPeer(), t.getPeer())
        self.assertIn(repr(t), repr(p.transport))
        p.transport = None
        self.assertIsNone(p.transport)

    def test_handedOn(self) -> None:
        """A protocol that is given another's connection sends in one order with it."""

        def then(protocol: Recorder, string: bytes) -> None:
            protocol.sendString(b"1")
            second.makeConnection(protocol.transport)
            second.sendString(b"2")
            rest, protocol.recvd = protocol.recvd, b""
            second.dataReceived(rest)
            protocol.sendString(b"4")

        second = Recorder(lambda p, s: p.sendString(s))
        p, t = connected(then)
        p.dataReceived(frames(b"a", b"3"))
        self.assertEqual((p.received, second.received), ([b"a"], [b"3"]))
        self.assertEqual(t.value(), frames(b"1", b"2", b"3", b"4"))


class ClosingTests(SynchronousTestCase):
    """No frame is delivered once the protocol has begun to close, over transports in memory."""

    ways: ClassVar[dict[str, Callable[[Any], object]]] = {
        "loseConnection": lambda p: p.loseConnection(),
        "abortConnection": lambda p: p.abortConnection(),
        "stopProducing": lambda p: p.stopProducing(),
        "transport.loseConnection": lambda p: p.transport.loseConnection(),
        "transport.abortConnection": lambda p: p.transport.abortConnection(),
        "transport.stopProducing": lambda p: p.transport.stopProducing(),
        "connectionLost": FramedProtocol.connectionLost,
    }

    def test_ways(self) -> None:
        """Every way to close ends delivery: in the same read, in later ones, after a resume."""
        for name, close in self.ways.items():
            p, _ = connected(lambda p, s, close=close: s == b"b" and close(p))
            p.dataReceived(frames(b"a", b"b", b"c"))
            p.dataReceived(frames(b"d"))
            p.resumeProducing()
            self.assertEqual(p.received, [b"a", b"b"], name)

    def test_closedByOthers(self) -> None:
        """A transport that is disconnecting for any reason ends delivery."""

        def then(protocol: Recorder, string: bytes) -> None:
            t.loseConnection()

        p, t = connected(then)
        p.dataReceived(frames(b"a", b"b"))
        p.dataReceived(frames(b"c"))
        self.assertEqual(p.received, [b"a"])

    def test_lostWithoutAnUpcall(self) -> None:
        """A connection lost during a pause delivers nothing after it."""
        p, t = connected()
        p.pauseProducing()
        p.dataReceived(frames(b"a"))
        t.disconnected = True
        p.connectionLost(Failure(error.ConnectionDone()))
        p.resumeProducing()
        self.assertEqual(p.received, [])

    def test_frameInPortionsAfterAClose(self) -> None:
        """The rest of a frame that was arriving when the protocol closed is dropped."""
        p, _ = connected()
        p.dataReceived(frames(b"a" * 100)[:50])
        p.loseConnection()
        p.dataReceived(frames(b"a" * 100)[50:])
        self.assertEqual((p.received, p.recvd), ([], b""))

    def test_replyBeforeTheClose(self) -> None:
        """A reply sent before loseConnection is written before it, by whatever name."""

        class Strict(StringTransport):
            def write(self, data: bytes) -> None:
                if not self.disconnecting:
                    super().write(data)

        ways = [ClosingTests.ways[name] for name in ("loseConnection", "transport.loseConnection")]
        ways.append(lambda p: p.kept())
        for close in ways:

            def then(protocol: Recorder, string: bytes, close: Any = close) -> None:
                protocol.sendString(b"bye")
                close(protocol)

            p, t = connected(then, Strict())
            p.kept = p.transport.loseConnection  # type: ignore[attr-defined]
            p.dataReceived(frames(b"a", b"b"))
            self.assertEqual((p.received, t.value()), ([b"a"], frames(b"bye")))

    def test_asyncioTransports(self) -> None:
        """A transport that tells by ``is_closing`` whether it closes is understood."""

        class Plain(asyncio.Transport):
            closing = False

            def is_closing(self) -> bool:
                return self.closing

        def then(protocol: Recorder, string: bytes) -> None:
            t.closing = string == b"b"

        p, t = connected(then, Plain())
        p.dataReceived(frames(b"a", b"b", b"c"))
        self.assertEqual(p.received, [b"a", b"b"])


class BackPressureTests(SynchronousTestCase):
    """``backPressure``."""

    def pressed(self) -> tuple[Recorder, Any]:
        """A protocol with it, and its transport."""

        class Pressed(Recorder):
            backPressure = True

        p = Pressed()
        t = StringTransport()
        p.makeConnection(t)
        verifyObject(IPushProducer, t.producer)
        self.assertTrue(t.streaming)
        return p, t

    def test_pauses(self) -> None:
        """While the transport is full nothing is read or delivered; then it goes on."""
        p, t = self.pressed()
        p.then = lambda p, s: s == b"a" and t.producer.pauseProducing()
        p.dataReceived(frames(b"a", b"b"))
        self.assertEqual((p.received, t.producerState, p.paused), ([b"a"], "paused", False))
        t.producer.resumeProducing()
        self.assertEqual((p.received, t.producerState), ([b"a", b"b"], "producing"))

    def test_apartFromTheProtocolsPause(self) -> None:
        """Neither the transport's nor the protocol's resuming undoes the other's pause."""
        for first in (True, False):
            p, t = self.pressed()
            t.producer.pauseProducing()
            p.pauseProducing()
            p.dataReceived(frames(b"a"))
            resumes = [p.resumeProducing, t.producer.resumeProducing]
            resumes[first]()
            self.assertEqual((p.received, t.producerState), ([], "paused"))
            resumes[not first]()
            self.assertEqual((p.received, t.producerState), ([b"a"], "producing"))

    def test_closing(self) -> None:
        """A close takes the producer away, else the transport would stay open."""
        p, t = self.pressed()
        t.producer.pauseProducing()
        p.transport.loseConnection()
        self.assertIsNone(t.producer)
        self.assertTrue(t.disconnecting)

    def test_handedOn(self) -> None:
        """A protocol that is given another's connection takes its place as the producer."""
        p, t = self.pressed()
        second = type(p)()
        second.makeConnection(p.transport)
        t.producer.pauseProducing()
        second.dataReceived(frames(b"a"))
        self.assertEqual(second.received, [])
        t.producer.resumeProducing()
        self.assertEqual(second.received, [b"a"])

    def test_stopped(self) -> None:
        """A connection that is lost ends the delivery."""
        p, t = self.pressed()
        t.producer.stopProducing()
        p.dataReceived(frames(b"a"))
        self.assertEqual(p.received, [])


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class Connections:
    """Makes TLS connections of one context."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)

    clientConnectionForTLS = serverConnectionForTLS


class TLSTests(SynchronousTestCase):
    """The closing rule and the batches over TLS, in memory."""

    def converse(self, then: Callable[[Recorder, bytes], object], *sent: bytes) -> Any:
        """Send frames to a server that does something with each.

        :return: the server's protocol and the client's.
        """
        clock = Clock()
        server, client = Recorder(then), Recorder()
        context = automatic_context()
        serverTLS = TLSMemoryBIOFactory(
            Connections(context),
            False,
            Factory.forProtocol(lambda: server),
            clock=clock,
        ).buildProtocol(None)
        clientTLS = TLSMemoryBIOFactory(
            Connections(client_context()), True, Factory.forProtocol(lambda: client), clock=clock
        ).buildProtocol(None)
        serverIO = FakeTransport(serverTLS, isServer=True)
        clientIO = FakeTransport(clientTLS, isServer=False)
        pump = IOPump(clientTLS, serverTLS, clientIO, serverIO, False)
        clientTLS.makeConnection(clientIO)
        serverTLS.makeConnection(serverIO)
        pump.flush()
        client.transport.write(frames(*sent))
        for _ in range(5):
            clock.advance(0)
            pump.flush()
        return server, client

    def test_echo(self) -> None:
        """Frames large and small come back."""
        sent = [b"", b"a", b"b" * 100_000, b"c"]
        server, client = self.converse(lambda p, s: p.sendString(s), *sent)
        self.assertEqual((server.received, client.received), (sent, sent))

    def test_closing(self) -> None:
        """No frame after a close, and the reply before it arrives."""
        for name in ("loseConnection", "transport.loseConnection"):

            def then(protocol: Recorder, string: bytes, name: str = name) -> None:
                protocol.sendString(b"bye")
                ClosingTests.ways[name](protocol)

            server, client = self.converse(then, b"a", b"b")
            self.assertEqual((server.received, client.received), ([b"a"], [b"bye"]))
            self.assertEqual(len(client.lost), 1)

    def test_abort(self) -> None:
        """No frame after an abort."""
        server, client = self.converse(lambda p, s: p.transport.abortConnection(), b"a", b"b")
        self.assertEqual((server.received, client.received), ([b"a"], []))


class SocketTests(TestCase):
    """Over real sockets: TCP and Unix."""

    def endpoints(self, family: str) -> tuple[Any, Callable[[Any], Any]]:
        """A server's endpoint, and what makes a client's from the port."""
        if family == "tcp":
            return TCP4ServerEndpoint(
                reactor, 0, interface="127.0.0.1"
            ), lambda port: TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        name = os.path.relpath(self.mktemp())
        return UNIXServerEndpoint(reactor, name), lambda port: UNIXClientEndpoint(reactor, name)

    async def pair(self, server: Protocol, client: Protocol, family: str = "tcp") -> None:
        """Connect the two."""
        made: defer.Deferred[None] = defer.Deferred()

        class Once(Factory):
            noisy = False

            def buildProtocol(self, address: Any) -> Protocol:
                reactor.callLater(0, made.callback, None)
                return server

        listening, connecting = self.endpoints(family)
        port = await listening.listen(Once())
        self.addCleanup(port.stopListening)
        await connectProtocol(connecting(port), client)
        await made

    def converse(
        self, then: Callable[[Recorder, bytes], object], sent: bytes, family: str = "tcp"
    ) -> defer.Deferred[tuple[Recorder, Recorder]]:
        """Send bytes to a server that does something with each frame, until it closes."""

        async def conversation() -> tuple[Recorder, Recorder]:
            server, client = Recorder(then), Recorder()
            await self.pair(server, client, family)
            client.transport.write(sent)
            await defer.gatherResults([server.ended, client.ended])
            return server, client

        return defer.ensureDeferred(conversation())

    async def test_echo(self) -> None:
        """Many frames, large and small, come back in order, and then the reply to the last."""
        sent = [b"%d" % n * (n % 50) for n in range(1000)] + [bytes(MiB), b"", b"x" * 100_000]

        def then(protocol: Recorder, string: bytes) -> None:
            protocol.sendString(string)
            if string == b"end":
                protocol.transport.loseConnection()

        for family in ("tcp", "unix"):
            server, client = await self.converse(then, frames(*sent, b"end", b"more"), family)
            self.assertEqual(server.received, [*sent, b"end"])
            self.assertEqual(client.received, [*sent, b"end"])

    async def test_closing(self) -> None:
        """Each way to close ends delivery; loseConnection lets the reply go first."""
        for family in ("tcp", "unix"):
            for name, close in ClosingTests.ways.items():
                if name == "connectionLost":
                    continue

                def then(protocol: Recorder, string: bytes, close: Any = close) -> None:
                    protocol.sendString(b"bye")
                    close(protocol)

                server, client = await self.converse(then, frames(b"a", b"b"), family)
                self.assertEqual(server.received, [b"a"], name)
                if "abort" not in name:
                    self.assertEqual(client.received, [b"bye"], name)

    async def test_exception(self) -> None:
        """An exception loses the connection; the frames behind it are not delivered."""

        def then(protocol: Recorder, string: bytes) -> None:
            raise ZeroDivisionError

        server, _ = await self.converse(then, frames(b"a", b"b"))
        self.assertEqual(server.received, [b"a"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_behindWhatIsWaiting(self) -> None:
        """What the transport holds already, from before us, goes out first."""

        class Greeting(Recorder):
            def makeConnection(self, transport: ITransport) -> None:
                transport.write(frames(b"greeting"))
                super().makeConnection(transport)

            def connectionMade(self) -> None:
                self.dataReceived(frames(b"first"))

        def then(protocol: Recorder, string: bytes) -> None:
            protocol.sendString(string)
            if string == b"last":
                protocol.loseConnection()

        server, client = Greeting(then), Recorder()
        await self.pair(server, client)
        client.sendString(b"last")
        await client.ended
        self.assertEqual(client.received, [b"greeting", b"first", b"last"])
        await server.ended

    async def test_peerThatDoesNotRead(self) -> None:
        """A server with backPressure stops reading from a peer that does not read, and goes on."""

        class Echo(FramedProtocol):
            backPressure = True
            answered = 0

            def stringReceived(self, string: bytes) -> None:
                self.answered += len(string)
                self.sendString(string)

        class Greedy(Protocol):
            """Writes without end while it is let, and reads nothing until told to."""

            left = 1000
            got = 0

            def connectionMade(self) -> None:
                self.stuck: defer.Deferred[None] = defer.Deferred()
                self.done: defer.Deferred[None] = defer.Deferred()
                self.transport.pauseProducing()
                self.transport.registerProducer(self, True)
                self.resumeProducing()

            def pauseProducing(self) -> None:
                self.producing = False

            def resumeProducing(self) -> None:
                self.producing = True
                while self.producing and self.left:
                    self.left -= 1
                    self.transport.write(frames(bytes(65536)))

            def stopProducing(self) -> None:
                self.producing = False

            def dataReceived(self, data: bytes) -> None:
                self.got += len(data)
                if self.got == 1000 * (65536 + 4):
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()

            def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
                self.done.callback(None)

        server, client = Echo(), Greedy()
        await self.pair(server, client)
        # With the server's side of the connection full and its reading stopped, nothing moves.
        while not server._out.full or select([], [server.transport.socket], [], 0)[1]:
            turn: defer.Deferred[None] = defer.Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
        raw = server.transport
        self.assertLess(len(raw.dataBuffer) + raw._tempDataLen, 4 * MiB)
        self.assertGreater(client.left, 0)
        client.transport.resumeProducing()
        await client.done
        self.assertEqual(server.answered, 1000 * 65536)


class BaseClassTests(SynchronousTestCase):
    """The names that make it a drop-in."""

    def test_names(self) -> None:
        """Every public name of Twisted's class is there."""
        for name in dir(basic.Int32StringReceiver):
            if not name.startswith("_"):
                self.assertTrue(hasattr(FramedProtocol, name), name)
