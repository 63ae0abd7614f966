"""Connections in memory for the tests of the login: two ends, real TLS if wanted, no reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.auth.tls import ClientTLS, tlsFactory
from sockproto.key import Key
from sockproto.keyring import Keyring
from sockproto.wire.frames import encode_frame
from sockproto.wire.handshake import Binding, ClientHandshake

SECRET = bytes(range(100, 132))
KEY = Key("k1", identity="ops", secret=SECRET, groups=("monitoring",))
KEYS = Keyring([KEY])
PEER = IPv4Address("TCP", "192.0.2.7", 40000)
SERVICE = "echo"
SERVER = "web1"


@implementer(ITCPTransport)
class End:
    """One end of a connection: a transport as TCP's is, but nothing moves unless it is told to."""

    def __init__(self, peer: object = PEER) -> None:
        self.peer = peer
        self.protocol: Any = None
        self.other: End | None = None
        self.sent = b""
        self.outgoing = b""
        self.connected = True
        self.disconnecting = False
        self.aborted = False
        self.stuck = False
        self.writeClosed = False
        self.paused = False
        self.producer: Any = None
        self.delay: bool | None = None

    def attach(self, protocol: Any) -> End:
        """Connect a protocol with this end."""
        self.protocol = protocol
        protocol.makeConnection(self)
        return self

    def write(self, data: bytes) -> None:
        if self.connected and not (self.disconnecting or self.writeClosed):
            self.sent += data
            self.outgoing += data

    def writeSequence(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True
        self.outgoing = b""

    def loseWriteConnection(self) -> None:
        self.writeClosed = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.delay = not enabled

    def getTcpNoDelay(self) -> bool:
        return not self.delay

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """No such thing in memory."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def getPeer(self) -> Any:
        return self.peer

    def getHost(self) -> Any:
        return IPv4Address("TCP", "192.0.2.1", 7100)

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone, as far as this end is concerned."""
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(error or ConnectionDone()))

    def move(self) -> bool:
        """Carry what this end has sent to the other; tell whether anything happened."""
        assert self.other is not None
        other = self.other
        data, self.outgoing = self.outgoing, (self.outgoing if self.stuck else b"")
        if data and not self.stuck:
            if other.connected and not other.disconnecting:
                other.protocol.dataReceived(data)
            return True
        if self.connected and self.aborted:
            self.lose(ConnectionAborted())
            other.lose(ConnectionLost())
            return True
        if self.connected and self.disconnecting and not self.outgoing:
            self.lose()
            other.lose()
            return True
        if self.writeClosed and self.connected and not self.outgoing and other.connected:
            self.writeClosed = False
            if IHalfCloseableProtocol.providedBy(other.protocol):
                other.protocol.readConnectionLost()
            else:
                other.loseConnection()
            return True
        return False


def join(server: Any, client: Any) -> tuple[End, End]:
    """Connect two protocols, the server's first."""
    there, here = End(), End()
    there.other, here.other = here, there
    there.attach(server)
    here.attach(client)
    return there, here


def pump(clock: Clock, *ends: End) -> None:
    """Carry bytes until there are none left."""
    for _ in range(1000):
        clock.advance(0)
        moved = sum(end.move() for end in ends)
        if not moved and not any(
            call.getTime() <= clock.seconds() for call in clock.getDelayedCalls()
        ):
            return
    raise AssertionError("these two never stop")


class Echo(Protocol):
    """Answers what it reads, and remembers what befell it."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Silent(Echo):
    """Remembers what it reads."""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class Spy(Factory):
    """Remembers what it was made to build.

    :param make: makes a protocol.
    """

    noisy = False

    def __init__(self, make: Callable[[], Any] = Echo) -> None:
        self.make = make
        self.built: list[Any] = []

    def buildProtocol(self, addr: object) -> Any:
        protocol = self.make()
        self.built.append(protocol)
        return protocol


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """A client endpoint whose connection the test makes.

    :param wrap: puts something around the factory, such as TLS.
    """

    def __init__(self, wrap: Callable[[Any], Any] = lambda factory: factory) -> None:
        self.wrap = wrap
        self.cancelled = False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.factory = self.wrap(protocolFactory)
        self.attempt: Deferred[IProtocol] = Deferred(self._cancel)
        return self.attempt

    def _cancel(self, _attempt: object) -> None:
        self.cancelled = True

    def build(self) -> Any:
        """The client's protocol, not connected yet."""
        return self.factory.buildProtocol(PEER)

    def connected(self, end: End | None = None) -> End:
        """The connection is there, and the attempt succeeds."""
        end = (end or End()).attach(self.build())
        self.attempt.callback(end.protocol)
        return end


def overClientTLS(clock: Clock) -> Callable[[Any], TLSMemoryBIOFactory]:
    """Puts TLS around a client's factory."""
    return lambda factory: TLSMemoryBIOFactory(ClientTLS(), True, factory, clock)


def overServerTLS(clock: Clock, context: Any) -> Callable[[Any], TLSMemoryBIOFactory]:
    """Puts TLS around a server's factory."""
    return lambda factory: tlsFactory(clock, context, factory)


def handshake(key: Key = KEY, **other: Any) -> ClientHandshake:
    """A client's side of the login, for the server that these tests have."""
    settings: dict[str, Any] = {
        "key_id": key.id,
        "secret": key.secret,
        "service": SERVICE,
        "server_id": SERVER,
        "client_id": "tester",
        "binding": Binding.NONE,
    }
    return ClientHandshake(**{**settings, **other})


def authFor(hello: bytes, client: ClientHandshake | None = None) -> bytes:
    """The right AUTH, as a frame, for a HELLO that came as a frame."""
    return encode_frame((client or handshake()).receive_hello(hello[4:], b""))
