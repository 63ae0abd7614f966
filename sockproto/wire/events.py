"""What a frame received means, as frozen values: the answers of the channel machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

__all__ = [
    "CancelReceived",
    "ChannelAccepted",
    "ChannelClosed",
    "ChannelOpened",
    "ChannelRejected",
    "ControlReceived",
    "CreditReceived",
    "DataReceived",
    "EndReceived",
    "Event",
    "GoingAway",
    "PingReceived",
    "PongReceived",
    "SettingsReceived",
    "StopReceived",
]


@frozen
class SettingsReceived:
    """The peer's first frame: the connection may be used."""


@frozen
class ChannelOpened:
    """The client opened a channel; the server owes ACCEPT, REJECT or (once cancelled) CLOSE."""

    channel: int
    request: Mapping[str, Any]


@frozen
class ChannelAccepted:
    """The server accepted a channel."""

    channel: int
    reply: Mapping[str, Any]


@frozen
class ChannelRejected:
    """The server rejected a channel, which is over."""

    channel: int
    code: str
    message: str


@frozen
class DataReceived:
    """Bytes came on a stream; their credit is used up until it is granted again."""

    channel: int
    stream: int
    data: bytes


@frozen
class EndReceived:
    """The peer sends no more on a stream."""

    channel: int
    stream: int


@frozen
class StopReceived:
    """The peer wants no more on a stream, to which nothing can be sent any longer."""

    channel: int
    stream: int


@frozen
class CreditReceived:
    """More may be sent on a stream."""

    channel: int
    stream: int


@frozen
class ControlReceived:
    """A message beside the streams: a signal, a window size."""

    channel: int
    body: Mapping[str, Any]


@frozen
class CancelReceived:
    """The client cancels a channel; the server owes CLOSE."""

    channel: int


@frozen
class ChannelClosed:
    """The server closed a channel, which is over."""

    channel: int
    result: Mapping[str, Any]


@frozen
class PingReceived:
    """A question to be answered by PONG with the same eight bytes."""

    payload: bytes


@frozen
class PongReceived:
    """The answer to our PING."""


@frozen
class GoingAway:
    """The peer takes no channels beyond ``last_channel``; those that are open finish."""

    last_channel: int
    code: str
    message: str


Event = (
    SettingsReceived
    | ChannelOpened
    | ChannelAccepted
    | ChannelRejected
    | DataReceived
    | EndReceived
    | StopReceived
    | CreditReceived
    | ControlReceived
    | CancelReceived
    | ChannelClosed
    | PingReceived
    | PongReceived
    | GoingAway
)
