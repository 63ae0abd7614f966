"""The messages of the login ``sockproto-auth-v1``, as bytes and as values.

Each is the payload of one frame of at most :data:`MAX_MESSAGE` bytes::

    HELLO  server -> client   01 01 lp8(suites) cb_mask lp8(service) lp8(server_id) Ns[32]
    AUTH   client -> server   02 01 suite cb lp8(key_id) lp8(client_id) Nc[32] tag_c[32]
    OK     server -> client   03 lp8(grants) session_id[16] tag_s[32]
    FAIL   server -> client   04 01

``lp8(x)`` is one length byte, then ``x``.  Lengths are exact, and ids match :data:`ID_PATTERN`.
"""

from __future__ import annotations

import hashlib
import re

from attrs import field, frozen

from sockproto.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "FAIL",
    "ID_PATTERN",
    "MAX_MESSAGE",
    "Auth",
    "Hello",
    "Ok",
    "checked_id",
    "lp8",
    "lp32",
    "reference",
]

#: The limit of a frame during the login; the longest message there can be has 421 bytes.
MAX_MESSAGE = 1024
#: What a key id, a client id, a server id and a service name look like.
ID_PATTERN = re.compile(r"[A-Za-z0-9._@-]{1,64}")
#: The one answer to every login that is refused.
FAIL = b"\x04\x01"

_HELLO, _AUTH, _OK = b"\x01\x01", b"\x02\x01", b"\x03"
_NONCE = 32
_TAG = 32
_SESSION_ID = 16


@frozen
class Hello:
    """The server's first message, read."""

    suites: bytes
    cb_mask: int
    service: str
    server_id: str
    nonce: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The message as it is sent."""
        return b"".join(
            (
                _HELLO,
                lp8(self.suites),
                bytes((self.cb_mask,)),
                lp8(self.service.encode("ascii")),
                lp8(self.server_id.encode("ascii")),
                self.nonce,
            )
        )

    @classmethod
    def decode(cls, message: bytes) -> Hello:
        """Read a HELLO.

        :raises RemoteProtocolError: it is none.
        """
        reader = _Reader(message, _HELLO, "HELLO")
        hello = cls(
            suites=reader.lp8(),
            cb_mask=reader.byte(),
            service=reader.id(),
            server_id=reader.id(),
            nonce=reader.take(_NONCE),
        )
        reader.finish()
        return hello


@frozen
class Auth:
    """The client's message, read."""

    suite: int
    cb: int
    key_id: str
    client_id: str
    nonce: bytes = field(repr=False)
    tag: bytes = field(default=b"", repr=False)

    def encode_untagged(self) -> bytes:
        """AUTH0."""
        return b"".join(
            (
                _AUTH,
                bytes((self.suite, self.cb)),
                lp8(self.key_id.encode("ascii")),
                lp8(self.client_id.encode("ascii")),
                self.nonce,
            )
        )

    @classmethod
    def decode(cls, message: bytes) -> Auth:
        """Read an AUTH.

        :raises RemoteProtocolError: it is none.
        """
        reader = _Reader(message, _AUTH, "AUTH")
        auth = cls(
            suite=reader.byte(),
            cb=reader.byte(),
            key_id=reader.id(),
            client_id=reader.id(),
            nonce=reader.take(_NONCE),
            tag=reader.take(_TAG),
        )
        reader.finish()
        return auth


@frozen
class Ok:
    """The server's message that ends the login, read.

    :ivar grants: empty in version 1, and nothing depends on them.
    """

    grants: bytes
    session_id: bytes
    tag: bytes = field(default=b"", repr=False)

    def encode_untagged(self) -> bytes:
        """OK0."""
        return _OK + lp8(self.grants) + self.session_id

    @classmethod
    def decode(cls, message: bytes) -> Ok:
        """Read an OK.

        :raises RemoteProtocolError: it is none.
        """
        reader = _Reader(message, _OK, "OK")
        ok = cls(reader.lp8(), reader.take(_SESSION_ID), reader.take(_TAG))
        reader.finish()
        return ok


def reference(hello: bytes) -> str:
    """What both sides print of a login: the first 8 hex digits of SHA-256(HELLO)."""
    return hashlib.sha256(hello).hexdigest()[:8]


class _Reader:
    """Takes a message apart, strictly."""

    def __init__(self, message: bytes, start: bytes, name: str) -> None:
        self._message = message
        self._name = name
        self.offset = 0
        if self.take(len(start)) != start:
            raise RemoteProtocolError(f"not {name}")

    def take(self, count: int) -> bytes:
        piece = self._message[self.offset : self.offset + count]
        if len(piece) != count:
            raise RemoteProtocolError(f"{self._name} is too short")
        self.offset += count
        return piece

    def byte(self) -> int:
        return self.take(1)[0]

    def lp8(self) -> bytes:
        return self.take(self.byte())

    def id(self) -> str:
        text = self.lp8().decode("latin-1")
        if ID_PATTERN.fullmatch(text) is None:
            raise RemoteProtocolError(f"{self._name} has an unfit id")
        return text

    def finish(self) -> None:
        if self.offset != len(self._message):
            raise RemoteProtocolError(f"{self._name} is too long")


def checked_id(text: str, what: str) -> str:
    """An id of this side's own.

    :raises LocalProtocolError: it is no id.
    """
    if ID_PATTERN.fullmatch(text) is None:
        raise LocalProtocolError(
            f"{what} {text!r}: expected 1 to 64 of the characters A-Z a-z 0-9 . _ @ -"
        )
    return text


def lp8(value: bytes) -> bytes:
    """A length byte, and the value."""
    return bytes((len(value),)) + value


def lp32(value: bytes) -> bytes:
    """Four length bytes, big-endian, and the value."""
    return len(value).to_bytes(4, "big") + value
