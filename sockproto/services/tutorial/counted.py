"""Text whose length may count bytes or characters: a machine without I/O.

Some tutorial clients send ``len(text)`` and then ``text.encode("utf-8")``: for text that is not all
ASCII that length is too small.
"""

from __future__ import annotations

from collections.abc import Callable

from sockproto.services.tutorial.reading import Reader

__all__ = ["CountedText"]

#: How long nothing has to come before a text that could go on is held to be complete: far longer
#: than bytes that were sent together stay apart on one machine.
SILENCE = 0.05
#: No UTF-8 character has more bytes.
_MOST_BYTES = 4
#: No dialect's header is as long.
_HEADER = 16


class CountedText(Reader):
    """A message of a length that counts its bytes, or the characters of its UTF-8.

    If the first ``length`` bytes are all ASCII they are the message.  Else it goes on to ``length``
    UTF-8 characters; if these do not come before a silence, then the length counted bytes, if what
    is beyond them can begin the next message, and otherwise the message is all that came.

    The messages of a client that counts bytes may follow each other without a pause.  What tells is
    a NUL, which is in no text but in the header of every int32 dialect, and that what is beyond so
    many bytes can begin the next message while what is beyond so many characters cannot.

    :param length: at least one.
    :param begins: whether bytes (at least one) look like the beginning of what comes next.
    """

    def __init__(self, length: int, begins: Callable[[bytes], bool]) -> None:
        self._length = length
        # Mostly it takes as much as it counts.
        self.bite = length + _HEADER
        self._begins = begins
        self._data = bytearray()
        # Where the characters end that were counted, all of them whole and none of them NUL.
        self._counted = 0
        self._characters = 0
        self._is_text = True
        # Whether so many bytes are whole characters.
        self._is_whole = False

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to it, as far as that is known."""
        if len(self._data) < self._length:
            missing = self._length - len(self._data)
            self._data += data[:missing]
            data = data[missing:]
            if len(self._data) < self._length:
                return b""
            if self._data.isascii():
                return self._end(self._length) + data
            self._count()
            self._is_whole = self._counted == self._length
            self.patience = SILENCE
        if data:
            # More than this cannot be needed to decide.
            room = (_MOST_BYTES + 1) * self._length + _HEADER - len(self._data)
            self._data += data[:room]
            data = data[room:]
            self._count()
        if self._characters == self._length and not self._counted_bytes():
            return self._end(self._counted) + data
        if data or (not self._is_text and self._begins_at(self._length)):
            return self.silent() + data
        return b""

    def silent(self) -> bytes:
        """Decide by what there is."""
        if len(self._data) < self._length:
            return b""
        return self._end(self._length if self._begins_at(self._length) else len(self._data))

    def _begins_at(self, place: int) -> bool:
        """Whether the next message can begin with what has come from a place on."""
        beyond = bytes(self._data[place : place + _HEADER])
        return bool(beyond) and self._begins(beyond)

    def _counted_bytes(self) -> bool:
        """Whether it seems that the length counted bytes, though there are as many characters."""
        return (
            self._is_whole
            and len(self._data) > self._counted
            and self._begins_at(self._length)
            and not self._begins_at(self._counted)
        )

    def _count(self) -> None:
        """Count the characters that have come since, up to the length."""
        if not self._is_text:
            return
        wanted = self._length - self._characters
        # A character more than enough, so that the bytes of the last are whole.
        new = bytes(self._data[self._counted : self._counted + _MOST_BYTES * wanted])
        try:
            text = new.decode()
        except UnicodeDecodeError as error:
            text = new[: error.start].decode()
            # An unexpected end is one that more bytes may mend.
            self._is_text = error.end == len(new) and error.reason == "unexpected end of data"
        text = text[:wanted]
        nul = text.find("\0")
        if nul >= 0:
            text, self._is_text = text[:nul], False
        self._characters += len(text)
        self._counted += len(text.encode())

    def _end(self, length: int) -> bytes:
        """Be done with so many bytes.

        :return: those beyond.
        """
        self.value = bytes(self._data[:length])
        beyond = bytes(self._data[length:])
        self.done = True
        return beyond
