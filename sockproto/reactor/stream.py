"""A TCP connection: Twisted's transport on one side, uvloop's on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from socket import IPPROTO_TCP, SHUT_WR, SO_KEEPALIVE, SOL_SOCKET, TCP_NODELAY, socket
from typing import Any, ClassVar

from twisted.internet._newtls import startTLS
from twisted.internet.abstract import _dataMustBeBytes, _LogOwner
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
from twisted.internet.tcp import _SocketCloser
from twisted.python import log
from twisted.python.context import theContextTracker
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Stream"]

# What goes through TLS once that has begun.
_SECURED = ("write", "writeSequence", "loseConnection", "registerProducer", "unregisterProducer")


@implementer(
    ITCPTransport,
    ITLSTransport,
    ISystemHandle,
    IConsumer,
    IPushProducer,
    IHalfCloseableDescriptor,
)
class Stream(_LogOwner, _SocketCloser):  # type: ignore[misc]
    """A connection that uvloop reads and writes.

    :param skt: connected. uvloop closes it, but options and addresses are asked of it.
    :param protocol: Twisted's.
    :param reactor: a `UvloopReactor`.
    :ivar reading: whether the protocol wants to be given data.
    :ivar unsent: whether the system would not take all yet that was written.

    It is itself the protocol of uvloop's transport, which is there from the next turn of the loop
    on; what is written until then is kept. What is written later goes out at once, so small
    writes must not wait for each other: as uvloop sets it, ``TCP_NODELAY`` is on.

    Its methods know nothing of TLS. Once that has begun, those that must go through it are
    replaced on the instance, and those of the class are what TLS itself calls.
    """

    connected = 0
    disconnected = 0
    disconnecting = 0
    TLS = False
    bufferSize = 2**16
    logstr = "Uninitialized"
    producer: Any = None
    producerPaused = False
    streamingProducer = False
    reading = False
    unsent = False
    _tlsClientDefault: ClassVar[bool]
    _aborting = False
    _writeDisconnecting = False
    _writeDisconnected = False
    # Whether the peer will send no more.
    _readDisconnected = False
    # uvloop's transport, and whether it has been asked for.
    _native: Any = None
    _attached = False
    # What came after a pause, with None for the end.
    _held: list[bytes | None] | None = None
    # Whether something is to be done once all is sent; and whether a turn for that is scheduled.
    _attentive = False
    _scheduled = False
    # How much was written in this turn: to the producer it is as if it were still there, for
    # else one that writes until it is paused would keep the loop for as long as the peer keeps up.
    _written = 0

    def __init__(self, skt: socket, protocol: Any, reactor: Any) -> None:
        self.socket = skt
        self.protocol = protocol
        self.reactor = reactor
        self._early: list[bytes] = []
        self._contexts: list[dict[Any, Any]] = []
        self._context: dict[Any, Any] = {}
        skt.setblocking(False)

    def attach(self, logstr: str) -> None:
        """Begin, by giving the socket to uvloop.

        :param logstr: what the log calls us.
        """
        self.logstr = logstr
        self.connected = 1
        self.reading = True
        self.reactor.streams.add(self)
        self._watch()

    def _attach(self) -> None:
        """Give the socket to uvloop, unless there is nothing to be done with it.

        It would begin to read, paused or not; and who has paused at the very first may be about
        to hand the descriptor on.
        """
        self._scheduled = False
        if self._attached or not (self.reading or self._early or self._attentive):
            return
        if self.connected:
            self._attached = True
            attaching = self.reactor.loop.connect_accepted_socket(lambda: self, self.socket)
            # To begin at once, and not a turn of the loop later, it is not made a task.
            attaching.send(None).add_done_callback(lambda _: _finish(attaching))

    # What uvloop calls

    def connection_made(self, native: Any) -> None:
        if self.disconnected:
            native.abort()
            return
        self._native = native
        # From any byte that the system does not take on we hear when all is sent.
        native.set_write_buffer_limits(0)
        self._contexts = theContextTracker.currentContext().contexts
        system = self._contexts[-1].get(log.ILogContext, {}) | {"system": self.logPrefix()}
        self._context = self._contexts[-1] | {log.ILogContext: system}
        early, self._early = self._early, []
        if early:
            native.writelines(early)
        if self._attentive:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if not self.reading:
            self._hold(data)
            return
        if self._written and not self.unsent:
            self._written = 0
        # As log.callWithLogger does it, at a tenth of the cost.
        contexts = self._contexts
        contexts.append(self._context)
        try:
            self.protocol.dataReceived(data)
        except BaseException:
            self._failed()
        finally:
            contexts.pop()

    def eof_received(self) -> bool:
        if self.reading:
            log.callWithLogger(self, self._ended)
        else:
            self._hold(None)
        return True  # or uvloop would close

    def pause_writing(self) -> None:
        self.unsent = True

    def resume_writing(self) -> None:
        self.unsent = False
        if self._attentive:
            log.callWithLogger(self, self._drained)

    def connection_lost(self, error: Exception | None) -> None:
        if self._aborting:
            self._lose(ConnectionAborted())
        else:
            self._lose(CONNECTION_DONE if error is None else CONNECTION_LOST)

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
        self._native.pause_reading()
        if self.connected and not (self.disconnecting or self._aborting):
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

    # Writing

    def write(self, data: bytes) -> None:
        """Send bytes; what the system does not take now is kept."""
        if data.__class__ is not bytes:
            _dataMustBeBytes(data)
        if not self.connected or self._writeDisconnected:
            return
        if self._native is None:
            self._early.append(data)
            self._watch()
        else:
            self._native.write(data)
        if self._attentive:
            self._wrote(len(data))

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send bytes that are in pieces, without joining them."""
        parts = list(iovec)
        for part in parts:
            _dataMustBeBytes(part)
        if not self.connected or self._writeDisconnected:
            return
        if self._native is None:
            self._early += parts
            self._watch()
        else:
            self._native.writelines(parts)
        if self._attentive:
            self._wrote(sum(map(len, parts)))

    def _wrote(self, size: int) -> None:
        """See to the producer, or to the end, after a write."""
        if not size:
            return
        if self.streamingProducer and self.producer is not None:
            self._written += size
            if self._written > self.bufferSize:
                if not self.producerPaused:
                    self.producerPaused = True
                    self._watch()
                self.producer.pauseProducing()
            if not self.disconnecting:
                return
        self._watch()

    def _watch(self) -> None:
        """Have `_drained` called once all is sent, not before the next turn of the loop."""
        if not self._scheduled and not self.unsent:
            self._scheduled = True
            self._soon(self._attach if self._native is None else self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if not self.unsent:
            self._drained()

    def _drained(self) -> None:
        """Do what was to be done once all is sent."""
        if self.disconnected or self._aborting:
            return
        self._written = 0
        if self.producer is not None and (not self.streamingProducer or self.producerPaused):
            self.producerPaused = False
            try:
                self.producer.resumeProducing()
            except BaseException:
                self._failed()
        elif self.disconnecting:
            self.connectionLost(Failure(CONNECTION_DONE))
        elif self._writeDisconnecting and not self._writeDisconnected:
            self._closeWriting()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have a producer that is paused while there is too much to send, or asked for each part.

        :raises RuntimeError: there is one.
        """
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} was never"
                " unregistered."
            )
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        self._attentive = True
        if not streaming:
            producer.resumeProducing()
            # What was written before may be sent already.
            self._watch()

    def unregisterProducer(self) -> None:
        """Have no producer any more; a close that waited for it goes on."""
        self.producer = None
        self.producerPaused = False
        self._attentive = bool(self.disconnecting or self._writeDisconnecting)
        if self.connected and self._attentive:
            self._watch()

    def stopConsuming(self) -> None:
        """Close, on the word of the producer."""
        self.unregisterProducer()
        self.loseConnection()

    # Closing

    def loseConnection(self) -> None:
        """Close once everything is sent, and the producer, if there is one, has ended."""
        if not self.connected or self.disconnecting:
            return
        self.stopReading()
        if self._writeDisconnected:
            self.connectionLost(Failure(CONNECTION_DONE))
        else:
            self.disconnecting = 1
            self._attentive = True
            self._watch()

    def loseWriteConnection(self) -> None:
        """Tell the peer, once everything is sent, that no more will be."""
        self._writeDisconnecting = True
        self._attentive = True
        self._watch()

    def abortConnection(self) -> None:
        """Close at once, with a reset; what was not sent is dropped."""
        if self.disconnected or self._aborting:
            return
        self._aborting = True
        self.stopReading()
        self._early.clear()
        if self._native is not None:
            self._native.abort()
        self._soon(self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        """Close, now, and tell the protocol."""
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
        self._early.clear()
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
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self.connectionLost(reason)
            return
        try:
            protocol.readConnectionLost()
        except BaseException:
            self._failed()

    def writeConnectionLost(self, reason: Failure) -> None:
        """Nothing more can be sent."""
        self.connectionLost(reason)

    def _closeWriting(self) -> None:
        self._writeDisconnected = True
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError:
            pass  # the connection is gone, which reading tells
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is not None:
            try:
                protocol.writeConnectionLost()
            except BaseException:
                self._failed()

    def _failed(self) -> None:
        """Close after an exception out of the program."""
        reason = Failure()
        log.err(reason)
        self.connectionLost(reason)

    def _lose(self, error: Exception) -> None:
        log.callWithLogger(self, self.connectionLost, Failure(error))

    def _soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Call something in the next turn of the loop."""
        self.reactor.loop.call_soon(log.callWithLogger, self, call, *arguments)

    # TLS

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

    # The socket

    def getHandle(self) -> Any:
        """Give the socket. It is for asking and setting, and neither to be read nor written."""
        return self.socket

    def fileno(self) -> int:
        """Give the socket's descriptor; -1 once it is closed."""
        return -1 if self.disconnected else self.socket.fileno()

    def logPrefix(self) -> str:
        """Tell what the log calls us."""
        return self.logstr

    def getTcpNoDelay(self) -> bool:
        """Tell whether small writes go out without waiting for others; they do at first."""
        return bool(self.socket.getsockopt(IPPROTO_TCP, TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Choose whether small writes wait for others."""
        self.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        """Tell whether the system looks after an idle connection."""
        return bool(self.socket.getsockopt(SOL_SOCKET, SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Choose whether the system looks after an idle connection."""
        self.socket.setsockopt(SOL_SOCKET, SO_KEEPALIVE, enabled)


def _finish(coroutine: Any) -> None:
    """Let a coroutine, which awaited one thing, come to its end."""
    try:
        coroutine.send(None)
    except StopIteration:
        pass
