"""Durations and sizes as people write them, as numbers."""

from __future__ import annotations

import math
import re
from types import MappingProxyType

__all__ = ["kind_of", "parse_duration", "parse_size"]

_DURATION_UNITS = MappingProxyType(
    {
        "ms": 0.001,
        "s": 1.0,
        "sec": 1.0,
        "second": 1.0,
        "min": 60.0,
        "minute": 60.0,
        "h": 3600.0,
        "hour": 3600.0,
        "d": 86_400.0,
        "day": 86_400.0,
    }
)

_SIZE_UNITS = MappingProxyType(
    {
        "b": 1,
        "byte": 1,
        "kb": 1000,
        "mb": 1000**2,
        "gb": 1000**3,
        "tb": 1000**4,
        "kib": 1024,
        "mib": 1024**2,
        "gib": 1024**3,
        "tib": 1024**4,
    }
)

# At most 18 digits: more is no figure of this world, and int() of very long text is slow.
_FIGURE = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]*)\s*", re.ASCII)

_DURATION_HINT = 'seconds, or text such as "5 min" (ms, s, min, h, d)'
_SIZE_HINT = 'bytes, or text such as "1 MiB" (KiB, MiB, GiB, TiB, kB, MB, GB, TB)'


def parse_duration(value: object) -> float:
    """Read a duration.

    :param value: a number of seconds, or text: a number and ``ms``, ``s``, ``min``, ``h`` or ``d``.
    :return: seconds.
    :raises ValueError: if it is anything else; the message says what was expected and found.
    """
    if isinstance(value, str):
        figure, unit = _split(value, "a duration", _DURATION_HINT)
        factor = _DURATION_UNITS.get(unit) or _DURATION_UNITS.get(unit.removesuffix("s"))
        if factor is None:
            raise ValueError(f"expected a duration ({_DURATION_HINT}), found {_shown(value)}")
        return float(figure) * factor
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected a duration ({_DURATION_HINT}), found {kind_of(value)}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"expected a duration of 0 or more, finite, found {value}")
    return float(value)


def parse_size(value: object) -> int:
    """Read a size.

    :param value: a whole number of bytes, or text: a number and ``KiB``, ``MiB``, ``GiB``, ``TiB``
        (powers of 1024) or ``kB``, ``MB``, ``GB``, ``TB`` (powers of 1000).
    :return: bytes.
    :raises ValueError: if it is anything else, or no whole number of bytes.
    """
    if isinstance(value, str):
        figure, unit = _split(value, "a size", _SIZE_HINT)
        factor = _SIZE_UNITS.get(unit) or _SIZE_UNITS.get(unit.removesuffix("s"))
        if factor is None:
            raise ValueError(f"expected a size ({_SIZE_HINT}), found {_shown(value)}")
        whole, _, fraction = figure.partition(".")
        # By integers: a float has not the digits for "0.1 TiB" and the like.
        scaled, rest = divmod(int(whole + fraction) * factor, int("1" + "0" * len(fraction)))
        if rest:
            raise ValueError(f"expected a whole number of bytes, found {_shown(value)}")
        return scaled
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a size ({_SIZE_HINT}), found {kind_of(value)}")
    if value < 0:
        raise ValueError(f"expected a size of 0 bytes or more, found {value}")
    return value


def _split(text: str, what: str, hint: str) -> tuple[str, str]:
    """The figure and the unit (in lower case; none is the base unit) of a text."""
    match = _FIGURE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {what} ({hint}), found {_shown(text)}")
    base = "s" if what == "a duration" else "b"
    return match[1], match[2].lower() or base


def _shown(text: str) -> str:
    """A text in quotes, escaped and short."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def kind_of(value: object) -> str:
    """What a value is called in a message that expected another type; text is not repeated there,
    since it may be a secret.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"the number {value}" if abs(value) < 10**18 else "a very long number"
    names = {str: "text", float: "a fraction", list: "an array", dict: "a table"}
    return names.get(type(value), f"a {type(value).__name__}")
