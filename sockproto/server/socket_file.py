"""Unix sockets to listen on: for their owner alone, and no trouble after a crash.

Twisted's own lock beside a socket holds a pid, and takes whatever process has that number by now
for the server: in a container, where a server gets the same pid each time, it never starts again
after a crash.  Here the lock is the kernel's, which ends with the process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure

__all__ = ["SocketFile", "SocketFilePort"]

#: Only the server's own user connects; whoever else is to, the endpoint says by ``mode=``.
DEFAULT_MODE = 0o600


class SocketFile:
    """The name of a Unix socket, and the lock beside it.

    :param path: absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lockPath = f"{path}.lock"
        self._lock: int | None = None
        self._made: tuple[int, int] | None = None

    def claim(self) -> None:
        """See that the name can be had: what a dead server left there is removed.

        :raises OSError: it is in use, or cannot be had.
        """
        self._lock = self._locked()
        try:
            self._clear()
        except BaseException:
            self.release()
            raise

    def made(self, owner: tuple[int, int] | None) -> None:
        """The socket is there now.

        :param owner: the user and the group that the server is about to become.
        """
        if owner is not None:
            os.chown(self.path, *owner, follow_symlinks=False)
        self._made = self._identity()

    def release(self) -> None:
        """Remove the socket, if it is still the one that was made, and the lock."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        made, self._made = self._made, None
        for path, ours in (
            (self.path, made is not None and made == self._identity()),
            (self._lockPath, True),
        ):
            try:
                if ours:
                    os.unlink(path)
            except OSError:
                pass  # such as a folder of root's, after the server has become somebody else
        os.close(lock)

    def _locked(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            lock = os.open(self._lockPath, flags, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever held it may have removed the file in the meantime.
                if _same(os.fstat(lock), _lstat(self._lockPath)):
                    return lock
            except BlockingIOError:
                os.close(lock)
                raise OSError(errno.EADDRINUSE, "another server listens there") from None
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)

    def _clear(self) -> None:
        """Remove a socket that nobody listens on."""
        found = _lstat(self.path)
        if found is None:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise OSError(errno.EEXIST, "there is something else than a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            status = probe.connect_ex(self.path)
        # EAGAIN: somebody listens whose queue is full.
        if status in (0, errno.EAGAIN, errno.EINPROGRESS, errno.EPROTOTYPE):
            raise OSError(errno.EADDRINUSE, "another program listens there")
        if status not in (errno.ECONNREFUSED, errno.ENOENT):
            raise OSError(status, os.strerror(status))
        os.unlink(self.path)

    def _identity(self) -> tuple[int, int] | None:
        found = _lstat(self.path)
        return None if found is None else (found.st_dev, found.st_ino)


class SocketFilePort(unix.Port):
    """Listens on a :class:`SocketFile`."""

    def __init__(
        self,
        file: SocketFile,
        factory: IProtocolFactory,
        mode: int,
        backlog: int,
        owner: tuple[int, int] | None,
        reactor: Any,
    ) -> None:
        super().__init__(os.fsencode(file.path), factory, backlog, mode, reactor)
        self._file = file
        self._owner = owner

    def startListening(self) -> None:
        """Claim the name, and listen; a file's mode is set before anybody can connect."""
        self._file.claim()
        try:
            super().startListening()
            self._file.made(self._owner)
        except BaseException:
            self._file.release()
            raise

    def connectionLost(self, reason: Failure) -> None:
        """The port is closed."""
        self._file.release()
        # Not the next class's, which would remove whatever has that name by now, or fail.
        tcp.Port.connectionLost(self, reason)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _same(one: os.stat_result, other: os.stat_result | None) -> bool:
    return other is not None and (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
