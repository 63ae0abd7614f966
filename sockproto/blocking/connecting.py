"""Connecting and logging in to an agent, on plain sockets."""

from __future__ import annotations

import os
import time

from sockproto.blocking.session import Session
from sockproto.blocking.transport import PlainTransport, TLSTransport, Transport, open_socket
from sockproto.credentials import Credentials, target_and_credentials
from sockproto.errors import ConnectionLost, LoginFailed, RemoteProtocolError
from sockproto.key import Key
from sockproto.target import DEFAULT_WHERE
from sockproto.wire.frames import FrameDecoder, encode_frame
from sockproto.wire.handshake import Binding, Login
from sockproto.wire.handshake_messages import MAX_MESSAGE

__all__ = ["connect"]


def connect(
    where: str = DEFAULT_WHERE,
    key: Key | str | os.PathLike[str] | None = None,
    *,
    identity: str | None = None,
    server_id: str | None = None,
    plaintext: bool = False,
    timeout: float = 10.0,
) -> Session:
    """Connect to an agent, and log in.

    :param where: ``tcp:HOST:PORT`` (plaintext, this machine only), ``unix:PATH``,
        ``HOST[:PORT]`` (TLS), or the name of a host in the client's configuration, which may
        say what the other arguments leave open.
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
    target, credentials = target_and_credentials(where, key, identity, server_id, plaintext)
    plain = PlainTransport(open_socket(target, timeout))
    transport: Transport = TLSTransport(plain, timeout) if target.tls else plain
    try:
        deadline = time.monotonic() + timeout
        login, rest = _log_in(transport, credentials, deadline)
        session = Session(transport, login, rest)
        session.begin(deadline)
        return session
    except BaseException:
        transport.close()
        raise


def _log_in(
    transport: Transport, credentials: Credentials, deadline: float
) -> tuple[Login, FrameDecoder]:
    """Prove both sides.

    :return: the login, and what came behind it.
    """
    handshake = credentials.handshake(Binding.TLS_EXPORTER if credentials.tls else Binding.NONE)
    frames = FrameDecoder(MAX_MESSAGE)
    try:
        hello = _message(transport, frames, deadline)
        binding = transport.binding()
        if binding is None:
            raise RemoteProtocolError("the server's TLS version has no channel binding")
        transport.send(encode_frame(handshake.receive_hello(hello, binding)))
        return handshake.receive_reply(_message(transport, frames, deadline)), frames
    except RemoteProtocolError as error:
        raise LoginFailed(str(error), handshake.ref) from None
    except ConnectionLost as error:
        raise LoginFailed(f"during the login: {error}", handshake.ref) from None


def _message(transport: Transport, frames: FrameDecoder, deadline: float) -> bytes:
    while (message := frames.next_frame()) is None:
        if not transport.wait(deadline - time.monotonic()):
            raise LoginFailed("no login in time")
        frames.feed(transport.receive())
    return message
