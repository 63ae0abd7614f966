"""Listeners: from their settings to ports that are open, all of them or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.logger import Logger

from sockproto.auth.transport import describe
from sockproto.errors import ConfigurationError
from sockproto.server.endpoint import Endpoint
from sockproto.server.schema import ListenerSettings

__all__ = ["Listener", "Listeners"]


@frozen
class Listener:
    """Something to listen on, and what to serve there."""

    settings: ListenerSettings
    factory: IProtocolFactory


class Listeners:
    """The ports of a server.

    :param reactor: the reactor.
    :ivar addresses: where each listener really listens, once it does.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._ports: list[IListeningPort] = []
        self.addresses: list[tuple[ListenerSettings, IAddress]] = []

    @inlineCallbacks
    def open(self, listeners: Iterable[Listener]) -> Any:
        """Listen everywhere; where one cannot be had, close the others again.

        :raises ConfigurationError: says which, and why.
        """
        for listener in listeners:
            try:
                endpoint = serverFromString(self._reactor, _description(listener.settings))
                port = yield endpoint.listen(listener.factory)
            except Exception as error:
                yield self.close()
                raise ConfigurationError(
                    f"cannot listen on {listener.settings}: {_reason(error)}"
                ) from error
            self._ports.append(port)
            address = port.getHost()
            self.addresses.append((listener.settings, address))
            self._log.info(
                "{service} listens on {where}{how}",
                service=listener.settings.service,
                where=_where(address),
                how=_how(listener.settings),
            )

    @inlineCallbacks
    def close(self) -> Any:
        """Listen nowhere any longer; connections stay."""
        ports, self._ports = self._ports, []
        self.addresses = []
        for port in ports:
            yield port.stopListening()


def _description(settings: ListenerSettings) -> str:
    """The endpoint string; a Unix socket is for its owner alone unless the string says otherwise.
    The endpoint string; a Unix socket is for its owner alone unless the string says otherwise."""
    endpoint = Endpoint.parse(settings.endpoint)
    if endpoint.kind == "unix" and "mode" not in endpoint.arguments:
        return f"{settings.endpoint}:mode={quoteStringArgument('600')}"
    return settings.endpoint


def _where(address: IAddress) -> str:
    if isinstance(address, UNIXAddress):
        name = address.name
        return f"unix:{name.decode('utf-8', 'replace') if isinstance(name, bytes) else name}"
    return f"tcp {describe(address)}"


def _how(settings: ListenerSettings) -> str:
    parts = []
    if settings.authenticates:
        parts.append("behind the login")
    if settings.protection is not None:
        parts.append("TLS" if settings.protection == "auto" else f"TLS of {settings.protection}")
    return f" ({', '.join(parts)})" if parts else ""


def _reason(error: Exception) -> str:
    """Why an endpoint could not be had, without Twisted's preamble."""
    inner = getattr(error, "socketError", None)
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner or error)
