"""Listeners: from their settings to ports that are open, all of them or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.python import log

from sockproto.auth.transport import describe
from sockproto.datagrams import MAX_DATAGRAM
from sockproto.errors import ConfigurationError
from sockproto.logs import Logger, Whole
from sockproto.server.endpoint import Endpoint
from sockproto.server.schema import ListenerSettings
from sockproto.server.socket_file import DEFAULT_MODE, SocketFile, SocketFilePort

__all__ = ["DEFAULT_BACKLOG", "Listener", "Listeners"]

#: Connections that may wait to be accepted.  With Twisted's 50 a burst of clients loses its first
#: packets, and each that does waits a second; the kernel cuts this to its net.core.somaxconn.
DEFAULT_BACKLOG = 1024


@frozen
class Listener:
    """Something to listen on, and what to serve there: datagrams by a protocol, else a factory."""

    settings: ListenerSettings
    served: IProtocolFactory | DatagramProtocol


class Listeners:
    """The ports of a server.

    :param reactor: the reactor.
    :param owner: the user and the group that the server is about to become, if it is to become
        somebody else: Unix sockets are to be theirs.
    :ivar addresses: where each listener really listens, once it does.
    """

    _log = Logger()

    def __init__(self, reactor: Any, owner: tuple[int, int] | None = None) -> None:
        self._reactor = reactor
        self._owner = owner
        self._ports: list[IListeningPort] = []
        self._files: list[SocketFile] = []
        self._pending: Deferred[IListeningPort] | None = None
        self.addresses: list[tuple[ListenerSettings, IAddress]] = []

    @inlineCallbacks
    def open(self, listeners: Iterable[Listener]) -> Any:
        """Listen everywhere; where one cannot be had, close the others again.

        :raises ConfigurationError: says which, and why; at once for endpoints of Twisted's own.
        """
        for listener in listeners:
            try:
                # Twisted's own line for each port, which names a class, is told as an empty one.
                pending = log.callWithContext({"log_format": ""}, self._listen, listener)
                self._pending = pending
                port = yield pending
            except Exception as error:
                # Not waited for: whoever starts a program has to hear of it before the reactor
                # runs.
                self.close()
                raise ConfigurationError(
                    f"cannot listen on {listener.settings}: {_reason(error)}"
                ) from error
            finally:
                self._pending = None
            self._ports.append(port)
            address = port.getHost()
            self.addresses.append((listener.settings, address))
            self._log.info(
                "{service} listens on {where}{how}",
                service=listener.settings.service,
                where=Whole(_where(address)),
                how=Whole(_how(listener.settings)),
            )

    @inlineCallbacks
    def close(self) -> Any:
        """Listen nowhere any longer; connections stay. Never fails."""
        ports, self._ports = self._ports, []
        files, self._files = self._files, []
        self.addresses = []
        if self._pending is not None:
            self._pending.cancel()
        for file in files:
            file.release()
        closing = [maybeDeferred(port.stopListening) for port in ports]
        for deferred in closing:
            try:
                yield deferred
            except Exception:
                self._log.failure("a listener could not be closed")

    def _listen(self, listener: Listener) -> Deferred[IListeningPort]:
        settings = listener.settings
        endpoint = Endpoint.parse(settings.endpoint)
        served = listener.served
        if isinstance(served, DatagramProtocol):
            return maybeDeferred(
                self._reactor.listenUDP,
                int(endpoint.arguments["port"]),
                served,
                endpoint.interface,
                # Twisted's own default cuts what is longer than 8192 bytes.
                MAX_DATAGRAM + 1,
            )
        if endpoint.kind == "unix":
            return maybeDeferred(self._listenOnFile, endpoint.arguments, served)
        description = settings.endpoint
        if endpoint.kind in ("tcp", "tcp6") and "backlog" not in endpoint.arguments:
            description += f":backlog={DEFAULT_BACKLOG}"
        listening: Deferred[IListeningPort] = serverFromString(self._reactor, description).listen(
            served
        )
        return listening

    def _listenOnFile(self, arguments: dict[str, str], factory: IProtocolFactory) -> IListeningPort:
        file = SocketFile(arguments["address"])
        port = SocketFilePort(
            file,
            factory,
            int(arguments["mode"], 8) if "mode" in arguments else DEFAULT_MODE,
            int(arguments.get("backlog", DEFAULT_BACKLOG)),
            self._owner,
            self._reactor,
        )
        port.startListening()
        self._files.append(file)
        return port


def _where(address: IAddress) -> str:
    if isinstance(address, UNIXAddress):
        name = address.name
        return f"unix:{name.decode('utf-8', 'replace') if isinstance(name, bytes) else name}"
    return f"{getattr(address, 'type', 'stream').lower()} {describe(address)}"


def _how(settings: ListenerSettings) -> str:
    parts = []
    if settings.authenticates:
        parts.append("behind the login")
    if settings.protection is not None:
        parts.append("TLS" if settings.protection == "auto" else f"TLS of {settings.protection}")
    return f" ({', '.join(parts)})" if parts else ""


def _reason(error: Exception) -> str:
    """Why an endpoint could not be had, without Twisted's preamble."""
    inner = getattr(error, "socketError", error)
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner or error) or type(error).__name__
