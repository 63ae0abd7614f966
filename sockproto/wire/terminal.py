"""The terminal that a command may be asked to run on: its size and its kind, as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from attrs import frozen

__all__ = ["Terminal", "decode_window", "encode_window"]

#: What the kernel keeps of a size.
_MOST = 65_535
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)


@frozen
class Terminal:
    """A terminal, as OPEN asks for one.

    :ivar rows: its height in lines, 0 if that is not known.
    :ivar columns: its width in characters, likewise.
    :ivar term: its kind, for the variable TERM.
    """

    rows: int = 24
    columns: int = 80
    term: str = "xterm"

    def __attrs_post_init__(self) -> None:
        """:raises ValueError: it is no terminal; the message says why."""
        _check_size(self.rows, self.columns)
        _check_term(self.term)

    def encode(self) -> dict[str, Any]:
        """The JSON object in OPEN."""
        return {"rows": self.rows, "columns": self.columns, "term": self.term}

    @classmethod
    def decode(cls, value: object) -> Self:
        """Read the JSON object in OPEN; what is absent is as usual.

        :raises ValueError: it is none; the message says why.
        """
        if not isinstance(value, Mapping):
            raise ValueError("expected an object with rows, columns and term")
        known = ("rows", "columns", "term")
        return cls(**{name: value[name] for name in known if name in value})


def encode_window(rows: int, columns: int) -> dict[str, Any]:
    """The body of a CONTROL that tells of a new size.

    :raises ValueError: it is none.
    """
    _check_size(rows, columns)
    return {"window": {"rows": rows, "columns": columns}}


def decode_window(value: object) -> tuple[int, int] | None:
    """Read the ``window`` of a CONTROL: rows and columns, or ``None`` if it is no size."""
    if not isinstance(value, Mapping):
        return None
    rows, columns = value.get("rows"), value.get("columns")
    try:
        _check_size(rows, columns)
    except ValueError:
        return None
    assert isinstance(rows, int)
    assert isinstance(columns, int)
    return rows, columns


def _check_term(term: object) -> None:
    if not isinstance(term, str) or not _TERM.fullmatch(term):
        raise ValueError("term: expected 1 to 64 letters, digits or ._+-, the first no sign")


def _check_size(rows: object, columns: object) -> None:
    for name, value in (("rows", rows), ("columns", columns)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
            raise ValueError(f"{name}: expected 0 to {_MOST}")
