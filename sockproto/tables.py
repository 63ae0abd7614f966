"""Text for people: columns, and times as they are said."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["aligned", "duration"]

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells each as lines, in columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in rows
    )


def duration(seconds: float) -> str:
    """A time in its two largest units: ``2 d 3 h``; below a minute in tenths: ``4.2 s``."""
    if seconds < 60:
        return f"{round(seconds, 1):g} s"
    left = int(seconds)
    parts = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
