"""Frames over a Twisted transport: a drop-in for `twisted.protocols.basic.Int32StringReceiver`."""

from __future__ import annotations

from struct import Struct
from typing import Any, Self

from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.basic import StringTooLongError
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.errors import FrameTooLong
from sockproto.outbox import BATCH_LIMIT, OrderedTransport, Outbox
from sockproto.wire.frames import HEADER_LENGTH, LARGEST_LENGTH, FrameDecoder

__all__ = ["FramedProtocol"]

_HEADER = Struct("!I")
_pack = _HEADER.pack
_unpack_from = _HEADER.unpack_from

# From this size on a payload is passed on beside its header instead of in one piece with it.
_COPY_LIMIT = 2**12


@implementer(IPushProducer)
class _Pressure:
    """Stops a protocol's reading while the transport has more to send than it wants to hold.

    It is apart from the protocol's own `pauseProducing`, so that neither undoes the other.
    """

    def __init__(self, protocol: FramedProtocol, outbox: Outbox) -> None:
        self._protocol = protocol
        self._outbox = outbox

    def pauseProducing(self) -> None:
        outbox = self._outbox
        if not outbox.full:
            outbox.full = outbox.stalled = True
            if not (outbox.closing or outbox.paused):
                outbox.transport.pauseProducing()

    def resumeProducing(self) -> None:
        outbox = self._outbox
        if outbox.full:
            outbox.full = False
            outbox.settle()
            if not outbox.stalled:
                outbox.transport.resumeProducing()
                self._protocol._deliverHeld()

    def stopProducing(self) -> None:
        self._outbox.pressure = None
        self._outbox.end()


class FramedProtocol(Protocol):
    """Sends and receives byte strings of up to `MAX_LENGTH`, each behind its length.

    Grammar: ``frame = uint32(length, big-endian) body[length]``, in either direction.

    The callbacks and attributes are those of `twisted.protocols.basic.Int32StringReceiver`. What is
    different:

    - The cost is linear in the bytes received, however they arrive, and what is held of a frame is
      at most 9/8 of what came of it.
    - `MAX_LENGTH` holds for what is sent too.
    - Nothing is delivered once the protocol has begun to close: after `loseConnection`,
      `abortConnection` or `stopProducing` here or on ``self.transport``, after
      `lengthLimitExceeded`, after an exception out of `stringReceived`, after `connectionLost`
      (override it with an upcall), and when the transport is ``disconnecting`` for any other
      reason. `loseConnection` lets go what was sent before it.
    - While one read is being worked through, what `sendString` is given is collected. It goes out
      in one piece at the end, or as soon as it is 64 KiB. At any other time it goes at once. The
      order is always that of the calls: before anything is done with ``self.transport``, what was
      collected is handed over. For that ``self.transport`` is an object of ours in front of the
      real one; who writes to the real one, having it from elsewhere, can overtake the batch.
    - ``structFormat`` and ``prefixLength`` only tell: a subclass cannot choose another header.

    :cvar MAX_LENGTH: the largest frame accepted or sent, in bytes; on the class or an instance; a
        change holds from the next header on. A peer can make us hold one such frame: 1 MiB stays
        within what a hostile connection may cost, and is far over what a message needs.
        (Twisted's default, 99999, is below a round 100 KiB.)
    :cvar backPressure: whether to stop reading and delivering while the transport has more to send
        than it wants to hold, as a protocol must that answers whatever it reads. It takes the
        transport's one place for a producer, from before ``connectionMade`` until the close. A
        protocol that has a producer of its own leaves this off, registers it with
        ``self.transport`` as ever, and calls `pauseProducing` and `resumeProducing` when that is
        told to pause and resume.
    :ivar paused: between `pauseProducing` and `resumeProducing`.
    """

    MAX_LENGTH = 2**20
    structFormat = "!I"
    prefixLength = HEADER_LENGTH
    backPressure = False

    # Class attributes instead of an __init__, which subclasses of Twisted's class do not call.
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
        out = self._out
        out.release_pressure()
        if self.backPressure:
            out.pressure = _Pressure(self, out)
            out.transport.registerProducer(out.pressure, True)
        self.connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: nothing more is delivered. Call this when overriding it."""
        self._out.end()
        self._out.parts.clear()
        self._held = None

    # What a subclass overrides.

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

    # What a subclass calls.

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
        self._out.lose_connection()

    def abortConnection(self) -> None:
        """Close the connection now, whatever is still to be sent, and deliver nothing more."""
        self._out.abort_connection()

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
        out = self._out
        out.begin_to_close()
        out.transport.stopProducing()

    @property
    def recvd(self) -> bytes:
        """The bytes received and not delivered yet; to set it has delivery go on from those."""
        held = self._held
        return self._data[self._offset :] + (b"" if held is None else held.unread)

    @recvd.setter
    def recvd(self, data: bytes) -> None:
        self._offset = 0
        self._held = None
        if self._delivering:
            self._data = data
            self._out.stalled = True  # has the loop in _deliver look
        else:
            self._data = b""
            self._hold(data, 0)

    # The work.

    def dataReceived(self, data: bytes) -> None:
        out = self._out
        if self._delivering:
            # From within stringReceived: goes behind what is being worked through.
            if data:
                self.recvd += data
        elif out.closing or out.watched.disconnecting:
            self._held = None
        elif self._held is None:
            if out.stalled:
                self._hold(data, 0)
            else:
                self._deliver(None, data, 0)
        else:
            self._held.feed(data)
            if not out.stalled:
                self._deliverFrom(self._held)

    def _deliverHeld(self) -> None:
        """Deliver what is held, after a pause."""
        held = self._held
        out = self._out
        if held is None or self._delivering or out.watched.disconnecting:
            return
        if getattr(out.transport, "disconnected", False):
            return  # and an override of connectionLost did not tell us
        try:
            self._deliverFrom(held)
        except BaseException:
            # Nobody closes the connection for us: this was not called to deliver a read.
            out.lose_connection()
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
                if out.stalled:
                    if self._data is not data or self._offset != offset:  # recvd was set
                        data = self._data
                        size = len(data)
                        offset = 0
                    out.settle()
                    if out.stalled:
                        break
                if watched.disconnecting:
                    break
        except BaseException:
            out.closing = True  # nobody is to call stringReceived again
            raise
        finally:
            self._delivering = out.open = False
            self._data = b""
            self._offset = 0
            if out.stalled or out.closing:
                out.settle()
            if offset < size and not out.closing:
                self._hold(data, offset)
            # Last, since a transport may answer at once.
            out.flush()

    def _hold(self, data: bytes, offset: int) -> None:
        """Keep what is left of a read for the next one."""
        if offset < len(data):
            self._held = FrameDecoder(self.MAX_LENGTH)
            self._held.feed(data, offset)

    def _exceeded(self, length: int) -> None:
        """Report a header over the limit, after which nothing more is parsed or kept."""
        self._out.closing = self._out.stalled = True
        self.lengthLimitExceeded(length)
        self._held = None
