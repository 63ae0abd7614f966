"""What a command in Python is called with: who asks for what, its input and its output."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from twisted.internet.defer import Deferred
from zope.interface import implementer

from sockproto.auth.principal import Principal
from sockproto.interfaces import ICommand, IInvocation
from sockproto.wire.messages import MAX_DATA, Stream

__all__ = ["InputQueue", "Invocation", "PythonCommand"]

#: What can be registered: an object that provides :class:`ICommand`, or a function like one.
PythonCommand = ICommand | Callable[[IInvocation], Awaitable[int | None]]


class InputQueue:
    """A command's input, as it is read.  Who does not read it holds the client back.

    :param consumed: told how many bytes were read.
    """

    def __init__(self, consumed: Callable[[int], None]) -> None:
        self._consumed = consumed
        self._waiting = bytearray()
        self._over = False
        self._reader: tuple[Deferred[bytes], int] | None = None

    def read(self, size: int = MAX_DATA) -> Deferred[bytes]:
        """Read what has come, at most so many bytes.

        :return: fires with bytes once there are some; with none at the end of the input.
        :raises RuntimeError: somebody reads already.
        :raises ValueError: the size is not above 0.
        """
        if size <= 0:
            raise ValueError(f"size: expected more than 0, found {size}")
        if self._reader is not None:
            raise RuntimeError("somebody reads this input already")
        reader: Deferred[bytes] = Deferred(self._forget)
        self._reader = reader, size
        self._serve()
        return reader

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    @property
    def isOver(self) -> bool:
        """Whether nothing more will come."""
        return self._over

    def received(self, data: bytes) -> None:
        """Keep what came; the channel's credit bounds it."""
        if not self._over:
            self._waiting += data
            self._serve()

    def end(self) -> None:
        """No more will come."""
        self._over = True
        self._serve()

    def close(self) -> None:
        """Nobody will read any more."""
        self._waiting.clear()
        self.end()

    def _forget(self, _reader: Deferred[bytes]) -> None:
        self._reader = None

    def _serve(self) -> None:
        if self._reader is None or not (self._waiting or self._over):
            return
        (reader, size), self._reader = self._reader, None
        data = bytes(self._waiting[:size])
        del self._waiting[: len(data)]
        if data:
            self._consumed(len(data))
        reader.callback(data)


@implementer(IInvocation)
class Invocation:
    """One call of a command in Python.

    :param principal: who asks.
    :param rule: the name of the rule that allows it.
    :param argv: the rule's argv with the client's words in it; the first names the command.
    :param values: the words that each parameter of the rule got.
    :param stdin: its input.
    :param output: sends on a stream.
    """

    def __init__(
        self,
        principal: Principal,
        rule: str,
        argv: tuple[bytes, ...],
        values: Mapping[str, tuple[bytes, ...]],
        stdin: InputQueue,
        output: Callable[[int, bytes], Deferred[None]],
    ) -> None:
        self.principal = principal
        self.rule = rule
        self.argv = tuple(map(os.fsdecode, argv))
        self.values = {name: tuple(map(os.fsdecode, words)) for name, words in values.items()}
        self.stdin = stdin
        self.cancelled = False
        self._output = output

    def value(self, name: str) -> str:
        """The one word of a parameter.

        :raises KeyError: the rule has no such parameter.
        :raises ValueError: it got more than one word, or none, as one with ``rest`` may.
        """
        (word,) = self.values[name]
        return word

    def write(self, data: str | bytes) -> Deferred[None]:
        """Write to stdout; text as UTF-8."""
        return self._output(Stream.OUT, _encoded(data))

    def write_error(self, data: str | bytes) -> Deferred[None]:
        """Write to stderr; text as UTF-8."""
        return self._output(Stream.ERR, _encoded(data))


def _encoded(data: str | bytes) -> bytes:
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)
