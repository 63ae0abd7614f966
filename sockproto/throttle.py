"""Keeps one source from filling the log."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from attrs import define

__all__ = ["LogThrottle"]


@define
class _Window:
    start: float
    lines: int = 0
    suppressed: int = 0


class LogThrottle:
    """Grants each source some lines a period, and counts what it does not grant.

    :param clock: seconds from some start.
    :param lines: lines a source may cause in a period.
    :param period: the length of a period, in seconds.
    :param sources: how many sources are remembered; the oldest is forgotten first.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        lines: int = 20,
        period: float = 60.0,
        sources: int = 4096,
    ) -> None:
        self._clock = clock
        self._lines = lines
        self._period = period
        self._sources = sources
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def admit(self, source: str) -> int | None:
        """Ask for a line.

        :return: how many lines of this source went unlogged before this one; ``None``: do not log.
        """
        now = self._clock()
        window = self._windows.get(source)
        if window is None or now - window.start >= self._period:
            suppressed = 0 if window is None else window.suppressed
            self._windows[source] = _Window(now, 1)
            self._windows.move_to_end(source)
            if len(self._windows) > self._sources:
                self._windows.popitem(last=False)
            return suppressed
        if window.lines < self._lines:
            window.lines += 1
            return 0
        window.suppressed += 1
        return None
