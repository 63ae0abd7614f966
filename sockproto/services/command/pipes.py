"""The pipes between a command and its channel, in both directions."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from enum import Enum

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
    UNSTARTED = "the command does not run yet"
    WATCHED = "the reactor says when there is something"
    QUEUED = "there is something, and the turn has not come"
    WITHOUT_CREDIT = "there is something, and the client has to read first"
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
        self._state = _State.UNSTARTED

    @property
    def isClosed(self) -> bool:
        """Whether nothing more will come."""
        return self._state is _State.CLOSED

    def start(self) -> None:
        """The command runs: begin to carry, unless this has been closed already."""
        if self._state is _State.UNSTARTED:
            self._enter(_State.WATCHED)

    def creditReceived(self) -> None:
        """The client has read something."""
        if self._state is _State.WITHOUT_CREDIT:
            self._enter(_State.QUEUED)
        else:
            self._countDrain()

    def discard(self) -> None:
        """Read on, but pass nothing on any longer."""
        self._discarding = True
        if self._state in (_State.WITHOUT_CREDIT, _State.QUEUED):
            self._enter(_State.WATCHED)
        else:
            self._countDrain()

    def drain(self, seconds: float) -> None:
        """The command has ended: what it left in the pipe still counts, whoever else holds it
        has this long.  Only time counts in which the client waits and nothing comes."""
        self._drainLeft = seconds
        self._countDrain()

    def close(self) -> None:
        """Stop carrying; whoever still writes is told by a SIGPIPE."""
        if self._state is not _State.CLOSED:
            self._enter(_State.CLOSED)
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
        elif self._channel.free:
            self._carry()
        else:
            self._enter(_State.QUEUED)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives the descriptor up."""
        self.close()

    # States

    def _enter(self, state: _State) -> None:
        if self._state is _State.WATCHED:
            self._reactor.removeReader(self)
        elif self._state is _State.QUEUED:
            self._channel.withdraw(self._turn)
        self._state = state
        self._countDrain()
        if state is _State.WATCHED:
            self._reactor.addReader(self)
        elif state is _State.QUEUED:
            self._channel.ready(self._turn)

    def _turn(self) -> bool:
        """Our turn has come.

        :return: whether to have another.
        """
        more = self._carry()
        if self._state is not _State.QUEUED:
            return False
        if not more:
            self._enter(_State.WATCHED)
        return more

    def _carry(self) -> bool:
        """Carry one frame's worth.

        :return: whether there may be more at once.
        """
        room = self._channel.sendable(self._stream)
        if not room:
            self._lackCredit()
            return False
        data = self._read(room)
        if not data:
            return False
        permitted = self._permit(len(data))
        if permitted:
            self._channel.write(self._stream, data[:permitted])
        self._countDrain()
        return len(data) == room

    def _lackCredit(self) -> None:
        """Bytes have to wait for credit, but the end of the stream costs none."""
        there = _what_is_there(self._descriptor)
        if there & select.POLLIN:
            self._enter(_State.WITHOUT_CREDIT)
        elif there:
            self.close()

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

    def _countDrain(self) -> None:
        """Have the drain time count if, and only if, it is to count now."""
        if self._drainLeft is None:
            return
        counts = self._state is _State.WATCHED and (
            self._discarding or self._channel.sendable(self._stream) > 0
        )
        if counts and self._drainTimer is None:
            self._drainTimer = self._clock.callLater(self._drainLeft, self._drained)
        elif self._drainTimer is not None and not counts:
            self._drainLeft = max(0.0, self._drainTimer.getTime() - self._clock.seconds())
            self._drainTimer.cancel()
            self._drainTimer = None

    def _drained(self) -> None:
        self._drainTimer = None
        if _what_is_there(self._descriptor) & select.POLLIN:
            # The reactor was late: the time was not spent waiting.
            self._drainLeft = _LATE_SECONDS
            self._countDrain()
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
        # In one piece: many small ones would take many times the memory of their bytes.
        self._waiting = bytearray()
        self._started = False
        self._ended = False
        self._closed = False

    def start(self) -> None:
        """The command runs: pass on what came before."""
        self._started = True
        if not self._closed:
            self.doWrite()

    def write(self, data: bytes) -> None:
        """Pass bytes on; the channel's credit bounds what waits here."""
        if self._closed:
            return
        waited = bool(self._waiting)
        self._waiting += data
        if self._started and not waited:
            self.doWrite()

    def end(self) -> None:
        """There is no more: close once all is passed on."""
        self._ended = True
        if self._started and not self._waiting and not self._closed:
            self._finish()

    def _finish(self) -> None:
        """All is passed on: have the command see the end."""
        self.close()

    def stop(self) -> None:
        """The command takes no more: say so, and close."""
        if not self._closed:
            self.close()
            self._channel.stop()

    def close(self) -> None:
        """Close now, whatever waits."""
        if not self._closed:
            self._reactor.removeWriter(self)
            self._closed = True
            self._waiting.clear()
            os.close(self._descriptor)

    def fileno(self) -> int:
        """The descriptor that is watched."""
        return -1 if self._closed else self._descriptor

    def logPrefix(self) -> str:
        """What the reactor calls this in its log."""
        return "command input"

    def doWrite(self) -> None:
        """Pass on as much as the command takes."""
        passed = 0
        try:
            if self._waiting:
                passed = os.write(self._descriptor, self._waiting)
                del self._waiting[:passed]
        except BlockingIOError:
            pass
        except OSError:
            # The command reads no more.  What it has written is still to be read.
            self.stop()
            return
        if self._waiting:
            self._reactor.addWriter(self)
        else:
            self._reactor.removeWriter(self)
            if self._ended:
                self._finish()
        if passed:
            self._channel.consumed(passed)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw that the command reads no more."""
        self.stop()


def _what_is_there(descriptor: int) -> int:
    """What may be had from a pipe now: ``POLLIN`` for bytes, ``POLLHUP`` for its end, 0 for
    nothing."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    for _descriptor, what in poll.poll(0):
        return what
    return 0
