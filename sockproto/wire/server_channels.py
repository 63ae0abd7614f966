"""The server's side of the channels: it accepts or rejects them, and ends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire.channel_state import Channel, ChannelState, Step
from sockproto.wire.channels import Channels
from sockproto.wire.events import CancelReceived, ChannelOpened, Event
from sockproto.wire.messages import FrameType, Stream, decode_json, encode_reason, pack_goaway
from sockproto.wire.settings import MAX_CREDIT, Settings, integer

__all__ = ["ServerChannels"]


class ServerChannels(Channels):
    """What a server keeps of its channels.

    :param settings: what the server announces.
    """

    _incoming_streams = frozenset({Stream.IN})
    _outgoing_streams = frozenset({Stream.OUT, Stream.ERR})
    _sending_states = frozenset({ChannelState.OPEN})
    # A client need not wait for ACCEPT; what it sends behind its cancel is ignored.
    _receiving_states = frozenset(ChannelState)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._last_served: int | None = None

    def _receive_open(self, channel_id: int, body: bytes) -> Event | None:
        if self.going_away is not None:
            raise RemoteProtocolError("OPEN after GOAWAY")
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
        if self._last_served is not None:
            # It crossed our GOAWAY, from which the client learns that this one is not served.
            self.last_channel = channel_id
            return None
        self._new_channel(channel_id, channel_credit)
        return ChannelOpened(channel_id, request)

    def _receive_cancel(self, channel: Channel, _body: bytes) -> Event:
        self._advance(channel, Step.CANCEL, RemoteProtocolError)
        return CancelReceived(channel.id)

    _ON_CHANNEL = {FrameType.CLOSE: _receive_cancel}
    _ON_NEW = {FrameType.OPEN: _receive_open}

    def accept(self, channel_id: int, reply: Mapping[str, Any]) -> bytes:
        """ACCEPT; nothing (no bytes) where the client has cancelled meanwhile."""
        channel = self._channel(channel_id)
        if channel.state is ChannelState.WITHDRAWN:
            return b""
        frame = self._pack_json(FrameType.ACCEPT, channel_id, reply)
        self._advance(channel, Step.ACCEPT, LocalProtocolError)
        return frame

    def reject(self, channel_id: int, code: str, message: str) -> bytes:
        """REJECT: the channel is over."""
        channel = self._channel(channel_id)
        self._advance(channel, Step.REJECT, LocalProtocolError)
        return self._pack_json(FrameType.REJECT, channel_id, encode_reason(code, message))

    def close(self, channel_id: int, result: Mapping[str, Any]) -> bytes:
        """CLOSE with the channel's result: it is over."""
        channel = self._channel(channel_id)
        frame = self._pack_json(FrameType.CLOSE, channel_id, result)
        self._advance(channel, Step.CLOSE, LocalProtocolError)
        return frame

    def fail(self, channel_id: int, code: str, message: str) -> bytes:
        """REJECT or CLOSE, whichever is due, for a channel that comes to nothing."""
        if self._channel(channel_id).state is ChannelState.OPENING:
            return self.reject(channel_id, code, message)
        return self.close(channel_id, {"error": encode_reason(code, message)})

    def send_goaway(self, code: str, message: str) -> bytes:
        """GOAWAY; channels opened from now on are ignored."""
        if self._last_served is None:
            self._last_served = self.last_channel
        return pack_goaway(self._last_served, code, message)

    def _channel(self, channel_id: int) -> Channel:
        channel = self.channels.get(channel_id)
        if channel is None:
            raise LocalProtocolError(f"channel {channel_id} is not there")
        return channel
