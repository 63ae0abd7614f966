"""NTP in server mode (RFC 5905; SNTP clients, RFC 4330), without I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen

from sockproto.services.kernelclock import KernelClock, read_kernel_clock
from sockproto.wire.ntp import (
    LEAP_UNSYNCHRONISED,
    LENGTH,
    MAX_STRATUM,
    MODE_CLIENT,
    MODE_SERVER,
    PACKET,
    VERSIONS,
)
from sockproto.wire.timestamps import to_timestamp

__all__ = ["PORT", "NTPServer"]

#: Where servers listen, and from where some clients ask.
PORT = 123

# What this server calls its upstream, which the kernel does not know: the local clock.
_REFERENCE_ID = bytes((127, 127, 1, 1))
# The kernel does not say how far away its source is either; a high stratum gives way to all others.
_STRATUM = 10
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
        if mode != MODE_CLIENT or version not in VERSIONS:
            return None
        clock = self.kernel()
        leap, stratum, dispersion = clock.leap, _STRATUM, clock.dispersion
        if not clock.synchronised:
            leap, stratum = LEAP_UNSYNCHRONISED, 0
            if self.local_stratum is not None:
                # This clock is the measure now, and so without an error of its own.
                leap, stratum, dispersion = 0, min(self.local_stratum, MAX_STRATUM), 0.0
        reference = to_timestamp(self.seconds() - clock.age) if stratum else 0
        return PACKET.pack(
            leap << 6 | version << 3 | MODE_SERVER,
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


def _short(seconds: float) -> int:
    """The short format: 16 bits of seconds, 16 of their fraction; what is longer is cut."""
    return min(int(seconds * _SHORT), 2**32 - 1)
