"""The server's side of an agent connection: channels on one transport, and their services."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.auth.principal import Principal
from sockproto.errors import FrameTooLong, RemoteProtocolError
from sockproto.framing import FramedProtocol
from sockproto.interfaces import IDroppable
from sockproto.logs import Logger
from sockproto.session.channel import ServerChannel
from sockproto.session.input_credit import InputPool
from sockproto.session.keepalive import keep_alive
from sockproto.session.turns import Turns
from sockproto.wire import events
from sockproto.wire.commands import InvalidRequest
from sockproto.wire.server_channels import ServerChannels
from sockproto.wire.settings import PING_FEATURE

if TYPE_CHECKING:
    from sockproto.session.factory import AgentFactory

__all__ = ["AgentProtocol"]

#: Replies other than DATA that a peer may leave unread; who owes more is being flooded.
MAX_OWED = 65_536


class _State(Enum):
    SERVING = "channels may be opened"
    LEAVING = "it is closed once no channel is open"
    CLOSING = "nothing is said or heard any longer"


@implementer(IDroppable)
class AgentProtocol(FramedProtocol):
    """An agent connection after the login; docs/protocol.rst has its grammar.

    Never stops reading: a client that floods it with questions and reads no answers is cut off.
    """

    _log = Logger()
    factory: AgentFactory

    def __init__(self, factory: AgentFactory) -> None:
        self.factory = factory
        limits = factory.limits
        self.MAX_LENGTH = limits.frame
        self.machine = ServerChannels(factory.settings)
        self.inputPool = InputPool.for_channels(limits.channels, factory.settings.credit)
        self.turns = Turns()
        self._channels: dict[int, ServerChannel] = {}
        self._state = _State.SERVING
        self._heard = True
        self._idleTimer: IDelayedCall | None = None
        self._closeTimer: IDelayedCall | None = None

    @property
    def principal(self) -> Principal:
        """Who is at the other end."""
        principal: Principal = self.transport.principal
        return principal

    # The connection

    def connectionMade(self) -> None:
        """Announce what this server takes."""
        self.factory.sessions.add(self)
        self.transport.registerProducer(self.turns, True)
        keep_alive(self.transport)
        self._watch()
        self.reply(self.machine.send_settings())

    def stringReceived(self, payload: bytes) -> None:
        """One frame."""
        self._heard = True
        if self._state is _State.CLOSING:
            return
        try:
            event = self.machine.receive(payload)
        except RemoteProtocolError as error:
            self._fail(error)
            return
        if event is not None:
            self._RECEIVERS[type(event)](self, event)

    def lengthLimitExceeded(self, length: int) -> None:
        """A frame that is too long ends the connection."""
        self._fail(FrameTooLong(length, self.MAX_LENGTH))

    def reply(self, frame: bytes) -> None:
        """Send a frame other than DATA, which no credit holds back."""
        if self._state is _State.CLOSING or not frame:
            return
        if self.turns.paused:
            self.turns.owed += len(frame)
        if self.turns.owed > MAX_OWED:
            self._log.warn(
                "{session}: the peer asks and does not read the answers", session=self.describe()
            )
            self._close("flood", "too many answers are waiting to be read", abort=True)
            return
        self.transport.write(frame)

    def describe(self) -> str:
        """This session for the log."""
        principal = self.principal
        return f"session of {principal.identity} from {principal.address}"

    def goAway(self, code: str, message: str) -> None:
        """Take no new channels, and close once those that are open have finished."""
        if self._state is not _State.CLOSING:
            self._state = _State.LEAVING
            self.reply(self.machine.send_goaway(code, message))
            self._closeWhenDone()

    def drop(self, code: str, message: str) -> None:
        """Close at once, and end what runs."""
        self._close(code, message)

    def _fail(self, error: RemoteProtocolError) -> None:
        self._log.warn(
            "{session}: {error} ({code})",
            session=self.describe(),
            error=str(error)[:256],
            code=error.code,
        )
        self._close(error.code, str(error)[:256])

    def _close(self, code: str, message: str, abort: bool = False) -> None:
        """The final GOAWAY and the end of the connection, with everything that runs on it."""
        if self._state is _State.CLOSING:
            return
        self.transport.write(self.machine.send_goaway(code, message))
        self._shut()
        if abort:
            self.transport.abortConnection()
        self._forsake()

    def _shut(self) -> None:
        self._state = _State.CLOSING
        self._stopWatching()
        self.turns.stopProducing()
        # A registered producer would keep the transport from closing.
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._closeTimer = self.factory.clock.callLater(
            self.factory.limits.close_seconds, self.transport.abortConnection
        )

    def _forsake(self) -> None:
        """Tell the services that nobody is there any longer."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            self._leave(channel)

    def _leave(self, channel: ServerChannel) -> None:
        """Tell a channel's service that nobody is there any longer; the others hear it as well,
        even if this one makes a mistake."""
        if channel.served is not None:
            try:
                channel.served.connectionLost()
            except Exception:
                self._log.failure("{session}: leaving a channel failed", session=self.describe())

    def _closeWhenDone(self) -> None:
        if self._state is _State.LEAVING and not self._channels:
            self._shut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End everything that runs for this connection."""
        super().connectionLost(reason)
        self._state = _State.CLOSING
        self._stopWatching()
        self.turns.stopProducing()
        if self._closeTimer is not None and self._closeTimer.active():
            self._closeTimer.cancel()
        self._forsake()
        self.factory.sessionOver(self)

    # A peer that has vanished

    def _watch(self) -> None:
        self._idleTimer = self.factory.clock.callLater(
            self.factory.limits.idle_seconds / 2, self._quiet
        )

    def _quiet(self) -> None:
        """Half of the idle time is over: was there anything, and if not, is the peer there?"""
        peer = self.machine.peer
        if peer is None or not self._heard:
            self._log.warn("{session}: the peer is silent", session=self.describe())
            self._close("idle", "nothing was heard for too long", abort=True)
            return
        self._watch()
        # A client without the feature reads only now and then; the kernel's keepalive watches it.
        if PING_FEATURE in peer.features:
            self._heard = False
            if self.machine.may_ping:
                self.reply(self.machine.send_ping(os.urandom(8)))

    def _stopWatching(self) -> None:
        if self._idleTimer is not None and self._idleTimer.active():
            self._idleTimer.cancel()

    # Channels

    def _opened(self, event: events.ChannelOpened) -> None:
        channel = ServerChannel(self, event.channel)
        if len(self._channels) >= self.machine.settings.max_channels:
            channel.reject("busy", f"{len(self._channels)} channels are open on this connection")
            return
        name = event.request.get("service")
        service = self.factory.services.get(name) if isinstance(name, str) else None
        if service is None:
            channel.reject("unknown", "no such service of the agent")
            return
        self._channels[event.channel] = channel
        try:
            channel.served = service.open(channel, event.request)
        except InvalidRequest as error:
            if event.channel in self._channels:
                channel.fail("invalid", str(error))
        except Exception:
            self.channelFailed(channel)
        else:
            if self._state is _State.CLOSING:
                # It came to that while the service was at it, and so was not told.
                self._leave(channel)

    def _dataCame(self, event: events.DataReceived) -> None:
        channel = self._channels[event.channel]
        channel.received(len(event.data))
        self._tell(channel, "dataReceived", event.data)

    def _end(self, event: events.EndReceived) -> None:
        channel = self._channels[event.channel]
        channel.inputEnded()
        self._tell(channel, "endReceived")

    def _stop(self, event: events.StopReceived) -> None:
        self._tell(self._channels[event.channel], "stopReceived", event.stream)

    def _credit(self, event: events.CreditReceived) -> None:
        self._tell(self._channels[event.channel], "creditReceived", event.stream)

    def _control(self, event: events.ControlReceived) -> None:
        self._tell(self._channels[event.channel], "controlReceived", event.body)

    def _cancel(self, event: events.CancelReceived) -> None:
        self._tell(self._channels[event.channel], "cancelled")

    def _tell(self, channel: ServerChannel, what: str, *args: Any) -> None:
        """Tell a channel's service what came."""
        if channel.served is None:
            return
        try:
            getattr(channel.served, what)(*args)
        except Exception:
            self.channelFailed(channel)

    def channelFailed(self, channel: ServerChannel) -> None:
        """A fault of a service, which is being handled, ends its channel and not the others."""
        self._log.failure("{session}: a channel failed", session=self.describe())
        if channel.id in self._channels:
            self._leave(channel)
        if channel.id in self._channels:
            channel.fail("internal", "the server made a mistake; its log says which")

    def channelOver(self, channelId: int) -> None:
        """A channel has been rejected or closed."""
        self._channels.pop(channelId, None)
        self._closeWhenDone()

    def _pinged(self, event: events.PingReceived) -> None:
        self.reply(self.machine.send_pong(event.payload))

    def _goingAway(self, _event: events.GoingAway) -> None:
        self._state = _State.LEAVING
        self._closeWhenDone()

    def _nothing(self, _event: events.Event) -> None:
        pass

    _RECEIVERS: ClassVar[dict[type, Callable[[AgentProtocol, Any], None]]] = {
        events.SettingsReceived: _nothing,
        events.ChannelOpened: _opened,
        events.DataReceived: _dataCame,
        events.EndReceived: _end,
        events.StopReceived: _stop,
        events.CreditReceived: _credit,
        events.ControlReceived: _control,
        events.CancelReceived: _cancel,
        events.PingReceived: _pinged,
        events.PongReceived: _nothing,
        events.GoingAway: _goingAway,
    }
