"""What each side of an agent connection tells of itself in its first frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from sockproto.errors import RemoteProtocolError

__all__ = ["MAX_CREDIT", "MIN_FRAME", "PING_FEATURE", "Settings", "integer"]

#: The most credit that a stream can have.
MAX_CREDIT = 2**31 - 1
#: The smallest limit on frames that a side may announce: what a small JSON body needs.
MIN_FRAME = 4096
#: The feature of a client that reads all the time, and so can be asked whether it is there.
PING_FEATURE = "ping"


@frozen
class Settings:
    """What a side tells of itself in its first frame.

    :ivar max_frame: the longest frame it takes, in bytes of payload.
    :ivar max_channels: how many channels may be open at once (the server's word).
    :ivar credit: the credit of stream 0 of each new channel, usable before ACCEPT (the server's).
    :ivar features: names of what it can do beyond the least.
    """

    max_frame: int
    max_channels: int = 0
    credit: int = 0
    features: Sequence[str] = ()

    def encode(self) -> dict[str, Any]:
        """The JSON object of the frame."""
        return {
            "max_frame": self.max_frame,
            "max_channels": self.max_channels,
            "credit": self.credit,
            "features": list(self.features),
        }

    @classmethod
    def decode(cls, body: Mapping[str, Any]) -> Settings:
        """Read the JSON object of the frame; fields that are not known are ignored.

        :raises RemoteProtocolError: a field is missing or out of its range.
        """
        features = body.get("features", [])
        if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
            raise RemoteProtocolError("SETTINGS: features is not a list of strings")
        return cls(
            max_frame=integer(body, "max_frame", MIN_FRAME, 2**32 - 1),
            max_channels=integer(body, "max_channels", 0, 2**32 - 1, 0),
            credit=integer(body, "credit", 0, MAX_CREDIT, 0),
            features=tuple(features),
        )


def integer(
    body: Mapping[str, Any], name: str, least: int, most: int, default: int | None = None
) -> int:
    """An integer field of a JSON object.

    :raises RemoteProtocolError: it is missing (and there is no default) or out of its range.
    """
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RemoteProtocolError(f"{name}: expected an integer from {least} to {most}")
    return value
