"""``sockproto shell``: a prompt, or a script, whose lines run on the agent's machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click

from sockproto.blocking import Command
from sockproto.cli.carrier import Carrier
from sockproto.cli.command import NO_STATUS, command, one_line
from sockproto.cli.descriptors import claim_standard_streams
from sockproto.cli.history import History, history_path
from sockproto.cli.interrupt import Interrupt
from sockproto.cli.lines import ScriptLines, TerminalLines
from sockproto.cli.link import Link
from sockproto.cli.options import ConnectionOptions
from sockproto.cli.outcome import INTERRUPTED, code_of, status_of
from sockproto.cli.shell_line import (
    HELP,
    Action,
    ChangeFolder,
    Help,
    Leave,
    Run,
    WorkingFolder,
    WrongLine,
    parse_line,
    prompt,
)
from sockproto.errors import (
    AgentError,
    ConfigurationError,
    ConnectFailed,
    KeyringError,
    LoginFailed,
    SockprotoError,
)
from sockproto.wire.commands import CommandRequest
from sockproto.wire.messages import Stream

__all__ = ["Shell", "shell"]

_WRONG_LINE = 2
# The longest path that Linux takes is 4096 bytes.
_LONGEST_ANSWER = 65_536


@command(
    "shell",
    examples=[
        ("sockproto shell", "a prompt on this machine's agent; help says what there is"),
        ("sockproto shell --connect web1", "on another machine, over TLS"),
        ("printf 'cd /srv\\nls -l\\n' | sockproto shell", "a script: one line after the other"),
    ],
)
def shell(options: ConnectionOptions) -> int:
    """Run commands on the agent's machine, a line each, in a folder that `cd` changes.

    The words of a line are split as by a shell, and no shell is involved. Output comes as it is
    written. Ctrl-C ends the command; `quit` or the end of the input leaves. A connection that is
    lost is made anew for the next command, and the folder is kept; what was running when it was
    lost is not run again.

    Where the input is no terminal there is no prompt: its lines are a script.

    The exit status is the last command's, 128 + N if signal N ended it, 255 if it has none."""
    claim_standard_streams()
    interactive = sys.stdin is not None and sys.stdin.isatty()
    link = Link(options.connect, _say)
    try:
        if interactive:
            return Shell(link, _terminal().read, interactive=True).run()
        return Shell(link, ScriptLines(sys.stdin).read, interactive=False).run()
    finally:
        link.close()


def _terminal() -> TerminalLines:
    history = History(history_path(os.environ))
    return TerminalLines(history, _say)


def _say(message: str) -> None:
    """A line on stderr."""
    click.echo(f"sockproto: {one_line(message)}", err=True)


class Shell:
    """Does what lines ask for, one after the other.

    :param link: to the agent.
    :param read: gives the next line, after a prompt that only a terminal shows.
    :param interactive: whether somebody types; a script ends where no agent can be reached, and
        with Ctrl-C.
    """

    def __init__(self, link: Link, read: Callable[[str], str | None], interactive: bool) -> None:
        self._link = link
        self._read = read
        self._interactive = interactive
        self._folder = WorkingFolder()
        self._status = 0

    def run(self) -> int:
        """Read and do until the end; the exit status."""
        while True:
            try:
                line = self._read(prompt(self._link.server_id, self._folder, self._status))
                if line is None:
                    return self._status
                action = parse_line(line)
                if isinstance(action, Leave):
                    return self._status if action.status is None else action.status
                self._do(action)
            except KeyboardInterrupt:
                if not self._interactive:
                    return INTERRUPTED
                click.echo(err=True)  # the next prompt does not stand behind the terminal's ^C
            except WrongLine as error:
                self._fail("usage", str(error), _WRONG_LINE)
            except BrokenPipeError:
                raise
            except (SockprotoError, OSError) as error:
                self._fail(code_of(error), str(error), NO_STATUS)
                unreachable = (ConnectFailed, LoginFailed, KeyringError, ConfigurationError)
                if isinstance(error, unreachable) and not self._interactive:
                    return self._status

    def _fail(self, code: str, message: str, status: int) -> None:
        self._status = status
        _say(f"{code}: {message}")

    def _do(self, action: Action) -> None:
        if isinstance(action, Help):
            click.echo(HELP)
        elif isinstance(action, ChangeFolder):
            self._change_folder(action.wanted)
            self._status = 0
            if action.wanted == "-":
                click.echo(str(self._folder))
        elif isinstance(action, Run):
            self._status = self._run(action.argv, self._folder.current)

    def _change_folder(self, wanted: str | None) -> None:
        """Go there, if the agent can, and by its own name for it."""
        folder = self._folder.leads_to(wanted)
        if folder is not None:
            answer = bytearray()

            def put(stream: int, data: bytes) -> bool:
                if stream == Stream.OUT:
                    answer.extend(data)
                return len(answer) < _LONGEST_ANSWER

            status = self._run(("pwd", "-P"), folder, put)
            path = bytes(answer).removesuffix(b"\n")
            if status or not path.startswith(b"/"):
                raise AgentError(f"cd: the agent does not say where that is: {folder}", "bad-cwd")
            folder = os.fsdecode(path)
        self._folder.moved_to(folder)

    def _run(
        self,
        argv: tuple[str, ...],
        folder: str | None,
        put: Callable[[int, bytes], bool] | None = None,
    ) -> int:
        """Run a command to its end; the exit status.

        :raises KeyboardInterrupt: Ctrl-C came, and the command has been ended.
        """
        running: Command | None = None
        try:
            session, running = self._link.ask(CommandRequest.of(argv, cwd=folder))
            with Interrupt() as interrupt:
                status = status_of(Carrier(session, running, interrupt, put).carry())
        except KeyboardInterrupt:
            self._status = INTERRUPTED
            if running is not None and not running.ended:
                running.cancel()
                self._link.doubt()
            raise
        self._link.heard()
        return status
