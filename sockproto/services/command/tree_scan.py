"""Reading processes, their marks and children from ``/proc``, and signalling them safely.

**Marks.**  Every command has a random number of 61 bits plus 2**62, its *mark*, which its processes
inherit twice:

- in the environment, as ``SOCKPROTO_RUN``.  ``env -i`` removes it, and only the same user and root
  can read it;
- as the soft limit RLIMIT_RTTIME, which the host sets for itself just before it spawns.  A limit
  goes through fork, exec, setsid and ``env -i`` alike, and ``/proc/PID/limits`` shows it to all.
  That limit is the processor time in microseconds that a process *with a real-time scheduling
  policy* may use without blocking; for all others it means nothing, and for those 2**62 is
  146,000 years.  It can be had where the host's own limit is infinite, that is, unset.

A process can shed both on purpose; against that a control group is the only means.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Collection

from sockproto.services.command.tree import Process, parse_stat

__all__ = [
    "MARK_VARIABLE",
    "child_pids",
    "clock_ticks",
    "mark_of",
    "new_mark",
    "read_process",
    "read_table",
    "send_signal",
    "wear_mark",
]

MARK_VARIABLE = "SOCKPROTO_RUN"
_LOWEST_MARK = 2**62
_ENVIRON_PREFIX = b"SOCKPROTO_RUN="
_LIMIT_NAME = b"Max realtime timeout"
_HERTZ = os.sysconf("SC_CLK_TCK")


def new_mark() -> int:
    """Draw the mark of a command."""
    return _LOWEST_MARK + int.from_bytes(os.urandom(8), "big") // 8


def wear_mark(mark: int) -> bool:
    """Set this process's own limit to ``mark``, for the next child to inherit.

    :return: whether that was possible: not where somebody has set a limit that means something.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    if hard != resource.RLIM_INFINITY or not (
        soft == resource.RLIM_INFINITY or soft >= _LOWEST_MARK
    ):
        return False
    try:
        resource.setrlimit(resource.RLIMIT_RTTIME, (mark, hard))
    except (OSError, ValueError):
        return False
    return True


def mark_of(pid: int) -> int | None:
    """Read the mark that a process carries: the limit, or else the environment.

    :return: the mark, or ``None`` where there is none that can be read.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _read(f"/proc/{pid}/limits").splitlines():
            if line.startswith(_LIMIT_NAME):
                soft = line[len(_LIMIT_NAME) :].split()[0]
                if soft != b"unlimited" and int(soft) >= _LOWEST_MARK:
                    return int(soft)
    with contextlib.suppress(OSError, ValueError):
        for variable in _read(f"/proc/{pid}/environ").split(b"\0"):
            if variable.startswith(_ENVIRON_PREFIX):
                return int(variable[len(_ENVIRON_PREFIX) :])
    return None


def clock_ticks() -> int:
    """Give the present time as ``/proc/PID/stat`` would for a process that starts now."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _HERTZ)


def read_process(pid: int) -> Process | None:
    """Read one process, or ``None`` if there is none."""
    try:
        return parse_stat(_read(f"/proc/{pid}/stat"))
    except (OSError, ValueError):
        return None


def read_table() -> dict[int, Process]:
    """Read all processes of the machine.

    The entries are of slightly different moments.  One whose parent is not in the table was read
    before that parent died: it is read again, so that it is found where it is now.
    """
    table: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := read_process(int(name))) is not None:
            table[process.pid] = process
    for _ in range(3):
        lost = [p.pid for p in table.values() if p.parent not in table and p.parent != 0]
        if not lost:
            break
        for pid in lost:
            process = read_process(pid)
            if process is None:
                del table[pid]
            else:
                table[pid] = process
    return table


def child_pids() -> Collection[int]:
    """List the children of this single-threaded process, zombies among them."""
    pid = os.getpid()
    try:
        # Only where the kernel has CONFIG_PROC_CHILDREN.
        return [int(child) for child in _read(f"/proc/self/task/{pid}/children").split()]
    except OSError:
        return [process.pid for process in read_table().values() if process.parent == pid]


def send_signal(process: Process, number: int) -> bool:
    """Signal a process found in a table, unless its pid is another's by now.

    :return: whether the signal was sent, or the process is gone; false where it is not ours to
        signal (it has become another user's).
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except (OSError, AttributeError):
        descriptor = -1  # gone, or a kernel before 5.3: then only the start time guards
    try:
        now = read_process(process.pid)
        if now is None or now.start != process.start:
            return True
        if descriptor >= 0:
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return True


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, 65536)
        if len(data) < 2048:  # a file made of lines comes in pages that are not quite full
            return data
        parts = [data]
        while data:
            data = os.read(descriptor, 65536)
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(descriptor)
