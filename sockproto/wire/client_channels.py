"""The client's side of the channels: it opens them, and may cancel them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire.channel_state import Channel, ChannelState, Step
from sockproto.wire.channels import Channels
from sockproto.wire.events import ChannelAccepted, ChannelClosed, ChannelRejected, Event
from sockproto.wire.messages import (
    LARGEST_CHANNEL,
    FrameType,
    Stream,
    decode_json,
    decode_reason,
    pack,
)
from sockproto.wire.settings import MAX_CREDIT

__all__ = ["ClientChannels"]


class ClientChannels(Channels):
    """What a client keeps of its channels.

    :param settings: what the client announces.
    """

    _incoming_streams = frozenset({Stream.OUT, Stream.ERR})
    _outgoing_streams = frozenset({Stream.IN})
    _sending_states = frozenset({ChannelState.OPENING, ChannelState.OPEN})
    _receiving_states = frozenset({ChannelState.OPEN, ChannelState.CANCELLED})

    def _receive_accept(self, channel: Channel, body: bytes) -> Event | None:
        reply = decode_json(body)
        self._advance(channel, Step.ACCEPT, RemoteProtocolError)
        return None if channel.cancelled else ChannelAccepted(channel.id, reply)

    def _receive_reject(self, channel: Channel, body: bytes) -> Event:
        reason = decode_json(body)
        self._advance(channel, Step.REJECT, RemoteProtocolError)
        return ChannelRejected(channel.id, *decode_reason(reason))

    def _receive_close(self, channel: Channel, body: bytes) -> Event:
        result = decode_json(body)
        self._advance(channel, Step.CLOSE, RemoteProtocolError)
        return ChannelClosed(channel.id, result)

    def _receive_goaway(self, body: bytes) -> Event:
        event = super()._receive_goaway(body)
        assert self.going_away is not None
        # Those that are not served are over; what might still come for them is ignored.
        last = self.going_away.last_channel
        for channel_id in [each for each in self.channels if each > last]:
            del self.channels[channel_id]
        return event

    _ON_CONNECTION = {**Channels._ON_CONNECTION, FrameType.GOAWAY: _receive_goaway}
    _ON_CHANNEL = {
        FrameType.ACCEPT: _receive_accept,
        FrameType.REJECT: _receive_reject,
        FrameType.CLOSE: _receive_close,
    }

    def open(self, request: Mapping[str, Any], out: int, err: int) -> tuple[int, bytes]:
        """OPEN a channel.

        :param request: what is asked for; ``credit`` is added to it.
        :param out: the credit of stream 1, in bytes.
        :param err: the credit of stream 2.
        :return: the channel's id, and the frame.
        """
        if self.peer is None:
            raise LocalProtocolError("the server's SETTINGS have not come")
        if self.going_away is not None:
            raise LocalProtocolError("the server takes no new channels")
        if not (0 <= out <= MAX_CREDIT and 0 <= err <= MAX_CREDIT):
            raise LocalProtocolError(f"credit of {out} and {err}: expected 0 to {MAX_CREDIT}")
        channel_id = self.last_channel + 1
        if channel_id > LARGEST_CHANNEL:
            raise LocalProtocolError("this connection has no ids left for channels")
        credit = {"1": out, "2": err}
        frame = self._pack_json(FrameType.OPEN, channel_id, {**request, "credit": credit})
        self._new_channel(
            channel_id, {Stream.IN: self.peer.credit, Stream.OUT: out, Stream.ERR: err}
        )
        return channel_id, frame

    def cancel(self, channel_id: int) -> bytes:
        """CLOSE: cancel a channel; the server's CLOSE is still to come.

        :return: the frame; nothing (no bytes) where it is over or cancelled already.
        """
        channel = self.channels.get(channel_id)
        if channel is None or channel.cancelled:
            return b""
        self._advance(channel, Step.CANCEL, LocalProtocolError)
        return pack(FrameType.CLOSE, channel_id)
