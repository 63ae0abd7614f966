"""One command in Python that runs for a channel: its call, its streams, its time, its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.errors import CommandFailed
from sockproto.interfaces import IChannel, IServedChannel
from sockproto.logs import Logger
from sockproto.services.command.auditing import Trail, Why
from sockproto.services.command.invocation import InputQueue, Invocation, PythonCommand
from sockproto.services.command.output_queue import OutputQueue, StreamStopped
from sockproto.wire.commands import CommandResult
from sockproto.wire.messages import Stream

__all__ = ["RunningCall"]

# The signals that end a command in Python, as they do a program that does not care for them.
_ENDING = frozenset({"HUP", "INT", "QUIT", "KILL", "TERM"})


class _State(Enum):
    STARTING = "it is called in the next turn of the reactor"
    RUNNING = "it has been called, and has not returned"
    RETURNED = "it has returned; its output may not be sent"
    OVER = "the client has its result"


@implementer(IServedChannel)
class RunningCall:
    """Brings a command in Python and a channel together, as
    :class:`~sockproto.services.command.running.RunningCommand` does a program and a channel.

    A program is killed when it does not end; a call can only be cancelled. One that goes on all
    the same is given up after a grace: the client has its result then, and the slot stays taken.

    :param clock: the reactor.
    :param command: what to call.
    :param channel: for whom.
    :param argv: the rule's argv with the client's words in it.
    :param values: the words that each parameter got.
    :param label: the name of the rule, and what the log calls it.
    :param stdin: whether the channel's input is its input; else there is none.
    :param timeout: seconds until it is ended, if there is such a limit.
    :param maxOutput: bytes of output, if there is such a limit.
    :param grace: seconds between the cancel and giving it up.
    :param finishAlone: whether it goes on when its client is lost.
    :param slotFree: called once it has returned.
    :param trail: hears of it for the audit.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        command: PythonCommand,
        channel: IChannel,
        *,
        argv: tuple[bytes, ...],
        values: Mapping[str, tuple[bytes, ...]],
        label: str,
        stdin: bool,
        timeout: float | None,
        maxOutput: int | None,
        grace: float,
        finishAlone: bool,
        slotFree: Callable[[RunningCall], None],
        trail: Trail,
    ) -> None:
        self._clock = clock
        self._command = command
        self._channel: IChannel | None = channel
        self._label = label
        self._left = maxOutput
        self._grace = grace
        self._finishAlone = finishAlone
        self._slotFree = slotFree
        self._trail = trail
        self._state = _State.STARTING
        self._who = f"{channel.principal.identity} from {channel.principal.address}"
        self._input = InputQueue(self._consumed)
        if not stdin:
            self._input.end()
        self._output = OutputQueue(channel, self._closeWhenDone)
        self._invocation = Invocation(
            channel.principal, label, argv, values, self._input, self._write
        )
        self._call: Deferred[Any] | None = None
        self._endedBy = "TERM"
        self._timedOut = False
        self._truncated = False
        self._result = CommandResult(exit_status=0)
        self._givingUp: IDelayedCall | None = None
        self._timer: IDelayedCall | None = (
            None if timeout is None else clock.callLater(timeout, self._outOfTime)
        )
        # Not before who opened the channel knows what serves it.
        clock.callLater(0, self._begin)

    # The call

    def _begin(self) -> None:
        if self._channel is not None and not self._invocation.cancelled:
            self._channel.accept({})
        if self._invocation.cancelled:  # before it began, or while that was said
            self._returned(Failure(CancelledError()))
            return
        self._state = _State.RUNNING
        self._log.info("{who} runs {label}, in Python", who=self._who, label=self._label)
        call: Deferred[Any] = maybeDeferred(self._command, self._invocation)
        self._call = call
        call.addCallback(_status).addBoth(self._returned).addErrback(self._mistaken)

    def _returned(self, result: int | Failure) -> None:
        """The call has come to an end."""
        code = None
        message = ""
        exitStatus: int | None = None
        signal: str | None = None
        if not isinstance(result, Failure):
            exitStatus = result
        elif result.check(CancelledError) and self._invocation.cancelled:
            signal = self._endedBy
        elif result.check(StreamStopped):
            signal = "PIPE"
        elif isinstance(result.value, CommandFailed):
            exitStatus = result.value.status
            self._write(Stream.ERR, f"{result.value}\n".encode()).addErrback(_ignore)
        else:
            self._log.failure("{label} of {who} failed", result, label=self._label, who=self._who)
            code, message = "internal", "the command made a mistake; the server's log says which"
        self._log.info(
            "{label} of {who} ended: {how}{timedOut}",
            label=self._label,
            who=self._who,
            how=code or (f"status {exitStatus}" if signal is None else f"signal {signal}"),
            timedOut=", its time was up" if self._timedOut else "",
        )
        self._result = CommandResult(
            exitStatus, signal, self._timedOut, self._truncated, code, message
        )
        self._stopTimers()
        self._trail.exited()
        if self._channel is not None and not self._input.isOver:
            self._channel.stop()
        self._input.close()
        if self._state is not _State.OVER:
            self._state = _State.RETURNED
        self._slotFree(self)
        self._closeWhenDone()

    def _mistaken(self, failure: Failure) -> None:
        self._log.failure("the end of {label} failed", failure, label=self._label)

    def _closeWhenDone(self) -> None:
        """Close the channel once the call has returned and its output is sent."""
        if self._state is not _State.RETURNED or self._output.waiting:
            return
        self._state = _State.OVER
        self._output.end()
        channel, self._channel = self._channel, None
        self._output.discard()
        result = self._result
        self._trail.over(result.exit_status, result.signal, result.truncated, result.code)
        if channel is None:
            return
        if self._result.code is not None:
            channel.fail(self._result.code, self._result.message)
        else:
            channel.close(self._result.encode())

    def end(self, why: Why = Why.SHUTDOWN) -> None:
        """Cancel it, unless it has returned.

        :param why: for the audit.
        """
        if self._state not in (_State.STARTING, _State.RUNNING) or self._invocation.cancelled:
            return
        self._invocation.cancelled = True
        self._trail.because(why)
        # It may be the call itself that brought this about, and what runs cannot be cancelled.
        self._clock.callLater(0, self._cancel)

    def _cancel(self) -> None:
        if self._state is _State.RUNNING and self._call is not None:
            self._givingUp = self._clock.callLater(self._grace, self._giveUp)
            self._call.cancel()

    def _giveUp(self) -> None:
        self._givingUp = None
        self._log.error(
            "{label} of {who} goes on although it was cancelled", label=self._label, who=self._who
        )
        channel, self._channel = self._channel, None
        self._state = _State.OVER
        self._output.discard()
        end = CommandResult(None, self._endedBy, self._timedOut, self._truncated)
        self._trail.over(signal=end.signal, truncated=end.truncated)
        if channel is not None:
            channel.close(end.encode())

    def _outOfTime(self) -> None:
        self._timer = None
        self._timedOut = True
        self.end(Why.TIMEOUT)

    def _stopTimers(self) -> None:
        for timer in (self._timer, self._givingUp):
            if timer is not None:
                timer.cancel()
        self._timer = self._givingUp = None

    # Its streams

    def _write(self, stream: int, data: bytes) -> Deferred[None]:
        """Send output, or as much as is allowed."""
        if self._left is not None:
            permitted = data[: self._left]
            self._left -= len(permitted)
            if len(permitted) < len(data):
                self._truncated = True
                self.end(Why.OUTPUT_LIMIT)
                if not permitted:
                    return self._dropped()
                data = permitted
        if self._output.isClosed:
            return self._dropped()
        self._trail.sent(len(data))
        return self._output.write(stream, data)

    def _dropped(self) -> Deferred[None]:
        """What comes of a write that nobody will read: it takes a turn of the reactor, or a call
        that does nothing but write would never let anybody else have one."""
        dropped: Deferred[None] = Deferred()
        self._clock.callLater(0, _fire, dropped)
        return dropped

    def _consumed(self, count: int) -> None:
        if self._channel is not None:
            self._channel.consumed(count)

    # What the client says

    def dataReceived(self, data: bytes) -> None:
        """Input for the command."""
        self._trail.received(len(data))
        self._input.received(data)

    def endReceived(self) -> None:
        """The end of its input."""
        self._input.end()

    def stopReceived(self, stream: int) -> None:
        """The client wants no more of a stream: who writes on it is told."""
        self._output.stop(stream)

    def creditReceived(self, stream: int) -> None:
        """The client has read some output."""
        self._output.creditReceived()

    def controlReceived(self, body: Mapping[str, Any]) -> None:
        """A signal: those that end a program end this; the others mean nothing to it."""
        name = body.get("signal")
        if isinstance(name, str) and name in _ENDING and not self._invocation.cancelled:
            self._endedBy = name
            self.end(Why.EXIT)

    def cancelled(self) -> None:
        """The client wants it ended, and none of its output."""
        self._output.discard()
        self.end(Why.CANCEL)
        self._closeWhenDone()

    def connectionLost(self) -> None:
        """There is nobody left to tell."""
        self._channel = None
        self._output.discard()
        if self._finishAlone:
            self._input.end()
        else:
            self.end(Why.DISCONNECT)
        self._closeWhenDone()


def _status(result: object) -> int:
    """What a command has returned as an exit status."""
    if result is None:
        return 0
    if isinstance(result, bool) or not isinstance(result, int) or not 0 <= result <= 255:
        raise TypeError(f"expected an exit status from 0 to 255 or None, found {result!r:.80}")
    return result


def _fire(waiting: Deferred[None]) -> None:
    """Have a Deferred fire, unless it has been cancelled."""
    if not waiting.called:
        waiting.callback(None)


def _ignore(failure: Failure) -> None:
    """A client that wants no more of stderr does not read the message."""
    failure.trap(StreamStopped)
