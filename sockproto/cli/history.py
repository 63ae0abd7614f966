"""Lines typed at a prompt, kept from one time to the next in a file that only its owner reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

__all__ = ["History", "history_path"]

# As many lines as are kept; the file is cut back to them when it has grown to twice as many.
_MOST = 1000


def history_path(environ: Mapping[str, str]) -> str | None:
    """Where the shell's history is, by the XDG Base Directory Specification.

    :param environ: the environment: XDG_STATE_HOME, else HOME.
    :return: ``None`` where neither says it.
    """
    folder = environ.get("XDG_STATE_HOME", "")
    # The specification has relative paths ignored.
    if not os.path.isabs(folder):
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            return None
        folder = os.path.join(home, ".local", "state")
    return os.path.join(folder, "sockproto", "shell_history")


class History:
    """Lines, the oldest first.

    :param path: the file; ``None``: nothing is kept.
    :param most: how many lines are kept.
    """

    def __init__(self, path: str | None, most: int = _MOST) -> None:
        self._path = path
        self._most = most
        self._last: str | None = None

    def load(self) -> list[str]:
        """The lines kept so far.

        :raises OSError: the file cannot be used; nothing is kept from then on.
        """
        if self._path is None:
            return []
        try:
            os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
            with open(self._open(os.O_RDWR | os.O_CREAT), "rb") as file:
                lines = os.fsdecode(file.read()).split("\n")[:-1]
            if len(lines) >= 2 * self._most:
                self._replace(lines[-self._most :])
        except OSError:
            self._path = None
            raise
        self._last = lines[-1] if lines else None
        return lines[-self._most :]

    def add(self, line: str) -> bool:
        """Keep a line.

        :return: whether it is one to keep: not empty, not after a space, not the last one again.
        :raises OSError: it cannot be kept; nothing is from then on.
        """
        line = line.rstrip("\r\n")
        if not line.strip() or line[0].isspace() or line == self._last or "\n" in line:
            return False
        self._last = line
        if self._path is not None:
            try:
                with open(self._open(os.O_WRONLY | os.O_APPEND | os.O_CREAT), "wb") as file:
                    file.write(os.fsencode(line) + b"\n")
            except OSError:
                self._path = None
                raise
        return True

    def _open(self, flags: int) -> int:
        """Open the file, for its owner alone."""
        assert self._path is not None
        # O_NONBLOCK: a FIFO would be waited for.
        descriptor = os.open(
            self._path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600
        )
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{self._path}: expected a regular file")
            if stat.S_IMODE(found.st_mode) != 0o600:
                os.fchmod(descriptor, 0o600)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _replace(self, lines: list[str]) -> None:
        """Have the file hold these lines, all or none."""
        assert self._path is not None
        temporary = f"{self._path}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(b"".join(os.fsencode(line) + b"\n" for line in lines))
            os.replace(temporary, self._path)
        except BaseException:
            os.unlink(temporary)
            raise
