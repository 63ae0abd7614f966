"""``sockproto run``: a command on the agent's machine, as if it ran here."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

import click

from sockproto.blocking import Command, Session
from sockproto.cli.command import NO_STATUS, Failure, command, one_line, warn
from sockproto.cli.interrupt import Interrupt
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
    _claim_standard_streams()
    try:
        request = CommandRequest.of(
            argv, stdin=stdin, timeout=timeout, cwd=cwd, env=_environment(env)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        with options.connect() as session, Interrupt() as interrupt:
            carrier = _Carrier(session, session.ask(request), interrupt)
            return _status(carrier.carry(stdin), timeout)
    except KeyboardInterrupt:
        if os.isatty(_STDERR):
            click.echo(err=True)  # so that the prompt does not stand behind the terminal's ^C
        return _INTERRUPTED
    except BrokenPipeError:
        raise
    except (SockprotoError, OSError) as error:
        code, message = _explained(error, argv)
        if not nagios:
            raise Failure(code, message, NO_STATUS) from error
        click.echo(f"UNKNOWN - {code}: {one_line(message)}")
        return _NAGIOS_UNKNOWN


def _claim_standard_streams() -> None:
    """See that 0, 1 and 2 are taken: else the connection would be one of them, and output go there.

    Where the caller has closed one, nothing comes from there and what goes there is lost.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)


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


class _Carrier:
    """Carries input and output between our own streams and a command's."""

    def __init__(self, session: Session, command: Command, interrupt: Interrupt) -> None:
        self._session = session
        self._command = command
        self._interrupt = interrupt

    def carry(self, stdin: bool) -> Result:
        """Carry until the command has ended.

        :param stdin: whether to pass our input on.
        """
        command = self._command
        try:
            while True:
                while (piece := command.take()) is not None:
                    if not self._write(_DESCRIPTORS[Stream(piece.stream)], piece.data):
                        command.stop_output(piece.stream)
                if command.ended:
                    return command.wait()
                # Our input is only read as far as the command, and the network, take it.
                room = min(command.writable, _CHUNK) if stdin and not self._session.sending else 0
                if self._wait(bool(room)):
                    stdin = self._feed(room)
                self._session.pump(0)
        except KeyboardInterrupt:
            self._cancel()
            raise

    def _wait(self, stdin: bool, timeout: float | None = None) -> bool:
        """Wait until something can be done.

        :param stdin: whether input counts.
        :return: whether there is input.
        """
        poll = select.poll()
        poll.register(
            self._session.fileno(), select.POLLIN | (select.POLLOUT if self._session.sending else 0)
        )
        if stdin:
            poll.register(_STDIN, select.POLLIN)
        limit = None if timeout is None else timeout * 1000
        return any(ready == _STDIN for ready, _ in self._interrupt.waiting(poll.poll, limit))

    def _feed(self, room: int) -> bool:
        """Pass some input on.

        :return: whether there may be more.
        """
        try:
            data = self._interrupt.waiting(os.read, _STDIN, room)
        except BlockingIOError:
            return True  # somebody else was faster; the descriptor has been made non-blocking
        if data:
            self._command.write_some(data)
        else:
            self._command.end_input()
        return bool(data)

    def _write(self, descriptor: int, data: bytes) -> bool:
        """Write all of some output, and wait for whoever reads it, however long that takes.

        :return: whether anybody wants more.
        """
        rest = memoryview(data)
        try:
            while rest:
                try:
                    rest = rest[self._interrupt.waiting(os.write, descriptor, rest) :]
                except BlockingIOError:
                    # Whoever gave us this descriptor has made it non-blocking.
                    self._interrupt.waiting(select.select, [], [descriptor], [])
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _cancel(self) -> None:
        """End the command; wait until the agent says that it is gone, but not for long."""
        command = self._command
        command.cancel()
        deadline = time.monotonic() + _CANCEL_SECONDS
        try:
            while not command.ended and (left := deadline - time.monotonic()) > 0:
                self._wait(False, left)
                self._session.pump(0)
        except AgentError:
            pass  # it went with the connection


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


def _explained(error: SockprotoError | OSError, argv: Sequence[str]) -> tuple[str, str]:
    """An error's code and message, with a hint where the command was given as one word."""
    if isinstance(error, AgentError):
        code, message = error.code, str(error)
    elif isinstance(error, ConfigurationError):
        code, message = "configuration", str(error)
    elif isinstance(error, OSError):
        code, message = "system", str(error)
    else:
        code, message = "login" if isinstance(error, KeyringError) else "internal", str(error)
    line = argv[0]
    if code in ("not-found", "unknown", "refused") and len(argv) == 1 and len(line.split()) > 1:
        message += f" (a command is separate words: sockproto run -- {line.strip()})"
    return code, message
