"""A TCP connection: Twisted's transport on one side, uvloop's on the other."""

from __future__ import annotations

from socket import socket
from typing import Any, ClassVar

from twisted.internet._newtls import startTLS
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Connection, _SocketCloser
from twisted.python import log
from twisted.python.context import theContextTracker
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.reactor.sending import Sending

__all__ = ["Stream"]

# What goes through TLS once that has begun.
_SECURED = ("write", "writeSequence", "loseConnection", "registerProducer", "unregisterProducer")


@implementer(ITCPTransport, ITLSTransport, ISystemHandle)
@implementer(IConsumer, IPushProducer, IHalfCloseableDescriptor)
class Stream(Sending, _SocketCloser):  # type: ignore[misc]
    """A connection that uvloop reads and writes.

    :param skt: connected. uvloop closes it, but options and addresses are asked of it.
    :param protocol: Twisted's.
    :param reactor: a `UvloopReactor`.
    :ivar reading: whether the protocol wants to be given data.

    It is itself the protocol of uvloop's transport, which is there a turn of the loop later. Since
    what is written goes out at once, small writes must not wait for each other, so ``TCP_NODELAY``
    is on, as uvloop sets it.

    Its methods know nothing of TLS. Once that has begun, those that must go through it are
    replaced on the instance, and those of the class are what TLS itself calls.
    """

    TLS = False
    logstr = "Uninitialized"
    _tlsClientDefault: ClassVar[bool]
    # Whether the peer will send no more.
    _readDisconnected = False
    # What came after a pause, with None for the end.
    _held: list[bytes | None] | None = None

    def __init__(self, skt: socket, protocol: Any, reactor: Any) -> None:
        self.socket = skt
        self.protocol = protocol
        self.reactor = reactor
        self._collected = []
        self._contexts: list[dict[Any, Any]] = []
        self._context: dict[Any, Any] = {}
        skt.setblocking(False)

    def begin(self, logstr: str) -> None:
        """Begin to read.

        :param logstr: what the log calls us.
        """
        self.logstr = logstr
        self.connected = 1
        self.reading = True
        self.reactor.streams.add(self)
        self._watch()

    def _attach(self) -> None:
        self._attached = True
        attaching = self.reactor.loop.connect_accepted_socket(lambda: self, self.socket)
        # To begin at once, and not a turn of the loop later, it is not made a task.
        attaching.send(None).add_done_callback(lambda _: _finish(attaching))

    # What uvloop calls, apart from pause_writing and resume_writing

    def connection_made(self, native: Any) -> None:
        """uvloop: the transport is there."""
        if self.disconnected:
            native.abort()
            return
        self._native = native
        # From any byte that the system does not take on we hear when all is sent.
        native.set_write_buffer_limits(0)
        self._contexts = theContextTracker.currentContext().contexts
        system = self._contexts[-1].get(log.ILogContext, {}) | {"system": self.logPrefix()}
        self._context = self._contexts[-1] | {log.ILogContext: system}
        self._collecting = False
        if self._collected:
            self._flush()
        if self._attentive:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """uvloop: there is data."""
        if not self.reading:
            self._hold(data)
            return
        if self._written and not self.unsent:
            self._written = 0
        # As log.callWithLogger does it, at a tenth of the cost.
        contexts = self._contexts
        contexts.append(self._context)
        self._collecting = True
        try:
            self.protocol.dataReceived(data)
        except BaseException:
            self._failed()
        finally:
            contexts.pop()
            self._collecting = False
            if self._collected:
                self._flush()

    def eof_received(self) -> bool:
        """uvloop: the peer will send no more."""
        if self.reading:
            log.callWithLogger(self, self._ended)
        else:
            self._hold(None)
        return True  # or uvloop would close

    def connection_lost(self, error: Exception | None) -> None:
        """uvloop: the transport is closed."""
        if not self.disconnected:
            lost = CONNECTION_DONE if error is None else CONNECTION_LOST
            reason = Failure(ConnectionAborted() if self._aborting else lost)
            log.callWithLogger(self, self.connectionLost, reason)

    # Reading

    def startReading(self) -> None:
        """Take data from the peer."""
        if self.reading or not self.connected or self._readDisconnected or self._aborting:
            return
        self.reading = True
        if self._held is not None:
            self._soon(self._release)
        elif self._native is not None:
            self._native.resume_reading()
        else:
            self._watch()

    def stopReading(self) -> None:
        """Take none."""
        self.reading = False
        if self._native is not None:
            self._native.pause_reading()

    def resumeProducing(self) -> None:
        """Take data from the peer, unless we are closing."""
        if not self.disconnecting:
            self.startReading()

    def pauseProducing(self) -> None:
        """Take no data until `resumeProducing`."""
        self.stopReading()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def _hold(self, data: bytes | None) -> None:
        """Keep what came after a pause: uvloop begins to read whatever was said before."""
        if self.connected and not (self.disconnecting or self._aborting):
            self._native.pause_reading()
            self._held = [*(self._held or ()), data]

    def _release(self) -> None:
        """Deliver what was kept, and go on reading."""
        while self.reading and self._held:
            data = self._held.pop(0)
            if data is None:
                self._ended()
            else:
                self.data_received(data)
        if self.reading:
            self._held = None
            self._native.resume_reading()

    def _ended(self) -> None:
        self.reading = False
        self._readDisconnected = True
        self.readConnectionLost(Failure(CONNECTION_DONE))

    # Closing

    def loseConnection(self) -> None:
        if not self.connected or self.disconnecting:
            return
        self.stopReading()
        if self._writeDisconnected:
            self.connectionLost(Failure(CONNECTION_DONE))
        else:
            self.disconnecting = 1
            self._attentive = True
            self._watch()

    def abortConnection(self) -> None:
        """Close at once, with a reset; what was not sent is dropped."""
        if self.disconnected or self._aborting:
            return
        self._aborting = True
        self.stopReading()
        self._collected.clear()
        if self._native is not None:
            self._native.abort()
        self._soon(self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        self.disconnected = 1
        self.connected = 0
        self.reading = self.unsent = False
        self.reactor.streams.discard(self)
        for name in _SECURED:
            self.__dict__.pop(name, None)
        if self.producer is not None:
            self.producer.stopProducing()
            self.producer = None
        self._collected.clear()
        self._held = None
        # The socket itself is closed by uvloop, after this turn of the loop.
        self._closeSocket(not reason.check(ConnectionAborted))
        native, self._native = self._native, None
        if native is not None:
            native.abort()
        protocol = self.protocol
        del self.protocol
        del self.socket
        protocol.connectionLost(reason)

    def readConnectionLost(self, reason: Failure) -> None:
        """The peer will send no more: close, unless the protocol can go on so."""
        protocol: Any = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self.connectionLost(reason)
        else:
            self._guarded(protocol.readConnectionLost)

    def writeConnectionLost(self, reason: Failure) -> None:
        """Nothing more can be sent: close."""
        self.connectionLost(reason)

    # TLS, and the socket

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Put TLS between the protocol and us.

        :param normal: whether who connected is TLS's client.
        """
        producer, streaming = self.producer, self.streamingProducer
        if producer is not None:
            self.unregisterProducer()
        startTLS(self, contextFactory, normal, Stream)
        for name in _SECURED:
            setattr(self, name, getattr(self.protocol, name))
        if producer is not None:
            self.registerProducer(producer, streaming)

    def getHandle(self) -> Any:
        """Give the socket. It is for asking and setting, and neither to be read nor written."""
        return self.socket

    def fileno(self) -> int:
        """Give the socket's descriptor; -1 once it is closed."""
        return -1 if self.disconnected else self.socket.fileno()

    def logPrefix(self) -> str:
        """Tell what the log calls us."""
        return self.logstr

    getTcpNoDelay = Connection.getTcpNoDelay
    setTcpNoDelay = Connection.setTcpNoDelay
    getTcpKeepAlive = Connection.getTcpKeepAlive
    setTcpKeepAlive = Connection.setTcpKeepAlive


def _finish(coroutine: Any) -> None:
    """Let a coroutine, which awaited one thing, come to its end."""
    try:
        coroutine.send(None)
    except StopIteration:
        pass
