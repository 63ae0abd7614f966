"""How a command ended, as the clients' users see it."""

from __future__ import annotations

import signal
from typing import Self

from attrs import field, frozen

from sockproto.wire.commands import CommandResult

__all__ = ["Output", "Result", "signal_number"]


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

    @classmethod
    def of(cls, end: CommandResult, collected: dict[int, bytes], truncated: bool) -> Self:
        """The result from the server's words and what was collected here."""
        return cls(
            end.exit_status,
            end.signal,
            collected.get(1, b""),
            collected.get(2, b""),
            end.truncated or truncated,
            end.timed_out,
        )

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with status 0."""
        return self.exit_status == 0 and not self.timed_out


def signal_number(name: str) -> int:
    """The number of a signal on this machine.

    :param name: without ``SIG``, as in :attr:`Result.signal`; ``RTMIN+3`` and numbers are understood.
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
