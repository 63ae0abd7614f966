"""Ends what is left of commands whose host process has died."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred

from sockproto.logs import Logger
from sockproto.services.command.host_ending import Ending, Phase
from sockproto.services.command.tree_scan import mark_of, read_table, send_signal

__all__ = ["sweep"]

_SHORTEST_PAUSE = 0.005
# How often it looks whether all have gone within the grace: nobody tells it when one ends.
_GLANCE = 0.1


def sweep(reactor: Any, marks: Collection[int], grace: float) -> Deferred[None]:
    """End all processes that carry one of some marks: TERM, a grace, KILL.

    With the host nothing is known any longer of ancestry and sessions: who is whose child shows
    only as long as parents live.  The marks are what is left, and all that is needed but for
    processes that have shed them on purpose.

    :param grace: the seconds between TERM and KILL.
    :return: fires once no scan finds any, or what it finds cannot be killed.
    """
    if not marks:
        over: Deferred[None] = Deferred()
        over.callback(None)
        return over
    return _Sweep(reactor, frozenset(marks), grace).finished


class _Sweep:
    """One such sweep, as it goes on."""

    _log = Logger()

    def __init__(self, reactor: Any, marks: frozenset[int], grace: float) -> None:
        self._reactor = reactor
        self._marks = marks
        self._ending = Ending(grace, time.monotonic())
        self._found = 0
        self.finished: Deferred[None] = Deferred()
        self._step()

    def _step(self) -> None:
        now = time.monotonic()
        own = os.getpid()
        # Its parents are others now; but an adopted zombie is not looked for.
        members = [
            process
            for process in read_table().values()
            if process.alive and process.pid != own and mark_of(process.pid) in self._marks
        ]
        self._found = max(self._found, len(members))
        for number, process in self._ending.step(members, now):
            send_signal(process, number)
        if self._ending.phase is Phase.GONE:
            self._over("ended")
        elif self._ending.stuck:
            self._over("could not end all of")
        else:
            self._ending.hurry(now + _GLANCE)
            pause = max(_SHORTEST_PAUSE, self._ending.due - time.monotonic())
            self._reactor.callLater(pause, self._step)

    def _over(self, how: str) -> None:
        if self._found:
            self._log.warn("{how} {count} processes of lost commands", how=how, count=self._found)
        self.finished.callback(None)
