"""NTP in server mode (RFC 5905; SNTP clients, RFC 4330), without I/O."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from struct import Struct

from attrs import frozen

from sockproto.services.clock import SECONDS_FROM_1900_TO_1970
from sockproto.services.kernelclock import KernelClock, read_kernel_clock

__all__ = ["LENGTH", "PORT", "NTPServer", "from_timestamp", "to_timestamp"]

#: The length of a packet without extensions (RFC 5905, section 7.3), and so of every answer.
LENGTH = 48
#: Where servers listen, and from where some clients ask.
PORT = 123

_CLIENT, _SERVER = 3, 4
_VERSIONS = range(1, 5)
# What this server calls its upstream, which the kernel does not know: the local clock.
_REFERENCE_ID = bytes((127, 127, 1, 1))
# The kernel does not say how far away its source is either; a high stratum gives way to all others.
_STRATUM = 10
_MAX_STRATUM = 15
_LEAP_UNSYNCHRONISED = 3
_PACKET = Struct(">BBbbII4sQQQQ")
_SHORT = 2**16


@frozen
class NTPServer:
    """Answers clients from the machine's clock, as good as that says it is.

    :ivar local_stratum: what to claim for a clock that is not synchronised, so that an isolated
        network can agree on it; ``None``: say that it is not.
    :ivar seconds: the time since 1970.
    :ivar kernel: the state of the clock.
    """

    local_stratum: int | None = None
    seconds: Callable[[], float] = time.time
    kernel: Callable[[], KernelClock] = read_kernel_clock

    def answer(self, request: bytes) -> bytes | None:
        """The answer to a packet, as long as the shortest there is.

        :return: ``None`` for what is no client's question: another length than 48 or more in fours,
            another version than 1 to 4, another mode than 3.
        """
        received = to_timestamp(self.seconds())
        if len(request) < LENGTH or len(request) % 4:
            return None
        version, mode = request[0] >> 3 & 7, request[0] & 7
        if mode != _CLIENT or version not in _VERSIONS:
            return None
        clock = self.kernel()
        leap, stratum, dispersion = clock.leap, _STRATUM, clock.dispersion
        if not clock.synchronised:
            leap, stratum = _LEAP_UNSYNCHRONISED, 0
            if self.local_stratum is not None:
                # This clock is the measure now, and so without an error of its own.
                leap, stratum, dispersion = 0, min(self.local_stratum, _MAX_STRATUM), 0.0
        reference = to_timestamp(self.seconds() - clock.age) if stratum else 0
        return _PACKET.pack(
            leap << 6 | version << 3 | _SERVER,
            stratum,
            # Poll is the client's, a signed byte.
            int.from_bytes(request[2:3], "big", signed=True),
            clock.precision,
            _short(clock.delay),
            _short(dispersion),
            _REFERENCE_ID if stratum else b"\0\0\0\0",
            reference,
            int.from_bytes(request[40:48], "big"),
            received,
            to_timestamp(self.seconds()),
        )


def to_timestamp(seconds: float) -> int:
    """A timestamp of 64 bits: seconds since 1900, modulo 2³², and their fraction.

    :param seconds: since 1970.
    """
    return (math.floor(math.ldexp(seconds, 32)) + (SECONDS_FROM_1900_TO_1970 << 32)) % 2**64


def from_timestamp(timestamp: int, near: float) -> float:
    """The time that a timestamp means, in the era that is nearest to another time.

    :param timestamp: 64 bits.
    :param near: seconds since 1970.
    :return: seconds since 1970.
    """
    seconds = timestamp / 2**32 - SECONDS_FROM_1900_TO_1970
    return seconds + round((near - seconds) / 2**32) * 2**32


def _short(seconds: float) -> int:
    """The short format: 16 bits of seconds, 16 of their fraction; what is longer is cut."""
    return min(int(seconds * _SHORT), 2**32 - 1)
