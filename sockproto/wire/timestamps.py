"""Times that count from 1900 and begin anew in 2036: NTP's timestamps, and RFC 868's seconds."""

from __future__ import annotations

import math
from struct import Struct

from sockproto.errors import RemoteProtocolError

__all__ = [
    "SECONDS_FROM_1900_TO_1970",
    "from_rfc868",
    "from_timestamp",
    "to_rfc868",
    "to_timestamp",
]

#: What is between the beginnings of NTP's and RFC 868's time and of Unix time, in seconds.
SECONDS_FROM_1900_TO_1970 = 2_208_988_800

_ERA = 2**32
_UINT32 = Struct(">I")


def to_timestamp(seconds: float) -> int:
    """A timestamp of 64 bits (RFC 5905): seconds since 1900, modulo 2³², and their fraction.

    :param seconds: since 1970.
    """
    return (math.floor(math.ldexp(seconds, 32)) + (SECONDS_FROM_1900_TO_1970 << 32)) % 2**64


def from_timestamp(timestamp: int, near: float) -> float:
    """The time that a timestamp means, in the era that is nearest to another time.

    :param timestamp: 64 bits.
    :param near: seconds since 1970.
    :return: seconds since 1970.
    """
    return _in_nearest_era(timestamp / _ERA, near)


def to_rfc868(seconds: float) -> bytes:
    """Seconds since 1900 in four bytes (RFC 868), which begin anew on 2036-02-07 at 06:28:16 UTC.

    :param seconds: since 1970.
    """
    return _UINT32.pack((math.floor(seconds) + SECONDS_FROM_1900_TO_1970) % _ERA)


def from_rfc868(data: bytes, near: float) -> int:
    """The time that four bytes mean, in the era that is nearest to another time.

    :param near: seconds since 1970.
    :return: seconds since 1970.
    :raises RemoteProtocolError: they are not four.
    """
    if len(data) != _UINT32.size:
        raise RemoteProtocolError(f"the time is four bytes (RFC 868), not {len(data)}")
    return int(_in_nearest_era(_UINT32.unpack(data)[0], near))


def _in_nearest_era(since1900: float, near: float) -> float:
    seconds = since1900 - SECONDS_FROM_1900_TO_1970
    return seconds + round((near - seconds) / _ERA) * _ERA
