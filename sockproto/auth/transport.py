"""Connections as the login sees them, and as the protocol behind the login does."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, ISSLTransport, ITransport
from zope.interface import directlyProvides, providedBy

from sockproto.auth.principal import Principal
from sockproto.interfaces import IAuthenticatedTransport
from sockproto.wire.handshake import Binding

__all__ = [
    "AuthenticatedTransport",
    "abort",
    "binding_data",
    "binding_of",
    "describe",
    "host_of",
    "more_waits",
]


class AuthenticatedTransport:
    """The transport below, and who is at its other end.

    Everything but :attr:`principal` is the transport's own, so what it can do (producers,
    half-close, TLS) stays to be had.

    :param transport: the transport that the login went through.
    :param principal: who logged in.
    """

    def __init__(self, transport: ITransport, principal: Principal) -> None:
        directlyProvides(self, IAuthenticatedTransport, providedBy(transport))
        self._transport = transport
        self.principal = principal
        # Bound here once: a protocol that writes often pays nothing for this layer.
        self.write = transport.write
        self.writeSequence = transport.writeSequence

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def binding_of(transport: ITransport) -> Binding:
    """The binding that a login over this transport has to have."""
    return Binding.TLS_EXPORTER if ISSLTransport.providedBy(transport) else Binding.NONE


def binding_data(transport: ITransport, binding: Binding) -> bytes | None:
    """The bytes that tie a login to this transport: to be asked for once bytes have come through
    it.

    :return: ``None`` where the TLS session cannot give any: the login has to fail.
    """
    if binding is Binding.NONE:
        return b""
    from sockproto.tls import channel_binding

    return channel_binding(transport.getHandle())  # type: ignore[attr-defined]


def more_waits(transport: ITransport, binding: Binding) -> bool:
    """Whether TLS holds more from the peer than it has delivered: it delivers record by record."""
    if binding is Binding.NONE:
        return False
    from sockproto.tls import more_waits

    return more_waits(transport.getHandle())  # type: ignore[attr-defined]


def abort(transport: Any) -> None:
    """End a connection now; one that cannot be cut (standard input and output) is closed."""
    getattr(transport, "abortConnection", transport.loseConnection)()


def host_of(address: IAddress) -> str | None:
    """The IP address of a peer; ``None`` where there is none (a Unix socket)."""
    return address.host if isinstance(address, IPv4Address | IPv6Address) else None


def describe(address: IAddress) -> str:
    """A peer's address for a log."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    return "unix" if type(address).__name__ == "UNIXAddress" else str(address)[:256]
