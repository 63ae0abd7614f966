"""The folder that is uploaded to and downloaded from: nothing outside of it is ever touched.

It is opened once.  Files are opened in it by their names alone, beneath that descriptor, without
following a link; what is not a regular file is none.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import ntpath
import os
import secrets
import stat
from typing import Any

__all__ = ["PIECE", "Download", "Folder", "Unavailable", "Upload", "base_name"]

#: Bytes that are read or written at once: a millisecond's work.
PIECE = 64 * 1024

_PREFIX = ".sockproto-"
_MAX_NAME = 255
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Unavailable(Exception):
    """A file that cannot be had or stored; the message is fit to be sent to a client."""


def base_name(text: str) -> str:
    """The last part of a path, as a file in the folder may be called.

    :param text: a path of the client's own machine, Windows' among them.
    :raises Unavailable: that is no name for a file here. Hidden ones are not: the folder may be
        somebody's home.
    """
    name = ntpath.basename(text)
    if not name.strip() or name.startswith(".") or not name.isprintable():
        raise Unavailable("that is no name for a file here")
    if len(name.encode()) > _MAX_NAME:
        raise Unavailable(f"the name is longer than {_MAX_NAME} bytes")
    return name


class Folder:
    """A folder, open.

    :param path: where; it is made, for its user alone, if it is missing.
    :param file_size: bytes of a file that may be uploaded.
    :param folder_size: bytes of all files.
    :param files: how many.
    :raises OSError: it cannot be had, or others than this process's user and root can write to it.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, file_size: int, folder_size: int, files: int
    ) -> None:
        self._file_size = file_size
        self._folder_size = folder_size
        self._files = files
        #: What is promised to uploads under way.
        self._promised: dict[Upload, int] = {}
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._check(path)
            self._sweep()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Have no folder any longer."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def download(self, name: str) -> Download:
        """Open a file.

        :param name: as the client says it: a name, not a path.
        :raises Unavailable: there is none.
        """
        if base_name(name) != name:
            raise Unavailable("expected the name of a file, not a path")
        descriptor = -1
        try:
            # Looked at before it is opened: to open a device can set it going.
            seen = os.lstat(name, dir_fd=self.descriptor)
            if stat.S_ISREG(seen.st_mode):
                descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=self.descriptor)
                seen = os.fstat(descriptor)
                if stat.S_ISREG(seen.st_mode):
                    return Download(descriptor, name, seen.st_size)
                os.close(descriptor)
        except OSError:
            pass
        raise Unavailable("there is no such file")

    def upload(self, name: str, size: int, md5: str) -> Upload:
        """Begin to store a file.

        :param name: what the client calls it; its last part counts.
        :param size: its bytes.
        :param md5: the digest that it has to have, in hex.
        :raises Unavailable: it is too large, or no name for a file.
        """
        name = base_name(name)
        if size > self._file_size:
            raise Unavailable(f"a file of {size} bytes; expected at most {self._file_size}")
        try:
            count, used = self._used()
            if count + len(self._promised) >= self._files:
                raise Unavailable(f"the folder has {count} files, and takes no more")
            if used + sum(self._promised.values()) + size > self._folder_size:
                raise Unavailable(f"there is no room left for {size} bytes")
            upload = Upload(self, name, size, md5)
        except OSError as error:
            raise Unavailable(f"cannot be stored: {error.strerror}") from None
        self._promised[upload] = size
        return upload

    def ended(self, upload: Upload) -> None:
        """An upload has come to its end: nothing is promised to it any longer."""
        self._promised.pop(upload, None)

    def _used(self) -> tuple[int, int]:
        """How many files there are, and their bytes."""
        count = used = 0
        with os.scandir(self.descriptor) as entries:
            for entry in entries:
                if entry.name.startswith(_PREFIX):
                    continue
                count += 1
                if count > self._files:
                    break
                try:
                    used += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    count -= 1
        return count, used

    def _check(self, path: Any) -> None:
        """:raises PermissionError: somebody else can put files, or links, there."""
        found = os.fstat(self.descriptor)
        if found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o022:
            raise PermissionError(
                1,
                "expected a folder that only its owner, who runs this, can write to; found user "
                f"{found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}",
                os.fspath(path),
            )

    def _sweep(self) -> None:
        """Remove what a server that was killed has left; whoever still writes holds a lock."""
        for name in os.listdir(self.descriptor):
            if not name.startswith(_PREFIX):
                continue
            try:
                descriptor = os.open(name, os.O_WRONLY | _FLAGS, dir_fd=self.descriptor)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=self.descriptor)
            except OSError:
                pass
            finally:
                os.close(descriptor)


class Download:
    """A file that is open to be read.

    :ivar name: its name.
    :ivar size: its bytes when it was opened.
    """

    def __init__(self, descriptor: int, name: str, size: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.md5(usedforsecurity=False)
        self._digested = 0
        self.name = name
        self.size = size

    def digest(self) -> str | None:
        """Digest one more piece.

        :return: the MD5 in hex, once that is all.
        :raises OSError: it cannot be read, or is shorter by now.
        """
        if self._digested < self.size:
            piece = self.read(self._digested)
            self._digest.update(piece)
            self._digested += len(piece)
        return None if self._digested < self.size else self._digest.hexdigest()

    def read(self, offset: int) -> bytes:
        """Read one piece.

        :param offset: where it begins; under :attr:`size`.
        :raises OSError: likewise.
        """
        piece = os.pread(self._descriptor, min(PIECE, self.size - offset), offset)
        if not piece:
            raise OSError(5, "the file has become shorter")
        return piece

    def close(self) -> None:
        """Be done with it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Upload:
    """A file under way: a temporary one, which gets its name once all of it is there and right.

    :param folder: where to.
    :param name: what it will be called; a file of that name is replaced.
    """

    def __init__(self, folder: Folder, name: str, size: int, md5: str) -> None:
        self._folder = folder
        self.name = name
        self.size = size
        self._md5 = md5.lower()
        self._digest = hashlib.md5(usedforsecurity=False)
        self._temporary = f"{_PREFIX}{secrets.token_hex(8)}"
        self._descriptor = os.open(
            self._temporary,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS,
            0o600,
            dir_fd=folder.descriptor,
        )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.drop()
            raise

    def write(self, data: bytes) -> None:
        """Write what comes next.

        :raises OSError: the disk is full, or the like.
        """
        self._digest.update(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left[:PIECE]) :]

    @property
    def is_right(self) -> bool:
        """Whether what was written has the digest that was announced."""
        found = self._digest.hexdigest()
        return hmac.compare_digest(found.encode(), self._md5.encode("utf-8", "replace"))

    def publish(self) -> None:
        """Have it on the disk, then give it its name.  This waits for the disk.

        :raises OSError: it cannot; :meth:`drop` is still due.
        """
        folder = self._folder.descriptor
        os.fsync(self._descriptor)
        try:
            there = os.lstat(self.name, dir_fd=folder)
        except FileNotFoundError:
            pass
        else:
            if not stat.S_ISREG(there.st_mode):
                raise FileExistsError(17, "there is something of that name that is no file")
        os.rename(self._temporary, self.name, src_dir_fd=folder, dst_dir_fd=folder)
        self._temporary = ""
        os.fsync(folder)

    def drop(self) -> None:
        """Be done with it; what has no name yet is removed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        os.close(descriptor)
        self._folder.ended(self)
        temporary, self._temporary = self._temporary, ""
        if temporary:
            try:
                os.unlink(temporary, dir_fd=self._folder.descriptor)
            except OSError:
                # Somebody else has removed it, or the folder.
                pass
