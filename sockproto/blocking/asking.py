"""Asking a simple service on plain sockets: a datagram for a datagram, or what a stream tells."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

from sockproto.blocking.transport import open_socket
from sockproto.errors import ConfigurationError, ConnectFailed, ConnectionLost, RemoteProtocolError
from sockproto.target import Target

__all__ = ["DatagramClient", "told"]

_T = TypeVar("_T")

# More than UDP can carry, so that no answer is cut.
_LONGEST = 65_536


class DatagramClient:
    """Asks a service over UDP; a context.

    What others than the service send is not seen: the kernel keeps it from a connected socket.

    :param target: the service's address.
    :param timeout: seconds to wait for an answer, in all.
    :param tries: how often to send a question within that time.
    :ivar address: the IP address that answered last.
    :raises ConnectFailed: there is no such host.
    """

    def __init__(self, target: Target, timeout: float = 3.0, tries: int = 3) -> None:
        if target.path:
            raise ConfigurationError(f"{target}: there are no datagrams on Unix sockets here")
        self._target = target
        self._timeout = timeout
        self._tries = tries
        self._socket: socket.socket | None = None
        self._places = _places(target)
        self.address = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, question: Callable[[], bytes], answer: Callable[[bytes], _T | None]) -> _T:
        """Send a question, again where nothing comes, and wait for its answer.

        The first time each address of the host has its turn, until one answers.

        :param question: makes the datagram, anew for each time that it is sent.
        :param answer: what a datagram means; ``None``: it answers something else.
        :raises ConnectFailed: nothing answers.
        :raises RemoteProtocolError: what came is no answer.
        """
        while True:
            try:
                if self._socket is None:
                    self._open()
                assert self._socket is not None
                found = self._exchange(self._socket, question, answer)
            except OSError as error:
                problem = ConnectFailed(f"{self._target}: {error.strerror or error}")
            except ConnectFailed as error:
                problem = error
            else:
                self._places.clear()
                return found
            if not self._places:
                raise problem
            self.close()

    def _open(self) -> None:
        family, place = self._places.pop(0)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.connect(place)
        self.address = place[0]

    def _exchange(
        self,
        connection: socket.socket,
        question: Callable[[], bytes],
        answer: Callable[[bytes], _T | None],
    ) -> _T:
        strangers = 0
        for _ in range(self._tries):
            deadline = time.monotonic() + self._timeout / self._tries
            connection.send(question())
            while (left := deadline - time.monotonic()) > 0:
                # Not the socket's own time-out, which begins anew where a datagram was broken.
                if select.select([connection], [], [], left)[0]:
                    found = answer(connection.recv(_LONGEST, socket.MSG_DONTWAIT))
                    if found is not None:
                        return found
                    strangers += 1
        if strangers:
            raise RemoteProtocolError(f"{strangers} datagrams came, and none answers our question")
        times = f"{self._tries} datagrams" if self._tries > 1 else "a datagram"
        raise ConnectFailed(
            f"{self._target}: no answer to {times} (UDP) within {self._timeout:g} s"
        )


def told(target: Target, timeout: float, enough: Callable[[bytes], bool]) -> bytes:
    """Connect to a service that speaks by itself, and listen.

    :param timeout: seconds for the connection, and again for what is told.
    :param enough: whether what was told so far is all; its end is the end of it anyway.
    :raises ConnectFailed: nothing answers, or not in time.
    :raises ConnectionLost: the connection broke.
    """
    data = b""
    with open_socket(target, timeout) as connection:
        deadline = time.monotonic() + timeout
        try:
            while not enough(data):
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                piece = connection.recv(_LONGEST)
                if not piece:
                    break
                data += piece
        except TimeoutError:
            raise ConnectFailed(
                f"{target}: connected, but not told all within {timeout:g} s"
            ) from None
        except OSError as error:
            raise ConnectionLost(f"{target}: {error.strerror or error}") from None
    return data


def _places(target: Target) -> list[tuple[int, Any]]:
    """The addresses of a host, each with its family."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ConnectFailed(f"{target}: {error.strerror or error}") from None
    except ValueError:
        raise ConnectFailed(f"{target}: that is no host name") from None
    return [(family, place) for family, _, _, _, place in found]
