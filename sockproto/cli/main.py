"""The client program's entry: its subcommands by name, and what every way to end looks like.

A subcommand's module is imported when that subcommand is used: a cold start pays for nothing else.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import click
from attrs import frozen

from sockproto.cli.command import NO_STATUS, Command, Failure, Group, one_line

__all__ = ["SUBCOMMANDS", "Program", "Subcommand", "main", "program"]

_INTERRUPTED = 130
# 128 + SIGPIPE, as a shell reports of other programs in a pipeline whose reader has gone.
_READER_GONE = 141


@frozen
class Subcommand:
    """Where a subcommand is.

    :ivar target: ``module:name`` of a click command.
    :ivar help: the line about it in the program's help.
    """

    target: str
    help: str

    def load(self) -> click.Command:
        """Import it."""
        module, _, name = self.target.partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found


#: The program's subcommands, in the order of its help.
SUBCOMMANDS: Mapping[str, Subcommand] = MappingProxyType(
    {
        "run": Subcommand("sockproto.cli.run:run", "Run a command on the agent's machine."),
        "shell": Subcommand(
            "sockproto.cli.shell:shell", "A prompt for commands on the agent's machine."
        ),
        "commands": Subcommand(
            "sockproto.cli.commands:commands", "List the commands that the agent lets us run."
        ),
        "ping": Subcommand("sockproto.cli.ping:ping", "Ask whether the agent answers."),
        "echo": Subcommand("sockproto.cli.echo:echo", "Ask an echo service, and check its answer."),
        "time": Subcommand("sockproto.cli.time:time", "Ask a server for the time, in many ways."),
        "keys": Subcommand("sockproto.cli.keys:keys", "Make, show, deploy and revoke keys."),
        "check": Subcommand(
            "sockproto.cli.check:check",
            "Check a server's configuration, or ask it who may run what.",
        ),
    }
)


class Program(Group):
    """The outermost group, whose subcommands are named in a table.

    :param table: the subcommands by name.
    """

    def __init__(self, *args: Any, table: Mapping[str, Subcommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        found = self._table.get(cmd_name)
        return None if found is None else found.load()

    def command_lines(self) -> list[tuple[str, str]]:
        """The subcommands' names and the lines about them, for which nothing is imported."""
        return [(name, each.help) for name, each in self._table.items()]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand, or name the nearest."""
        name = args[0]
        if name not in self._table and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, self._table, n=1)
            hint = (
                f": did you mean {near[0]!r}?" if near else f": there are {', '.join(self._table)}"
            )
            ctx.fail(f"no subcommand {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            ctx.exit(_READER_GONE)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the program, and exit."""
        extra["standalone_mode"] = False
        extra["prog_name"] = extra.get("prog_name") or self.name
        try:
            status = super().main(*args, **extra)
        except Failure as failure:
            status = _say(failure.code, failure.message, failure.status)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            status = error.exit_code
        except click.UsageError as error:
            status = _say_usage(error)
        except click.ClickException as error:
            status = _say("usage", error.format_message(), error.exit_code)
        except click.Abort as error:
            # From a prompt too; there the end of the input is an answer of a kind.
            status = 1 if isinstance(error.__cause__, EOFError) else _INTERRUPTED
        except KeyboardInterrupt:
            status = _INTERRUPTED
        except Exception as error:
            # A bug: its traceback, and a status that no remote command's is taken for.
            import traceback

            traceback.print_exc()
            status = _say("internal", f"{type(error).__name__}: {error}", NO_STATUS)
        sys.exit(_flushed(status if isinstance(status, int) else 0))


def _say(code: str, message: str, status: int) -> int:
    """One line on stderr."""
    click.echo(f"sockproto: {code}: {one_line(message)}", err=True)
    return status


def _say_usage(error: click.UsageError) -> int:
    """One line on wrong usage, with where to read on."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if error.ctx is None:
        return _say("usage", message, error.exit_code)
    used = error.ctx.command
    status = used.usage_status if isinstance(used, (Command, Group)) else error.exit_code
    return _say("usage", f"{message} (see {error.ctx.command_path} --help)", status)


def _flushed(status: int) -> int:
    """Write what is left to be written to stdout; the exit status after that."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return _READER_GONE
    except OSError as error:
        _forget_output()
        # With another status something has been said already.
        return status or _say("system", f"output: {error}", NO_STATUS)
    return status


def _forget_output() -> None:
    """Have the rest of the output go nowhere: the interpreter flushes once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except OSError:
        pass  # it is no file: a program that embeds this one has put something else there
    finally:
        os.close(nowhere)


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    """``--version``."""
    if not value:
        return
    from importlib import metadata

    try:
        version = metadata.version("sockproto")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    click.echo(f"sockproto {version}")
    ctx.exit()


program = Program(
    "sockproto",
    table=SUBCOMMANDS,
    help="""Run commands on machines that have a sockproto agent.

    Each subcommand has its own --help. The exit status is 0, 1 if what was asked failed or was
    refused, 2 for wrong usage, 255 if no agent answered; that of `run` is the remote command's.""",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        )
    ],
    examples=[
        ("sockproto run -- uname -a", "run a command on the agent of this machine"),
        ("sockproto run --connect web1 -- df -h", "on another, over TLS"),
        ("sockproto shell", "a prompt for many, with a folder that cd changes"),
        ("sockproto time --protocol ntp", "how wrong our clock is"),
        ("sockproto keys new owner --if-missing", "make the key to log in with"),
    ],
)


def main() -> NoReturn:
    """The console script ``sockproto``."""
    program.main()
