"""The pipes between a command and its channel, in both directions."""

from __future__ import annotations

import array
import fcntl
import os
import termios
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReactorTime,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.interfaces import IChannel
from sockproto.wire.messages import MAX_DATA

__all__ = ["InputPipe", "OutputPipe"]

# What a drain time that ran out is extended by while there is something to be read.
_LATE_SECONDS = 0.1


class _State(Enum):
    WATCHED = "the reactor says when there is something"
    QUEUED = "there is something, and the turn has not come"
    WITHOUT_CREDIT = "the client has to read first"
    CLOSED = "closed"


@implementer(IReadDescriptor)
class OutputPipe:
    """Carries one output stream of a command to its channel, as credit and turns allow.

    While the client does not read, neither does this, and the command waits in its write: nothing
    is kept here.

    :param reactor: watches the descriptor.
    :param clock: measures the drain time.
    :param descriptor: the end to read from, non-blocking; it is closed here.
    :param channel: where to.
    :param stream: which of its streams.
    :param permit: asked how much of so many bytes may pass; the rest is dropped.
    :param finished: called with the stream once nothing more will come.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        clock: IReactorTime,
        descriptor: int,
        channel: IChannel,
        stream: int,
        permit: Callable[[int], int],
        finished: Callable[[int], None],
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._descriptor = descriptor
        self._channel = channel
        self._stream = stream
        self._permit = permit
        self._finished = finished
        self._discarding = False
        self._drainLeft: float | None = None
        self._drainTimer: IDelayedCall | None = None
        self._state = _State.WITHOUT_CREDIT

    @property
    def isClosed(self) -> bool:
        """Whether nothing more will come."""
        return self._state is _State.CLOSED

    def start(self) -> None:
        """Begin to carry."""
        self._watch()

    def creditReceived(self) -> None:
        """The client has read something."""
        if self._state is _State.WITHOUT_CREDIT:
            self._queue()

    def discard(self) -> None:
        """Read on, but pass nothing on any longer."""
        self._discarding = True
        if self._state in (_State.WITHOUT_CREDIT, _State.QUEUED):
            self._watch()

    def drain(self, seconds: float) -> None:
        """The command has ended: what it left in the pipe still counts, whoever else holds it
        has this long.  Only time counts in which the client waits and nothing comes."""
        self._drainLeft = seconds
        if self._state is _State.WATCHED:
            self._startDraining()

    def close(self) -> None:
        """Stop carrying; whoever still writes is told by a SIGPIPE."""
        if self._state is _State.CLOSED:
            return
        self._leaveWatched()
        self._state = _State.CLOSED
        os.close(self._descriptor)
        self._finished(self._stream)

    # The reactor's side

    def fileno(self) -> int:
        """The descriptor that is watched."""
        return -1 if self._state is _State.CLOSED else self._descriptor

    def logPrefix(self) -> str:
        """What the reactor calls this in its log."""
        return "command output"

    def doRead(self) -> None:
        """There is something to be read."""
        if self._discarding:
            self._read(MAX_DATA)
        elif self._channel.turns.free:
            self._carry()
        else:
            self._queue()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives the descriptor up."""
        self.close()

    # States

    def _watch(self) -> None:
        self._state = _State.WATCHED
        self._reactor.addReader(self)
        self._startDraining()

    def _leaveWatched(self) -> None:
        if self._state is _State.WATCHED:
            self._reactor.removeReader(self)
            self._pauseDraining()

    def _queue(self) -> None:
        self._leaveWatched()
        self._state = _State.QUEUED
        self._channel.turns.ready(self._turn)

    def _turn(self) -> bool:
        """Our turn has come.

        :return: whether to have another.
        """
        if self._state is not _State.QUEUED:
            return False
        more = self._carry()
        if not more and self._state is _State.QUEUED:
            self._watch()
        return more

    def _carry(self) -> bool:
        """Carry one frame's worth.

        :return: whether there may be more at once.
        """
        room = self._channel.sendable(self._stream)
        if not room:
            self._leaveWatched()
            self._state = _State.WITHOUT_CREDIT
            return False
        data = self._read(room)
        if not data:
            return False
        permitted = self._permit(len(data))
        if permitted:
            self._channel.write(self._stream, data[:permitted])
        return len(data) == room

    def _read(self, size: int) -> bytes | None:
        """Read what is there: nothing at the end of the stream, which closes it."""
        try:
            data = os.read(self._descriptor, size)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.close()
        return data

    # The drain time

    def _startDraining(self) -> None:
        if self._drainLeft is not None and self._drainTimer is None and not self.isClosed:
            self._drainTimer = self._clock.callLater(self._drainLeft, self._drained)

    def _pauseDraining(self) -> None:
        if self._drainTimer is not None:
            assert self._drainLeft is not None
            self._drainLeft = max(0.0, self._drainTimer.getTime() - self._clock.seconds())
            self._drainTimer.cancel()
            self._drainTimer = None

    def _drained(self) -> None:
        self._drainTimer = None
        if _waiting_bytes(self._descriptor):
            # The reactor was late: the time was not spent waiting.
            self._drainLeft = _LATE_SECONDS
            self._startDraining()
        else:
            self.close()


@implementer(IWriteDescriptor)
class InputPipe:
    """Carries stream 0 of a channel to a command; credit is granted as the command reads.

    :param reactor: says when the command has read something.
    :param descriptor: the end to write to, non-blocking; it is closed here.
    :param channel: the channel.
    """

    def __init__(self, reactor: IReactorFDSet, descriptor: int, channel: IChannel) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._channel = channel
        self._waiting: deque[bytes] = deque()
        self._started = False
        self._ended = False
        self._closed = False

    def start(self) -> None:
        """The command runs: pass on what came before."""
        self._started = True
        self.doWrite()

    def write(self, data: bytes) -> None:
        """Pass bytes on; the channel's credit bounds what waits here."""
        if self._closed:
            return
        self._waiting.append(data)
        if self._started and len(self._waiting) == 1:
            self.doWrite()

    def end(self) -> None:
        """There is no more: close once all is passed on."""
        self._ended = True
        if self._started and not self._waiting:
            self.close()

    def close(self) -> None:
        """Close now, whatever waits."""
        if not self._closed:
            self._closed = True
            self._waiting.clear()
            self._reactor.removeWriter(self)
            os.close(self._descriptor)

    def fileno(self) -> int:
        """The descriptor that is watched."""
        return -1 if self._closed else self._descriptor

    def logPrefix(self) -> str:
        """What the reactor calls this in its log."""
        return "command input"

    def doWrite(self) -> Any:
        """Pass on as much as the command takes."""
        passed = 0
        try:
            while self._waiting:
                data = self._waiting[0]
                count = os.write(self._descriptor, data)
                passed += count
                if count < len(data):
                    self._waiting[0] = data[count:]
                    break
                self._waiting.popleft()
        except BlockingIOError:
            pass
        except OSError:
            # The command reads no more.  What it has written is still to be read.
            self._channel.stop()
            self.close()
            return None
        if self._waiting:
            self._reactor.addWriter(self)
        else:
            self._reactor.removeWriter(self)
            if self._ended:
                self.close()
        if passed:
            self._channel.consumed(passed)
        return None

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw that the command reads no more."""
        if not self._closed:
            self._channel.stop()
            self.close()


def _waiting_bytes(descriptor: int) -> int:
    """How many bytes a pipe holds."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]
