"""A logged-in connection to an agent, on plain sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Self

from sockproto.blocking.command import Command
from sockproto.blocking.transport import PlainTransport, TLSTransport, Transport, open_socket
from sockproto.credentials import Credentials, credentials_for
from sockproto.errors import (
    AgentError,
    ConnectionLost,
    LocalProtocolError,
    LoginFailed,
    Refused,
    RemoteProtocolError,
)
from sockproto.key import Key
from sockproto.output_credit import WINDOWS
from sockproto.result import DEFAULT_MAX_OUTPUT, Result
from sockproto.target import DEFAULT_WHERE, Target
from sockproto.wire import events
from sockproto.wire.client_channels import ClientChannels
from sockproto.wire.commands import CommandRequest, CommandResult
from sockproto.wire.frames import FrameDecoder, encode_frame
from sockproto.wire.handshake import Binding, Login
from sockproto.wire.handshake_messages import MAX_MESSAGE
from sockproto.wire.messages import Stream
from sockproto.wire.settings import PING_FEATURE, Settings

__all__ = ["Session", "connect"]

_MAX_FRAME = 256 * 1024


def connect(
    where: str = DEFAULT_WHERE,
    key: Key | str | os.PathLike[str] | None = None,
    *,
    identity: str = "owner",
    server_id: str | None = None,
    plaintext: bool = False,
    timeout: float = 10.0,
    attentive: bool = False,
) -> Session:
    """Connect to an agent, and log in.

    :param where: ``tcp:HOST:PORT`` (plaintext, this machine only), ``unix:PATH``, or
        ``HOST[:PORT]`` (TLS).
    :param key: a key, or the path of a keyring; the user's own keyring unless given.
    :param identity: whose key to take from a keyring: the newest that is valid.
    :param server_id: the server to expect; any that holds the key's secret unless given.
    :param plaintext: allow ``tcp:`` to other machines.
    :param timeout: seconds for the connection, and again for the login.
    :param attentive: whether the program will read the session all the time, and so can be asked
        whether it is there; else the kernel's keepalive answers for it.
    :raises ConnectFailed: nothing answers there.
    :raises LoginFailed: the login came to nothing.
    :raises KeyringError: no fitting key could be read.
    """
    target = Target.parse(where, plaintext)
    credentials = credentials_for(target, key, identity, server_id)
    connection = open_socket(target, timeout)
    transport: Transport = (
        TLSTransport(connection, timeout) if target.tls else PlainTransport(connection)
    )
    try:
        login, rest = _log_in(transport, credentials, timeout)
        return Session(transport, login, rest, attentive)
    except BaseException:
        transport.close()
        raise


def _log_in(
    transport: Transport, credentials: Credentials, timeout: float
) -> tuple[Login, FrameDecoder]:
    """Prove both sides.

    :return: the login, and what came behind it.
    """
    deadline = time.monotonic() + timeout
    handshake = credentials.handshake(Binding.TLS_EXPORTER if credentials.tls else Binding.NONE)
    frames = FrameDecoder(MAX_MESSAGE)
    try:
        hello = _message(transport, frames, deadline)
        binding = transport.binding()
        if binding is None:
            raise RemoteProtocolError("the server's TLS version has no channel binding")
        transport.send(encode_frame(handshake.receive_hello(hello, binding)))
        return handshake.receive_reply(_message(transport, frames, deadline)), frames
    except RemoteProtocolError as error:
        raise LoginFailed(str(error), handshake.ref) from None
    except ConnectionLost as error:
        raise LoginFailed(f"during the login: {error}", handshake.ref) from None


def _message(transport: Transport, frames: FrameDecoder, deadline: float) -> bytes:
    while (message := frames.next_frame()) is None:
        data = transport.receive(deadline - time.monotonic())
        if not data:
            raise LoginFailed("no login in time")
        frames.feed(data)
    return message


class Session:
    """What :func:`connect` gives: any number of commands at once over one connection, in one
    thread.

    Nothing happens in the background: while none of its methods runs, the agent's output waits.

    :ivar login: the login: the server's id, the session's id, the ``ref`` for the server's log.
    """

    def __init__(
        self, transport: Transport, login: Login, frames: FrameDecoder, attentive: bool = False
    ) -> None:
        features = (PING_FEATURE,) if attentive else ()
        self._machine = ClientChannels(Settings(_MAX_FRAME, features=features))
        self._transport = transport
        self._frames = frames
        self._frames.limit = _MAX_FRAME
        self._commands: dict[int, Command] = {}
        self._lost: AgentError | None = None
        self._pongs = 0
        self.login = login
        self.send(self._machine.send_settings())
        while self._machine.peer is None:
            self.pump()
            self._check()

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
        command = self.start(argv, stdin=input is not None, timeout=timeout, cwd=cwd, env=env)
        return command.communicate(input, max_output)

    def start(
        self,
        argv: Iterable[str | bytes],
        *,
        stdin: bool = False,
        timeout: float | None = None,
        cwd: str | bytes | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Command:
        """Start a command, and wait until it runs.

        :param stdin: whether it gets input, by :meth:`Command.write`.
        :raises AgentError: it was refused or is not there.
        """
        request = CommandRequest.of(argv, stdin=stdin, timeout=timeout, cwd=cwd, env=env)
        command = self.ask(request)
        command.wait_until_started()
        return command

    def ask(self, request: CommandRequest) -> Command:
        """Ask for a command, and do not wait."""
        self._check()
        try:
            channel, frame = self._machine.open(
                request.encode(), WINDOWS[Stream.OUT], WINDOWS[Stream.ERR]
            )
        except LocalProtocolError as error:
            raise AgentError(str(error), "too-long") from None
        command = self._commands[channel] = Command(self, self._machine, channel)
        self.send(frame)
        return command

    def ping(self) -> float:
        """Ask whether the server is there.

        :return: how long the answer took, in seconds.
        """
        self._check()
        asked, before = time.perf_counter(), self._pongs
        self.send(self._machine.send_ping(os.urandom(8)))
        while self._pongs == before:
            self.pump()
            self._check()
        return time.perf_counter() - asked

    def close(self) -> None:
        """Close the connection: the server ends what still runs on it."""
        self._transport.close()
        self._lose(ConnectionLost("the session was closed"))

    def fileno(self) -> int:
        """The descriptor to wait on before :meth:`pump`."""
        return self._transport.fileno()

    def pump(self, timeout: float | None = None) -> None:
        """Take what came, and tell the commands.

        :param timeout: seconds to wait for something; ``None``: as long as it takes.
        :raises AgentError: the connection was lost.
        """
        self._check()
        try:
            # What came together with the end of the login is there already.
            if not self._dispatch():
                self._frames.feed(self._transport.receive(timeout))
                self._dispatch()
        except RemoteProtocolError as error:
            self._transport.close()
            self._lose(AgentError(f"the agent broke the protocol: {error}", "protocol"))
        except ConnectionLost as error:
            leaving = self._machine.going_away
            self._lose(
                error
                if leaving is None
                else AgentError(leaving.message or "the agent went away", leaving.code)
            )

    # For its commands

    def send(self, *pieces: bytes) -> None:
        """Send frames; that the connection is lost, and why, :meth:`pump` finds out."""
        with suppress(ConnectionLost):
            if self._lost is None:
                self._transport.send(*pieces)

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    # What comes

    def _dispatch(self) -> bool:
        """Tell what the frames mean that have come; whether there were any."""
        any_came = False
        while self._lost is None and (payload := self._frames.next_frame()) is not None:
            any_came = True
            event = self._machine.receive(payload)
            if event is not None:
                self._RECEIVERS[type(event)](self, event)
        return any_came

    def _lose(self, error: AgentError) -> None:
        if self._lost is None:
            self._lost = error
            commands, self._commands = self._commands, {}
            for command in commands.values():
                command.failed(error)

    def _accepted(self, event: events.ChannelAccepted) -> None:
        self._commands[event.channel].accepted()

    def _rejected(self, event: events.ChannelRejected) -> None:
        self._commands.pop(event.channel).failed(Refused(event.message, event.code))

    def _data(self, event: events.DataReceived) -> None:
        self._commands[event.channel].output_received(event.stream, event.data)

    def _stopped(self, event: events.StopReceived) -> None:
        self._commands[event.channel].input_stopped()

    def _closed(self, event: events.ChannelClosed) -> None:
        end = CommandResult.decode(event.result)
        self._commands.pop(event.channel).closed(end)

    def _pinged(self, event: events.PingReceived) -> None:
        self.send(self._machine.send_pong(event.payload))

    def _ponged(self, _event: events.PongReceived) -> None:
        self._pongs += 1

    def _going_away(self, event: events.GoingAway) -> None:
        for channel in [each for each in self._commands if each > event.last_channel]:
            self._commands.pop(channel).failed(AgentError(event.message, event.code))

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
        events.PongReceived: _ponged,
        events.GoingAway: _going_away,
    }
