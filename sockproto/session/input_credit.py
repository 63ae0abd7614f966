"""How much of stream 0 a server takes before it has been passed on: credit for its channels."""

from __future__ import annotations

from attrs import define

__all__ = ["InputPool", "InputWindow"]

#: What the channels of a connection may have outstanding or unread together.
MAX_OUTSTANDING = 2 * 1024 * 1024
#: What one channel may have of it.
MAX_WINDOW = 256 * 1024
# The credit that a channel is born with: enough for a short input, so that it needs no round trip.
_MAX_INITIAL = 4096


@define
class InputPool:
    """What is left for the channels of a connection to share, beyond what each is born with."""

    free: int

    @staticmethod
    def initial_credit(channels: int) -> int:
        """What each of so many channels is born with: half of the whole among them all."""
        return min(_MAX_INITIAL, MAX_OUTSTANDING // 2 // channels)

    @classmethod
    def for_channels(cls, channels: int, initial: int) -> InputPool:
        """The pool of a connection with so many channels."""
        return cls(MAX_OUTSTANDING - channels * initial)


class InputWindow:
    """The share of one channel.

    It doubles as it is used, up to :data:`MAX_WINDOW` and to as much as the pool has left: a short
    input takes little of what others need, and who comes late finds some.

    :param pool: the connection's pool, from which a channel that is used takes more.
    :param initial: the credit the channel is born with, which is its least share.
    """

    def __init__(self, pool: InputPool, initial: int) -> None:
        self._pool = pool
        self._size = initial
        self._taken = 0
        self._unread = 0
        self._ended = False

    def received(self, count: int) -> None:
        """So many bytes have come."""
        self._unread += count

    def consumed(self, count: int, outstanding: int) -> int:
        """So many bytes have been passed on.

        :param outstanding: the credit that the client has left.
        :return: the credit to grant now: 0 unless it is worth a frame.
        """
        self._unread -= count
        if self._ended:
            self._release_read()
            return 0
        wanted = min(self._size, MAX_WINDOW - self._size, (self._pool.free - self._size) // 2)
        if wanted > 0:
            self._pool.free -= wanted
            self._taken += wanted
            self._size += wanted
        due = self._size - self._unread - outstanding
        return due if due >= self._size // 4 else 0

    def end(self) -> None:
        """No more will come: the share is free once all of it has been passed on."""
        self._ended = True
        self._release_read()

    def release(self) -> None:
        """The channel takes no more: its share is free for the others."""
        self._ended = True
        self._pool.free += self._taken
        self._size -= self._taken
        self._taken = 0

    def _release_read(self) -> None:
        if self._unread <= 0:
            self.release()
