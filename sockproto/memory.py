"""Connections in memory: two protocols whose bytes move when they are told to; for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.auth import AuthenticatingEndpoint, AuthenticatingFactory
from sockproto.credentials import Credentials
from sockproto.key import Key, new_key
from sockproto.keyring import Keyring
from sockproto.limits import Limits

__all__ = ["MemoryEndpoint", "MemoryServer", "MemoryTransport", "deferred_of"]

_T = TypeVar("_T")

# As much as a socket of Twisted's holds before it asks its producer to pause.
_BUFFER = 2**16


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """One end of a connection.

    :param protocol: what speaks on it.
    :param host: its own address.
    :param peer: the other end's.
    """

    def __init__(self, protocol: IProtocol, host: IAddress, peer: IAddress) -> None:
        self.protocol = protocol
        self.other: MemoryTransport
        self.disconnecting = False
        self._host, self._peer = host, peer
        self._buffer = bytearray()
        self._producer: Any = None
        self._streaming = True
        self._asked_to_pause = False
        self._paused = False
        self._end: Exception | None = None
        self.disconnected = False

    # What a protocol does with it

    def write(self, data: bytes) -> None:
        """Send."""
        if self.disconnecting:
            return
        self._buffer += data
        if self._streaming and self._producer is not None and len(self._buffer) > _BUFFER:
            self._ask_to_pause()

    def writeSequence(self, data: Any) -> None:
        """Send several pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once everything is sent."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """Close now."""
        self._buffer.clear()
        self.disconnecting = True
        self._producer = None
        self._end = ConnectionAborted()

    def getHost(self) -> IAddress:
        """Our address."""
        return self._host

    def getPeer(self) -> IAddress:
        """The other end's address."""
        return self._peer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have a producer write as there is room."""
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        self._producer, self._streaming, self._asked_to_pause = producer, streaming, False
        if self.disconnected:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        """There is no producer any longer."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Deliver nothing to the protocol."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Deliver again."""
        self._paused = False

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # What moves the bytes

    def move(self) -> bool:
        """Deliver to the other end what was sent, and the end of the connection.

        :return: whether there was anything to do.
        """
        if self.disconnected:
            return False
        if self._end is not None:
            self._over(self._end)
            self.other._over(ConnectionLost())
            return True
        if self._buffer:
            if self.other._paused and not self.other.disconnecting:
                return False
            data = bytes(self._buffer)
            self._buffer.clear()
            if not self.other.disconnected:
                self.other.protocol.dataReceived(data)
            return True
        if self._producer is not None:
            return self._ask_for_more()
        if self.disconnecting:
            self._over(ConnectionDone())
            self.other._over(ConnectionDone())
            return True
        return False

    def _ask_to_pause(self) -> None:
        if not self._asked_to_pause:
            self._asked_to_pause = True
            self._producer.pauseProducing()

    def _ask_for_more(self) -> bool:
        if self._streaming and not self._asked_to_pause:
            return False
        self._asked_to_pause = False
        self._producer.resumeProducing()
        return True

    def _over(self, reason: Exception) -> None:
        if self.disconnected:
            return
        self.disconnected = self.disconnecting = True
        self._buffer.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects to a server's factory without any socket.

    :param factory: what serves.
    :ivar listening: set it to ``False``, and connections are refused.
    """

    def __init__(self, factory: IProtocolFactory) -> None:
        self.factory = factory
        self.listening = True
        self._ends: list[MemoryTransport] = []
        self._count = 0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; bytes move with :meth:`flush` alone."""
        if not self.listening:
            return fail(RefusedError())
        self._count += 1
        here = IPv4Address("TCP", "127.0.0.1", 7100)
        there = IPv4Address("TCP", "127.0.0.1", 40_000 + self._count)
        server = self.factory.buildProtocol(there)
        client = protocolFactory.buildProtocol(here)
        if server is None or client is None:
            return fail(RefusedError())
        ends = MemoryTransport(server, here, there), MemoryTransport(client, there, here)
        ends[0].other, ends[1].other = ends[1], ends[0]
        self._ends += ends
        for end in ends:
            end.protocol.makeConnection(end)
        return succeed(client)

    def move(self) -> bool:
        """Move what is to be moved now, one step.

        :return: whether there was anything.
        """
        moved = [end.move() for end in self._ends]
        self._ends = [end for end in self._ends if not end.disconnected]
        return any(moved)

    def break_connections(self) -> None:
        """Break every connection, as when a cable is cut and noticed."""
        for end in self._ends:
            end.abortConnection()


class MemoryServer:
    """A factory behind the login, in memory.

    :param factory: what to serve to those who log in.
    :param service: the service's name.
    :param key: with which they do; a new one of the identity ``owner`` unless given.
    :param server_id: the server's name.
    :param clock: what both sides have for a reactor.
    :param limits: the login's deadline among them.
    :ivar endpoint: connects to the login, for programs that bring their own client.
    :ivar clock: time passes by its ``advance``.
    """

    def __init__(
        self,
        factory: IProtocolFactory,
        service: str = "agent",
        *,
        key: Key | None = None,
        server_id: str = "memory",
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.key = new_key("owner") if key is None else key
        self.clock = Clock() if clock is None else clock
        self.service = service
        self.server_id = server_id
        self.endpoint = MemoryEndpoint(
            AuthenticatingFactory(
                self.clock, factory, Keyring([self.key]), service, server_id, limits
            )
        )

    def log_in(self, factory: IProtocolFactory) -> IProtocol:
        """Connect a client and log it in.

        :param factory: builds what the client speaks behind the login.
        :return: what it has built.
        """
        credentials = Credentials(self.key, self.service, self.server_id)
        return self.wait(
            AuthenticatingEndpoint(self.clock, self.endpoint, credentials).connect(factory)
        )

    def flush(self) -> None:
        """Move bytes between the two sides until there are no more."""
        self.clock.advance(0)
        while self.endpoint.move():
            self.clock.advance(0)

    def wait(self, result: Awaitable[_T]) -> _T:
        """Move bytes, and give what came of something.

        :param result: a coroutine or a Deferred.
        :raises AssertionError: nothing has come of it yet.
        """
        outcome: list[_T | Failure] = []
        deferred_of(result).addBoth(outcome.append)
        self.flush()
        if not outcome:
            raise AssertionError(
                "nothing has come of this yet: is a command still to finish, or time to pass?"
            )
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]

    def break_connections(self) -> None:
        """Break every connection: both sides notice that it is lost."""
        self.endpoint.break_connections()
        self.flush()


def deferred_of(result: Awaitable[_T]) -> Deferred[_T]:
    """What a coroutine comes to."""
    if isinstance(result, Deferred):
        return result
    assert isinstance(result, Coroutine), f"expected a coroutine or a Deferred, found {result!r}"
    return Deferred.fromCoroutine(result)
