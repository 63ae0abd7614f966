"""TLS below the login, for Twisted: what makes its connections."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from sockproto.tls import client_context

__all__ = ["ClientTLS", "ServerTLS", "tlsFactory"]


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Makes the server's TLS connections from one context.

    :param context: see :mod:`sockproto.tls`.
    """

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """One connection."""
        return SSL.Connection(self._context, None)


@implementer(IOpenSSLClientConnectionCreator)
class ClientTLS:
    """Makes a client's TLS connections, which accept any certificate: the login is what counts."""

    def __init__(self) -> None:
        self._context = client_context()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """One connection."""
        return SSL.Connection(self._context, None)


class _Factory(TLSMemoryBIOFactory):
    """As Twisted's, but the factory inside may refuse a connection."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A protocol, or ``None`` where there is none inside."""
        assert addr is not None
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)


def tlsFactory(
    clock: IReactorTime, context: SSL.Context, factory: IProtocolFactory
) -> TLSMemoryBIOFactory:
    """A server's factory under TLS."""
    return _Factory(ServerTLS(context), False, factory, clock)
