"""Datagrams: the guard that every UDP service shares, and the protocol that answers behind it."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.error import MessageLengthError
from twisted.internet.protocol import DatagramProtocol

from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.throttle import LogThrottle

__all__ = ["MAX_DATAGRAM", "AnsweringProtocol", "DatagramGuard"]

#: The most bytes that a UDP datagram over IPv4 carries (RFC 768 and RFC 791).
MAX_DATAGRAM = 65_507

_FIRST_ORDINARY_PORT = 1024
# How IPv4 looks to a socket that takes IPv6 as well.
_MAPPED = "::ffff:"
# One line a source and minute, and no more than this of all sources together.
_LINES_A_MINUTE = 30


class DatagramGuard:
    """Decides which datagrams are answered, so that no service here takes part in a flood.

    A datagram is dropped that comes from a port on which a service could answer back (port 0, any
    below 1024, and those of our own listeners): of two services that answer each other neither ever
    stops (CVE-2024-2169).  Each source, an IPv4 address or an IPv6 /64, has a burst of answers and
    then a slow rate, and there is a rate for all together: answers to forged addresses stay few.

    :param limits: the figures.
    :param clock: seconds from some start.
    :ivar dropped: how many were dropped, by reason.
    """

    _log = Logger()

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ownPorts: set[int] = set()
        self._lines = LogThrottle(clock, lines=1)
        self._allLines = LogThrottle(clock, lines=_LINES_A_MINUTE)
        self.dropped: Counter[str] = Counter()
        # For each source the time at which its bucket will be full again.  Two generations: when
        # the new one is full, the old one is forgotten; who still sends has been carried over.
        self._full: dict[str | bytes, float] = {}
        self._older: dict[str | bytes, float] = {}
        self._allFull = 0.0
        self.reconfigure(limits)

    def reconfigure(self, limits: Limits) -> None:
        """Have other limits hold from now on."""
        self._interval = 1 / limits.datagram_rate
        self._slack = (limits.datagram_burst - 1) * self._interval
        self._allInterval = 1 / limits.datagram_total
        # A second's worth may come at once.
        self._allSlack = 1 - self._allInterval
        self._sources = limits.sources

    def listening(self, ports: Collection[int]) -> None:
        """Our own listeners' ports, from which nothing is answered."""
        self._ownPorts.update(ports)

    def admit(self, address: tuple[Any, ...], reserved: Collection[int] = ()) -> bool:
        """Whether to answer a datagram.

        :param address: the sender's host and port.
        :param reserved: ports below 1024 from which clients of this service do ask (NTP's 123).
        """
        host, port = address[0].removeprefix(_MAPPED), address[1]
        if port < _FIRST_ORDINARY_PORT and port not in reserved:
            return self._drop(host, port, "from a service's port")
        if port in self._ownPorts:
            return self._drop(host, port, "from the port of a listener of ours")
        now = self._clock()
        source: str | bytes = host if ":" not in host else _network(host)
        full = self._full.get(source)
        if full is None:
            full = self._older.get(source, now)
        if full < now:
            full = now
        elif full - now > self._slack:
            self._remember(source, full)
            return self._drop(host, port, "over the rate of its source")
        if self._allFull < now:
            self._allFull = now
        elif self._allFull - now > self._allSlack:
            return self._drop(host, port, "over the rate of all")
        self._allFull += self._allInterval
        self._remember(source, full + self._interval)
        return True

    def _remember(self, source: str | bytes, full: float) -> None:
        if len(self._full) >= self._sources:
            self._older, self._full = self._full, {}
        self._full[source] = full

    def _drop(self, host: str, port: int, reason: str) -> bool:
        self.note(host, port, reason)
        return False

    def note(self, host: str, port: int, reason: str) -> None:
        """Count a datagram that is not answered, and log it if nothing has been for a while."""
        self.dropped[reason] += 1
        suppressed = self._lines.admit(host)
        if suppressed is None:
            return
        others = self._allLines.admit("")
        if others is not None:
            self._log.warn(
                "a datagram of {host}:{port} was dropped: {reason} ({count} so far for that)",
                host=host,
                port=port,
                reason=reason,
                count=self.dropped[reason],
            )


class AnsweringProtocol(DatagramProtocol):
    """A service that answers a datagram with a datagram, or not at all.

    :param service: its name, for the log.
    :param answer: makes the answer to a datagram; ``None``: there is none.
    :param guard: decides which are answered at all.
    :param reserved: ports below 1024 from which its clients do ask.
    """

    noisy = False
    transport: Any

    def __init__(
        self,
        service: str,
        answer: Callable[[bytes], bytes | None],
        guard: DatagramGuard,
        reserved: Collection[int] = (),
    ) -> None:
        self.service = service
        self._answer = answer
        self._guard = guard
        self._reserved = frozenset(reserved)

    def logPrefix(self) -> str:
        """The service's name."""
        return self.service

    def startProtocol(self) -> None:
        """Two listeners of one server are not to answer each other."""
        self._guard.listening({self.transport.getHost().port})

    def datagramReceived(self, datagram: bytes, addr: tuple[Any, ...]) -> None:
        """Answer, if the guard lets us."""
        if not self._guard.admit(addr, self._reserved):
            return
        answer = self._answer(datagram)
        if answer is None:
            self._guard.note(addr[0], addr[1], f"malformed for {self.service}")
            return
        try:
            self.transport.write(answer, addr)
        except (OSError, MessageLengthError) as error:
            # No route, no buffer, a datagram too long for this path: as if it was lost on the way.
            self._guard.note(addr[0], addr[1], f"not sent: {error}"[:128])


def _network(host: str) -> bytes:
    """The /64 of an IPv6 address."""
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]
