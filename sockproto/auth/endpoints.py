"""A server endpoint behind the login, and the ``hmac:`` prefix that makes one from a string."""

from __future__ import annotations

import random
import resource
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from sockproto.admission import Admission
from sockproto.auth.server import AuthenticatingFactory, KeySource
from sockproto.connections import ConnectionCap
from sockproto.errors import LocalProtocolError
from sockproto.keyring_file import KeyringFile
from sockproto.limits import Limits
from sockproto.names import default_server_id
from sockproto.wire.handshake_messages import checked_id

__all__ = ["AuthenticatingServerEndpoint", "parseServerEndpoint"]

_PREFIX = "hmac_"


@implementer(IStreamServerEndpoint)
class AuthenticatingServerEndpoint:
    """Listens through another endpoint, with the login in front of whatever is served.

    :param clock: the reactor, for the login's deadline.
    :param endpoint: where to listen.
    :param keys: where keys are looked up.
    :param service: the name of the service.
    :param serverId: this server's name; the host's unless given.
    :param limits: the login's deadline, who may begin one, and how many connections there may be.
    :raises LocalProtocolError: ``service`` or ``serverId`` cannot be sent.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamServerEndpoint,
        keys: KeySource,
        service: str,
        serverId: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._clock = clock
        self._endpoint = endpoint
        self._keys = keys
        self._service = checked_id(service, "service name")
        self._serverId = checked_id(serverId or default_server_id(), "server id")
        self._limits = Limits() if limits is None else limits
        self._admission = Admission(self._limits, clock.seconds, random.random)
        self._cap = ConnectionCap(self._limits, resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen, and serve ``protocolFactory`` to those who log in."""
        factory = AuthenticatingFactory(
            self._clock,
            protocolFactory,
            self._keys,
            self._service,
            self._serverId,
            self._limits,
            self._admission,
            self._cap,
        )
        return self._endpoint.listen(factory)


def parseServerEndpoint(reactor: Any, /, *args: str, **kwargs: str) -> AuthenticatingServerEndpoint:
    """Make the endpoint of ``hmac:hmac_service=NAME:hmac_keyring=FILE:ENDPOINT``.

    ``hmac_server_id=ID`` may be given as well.  All that is left is the endpoint below, joined
    again as it was.

    :raises ValueError: something is missing or not known.
    :raises KeyringError: the keyring cannot be read.
    """
    options = {
        name[len(_PREFIX) :]: kwargs.pop(name) for name in list(kwargs) if name.startswith(_PREFIX)
    }
    unknown = options.keys() - {"service", "keyring", "server_id"}
    missing = {"service", "keyring"} - options.keys()
    if unknown or missing:
        wrong = "missing: " if missing else "not known: "
        raise ValueError(
            "hmac: expected hmac:hmac_service=NAME:hmac_keyring=FILE:ENDPOINT; "
            + wrong
            + ", ".join(_PREFIX + name for name in sorted(missing or unknown))
        )
    if not args:
        raise ValueError("hmac: there is no endpoint behind the prefix")
    below = ":".join(
        [_quoted(arg) for arg in args]
        + [f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(kwargs.items())]
    )
    # Absolute, since a daemon changes to another folder before it serves.
    keys = KeyringFile(Path(options["keyring"]).expanduser().absolute())
    keys.current()
    endpoint = serverFromString(reactor, below)
    try:
        return AuthenticatingServerEndpoint(
            reactor, endpoint, keys, options["service"], options.get("server_id")
        )
    except LocalProtocolError as error:
        raise ValueError(f"hmac: {error}") from None


def _quoted(text: str) -> str:
    """A part of an endpoint string; Twisted's own function leaves ``=`` as it is."""
    quoted: str = quoteStringArgument(text)
    return quoted.replace("=", "\\=")
