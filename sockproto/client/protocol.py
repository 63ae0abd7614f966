"""The client's side of an agent connection after the login, for Twisted programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from sockproto.client.command import Command
from sockproto.errors import (
    AgentError,
    ConnectionLost,
    FrameTooLong,
    LocalProtocolError,
    RemoteProtocolError,
)
from sockproto.framing import FramedProtocol
from sockproto.logs import Logger
from sockproto.output_credit import WINDOWS
from sockproto.result import left, refused
from sockproto.wire import events
from sockproto.wire.client_channels import ClientChannels
from sockproto.wire.commands import CommandResult
from sockproto.wire.messages import Stream
from sockproto.wire.settings import PING_FEATURE, Settings

__all__ = ["SessionProtocol"]

_MAX_FRAME = 256 * 1024


class SessionProtocol(FramedProtocol):
    """Frames to and from an agent, and the commands they belong to.

    :ivar ready: fires once the server's settings have come.
    """

    MAX_LENGTH = _MAX_FRAME
    _log = Logger()

    def __init__(self) -> None:
        self._machine = ClientChannels(Settings(_MAX_FRAME, features=(PING_FEATURE,)))
        self._commands: dict[int, Command] = {}
        self._pings: list[Deferred[None]] = []
        self._lost: AgentError | None = None
        self._gone = False
        self._whenLost: list[Deferred[None]] = []
        self.ready: Deferred[SessionProtocol] = Deferred(lambda _: self.abort())

    # What a session asks for

    def open(self, command: Command, request: Mapping[str, Any]) -> None:
        """Ask for a command; it hears what becomes of it.

        :raises AgentError: nothing can be asked for on this connection.
        """
        self._check()
        try:
            channel, frame = self._machine.open(request, WINDOWS[Stream.OUT], WINDOWS[Stream.ERR])
        except LocalProtocolError as error:
            raise AgentError(str(error), "too-long") from None
        self._commands[channel] = command
        command.opened(channel)
        self.transport.write(frame)

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost
        leaving = self._machine.going_away
        if leaving is not None:
            raise left(leaving)

    def ping(self) -> Deferred[None]:
        """Ask whether the server is there.

        :return: fires when it has answered; fails when the connection is lost before.
        """
        answered: Deferred[None] = Deferred()
        if self._lost is not None:
            answered.errback(self._lost)
            return answered
        self._pings.append(answered)
        if self._machine.may_ping:
            self.transport.write(self._machine.send_ping(os.urandom(8)))
        return answered

    def grant(self, channel: int, stream: int, amount: int) -> None:
        """Let the server send more."""
        if self._machine.is_open(channel):
            self.transport.write(self._machine.send_credit(channel, stream, amount))

    def sendInput(self, channel: int, data: bytes) -> int:
        """Send as much of ``data`` as credit allows.

        :return: how many bytes that is.
        """
        sent = 0
        while sent < len(data):
            room = self._machine.sendable(channel, Stream.IN)
            if not room:
                break
            piece = data[sent : sent + room]
            header = self._machine.send_data(channel, Stream.IN, len(piece))
            self.transport.writeSequence((header, piece))
            sent += len(piece)
        return sent

    def endInput(self, channel: int) -> None:
        """There is no more input."""
        if self._machine.is_open(channel):
            self.transport.write(self._machine.send_end(channel, Stream.IN))

    def control(self, channel: int, body: Mapping[str, Any]) -> None:
        """Send a signal or the like."""
        if self._machine.is_open(channel):
            self.transport.write(self._machine.send_control(channel, body))

    def cancel(self, channel: int) -> None:
        """Cancel a command."""
        if self._lost is None:
            self.transport.write(self._machine.cancel(channel))

    def close(self) -> Deferred[None]:
        """Close the connection; what runs on it is ended by the server.

        :return: fires once it is closed.
        """
        closed: Deferred[None] = Deferred()
        if self._gone:
            closed.callback(None)
        else:
            self._whenLost.append(closed)
            self._lose(ConnectionLost("the session was closed"))
            self.transport.loseConnection()
        return closed

    def abort(self) -> None:
        """Close the connection, whatever is still to be sent."""
        self.transport.abortConnection()

    # What comes

    def connectionMade(self) -> None:
        """Announce what this client takes."""
        # Else a short input waits until the server has acknowledged what was sent before. (Twisted
        # has it that Unix connections are TCP's too.)
        transport: Any = self.transport
        if transport.principal.host is not None and ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        self.transport.write(self._machine.send_settings())

    def stringReceived(self, payload: bytes) -> None:
        """One frame."""
        try:
            event = self._machine.receive(payload)
            if event is not None:
                self._RECEIVERS[type(event)](self, event)
        except RemoteProtocolError as error:
            self._fail(error)

    def lengthLimitExceeded(self, length: int) -> None:
        """A frame that is too long ends the connection."""
        self._fail(FrameTooLong(length, self.MAX_LENGTH))

    def _fail(self, error: RemoteProtocolError) -> None:
        """The server broke the protocol."""
        self._log.warn("the agent broke the protocol: {error}", error=str(error)[:256])
        self._lose(AgentError(f"the agent broke the protocol: {error}", "protocol"))
        self.transport.abortConnection()

    def _lose(self, error: AgentError) -> None:
        """Nothing more will come: tell everybody who waits."""
        if self._lost is not None:
            return
        self._lost = error
        commands, self._commands = self._commands, {}
        pings, self._pings = self._pings, []
        for command in commands.values():
            command.failed(error)
        for ping in pings:
            ping.errback(error)
        if not self.ready.called:
            self.ready.errback(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        super().connectionLost(reason)
        self._gone = True
        leaving = self._machine.going_away
        self._lose(
            left(leaving)
            if leaving is not None
            else ConnectionLost(f"the connection was lost: {reason.getErrorMessage()}")
        )
        waiting, self._whenLost = self._whenLost, []
        for closed in waiting:
            closed.callback(None)

    def _settled(self, _event: events.SettingsReceived) -> None:
        if not self.ready.called:
            self.ready.callback(self)

    def _accepted(self, event: events.ChannelAccepted) -> None:
        self._commands[event.channel].accepted()

    def _rejected(self, event: events.ChannelRejected) -> None:
        self._commands.pop(event.channel).failed(refused(event))

    def _dataCame(self, event: events.DataReceived) -> None:
        self._commands[event.channel].outputReceived(event.stream, event.data)

    def _credit(self, event: events.CreditReceived) -> None:
        self._commands[event.channel].creditReceived()

    def _stop(self, event: events.StopReceived) -> None:
        self._commands[event.channel].inputStopped()

    def _closed(self, event: events.ChannelClosed) -> None:
        end = CommandResult.decode(event.result)
        self._commands.pop(event.channel).closed(end)

    def _pinged(self, event: events.PingReceived) -> None:
        self.transport.write(self._machine.send_pong(event.payload))

    def _ponged(self, _event: events.PongReceived) -> None:
        pings, self._pings = self._pings, []
        for ping in pings:
            ping.callback(None)

    def _goingAway(self, event: events.GoingAway) -> None:
        for channel in [each for each in self._commands if each > event.last_channel]:
            self._commands.pop(channel).failed(left(event))

    def _nothing(self, _event: events.Event) -> None:
        pass

    _RECEIVERS: ClassVar[dict[type, Callable[[SessionProtocol, Any], None]]] = {
        events.SettingsReceived: _settled,
        events.ChannelAccepted: _accepted,
        events.ChannelRejected: _rejected,
        events.DataReceived: _dataCame,
        events.EndReceived: _nothing,
        events.StopReceived: _stop,
        events.CreditReceived: _credit,
        events.ControlReceived: _nothing,
        events.ChannelClosed: _closed,
        events.PingReceived: _pinged,
        events.PongReceived: _ponged,
        events.GoingAway: _goingAway,
    }
