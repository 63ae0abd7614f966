"""What the simple stream services share: a cap on connections, and an end to idle ones."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from sockproto.admission import Source
from sockproto.auth.transport import abort, describe, host_of
from sockproto.connections import ConnectionCap
from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.throttle import LogThrottle

__all__ = ["IdleEnd", "OpenFactory", "OpenProtocol"]


class IdleEnd:
    """Ends a connection from which nothing came for a while; checked now and then, not at each
    read.

    :param clock: the reactor.
    :param seconds: how long nothing may come.
    :param end: called once it has been that long, or up to half as long again.
    :ivar heard: to be set whenever something came.
    """

    def __init__(self, clock: IReactorTime, seconds: float, end: Any) -> None:
        self._clock = clock
        self._half = seconds / 2
        self._end = end
        self._quiet = 0
        self.heard = False
        self._timer: IDelayedCall | None = clock.callLater(self._half, self._check)

    def _check(self) -> None:
        self._quiet = 0 if self.heard else self._quiet + 1
        self.heard = False
        if self._quiet >= 2:
            self._timer = None
            self._end()
        else:
            self._timer = self._clock.callLater(self._half, self._check)

    def cancel(self) -> None:
        """The connection is gone."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class OpenProtocol(Protocol):
    """A connection of an :class:`OpenFactory`: it is counted, and ended when it is idle.

    Subclasses set ``self.idle.heard`` when something came.
    """

    factory: OpenFactory
    transport: Any
    #: Where the peer is.
    address: IAddress

    def makeConnection(self, transport: Any) -> None:
        """As for any protocol; the watch begins."""
        self.idle = IdleEnd(
            self.factory.clock, self.factory.limits.idle_seconds, transport.abortConnection
        )
        super().makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone; call this when overriding it."""
        self.idle.cancel()
        self.factory.release(self)


class OpenFactory(Factory):
    """Builds the protocols of a simple service, as many as there may be.

    :param clock: the reactor.
    :param limits: the idle time among them.
    :param cap: how many connections there may be; ``None`` where somebody else counts them (the
        login does).
    """

    noisy = False
    _log = Logger()
    protocol: Any = OpenProtocol
    #: The service's name.
    service = ""

    def __init__(
        self, clock: IReactorTime, limits: Limits | None = None, cap: ConnectionCap | None = None
    ) -> None:
        self.clock = clock
        self.limits = Limits() if limits is None else limits
        self._cap = cap
        self._throttle = LogThrottle(clock.seconds, lines=1)
        self._connections: set[OpenProtocol] = set()

    def reconfigure(self, limits: Limits) -> None:
        """Have other limits hold for the connections to come."""
        self.limits = limits

    def logPrefix(self) -> str:
        """The service's name."""
        return self.service

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A protocol; ``None``, which closes the connection, where there are too many."""
        assert addr is not None
        refusal = None if self._cap is None else self._cap.admit(host_of(addr))
        if refusal is None:
            protocol = self.protocol()
            protocol.factory = self
            assert isinstance(protocol, OpenProtocol)
            protocol.address = addr
            self._connections.add(protocol)
            return protocol
        self.complain(addr, refusal)
        return None

    def release(self, protocol: OpenProtocol) -> None:
        """A connection is gone."""
        self._connections.discard(protocol)
        if self._cap is not None:
            self._cap.release(host_of(protocol.address))

    def abortAll(self) -> None:
        """End every connection at once."""
        for protocol in list(self._connections):
            abort(protocol.transport)

    def complain(self, addr: IAddress, reason: str) -> None:
        """Log what was wrong with a peer, once a minute for each."""
        suppressed = self._throttle.admit(Source.of(host_of(addr)).name)
        if suppressed is not None:
            self._log.warn(
                "{service}: {peer}: {reason}",
                service=self.service,
                peer=describe(addr),
                reason=reason,
            )
