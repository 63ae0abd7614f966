"""Frames: a length of four bytes, big-endian, then that many bytes; read and written without I/O.

Grammar: ``frame = uint32(length) body[length]``. There is no type, no checksum and no alignment; a
length of zero is a frame like any other.
"""

from __future__ import annotations

from io import BytesIO
from struct import Struct

from sockproto.errors import FrameTooLong, LocalProtocolError

__all__ = ["HEADER_LENGTH", "LARGEST_LENGTH", "FrameDecoder", "encode_frame", "frame_header"]

_HEADER = Struct("!I")
_unpack_from = _HEADER.unpack_from

HEADER_LENGTH = _HEADER.size
#: What the header can say at most.
LARGEST_LENGTH = 2**32 - 1


def frame_header(length: int) -> bytes:
    """The four bytes that go before a body, for callers that write the two apart.

    :param length: of the body, in bytes.
    :raises LocalProtocolError: a header cannot say that length.
    """
    if not 0 <= length <= LARGEST_LENGTH:
        raise LocalProtocolError(f"a frame cannot have {length} bytes: 0 to {LARGEST_LENGTH} fit")
    return _HEADER.pack(length)


def encode_frame(payload: bytes) -> bytes:
    """A whole frame. This copies the payload: write a large one apart, after `frame_header`."""
    return frame_header(len(payload)) + payload


class FrameDecoder:
    """Bytes in, frames out, in any portions: `feed` keeps the bytes, `next_frame` takes a frame.

    Every byte is copied a constant number of times however the bytes arrive, and what is held is
    never more than 9/8 of what was received and not yet taken (and a constant). A header's word
    alone reserves nothing.

    :ivar limit: the largest body accepted; a change holds from the next header on.
    """

    __slots__ = ("_body", "_data", "_failure", "_later", "_missing", "_offset", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Held are, in the order of the stream: a frame whose body is arriving (a BytesIO, whose
        # getvalue hands its memory over without a copy), _data from _offset on, and _later, which
        # is what came while _data still had something to deliver.
        self._body: BytesIO | None = None
        self._missing = 0
        self._data = b""
        self._offset = 0
        self._later: BytesIO | None = None
        self._failure: FrameTooLong | None = None

    def feed(self, data: bytes, start: int = 0) -> None:
        """Take bytes from the peer. After a frame that was too long they are dropped.

        :param data: the bytes; they are not copied where they can be looked at in place.
        :param start: where in them to begin.
        """
        if self._failure is not None or start >= len(data):
            return
        if type(data) is not bytes:
            data = bytes(data)  # what is kept must not change under us
        if self._later is not None or (self._offset < len(self._data)):
            if self._later is None:
                self._later = BytesIO()
            self._later.write(memoryview(data)[start:] if start else data)
        elif self._body is not None and self._missing and len(data) - start <= self._missing:
            self._body.write(memoryview(data)[start:] if start else data)
            self._missing -= len(data) - start
        elif start > len(data) // 2:
            self._data = data[start:]  # rather a small copy than a large buffer kept for its end
        else:
            self._data = data
            self._offset = start

    def next_frame(self) -> bytes | None:
        """The next frame's body, or ``None`` if it has not arrived.

        :raises FrameTooLong: the next header announces more than the limit. The stream cannot go
            on after that: every further call raises the same.
        """
        while True:
            body = self._body
            if body is not None:
                if self._missing:
                    self._fill(body)
                    if self._missing and self._later is None:
                        return None
                    if self._missing:
                        self._merge()
                        continue
                self._body = None
                return body.getvalue()
            if self._failure is not None:
                raise self._failure
            start = self._offset + HEADER_LENGTH
            if start > len(self._data):
                if self._later is None:
                    if self._offset:
                        self._data, self._offset = self._data[self._offset :], 0
                    return None
                self._merge()
                continue
            (length,) = _unpack_from(self._data, self._offset)
            if length > self.limit:
                self._failure = FrameTooLong(length, self.limit)
                raise self._failure
            end = start + length
            if end <= len(self._data):
                frame = self._data[start:end]
                self._offset = end
                if end == len(self._data):
                    self._data, self._offset = b"", 0
                return frame
            self._body = BytesIO()
            self._missing = length
            self._offset = start

    def _fill(self, body: BytesIO) -> None:
        """Move what `_data` has of the frame that is arriving to that frame."""
        have = min(len(self._data) - self._offset, self._missing)
        if have:
            body.write(memoryview(self._data)[self._offset : self._offset + have])
            self._offset += have
            self._missing -= have
        if self._offset == len(self._data):
            self._data, self._offset = b"", 0

    def _merge(self) -> None:
        """Put `_later` behind `_data`, of which less than a frame's header is left."""
        if self._later is not None:
            later, self._later = self._later.getvalue(), None
            self._data = self._data[self._offset :] + later
            self._offset = 0

    def release(self) -> tuple[bytes, int]:
        """Hand over what is held, as a buffer and where in it the next header begins.

        The decoder is empty afterwards. There is no copy unless the parts have to be joined.
        """
        if self._body is not None:
            data, start = self.unread, 0
        else:
            self._merge()
            data, start = self._data, self._offset
        self.unread = b""
        return data, start

    @property
    def pending(self) -> int:
        """How many bytes are held that are not part of a frame delivered."""
        held = len(self._data) - self._offset
        if self._body is not None:
            held += HEADER_LENGTH + self._body.tell()
        if self._later is not None:
            held += self._later.tell()
        return held

    @property
    def unread(self) -> bytes:
        """The bytes not delivered yet, headers and all; to set it replaces them."""
        parts: list[bytes] = []
        if self._body is not None:
            parts += (_HEADER.pack(self._body.tell() + self._missing), self._body.getvalue())
        parts.append(self._data[self._offset :] if self._offset else self._data)
        if self._later is not None:
            parts.append(self._later.getvalue())
        return b"".join(parts)

    @unread.setter
    def unread(self, data: bytes) -> None:
        self._body = None
        self._missing = 0
        self._later = None
        self._failure = None
        self._data = data
        self._offset = 0
