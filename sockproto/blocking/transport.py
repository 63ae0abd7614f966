"""Byte streams on plain sockets, with TLS or without."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Protocol

from sockproto.errors import ConnectFailed, ConnectionLost, LoginFailed
from sockproto.target import Target

if TYPE_CHECKING:
    from OpenSSL import SSL

__all__ = ["PlainTransport", "TLSTransport", "Transport", "open_socket"]

_CHUNK = 256 * 1024


class Transport(Protocol):
    """A connection as the session uses it."""

    def send(self, *pieces: bytes) -> None:
        """Send all of it."""

    def receive(self, timeout: float | None) -> bytes:
        """Some bytes; nothing if none came in time.

        :raises ConnectionLost: the connection has ended.
        """

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def binding(self) -> bytes | None:
        """What ties a login to this connection; ``None`` if nothing safe does."""

    def close(self) -> None:
        """Close it."""


def open_socket(target: Target, timeout: float) -> socket.socket:
    """Connect to an agent's address.

    :param timeout: seconds it may take.
    :raises ConnectFailed: nothing answers there.
    """
    try:
        if target.path:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(timeout)
            try:
                connection.connect(target.path)
            except BaseException:
                connection.close()
                raise
        else:
            connection = socket.create_connection((target.host, target.port), timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    except TimeoutError:
        raise ConnectFailed(f"{target}: no answer within {timeout:g} s") from None
    except OSError as error:
        raise ConnectFailed(f"{target}: {error.strerror or error}") from None
    except UnicodeError:
        raise ConnectFailed(f"{target}: that is no host name") from None
    return connection


class PlainTransport:
    """A socket as it is.

    :param connection: connected; closed with this.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.settimeout(None)

    def send(self, *pieces: bytes) -> None:
        """Send all of it, in one go where the kernel has room."""
        try:
            sent = self._socket.sendmsg(pieces)
            total = sum(map(len, pieces))
            if sent < total:
                self._socket.sendall(b"".join(pieces)[sent:])
        except OSError as error:
            raise _lost(error) from None

    def receive(self, timeout: float | None) -> bytes:
        """Some bytes; nothing if none came in time."""
        if timeout is not None and not _readable(self._socket.fileno(), timeout):
            return b""
        try:
            data = self._socket.recv(_CHUNK)
        except OSError as error:
            raise _lost(error) from None
        if not data:
            raise ConnectionLost("the agent closed the connection")
        return data

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def binding(self) -> bytes | None:
        """Nothing ties a login to plaintext."""
        return b""

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class TLSTransport:
    """TLS 1.3 over a socket.

    :param connection: connected; closed with this.
    :param timeout: seconds that the handshake may take.
    :raises LoginFailed: there is no TLS at the other end.
    """

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        from OpenSSL import SSL

        from sockproto.tls import client_context

        self._errors = (SSL.Error, OSError)
        self._want_read: type[Exception] = SSL.WantReadError
        self._socket = connection
        self._tls: SSL.Connection = SSL.Connection(client_context(), None)
        self._tls.set_connect_state()
        connection.settimeout(None)
        try:
            self._shake_hands(time.monotonic() + timeout)
        except BaseException:
            connection.close()
            raise

    def _shake_hands(self, deadline: float) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except self._want_read:
                self._flush()
            except self._errors as error:
                raise LoginFailed(f"no TLS with the server: {_tls_reason(error)}") from None
            else:
                self._flush()
                return
            try:
                if not self._fill(max(0.0, deadline - time.monotonic())):
                    raise LoginFailed("no TLS handshake with the server in time")
            except ConnectionLost:
                raise LoginFailed("the server ended the connection in the TLS handshake") from None

    def send(self, *pieces: bytes) -> None:
        """Send all of it."""
        data = memoryview(b"".join(pieces))
        while data:
            try:
                data = data[self._tls.send(data) :]
            except self._errors as error:
                raise ConnectionLost(f"the connection was lost: {_tls_reason(error)}") from None
            self._flush()

    def receive(self, timeout: float | None) -> bytes:
        """Some bytes; nothing if none came in time."""
        while True:
            try:
                data = self._tls.recv(_CHUNK)
            except self._want_read:
                if not self._fill(timeout):
                    return b""
            except self._errors as error:
                raise ConnectionLost(f"the connection was lost: {_tls_reason(error)}") from None
            else:
                return data

    def fileno(self) -> int:
        """The socket's descriptor: :meth:`receive` takes all that came with what made it ready."""
        return self._socket.fileno()

    def binding(self) -> bytes | None:
        """The TLS exporter value."""
        from sockproto.tls import channel_binding

        return channel_binding(self._tls)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _fill(self, timeout: float | None) -> bool:
        """Give TLS what came; whether anything did."""
        if timeout is not None and not _readable(self._socket.fileno(), timeout):
            return False
        try:
            data = self._socket.recv(_CHUNK)
        except OSError as error:
            raise _lost(error) from None
        if not data:
            raise ConnectionLost("the agent closed the connection")
        self._tls.bio_write(data)
        return True

    def _flush(self) -> None:
        """Send what TLS has to send."""
        try:
            while True:
                try:
                    data = self._tls.bio_read(_CHUNK)
                except self._want_read:
                    return
                self._socket.sendall(data)
        except OSError as error:
            raise _lost(error) from None


def _readable(descriptor: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout) * 1000))


def _lost(error: OSError) -> ConnectionLost:
    return ConnectionLost(f"the connection was lost: {error.strerror or error}")


def _tls_reason(error: Exception) -> str:
    """OpenSSL's errors are lists of library, function and reason."""
    details = error.args[0] if error.args else None
    if isinstance(details, list | tuple) and details:
        return "; ".join(str(entry[-1]) for entry in details)
    return str(error) or type(error).__name__
