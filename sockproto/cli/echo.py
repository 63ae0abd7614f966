"""``sockproto echo``: what is sent to an echo service, and whether the same comes back."""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Iterator

import click

from sockproto.blocking.asking import DatagramClient
from sockproto.blocking.transport import open_socket
from sockproto.cli.command import ConnectionOptions, command
from sockproto.cli.descriptors import STDIN, STDOUT, claim_standard_streams
from sockproto.cli.service_options import Asked, judged, service_options
from sockproto.errors import ConnectFailed, ConnectionLost, RemoteProtocolError
from sockproto.target import Target

__all__ = ["EchoCheck", "echo"]

_PORT = 7007
_CHUNK = 65_536
_LONGEST_DATAGRAM = 65_507
# What may be on its way; above it our input waits.
_MOST_OUTSTANDING = 1024 * 1024


@command(
    "echo",
    keyless=True,
    examples=[
        ("sockproto echo hello", "from this machine's server, over TCP"),
        ("sockproto echo --udp --to web1:7 hello", "from another, by a datagram"),
        ("head -c 1G /dev/zero | sockproto echo >/dev/null", "any amount, as it comes"),
    ],
)
@click.argument("text", required=False)
@service_options
def echo(
    _options: ConnectionOptions,
    text: str | None,
    to: str | None,
    udp: bool | None,
    timeout: float,
    tries: int,
) -> None:
    """Send TEXT to an echo service (RFC 862), by TCP unless --udp, and print what comes back.

    Without TEXT our standard input is sent: as it comes over TCP, as one datagram by UDP.

    The exit status is 0; 1 if something else came back than was sent; 255 if nothing did."""
    claim_standard_streams()
    asked = Asked.of(to, _PORT, udp, False, timeout, tries)
    output = open(STDOUT, "wb", closefd=False)  # noqa: SIM115  # that is not ours to close
    data = None if text is None else os.fsencode(text)
    with judged(asked.target):
        check = EchoCheck()
        if asked.udp:
            if data is None:
                with open(STDIN, "rb", closefd=False) as given:
                    data = given.read(_LONGEST_DATAGRAM + 1)
            answer = _ask(asked, data)
            output.write(answer)
            output.flush()
            check.sent(data)
            check.returned(answer)
            check.over()
        else:
            with open_socket(asked.target, asked.timeout) as connection:
                for piece in _Stream(asked.target, connection, asked.timeout, check).run(data):
                    output.write(piece)
                    output.flush()
    if text is not None:
        output.write(b"\n")
        output.flush()


class EchoCheck:
    """Compares what comes back with what was sent, of which it keeps no more than is on its way.

    :ivar outstanding: bytes that were sent and have not come back.
    """

    def __init__(self) -> None:
        self.outstanding = 0
        self._pieces: deque[bytes] = deque()
        self._place = 0

    def sent(self, data: bytes) -> None:
        """Something was sent."""
        if data:
            self._pieces.append(data)
            self.outstanding += len(data)

    def returned(self, data: bytes) -> None:
        """Something came back.

        :raises RemoteProtocolError: it is not what was sent.
        """
        rest = memoryview(data)
        while rest:
            if not self._pieces:
                raise RemoteProtocolError(
                    f"more came back than was sent: {len(rest)} bytes after the {self._place}"
                )
            expected = self._pieces.popleft()
            amount = min(len(expected), len(rest))
            if rest[:amount] != expected[:amount]:
                at = next(i for i in range(amount) if rest[i] != expected[i])
                raise RemoteProtocolError(
                    f"something else came back: byte {self._place + at} is"
                    f" 0x{rest[at]:02x}, and 0x{expected[at]:02x} was sent"
                )
            if amount < len(expected):
                self._pieces.appendleft(expected[amount:])
            rest = rest[amount:]
            self._place += amount
            self.outstanding -= amount

    def over(self) -> None:
        """Nothing more comes back.

        :raises RemoteProtocolError: some of it has not.
        """
        if self.outstanding:
            raise RemoteProtocolError(
                f"of {self._place + self.outstanding} bytes only {self._place} came back"
            )


def _ask(asked: Asked, data: bytes) -> bytes:
    """What comes back for a datagram."""
    if len(data) > _LONGEST_DATAGRAM:
        raise click.UsageError(f"a datagram carries up to {_LONGEST_DATAGRAM} bytes: use --tcp")
    with DatagramClient(asked.target, asked.timeout, asked.tries) as client:
        return client.ask(lambda: data, lambda answer: answer)


class _Stream:
    """Sends and receives over one connection, both at once: our input waits for what comes back.

    :param target: for messages.
    :param connection: to the service.
    :param timeout: seconds without anything coming back, or going out, that are too many.
    :param check: of what comes back.
    """

    def __init__(
        self, target: Target, connection: socket.socket, timeout: float, check: EchoCheck
    ) -> None:
        connection.setblocking(False)
        self._target = target
        self._socket = connection
        self._timeout = timeout
        self._check = check
        self._unsent = memoryview(b"")

    def run(self, data: bytes | None) -> Iterator[bytes]:
        """Send something, and give what comes back until all of it has.

        The connection is not half closed first: some servers would drop what they still owe.

        :param data: what to send; ``None``: our input.
        """
        more = data is None
        self._take(data or b"")
        while more or self._check.outstanding:
            room = more and not self._unsent and self._check.outstanding < _MOST_OUTSTANDING
            ready = self._wait(room)
            if STDIN in ready:
                more = self._take(os.read(STDIN, _CHUNK))
            if self._unsent:
                self._send()
            if self._socket.fileno() in ready:
                answer = self._receive()
                if answer == b"":
                    # More input would be lost as well.
                    if more and not self._check.outstanding:
                        raise ConnectionLost(f"{self._target}: the service closed the connection")
                    self._check.over()
                elif answer:
                    yield answer
                    self._check.returned(answer)

    def _take(self, data: bytes) -> bool:
        """Have something to send; whether that is anything."""
        self._unsent = memoryview(data)
        self._check.sent(data)
        return bool(data)

    def _wait(self, stdin: bool) -> set[int]:
        """Wait until something can be done.

        :raises ConnectFailed: the service owes something, and for too long.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        if stdin:
            poll.register(STDIN, select.POLLIN)
        owed = self._check.outstanding
        ready = {descriptor for descriptor, _ in poll.poll(self._timeout * 1000 if owed else None)}
        if not ready:
            raise ConnectFailed(f"{self._target}: no answer within {self._timeout:g} s")
        return ready

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self) -> bytes | None:
        """What came back; nothing at the end, ``None`` where nothing has come."""
        try:
            return self._socket.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._lost(error) from None

    def _lost(self, error: OSError) -> ConnectionLost:
        return ConnectionLost(f"{self._target}: {error.strerror or error}")
