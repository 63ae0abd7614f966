"""The audit in a file of its own, one line an entry, through full disks and rotations."""

from __future__ import annotations

import os
import stat
from enum import Enum

from zope.interface import implementer

from sockproto.errors import ConfigurationError
from sockproto.services.command.audit import AuditEntry, IAudit

__all__ = ["FileAudit"]

# Never through a link, and never waiting for whoever reads a FIFO.  Readable, to see how the last
# line ends.
_FLAGS = (
    os.O_RDWR
    | os.O_CREAT
    | os.O_APPEND
    | os.O_NOFOLLOW
    | os.O_NONBLOCK
    | os.O_NOCTTY
    | os.O_CLOEXEC
)


class _Found(Enum):
    SAME = "what is open is what the path names"
    MOVED = "what is open has been moved away, and nothing can be opened in its place"
    NOTHING = "there is nothing to write to"


@implementer(IAudit)
class FileAudit:
    """Appends to a file, each entry by one write, so that lines of several writers never mix.

    Before each entry it looks whether the file is still the one at its path, so that a rotation
    needs no signal.  What is written is with the system, not yet on the disk, when the command
    starts.

    :param path: the file; made with mode 0600 where there is none.
    :param owner: the user and the group who will write it, where that is not who opens it.
    :ivar problem: why the last entry could not be written, or the file not be opened again.
    :ivar lost: how many could not be written since.
    :raises ConfigurationError: it cannot be opened, or others could write it.
    """

    def __init__(self, path: str, owner: tuple[int, int] | None = None) -> None:
        self._path = path
        self._owner = owner
        self.problem = ""
        self.lost = 0
        self._torn = False
        self._descriptor: int | None = None
        self._identity = (0, 0)
        self._open()

    def record(self, entry: AuditEntry) -> None:
        """Append an entry."""
        followed = self._follow()
        line = entry.line(self.lost)
        if self._torn:
            line = b"\n" + line
        written, problem = 0, "there is no file to write to"
        if self._descriptor is not None and followed is not _Found.NOTHING:
            try:
                written = os.write(self._descriptor, line)
                problem = "the disk took only a part of a line"
            except OSError as error:
                problem = error.strerror or str(error)
        if written:
            self._torn = line[written - 1] != 0x0A
        if written >= len(line) - 1:  # the next line brings the end of this one
            self.lost = 0
            if followed is _Found.SAME:
                self.problem = ""
        else:
            self.lost += 1
            self.problem = f"{self._path}: {problem}"

    def reopen(self) -> None:
        """Open it again, as :meth:`record` does by itself after a rotation."""
        self._follow(always=True)

    def close(self) -> None:
        """Close it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _follow(self, always: bool = False) -> _Found:
        """Open what is at the path now, unless it is what is open."""
        if not always:
            try:
                found = os.lstat(self._path)
            except OSError:
                pass
            else:
                if (found.st_dev, found.st_ino) == self._identity and self._descriptor is not None:
                    return _Found.SAME
        try:
            self._open()
        except ConfigurationError as error:
            self.problem = str(error)
            # A file that has no name any longer goes with the last who has it open.
            if self._descriptor is None or not os.fstat(self._descriptor).st_nlink:
                return _Found.NOTHING
            return _Found.MOVED
        return _Found.SAME

    def _open(self) -> None:
        """:raises ConfigurationError: as the class says; what was open stays open."""
        try:
            descriptor = os.open(self._path, _FLAGS, 0o600)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if os.path.islink(self._path):
                reason = "expected the file itself, found a symbolic link"
            raise ConfigurationError(f"{self._path}: cannot be opened: {reason}") from None
        try:
            found = os.fstat(descriptor)
            self._check(found)
            if self._owner is not None and not found.st_size and os.geteuid() == 0:
                os.fchown(descriptor, *self._owner)
            self._torn = bool(found.st_size) and _last_byte(descriptor, found.st_size) != b"\n"
        except OSError as error:
            os.close(descriptor)
            raise ConfigurationError(f"{self._path}: {error.strerror}") from None
        except BaseException:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor, self._identity = descriptor, (found.st_dev, found.st_ino)

    def _check(self, found: os.stat_result) -> None:
        """:raises ConfigurationError: it is no file, or one that others could write."""
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{self._path}: expected a regular file")
        if found.st_nlink > 1:
            raise ConfigurationError(
                f"{self._path}: expected a file of one name, found a hard link"
            )
        owners = {0, os.geteuid(), *((self._owner[0],) if self._owner else ())}
        if found.st_uid not in owners or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigurationError(
                f"{self._path}: expected a file that only the server's user and root can write, "
                f"found mode {stat.S_IMODE(found.st_mode):04o} of user {found.st_uid}"
            )


def _last_byte(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, 1, size - 1)
