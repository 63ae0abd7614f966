"""A command's terminal: its input, its size, and how long it lasts."""

from __future__ import annotations

import contextlib
import os
import termios

from twisted.internet.interfaces import IReactorFDSet

from sockproto.interfaces import IChannel
from sockproto.services.command.pipes import InputPipe
from sockproto.services.command.processes_pipes import set_window

__all__ = ["HeldTerminal", "TerminalInput"]


class TerminalInput(InputPipe):
    """Carries stream 0 of a channel to a command's terminal.

    The end of the input is what Ctrl-D is there, since the terminal cannot be closed on one side.
    """

    def __init__(self, reactor: IReactorFDSet, descriptor: int, channel: IChannel) -> None:
        super().__init__(reactor, descriptor, channel)
        self._lastByte = b"\n"

    def write(self, data: bytes) -> None:
        """Pass bytes on."""
        self._lastByte = data[-1:] or self._lastByte
        super().write(data)

    def _finish(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            modes = termios.tcgetattr(self.fileno())
            if modes[3] & termios.ICANON:
                # The first one behind a part of a line only passes that on.
                times = 1 if self._lastByte == b"\n" else 2
                os.write(self.fileno(), times * modes[6][termios.VEOF])
        super()._finish()


class HeldTerminal:
    """Holds a command's terminal until its leader has ended.

    A program closes its streams before it ends.  Its output is over then, but to let go of the
    terminal would hang it up (SIGHUP), and it would have ended by that.

    :param master: the terminal; it is the caller's to close.
    """

    def __init__(self, master: int) -> None:
        self._descriptor = -1
        with contextlib.suppress(OSError):  # no descriptor is free: then it is let go of early
            self._descriptor = os.dup(master)

    def resize(self, rows: int, columns: int) -> None:
        """Give it another size."""
        if self._descriptor >= 0:
            set_window(self._descriptor, rows, columns)

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
