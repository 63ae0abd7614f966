"""The server's side of the channels: it accepts or rejects them, and ends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire.channels import Channel, Channels, ChannelState
from sockproto.wire.events import CancelReceived, ChannelOpened, Event
from sockproto.wire.messages import FrameType, Stream, decode_json, pack_json
from sockproto.wire.settings import MAX_CREDIT, Settings, integer

__all__ = ["ServerChannels"]


class ServerChannels(Channels):
    """What a server keeps of its channels.

    :param settings: what the server announces.
    """

    _incoming_streams = frozenset({Stream.IN})
    _outgoing_streams = frozenset({Stream.OUT, Stream.ERR})
    _sending_states = frozenset({ChannelState.OPEN})
    _receiving_states = frozenset(ChannelState)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._going_away = False
        self._on_channel[FrameType.CLOSE] = self._receive_cancel

    def receive(self, payload: bytes) -> Event | None:
        """As :meth:`Channels.receive`; OPEN alone names a channel that is not there yet."""
        if self.peer is not None and payload[:1] == _OPEN:
            return self._receive_open(int.from_bytes(payload[1:5], "big"), payload[5:])
        return super().receive(payload)

    def _receive_open(self, channel_id: int, body: bytes) -> Event | None:
        if channel_id <= self.last_channel:
            raise RemoteProtocolError(
                f"OPEN of channel {channel_id} after {self.last_channel}: ids increase"
            )
        request = decode_json(body)
        credit = request.get("credit")
        if not isinstance(credit, dict):
            raise RemoteProtocolError("OPEN: credit is not an object")
        channel_credit: dict[int, int] = {
            Stream.IN: self.settings.credit,
            Stream.OUT: integer(credit, "1", 0, MAX_CREDIT, 0),
            Stream.ERR: integer(credit, "2", 0, MAX_CREDIT, 0),
        }
        if self._going_away:
            # The client learns from GOAWAY that this one is not served.
            self.last_channel = channel_id
            return None
        self._new_channel(channel_id, channel_credit)
        return ChannelOpened(channel_id, request)

    def _receive_cancel(self, channel: Channel, body: bytes) -> Event:
        if channel.state is ChannelState.CANCELLED:
            raise RemoteProtocolError("CLOSE after CLOSE")
        channel.state = ChannelState.CANCELLED
        return CancelReceived(channel.id)

    def accept(self, channel_id: int, reply: Mapping[str, Any]) -> bytes:
        """ACCEPT; nothing (no bytes) where the client has cancelled meanwhile."""
        channel = self._channel(channel_id)
        if channel.state is ChannelState.CANCELLED:
            return b""
        if channel.state is not ChannelState.OPENING:
            raise LocalProtocolError(f"channel {channel_id} is open already")
        channel.state = ChannelState.OPEN
        return pack_json(FrameType.ACCEPT, channel_id, reply)

    def reject(self, channel_id: int, code: str, message: str) -> bytes:
        """REJECT: the channel is over."""
        channel = self._channel(channel_id)
        if channel.state is ChannelState.OPEN:
            raise LocalProtocolError(f"channel {channel_id} has been accepted")
        del self.channels[channel_id]
        return pack_json(FrameType.REJECT, channel_id, {"code": code, "message": message})

    def close(self, channel_id: int, result: Mapping[str, Any]) -> bytes:
        """CLOSE with the channel's result: it is over."""
        channel = self._channel(channel_id)
        if channel.state is ChannelState.OPENING:
            raise LocalProtocolError(
                f"channel {channel_id} has been neither accepted nor cancelled"
            )
        del self.channels[channel_id]
        return pack_json(FrameType.CLOSE, channel_id, result)

    def fail(self, channel_id: int, code: str, message: str) -> bytes:
        """REJECT or CLOSE, whichever is due, for a channel that comes to nothing."""
        if self._channel(channel_id).state is ChannelState.OPENING:
            return self.reject(channel_id, code, message)
        return self.close(channel_id, {"error": {"code": code, "message": message}})

    def send_goaway(self, code: str, message: str) -> bytes:
        """GOAWAY; channels opened from now on are ignored."""
        self._going_away = True
        return super().send_goaway(code, message)

    def _channel(self, channel_id: int) -> Channel:
        channel = self.channels.get(channel_id)
        if channel is None:
            raise LocalProtocolError(f"channel {channel_id} is not there")
        return channel


_OPEN = bytes((FrameType.OPEN,))
