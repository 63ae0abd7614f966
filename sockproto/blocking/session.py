"""A logged-in connection to an agent, on plain sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from sockproto.blocking.command import Command
from sockproto.blocking.transport import Transport
from sockproto.errors import (
    AgentError,
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
)
from sockproto.output_credit import WINDOWS
from sockproto.result import DEFAULT_MAX_OUTPUT, Result, left, refused
from sockproto.wire import events
from sockproto.wire.client_channels import ClientChannels
from sockproto.wire.commands import CommandRequest, CommandResult
from sockproto.wire.frames import FrameDecoder
from sockproto.wire.handshake import Login
from sockproto.wire.messages import Stream
from sockproto.wire.settings import Settings
from sockproto.wire.terminal import Terminal

__all__ = ["Session"]

_T = TypeVar("_T")

_MAX_FRAME = 256 * 1024


class Session:
    """What :func:`sockproto.blocking.connect` gives: any number of commands at once over one
    connection, in one thread.

    Nothing happens in the background: while none of its methods runs, the agent's output waits, and
    so does what the network has not taken yet.

    :ivar login: the login: the server's id, the session's id, the ``ref`` for the server's log.
    """

    def __init__(self, transport: Transport, login: Login, frames: FrameDecoder) -> None:
        # Without the feature of pings: a program that does something else for a while, or is
        # suspended, could not answer. The kernel's keepalive tells the agent of one that is gone.
        self._machine = ClientChannels(Settings(_MAX_FRAME))
        self._transport = transport
        self._frames = frames
        self._frames.limit = _MAX_FRAME
        self._commands: dict[int, Command] = {}
        self._lost: AgentError | None = None
        self.login = login

    def begin(self, deadline: float) -> None:
        """Exchange settings; for :func:`connect` alone."""
        self.send(self._machine.send_settings())
        while self._machine.peer is None:
            self._pump_until(deadline, "the agent says nothing after the login")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # For those who use it

    def run(
        self,
        argv: Iterable[str | bytes],
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        cwd: str | bytes | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        max_output: int = DEFAULT_MAX_OUTPUT,
    ) -> Result:
        """Run a command to its end.

        :param argv: the program and its arguments; never a shell's line.
        :param input: what it reads on stdin; ``None``: nothing.
        :param timeout: seconds until it is ended; the result then says ``timed_out``.
        :param cwd: the folder to run it in.
        :param env: variables to set; the server may refuse some.
        :param max_output: bytes of each stream to keep; the rest is dropped, and the result
            ``truncated``.
        :raises AgentError: it was refused, is not there, or the connection was lost: see ``code``.
        """
        request = CommandRequest.of(
            argv, stdin=input is not None, timeout=timeout, cwd=cwd, env=env
        )
        command = self.ask(request)
        try:
            command.wait_until_started()
            return command.communicate(input, max_output)
        except BaseException:
            # Ctrl-C above all: nobody is left to wait for it.
            command.cancel()
            raise

    def start(
        self,
        argv: Iterable[str | bytes],
        *,
        stdin: bool = False,
        timeout: float | None = None,
        cwd: str | bytes | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        tty: Terminal | None = None,
    ) -> Command:
        """Start a command, and wait until it runs.

        :param stdin: whether it gets input, by :meth:`Command.write`.
        :param tty: a terminal to run it on: that is its input too, and its output is all stdout.
        :raises AgentError: it was refused or is not there.
        """
        request = CommandRequest.of(argv, stdin=stdin, timeout=timeout, cwd=cwd, env=env, tty=tty)
        command = self.ask(request)
        command.wait_until_started()
        return command

    def ask(self, request: CommandRequest) -> Command:
        """Ask for a command, and do not wait."""
        self._check()
        leaving = self._machine.going_away
        if leaving is not None:
            raise left(leaving)
        try:
            channel, frame = self._machine.open(
                request.encode(), WINDOWS[Stream.OUT], WINDOWS[Stream.ERR]
            )
        except LocalProtocolError as error:
            raise AgentError(str(error), "too-long") from None
        command = self._commands[channel] = Command(self, self._machine, channel, request.stdin)
        self.send(frame)
        return command

    def ping(self, timeout: float | None = None) -> float:
        """Ask whether the server is there.

        :param timeout: seconds to wait for the answer; ``None``: as long as it takes.
        :return: how long the answer took, in seconds.
        :raises ConnectionLost: there was none.
        """
        self._check()
        asked = time.monotonic()
        deadline = None if timeout is None else asked + timeout
        if self._machine.may_ping:
            self.send(self._machine.send_ping(os.urandom(8)))
        while not self._machine.may_ping:
            self._pump_until(deadline, "the agent does not answer")
        return time.monotonic() - asked

    def close(self) -> None:
        """Close the connection: the server ends what still runs on it."""
        self._end(ConnectionLost("the session was closed"))

    def fileno(self) -> int:
        """The descriptor to wait on before :meth:`pump`."""
        return self._transport.fileno()

    @property
    def sending(self) -> bool:
        """Whether to wait for the descriptor to be writable, too."""
        return self._transport.sending

    def pump(self, timeout: float | None = None) -> None:
        """Take what came, and tell the commands.

        :param timeout: seconds to wait for something; ``None``: as long as it takes.
        :raises AgentError: the connection was lost.
        """
        self._check()
        # What came together with the end of the login is there already.
        if self._frames.pending and self._guarded(self._dispatch):
            return
        if self._lost is None and self._transport.wait(timeout):
            self._guarded(self._receive)

    def _pump_until(self, deadline: float | None, problem: str) -> None:
        """Pump once.

        :raises ConnectionLost: the deadline has passed.
        """
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            self._end(ConnectionLost(problem))
        self.pump(left)
        self._check()

    # For its commands

    def send(self, *pieces: bytes) -> None:
        """Send frames; that the connection is lost, and why, :meth:`pump` finds out."""
        with suppress(ConnectionLost):
            if self._lost is None:
                self._guarded(self._transport.send, *pieces)

    def _guarded(self, call: Callable[..., _T], *args: Any) -> _T | None:
        """Do something with the connection, and end the session where that goes wrong."""
        try:
            return call(*args)
        except RemoteProtocolError as error:
            self._end(AgentError(f"the agent broke the protocol: {error}", "protocol"))
        except ConnectionLost:
            raise
        except BaseException:
            # Such as Ctrl-C, in the middle of something: nobody knows how much of it was done.
            self._end(ConnectionLost("the session was interrupted"))
            raise
        return None

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    # What comes

    def _receive(self) -> None:
        try:
            self._frames.feed(self._transport.receive())
        except ConnectionLost as error:
            leaving = self._machine.going_away
            self._end(error if leaving is None else left(leaving))
        self._dispatch()

    def _dispatch(self) -> bool:
        """Tell what the frames mean that have come; whether there were any."""
        any_came = False
        while self._lost is None and (payload := self._frames.next_frame()) is not None:
            any_came = True
            event = self._machine.receive(payload)
            if event is not None:
                self._RECEIVERS[type(event)](self, event)
        return any_came

    def _end(self, error: AgentError) -> None:
        """Close the connection; tell everybody why."""
        if self._lost is None:
            self._lost = error
            self._transport.close()
            commands, self._commands = self._commands, {}
            for command in commands.values():
                command.failed(error)

    def _accepted(self, event: events.ChannelAccepted) -> None:
        self._commands[event.channel].accepted()

    def _rejected(self, event: events.ChannelRejected) -> None:
        self._commands.pop(event.channel).failed(refused(event))

    def _data(self, event: events.DataReceived) -> None:
        self._commands[event.channel].output_received(event.stream, event.data)

    def _stopped(self, event: events.StopReceived) -> None:
        self._commands[event.channel].input_stopped()

    def _closed(self, event: events.ChannelClosed) -> None:
        end = CommandResult.decode(event.result)
        self._commands.pop(event.channel).closed(end)

    def _pinged(self, event: events.PingReceived) -> None:
        self.send(self._machine.send_pong(event.payload))

    def _going_away(self, event: events.GoingAway) -> None:
        for channel in [each for each in self._commands if each > event.last_channel]:
            self._commands.pop(channel).failed(left(event))

    def _nothing(self, _event: events.Event) -> None:
        pass

    _RECEIVERS: ClassVar[dict[type, Callable[[Session, Any], None]]] = {
        events.SettingsReceived: _nothing,
        events.ChannelAccepted: _accepted,
        events.ChannelRejected: _rejected,
        events.DataReceived: _data,
        events.EndReceived: _nothing,
        events.StopReceived: _stopped,
        events.CreditReceived: _nothing,
        events.ControlReceived: _nothing,
        events.ChannelClosed: _closed,
        events.PingReceived: _pinged,
        events.PongReceived: _nothing,
        events.GoingAway: _going_away,
    }
