"""Listening and connecting: Twisted's own, up to the connected socket."""

from __future__ import annotations

from socket import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from sockproto.reactor.stream import Stream

__all__ = ["Client", "Connecting", "Connector", "Port", "Server"]


class Server(Stream):
    """A connection that a port has accepted, or that came as a descriptor.

    :param skt: connected.
    :param client: the peer's address, as a socket tells it.
    :param server: the port, if there is one.
    :param sessionno: the port's number for it.
    """

    _tlsClientDefault = False

    def __init__(
        self,
        skt: socket,
        protocol: Any,
        client: tuple[Any, ...],
        server: Any,
        sessionno: int,
        reactor: Any,
    ) -> None:
        super().__init__(skt, protocol, reactor)
        self._addressType = IPv4Address if len(client) == 2 else IPv6Address
        self.client = client
        self.server = server
        self.sessionno = sessionno
        self.hostname = client[0]
        port = self.getHost().port if server is None else server._realPortNumber
        self.repstr = f"<{protocol.__class__.__name__} #{sessionno} on {port}>"
        self.begin(f"{self._getLogPrefix(protocol)},{sessionno},{self.hostname}")

    # Serves a socket that somebody else has connected; the descriptor stays theirs.
    _fromConnectedSocket: Any = classmethod(
        tcp.Server._fromConnectedSocket.__func__  # type: ignore[attr-defined]
    )

    def __repr__(self) -> str:
        return self.repstr

    getHost: Any = tcp.Server.getHost
    getPeer: Any = tcp.Server.getPeer


class Port(tcp.Port):
    """A port whose connections are streams."""

    transport = Server  # type: ignore[assignment]


class Client(Stream):
    """A connection that a connector has made.

    :param connecting: the attempt, which has just succeeded and gives its socket away.
    """

    _tlsClientDefault = True

    def __init__(self, connecting: Connecting) -> None:
        super().__init__(connecting.socket, None, connecting.reactor)
        self._addressType = connecting._addressType
        self.addr = connecting.addr
        self.realAddress = connecting.realAddress
        self.connector = connecting.connector
        self.connector.transport = self
        protocol = self.connector.buildProtocol(self.getPeer())
        # A factory may want no protocol; then one that does nothing sees the connection closed.
        self.protocol = Protocol() if protocol is None else protocol
        self.begin(f"{self._getLogPrefix(protocol)},client")
        if protocol is None:
            self.loseConnection()
        else:
            protocol.makeConnection(self)

    def __repr__(self) -> str:
        return f"<{self.__class__} to {self.addr} at {id(self):x}>"

    def connectionLost(self, reason: Failure) -> None:
        """Close; the protocol hears of it, and then the connector."""
        if not self.disconnected:
            super().connectionLost(reason)
            self.connector.connectionLost(reason)

    getHost: Any = tcp.Client.getHost
    getPeer: Any = tcp.Client.getPeer


class Connecting(tcp.Client):
    """An attempt to connect, by Twisted's own client; what comes of it is a stream."""

    def _connectDone(self) -> None:
        Client(self)
        # Nothing is left to cancel, or to fail.
        self.disconnected = 1
        del self.connector
        self._collectSocketDetails()


class Connector(tcp.Connector):
    """A connector whose connections are streams."""

    def _makeTransport(self) -> Connecting:
        return Connecting(self.host, self.port, self.bindAddress, self, self.reactor)
