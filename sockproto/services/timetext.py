"""The time as text: the directives of C and POSIX in the C locale, and nothing beyond them.

The formats come from strangers, so they never reach the C library: what is not one of these
directives (a width, a flag, an extension) is copied as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from types import MappingProxyType

__all__ = ["DEFAULT_FORMAT", "MAX_FORMAT", "answer_format", "daytime", "expand"]

#: What an empty format stands for.
DEFAULT_FORMAT = "%Y-%m-%d %X"
#: The longest format that is answered, in bytes.
MAX_FORMAT = 64
# What IP and UDP add to each datagram, and how many times the request the answer may be with it.
_HEADERS = 28
_AMPLIFICATION = 3

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def _hour12(now: datetime) -> int:
    return now.hour % 12 or 12


def _week(now: datetime, first: int) -> int:
    """The week of the year, the first one beginning on the year's first ``first`` (Sunday is 0)."""
    day = now.timetuple().tm_yday
    weekday = (now.isoweekday() - first) % 7
    return (day + 6 - weekday) // 7


# C17, section 7.27.3.5; POSIX.1-2017, strftime.
_DIRECTIVES: dict[str, Callable[[datetime], str]] = {
    "a": lambda now: _DAYS[now.weekday()][:3],
    "A": lambda now: _DAYS[now.weekday()],
    "b": lambda now: _MONTHS[now.month - 1][:3],
    "B": lambda now: _MONTHS[now.month - 1],
    "C": lambda now: f"{now.year // 100:02}",
    "d": lambda now: f"{now.day:02}",
    "e": lambda now: f"{now.day:2}",
    "g": lambda now: f"{now.isocalendar().year % 100:02}",
    "G": lambda now: f"{now.isocalendar().year:04}",
    "h": lambda now: _MONTHS[now.month - 1][:3],
    "H": lambda now: f"{now.hour:02}",
    "I": lambda now: f"{_hour12(now):02}",
    "j": lambda now: f"{now.timetuple().tm_yday:03}",
    "m": lambda now: f"{now.month:02}",
    "M": lambda now: f"{now.minute:02}",
    "n": lambda now: "\n",
    "p": lambda now: "AM" if now.hour < 12 else "PM",
    "S": lambda now: f"{now.second:02}",
    "t": lambda now: "\t",
    "u": lambda now: str(now.isoweekday()),
    "U": lambda now: f"{_week(now, 0):02}",
    "V": lambda now: f"{now.isocalendar().week:02}",
    "w": lambda now: str(now.isoweekday() % 7),
    "W": lambda now: f"{_week(now, 1):02}",
    "y": lambda now: f"{now.year % 100:02}",
    "Y": lambda now: f"{now.year:04}",
    "z": lambda now: now.strftime("%z")[:5],
    "Z": lambda now: now.tzname() or "",
    "%": lambda now: "%",
}
_COMPOSED = MappingProxyType(
    {
        "c": "%a %b %e %H:%M:%S %Y",
        "D": "%m/%d/%y",
        "F": "%Y-%m-%d",
        "r": "%I:%M:%S %p",
        "R": "%H:%M",
        "T": "%H:%M:%S",
        "x": "%m/%d/%y",
        "X": "%H:%M:%S",
    }
)
# The modifiers E and O mean other forms in other locales, and nothing in this one.
_DIRECTIVE = re.compile(r"%(?:E(?=[cCxXyY])|O(?=[deHImMSuUVwWy]))?([a-zA-Z%])")


def expand(text: str, now: datetime, limit: int) -> str:
    """Write the time as a format says.

    :param text: the format.
    :param now: the time, aware.
    :param limit: bytes of UTF-8 that the result may have; directives that would take it beyond are
        copied as they are.
    """
    size = len(text.encode("utf-8"))

    def replace(match: re.Match[str]) -> str:
        nonlocal size
        value = _value(match[1], now)
        if value is None:
            return match[0]
        grown = size + len(value.encode("utf-8")) - len(match[0])
        if grown > limit:
            return match[0]
        size = grown
        return value

    return _DIRECTIVE.sub(replace, text)


def _value(directive: str, now: datetime) -> str | None:
    """What a directive stands for, ``None`` for one that is not known."""
    composed = _COMPOSED.get(directive)
    if composed is not None:
        return re.sub("%(.)", lambda part: _DIRECTIVES[part[1]](now), composed)
    simple = _DIRECTIVES.get(directive)
    return None if simple is None else simple(now)


def answer_format(request: bytes, now: datetime) -> bytes | None:
    """The answer to a format that came from somewhere.

    :return: at most three times the request, the headers of IP and UDP counted on both sides;
        ``None`` for what is no format: over 64 bytes, not UTF-8, or with a NUL.
    """
    if len(request) > MAX_FORMAT or b"\0" in request:
        return None
    try:
        text = request.decode("utf-8")
    except UnicodeDecodeError:
        return None
    limit = _AMPLIFICATION * (len(request) + _HEADERS) - _HEADERS
    return expand(text or DEFAULT_FORMAT, now, limit).encode("utf-8")


def daytime(now: datetime) -> bytes:
    """The time for people, a line (RFC 867): no longer than an answer to nothing may be."""
    zone = (now.tzname() or "")[:8].encode("ascii", "replace").decode("ascii")
    text = expand("%A, %B %d, %Y %H:%M:%S", now, 128)
    return f"{text}-{zone}\r\n".encode("ascii")
