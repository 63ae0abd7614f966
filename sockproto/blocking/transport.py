"""Byte streams on plain sockets, with TLS or without; only :meth:`Transport.wait` waits."""

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
# What may be waiting to be sent: credit bounds input to 2 MiB, the rest are small frames.
_MOST_UNSENT = 8 * 1024 * 1024
_CLOSED = "the agent closed the connection"


class Transport(Protocol):
    """A connection as the session uses it."""

    def send(self, *pieces: bytes) -> None:
        """Send: what the network does not take at once goes out with the next calls.

        :raises ConnectionLost: the connection has ended.
        """

    @property
    def sending(self) -> bool:
        """Whether something has not gone out yet."""

    def wait(self, timeout: float | None) -> bool:
        """Wait until there is something to receive, or room for what has not gone out.

        An exception of a signal handler (Ctrl-C) leaves everything as it was.

        :param timeout: seconds; ``None``: as long as it takes.
        :return: whether there is.
        """

    def receive(self) -> bytes:
        """What has come, or nothing; and send on.

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
    except ValueError:
        raise ConnectFailed(f"{target}: that is no host name") from None
    return connection


class PlainTransport:
    """A socket as it is.

    :param connection: connected; closed with this.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._unsent = bytearray()
        connection.setblocking(False)

    def send(self, *pieces: bytes) -> None:
        """Send, in one go where the kernel has room."""
        if self._unsent:
            for piece in pieces:
                self._unsent += piece
            self._push()
            return
        try:
            sent = self._socket.sendmsg(pieces)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _lost(error) from None
        if sent < sum(map(len, pieces)):
            self._unsent += memoryview(b"".join(pieces))[sent:]

    @property
    def sending(self) -> bool:
        """Whether something has not gone out yet."""
        return bool(self._unsent)

    def wait(self, timeout: float | None) -> bool:
        """Wait until there is something to receive, or room for what has not gone out."""
        return self._ready(select.POLLIN | (select.POLLOUT if self._unsent else 0), timeout)

    def receive(self) -> bytes:
        """What has come, or nothing; and send on."""
        if self._unsent:
            self._push()
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise _lost(error) from None
        if not data:
            raise ConnectionLost(_CLOSED)
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

    def _push(self) -> None:
        """Give the kernel what it takes; wait only where far too much has piled up."""
        try:
            while self._unsent:
                try:
                    del self._unsent[: self._socket.send(self._unsent)]
                except BlockingIOError:
                    if len(self._unsent) <= _MOST_UNSENT:
                        return
                    self._ready(select.POLLOUT, None)
        except OSError as error:
            # It is found out for good by receiving: what came before can still be read.
            self._unsent.clear()
            if not isinstance(error, ConnectionError):
                raise _lost(error) from None

    def _ready(self, events: int, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._socket, events)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))


class TLSTransport:
    """TLS 1.3 over a socket.

    :param below: the socket; closed with this.
    :param timeout: seconds that the handshake may take.
    :raises LoginFailed: there is no TLS at the other end.
    """

    def __init__(self, below: PlainTransport, timeout: float) -> None:
        from OpenSSL import SSL

        from sockproto.tls import client_context

        self._error = SSL.Error
        self._want_read = SSL.WantReadError
        self._peer_closed = SSL.ZeroReturnError
        self._below = below
        self._tls: SSL.Connection = SSL.Connection(client_context(), None)
        self._tls.set_connect_state()
        try:
            self._shake_hands(time.monotonic() + timeout)
        except BaseException:
            below.close()
            raise

    def _shake_hands(self, deadline: float) -> None:
        while True:
            try:
                self._tls.do_handshake()
                self._flush()
                return
            except self._want_read:
                pass
            except self._error as error:
                raise LoginFailed(f"no TLS with the server: {_tls_reason(error)}") from None
            try:
                self._flush()
                if not self._below.wait(deadline - time.monotonic()):
                    raise LoginFailed("no TLS handshake with the server in time")
                self._take()
            except ConnectionLost:
                raise LoginFailed("the server ended the connection in the TLS handshake") from None

    def send(self, *pieces: bytes) -> None:
        """Send: one record, or a few."""
        data = memoryview(b"".join(pieces))
        while data:
            try:
                data = data[self._tls.send(data) :]
            except self._error as error:
                raise ConnectionLost(f"the connection was lost: {_tls_reason(error)}") from None
        self._flush()

    @property
    def sending(self) -> bool:
        """Whether something has not gone out yet."""
        return self._below.sending

    def wait(self, timeout: float | None) -> bool:
        """Wait: :meth:`receive` leaves nothing behind that the socket would not tell of."""
        return self._below.wait(timeout)

    def receive(self) -> bytes:
        """What has come, to the last whole record, or nothing; and send on."""
        self._take()
        records = []
        try:
            while True:
                records.append(self._tls.recv(_CHUNK))
        except self._want_read:
            pass
        except self._peer_closed:
            # The server waits for our own word before it closes the connection.
            self._say_goodbye()
            if not records:
                raise ConnectionLost(_CLOSED) from None
        except self._error as error:
            if not records:
                raise ConnectionLost(f"the connection was lost: {_tls_reason(error)}") from None
        return b"".join(records)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._below.fileno()

    def binding(self) -> bytes | None:
        """The TLS exporter value."""
        from sockproto.tls import channel_binding

        return channel_binding(self._tls)

    def close(self) -> None:
        """Close it, telling the server, where that is possible, that it is meant so."""
        self._say_goodbye()
        self._below.close()

    def _say_goodbye(self) -> None:
        try:
            self._tls.shutdown()
            self._flush()
        except (self._error, ConnectionLost):
            pass

    def _take(self) -> None:
        """Give TLS what came."""
        data = self._below.receive()
        if data:
            self._tls.bio_write(data)

    def _flush(self) -> None:
        """Send what TLS has to send."""
        while True:
            try:
                data = self._tls.bio_read(_CHUNK)
            except self._want_read:
                return
            self._below.send(data)


def _lost(error: OSError) -> ConnectionLost:
    return ConnectionLost(f"the connection was lost: {error.strerror or error}")


def _tls_reason(error: Exception) -> str:
    """OpenSSL's errors are lists of library, function and reason."""
    details = error.args[0] if error.args else None
    if isinstance(details, list | tuple) and details:
        return "; ".join(str(entry[-1]) for entry in details)
    return str(error) or type(error).__name__
