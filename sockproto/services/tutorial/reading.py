"""How the tutorial dialects read: machines without I/O that take one thing each from a stream.

A machine takes what is its own of the bytes that came, and gives back the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from sockproto.errors import RemoteProtocolError

__all__ = [
    "MAX_READ",
    "Exactly",
    "OneRead",
    "Piecewise",
    "Reader",
    "Word",
    "decimal",
    "int32",
    "pack_int32",
]

#: What a tutorial's server reads at once: ``recv(1024)``.
MAX_READ = 1024

_INT32 = struct.Struct("<i")
# With the space after them; PRI begins HTTP/2.
_METHODS = tuple(
    f"{method} ".encode()
    for method in (
        [
            "GET",
            "HEAD",
            "POST",
            "PUT",
            "DELETE",
            "CONNECT",
            "OPTIONS",
            "TRACE",
            "PATCH",
            "PRI",
            "PROPFIND",
        ]
    )
)


class Reader:
    """Takes one thing from a stream.

    :ivar done: whether it is complete.
    :ivar value: the thing, once it is.
    :ivar bite: the most bytes that it wants to be given at once.
    :ivar patience: seconds of silence after which :meth:`silent` is due; ``None``: never.
    """

    done = False
    value = b""
    bite = 1 << 30
    patience: float | None = None

    def feed(self, data: bytes) -> bytes:
        """Take bytes: at least one is there.

        :return: those that belong to what follows; none unless :attr:`done`.
        :raises RemoteProtocolError: the client breaks the dialect.
        """
        raise TypeError("a reader has to say how it reads")

    def silent(self) -> bytes:
        """Nothing has come for a while: be done with what there is.

        :return: as from :meth:`feed`.
        """
        return b""


class OneRead(Reader):
    """What one read brings is one thing: a command line, a file name, a number.

    A read of more than 1024 bytes comes as a value that is too long; a fragment of a command is
    none that anybody asked for.

    :raises RemoteProtocolError: a browser is at the other end, perhaps on behalf of a page that it
        should not have opened.
    """

    def feed(self, data: bytes) -> bytes:
        """Take all of it."""
        if data.startswith(_METHODS):
            raise RemoteProtocolError("speaks HTTP")
        self.value = data[: MAX_READ + 1]
        self.done = True
        return b""


class Exactly(Reader):
    """So many bytes, at least one."""

    def __init__(self, count: int) -> None:
        self._count = self.bite = count
        self._data = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take what is missing."""
        missing = self._count - len(self._data)
        self._data += data[:missing]
        if len(self._data) == self._count:
            self.value = bytes(self._data)
            self.done = True
        return data[missing:]


class Word(Reader):
    """A word that the client has to say."""

    def __init__(self, word: bytes) -> None:
        self._left = self.value = word
        self.bite = len(word)

    def feed(self, data: bytes) -> bytes:
        """Take what is left of it."""
        left, rest = self._left, data[len(self._left) :]
        said = data[: len(left)]
        if not left.startswith(said):
            raise RemoteProtocolError(f"expected {self.value.decode()}")
        self._left = left[len(said) :]
        self.done = not self._left
        return rest


class Piecewise(Reader):
    """So many bytes, passed on as they come.

    :param count: at least one.
    :param piece: is given each piece.
    """

    def __init__(self, count: int, piece: Callable[[bytes], None]) -> None:
        self._left = self.bite = count
        self._piece = piece

    def feed(self, data: bytes) -> bytes:
        """Pass on what belongs to them."""
        own, rest = data[: self._left], data[self._left :]
        self._left -= len(own)
        self._piece(own)
        self.done = not self._left
        return rest


def int32(data: bytes, most: int) -> int:
    """A length as C's ``int`` has it, little-endian.

    :param data: four bytes.
    :param most: the limit.
    :raises RemoteProtocolError: it is negative, or over the limit.
    """
    (length,) = _INT32.unpack(data)
    return _within(length, most)


def pack_int32(length: int) -> bytes:
    """The four bytes of a length."""
    return _INT32.pack(length)


def decimal(data: bytes, most: int) -> int:
    """A length in decimal digits; white space around them does not matter, as for ``int()``.

    :param most: the limit.
    :raises RemoteProtocolError: it is none, or over the limit.
    """
    digits = data.strip()
    if not digits.isdigit() or len(digits) > 10:
        raise RemoteProtocolError("expected a length in decimal digits")
    return _within(int(digits), most)


def _within(length: int, most: int) -> int:
    if not 0 <= length <= most:
        raise RemoteProtocolError(f"a length of {length}; expected 0 to {most}")
    return length
