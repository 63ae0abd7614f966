"""Whether a regular expression can take exponential time on a word that somebody else chooses."""

from __future__ import annotations

# The parser of the standard library's own expressions: what it reads is what will be run.
from re import _parser  # type: ignore[attr-defined]
from typing import Any

__all__ = ["repeats_a_repeat"]

_REPEATS = frozenset({_parser.MAX_REPEAT, _parser.MIN_REPEAT})
# Beyond so many rounds a repeat counts as one without end.
_MANY = 8


def repeats_a_repeat(pattern: str) -> bool:
    """Whether a repeat stands within a repeat, as in ``(a+)+``.

    A word that does not match in the end can then be split up in more ways than can be tried.
    Possessive repeats and atomic groups (``(?>a+)+``) do not try again, and are fine.
    """
    return _varies_within(_parser.parse(pattern), False)


def _varies_within(parsed: Any, repeated: bool) -> bool:
    for operation, argument in parsed:
        if operation in _REPEATS:
            least, most, body = argument
            if repeated and most != least:
                return True
            if _varies_within(body, repeated or most > _MANY):
                return True
        elif operation is _parser.ATOMIC_GROUP:
            if _varies_within(argument, False):
                return True
        else:
            bodies = argument[1] if operation is _parser.BRANCH else _bodies(argument)
            if any(_varies_within(body, repeated) for body in bodies):
                return True
    return False


def _bodies(argument: Any) -> list[Any]:
    """The expressions within an operation: of a group, a look-around, a condition."""
    if isinstance(argument, _parser.SubPattern):
        return [argument]
    if isinstance(argument, tuple):
        return [each for each in argument if isinstance(each, _parser.SubPattern)]
    return []
