"""Connecting and logging in to an agent, for Twisted programs."""

from __future__ import annotations

import os
from typing import Any, NoReturn

from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory

from sockproto.auth.client import AuthenticatingEndpoint
from sockproto.client.protocol import SessionProtocol
from sockproto.client.session import Session
from sockproto.credentials import Credentials, credentials_for, target_and_credentials
from sockproto.errors import ConnectFailed, ConnectionLost
from sockproto.key import Key
from sockproto.target import DEFAULT_WHERE, Target

__all__ = ["connect", "endpoint_to"]


async def connect(
    reactor: Any,
    where: str | IStreamClientEndpoint = DEFAULT_WHERE,
    key: Key | str | os.PathLike[str] | None = None,
    *,
    identity: str | None = None,
    server_id: str | None = None,
    plaintext: bool = False,
    timeout: float = 10.0,
) -> Session:
    """Connect to an agent, and log in.

    :param reactor: the reactor.
    :param where: ``tcp:HOST:PORT`` (plaintext, this machine only), ``unix:PATH``, ``HOST[:PORT]``
        (TLS), the name of a host in the client's configuration, which may say what the other
        arguments leave open, or any client endpoint.
    :param key: a key, or the path of a keyring; the user's own keyring unless given.
    :param identity: whose key to take from a keyring, ``owner`` unless given: the newest that is
        valid.
    :param server_id: the server to expect; any that holds the key's secret unless given.
    :param plaintext: allow ``tcp:`` to other machines.
    :param timeout: seconds for the connection, and again for the login.
    :raises ConnectFailed: nothing answers there.
    :raises LoginFailed: the login came to nothing.
    :raises ConnectionLost: the agent said nothing after the login, or left.
    :raises KeyringError: no fitting key could be read.
    """
    if isinstance(where, str):
        target, credentials = target_and_credentials(where, key, identity, server_id, plaintext)
        endpoint = endpoint_to(reactor, target, timeout)
        shown = str(target)
    else:
        credentials = credentials_for(None, key, identity, server_id)
        endpoint, shown = where, "the endpoint"
    return await _log_in(reactor, endpoint, credentials, timeout, shown)


async def _log_in(
    reactor: Any,
    endpoint: IStreamClientEndpoint,
    credentials: Credentials,
    timeout: float,
    shown: str,
) -> Session:
    login = AuthenticatingEndpoint(reactor, endpoint, credentials, timeout)
    try:
        protocol = await login.connect(Factory.forProtocol(SessionProtocol))
    except (ConnectError, OSError, ValueError) as error:
        # A name that does not resolve is an OSError, one that cannot exist a ValueError.
        raise ConnectFailed(f"{shown}: {error}") from error
    assert isinstance(protocol, SessionProtocol)

    def tooLate(_result: Any, _timeout: float) -> NoReturn:
        raise ConnectionLost("the agent says nothing after the login")

    await protocol.ready.addTimeout(timeout, reactor, tooLate)
    return Session(reactor, protocol)


def endpoint_to(reactor: Any, target: Target, timeout: float = 10.0) -> IStreamClientEndpoint:
    """A Twisted endpoint for an agent's address, TLS included."""
    if target.path:
        return UNIXClientEndpoint(reactor, target.path, timeout=timeout)
    endpoint: IStreamClientEndpoint
    if target.host.replace(".", "").isdecimal():
        endpoint = TCP4ClientEndpoint(reactor, target.host, target.port, timeout=timeout)
    elif ":" in target.host:
        endpoint = TCP6ClientEndpoint(reactor, target.host, target.port, timeout=timeout)
    else:
        endpoint = HostnameEndpoint(reactor, target.host, target.port, timeout=timeout)
    if target.tls:
        from sockproto.auth.tls import ClientTLS

        return wrapClientTLS(ClientTLS(), endpoint)
    return endpoint
