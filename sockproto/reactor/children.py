"""How the reactor learns that a child process has ended, on a loop that owns the signals."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from attrs import define
from twisted.internet.process import reapAllProcesses

__all__ = ["ChildSignals"]


@define
class ChildSignals:
    """Looks after ended children at each SIGCHLD.

    A handler in Python is enough: uvloop wakes up for every signal that has one, and runs it.
    (Whether it does so in a callback of the loop or between any two steps of the program is not
    defined, so the handler leaves the work to the loop.)

    :param reactor: whose children they are.
    """

    _reactor: Any

    def install(self) -> None:
        """From now on; those that ended before are looked after at once."""
        signal.signal(signal.SIGCHLD, self._childEnded)
        signal.siginterrupt(signal.SIGCHLD, False)
        reapAllProcesses()

    def uninstall(self) -> None:
        """No longer."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _childEnded(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(reapAllProcesses)
