"""A control group for each command, below a cgroup v2 folder that was delegated to the server."""

from __future__ import annotations

import contextlib
import errno
import os

__all__ = ["CommandGroups"]


class CommandGroups:
    """The groups of the running commands.

    A child is born into its parent's group; so the host itself steps into the command's group
    around the spawn.  To move the child after the fact would leave outside what it forked before.

    :param folder: the delegated group, writable; commands get folders below it.
    :raises OSError: it is not a cgroup v2 folder that can be used.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        # The host gets a group as well: with controllers in use only leaves may hold processes.
        self._own = os.path.join(folder, f"host-{os.getpid()}")
        self._left: list[str] = []
        if not os.path.exists(os.path.join(folder, "cgroup.procs")):
            raise FileNotFoundError(errno.ENOENT, "not a cgroup v2 folder", folder)
        os.mkdir(self._own)
        try:
            self._enter(self._own)
        except OSError:
            os.rmdir(self._own)
            raise

    def enter(self, run: int) -> None:
        """Make the group of a command and step into it."""
        path = self._path(run)
        os.mkdir(path)
        try:
            self._enter(path)
        except OSError:
            os.rmdir(path)
            raise

    def leave(self) -> None:
        """Step back into the host's own group."""
        self._enter(self._own)

    def pids(self, run: int) -> frozenset[int]:
        """List the processes in a command's group and in the groups it has made below."""
        found: set[int] = set()
        for path, _, _ in os.walk(self._path(run)):
            # Groups come and go, and a group of threads cannot be listed.
            with contextlib.suppress(OSError), open(f"{path}/cgroup.procs", "rb") as procs:
                found.update(int(line) for line in procs)
        return frozenset(found)

    def kill(self, run: int) -> None:
        """Kill a command's whole group at once, as no scan of processes can (Linux 5.14)."""
        with contextlib.suppress(OSError):
            _write(f"{self._path(run)}/cgroup.kill", b"1")

    def remove(self, run: int) -> None:
        """Remove a command's group, now or as soon as what the command left behind has ended."""
        self._left.append(self._path(run))
        self.sweep()

    def sweep(self) -> None:
        """Remove the groups of finished commands that have become empty."""
        self._left = [path for path in self._left if not _remove_tree(path)]

    def close(self) -> None:
        """Step out of the host's own group and remove it, so that the folder can be removed."""
        self.sweep()
        with contextlib.suppress(OSError):
            self._enter(self._folder)
            os.rmdir(self._own)

    def _path(self, run: int) -> str:
        return f"{self._own}.run-{run}"

    def _enter(self, path: str) -> None:
        _write(f"{path}/cgroup.procs", b"0")


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _remove_tree(path: str) -> bool:
    try:
        for folder, _, _ in os.walk(path, topdown=False):
            os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
