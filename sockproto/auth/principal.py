"""Who is at the other end of a connection that has logged in."""

from __future__ import annotations

from attrs import frozen

from sockproto.wire.handshake import Login

__all__ = ["Principal"]


@frozen
class Principal:
    """A client that has proven that it holds a key.

    :ivar identity: what rules and the audit speak of: the key's ``identity``.
    :ivar groups: the key's groups, for ``group:NAME`` in rules.
    :ivar login: the login itself: key id, client id, service, session id, reference.
    :ivar host: the client's IP address, or ``None`` for a Unix socket.
    :ivar address: the client's address as logs show it.
    """

    identity: str
    groups: tuple[str, ...]
    login: Login
    host: str | None
    address: str

    @property
    def origin(self) -> str:
        """Where the client is, as the ``from`` of a rule has it: its IP address, or ``unix``."""
        return "unix" if self.host is None else self.host
