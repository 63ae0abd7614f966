"""Tests of echo, upper and framed echo on streams."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from sockproto.limits import Limits
from sockproto.services.echo import EchoFactory, FramedEchoFactory, UpperFactory, upper
from sockproto.services.open import OpenFactory
from sockproto.wire.frames import encode_frame

PEER = IPv4Address("TCP", "192.0.2.9", 5000)


def connect(factory: type[OpenFactory]) -> tuple[Any, StringTransport]:
    """A protocol of the factory's, on a transport in memory."""
    protocol = factory(Clock(), Limits(frame=70_000)).buildProtocol(PEER)
    assert protocol is not None
    transport = StringTransport(peerAddress=PEER)
    protocol.makeConnection(transport)
    return protocol, transport


class EchoTests(SynchronousTestCase):
    """Tests of the byte streams."""

    def test_echo(self) -> None:
        """Bytes come back as they were (RFC 862)."""
        protocol, transport = connect(EchoFactory)
        protocol.dataReceived(b"a\0\xff")
        protocol.dataReceived(b"b")
        self.assertEqual(transport.value(), b"a\0\xffb")

    def test_upper(self) -> None:
        """ASCII letters come back in upper case."""
        protocol, transport = connect(UpperFactory)
        protocol.dataReceived("straße ÿ 你好 abcXYZ".encode())
        self.assertEqual(transport.value(), "STRAßE ÿ 你好 ABCXYZ".encode())

    @given(st.text())
    def test_upperKeepsText(self, text: str) -> None:
        """UTF-8 stays UTF-8, as long as it was."""
        answer = upper(text.encode())
        self.assertEqual(len(answer), len(text.encode()))
        self.assertEqual(answer.decode().lower(), text.encode().lower().decode().lower())

    def test_doesNotReadAhead(self) -> None:
        """While the peer does not take the answers, nothing more is read of it."""
        _, transport = connect(EchoFactory)
        self.assertIs(transport.producer, transport)
        self.assertTrue(transport.streaming)
        assert transport.producer is not None
        transport.producer.pauseProducing()
        self.assertEqual(transport.producerState, "paused")

    def test_halfClose(self) -> None:
        """A peer that has said all still gets the rest, and then the close."""
        protocol, transport = connect(EchoFactory)
        self.assertTrue(IHalfCloseableProtocol.providedBy(protocol))
        protocol.dataReceived(b"last")
        protocol.readConnectionLost()
        self.assertEqual(transport.value(), b"last")
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(transport.producer)


class FramedEchoTests(SynchronousTestCase):
    """Tests of the frames."""

    def test_frames(self) -> None:
        """Frames come back as they were, however they arrive."""
        protocol, transport = connect(FramedEchoFactory)
        frames = encode_frame(b"") + encode_frame(b"abc") + encode_frame(bytes(70_000))
        for start in range(0, len(frames), 1460):
            protocol.dataReceived(frames[start : start + 1460])
        self.assertEqual(transport.value(), frames)

    def test_tooLong(self) -> None:
        """A frame over the limit ends the connection at its header."""
        protocol, transport = connect(FramedEchoFactory)
        protocol.dataReceived((70_001).to_bytes(4, "big"))
        self.assertTrue(transport.disconnecting)
        self.assertEqual(transport.value(), b"")
