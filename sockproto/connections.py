"""How many connections a server takes, in all and from one source."""

from __future__ import annotations

from collections import Counter

from sockproto.admission import Source
from sockproto.limits import Limits

__all__ = ["ConnectionCap"]


class ConnectionCap:
    """Counts the connections of all listeners together.

    :param limits: the figures; connections of this machine's own users count in all, but not as one
        source.
    :param descriptors: how many descriptors the process may have open.
    """

    def __init__(self, limits: Limits, descriptors: int) -> None:
        self._descriptors = descriptors
        self._count = 0
        self._sources: Counter[str] = Counter()
        self.reconfigure(limits)

    def reconfigure(self, limits: Limits) -> None:
        """Take other figures from now on; those that are counted stay."""
        self._most = limits.connections_within(self._descriptors)
        self._perSource = limits.per_source

    def admit(self, host: str | None) -> str | None:
        """Count a new connection.

        :param host: the peer's IP address; ``None`` for a Unix socket.
        :return: why it cannot be taken, or ``None``: then :meth:`release` is due at its end.
        """
        source = Source.of(host)
        if self._count >= self._most:
            return f"{self._count} connections are open, which is the limit"
        if not source.is_local and self._sources[source.name] >= self._perSource:
            return f"{self._perSource} connections of {source.name} are open, which is its limit"
        self._count += 1
        self._sources[source.name] += 1
        return None

    def release(self, host: str | None) -> None:
        """A connection that was counted is gone."""
        name = Source.of(host).name
        self._count -= 1
        self._sources[name] -= 1
        if not self._sources[name]:
            del self._sources[name]
