"""How a command ended, as the clients' users see it."""

from __future__ import annotations

import signal

from attrs import field, frozen

from sockproto.errors import AgentError, Refused
from sockproto.wire.commands import CommandResult
from sockproto.wire.events import ChannelRejected, GoingAway
from sockproto.wire.messages import Stream

__all__ = [
    "DEFAULT_MAX_OUTPUT",
    "Collected",
    "Output",
    "Result",
    "ended_without_status",
    "left",
    "refused",
    "signal_number",
]

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
    :ivar age: seconds since the agent began it, where that was for another client and this is the
        same result (a rule with ``fresh``); else ``None``.
    """

    exit_status: int | None = None
    signal: str | None = None
    stdout: bytes = field(default=b"", repr=lambda value: f"<{len(value)} bytes>")
    stderr: bytes = field(default=b"", repr=lambda value: f"<{len(value)} bytes>")
    truncated: bool = False
    timed_out: bool = False
    age: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with status 0."""
        return self.exit_status == 0 and not self.timed_out


class Collected:
    """Output as it is collected, up to a limit.

    :param max_output: bytes of each stream to keep.
    :raises ValueError: it is less than 0.
    """

    def __init__(self, max_output: int) -> None:
        if max_output < 0:
            raise ValueError(f"max_output: expected 0 or more, found {max_output}")
        self._pieces: dict[int, list[bytes]] = {Stream.OUT: [], Stream.ERR: []}
        self._room = {Stream.OUT: max_output, Stream.ERR: max_output}
        self._truncated = False

    def add(self, piece: Output) -> None:
        """Keep a piece, or what there is room for."""
        stream = Stream(piece.stream)
        kept = piece.data[: self._room[stream]]
        if len(kept) < len(piece.data):
            self._truncated = True
        if kept:
            self._room[stream] -= len(kept)
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
            end.age,
        )


def signal_number(name: str) -> int:
    """The number of a signal on this machine.

    :param name: without ``SIG``, as in :attr:`Result.signal`; ``RTMIN+3`` and numbers are
        understood.
    :raises ValueError: there is none of that name.
    """
    base, plus, offset = name.partition("+")
    try:
        number = int(base) if base.isdecimal() else int(signal.Signals["SIG" + base])
        number += int(offset) if plus else 0
        if number in signal.valid_signals():
            return number
    except (KeyError, ValueError):
        pass
    raise ValueError(f"there is no signal {name!r} on this machine")


def refused(event: ChannelRejected) -> Refused:
    """A rejected channel as an exception."""
    return Refused(event.message or "the agent gives no reason", event.code)


def left(event: GoingAway) -> AgentError:
    """An agent's going away as an exception."""
    return AgentError(event.message or "the agent is going away", event.code)


def ended_without_status(end: CommandResult) -> AgentError:
    """The end of a command that has no status as an exception."""
    return AgentError(end.message or "the agent gives no reason", end.code)
