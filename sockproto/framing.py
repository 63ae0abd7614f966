"""Frames over a Twisted transport: a drop-in for `twisted.protocols.basic.Int32StringReceiver`."""

from __future__ import annotations

from struct import Struct
from typing import Any, Self

from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.basic import StringTooLongError
from twisted.python.failure import Failure

from sockproto.errors import FrameTooLong
from sockproto.outbox import BATCH_LIMIT, OrderedTransport, Outbox
from sockproto.wire.frames import HEADER_LENGTH, LARGEST_LENGTH, FrameDecoder

__all__ = ["FramedProtocol"]

_pack = Struct("!I").pack
_unpack_from = Struct("!I").unpack_from

# From this size on a payload is passed on beside its header instead of in one piece with it.
_COPY_LIMIT = 2**12


class FramedProtocol(Protocol):
    """Sends and receives byte strings of up to `MAX_LENGTH`, each behind its length.

    Grammar: ``frame = uint32(length, big-endian) body[length]``, in either direction.

    As `twisted.protocols.basic.Int32StringReceiver`, and beyond it:

    - The cost is linear in the bytes received, and what is held is at most 9/8 of what came.
    - `MAX_LENGTH` holds for what is sent too.
    - Nothing is delivered once the protocol has begun to close: after `loseConnection`,
      `abortConnection` or `stopProducing`, here or on ``self.transport``, after
      `lengthLimitExceeded`, an exception out of `stringReceived`, or `connectionLost` (override it
      with an upcall), and when the transport is ``disconnecting`` for any other reason.
      `loseConnection` lets go what was sent before it.
    - While one read is being worked through, what `sendString` is given is collected. It goes out
      in one piece at the end, or as soon as it is 64 KiB; at any other time at once. The order is
      always that of the calls: before anything is done with ``self.transport``, what was collected
      is handed over. For that it is an object of ours in front of the real one; who writes to the
      real one, having it from elsewhere, can overtake the batch.
    - ``structFormat`` and ``prefixLength`` only tell: a subclass cannot choose another header.

    :cvar MAX_LENGTH: the largest frame accepted or sent, in bytes; on the class or an instance; a
        change holds from the next header on. A peer can make us hold one such frame: 1 MiB stays
        within what a hostile connection may cost, and is far over what a message needs.
        (Twisted's default, 99999, is below a round 100 KiB.)
    :cvar backPressure: whether to stop reading and delivering while the transport has more to send
        than it wants to hold, as a protocol must that answers whatever it reads. It takes the
        transport's one place for a producer, from before ``connectionMade`` until the close. With a
        producer of your own leave it off, register that with ``self.transport`` as ever, and
        call `pauseProducing` and `resumeProducing` when it is told to pause and resume.
    :ivar paused: between `pauseProducing` and `resumeProducing`.
    """

    MAX_LENGTH = 2**20
    structFormat = "!I"
    prefixLength = HEADER_LENGTH
    backPressure = False

    # No __init__: subclasses of Twisted's class do not call it.
    _out: Outbox
    _facade: OrderedTransport | None = None
    _delivering = False
    # The read being worked through, and where its next header begins.
    _data = b""
    _offset = 0
    # What is left over between reads, if anything.
    _held: FrameDecoder | None = None

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        protocol = super().__new__(cls)
        protocol._out = Outbox(None)
        return protocol

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if (cls.structFormat, cls.prefixLength) != ("!I", HEADER_LENGTH):
            raise TypeError(f"{cls.__name__}: frames have a length of structFormat '!I', always")

    @property
    def transport(self) -> Any:
        """The transport. To use it flushes what was collected, see above."""
        facade = self._facade
        if facade is None and self._out.transport is not None:
            facade = self._facade = OrderedTransport(self._out)
        return facade

    @transport.setter
    def transport(self, transport: Any) -> None:
        if isinstance(transport, OrderedTransport):
            # A connection handed on by another framed protocol: one order for both.
            self._facade, self._out = transport, transport._outbox
        else:
            paused = self.paused
            self._facade, self._out = None, Outbox(transport)
            self.paused = paused

    @property
    def paused(self) -> bool:
        return self._out.paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._out.paused = paused
        self._out.settle()

    def makeConnection(self, transport: ITransport) -> None:
        self.transport = transport
        self.connected = 1
        self._out.releasePressure()
        if self.backPressure:
            self._out.press(self._deliverHeld)
        self.connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: nothing more is delivered. Call this when overriding it."""
        self._out.end()
        self._out.drop()
        self._held = None

    def stringReceived(self, string: bytes) -> None:
        """A frame has arrived.

        :param string: its body.
        """
        raise NotImplementedError

    def lengthLimitExceeded(self, length: int) -> None:
        """A header announces more than `MAX_LENGTH`; nothing is read any more after that.

        This closes the connection. An override may look at `recvd`, which begins with the header.

        :param length: what the header announces, in bytes.
        """
        self.loseConnection()

    def sendString(self, string: bytes) -> None:
        """Send a frame.

        :param string: its body; anything but ``bytes`` is copied.
        :raises StringTooLongError: it is longer than `MAX_LENGTH`; nothing was sent.
        """
        if type(string) is not bytes:
            string = bytes(memoryview(string))
        length = len(string)
        if length > self.MAX_LENGTH or length > LARGEST_LENGTH:
            raise StringTooLongError(
                f"cannot send a frame of {length} bytes: the limit is {self.MAX_LENGTH}"
            )
        out = self._out
        if out.open:
            if length < _COPY_LIMIT:
                out.parts.append(_pack(length) + string)
            else:
                out.parts += (_pack(length), string)
            out.size = size = out.size + length + 4
            if size >= BATCH_LIMIT:
                out.flush()
        elif length < _COPY_LIMIT:
            out.transport.write(_pack(length) + string)
        else:
            out.transport.writeSequence((_pack(length), string))

    def loseConnection(self) -> None:
        """Close the connection once everything sent has gone out, and deliver nothing more."""
        self._out.loseConnection()

    def abortConnection(self) -> None:
        """Close the connection now, whatever is still to be sent, and deliver nothing more."""
        self._out.abortConnection()

    def pauseProducing(self) -> None:
        """Stop reading and delivering, within a read as well."""
        self.paused = True
        self._out.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Deliver what is there, and read on; within `stringReceived`, once that has returned."""
        self.paused = False
        out = self._out
        if not out.stalled:
            out.transport.resumeProducing()
            self._deliverHeld()

    def stopProducing(self) -> None:
        """Close the connection, as the transport's own ``stopProducing`` does."""
        self.paused = True
        self._out.beginToClose()
        self._out.transport.stopProducing()

    @property
    def recvd(self) -> bytes:
        """The bytes received and not delivered yet; to set it has delivery go on from those."""
        held = self._held
        return self._data[self._offset :] + (b"" if held is None else held.unread)

    @recvd.setter
    def recvd(self, data: bytes) -> None:
        self._held = None
        if self._delivering:
            # A new object always: that is what the loop in _deliver looks at.
            self._data = bytes(bytearray(data))
            self._offset = 0
        elif data:
            self._hold(data, 0)

    def dataReceived(self, data: bytes) -> None:
        out = self._out
        if self._delivering:
            # From within stringReceived: goes behind what is being worked through.
            if data:
                self.recvd += data
        elif out.closing or out.watched.disconnecting:
            self._held = None
        elif self._held is None:
            if not out.stalled:
                self._deliver(None, data, 0)
            elif data:
                self._hold(data, 0)
        else:
            self._held.feed(data)
            if not out.stalled:
                self._deliverFrom(self._held)

    def _deliverHeld(self) -> None:
        """Deliver what is held, after a pause."""
        held = self._held
        out = self._out
        if held is None or out.gone():
            return  # within stringReceived nothing is held: the loop there goes on by itself
        try:
            self._deliverFrom(held)
        except BaseException:
            # Nobody closes the connection for us: this was not called to deliver a read.
            out.loseConnection()
            raise

    def _deliverFrom(self, held: FrameDecoder) -> None:
        """Deliver the frame that was arriving, if it is complete, and what is behind it."""
        held.limit = self.MAX_LENGTH
        try:
            frame = held.next_frame()
        except FrameTooLong as tooLong:
            self._exceeded(tooLong.length)
            return
        if frame is not None:
            data, offset = held.release()
            self._held = None
            self._deliver(frame, data, offset)

    def _deliver(self, frame: bytes | None, data: bytes, offset: int) -> None:
        """Deliver frames until there is none complete, or something has happened.

        :param frame: the first, if it did not arrive with the rest.
        :param data: the read.
        :param offset: where in it the next header begins.
        """
        out = self._out
        watched = out.watched
        size = len(data)
        self._data = data
        self._delivering = out.open = True
        try:
            while True:
                if frame is None:
                    start = offset + 4
                    if start > size:
                        break
                    (length,) = _unpack_from(data, offset)
                    if length > self.MAX_LENGTH:
                        self._offset = offset
                        self._exceeded(length)
                        break
                    end = start + length
                    if end > size:
                        break
                    frame = data[start:end]
                    offset = end
                self._offset = offset
                self.stringReceived(frame)
                frame = None
                if self._data is not data:  # recvd was set
                    data = self._data
                    size = len(data)
                    offset = 0
                if out.stalled or watched.disconnecting:
                    break
        except BaseException:
            out.closing = out.stalled = True
            raise
        finally:
            self._delivering = out.open = False
            self._data = b""
            self._offset = 0
            if offset < size and not out.closing:
                held = self._hold(data, offset)
                if not (out.stalled or watched.disconnecting):
                    held.next_frame()  # not there yet; but its header, if it is, was accepted
            # Last, since a transport may answer at once.
            out.flush()

    def _hold(self, data: bytes, offset: int) -> FrameDecoder:
        """Keep what is left of a read for the next one."""
        self._held = held = FrameDecoder(self.MAX_LENGTH)
        held.feed(data, offset)
        return held

    def _exceeded(self, length: int) -> None:
        """Report a header over the limit, after which nothing more is parsed or kept."""
        self._out.closing = self._out.stalled = True
        self.lengthLimitExceeded(length)
        self._held = None
