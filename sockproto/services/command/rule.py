"""One rule for a command: its settings, and how the words of a request become an argv."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from typing import Literal

from attrs import field, frozen

from sockproto.limits import Bytes, Seconds
from sockproto.services.command import rule_values
from sockproto.services.command.parameters import Parameter, Unfit, placeholders, substitute
from sockproto.services.command.resource_limits import ResourceLimits
from sockproto.services.command.rule_values import Origin

__all__ = ["CommandRule", "Unfit"]

_SHELL = b"/bin/sh"
# What only a process can have.
_OF_PROCESSES = (
    *("tty", "shell", "user", "group", "groups", "cwd", "umask", "nice", "limits"),
    *("new_privileges", "env", "pass_env", "fresh"),
)


@frozen(kw_only=True, cache_hash=True)
class CommandRule:
    """One ``[[command]]`` table.

    :ivar name: what a client asks for; optional with ``argv = "any"``, where it is only a label.
    :ivar argv: the program and its arguments, in which ``{path}`` stands for the parameter ``path``
        (and ``{{path}}`` for the text ``{path}``); or ``any``: whatever the client sends.
    :ivar python: whether the first word of ``argv`` names a command in Python of the program that
        this server is a part of; such a command is a part of the server, and none of what a process
        has of its own can be set for it.
    :ivar summary: one line for people.
    :ivar allow: identities, and groups as ``group:NAME``, that may run it.
    :ivar deny: those that may not, even if ``allow`` names them.
    :ivar origins: where they may come from (the key ``from``): networks, and ``unix`` for Unix
        sockets; empty: anywhere.
    :ivar timeout: seconds until it is ended; ``None``: no limit of the rule's.
    :ivar max_output: bytes of stdout and stderr together, then it is ended; ``None``: the server's.
    :ivar stdin: whether the client's stdin is passed on; else it reads /dev/null.
    :ivar tty: whether the client may have it run on a terminal, which is its input too.
    :ivar shell: a line for ``/bin/sh -c``. With ``argv = "any"`` it is the client's words with a
        space between, as ssh has it. Else it is the first word of ``argv``, and what comes behind
        that are parameters, which the line has as ``"$1"``, ``"$2"`` ...: a client's word never
        becomes a part of the line.
    :ivar concurrency: how many at once; ``None``: the server's limit only.
    :ivar user: whom it runs as, a name or a number; ``None``: the server's user.
    :ivar group: its group; ``None``: the user's own.
    :ivar groups: its further groups; ``None``: those of the user, where there is one, else the
        server's.
    :ivar cwd: the working directory; ``None``: the home of its user.
    :ivar umask: which permissions its files do not get, in octal; ``None``: the server's.
    :ivar nice: its nice value, -20 to 19; ``None``: the server's.
    :ivar limits: what it may use of the machine.
    :ivar new_privileges: whether a set-user-ID program such as sudo gives it more rights than it
        has.
    :ivar env: variables that it gets.
    :ivar pass_env: names of variables that a client may set; ``LC_*`` and the like are understood.
    :ivar fresh: seconds in which whoever asks for the same has the result of one run; such a
        command is not told who asked, and takes no input.
    :ivar on_disconnect: what becomes of it when its client is lost.
    :ivar log: which parameters the audit may show: all, none, or those named.
    :ivar parameters: what the placeholders accept.
    """

    name: str | None = field(default=None, validator=rule_values.a_name)
    argv: tuple[str, ...] | Literal["any"] = field(validator=rule_values.an_argv)
    python: bool = False
    summary: str = ""
    allow: tuple[str, ...] = field(default=(), validator=rule_values.who)
    deny: tuple[str, ...] = field(default=(), validator=rule_values.who)
    origins: tuple[Origin, ...] = field(
        default=(), converter=rule_values.origins, metadata={"key": "from"}
    )
    timeout: Seconds | None = field(default=None, validator=rule_values.above_zero)
    max_output: Bytes | None = field(default=None, validator=rule_values.above_zero)
    stdin: Literal["none", "stream"] = "none"
    tty: bool = False
    shell: bool = False
    concurrency: int | None = field(default=None, validator=rule_values.above_zero)
    user: str | None = field(default=None, validator=rule_values.an_account)
    group: str | None = field(default=None, validator=rule_values.an_account)
    groups: tuple[str, ...] | None = field(default=None, validator=rule_values.accounts)
    cwd: str | None = field(default=None, validator=rule_values.a_path)
    umask: str | None = field(default=None, validator=rule_values.octal)
    nice: int | None = field(default=None, validator=rule_values.between(-20, 19))
    limits: ResourceLimits = field(factory=ResourceLimits)
    new_privileges: bool = False
    env: dict[str, str] = field(factory=dict, hash=False, validator=rule_values.environment)
    pass_env: tuple[str, ...] = field(default=(), validator=rule_values.environment_patterns)
    fresh: Seconds | None = field(default=None, validator=rule_values.above_zero)
    on_disconnect: Literal["end", "finish"] = "end"
    log: tuple[str, ...] | Literal["all", "none"] = "all"
    parameters: dict[str, Parameter] = field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        """:raises ValueError: if the settings do not go together; the message says which."""
        if not isinstance(self.argv, str):
            if self.name is None:
                raise ValueError('name is required (only argv = "any" can do without)')
            self._check_parameters(self.argv)
            if self.shell:
                self._check_line(self.argv)
        elif self.parameters:
            raise ValueError('parameters have no meaning with argv = "any"')
        if not isinstance(self.log, str):
            self._check_log(self.log)
        if self.python:
            self._check_python()
        if self.fresh is not None and (self.stdin != "none" or self.tty):
            raise ValueError("fresh goes without tty and stdin: what is shared takes no input")

    def _check_python(self) -> None:
        if self.takes_any:
            raise ValueError("with python = true the first word of argv has to name the command")
        for name in _OF_PROCESSES:
            if self.limits.table if name == "limits" else getattr(self, name):
                raise ValueError(f"{name} has no meaning with python = true: there is no process")

    def _check_parameters(self, argv: tuple[str, ...]) -> None:
        order = placeholders(argv)
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
                if any(parameter in placeholders([w]) and w != whole for w in argv):
                    raise ValueError(
                        f"parameters.{parameter}: with rest, {whole} has to be a whole word"
                    )

    def _check_line(self, argv: tuple[str, ...]) -> None:
        for word in argv[1:]:
            if [f"{{{name}}}" for name in placeholders([word])] != [word]:
                raise ValueError(
                    "with shell = true the first word of argv is the whole line, and behind it "
                    'are parameters alone, such as "{path}", which the line has as "$1" ...; '
                    f"found {word[:80]!a}"
                )

    def _check_log(self, shown: tuple[str, ...]) -> None:
        for parameter in shown:
            if parameter not in self.parameters:
                raise ValueError(f"log: there is no parameter {parameter[:80]!a}")
            if self.parameters[parameter].secret:
                raise ValueError(f"log: the parameter {parameter} is secret")

    @property
    def takes_any(self) -> bool:
        """Whether the client's words themselves are the argv."""
        return self.argv == "any"

    @property
    def label(self) -> str:
        """What the rule is called in logs and messages."""
        return self.name if self.name is not None else 'argv = "any"'

    def shows(self, parameter: str) -> bool:
        """Whether the audit may show what a parameter was."""
        if self.parameters[parameter].secret:
            return False
        return self.log == "all" or parameter in self.log

    def denies(self, identity: str, groups: Collection[str]) -> bool:
        """Whether ``deny`` names the identity or one of its groups."""
        return _names(self.deny, identity, groups)

    def allows(self, identity: str, groups: Collection[str]) -> bool:
        """Whether ``allow`` does; ``deny`` and :meth:`admits_from` have to be asked too."""
        return _names(self.allow, identity, groups)

    def admits_from(self, origin: str | None) -> bool:
        """Whether a client may be where it is.

        :param origin: an IP address, or ``unix``; ``None``: not known, which only a rule without
            ``from`` admits.
        """
        return rule_values.comes_from(self.origins, origin)

    def admits(self, identity: str, groups: Collection[str], origin: str | None) -> bool:
        """Whether the identity may run this from there."""
        return (
            self.allows(identity, groups)
            and not self.denies(identity, groups)
            and self.admits_from(origin)
        )

    def passes(self, variable: str) -> bool:
        """Whether a client may set this environment variable: never one that says who asked."""
        if not rule_values.ENV_NAME.fullmatch(variable) or rule_values.says_who_asked(variable):
            return False
        return any(fnmatch.fnmatchcase(variable, pattern) for pattern in self.pass_env)

    def take(self, words: Sequence[bytes]) -> tuple[bytes, ...]:
        """Make the argv of a rule for any.

        :param words: all that the client sent.
        """
        if not self.shell:
            return tuple(words)
        return (_SHELL, b"-c", b" ".join(words))

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
        argv = substitute(self.argv, values)
        if self.shell:
            # The word behind the line is the shell's $0.
            argv = (_SHELL, b"-c", argv[0], b"sh", *argv[1:])
        return argv, values


def _names(entries: tuple[str, ...], identity: str, groups: Collection[str]) -> bool:
    """Whether a list of identities and ``group:NAME`` names one of these."""
    return identity in entries or any(f"group:{group}" in entries for group in groups)
