"""The shell's lines, without I/O: what each asks for, where ``cd`` leads, and the prompt."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Sequence
from types import MappingProxyType

from attrs import define, field, frozen

from sockproto.cli.command import one_line

__all__ = [
    "BUILT_IN",
    "HELP",
    "Action",
    "ChangeFolder",
    "Help",
    "Leave",
    "Nothing",
    "Run",
    "WorkingFolder",
    "WrongLine",
    "parse_line",
    "prompt",
]

HELP = """\
A line is a command for the agent's machine: its words reach the program as they are, quoted as in
a shell, but no shell is involved (sh -c '...' names one). It has no input. Ctrl-C ends it.

  cd [FOLDER]   work in another folder of that machine; `cd -`: the one before; `cd`: the home
  exit, quit    leave, as the end of the input does; `exit N`: with that status
  help          this
  # ...         nothing

A line that begins with a space is not kept in the history. A status other than 0 stands in the
prompt. A program of a name above runs by `env NAME`."""


class WrongLine(Exception):
    """A line that asks for nothing that can be done; the message says why."""


@frozen
class Nothing:
    """An empty line, or a comment."""


@frozen
class Help:
    """Say what there is."""


@frozen
class Leave:
    """Leave the shell.

    :ivar status: the exit status; ``None``: the last command's.
    """

    status: int | None = None


@frozen
class ChangeFolder:
    """Work in another folder.

    :ivar wanted: as it stands in the line; ``None``: the home.
    """

    wanted: str | None = None


@frozen
class Run:
    """Run a command.

    :ivar argv: its words.
    """

    argv: tuple[str, ...]


Action = Nothing | Help | Leave | ChangeFolder | Run


def parse_line(line: str) -> Action:
    """What a line asks for.

    :raises WrongLine: it cannot be told.
    """
    if line.lstrip().startswith("#"):
        return Nothing()
    try:
        words = shlex.split(line)
    except ValueError as error:
        # "No closing quotation", "No escaped character"
        raise WrongLine(str(error).lower()) from None
    if not words:
        return Nothing()
    built_in = BUILT_IN.get(words[0])
    return Run(tuple(words)) if built_in is None else built_in(words)


def _change_folder(words: Sequence[str]) -> ChangeFolder:
    if len(words) > 2:
        raise WrongLine("cd: expected one folder")
    return ChangeFolder(words[1] if len(words) == 2 else None)


def _leave(words: Sequence[str]) -> Leave:
    if len(words) == 1:
        return Leave()
    status = words[1]
    if len(words) > 2 or not (status.isascii() and status.isdecimal() and int(status) < 256):
        raise WrongLine(f"{words[0]}: expected a status from 0 to 255, or nothing")
    return Leave(int(status))


def _help(_words: Sequence[str]) -> Help:
    return Help()


#: The words that are no program's names.
BUILT_IN: MappingProxyType[str, Callable[[Sequence[str]], Action]] = MappingProxyType(
    {"cd": _change_folder, "exit": _leave, "help": _help, "quit": _leave}
)


@define
class WorkingFolder:
    """Where commands run, on the agent's machine.

    :ivar current: a path from the root; ``None``: where the agent runs what names no folder, the
        home of its user unless a rule says otherwise.
    """

    current: str | None = None
    _before: str | None = field(default=None, init=False)
    _moved: bool = field(default=False, init=False)

    def leads_to(self, wanted: str | None) -> str | None:
        """The folder to ask the agent for.

        :param wanted: as it was typed; ``-`` is the folder before, and ``~`` the home, from where
            relative paths without a leading ``/`` in the result start, too.
        :raises WrongLine: there is none.
        """
        if wanted == "-":
            if not self._moved:
                raise WrongLine("cd: there is no folder before this one")
            return self._before
        if wanted is None or wanted.rstrip("/") == "~":
            return None
        if not wanted:
            raise WrongLine("cd: expected a folder, found nothing")
        if wanted.startswith("~/"):
            return wanted[2:].lstrip("/")
        return wanted if self.current is None else posixpath.join(self.current, wanted)

    def moved_to(self, folder: str | None) -> None:
        """Commands run there from now on.

        :param folder: as the agent calls it, all links followed.
        """
        self._before, self.current, self._moved = self.current, folder, True

    def __str__(self) -> str:
        """As people read it."""
        return "~" if self.current is None else one_line(self.current)


def prompt(server_id: str, folder: WorkingFolder, status: int) -> str:
    """What stands before the cursor.

    :param status: of the last command.
    """
    shown = f" [{status}]" if status else ""
    return f"{server_id}:{folder}{shown}> "
