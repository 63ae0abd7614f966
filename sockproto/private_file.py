"""Files that hold secrets: read only if nobody else could have read or replaced them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from sockproto.errors import KeyringError

__all__ = ["MAX_SIZE", "FileState", "file_state", "read_private"]

#: The largest file that is read. Ten thousand keys are about 2 MB; more is another kind of file.
MAX_SIZE = 4 * 1024 * 1024

#: What tells one version of a file from the next, with the change time so that a chmod counts too.
FileState = tuple[int, ...]


def file_state(path: str) -> FileState | None:
    """What is at a path now, or ``None`` if nothing can be seen there.

    :param path: a file; a symbolic link is not followed.
    """
    try:
        seen = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size)


def read_private(
    path: str, euid: Callable[[], int] = os.geteuid, max_size: int = MAX_SIZE
) -> bytes:
    """Read a file that only its owner can, the owner being whoever runs this, or root.

    :param path: a regular file, not a symbolic link, without permissions for group and others.
    :param euid: who runs this.
    :param max_size: the most bytes it may have.
    :raises FileNotFoundError: there is none.
    :raises KeyringError: it is not such a file; the message begins with the path.
    """
    # O_NONBLOCK: opening a FIFO without a writer would wait for one.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP and os.path.islink(path):
            reason = "expected the file itself, found a symbolic link"
        else:
            reason = f"cannot be opened: {error.strerror}"
        raise KeyringError(f"{path}: {reason}") from None
    except ValueError:
        raise KeyringError(f"{path!r}: expected the name of a file") from None
    try:
        _check(path, os.fstat(descriptor), euid())
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(max_size + 1)
    except OSError as error:
        raise KeyringError(f"{path}: cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > max_size:
        raise KeyringError(f"{path}: expected at most {max_size} bytes")
    return content


def _check(path: str, found: os.stat_result, euid: int) -> None:
    """Check the file that was opened, which is not always the one that the path names by now."""
    if not stat.S_ISREG(found.st_mode):
        raise KeyringError(f"{path}: expected a regular file")
    if found.st_uid not in (euid, 0):
        wanted = "root" if euid == 0 else f"user {euid} or root"
        raise KeyringError(f"{path}: expected {wanted} as its owner, found user {found.st_uid}")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise KeyringError(
            f"{path}: expected mode 0600, found {mode:04o}: "
            f"others can get at its secrets (chmod 600 {path})"
        )
