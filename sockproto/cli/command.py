"""What a subcommand is made of: its options, help by example, and the statuses of its failures.

A subcommand is a function that takes the common options first, then what it declares itself, and
returns its exit status (``None`` is 0)::

    @command("ping", examples=[("sockproto ping", "ask the agent of this machine")])
    @click.option("--count", default=1)
    def ping(options: ConnectionOptions, count: int) -> int | None:
        \"\"\"Ask whether an agent answers.\"\"\"
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from sockproto.cli.options import CommonOption, ConnectionOptions, common_options, options_of
from sockproto.errors import AgentError, ConfigurationError, KeyringError, SockprotoError

__all__ = [
    "NO_STATUS",
    "Command",
    "ConnectionOptions",
    "Failure",
    "Group",
    "command",
    "one_line",
    "warn",
]

#: The exit status where there is none to pass on, and wherever no agent answered.
NO_STATUS = 255
_FAILED = 1
_WRONG_USAGE = 2
# With these codes there was no agent to refuse or to fail at anything.
_NO_AGENT = frozenset({"connect", "login", "lost", "protocol", "shutdown"})

Example = tuple[str, str]


class Failure(click.ClickException):
    """The end of a subcommand that has nothing more to say than one line.

    :param code: the word after ``sockproto:``.
    :param message: what happened.
    :param status: the exit status.
    """

    def __init__(self, code: str, message: str, status: int = _FAILED) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class _Documented(click.Command):
    """A command or group with the common options and with examples in its help."""

    def __init__(
        self,
        *args: Any,
        examples: Sequence[Example] = (),
        local: bool = False,
        keyless: bool = False,
        passes_status: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])
        self.examples = examples
        self.local = local or keyless
        self.passes_status = passes_status
        if not keyless:
            taken = {name for each in self.params for name in each.opts}
            self.params += [each for each in common_options(local) if taken.isdisjoint(each.opts)]

    @property
    def usage_status(self) -> int:
        """The exit status for wrong usage."""
        return NO_STATUS if self.passes_status else _WRONG_USAGE

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options, then the common ones."""
        own: list[tuple[str, str]] = []
        common: list[tuple[str, str]] = []
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        for each in options:
            record = each.get_help_record(ctx)
            if record is not None:
                (common if isinstance(each, CommonOption) else own).append(record)
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        if common:
            with formatter.section("Common options, here or before the subcommand"):
                formatter.write_dl(common)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples: each line as it would be typed, and what it does."""
        if self.examples:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for line, meaning in self.examples:
                formatter.write(f"  {line}\n      {meaning}\n")
        super().format_epilog(ctx, formatter)


class Command(_Documented):
    """A subcommand; see :func:`command`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, and end with its exit status or a :class:`Failure`."""
        try:
            status = super().invoke(ctx)
        except SockprotoError as error:
            raise self._failure(error) from error
        except BrokenPipeError:
            raise  # whoever read the output has seen enough
        except OSError as error:
            raise Failure("system", str(error), _FAILED if self.local else NO_STATUS) from error
        ctx.exit(0 if status is None else status)

    def _failure(self, error: SockprotoError) -> Failure:
        """An exception as the end of this command."""
        no_agent = not self.local
        if isinstance(error, AgentError):
            code = error.code
            no_agent = code in _NO_AGENT
        elif isinstance(error, KeyringError):
            code = "keyring" if self.local else "login"
        elif isinstance(error, ConfigurationError):
            code = "configuration"
        else:
            code = "internal"
        status = NO_STATUS if no_agent or self.passes_status else _FAILED
        return Failure(code, str(error), status)


class Group(_Documented, click.Group):
    """A subcommand that has subcommands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of their definition."""
        return list(self.commands)

    def command_lines(self) -> list[tuple[str, str]]:
        """The subcommands' names, and the line of help about each."""
        return [(name, each.get_short_help_str(limit=100)) for name, each in self.commands.items()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The subcommands in the help."""
        with formatter.section("Subcommands"):
            formatter.write_dl(self.command_lines())


def command(
    name: str,
    *,
    parent: click.Group | None = None,
    examples: Sequence[Example] = (),
    local: bool = False,
    keyless: bool = False,
    passes_status: bool = False,
    interspersed: bool = True,
) -> Callable[[Callable[..., int | None]], Command]:
    """Make a function a subcommand; click's own decorators for its parameters go below this one.

    :param name: what it is called.
    :param parent: the group it belongs to, if it is not one of the program's own.
    :param examples: command lines and what they do, for its help.
    :param local: it talks to no agent: a keyring that cannot be used is a failure with status 1,
        and only ``--keyring`` is listed in its help.
    :param keyless: it needs no key either, and takes none of the common options.
    :param passes_status: its exit status is that of a remote command, so whatever else goes wrong,
        wrong usage too, ends with 255; otherwise a refusal or failure of the thing itself is 1, and
        wrong usage 2.
    :param interspersed: options may stand after the first argument too.
    """

    def decorate(function: Callable[..., int | None]) -> Command:
        @functools.wraps(function)
        def with_options(**parameters: Any) -> int | None:
            return function(options_of(click.get_current_context()), **parameters)

        made: Command = click.command(
            name,
            cls=Command,
            examples=examples,
            local=local,
            keyless=keyless,
            passes_status=passes_status,
            context_settings={"allow_interspersed_args": interspersed},
        )(with_options)
        if parent is not None:
            parent.add_command(made)
        return made

    return decorate


def one_line(text: str) -> str:
    """A text with everything escaped that is not printable.

    What an agent or a file says may have line ends in it, or sequences that a terminal would obey.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def warn(message: str) -> None:
    """Say something on stderr that is no failure."""
    click.echo(f"sockproto: warning: {one_line(message)}", err=True)
