"""``sockproto run``: a command on the agent's machine, as if it ran here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sockproto.cli.carrier import Carrier
from sockproto.cli.command import NO_STATUS, Failure, command, one_line
from sockproto.cli.descriptors import STDERR, claim_standard_streams
from sockproto.cli.interrupt import Interrupt
from sockproto.cli.options import ConnectionOptions
from sockproto.cli.outcome import INTERRUPTED, code_of, status_of
from sockproto.errors import SockprotoError
from sockproto.wire.commands import CommandRequest

if TYPE_CHECKING:
    from sockproto.cli.terminal import LocalTerminal

__all__ = ["run"]

_NAGIOS_UNKNOWN = 3


@command(
    "run",
    passes_status=True,
    interspersed=False,
    examples=[
        ("sockproto run -- uname -a", "its output, its exit status"),
        ("sockproto run --connect web1 -- df -h /var", "on another machine, over TLS"),
        ("sockproto run --connect web -- uptime", "on all hosts of the group web at once"),
        ("tar c . | sockproto run --stdin -- tar x -C /srv", "with input"),
        ("sockproto run --timeout 30 -- make -C /src test", "not longer than 30 s"),
        ("sockproto run --tty -- vim notes", "on a terminal, as if sat at it"),
        ("sockproto run -- sh -c 'ls *.log | wc -l'", "a shell only where one is named"),
    ],
)
@click.option("--stdin", is_flag=True, help="Pass our standard input on; else it reads nothing.")
@click.option(
    "--tty", is_flag=True, help="Run it on a terminal, and lend it ours: keys, size, Ctrl-C."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="End it, and all it has started, after so many seconds.",
)
@click.option("--cwd", metavar="DIR", help="The folder to run it in.")
@click.option("--env", "env", metavar="K=V", multiple=True, help="A variable for it; repeatable.")
@click.option(
    "--nagios", is_flag=True, help="What goes wrong on the way is a line UNKNOWN, and status 3."
)
@click.option(
    "--help-command", metavar="NAME", help="Show what one of the agent's commands takes, and exit."
)
@click.argument("argv", nargs=-1, metavar="ARGV...", type=click.UNPROCESSED)
def run(
    options: ConnectionOptions,
    argv: tuple[str, ...],
    stdin: bool,
    tty: bool,
    timeout: float | None,
    cwd: str | None,
    env: Sequence[str],
    nagios: bool,
    help_command: str | None,
) -> int:
    """Run a command on the agent's machine, as if it ran here.

    Its output comes as it is written, stdout and stderr apart. No shell is involved: each word
    reaches the program as it is. Ctrl-C ends the command and all that it has started; with --tty
    it is a key like others, and --stdin is implied.

    The exit status is the command's; 128 + N if signal N ended it; 130 after Ctrl-C; 255 where
    there is none, with a line on stderr that says why."""
    if help_command is not None:
        from sockproto.cli.commands import show_command

        show_command(options, help_command)
        return 0
    try:
        return _run(options, argv, stdin, tty, timeout, cwd, env, nagios)
    except click.UsageError as error:
        if not nagios:
            raise
        return _unknown("usage", error.format_message())


def _run(
    options: ConnectionOptions,
    argv: tuple[str, ...],
    stdin: bool,
    tty: bool,
    timeout: float | None,
    cwd: str | None,
    env: Sequence[str],
    nagios: bool,
) -> int:
    if not argv:
        raise click.UsageError("Missing argument 'ARGV...'.")
    claim_standard_streams()
    terminal = _terminal() if tty else None
    try:
        request = CommandRequest.of(
            argv,
            stdin=stdin,
            timeout=timeout,
            cwd=cwd,
            env=_environment(env),
            tty=None if terminal is None else terminal.describe(),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        members = options.members()
        if members is not None:
            from sockproto.cli.group import GroupRun

            _expect_none(options.where, stdin=stdin, tty=tty, nagios=nagios)
            return GroupRun(options, members, request, timeout).run()
        with options.connect() as session, Interrupt() as interrupt:
            command = session.ask(request)
            carrier = Carrier(session, command, interrupt, terminal=terminal)
            if terminal is None:
                result = carrier.carry(stdin)
                if nagios and result.signal is not None and not result.timed_out:
                    return _unknown("signal", f"signal {result.signal} ended the command")
                return status_of(result, timeout)
            interrupt.waiting(command.wait_until_started)
            with terminal:
                result = carrier.carry(stdin=True)
            return status_of(result, timeout)
    except KeyboardInterrupt:
        if os.isatty(STDERR):
            click.echo(err=True)  # so that the prompt does not stand behind the terminal's ^C
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except (SockprotoError, OSError) as error:
        code, message = _explained(error, argv)
        if not nagios:
            raise Failure(code, message, NO_STATUS) from error
        return _unknown(code, message)


def _unknown(code: str, message: str) -> int:
    """What a monitoring system is told where there is no plugin's own word."""
    click.echo(f"UNKNOWN - {code}: {one_line(' '.join(message.split()))}")
    return _NAGIOS_UNKNOWN


def _expect_none(group: str, **for_one_host: bool) -> None:
    """:raises UsageError: one of these options was given."""
    for name, given in for_one_host.items():
        if given:
            raise click.UsageError(f"--{name} is for one host, and {group} is a group of them")


def _terminal() -> LocalTerminal:
    """Our own terminal."""
    from sockproto.cli.terminal import LocalTerminal, NoTerminal

    try:
        return LocalTerminal()
    except NoTerminal as error:
        raise click.UsageError(f"--tty: {error}; without it the command needs none") from None


def _environment(assignments: Sequence[str]) -> dict[str, str]:
    environment = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name or not equals:
            raise click.BadParameter(
                f"expected NAME=VALUE, found {assignment!r}", param_hint="--env"
            )
        environment[name] = value
    return environment


def _explained(error: SockprotoError | OSError, argv: Sequence[str]) -> tuple[str, str]:
    """An error's code and message, with a hint where the command was given as one word."""
    code, message = code_of(error), str(error)
    line = argv[0]
    if code in ("not-found", "unknown", "refused") and len(argv) == 1 and len(line.split()) > 1:
        message += f" (a command is separate words: sockproto run -- {line.strip()})"
    return code, message
