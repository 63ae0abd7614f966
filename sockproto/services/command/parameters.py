"""The parameters of a command rule: what a word from a client has to be, and where it goes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import field, frozen

from sockproto.services.command.pattern_cost import repeats_a_repeat

__all__ = ["Parameter", "Unfit", "placeholders", "substitute"]

#: Longer words are refused before any pattern sees them: PATH_MAX, and a slow pattern stays
#: bearable.
MAX_VALUE = 4096

# {{name}} is the text {name}; every other brace stands for itself, as awk and find need.
_PLACEHOLDER = re.compile(r"\{\{[A-Za-z_][A-Za-z0-9_-]*\}\}|\{([A-Za-z_][A-Za-z0-9_-]*)\}")
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class Unfit(Exception):
    """The words of a request do not fit the rule; the message says which parameter, and why."""


@frozen(kw_only=True)
class Parameter:
    """One ``[command.parameters.NAME]`` table: exactly one of pattern, choices and integer.

    :ivar pattern: a regular expression that the whole word matches; its classes are ASCII only.
    :ivar choices: the words that it may be.
    :ivar type: ``integer``: decimal digits, perhaps after a minus, from ``min`` (0) to ``max``.
    :ivar default: what it is where the words end before it.
    :ivar rest: whether it takes all the remaining words.
    :ivar leading_dash: whether a word may begin with ``-``, as options do. A choice or a negative
        number that the table itself allows always may.
    :ivar secret: no log, audit or message shows it, nor what it may be.
    """

    pattern: str | None = None
    choices: tuple[str, ...] | None = None
    type: Literal["integer"] | None = None
    min: int | None = None
    max: int | None = None
    default: str | int | None = None
    rest: bool = False
    leading_dash: bool = False
    secret: bool = False
    _compiled: re.Pattern[str] | None = field(init=False, default=None, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """:raises ValueError: if the settings do not go together; the message says which."""
        kinds = sum(one is not None for one in (self.pattern, self.choices, self.type))
        if kinds != 1:
            raise ValueError('expected exactly one of pattern, choices and type = "integer"')
        if self.type is None and (self.min is not None or self.max is not None):
            raise ValueError('min and max go with type = "integer" only')
        if self.max is not None and self._least > self.max:
            raise ValueError(f"max {self.max} is under min {self._least} (0 if not given)")
        if self.choices is not None and not self.choices:
            raise ValueError("choices has to name at least one")
        if self.pattern is not None:
            try:
                compiled = re.compile(self.pattern, re.ASCII)
            except (re.error, ValueError) as error:
                raise ValueError(f"pattern is no regular expression: {error}") from None
            if repeats_a_repeat(self.pattern):
                raise ValueError(
                    f"pattern {self.pattern} has a repeat within a repeat, which can take for ever "
                    "on a word that does not match: expected one without, as [a-z/]+ is for "
                    "([a-z]+/?)+"
                )
            object.__setattr__(self, "_compiled", compiled)
        if self.default is not None:
            if self.rest:
                raise ValueError("default has no meaning with rest, which may take no word at all")
            try:
                self.accept("default", str(self.default).encode())
            except Unfit as error:
                raise ValueError(str(error)) from None

    @property
    def constraint(self) -> str:
        """What is accepted, for people."""
        if self.secret:
            return "what the rule expects"
        if self.choices is not None:
            return "one of " + ", ".join(self.choices)
        if self.pattern is not None:
            return f"text matching {self.pattern}"
        if self.max is not None:
            return f"an integer from {self._least} to {self.max}"
        return f"an integer of {self._least} or more"

    @property
    def _least(self) -> int:
        """The least integer; without ``min`` it is 0, so that a minus has to be declared."""
        return 0 if self.min is None else self.min

    def accept(self, name: str, word: bytes) -> bytes:
        """Check one word.

        :param name: the parameter's name, for the message. The word itself is not repeated in it.
        :return: the word.
        :raises Unfit: if it is not accepted.
        """
        if b"\0" in word or b"\n" in word:
            raise Unfit(f"{name} must not hold a NUL or a newline")
        if len(word) > MAX_VALUE:
            raise Unfit(f"{name} is longer than {MAX_VALUE} bytes")
        text = word.decode("utf-8", "surrogateescape")
        if self.choices is not None:
            fits = text in self.choices
        elif self._compiled is not None:
            if text.startswith("-") and not self.leading_dash:
                raise Unfit(f"{name} must not begin with -")
            fits = self._compiled.fullmatch(text) is not None
        else:
            # "-0" is within any range, and still would look like an option.
            fits = (
                _INTEGER.fullmatch(text) is not None
                and self._least <= int(text)
                and (self.max is None or int(text) <= self.max)
                and (self._least < 0 or not text.startswith("-"))
            )
        if not fits:
            raise Unfit(f"{name} has to be {self.constraint}")
        return word


def placeholders(argv: Sequence[str]) -> tuple[str, ...]:
    """The names of the placeholders of an argv, each once, in the order of first appearance."""
    found = (match[1] for word in argv for match in _PLACEHOLDER.finditer(word))
    return tuple(dict.fromkeys(name for name in found if name is not None))


def substitute(argv: Sequence[str], values: Mapping[str, tuple[bytes, ...]]) -> tuple[bytes, ...]:
    """Put the parameters' words into an argv. A word stays a word, whatever is in it.

    :param values: one word for each placeholder, or any number for one that is a whole word of
        argv.
    """
    result: list[bytes] = []
    for word in argv:
        whole = _PLACEHOLDER.fullmatch(word)
        if whole is not None and whole[1] is not None:
            result.extend(values[whole[1]])
        else:
            result.append(_fill(word, values))
    return tuple(result)


def _fill(word: str, values: Mapping[str, tuple[bytes, ...]]) -> bytes:
    """One word with its placeholders filled in; what was filled in is not looked at again."""
    parts: list[bytes] = []
    end = 0
    for match in _PLACEHOLDER.finditer(word):
        parts.append(word[end : match.start()].encode())
        name = match[1]
        parts.append(match[0][1:-1].encode() if name is None else values[name][0])
        end = match.end()
    parts.append(word[end:].encode())
    return b"".join(parts)
