"""The client's side of the channels: it opens them, and may cancel them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire.channels import Channel, Channels, ChannelState
from sockproto.wire.events import ChannelAccepted, ChannelClosed, ChannelRejected, Event, GoingAway
from sockproto.wire.messages import FrameType, Stream, decode_json, pack, pack_json
from sockproto.wire.settings import Settings

__all__ = ["ClientChannels"]


class ClientChannels(Channels):
    """What a client keeps of its channels.

    :param settings: what the client announces.
    """

    _incoming_streams = frozenset({Stream.OUT, Stream.ERR})
    _outgoing_streams = frozenset({Stream.IN})
    _sending_states = frozenset({ChannelState.OPENING, ChannelState.OPEN})
    _receiving_states = frozenset({ChannelState.OPEN, ChannelState.CANCELLED})

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.going_away: GoingAway | None = None
        self._on_channel.update(
            {
                FrameType.ACCEPT: self._receive_accept,
                FrameType.REJECT: self._receive_reject,
                FrameType.CLOSE: self._receive_close,
            }
        )

    def _receive_accept(self, channel: Channel, body: bytes) -> Event | None:
        reply = decode_json(body)
        if channel.state is ChannelState.CANCELLED:
            return None
        if channel.state is not ChannelState.OPENING:
            raise RemoteProtocolError("ACCEPT after ACCEPT")
        channel.state = ChannelState.OPEN
        return ChannelAccepted(channel.id, reply)

    def _receive_reject(self, channel: Channel, body: bytes) -> Event:
        reason = decode_json(body)
        if channel.state is ChannelState.OPEN:
            raise RemoteProtocolError("REJECT after ACCEPT")
        del self.channels[channel.id]
        return ChannelRejected(
            channel.id, str(reason.get("code", "internal")), str(reason.get("message", ""))
        )

    def _receive_close(self, channel: Channel, body: bytes) -> Event:
        result = decode_json(body)
        if channel.state is ChannelState.OPENING:
            raise RemoteProtocolError("CLOSE before ACCEPT")
        del self.channels[channel.id]
        return ChannelClosed(channel.id, result)

    def _receive_goaway(self, body: bytes) -> Event:
        event = super()._receive_goaway(body)
        assert isinstance(event, GoingAway)
        self.going_away = event
        return event

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
        channel_id = self.last_channel + 1
        frame = pack_json(FrameType.OPEN, channel_id, {**request, "credit": {"1": out, "2": err}})
        if len(frame) - 4 > self.peer.max_frame:
            raise LocalProtocolError(
                f"a request of {len(frame) - 4} bytes: the server takes {self.peer.max_frame}"
            )
        self._new_channel(
            channel_id, {Stream.IN: self.peer.credit, Stream.OUT: out, Stream.ERR: err}
        )
        return channel_id, frame

    def cancel(self, channel_id: int) -> bytes:
        """CLOSE: cancel a channel; the server's CLOSE is still to come."""
        channel = self.channels.get(channel_id)
        if channel is None or channel.state is ChannelState.CANCELLED:
            return b""
        channel.state = ChannelState.CANCELLED
        return pack(FrameType.CLOSE, channel_id)
