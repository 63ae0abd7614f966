"""Tests of daytime, time and framed time, on streams and as answers."""

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, StringTransport
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from sockproto.connections import ConnectionCap
from sockproto.limits import Limits
from sockproto.services.clock import DaytimeFactory, FramedTimeFactory, TimeFactory, WallClock
from sockproto.services.open import OpenFactory
from sockproto.wire.frames import encode_frame
from sockproto.wire.timestamps import to_rfc868

PEER = IPv4Address("TCP", "192.0.2.9", 5000)


def connected(factory: OpenFactory) -> tuple[Any, StringTransport]:
    """A protocol of the factory's, on a transport in memory."""
    protocol = factory.buildProtocol(PEER)
    assert protocol is not None
    transport = StringTransport(peerAddress=PEER)
    protocol.makeConnection(transport)
    return protocol, transport


class TimeTests(SynchronousTestCase):
    """Tests of RFC 868's time."""

    def test_stream(self) -> None:
        """A connection is told the time, and closed."""
        wall = WallClock(UTC, lambda: 0.0)
        protocol, transport = connected(TimeFactory(Clock(), wall))
        self.assertEqual(transport.value(), to_rfc868(0))
        self.assertTrue(transport.disconnecting)
        protocol.dataReceived(b"ignored")
        self.assertEqual(transport.value(), to_rfc868(0))


class DaytimeTests(SynchronousTestCase):
    """Tests of RFC 867's daytime."""

    def test_stream(self) -> None:
        """A connection is told the time of the zone that is configured, and closed."""
        wall = WallClock(ZoneInfo("Asia/Shanghai"), lambda: 0.0)
        _, transport = connected(DaytimeFactory(Clock(), wall))
        self.assertEqual(transport.value(), b"Thursday, January 01, 1970 08:00:00-CST\r\n")
        self.assertTrue(transport.disconnecting)

    def test_local(self) -> None:
        """Without a zone it is the machine's own, aware."""
        self.assertIsNotNone(WallClock().now().tzinfo)


class FramedTimeTests(SynchronousTestCase):
    """Tests of time in frames."""

    def setUp(self) -> None:
        wall = WallClock(UTC, lambda: 0.0)
        self.protocol, self.transport = connected(FramedTimeFactory(Clock(), wall))

    def test_answer(self) -> None:
        """Each format is answered in a frame."""
        self.protocol.dataReceived(encode_frame(b"%Y") + encode_frame(b""))
        self.assertEqual(
            self.transport.value(), encode_frame(b"1970") + encode_frame(b"1970-01-01 00:00:00")
        )

    def test_noFormat(self) -> None:
        """What is no format ends the connection, after the answers before it."""
        self.protocol.dataReceived(
            encode_frame(b"%Y") + encode_frame(b"\xff") + encode_frame(b"%m")
        )
        self.assertEqual(self.transport.value(), encode_frame(b"1970"))
        self.assertTrue(self.transport.disconnecting)


class OpenTests(SynchronousTestCase):
    """Tests of what all simple stream services share."""

    def test_cap(self) -> None:
        """There is a limit of connections from one source, and room again when one is gone."""
        limits = Limits(per_source=2)
        cap = ConnectionCap(limits, 1000)
        factory = TimeFactory(Clock(), None, limits, cap)
        first, _ = connected(factory)
        connected(factory)
        self.assertIsNone(factory.buildProtocol(PEER))
        first.connectionLost()
        self.assertIsNotNone(factory.buildProtocol(PEER))

    def test_log(self) -> None:
        """A network of IPv6's is one source of lines in the log, however many addresses it has."""
        factory = TimeFactory(Clock())
        lines = EventLoggingObserver()
        globalLogPublisher.addObserver(lines)
        self.addCleanup(globalLogPublisher.removeObserver, lines)
        for n in range(100):
            factory.complain(IPv6Address("TCP", f"2001:db8::{n:x}", 5000), "wrong")
        self.assertEqual(len(lines), 1)

    def test_idle(self) -> None:
        """Who says nothing for the idle time is cut off; who says something is not."""
        clock = Clock()
        factory = FramedTimeFactory(clock, None, Limits(idle_seconds=10))
        (busy, busyTransport), (_, idleTransport) = connected(factory), connected(factory)
        for _ in range(4):
            clock.advance(5)
            busy.dataReceived(b"\0")
        self.assertTrue(idleTransport.disconnected)
        self.assertFalse(busyTransport.disconnected)
        busy.connectionLost()

    def test_timers(self) -> None:
        """A connection that ends leaves no timer behind."""
        clock = Clock()
        protocol, _ = connected(FramedTimeFactory(clock))
        protocol.connectionLost()
        self.assertEqual(clock.getDelayedCalls(), [])
