"""The sending half of a stream: what is written, by whom, and what follows once it is sent."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from socket import SHUT_WR, socket
from typing import Any

from twisted.internet.abstract import _dataMustBeBytes, _LogOwner
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_DONE
from twisted.python import log
from twisted.python.failure import Failure

__all__ = ["Sending"]

# Up to this size parts are joined, which then costs less than to hand the system each of them.
_JOINED = 2**14


class Sending(_LogOwner):
    """What a stream knows of writing.

    :ivar unsent: whether the system would not take all yet that was written.

    What is written while a read is being worked through goes out together at the end of that, so
    that a program of many small writes does not pay for each; and what is written before uvloop's
    transport is there, once it is. At other times it goes out at once.
    """

    socket: socket
    protocol: Any
    reactor: Any
    connected = 0
    disconnected = 0
    disconnecting = 0
    reading = False
    unsent = False
    bufferSize = 2**16
    producer: Any = None
    producerPaused = False
    streamingProducer = False
    _aborting = False
    _writeDisconnecting = False
    _writeDisconnected = False
    # uvloop's transport, and whether it has been asked for.
    _native: Any = None
    _attached = False
    # Whether what is written is collected, and what there is.
    _collecting = True
    _collected: list[bytes]
    # Whether something is to be done once all is sent; and whether a turn for that is scheduled.
    _attentive = False
    _scheduled = False
    # How much was written in this turn. To the producer it is as if it were still there: one that
    # writes until it is paused would else keep the loop for as long as the peer keeps up.
    _written = 0

    def write(self, data: bytes) -> None:
        """Send bytes; what the system does not take now is kept."""
        if data.__class__ is not bytes:
            _dataMustBeBytes(data)
        if not self.connected or self._writeDisconnected:
            return
        if self._collecting:
            self._collected.append(data)
            if self._native is None:
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
        if self._collecting:
            self._collected += parts
            if self._native is None:
                self._watch()
        else:
            self._native.writelines(parts)
        if self._attentive:
            self._wrote(sum(map(len, parts)))

    def _flush(self) -> None:
        """Send what was collected."""
        parts, self._collected = self._collected, []
        if len(parts) == 1:
            self._native.write(parts[0])
        elif sum(map(len, parts)) <= _JOINED:
            self._native.write(b"".join(parts))
        else:
            self._native.writelines(parts)

    def loseWriteConnection(self) -> None:
        """Tell the peer, once everything is sent, that no more will be."""
        self._writeDisconnecting = self._attentive = True
        self._watch()

    def pause_writing(self) -> None:
        """uvloop: there are bytes that the system does not take yet."""
        self.unsent = True

    def resume_writing(self) -> None:
        """uvloop: there are none any more."""
        self.unsent = False
        if self._attentive:
            log.callWithLogger(self, self._drained)

    # Producers

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have a producer that is paused while there is too much to send, or asked for each part.

        :raises RuntimeError: there is one.
        """
        if self.producer is not None:
            raise RuntimeError(f"Cannot register {producer}: {self.producer} is still registered.")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        self._attentive = True
        if not streaming:
            producer.resumeProducing()
            # It is asked again even if what was written is sent already.
            self._watch()

    def unregisterProducer(self) -> None:
        """Have no producer any more; a close that waited for it goes on."""
        self.producer = None
        self.producerPaused = False
        self._attentive = bool(self.disconnecting or self._writeDisconnecting)
        if self._attentive:
            self._watch()

    def stopConsuming(self) -> None:
        """Close, on the word of the producer."""
        self.unregisterProducer()
        self.loseConnection()

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

    # What follows

    def _watch(self) -> None:
        """Have `_drained` called once all is sent, not before the next turn of the loop."""
        if self.connected and not self._scheduled and not self.unsent:
            self._scheduled = True
            self._soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._native is not None:
            if not self.unsent:
                self._drained()
        # uvloop begins by reading, paused or not, and who has paused at the very first may be about
        # to hand the descriptor on: so it is not given a socket with which there is nothing to do.
        elif (
            self.connected
            and not self._attached
            and (self.reading or self._collected or self._attentive)
        ):
            self._attach()

    def _drained(self) -> None:
        """Do what was to be done once all is sent."""
        if self.disconnected or self._aborting:
            return
        self._written = 0
        if self.producer is not None and (not self.streamingProducer or self.producerPaused):
            self.producerPaused = False
            self._guarded(self.producer.resumeProducing)
        elif self.disconnecting:
            self.connectionLost(Failure(CONNECTION_DONE))
        elif self._writeDisconnecting and not self._writeDisconnected:
            self._writeDisconnected = True
            try:
                self.socket.shutdown(SHUT_WR)
            except OSError:
                pass  # the connection is gone, which reading tells
            protocol = IHalfCloseableProtocol(self.protocol, None)
            if protocol is not None:
                self._guarded(protocol.writeConnectionLost)

    def _guarded(self, call: Callable[[], object]) -> None:
        """Call the program, and close if it raises."""
        try:
            call()
        except BaseException:
            self._failed()

    def _failed(self) -> None:
        """Close after an exception of the program's."""
        reason = Failure()
        log.err(reason)
        self.connectionLost(reason)

    def _soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Call something in the next turn of the loop."""
        self.reactor.loop.call_soon(log.callWithLogger, self, call, *arguments)

    # The rest of a stream

    @abstractmethod
    def _attach(self) -> None:
        """Give the socket to uvloop."""

    @abstractmethod
    def loseConnection(self) -> None:
        """Close once everything is sent, and the producer, if there is one, has ended."""

    @abstractmethod
    def connectionLost(self, reason: Failure) -> None:
        """Close, now, and tell the protocol."""
