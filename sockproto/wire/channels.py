"""The channels of an agent connection: what both sides of the machine share.

:mod:`~sockproto.wire.server_channels` and :mod:`~sockproto.wire.client_channels` are its two sides.
A machine keeps the state of every channel and the credit of every stream.  Give it the payload of
each frame that comes (:meth:`Channels.receive`) and it returns what that means, or raises
:class:`~sockproto.errors.RemoteProtocolError`; ask it to send something and it returns the bytes of
the frame, or raises :class:`~sockproto.errors.LocalProtocolError`.  It never holds data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar

from attrs import define

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire.events import (
    ControlReceived,
    CreditReceived,
    DataReceived,
    EndReceived,
    Event,
    GoingAway,
    PingReceived,
    PongReceived,
    SettingsReceived,
    StopReceived,
)
from sockproto.wire.messages import (
    DATA_OVERHEAD,
    MAX_DATA,
    FrameType,
    decode_credit,
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

__all__ = ["Channel", "ChannelState", "Channels"]

# From this type up, frames that are not known are ignored: later versions may add some.
_FIRST_IGNORED_TYPE = 0x80
_PING_LENGTH = 8
# What goes back and forth on a channel between its ACCEPT and its CLOSE.
_BETWEEN_ENDS = frozenset(
    {FrameType.DATA, FrameType.END, FrameType.STOP, FrameType.CREDIT, FrameType.CONTROL}
)


class ChannelState(Enum):
    """Where a channel is between its OPEN and its end."""

    OPENING = "opening"
    OPEN = "open"
    CANCELLED = "cancelled"


@define
class _Flow:
    """One stream of a channel: how much of it may still be sent, and whether it is over."""

    credit: int
    ended: bool = False
    stopped: bool = False


@define
class Channel:
    """The state of one channel.

    :ivar incoming: the streams that the peer sends on.
    :ivar outgoing: the streams that we send on.
    """

    id: int
    incoming: dict[int, _Flow]
    outgoing: dict[int, _Flow]
    state: ChannelState = ChannelState.OPENING


class Channels:
    """One side of a connection.

    :param settings: what this side announces.
    :ivar channels: the channels that are not over, by id.
    :ivar peer: the peer's settings, once they came.
    """

    _incoming_streams: ClassVar[frozenset[int]]
    _outgoing_streams: ClassVar[frozenset[int]]
    # The states in which we may send on a channel, and the peer may: who opens may send at once.
    _sending_states: ClassVar[frozenset[ChannelState]]
    _receiving_states: ClassVar[frozenset[ChannelState]]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.channels: dict[int, Channel] = {}
        self.peer: Settings | None = None
        self.last_channel = 0
        self._max_data = MAX_DATA
        self._ping: bytes | None = None
        self._on_connection: dict[int, Callable[[bytes], Event | None]] = {
            FrameType.PING: self._receive_ping,
            FrameType.PONG: self._receive_pong,
            FrameType.GOAWAY: self._receive_goaway,
        }
        self._on_channel: dict[int, Callable[[Channel, bytes], Event | None]] = {
            FrameType.DATA: self._receive_data,
            FrameType.END: self._receive_end,
            FrameType.STOP: self._receive_stop,
            FrameType.CREDIT: self._receive_credit,
            FrameType.CONTROL: self._receive_control,
        }

    # Receiving

    def receive(self, payload: bytes) -> Event | None:
        """Take one frame's payload and say what it means; ``None`` when it means nothing (more).

        :raises RemoteProtocolError: the connection has to end.
        """
        kind, channel_id = unpack_header(payload)
        if self.peer is None:
            return self._receive_settings(kind, channel_id, payload[5:])
        on_channel = self._on_channel.get(kind)
        if on_channel is not None:
            channel = self.channels.get(channel_id)
            if channel is None:
                if 0 < channel_id <= self.last_channel:
                    return None
                raise RemoteProtocolError(
                    f"{FrameType(kind).name} for channel {channel_id}, which was never opened"
                )
            if kind in _BETWEEN_ENDS and channel.state not in self._receiving_states:
                raise RemoteProtocolError(f"{FrameType(kind).name} before ACCEPT")
            return on_channel(channel, payload[5:])
        on_connection = self._on_connection.get(kind)
        if on_connection is None:
            if kind >= _FIRST_IGNORED_TYPE:
                return None
            raise RemoteProtocolError(f"a frame of type {kind}, which this side does not take")
        if channel_id != 0:
            raise RemoteProtocolError(f"{FrameType(kind).name} for a channel")
        return on_connection(payload[5:])

    def _receive_settings(self, kind: int, channel_id: int, body: bytes) -> Event:
        if kind != FrameType.SETTINGS or channel_id != 0:
            raise RemoteProtocolError("the first frame is not SETTINGS")
        self.peer = Settings.decode(decode_json(body))
        self._max_data = min(MAX_DATA, self.peer.max_frame - DATA_OVERHEAD)
        return SettingsReceived()

    def _receive_data(self, channel: Channel, body: bytes) -> Event | None:
        flow = _flow(channel.incoming, body[:1])
        length = len(body) - 1
        if not 0 < length <= MAX_DATA:
            raise RemoteProtocolError(f"DATA of {length} bytes: expected 1 to {MAX_DATA}")
        if flow.ended:
            raise RemoteProtocolError("DATA after END")
        flow.credit -= length
        if flow.credit < 0:
            raise RemoteProtocolError("DATA beyond the credit of its stream", "credit")
        if flow.stopped or channel.state is ChannelState.CANCELLED:
            return None
        return DataReceived(channel.id, body[0], body[1:])

    def _receive_end(self, channel: Channel, body: bytes) -> Event | None:
        flow = _flow(channel.incoming, body)
        if flow.ended:
            raise RemoteProtocolError("END after END")
        flow.ended = True
        if flow.stopped or channel.state is ChannelState.CANCELLED:
            return None
        return EndReceived(channel.id, body[0])

    def _receive_stop(self, channel: Channel, body: bytes) -> Event | None:
        flow = _flow(channel.outgoing, body)
        if flow.stopped:
            raise RemoteProtocolError("STOP after STOP")
        flow.stopped = True
        if flow.ended or channel.state is ChannelState.CANCELLED:
            return None
        return StopReceived(channel.id, body[0])

    def _receive_credit(self, channel: Channel, body: bytes) -> Event | None:
        stream, amount = decode_credit(body)
        flow = _flow(channel.outgoing, body[:1])
        if amount == 0 or flow.credit + amount > MAX_CREDIT:
            raise RemoteProtocolError(
                f"CREDIT of {amount} on top of {flow.credit}: expected 1 to {MAX_CREDIT} in all",
                "credit",
            )
        flow.credit += amount
        if flow.ended or flow.stopped or channel.state is ChannelState.CANCELLED:
            return None
        return CreditReceived(channel.id, stream)

    def _receive_control(self, channel: Channel, body: bytes) -> Event | None:
        control = decode_json(body)
        if channel.state is ChannelState.CANCELLED:
            return None
        return ControlReceived(channel.id, control)

    def _receive_ping(self, body: bytes) -> Event:
        if len(body) != _PING_LENGTH:
            raise RemoteProtocolError(f"PING of {len(body)} bytes: expected {_PING_LENGTH}")
        return PingReceived(body)

    def _receive_pong(self, body: bytes) -> Event:
        if self._ping is None or body != self._ping:
            raise RemoteProtocolError("PONG without its PING")
        self._ping = None
        return PongReceived()

    def _receive_goaway(self, body: bytes) -> Event:
        return GoingAway(*decode_goaway(body))

    # Sending

    def send_settings(self) -> bytes:
        """SETTINGS: the first frame that each side sends."""
        return pack_json(FrameType.SETTINGS, 0, self.settings.encode())

    def sendable(self, channel_id: int, stream: int) -> int:
        """How many bytes one DATA frame may carry on a stream now; 0 when none may."""
        channel = self.channels.get(channel_id)
        if channel is None or channel.state not in self._sending_states:
            return 0
        flow = channel.outgoing[stream]
        if flow.ended or flow.stopped:
            return 0
        return min(flow.credit, self._max_data)

    def send_data(self, channel_id: int, stream: int, length: int) -> bytes:
        """The part of a DATA frame that goes before its ``length`` bytes."""
        if not 0 < length <= self.sendable(channel_id, stream):
            raise LocalProtocolError(f"{length} bytes cannot be sent on stream {stream} now")
        self.channels[channel_id].outgoing[stream].credit -= length
        return pack_stream(FrameType.DATA, channel_id, stream, length)

    def send_end(self, channel_id: int, stream: int) -> bytes:
        """END; nothing (no bytes) where the peer already wants no more."""
        flow = self._open_channel(channel_id).outgoing[stream]
        if flow.ended:
            raise LocalProtocolError("the stream has ended already")
        flow.ended = True
        return b"" if flow.stopped else pack_stream(FrameType.END, channel_id, stream)

    def send_stop(self, channel_id: int, stream: int) -> bytes:
        """STOP; nothing (no bytes) where the stream is over already."""
        flow = self._open_channel(channel_id).incoming[stream]
        if flow.ended or flow.stopped:
            return b""
        flow.stopped = True
        return pack_stream(FrameType.STOP, channel_id, stream)

    def send_credit(self, channel_id: int, stream: int, amount: int) -> bytes:
        """CREDIT; nothing (no bytes) where the stream is over already."""
        flow = self._open_channel(channel_id).incoming[stream]
        if amount <= 0 or flow.credit + amount > MAX_CREDIT:
            raise LocalProtocolError(f"credit of {amount} on top of {flow.credit}")
        if flow.ended or flow.stopped:
            return b""
        flow.credit += amount
        return pack_credit(channel_id, stream, amount)

    def send_control(self, channel_id: int, body: Mapping[str, Any]) -> bytes:
        """CONTROL."""
        self._open_channel(channel_id)
        return pack_json(FrameType.CONTROL, channel_id, body)

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
        return pack(FrameType.PONG, 0, payload)

    def send_goaway(self, code: str, message: str) -> bytes:
        """GOAWAY: no channel beyond the last one opened is served."""
        return pack_goaway(self.last_channel, code, message)

    @property
    def may_ping(self) -> bool:
        """Whether a PING may be sent: none is outstanding."""
        return self._ping is None

    def is_open(self, channel_id: int) -> bool:
        """Whether anything may be sent on a channel."""
        channel = self.channels.get(channel_id)
        return channel is not None and channel.state in self._sending_states

    def receivable(self, channel_id: int, stream: int) -> int:
        """How much credit the peer has left on a stream."""
        channel = self.channels.get(channel_id)
        return 0 if channel is None else channel.incoming[stream].credit

    def _open_channel(self, channel_id: int) -> Channel:
        channel = self.channels.get(channel_id)
        if channel is None or channel.state not in self._sending_states:
            raise LocalProtocolError(f"channel {channel_id} is not open")
        return channel

    def _new_channel(self, channel_id: int, credit: Mapping[int, int]) -> Channel:
        channel = Channel(
            channel_id,
            {stream: _Flow(credit[stream]) for stream in self._incoming_streams},
            {stream: _Flow(credit[stream]) for stream in self._outgoing_streams},
        )
        self.last_channel = channel_id
        self.channels[channel_id] = channel
        return channel


def _flow(flows: Mapping[int, _Flow], stream: bytes) -> _Flow:
    flow = flows.get(stream[0]) if len(stream) == 1 else None
    if flow is None:
        raise RemoteProtocolError(f"a frame for a stream {stream.hex() or 'missing'} it cannot be")
    return flow
