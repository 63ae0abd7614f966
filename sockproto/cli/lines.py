"""Where the shell's lines come from: a terminal with line editing and history, or a script."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO, TypeVar

import click

from sockproto.cli.history import History
from sockproto.cli.shell_line import BUILT_IN

__all__ = ["ScriptLines", "TerminalLines"]

_T = TypeVar("_T")


class ScriptLines:
    """The lines of an input that is no terminal.

    :param source: the input; ``None`` has no lines.
    """

    def __init__(self, source: TextIO | None) -> None:
        self._source = None if source is None else source.buffer

    def read(self, _prompt: str) -> str | None:
        """The next line; ``None`` at the end."""
        line = b"" if self._source is None else self._source.readline()
        return os.fsdecode(line) if line else None


class TerminalLines:
    """The lines that somebody types.

    :param history: of what was typed before.
    :param say: tells the user that no history can be kept.
    """

    def __init__(self, history: History, say: Callable[[str], None]) -> None:
        self._history = history
        self._say = say
        self._edits = sys.stdout is not None and sys.stdout.isatty()
        # Bytes that are not UTF-8 reach the agent as they are.
        getattr(sys.stdin, "reconfigure", lambda **_: None)(errors="surrogateescape")
        if self._edits:
            try:
                import readline
            except ImportError:  # a Python without it
                return
            readline.set_auto_history(False)
            readline.set_completer(_complete)
            readline.parse_and_bind("tab: complete")
            for line in self._kept(history.load) or ():
                readline.add_history(line)

    def read(self, prompt: str) -> str | None:
        """The next line; ``None`` at the end.

        :raises KeyboardInterrupt: Ctrl-C came, and the line is thrown away.
        """
        if not self._edits:
            click.echo(prompt, nl=False, err=True)
            line = sys.stdin.readline()
            return line or None
        try:
            line = input(prompt)
        except EOFError:
            click.echo()  # what comes next does not stand behind the prompt
            return None
        if self._kept(lambda: self._history.add(line)) and "readline" in sys.modules:
            sys.modules["readline"].add_history(line)
        return line

    def _kept(self, call: Callable[[], _T]) -> _T | None:
        """Do something with the history; say once where that cannot be."""
        try:
            return call()
        except OSError as error:
            self._say(f"the history is not kept: {error}")
            return None


def _complete(text: str, state: int) -> str | None:
    """Complete the shell's own words; the names of our files would be the wrong machine's."""
    import readline

    if readline.get_begidx():
        return None
    found = [word for word in BUILT_IN if word.startswith(text)]
    return found[state] + " " if state < len(found) else None
