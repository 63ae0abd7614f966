"""One command that runs for a channel: its process, its pipes, its time, its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from sockproto.interfaces import IChannel, IRunObserver, IServedChannel
from sockproto.logs import Logger
from sockproto.services.command.auditing import Trail, Why
from sockproto.services.command.pipes import InputPipe, OutputPipe
from sockproto.services.command.processes import ProcessHost, Run, Spawn
from sockproto.services.command.terminal_input import HeldTerminal, TerminalInput
from sockproto.wire.commands import CommandResult
from sockproto.wire.messages import Stream
from sockproto.wire.terminal import decode_window

__all__ = ["RunningCommand"]


class _State(Enum):
    STARTING = "asked of the host process"
    RUNNING = "running"
    EXITED = "the leader has ended; its output may not have"
    OVER = "nothing is left of it"


@implementer(IRunObserver, IServedChannel)
class RunningCommand:
    """Brings a run and a channel together.

    :param reactor: for pipes and timers.
    :param host: what spawns it.
    :param spawn: what to run.
    :param channel: for whom.
    :param label: what the log calls it.
    :param timeout: seconds until it is ended, if there is such a limit.
    :param maxOutput: bytes of output, if there is such a limit.
    :param drainSeconds: how long others may hold its pipes after its end.
    :param finishAlone: whether it goes on when its client is lost.
    :param slotFree: called once it takes no slot any longer: its processes have ended.
    :param trail: hears of it for the audit, if there is one.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        host: ProcessHost,
        spawn: Spawn,
        channel: IChannel,
        *,
        label: str,
        timeout: float | None,
        maxOutput: int | None,
        drainSeconds: float,
        finishAlone: bool,
        slotFree: Callable[[RunningCommand], None],
        trail: Trail | None = None,
    ) -> None:
        self._reactor = reactor
        self._channel: IChannel | None = channel
        self._label = label
        self._left = maxOutput
        self._drainSeconds = drainSeconds
        self._finishAlone = finishAlone
        self._slotFree = slotFree
        self._trail = Trail.unheard() if trail is None else trail
        self._state = _State.STARTING
        self._ending = False
        self._discarding = False
        self._treeGone = False
        self._timedOut = False
        self._truncated = False
        self._exitStatus: int | None = None
        self._signal: str | None = None
        self._who = f"{channel.principal.identity} from {channel.principal.address}"
        self._run: Run = host.spawn(spawn, self)
        self._terminal: HeldTerminal | None = None
        carrier = InputPipe
        if spawn.terminal is not None and self._run.stdout is not None:
            self._terminal = HeldTerminal(self._run.stdout)
            carrier = TerminalInput
        self._stdin = (
            None if self._run.stdin is None else carrier(reactor, self._run.stdin, channel)
        )
        self._outputs: dict[int, OutputPipe] = {
            stream: OutputPipe(
                reactor, reactor, descriptor, channel, stream, self._permit, self._streamOver
            )
            for stream, descriptor in (
                (Stream.OUT, self._run.stdout),
                (Stream.ERR, self._run.stderr),
            )
            if descriptor is not None
        }
        self._timer: IDelayedCall | None = (
            None if timeout is None else reactor.callLater(timeout, self.outOfTime)
        )

    # What becomes of the process

    def started(self, pid: int) -> None:
        """The program runs."""
        self._state = _State.RUNNING
        self._log.info("{who} runs {label}, pid {pid}", who=self._who, label=self._label, pid=pid)
        if self._channel is not None:
            self._channel.accept({})
        if self._stdin is not None:
            self._stdin.start()
        for output in self._outputs.values():
            output.start()

    def failed(self, code: str, message: str) -> None:
        """Nothing was started."""
        self._log.info(
            "{who}: {label} was not started: {message} ({code})",
            who=self._who,
            label=self._label,
            message=message,
            code=code,
        )
        self._comeToNothing(code, message)

    def exited(self, exit_status: int | None, signal: str | None) -> None:
        """The leader has ended."""
        self._state = _State.EXITED
        self._exitStatus, self._signal = exit_status, signal
        self._trail.exited()
        if self._stdin is not None and self._channel is None:
            self._stdin.close()
        elif self._stdin is not None:
            self._stdin.stop()
        if self._terminal is not None:
            self._terminal.close()
        for output in self._outputs.values():
            output.drain(self._drainSeconds)

    def gone(self) -> None:
        """Its tree is gone, or what is left of it is left alone: the slot is free."""
        self._treeGone = True
        self._cancelTimer()
        self._log.info(
            "{label} of {who} ended: {how}{timedOut}",
            label=self._label,
            who=self._who,
            how=f"status {self._exitStatus}" if self._signal is None else f"signal {self._signal}",
            timedOut=", its time was up" if self._timedOut else "",
        )
        self._slotFree(self)
        self._closeWhenDone()

    def hostLost(self) -> None:
        """Nothing more is known of it."""
        self._comeToNothing("lost", "the process that runs commands has died")

    def _comeToNothing(self, code: str, message: str) -> None:
        channel, self._channel = self._channel, None
        self._state = _State.OVER
        self._cancelTimer()
        if self._stdin is not None:
            self._stdin.close()
        if self._terminal is not None:
            self._terminal.close()
        for output in self._outputs.values():
            output.close()
        self._slotFree(self)
        self._trail.because(Why.LOST if code == "lost" else Why.NOT_STARTED)
        self._trail.over(truncated=self._truncated, code=code)
        if channel is not None:
            channel.fail(code, message)

    # What the client says

    def dataReceived(self, data: bytes) -> None:
        """Input for the command."""
        self._trail.received(len(data))
        if self._stdin is not None:
            self._stdin.write(data)

    def endReceived(self) -> None:
        """The end of its input."""
        if self._stdin is not None:
            self._stdin.end()

    def stopReceived(self, stream: int) -> None:
        """The client wants no more of a stream: the command is to notice, as in a pipe."""
        if stream in self._outputs:
            self._outputs[stream].close()

    def creditReceived(self, stream: int) -> None:
        """The client has read some output."""
        if stream in self._outputs:
            self._outputs[stream].creditReceived()

    def controlReceived(self, body: Mapping[str, Any]) -> None:
        """A signal for the command, or a size for its terminal; what is not known is ignored."""
        window = decode_window(body.get("window"))
        if window is not None and self._terminal is not None:
            self._terminal.resize(*window)
        name = body.get("signal")
        if isinstance(name, str) and self._state is _State.RUNNING:
            # One that does not exist is not even logged: a client could fill the log with them.
            with contextlib.suppress(ValueError):
                self._run.signal(name)

    def cancelled(self) -> None:
        """The client wants it ended, and none of its output."""
        self._discard()
        self.end(Why.CANCEL)
        self._closeWhenDone()

    def connectionLost(self) -> None:
        """There is nobody left to tell."""
        self._channel = None
        self._discard()
        self._closeWhenDone()
        if self._finishAlone:
            if self._stdin is not None:
                self._stdin.end()
        else:
            self.end(Why.DISCONNECT)

    def end(self, why: Why = Why.SHUTDOWN) -> None:
        """End it, with its whole tree; a command that has ended by itself left behind what it meant
        to.

        :param why: for the audit.
        """
        if self._state in (_State.STARTING, _State.RUNNING) and not self._ending:
            self._ending = True
            self._trail.because(why)
            self._run.end()
            if self._terminal is not None:
                # What a terminal says whose line is cut: a shell on it takes no notice of TERM. Not
                # before: what a leader leaves behind that ends by itself is left alone.
                self._run.signal("HUP")

    # Its output and its time

    def _permit(self, count: int) -> int:
        """How much of so many bytes of output may pass."""
        if self._left is None:
            self._trail.sent(count)
            return count
        permitted = min(count, self._left)
        self._left -= permitted
        self._trail.sent(permitted)
        if permitted < count:
            self._truncated = True
            self._reactor.callLater(0, self._overLimit)
        return permitted

    def _overLimit(self) -> None:
        self._discard()
        self.end(Why.OUTPUT_LIMIT)
        self._closeWhenDone()

    def _discard(self) -> None:
        self._discarding = True
        for output in self._outputs.values():
            if not output.isClosed:
                output.discard()

    def outOfTime(self) -> None:
        """Its time is up: end it, unless it has ended by itself."""
        self._cancelTimer()
        if self._state in (_State.STARTING, _State.RUNNING):
            self._timedOut = True
            self.end(Why.TIMEOUT)

    def _cancelTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _streamOver(self, stream: int) -> None:
        """Nothing more will come on a stream."""
        if self._channel is not None:
            self._channel.end(stream)
        self._closeWhenDone()

    def _closeWhenDone(self) -> None:
        """Close the channel once its processes have ended and their output is delivered."""
        if self._state is not _State.EXITED or not self._treeGone:
            return
        if not self._discarding and not all(out.isClosed for out in self._outputs.values()):
            return
        self._state = _State.OVER
        for output in self._outputs.values():
            output.close()
        self._trail.over(self._exitStatus, self._signal, self._truncated)
        if self._channel is not None:
            self._channel.close(
                CommandResult(
                    self._exitStatus, self._signal, self._timedOut, self._truncated
                ).encode()
            )
