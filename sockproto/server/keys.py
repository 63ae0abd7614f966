"""A server's keys: the keyring file, followed, with its errors in the log."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.logger import Logger

from sockproto.errors import KeyringError
from sockproto.key import Key
from sockproto.keyring import KeyringMissing
from sockproto.keyring_edit import create_keyring
from sockproto.keyring_file import KeyringFile

__all__ = ["ServerKeys"]


class ServerKeys:
    """Looks keys up, and says in the log when the keyring cannot be read any longer.

    :param path: the keyring's file.
    """

    _log = Logger()

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = KeyringFile(path)
        self._told: KeyringError | None = None

    def open(self, create: bool) -> None:
        """Read the keyring for the first time.

        :param create: whether to make one with the key ``owner`` where there is none.
        :raises KeyringError: it cannot be used.
        """
        try:
            self._file.reload()
        except KeyringMissing:
            if not create:
                raise
            create_keyring(self.path)
            self._file.reload()
            self._log.info("keyring {path}: made, with one key, owner", path=str(self.path))
        else:
            self._log.info("keyring {path}", path=str(self.path))

    def get(self, key_id: str) -> Key | None:
        """The key of that id, by the newest keyring that can be read; valid or not."""
        key = self._file.get(key_id)
        if self._file.error is not self._told:
            self._told = self._file.error
            self.remind()
        return key

    def reload(self) -> None:
        """Read the keyring now.

        :raises KeyringError: it cannot be used; the one before stays in force.
        """
        self._file.reload()
        self._told = None

    def remind(self) -> None:
        """Log, where that is so, that the keyring in force is not what the file holds."""
        if self._file.error is not None:
            self._log.error(
                "the keyring cannot be read, and the one before stays in force: {error}",
                error=str(self._file.error),
            )
