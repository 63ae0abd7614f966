"""The turns in which the channels of a connection write."""

from __future__ import annotations

from collections import OrderedDict
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

    :ivar paused: whether the transport has enough for now.
    :ivar owed: for the connection to count what it wrote all the same since then; the transport
        has passed all of it on when it takes bytes again.
    """

    def __init__(self) -> None:
        # Each turn, and what is to be called where it raises.
        self._queue: OrderedDict[Callable[[], bool], Callable[[], None]] = OrderedDict()
        self._running = False
        self._stopped = False
        self.paused = False
        self.owed = 0

    @property
    def free(self) -> bool:
        """Whether a stream may write without waiting for its turn."""
        return not (self.paused or self._queue or self._running)

    def ready(self, turn: Callable[[], bool], failed: Callable[[], None]) -> None:
        """Queue a turn, unless it is queued already.

        :param turn: writes; returns whether to have another turn.
        :param failed: called where the exception is handled, if the turn raises one.
        """
        if turn not in self._queue and not self._stopped:
            self._queue[turn] = failed
            self._run()

    def withdraw(self, turn: Callable[[], bool]) -> None:
        """Take a turn out of the queue, if it is there."""
        self._queue.pop(turn, None)

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._queue and not self.paused:
                turn, failed = self._queue.popitem(last=False)
                try:
                    more = turn()
                except Exception:
                    # The turns of others, and who told us that there is room, are not at fault.
                    failed()
                    continue
                if more and not self._stopped:
                    self._queue.setdefault(turn, failed)
        finally:
            self._running = False

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self.paused = True

    def resumeProducing(self) -> None:
        """The transport takes bytes again."""
        self.owed = 0
        self.paused = self._stopped
        self._run()

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._stopped = True
        self.paused = True
        self._queue.clear()
