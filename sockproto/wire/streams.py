"""What comes on the streams of a channel, and what it does to their credit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sockproto.errors import RemoteProtocolError
from sockproto.wire.channel_state import Channel, Flow
from sockproto.wire.events import (
    ControlReceived,
    CreditReceived,
    DataReceived,
    EndReceived,
    Event,
    StopReceived,
)
from sockproto.wire.messages import MAX_DATA, FrameType, decode_credit, decode_json
from sockproto.wire.settings import MAX_CREDIT

__all__ = ["ON_STREAMS"]


def _receive_data(channel: Channel, body: bytes) -> Event | None:
    flow = _flow(channel.incoming, body[:1])
    length = len(body) - 1
    if not 0 < length <= MAX_DATA:
        raise RemoteProtocolError(f"DATA of {length} bytes: expected 1 to {MAX_DATA}")
    if flow.ended:
        raise RemoteProtocolError("DATA after END")
    if length > flow.credit:
        raise RemoteProtocolError("DATA beyond the credit of its stream", "credit")
    flow.credit -= length
    return None if flow.stopped else DataReceived(channel.id, body[0], body[1:])


def _receive_end(channel: Channel, body: bytes) -> Event | None:
    flow = _flow(channel.incoming, body)
    if flow.ended:
        raise RemoteProtocolError("END after END")
    flow.ended = True
    return None if flow.stopped else EndReceived(channel.id, body[0])


def _receive_stop(channel: Channel, body: bytes) -> Event | None:
    flow = _flow(channel.outgoing, body)
    if flow.stopped:
        raise RemoteProtocolError("STOP after STOP")
    flow.stopped = True
    return None if flow.ended else StopReceived(channel.id, body[0])


def _receive_credit(channel: Channel, body: bytes) -> Event | None:
    stream, amount = decode_credit(body)
    flow = _flow(channel.outgoing, body[:1])
    if amount == 0 or flow.credit + amount > MAX_CREDIT:
        raise RemoteProtocolError(
            f"CREDIT of {amount} on top of {flow.credit}: expected 1 to {MAX_CREDIT} in all",
            "credit",
        )
    flow.credit += amount
    return None if flow.over else CreditReceived(channel.id, stream)


def _receive_control(channel: Channel, body: bytes) -> Event | None:
    return ControlReceived(channel.id, decode_json(body))


#: What takes the body of each type of frame that goes back and forth on an accepted channel.
ON_STREAMS: Mapping[int, Callable[[Channel, bytes], Event | None]] = {
    FrameType.DATA: _receive_data,
    FrameType.END: _receive_end,
    FrameType.STOP: _receive_stop,
    FrameType.CREDIT: _receive_credit,
    FrameType.CONTROL: _receive_control,
}


def _flow(flows: Mapping[int, Flow], stream: bytes) -> Flow:
    """The stream that the peer speaks of."""
    flow = flows.get(stream[0]) if len(stream) == 1 else None
    if flow is None:
        raise RemoteProtocolError("a frame whose stream is missing or none it can be for")
    return flow
