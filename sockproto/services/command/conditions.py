"""The conditions that a command runs under, as the host process is told them."""

from __future__ import annotations

from typing import Any

from attrs import Factory, frozen

__all__ = ["Conditions"]


@frozen(kw_only=True)
class Conditions:
    """Whom a command runs as, and with what of the machine; ``None``: as the server.

    :ivar uid: the user.
    :ivar gid: the group.
    :ivar groups: the further groups.
    :ivar umask: which permissions its files do not get.
    :ivar nice: its nice value.
    :ivar limits: its resource limits: each one's number, the soft and the hard one.
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    umask: int | None = None
    nice: int | None = None
    limits: tuple[tuple[int, int, int], ...] = Factory(tuple)

    def encode(self) -> dict[str, Any]:
        """What is set, as JSON."""
        # Not by attrs.asdict: this is done for every command.
        found: dict[str, Any] = {}
        for name in ("uid", "gid", "groups", "umask", "nice"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        if self.limits:
            found["limits"] = self.limits
        return found
