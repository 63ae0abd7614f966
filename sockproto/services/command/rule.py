"""One rule for a command: its settings, and how the words of a request become an argv."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Sequence
from typing import Any, Literal

from attrs import Attribute, field, frozen

from sockproto.limits import Bytes, Seconds
from sockproto.services.command.parameters import Parameter, Unfit, placeholders, substitute

__all__ = ["CommandRule", "Unfit"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}", re.ASCII)
_WHO = re.compile(r"(?:group:)?[A-Za-z0-9._@-]{1,64}", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ENV_PATTERN = re.compile(r"[A-Za-z0-9_*?]+", re.ASCII)


def _a_name(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not _NAME.fullmatch(value):
        raise ValueError(
            "expected a name of 1 to 64 letters, digits or ._@+- (no . @ + - first), "
            f"found {value[:80]!a}"
        )


def _who(_instance: Any, _attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    for one in value:
        if not _WHO.fullmatch(one):
            raise ValueError(
                'expected identities or "group:NAME", of 1 to 64 letters, digits or ._@-, '
                f"found {one[:80]!a}"
            )


def _an_argv(_instance: Any, _attribute: Attribute[Any], value: object) -> None:
    if isinstance(value, str):
        if value != "any":
            raise ValueError('expected an array of words or "any"')
        return
    assert isinstance(value, tuple)
    if not value or not value[0]:
        raise ValueError("expected at least the program")
    if any("\0" in word for word in value):
        raise ValueError("a word holds a NUL character, which no argument can")
    if placeholders(value[:1]):
        raise ValueError("the program cannot be a parameter; give each program a rule of its own")


def _a_path(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and (not value.startswith("/") or "\0" in value):
        raise ValueError(f"expected an absolute path, found {value[:80]!a}")


def _above_zero(_instance: Any, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and value <= 0:
        raise ValueError(f"{attribute.name} has to be more than 0, not {value}")


def _environment(_instance: Any, _attribute: Attribute[Any], value: dict[str, str]) -> None:
    for name, text in value.items():
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"expected names of variables, found {name[:80]!a}")
        if "\0" in text:
            raise ValueError(f"{name} holds a NUL character, which no variable can")


def _environment_patterns(
    _instance: Any, _attribute: Attribute[Any], value: tuple[str, ...]
) -> None:
    for one in value:
        if not _ENV_PATTERN.fullmatch(one):
            raise ValueError(
                f"expected names of variables, perhaps with * or ?, found {one[:80]!a}"
            )


@frozen(kw_only=True)
class CommandRule:
    """One ``[[command]]`` table.

    :ivar name: what a client asks for; optional with ``argv = "any"``, where it is only a label.
    :ivar argv: the program and its arguments, in which ``{path}`` stands for the parameter ``path``
        (and ``{{path}}`` for the text ``{path}``); or ``any``: whatever the client sends.
    :ivar summary: one line for people.
    :ivar allow: identities, and groups as ``group:NAME``, that may run it.
    :ivar deny: those that may not, even if ``allow`` names them.
    :ivar timeout: seconds until it is ended; ``None``: no limit of the rule's.
    :ivar max_output: bytes of stdout and stderr together, then it is ended; ``None``: the server's.
    :ivar stdin: whether the client's stdin is passed on; else it reads /dev/null.
    :ivar concurrency: how many at once; ``None``: the server's limit only.
    :ivar cwd: the working directory; ``None``: the home of the server's user.
    :ivar env: variables that it gets.
    :ivar pass_env: names of variables that a client may set; ``LC_*`` and the like are understood.
    :ivar on_disconnect: what becomes of it when its client is lost.
    :ivar parameters: what the placeholders accept.
    """

    name: str | None = field(default=None, validator=_a_name)
    argv: tuple[str, ...] | Literal["any"] = field(validator=_an_argv)
    summary: str = ""
    allow: tuple[str, ...] = field(default=(), validator=_who)
    deny: tuple[str, ...] = field(default=(), validator=_who)
    timeout: Seconds | None = field(default=None, validator=_above_zero)
    max_output: Bytes | None = field(default=None, validator=_above_zero)
    stdin: Literal["none", "stream"] = "none"
    concurrency: int | None = field(default=None, validator=_above_zero)
    cwd: str | None = field(default=None, validator=_a_path)
    env: dict[str, str] = field(factory=dict, hash=False, validator=_environment)
    pass_env: tuple[str, ...] = field(default=(), validator=_environment_patterns)
    on_disconnect: Literal["end", "finish"] = "end"
    parameters: dict[str, Parameter] = field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        """:raises ValueError: if the settings do not go together; the message says which."""
        if isinstance(self.argv, str):
            if self.parameters:
                raise ValueError('parameters have no meaning with argv = "any"')
            return
        if self.name is None:
            raise ValueError('name is required (only argv = "any" can do without)')
        order = placeholders(self.argv)
        for parameter in order:
            if parameter not in self.parameters:
                raise ValueError(
                    f"argv has the placeholder {{{parameter}}}, but there is no "
                    f"[command.parameters.{parameter}]; the text itself is {{{{{parameter}}}}}"
                )
        for parameter in self.parameters:
            if parameter not in order:
                raise ValueError(f"parameters.{parameter}: argv has no {{{parameter}}}")
        optional = None
        for position, parameter in enumerate(order):
            settings = self.parameters[parameter]
            if settings.default is not None:
                optional = parameter
            elif optional is not None and not settings.rest:
                raise ValueError(
                    f"parameters.{parameter} needs a default, as {optional} before it has one"
                )
            if settings.rest:
                if position != len(order) - 1:
                    raise ValueError(f"parameters.{parameter}: rest is for the last one")
                whole = f"{{{parameter}}}"
                if any(parameter in placeholders([w]) and w != whole for w in self.argv):
                    raise ValueError(
                        f"parameters.{parameter}: with rest, {whole} has to be a whole word"
                    )

    @property
    def takes_any(self) -> bool:
        """Whether the client's words themselves are the argv."""
        return self.argv == "any"

    @property
    def label(self) -> str:
        """What the rule is called in logs and messages."""
        return self.name if self.name is not None else 'argv = "any"'

    def denies(self, identity: str, groups: Collection[str]) -> bool:
        """Whether ``deny`` names the identity or one of its groups."""
        return _names(self.deny, identity, groups)

    def allows(self, identity: str, groups: Collection[str]) -> bool:
        """Whether ``allow`` does; ``deny`` has to be asked before."""
        return _names(self.allow, identity, groups)

    def admits(self, identity: str, groups: Collection[str]) -> bool:
        """Whether the identity may run this."""
        return self.allows(identity, groups) and not self.denies(identity, groups)

    def passes(self, variable: str) -> bool:
        """Whether a client may set this environment variable."""
        if not _ENV_NAME.fullmatch(variable):
            return False
        return any(fnmatch.fnmatchcase(variable, pattern) for pattern in self.pass_env)

    def bind(
        self, words: Sequence[bytes]
    ) -> tuple[tuple[bytes, ...], dict[str, tuple[bytes, ...]]]:
        """Make the argv of a named rule.

        :param words: what came after the name.
        :return: the argv, and the words of each parameter.
        :raises Unfit: if they are too few, too many, or not what a parameter accepts.
        """
        if isinstance(self.argv, str):
            raise TypeError('a rule with argv = "any" has no parameters')
        left = list(words)
        values: dict[str, tuple[bytes, ...]] = {}
        for name in placeholders(self.argv):
            parameter = self.parameters[name]
            if parameter.rest:
                taken, left = left, []
                values[name] = tuple(parameter.accept(name, word) for word in taken)
            elif left:
                values[name] = (parameter.accept(name, left.pop(0)),)
            elif parameter.default is not None:
                values[name] = (str(parameter.default).encode(),)
            else:
                raise Unfit(f"{name} is missing ({parameter.constraint})")
        if left:
            most = len(words) - len(left)
            raise Unfit(f"takes {most or 'no'} word{'s' * (most != 1)}, not {len(words)}")
        return substitute(self.argv, values), values


def _names(entries: tuple[str, ...], identity: str, groups: Collection[str]) -> bool:
    """Whether a list of identities and ``group:NAME`` names one of these."""
    return identity in entries or any(f"group:{group}" in entries for group in groups)
