"""How much of a command's output a client takes before it has been read: credit for the server."""

from __future__ import annotations

from collections import Counter

from sockproto.wire.messages import Stream

__all__ = ["WINDOWS", "OutputCredit"]

#: What may be under way or unread of each stream: what a fast network holds in its round trip.
WINDOWS = {Stream.OUT: 1024 * 1024, Stream.ERR: 256 * 1024}


class OutputCredit:
    """The credit of one command's output, granted again as it is read."""

    def __init__(self) -> None:
        self._due: Counter[int] = Counter()

    def consumed(self, stream: int, count: int) -> int:
        """So many bytes have been read.

        :return: the credit to grant now: 0 unless it is worth a frame.
        """
        self._due[stream] += count
        due = self._due[stream]
        if due < WINDOWS[Stream(stream)] // 4:
            return 0
        self._due[stream] = 0
        return due
