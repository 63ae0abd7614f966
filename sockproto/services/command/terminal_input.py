"""The input of a command that runs on a terminal."""

from __future__ import annotations

import contextlib
import os
import termios

from twisted.internet.interfaces import IReactorFDSet

from sockproto.interfaces import IChannel
from sockproto.services.command.pipes import InputPipe

__all__ = ["TerminalInput"]


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
