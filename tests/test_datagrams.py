"""Tests of the guard over datagram services, and of loops between them."""

import itertools
from collections import Counter, deque
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import MessageLengthError
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from sockproto.datagrams import AnsweringProtocol, DatagramGuard
from sockproto.limits import Limits
from sockproto.services.clock import WallClock
from sockproto.services.echo import echo, upper
from sockproto.services.ntp import NTPServer

Address = tuple[str, int]
SERVER = "192.0.2.1"


class Wire:
    """A network on which datagrams arrive at once, and are counted."""

    def __init__(self) -> None:
        self.sent: Counter[Address] = Counter()
        self.hosts: dict[Address, Callable[[bytes, Address], None]] = {}
        self._queue: deque[tuple[bytes, Address, Address]] = deque()

    def send(self, data: bytes, source: Address, target: Address) -> None:
        self.sent[source] += 1
        self._queue.append((data, source, target))

    def flush(self, most: int) -> None:
        """Deliver until nothing is under way, or so many were delivered."""
        for _ in range(most):
            if not self._queue:
                return
            data, source, target = self._queue.popleft()
            receive = self.hosts.get(target)
            if receive is not None:
                receive(data, source)


class WireTransport:
    """What a datagram protocol needs of its transport."""

    def __init__(self, wire: Wire, address: Address) -> None:
        self._wire = wire
        self._address = address

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", *self._address)

    def write(self, data: bytes, address: Address) -> None:
        self._wire.send(data, self._address, address)


def answers() -> dict[str, Callable[[bytes], bytes | None]]:
    """What each of our datagram services answers."""
    wall = WallClock()
    return {
        "echo": echo,
        "upper": upper,
        "strftime": wall.answer,
        "daytime": wall.daytime,
        "time": wall.time,
        "ntp": NTPServer().answer,
    }


class GuardTests(SynchronousTestCase):
    """Tests of `DatagramGuard`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.guard = DatagramGuard(Limits(datagram_burst=20, datagram_rate=1), self.clock.seconds)

    def admitted(self, host: str, count: int = 100, port: int = 5000) -> int:
        return sum(self.guard.admit((host, port)) for _ in range(count))

    def test_burst(self) -> None:
        """A source has a burst of answers, and then one a second."""
        self.assertEqual(self.admitted(SERVER), 20)
        self.clock.advance(3)
        self.assertEqual(self.admitted(SERVER), 3)
        self.clock.advance(1000)
        self.assertEqual(self.admitted(SERVER), 20)

    def test_sources(self) -> None:
        """Sources do not share; the ports of one do, and so do the addresses of an IPv6 /64."""
        self.assertEqual(self.admitted("192.0.2.7", 15), 15)
        self.assertEqual(self.admitted("192.0.2.7", 15, port=6000), 5)
        self.assertEqual(self.admitted("192.0.2.8", 15), 15)
        self.assertEqual(self.admitted("2001:db8::1", 15), 15)
        self.assertEqual(self.admitted("2001:db8::2:3%eth0", 15), 5)
        self.assertEqual(self.admitted("2001:db8:0:1::1", 15), 15)

    def test_mapped(self) -> None:
        """IPv4 through a socket of IPv6's is told apart as IPv4 is."""
        self.assertEqual(self.admitted("::ffff:192.0.2.7", 25), 20)
        self.assertEqual(self.admitted("::ffff:192.0.2.8", 25), 20)
        self.assertEqual(self.admitted("192.0.2.8", 25), 0)

    def test_ports(self) -> None:
        """Nothing from port 0, a service's port, or the port of one of our listeners."""
        self.guard.listening({7007})
        for port in (0, 7, 13, 37, 123, 1023, 7007):
            self.assertFalse(self.guard.admit((SERVER, port)))
        self.assertTrue(self.guard.admit((SERVER, 1024)))
        self.assertTrue(self.guard.admit((SERVER, 123), reserved={123}))
        self.assertFalse(self.guard.admit((SERVER, 7), reserved={123}))

    def test_all(self) -> None:
        """There is a rate for all sources together."""
        guard = DatagramGuard(Limits(datagram_total=64), self.clock.seconds)
        hosts = [f"198.51.100.{n}" for n in range(200)]
        self.assertEqual(sum(guard.admit((host, 5000)) for host in hosts), 64)
        self.clock.advance(1)
        self.assertEqual(sum(guard.admit((host, 5000)) for host in hosts), 64)

    def test_memory(self) -> None:
        """Sources beyond number are forgotten, but one that still sends is not."""
        guard = DatagramGuard(Limits(sources=64, datagram_total=1e9), self.clock.seconds)
        admitted = 0
        for n in range(10_000):
            guard.admit((f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 5000))
            admitted += guard.admit((SERVER, 5000))
        self.assertEqual(admitted, 20)
        self.assertLessEqual(len(guard._full) + len(guard._older), 128)

    def test_log(self) -> None:
        """Dropped datagrams are counted, and cause few lines, from one source or from many."""
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for n in range(50_000):
            self.guard.admit((SERVER, 7))
            self.guard.admit((f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 7))
        self.assertEqual(self.guard.dropped, {"from a service's port": 100_000})
        self.assertTrue(0 < len(observer) < 100)

    @given(st.lists(st.floats(0, 30), max_size=100))
    def test_neverMore(self, pauses: list[float]) -> None:
        """Whatever the pauses, a source gets no more than its burst and its rate."""
        clock = Clock()
        guard = DatagramGuard(Limits(datagram_burst=5, datagram_rate=0.5), clock.seconds)
        admitted = 0
        for pause in pauses:
            clock.advance(pause)
            admitted += guard.admit((SERVER, 5000))
        self.assertLessEqual(admitted, 5 + 0.5 * clock.seconds() + 1e-6)


class AnsweringTests(SynchronousTestCase):
    """Tests of `AnsweringProtocol`."""

    def make(self, answer: Callable[[bytes], bytes | None] = echo) -> AnsweringProtocol:
        self.wire = Wire()
        self.guard = DatagramGuard(Limits(), Clock().seconds)
        protocol = AnsweringProtocol("test", answer, self.guard)
        protocol.transport = WireTransport(self.wire, (SERVER, 7007))
        protocol.startProtocol()
        return protocol

    def test_answer(self) -> None:
        """A datagram is answered to where it came from."""
        protocol = self.make()
        got: list[tuple[bytes, Address]] = []
        self.wire.hosts["192.0.2.9", 5000] = lambda data, source: got.append((data, source))
        protocol.datagramReceived(b"hello", ("192.0.2.9", 5000))
        self.wire.flush(10)
        self.assertEqual(got, [(b"hello", (SERVER, 7007))])

    def test_none(self) -> None:
        """What the service has no answer to is counted as malformed."""
        self.make(lambda _: None).datagramReceived(b"", ("192.0.2.9", 5000))
        self.assertEqual(self.wire.sent, {})
        self.assertEqual(self.guard.dropped, {"malformed for test": 1})

    def test_notSent(self) -> None:
        """An answer that cannot be sent is as good as lost, and raises nothing."""
        protocol = self.make()
        for error in (OSError(101, "Network is unreachable"), MessageLengthError("too long")):

            def fail(_data: bytes, _address: Address, error: Exception = error) -> None:
                raise error

            self.patch(protocol.transport, "write", fail)
            protocol.datagramReceived(b"x", ("192.0.2.9", 5000))
        self.assertEqual(sum(self.guard.dropped.values()), 2)


class LoopTests(SynchronousTestCase):
    """No two services keep each other busy (CVE-2024-2169)."""

    def place(
        self, wire: Wire, name: str, address: Address, answer: Callable[[bytes], bytes | None]
    ) -> None:
        guard = DatagramGuard(Limits(), Clock().seconds)
        protocol = AnsweringProtocol(name, answer, guard, {123} if name == "ntp" else ())
        protocol.transport = WireTransport(wire, address)
        protocol.startProtocol()
        wire.hosts[address] = protocol.datagramReceived

    def placeDumb(self, wire: Wire, address: Address) -> None:
        """A peer that answers everything, as a plain echo service does."""

        def answer(data: bytes, source: Address) -> None:
            wire.send(data, address, source)

        wire.hosts[address] = answer

    def test_pairs(self) -> None:
        """A forged datagram between any two of our services, on their own ports, on the ports of
        the RFCs and on others, causes at most 20 answers, and the same with a peer that answers
        all."""
        worst = 0
        for (name, answer), (other, reply) in itertools.product(answers().items(), repeat=2):
            for ours, theirs in itertools.product((7007, 40_000), (7, 123, 7007, 50_000)):
                for dumb in (False, True):
                    for data in (b"", b"x", b"%c", b"\x23" + bytes(47)):
                        wire = Wire()
                        self.place(wire, name, (SERVER, ours), answer)
                        peer = ("192.0.2.2", theirs)
                        if dumb:
                            self.placeDumb(wire, peer)
                        else:
                            self.place(wire, other, peer, reply)
                        wire.send(data, peer, (SERVER, ours))
                        wire.flush(1000)
                        worst = max(worst, wire.sent[SERVER, ours])
        self.assertEqual(worst, 20)
