"""One client of a run that it shares with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from sockproto.interfaces import IChannel, IServedChannel
from sockproto.logs import Logger
from sockproto.services.command.auditing import Trail, Why
from sockproto.services.command.output_queue import OutputQueue
from sockproto.services.command.running import RunningCommand
from sockproto.wire.commands import CommandResult

if TYPE_CHECKING:
    from sockproto.services.command.sharing import SharedRun

__all__ = ["Sharer", "Start"]

#: Starts a run for a channel: with a client's time-out, and what the audit has of it already.
Start = Callable[[IChannel, "float | None", "Trail | None"], "IServedChannel | None"]


@implementer(IServedChannel)
class Sharer:
    """One client of a shared run.

    :param clock: the reactor.
    :param run: what it shares.
    :param channel: the client.
    :param timeout: seconds that the client waits, if there is such a limit.
    :param alone: starts a run of the client's own, with what is left of that time.
    :param trail: hears of it for the audit; ``None`` for who began the run, which has its own.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        run: SharedRun,
        channel: IChannel,
        timeout: float | None,
        alone: Start,
        trail: Trail | None = None,
    ) -> None:
        self._clock = clock
        self._run = run
        self._channel: IChannel | None = channel
        self._alone = alone
        self._trail = trail
        self._own: IServedChannel | None = None
        self._queue = OutputQueue(channel, self._drained)
        self._end: CommandResult | None = None
        self._accepted = False
        self._timer: IDelayedCall | None = (
            None if timeout is None else clock.callLater(timeout, self._outOfTime)
        )

    # What comes of the run

    @property
    def waiting(self) -> int:
        """How many bytes wait for the client to read."""
        return self._queue.waiting

    def wantsNoMore(self, stream: int) -> bool:
        """Whether the client has stopped a stream."""
        return self._queue.stopped(stream)

    def accept(self) -> None:
        """The program runs."""
        if self._channel is not None and not self._accepted:
            self._accepted = True
            self._channel.accept({})

    def put(self, stream: int, data: bytes) -> None:
        """Some of its output."""
        self._queue.put(stream, data)

    def finish(self, end: CommandResult) -> None:
        """It has ended; the client has its result behind its output."""
        self._end = end
        self._stopTimer()
        self._closeWhenDone()

    def replay(self, pieces: list[tuple[int, bytes]], end: CommandResult, age: float) -> None:
        """All of its output, and its end, which it had for another client."""
        self.accept()
        for stream, data in pieces:
            self._queue.put(stream, data)
            if self._trail is not None and not self._queue.isClosed:
                self._trail.sent(len(data))
        self.finish(evolve(end, age=age))

    def fail(self, code: str, message: str) -> None:
        """It came to nothing."""
        if self._trail is not None:
            self._trail.because(Why.LOST if code == "lost" else Why.NOT_STARTED)
            self._trail.over(code=code)
        channel = self._over()
        if channel is not None:
            channel.fail(code, message)

    def goAlone(self) -> None:
        """It cannot be shared: have a run of the client's own."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        left = None
        if self._timer is not None:
            left = max(0.001, self._timer.getTime() - self._clock.seconds())
        self._stopTimer()
        trail, self._trail = self._trail, None
        try:
            self._own = self._alone(channel, left, trail)
        except Exception:
            self._log.failure("a run that cannot be shared could not be started")
            channel.fail("internal", "the server made a mistake; its log says which")

    def _drained(self) -> None:
        self._run.drained(self)
        self._closeWhenDone()

    def _closeWhenDone(self) -> None:
        if self._end is None or self._queue.waiting or self._channel is None:
            return
        self._queue.end()
        self._close(self._end)

    def _close(self, end: CommandResult) -> None:
        if self._trail is not None:
            if end.timed_out:
                self._trail.because(Why.TIMEOUT)
            elif end.truncated and end.exit_status is None:
                self._trail.because(Why.OUTPUT_LIMIT)
            self._trail.over(end.exit_status, end.signal, end.truncated, age=end.age)
        channel = self._over()
        if channel is not None:
            channel.close(end.encode())

    def _over(self) -> IChannel | None:
        """Let go of the run and the client."""
        channel, self._channel = self._channel, None
        self._stopTimer()
        self._queue.discard()
        self._run.leave(self)
        return channel

    def _outOfTime(self) -> None:
        self._timer = None
        self._because(Why.TIMEOUT)
        if not self._run.giveUp(self, RunningCommand.outOfTime):
            self._queue.discard()
            self._close(CommandResult(signal="TERM", timed_out=True))

    def _because(self, why: Why) -> None:
        if self._trail is not None:
            self._trail.because(why)

    def _stopTimer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What the client says

    def dataReceived(self, data: bytes) -> None:
        """Input, of which there is to be none."""
        if self._own is not None:
            self._own.dataReceived(data)

    def endReceived(self) -> None:
        """The end of the input."""
        if self._own is not None:
            self._own.endReceived()

    def stopReceived(self, stream: int) -> None:
        """The client wants no more of a stream."""
        if self._own is not None:
            self._own.stopReceived(stream)
        else:
            self._queue.stop(stream)
            self._run.stopped(self, stream)

    def creditReceived(self, stream: int) -> None:
        """The client has read some output."""
        if self._own is not None:
            self._own.creditReceived(stream)
        else:
            self._queue.creditReceived()

    def controlReceived(self, body: Mapping[str, Any]) -> None:
        """A signal for the program: not where others want its result."""
        if self._own is not None:
            self._own.controlReceived(body)
        elif "signal" in body:
            self._run.giveUp(self, lambda command: command.controlReceived(body))

    def cancelled(self) -> None:
        """The client wants none of it any longer."""
        if self._own is not None:
            self._own.cancelled()
            return
        self._because(Why.CANCEL)
        self._queue.discard()
        if self._end is not None:
            self._close(self._end)
        elif not self._run.giveUp(self, RunningCommand.cancelled):
            self._close(CommandResult(signal="TERM"))

    def connectionLost(self) -> None:
        """The client is gone."""
        if self._own is not None:
            self._own.connectionLost()
            return
        if self._channel is None:
            return
        self._because(Why.DISCONNECT)
        if self._trail is not None:
            self._trail.over()
        self._queue.discard()
        self._channel = None
        self._run.giveUp(self, RunningCommand.connectionLost)
        self._over()
