"""How a command ended, as the clients' users see it."""

from __future__ import annotations

import signal

from attrs import field, frozen

from sockproto.wire.commands import CommandResult
from sockproto.wire.messages import Stream

__all__ = ["DEFAULT_MAX_OUTPUT", "Collected", "Output", "Result", "signal_number"]

#: What is collected of each stream of a command's output unless told otherwise.
DEFAULT_MAX_OUTPUT = 16 * 1024 * 1024


@frozen
class Output:
    """A piece of a command's output.

    :ivar stream: 1 for stdout, 2 for stderr.
    :ivar data: never empty.
    """

    stream: int
    data: bytes


@frozen
class Result:
    """How a command ended.

    :ivar exit_status: 0 to 255, ``None`` if a signal ended it.
    :ivar signal: the name of that signal without ``SIG``, such as ``KILL``; else ``None``.
    :ivar stdout: what it wrote, unless that was read as it came.
    :ivar stderr: likewise.
    :ivar truncated: some of its output was dropped, because there was more than allowed.
    :ivar timed_out: it was ended because its time was up.
    """

    exit_status: int | None = None
    signal: str | None = None
    stdout: bytes = field(default=b"", repr=lambda value: f"<{len(value)} bytes>")
    stderr: bytes = field(default=b"", repr=lambda value: f"<{len(value)} bytes>")
    truncated: bool = False
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with status 0."""
        return self.exit_status == 0 and not self.timed_out


class Collected:
    """Output as it is collected, up to a limit.

    :param max_output: bytes of each stream to keep.
    """

    def __init__(self, max_output: int) -> None:
        self._pieces: dict[int, list[bytes]] = {Stream.OUT: [], Stream.ERR: []}
        self._room = {Stream.OUT: max_output, Stream.ERR: max_output}
        self._truncated = False

    def add(self, piece: Output) -> None:
        """Keep a piece, or what there is room for."""
        stream = Stream(piece.stream)
        kept = piece.data[: self._room[stream]]
        self._room[stream] -= len(kept)
        self._truncated = self._truncated or len(kept) < len(piece.data)
        self._pieces[stream].append(kept)

    def result(self, end: CommandResult) -> Result:
        """The result, from the server's words and what was collected."""
        return Result(
            end.exit_status,
            end.signal,
            b"".join(self._pieces[Stream.OUT]),
            b"".join(self._pieces[Stream.ERR]),
            end.truncated or self._truncated,
            end.timed_out,
        )


def signal_number(name: str) -> int:
    """The number of a signal on this machine.

    :param name: without ``SIG``, as in :attr:`Result.signal`; ``RTMIN+3`` and numbers are
        understood.
    :raises ValueError: there is none of that name.
    """
    base, plus, offset = name.partition("+")
    if base.isdecimal() and not plus:
        return int(base)
    try:
        number = int(signal.Signals["SIG" + base])
    except KeyError:
        raise ValueError(f"there is no signal {name!r} on this machine") from None
    return number + (int(offset) if plus else 0)
