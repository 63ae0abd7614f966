"""The turns in which the channels of a connection write."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

__all__ = ["Turns"]


@implementer(IPushProducer)
class Turns:
    """Lets the streams of a connection write one after another, while the transport takes bytes.

    It is the producer of the connection's transport.  A stream that has something to write is put
    in the queue with :meth:`ready`; its turn is a call, which writes at most one DATA frame and
    returns whether it has more.  So a fat stream delays a thin one by no more than one frame of
    each other.
    """

    def __init__(self) -> None:
        self._queue: deque[Callable[[], bool]] = deque()
        self._queued: set[Callable[[], bool]] = set()
        self._running = False
        self._stopped = False
        self.paused = False

    @property
    def free(self) -> bool:
        """Whether a stream may write without waiting for its turn."""
        return not (self.paused or self._queue or self._running)

    def ready(self, turn: Callable[[], bool]) -> None:
        """Queue a turn, unless it is queued already."""
        if turn not in self._queued and not self._stopped:
            self._queued.add(turn)
            self._queue.append(turn)
            self._run()

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._queue and not self.paused:
                turn = self._queue.popleft()
                self._queued.discard(turn)
                if turn() and turn not in self._queued and not self._stopped:
                    self._queued.add(turn)
                    self._queue.append(turn)
        finally:
            self._running = False

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self.paused = True

    def resumeProducing(self) -> None:
        """The transport takes bytes again."""
        self.paused = False
        self._run()

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._stopped = True
        self.paused = True
        self._queue.clear()
        self._queued.clear()
