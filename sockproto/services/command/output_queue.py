"""Output that is here already, on its way to a channel as credit and turns allow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred

from sockproto.interfaces import IChannel
from sockproto.wire.messages import Stream

__all__ = ["OutputQueue", "StreamStopped"]

_STREAMS = (Stream.OUT, Stream.ERR)


class StreamStopped(BrokenPipeError):
    """The client wants no more of a stream: what a program would be told by a SIGPIPE."""

    def __init__(self) -> None:
        super().__init__("the client wants no more of this stream")


@define(eq=False)
class _Piece:
    """Something to be sent.

    :ivar sent: fires once it is; ``None``: nobody waits.
    """

    rest: memoryview
    sent: Deferred[None] | None


@define(eq=False)
class _Line:
    """What waits of one stream."""

    pieces: deque[_Piece] = field(factory=deque)
    stopped: bool = False
    ended: bool = False


class OutputQueue:
    """Sends what it is given, on the streams 1 and 2 of a channel.

    Nothing holds back who writes but what :meth:`write` returns: it has to be waited for.

    :param channel: where to.
    :param drained: called each time when nothing waits any longer.
    :ivar waiting: how many bytes wait.
    """

    def __init__(self, channel: IChannel, drained: Callable[[], None]) -> None:
        self._channel: IChannel | None = channel
        self._drained = drained
        self._lines = {stream: _Line() for stream in _STREAMS}
        self.waiting = 0

    @property
    def isClosed(self) -> bool:
        """Whether nobody is there any longer."""
        return self._channel is None

    def stopped(self, stream: int) -> bool:
        """Whether the client wants no more of a stream."""
        return self._lines[Stream(stream)].stopped

    def put(self, stream: int, data: bytes) -> None:
        """Send bytes; nobody waits for that."""
        self._put(stream, _Piece(memoryview(data), None))

    def write(self, stream: int, data: bytes) -> Deferred[None]:
        """Send bytes.

        :return: fires once they are sent, or dropped because nobody is there any longer; fails with
            :class:`StreamStopped` if the client does not want them.
        """
        sent: Deferred[None] = Deferred()
        self._put(stream, _Piece(memoryview(data), sent))
        return sent

    def _put(self, stream: int, piece: _Piece) -> None:
        line = self._lines[Stream(stream)]
        if self._channel is None or not piece.rest or line.stopped:
            _settle(piece, line.stopped and self._channel is not None)
            return
        line.pieces.append(piece)
        self.waiting += len(piece.rest)
        self._channel.ready(self._turn)

    def end(self) -> None:
        """Say on both streams that no more will come; everything has been sent."""
        for stream, line in self._lines.items():
            if self._channel is not None and not line.ended:
                line.ended = True
                self._channel.end(stream)

    def creditReceived(self) -> None:
        """More may be sent."""
        if self._channel is not None and self.waiting:
            self._channel.ready(self._turn)

    def stop(self, stream: int) -> None:
        """The client wants no more of a stream."""
        line = self._lines.get(Stream(stream))
        if line is None or line.stopped:
            return
        line.stopped = True
        self._drop(line, True)

    def discard(self) -> None:
        """Drop what waits and whatever will be written: nobody is there any longer."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.withdraw(self._turn)
        for line in self._lines.values():
            self._drop(line, False)

    def _drop(self, line: _Line, stopped: bool) -> None:
        pieces, line.pieces = line.pieces, deque()
        if not pieces:
            return
        self.waiting -= sum(len(piece.rest) for piece in pieces)
        for piece in pieces:
            _settle(piece, stopped)
        if not self.waiting:
            self._drained()

    def _turn(self) -> bool:
        """Send one frame; whether there is more that may be sent."""
        channel = self._channel
        if channel is None:
            return False
        for stream, line in self._lines.items():
            room = channel.sendable(stream) if line.pieces else 0
            if not room:
                continue
            piece = line.pieces[0]
            data, piece.rest = bytes(piece.rest[:room]), piece.rest[room:]
            self.waiting -= len(data)
            if not piece.rest:
                line.pieces.popleft()
            channel.write(stream, data)
            if not piece.rest:
                _settle(piece, False)
            if not self.waiting:
                self._drained()
            return self.waiting > 0
        return False


def _settle(piece: _Piece, stopped: bool) -> None:
    """Tell who waits for a piece that it is through with."""
    sent, piece.sent = piece.sent, None
    if sent is None or sent.called:
        return
    if stopped:
        sent.errback(StreamStopped())
    else:
        sent.callback(None)
