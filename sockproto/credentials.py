"""What a client logs in with: a key, for one service of one server."""

from __future__ import annotations

import getpass
import os
import re
import socket

from attrs import field, frozen

from sockproto.hosts import known_hosts
from sockproto.key import Key
from sockproto.keyring import Keyring
from sockproto.keyring_file import default_path
from sockproto.target import Target
from sockproto.wire.handshake import Binding, ClientHandshake

__all__ = ["Credentials", "credentials_for", "default_client_id", "target_and_credentials"]


def default_client_id() -> str:
    """``user@host``, as far as ids can spell it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return re.sub(r"[^A-Za-z0-9._@-]", "-", f"{user}@{socket.gethostname()}")[:64]


@frozen
class Credentials:
    """A key and what it is to be used for.

    :ivar key: the key; a master is turned into the server's own key.
    :ivar service: the service wanted.
    :ivar server_id: the server expected, or ``None`` to accept any that holds the secret; needed
        with a master key.
    :ivar client_id: this client's word for itself, for the server's log.
    :ivar tls: whether the connection has to be TLS; ``False`` leaves that to whoever makes it.
    """

    key: Key
    service: str = "agent"
    server_id: str | None = None
    client_id: str = field(factory=default_client_id)
    tls: bool = False

    def handshake(self, binding: Binding) -> ClientHandshake:
        """The client's side of one login.

        :raises KeyringError: the key is a master and no server is named.
        """
        return ClientHandshake(
            self.key.id,
            self.key.secret_for(self.server_id),
            self.service,
            self.server_id,
            self.client_id,
            binding,
        )


def target_and_credentials(
    where: str,
    key: Key | str | os.PathLike[str] | None = None,
    identity: str | None = None,
    server_id: str | None = None,
    plaintext: bool = False,
) -> tuple[Target, Credentials]:
    """Where an agent is, and what to log in there with.

    :param where: WHERE, or the name of a host in the client's configuration; what the other
        arguments say goes before what stands there.
    :param key: as for :func:`credentials_for`, as are the next two.
    :param plaintext: allow ``tcp:`` to other machines.
    :raises ConfigurationError: there is no such place, or the client's configuration is wrong.
    :raises KeyringError: there is no fitting key, or it is a master and the server has no name.
    """
    host = known_hosts(where, os.environ).find(where)
    if host is None:
        target = Target.parse(where, plaintext)
        return target, credentials_for(target, key, identity, server_id)
    target = Target.parse(host.connect, plaintext or host.plaintext)
    return target, credentials_for(
        target,
        host.keyring if key is None else key,
        identity or host.identity,
        server_id or host.server_id,
        host.name,
    )


def credentials_for(
    target: Target | None,
    key: Key | str | os.PathLike[str] | None = None,
    identity: str | None = None,
    server_id: str | None = None,
    name: str | None = None,
) -> Credentials:
    """What to log in with at an agent's address.

    :param target: where, or ``None`` for an endpoint of the program's own.
    :param key: a key, or the path of a keyring; the user's own keyring unless given.
    :param identity: whose key to take from a keyring, ``owner`` unless given: the newest that is
        valid there.
    :param server_id: the server to expect.  A master key needs one: the host's name unless given.
    :param name: what the host is called, where that is not what it is connected to by.
    :raises KeyringError: there is no fitting key, or it is a master and the server has no name.
    """
    host = server_id or name or (target.host if target is not None else None) or None
    if not isinstance(key, Key):
        keyring = Keyring.load(default_path(os.environ) if key is None else key)
        key = keyring.newest(identity or "owner", host)
    if key.master is not None and server_id is None:
        server_id = host
    key.secret_for(server_id)
    return Credentials(key, server_id=server_id, tls=target is not None and target.tls)
