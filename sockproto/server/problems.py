"""What is wrong with a configuration, in lines for people, each with its place."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator

import attrs
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)

__all__ = ["Problems", "key_text", "lines", "near"]

_Path = tuple[str | int, ...]


class Problems(Exception):
    """What is wrong with a table.

    :ivar lines: one for each thing, with its place.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def near(word: object, known: Iterable[str]) -> str:
    """A hint at the known name that a word is nearest to; empty if none is near."""
    found = difflib.get_close_matches(str(word), list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def lines(error: Exception, document: object) -> Iterator[str]:
    """One line for each thing that an error of cattrs holds.

    :param document: the table that was read, from which places get their names.
    """
    yield from _lines(error, (), document)


def _lines(error: Exception, path: _Path, document: object) -> Iterator[str]:
    """One line for each thing that an error of cattrs holds, with its place in the file."""
    if isinstance(error, (ClassValidationError, IterableValidationError)):
        for inner in error.exceptions:
            yield from _lines(inner, path + _step(inner, error.cl), document)
    elif isinstance(error, KeyError) and path:
        # What the function that cattrs generates raises for a key that has no default.
        head = _place(path[:-1], document)
        yield f"{head}: {path[-1]} is required" if head else f"{path[-1]} is required"
    else:
        head = _place(path, document)
        yield f"{head}: {error}" if head else str(error)


def _step(error: Exception, cls: type) -> _Path:
    """Where an error arose, seen from the table around it; empty if that is meant as a whole."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, IterableValidationNote):
            return (note.index,)
        if isinstance(note, AttributeValidationNote):
            attribute = attrs.fields_dict(cls)[note.name]
            return (attribute.metadata.get("key", note.name),)
    return ()


def _place(path: _Path, document: object) -> str:
    """A place as the file has it: ``[limits] frame``, ``[[command]] "disk" timeout``."""
    head, rest = "", path
    top = document.get(path[0]) if path and isinstance(document, dict) else None
    if isinstance(top, dict):
        head, rest = f"[{path[0]}]", path[1:]
    elif isinstance(top, list) and len(path) > 1 and isinstance(top[int(path[1])], dict):
        table = top[int(path[1])]
        label = table.get("name", table.get("service"))
        known = json.dumps(label[:80]) if isinstance(label, str) else str(int(path[1]) + 1)
        head, rest = f"[[{path[0]}]] {known}", path[2:]
    key = ""
    for step in rest:
        key += f"[{step}]" if isinstance(step, int) else f"{'.' if key else ''}{key_text(step)}"
    return f"{head} {key}".strip()


def key_text(key: str) -> str:
    """A key, in quotes and escaped where it is not a plain word."""
    plain = key.replace("_", "").replace("-", "")
    return key if plain.isascii() and plain.isalnum() and len(key) <= 64 else json.dumps(key[:64])
