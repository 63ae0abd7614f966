"""The descriptors that a command is started with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios

__all__ = ["Ends", "make_pipes", "make_terminal", "memory_file", "set_window"]

#: This side's ends: to standard input, from standard output and from standard error.
Ends = tuple[int | None, int, int | None]

# The line editing knows then how many bytes a character has; the module has no name for it.
_IUTF8 = 0o40000

# A third more throughput than with 64 KiB.
_LARGE_PIPE = 256 * 1024


def make_pipes(stdin: bool, large: bool = False) -> tuple[Ends, tuple[int, ...]]:
    """Make the pipes of one command.

    :param large: enlarge the one for standard output, if that is allowed.
    :return: this side's ends, as (stdin, stdout, stderr), and the child's, in the same order.
    """
    opened: list[int] = []
    try:
        for _ in range(3 if stdin else 2):
            opened.extend(os.pipe2(os.O_CLOEXEC))
    except OSError:
        for descriptor in opened:
            os.close(descriptor)
        raise
    pairs = list(zip(opened[::2], opened[1::2], strict=True))
    writable = pairs.pop(0) if stdin else None
    (stdout, child_stdout), (stderr, child_stderr) = pairs
    if large:
        with contextlib.suppress(OSError):
            fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, _LARGE_PIPE)
    ours: Ends = (None if writable is None else writable[1], stdout, stderr)
    for end in ours:
        if end is not None:
            os.set_blocking(end, False)
    theirs = (child_stdout, child_stderr)
    return ours, theirs if writable is None else (writable[0], *theirs)


def make_terminal(rows: int, columns: int) -> tuple[Ends, tuple[int, ...]]:
    """Make a pseudo-terminal for one command.

    :return: this side's ends, both of them the master; and the child's, its only descriptor.
    """
    master, slave = os.openpty()
    try:
        set_window(master, rows, columns)
        modes = termios.tcgetattr(slave)
        modes[0] |= _IUTF8
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        os.set_blocking(master, False)
        return (os.dup(master), master, None), (slave,)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise


def set_window(terminal: int, rows: int, columns: int) -> None:
    """Set a terminal's size; what runs in its foreground is told by a SIGWINCH."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def memory_file(data: bytes) -> int:
    """Give a descriptor to read ``data`` from, for a message that is too large for a socket."""
    descriptor = os.memfd_create("sockproto", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
