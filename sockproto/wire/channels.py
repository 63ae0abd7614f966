"""The channels of an agent connection: what both sides of the machine share.

:mod:`~sockproto.wire.server_channels` and :mod:`~sockproto.wire.client_channels` are its two sides.
A machine keeps the state of every channel and the credit of every stream.  Give it the payload of
each frame that comes (:meth:`Channels.receive`) and it returns what that means, or raises
:class:`~sockproto.errors.RemoteProtocolError`; ask it to send something and it returns the bytes of
the frame, or raises :class:`~sockproto.errors.LocalProtocolError`.  It never holds data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire.channel_state import Channel, ChannelState, Flow, Step
from sockproto.wire.events import (
    Event,
    GoingAway,
    PingReceived,
    PongReceived,
    SettingsReceived,
)
from sockproto.wire.messages import (
    DATA_OVERHEAD,
    LENGTH_PREFIX,
    MAX_DATA,
    FrameType,
    decode_goaway,
    decode_json,
    pack,
    pack_credit,
    pack_goaway,
    pack_json,
    pack_stream,
    unpack_header,
)
from sockproto.wire.settings import MAX_CREDIT, Settings
from sockproto.wire.streams import ON_STREAMS

__all__ = ["Channels"]

# From this type up, frames that are not known are ignored: later versions may add some.
_FIRST_IGNORED_TYPE = 0x80
_PING_LENGTH = 8


class Channels:
    """One side of a connection.

    :param settings: what this side announces.
    :ivar channels: the channels that are not over, by id.
    :ivar peer: the peer's settings, once they came.
    :ivar going_away: the peer's last GOAWAY, if there was one.
    :ivar last_channel: the highest id of a channel so far.
    """

    _incoming_streams: ClassVar[frozenset[int]]
    _outgoing_streams: ClassVar[frozenset[int]]
    # The states in which we may send on the streams of a channel, and those in which the peer may.
    _sending_states: ClassVar[frozenset[ChannelState]]
    _receiving_states: ClassVar[frozenset[ChannelState]]
    # What is done with the types of frames that begin and end a channel, and with those that name
    # one that is not there yet.  Those of its streams and of the connection are the same for both.
    _ON_CHANNEL: ClassVar[Mapping[int, Callable[[Any, Channel, bytes], Event | None]]]
    _ON_NEW: ClassVar[Mapping[int, Callable[[Any, int, bytes], Event | None]]] = {}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.channels: dict[int, Channel] = {}
        self.peer: Settings | None = None
        self.going_away: GoingAway | None = None
        self.last_channel = 0
        self._max_data = MAX_DATA
        self._ping: bytes | None = None
        self._unanswered: bytes | None = None

    # Receiving

    def receive(self, payload: bytes) -> Event | None:
        """Take one frame's payload and say what it means; ``None`` when it means nothing (more).

        :raises RemoteProtocolError: the connection has to end.
        """
        kind, channel_id = unpack_header(payload)
        body = payload[5:]
        if self.peer is None:
            return self._receive_settings(kind, channel_id, body)
        if kind in ON_STREAMS or kind in self._ON_CHANNEL:
            return self._receive_on_channel(kind, channel_id, body)
        if kind in self._ON_NEW:
            return self._ON_NEW[kind](self, channel_id, body)
        if kind in self._ON_CONNECTION:
            if channel_id != 0:
                raise RemoteProtocolError(f"{FrameType(kind).name} for a channel")
            return self._ON_CONNECTION[kind](self, body)
        if kind >= _FIRST_IGNORED_TYPE:
            return None
        raise RemoteProtocolError(f"a frame of type {kind}, which this side does not take")

    def _receive_on_channel(self, kind: int, channel_id: int, body: bytes) -> Event | None:
        channel = self.channels.get(channel_id)
        if channel is None:
            # Ids increase: one that was skipped is as much over as one that was used.
            if 0 < channel_id <= self.last_channel:
                return None
            raise RemoteProtocolError(
                f"{FrameType(kind).name} for channel {channel_id}, which was never opened"
            )
        on_streams = ON_STREAMS.get(kind)
        if on_streams is None:
            return self._ON_CHANNEL[kind](self, channel, body)
        if channel.state not in self._receiving_states:
            raise RemoteProtocolError(f"{FrameType(kind).name} before ACCEPT")
        event = on_streams(channel, body)
        return None if channel.cancelled else event

    def _receive_settings(self, kind: int, channel_id: int, body: bytes) -> Event:
        if kind != FrameType.SETTINGS or channel_id != 0:
            raise RemoteProtocolError("the first frame is not SETTINGS")
        self.peer = Settings.decode(decode_json(body))
        self._max_data = min(MAX_DATA, self.peer.max_frame - DATA_OVERHEAD)
        return SettingsReceived()

    def _receive_ping(self, body: bytes) -> Event:
        if len(body) != _PING_LENGTH:
            raise RemoteProtocolError(f"PING of {len(body)} bytes: expected {_PING_LENGTH}")
        if self._unanswered is not None:
            raise RemoteProtocolError("PING before the answer to the last one")
        self._unanswered = body
        return PingReceived(body)

    def _receive_pong(self, body: bytes) -> Event:
        if self._ping is None or body != self._ping:
            raise RemoteProtocolError("PONG without its PING")
        self._ping = None
        return PongReceived()

    def _receive_goaway(self, body: bytes) -> Event:
        self.going_away = GoingAway(*decode_goaway(body))
        return self.going_away

    _ON_CONNECTION: ClassVar[Mapping[int, Callable[[Any, bytes], Event]]] = {
        FrameType.PING: _receive_ping,
        FrameType.PONG: _receive_pong,
        FrameType.GOAWAY: _receive_goaway,
    }

    # Sending

    def send_settings(self) -> bytes:
        """SETTINGS: the first frame that each side sends."""
        return pack_json(FrameType.SETTINGS, 0, self.settings.encode())

    def sendable(self, channel_id: int, stream: int) -> int:
        """How many bytes one DATA frame may carry on a stream now; 0 when none may."""
        if not self.is_open(channel_id):
            return 0
        flow = _own(self.channels[channel_id].outgoing, stream)
        return 0 if flow.over else min(flow.credit, self._max_data)

    def send_data(self, channel_id: int, stream: int, length: int) -> bytes:
        """The part of a DATA frame that goes before its ``length`` bytes."""
        if not 0 < length <= self.sendable(channel_id, stream):
            raise LocalProtocolError(f"{length} bytes cannot be sent on stream {stream} now")
        self.channels[channel_id].outgoing[stream].credit -= length
        return pack_stream(FrameType.DATA, channel_id, stream, length)

    def send_end(self, channel_id: int, stream: int) -> bytes:
        """END; nothing (no bytes) where the peer already wants no more."""
        flow = _own(self._open_channel(channel_id).outgoing, stream)
        if flow.ended:
            raise LocalProtocolError("the stream has ended already")
        flow.ended = True
        return b"" if flow.stopped else pack_stream(FrameType.END, channel_id, stream)

    def send_stop(self, channel_id: int, stream: int) -> bytes:
        """STOP; nothing (no bytes) where the stream is over already."""
        flow = _own(self._open_channel(channel_id).incoming, stream)
        if flow.over:
            return b""
        flow.stopped = True
        return pack_stream(FrameType.STOP, channel_id, stream)

    def send_credit(self, channel_id: int, stream: int, amount: int) -> bytes:
        """CREDIT; nothing (no bytes) where the stream is over already."""
        flow = _own(self._open_channel(channel_id).incoming, stream)
        if amount <= 0 or flow.credit + amount > MAX_CREDIT:
            raise LocalProtocolError(f"credit of {amount} on top of {flow.credit}")
        if flow.over:
            return b""
        flow.credit += amount
        return pack_credit(channel_id, stream, amount)

    def send_control(self, channel_id: int, body: Mapping[str, Any]) -> bytes:
        """CONTROL."""
        self._open_channel(channel_id)
        return self._pack_json(FrameType.CONTROL, channel_id, body)

    def send_ping(self, payload: bytes) -> bytes:
        """PING, with eight bytes of the caller's; one may be outstanding."""
        if len(payload) != _PING_LENGTH:
            raise LocalProtocolError(f"a PING carries {_PING_LENGTH} bytes")
        if self._ping is not None:
            raise LocalProtocolError("a PING is outstanding already")
        self._ping = payload
        return pack(FrameType.PING, 0, payload)

    def send_pong(self, payload: bytes) -> bytes:
        """PONG, the answer to a PING."""
        if self._unanswered is None or payload != self._unanswered:
            raise LocalProtocolError("there is no such PING to answer")
        self._unanswered = None
        return pack(FrameType.PONG, 0, payload)

    def send_goaway(self, code: str, message: str) -> bytes:
        """GOAWAY: no channel beyond the last one opened is served."""
        return pack_goaway(self.last_channel, code, message)

    @property
    def may_ping(self) -> bool:
        """Whether a PING may be sent: none is outstanding."""
        return self._ping is None

    def is_open(self, channel_id: int) -> bool:
        """Whether anything may be sent on the streams of a channel."""
        channel = self.channels.get(channel_id)
        return channel is not None and channel.state in self._sending_states

    def receivable(self, channel_id: int, stream: int) -> int:
        """How much credit the peer has left on a stream."""
        channel = self.channels.get(channel_id)
        return 0 if channel is None else _own(channel.incoming, stream).credit

    # For both

    def _open_channel(self, channel_id: int) -> Channel:
        if not self.is_open(channel_id):
            raise LocalProtocolError(f"channel {channel_id} is not open")
        return self.channels[channel_id]

    def _new_channel(self, channel_id: int, credit: Mapping[int, int]) -> None:
        self.last_channel = channel_id
        self.channels[channel_id] = Channel(
            channel_id,
            {stream: Flow(credit[stream]) for stream in self._incoming_streams},
            {stream: Flow(credit[stream]) for stream in self._outgoing_streams},
        )

    def _advance(
        self, channel: Channel, step: Step, error: type[LocalProtocolError | RemoteProtocolError]
    ) -> None:
        """Have a channel take a step; one that is over is forgotten."""
        if not channel.advance(step):
            raise error(f"{step.value} for channel {channel.id}, which is {channel.state.value}")
        if channel.state is ChannelState.OVER:
            del self.channels[channel.id]

    def _pack_json(self, kind: FrameType, channel_id: int, body: Mapping[str, Any]) -> bytes:
        """A whole frame with a JSON object, if the peer takes one of that length."""
        assert self.peer is not None
        frame = pack_json(kind, channel_id, body)
        length = len(frame) - LENGTH_PREFIX
        if length > self.peer.max_frame:
            raise LocalProtocolError(
                f"{kind.name} of {length} bytes: the peer takes {self.peer.max_frame}"
            )
        return frame


def _own(flows: Mapping[int, Flow], stream: int) -> Flow:
    """The stream that the program which uses this machine speaks of."""
    if stream not in flows:
        raise LocalProtocolError(f"this side has no stream {stream} to do that with")
    return flows[stream]
