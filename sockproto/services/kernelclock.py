"""What the kernel knows of its clock: whether it is synchronised, and how well (adjtimex(2))."""

from __future__ import annotations

import ctypes
import math
from typing import Any

from attrs import frozen

__all__ = ["UNSYNCHRONISED", "KernelClock", "read_kernel_clock"]

_TIME_INS, _TIME_DEL, _TIME_ERROR = 1, 2, 5
_STA_UNSYNC = 0x0040
_MICROSECOND = 1e-6


@frozen
class KernelClock:
    """The state of the clock.

    :ivar synchronised: whether something keeps it right.
    :ivar leap: 1 before a minute of 61 seconds, 2 before one of 59, else 0 (RFC 5905, figure 9).
    :ivar precision: the exponent of two of the resolution, in seconds.
    :ivar delay: the round trip to the source of the time, in seconds; the kernel is not told it.
    :ivar dispersion: the greatest error there may be, in seconds.
    :ivar age: the seconds since it was last set right; the kernel is not told it.
    """

    synchronised: bool
    leap: int = 0
    precision: int = -20
    delay: float = 0.0
    dispersion: float = 0.0
    age: float = 0.0


#: What is known where the kernel cannot be asked.
UNSYNCHRONISED = KernelClock(False)


class _Timeval(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long))


class _Timex(ctypes.Structure):
    # struct timex of <sys/timex.h>; what is behind is padding, of which the kernel has 44 bytes.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", _Timeval),
        ("tick", ctypes.c_long),
        ("rest", ctypes.c_char * 128),
    )


def read_kernel_clock() -> KernelClock:
    """Ask the kernel; where that is not allowed, the clock counts as not synchronised."""
    if _adjtimex is None:
        return UNSYNCHRONISED
    state = _Timex()
    answer = _adjtimex(ctypes.byref(state))
    if answer < 0:
        return UNSYNCHRONISED
    resolution = max(state.precision, 1) * _MICROSECOND
    return KernelClock(
        synchronised=answer != _TIME_ERROR and not state.status & _STA_UNSYNC,
        leap={_TIME_INS: 1, _TIME_DEL: 2}.get(answer, 0),
        precision=max(-128, min(0, round(math.log2(resolution)))),
        dispersion=max(state.maxerror, 0) * _MICROSECOND,
    )


# None where the C library has no such function.
_adjtimex: Any = getattr(ctypes.CDLL(None), "adjtimex", None)
