"""Our own terminal, lent to a command that runs elsewhere."""

from __future__ import annotations

import os
import re
import signal
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from sockproto.cli.descriptors import STDIN
from sockproto.wire.terminal import Terminal

__all__ = ["LocalTerminal", "NoTerminal"]

# What ends a program that does not catch it.
_ENDING = (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM)
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)


class NoTerminal(Exception):
    """Our standard input is no terminal."""


class LocalTerminal:
    """The terminal that is our standard input: raw as long as this context is entered.

    Every key then goes to the command, Ctrl-C too.  On each way out it is as it was before: at the
    end, after an exception, on a signal that ends or stops us; and raw again when we are continued.

    :raises NoTerminal: there is none.
    """

    def __init__(self) -> None:
        if not os.isatty(STDIN):
            raise NoTerminal("standard input is no terminal")
        self._before = termios.tcgetattr(STDIN)
        self._handlers: dict[int, Any] = {}
        self._woken = self._wake = -1
        self._raw = False

    def describe(self) -> Terminal:
        """Its size and its kind."""
        rows, columns = self._size()
        term = os.environ.get("TERM", "")
        return Terminal(rows, columns, term if _TERM.fullmatch(term) else "dumb")

    def fileno(self) -> int:
        """What is readable once the size may have changed."""
        return self._woken

    def changed(self) -> tuple[int, int]:
        """Take note of a change: the rows and columns now."""
        with suppress(BlockingIOError):
            os.read(self._woken, 4096)
        return self._size()

    def __enter__(self) -> Self:
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        wanted: dict[int, Callable[[int, FrameType | None], None]] = {
            **dict.fromkeys(_ENDING, self._end),
            signal.SIGTSTP: self._stop,
            signal.SIGCONT: self._continue,
            signal.SIGWINCH: self._notice,
        }
        for number, handler in wanted.items():
            # What is ignored, as by nohup, or caught by a program around this one, stays that.
            if signal.getsignal(number) is signal.SIG_DFL:
                with suppress(ValueError):  # not in the main thread, where no signal comes
                    self._handlers[number] = signal.signal(number, handler)
        self._make_raw()
        self._notice()  # it may have changed since it was described
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        os.close(self._woken)
        os.close(self._wake)

    def _size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(STDIN)
        except OSError:
            return 0, 0
        return rows, columns

    def _make_raw(self) -> None:
        self._raw = True
        with suppress(termios.error):  # it is gone, as the first read will tell
            tty.setraw(STDIN, termios.TCSADRAIN)

    def _restore(self) -> None:
        if self._raw:
            self._raw = False
            with suppress(termios.error):
                termios.tcsetattr(STDIN, termios.TCSADRAIN, self._before)

    # Signals

    def _notice(self, *_: object) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake, b"\0")

    def _end(self, number: int, _frame: object) -> None:
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _stop(self, number: int, _frame: object) -> None:
        self._restore()
        handler = signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Here it stops, and goes on when it is continued.
        signal.signal(number, handler)
        self._continue()

    def _continue(self, *_: object) -> None:
        self._make_raw()
        self._notice()
