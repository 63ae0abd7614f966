"""``sockproto run``: a command on the agent's machine, as if it ran here."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

import click

from sockproto.blocking import Command, Session
from sockproto.cli.command import NO_STATUS, Failure, command, one_line, warn
from sockproto.cli.options import ConnectionOptions
from sockproto.errors import AgentError, ConfigurationError, KeyringError, SockprotoError
from sockproto.result import Result, signal_number
from sockproto.wire.commands import CommandRequest
from sockproto.wire.messages import Stream

__all__ = ["run"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_DESCRIPTORS = {Stream.OUT: _STDOUT, Stream.ERR: _STDERR}
_CHUNK = 65_536
_INTERRUPTED = 130
_NAGIOS_UNKNOWN = 3
# How long Ctrl-C waits for the agent to say that the command is gone: its grace, and some more.
_CANCEL_SECONDS = 5.0


@command(
    "run",
    passes_status=True,
    interspersed=False,
    examples=[
        ("sockproto run -- uname -a", "its output, its exit status"),
        ("sockproto run --connect web1 -- df -h /var", "on another machine, over TLS"),
        ("tar c . | sockproto run --stdin -- tar x -C /srv", "with input"),
        ("sockproto run --timeout 30 -- make -C /src test", "not longer than 30 s"),
        ("sockproto run -- sh -c 'ls *.log | wc -l'", "a shell only where one is named"),
    ],
)
@click.option("--stdin", is_flag=True, help="Pass our standard input on; else it reads nothing.")
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
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    options: ConnectionOptions,
    argv: tuple[str, ...],
    stdin: bool,
    timeout: float | None,
    cwd: str | None,
    env: Sequence[str],
    nagios: bool,
) -> int:
    """Run a command on the agent's machine, as if it ran here.

    Its output comes as it is written, stdout and stderr apart. No shell is involved: each word
    reaches the program as it is. Ctrl-C ends the command and all that it has started.

    The exit status is the command's; 128 + N if signal N ended it; 130 after Ctrl-C; 255 where
    there is none, with a line on stderr that says why."""
    request = CommandRequest.of(argv, stdin=stdin, timeout=timeout, cwd=cwd, env=_environment(env))
    try:
        with options.connect(attentive=True) as session:
            return _status(_carry(session, session.ask(request), stdin), timeout)
    except SockprotoError as error:
        code, message = _explained(error, argv)
        if not nagios:
            raise Failure(code, message, NO_STATUS) from error
        click.echo(f"UNKNOWN - {code}: {one_line(message)}")
        return _NAGIOS_UNKNOWN


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


def _carry(session: Session, command: Command, stdin: bool) -> Result:
    """Carry input and output until the command has ended."""
    try:
        poll = select.poll()
        poll.register(session.fileno(), select.POLLIN)
        watching = False
        while True:
            while (piece := command.take()) is not None:
                if not _write(_DESCRIPTORS[Stream(piece.stream)], piece.data):
                    command.stop_output(piece.stream)
            if command.ended:
                return command.wait()
            if stdin and not watching and command.writable:
                poll.register(_STDIN, select.POLLIN)
                watching = True
            ready = {descriptor for descriptor, _ in poll.poll()}
            if _STDIN in ready:
                # Our input is only read as far as the command takes it.
                poll.unregister(_STDIN)
                watching = False
                stdin = _feed(command)
            if session.fileno() in ready:
                session.pump()
    except KeyboardInterrupt:
        _cancel(session, command)
        raise


def _feed(command: Command) -> bool:
    """Pass some input on.

    :return: whether there may be more.
    """
    room = min(command.writable, _CHUNK)
    if not room:
        return not command.ended
    data = os.read(_STDIN, room)
    if data:
        command.write_some(data)
    else:
        command.end_input()
    return bool(data)


def _write(descriptor: int, data: bytes) -> bool:
    """Write all of some output.

    :return: whether anybody wants more.
    """
    rest = memoryview(data)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                # Whoever gave us this descriptor has made it non-blocking.
                select.select([], [descriptor], [])
    except BrokenPipeError:
        return False
    return True


def _cancel(session: Session, command: Command) -> None:
    """End the command; wait until the agent says that it is gone, but not for long."""
    command.cancel()
    deadline = time.monotonic() + _CANCEL_SECONDS
    while not command.ended and (left := deadline - time.monotonic()) > 0:
        try:
            session.pump(left)
            command.take()
        except AgentError:
            return


def _status(result: Result, timeout: float | None) -> int:
    """The exit status for a result."""
    if result.truncated:
        warn("there was more output than the agent passes on: it is truncated")
    if result.timed_out:
        limit = "its time was up" if timeout is None else f"it took longer than {timeout:g} s"
        raise AgentError(f"the command was ended: {limit}", "timeout")
    if result.exit_status is not None:
        return result.exit_status
    assert result.signal is not None
    try:
        return 128 + signal_number(result.signal)
    except ValueError as error:
        raise AgentError(f"the command was ended by a signal: {error}") from None


def _explained(error: SockprotoError, argv: Sequence[str]) -> tuple[str, str]:
    """An error's code and message, with a hint where the command was given as one word."""
    if isinstance(error, AgentError):
        code, message = error.code, str(error)
    elif isinstance(error, ConfigurationError):
        code, message = "configuration", str(error)
    else:
        code, message = "login" if isinstance(error, KeyringError) else "internal", str(error)
    line = argv[0]
    if code in ("not-found", "unknown", "refused") and len(argv) == 1 and len(line.split()) > 1:
        message += f" (a command is separate words: sockproto run -- {line.strip()})"
    return code, message
