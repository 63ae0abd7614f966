"""How a command's tree is ended: a state machine that is told what a scan found."""

from __future__ import annotations

import enum
import signal
from collections.abc import Sequence

from sockproto.services.command.tree import Process

__all__ = ["Ending", "Phase"]

_STOP_PASSES = 50  # a tree that forks faster than it is stopped is killed as it is
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 1.0
_STUCK_AFTER = 5.0  # what has not gone by then is in the kernel, or another user's


class Phase(enum.Enum):
    """How far it is."""

    ASK = "ask"
    WAIT = "wait"
    STOP = "stop"
    KILL = "kill"
    GONE = "gone"


class Ending:
    """The end of one tree: TERM, a grace, STOP until nothing is new, KILL until nothing is left.

    Everything is stopped before anything is killed, so that no process sees its neighbour die and
    starts another.  Nothing here waits: the host calls :meth:`step` with what a scan found once the
    time :attr:`due` has come, or earlier if a process has ended, and sends the signals returned.

    :param grace: the seconds between TERM and KILL.
    :param now: the present time on a monotonic clock.
    :ivar stuck: whether processes have outlived KILL for seconds.
    """

    def __init__(self, grace: float, now: float) -> None:
        self.phase = Phase.ASK
        self.due = now
        self.stuck = False
        self._grace = grace
        self._deadline = now
        self._passes = 0
        self._pause = _FIRST_PAUSE
        self._stopped: set[tuple[int, int]] = set()
        self._empty_before = False

    def step(self, members: Sequence[Process], now: float) -> list[tuple[int, Process]]:
        """Take the living processes of the tree, and say what to send to which.

        :return: signal numbers and processes, in the order of sending.
        """
        if not members:
            # One scan can miss a process that is forked, under a pid it has passed, by one that
            # dies before it is read; two in a row do not.
            if self._empty_before:
                self.phase = Phase.GONE
            self._empty_before = True
            self.due = now
            return []
        self._empty_before = False
        if self.phase is Phase.ASK:
            self.phase = Phase.WAIT
            self.due = self._deadline = now + self._grace
            # A stopped process gets TERM only once it goes on.
            return [(number, p) for p in members for number in (signal.SIGTERM, signal.SIGCONT)]
        if self.phase is Phase.WAIT:
            if now < self._deadline:
                self.due = self._deadline
                return []
            self.phase = Phase.STOP
        if self.phase is Phase.STOP:
            new = [p for p in members if (p.pid, p.start) not in self._stopped]
            self._passes += 1
            if new and self._passes <= _STOP_PASSES:
                self._stopped.update((p.pid, p.start) for p in new)
                self.due = now
                return [(signal.SIGSTOP, p) for p in new]
            self.phase = Phase.KILL
            self._stopped.clear()
            self._deadline = now + _STUCK_AFTER
        self.stuck = now >= self._deadline
        self.due = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return [(signal.SIGKILL, p) for p in members]

    def hurry(self, when: float) -> None:
        """Look again at ``when`` if that is earlier than planned: something has ended."""
        self.due = min(self.due, when)
