"""A server's keys: the keyring file, followed, with its errors in the log."""

from __future__ import annotations

import os
from pathlib import Path

from sockproto.errors import KeyringError
from sockproto.key import Key
from sockproto.keyring import Keyring, KeyringMissing
from sockproto.keyring_edit import create_keyring
from sockproto.keyring_file import KeyringFile
from sockproto.logs import Logger, Whole

__all__ = ["ServerKeys"]


class ServerKeys:
    """Looks keys up, and says in the log when the keyring cannot be read any longer.

    :param path: the keyring's file.
    :param needed: whether anybody logs in at all; if not, the file is not looked at.
    :ivar made: whether it was there only once :meth:`open` had made it.
    """

    _log = Logger()

    def __init__(self, path: str | os.PathLike[str], needed: bool = True) -> None:
        self.path = Path(path)
        self.needed = needed
        self.made = False
        self._file = KeyringFile(path)
        self._told = ""

    def open(self, create: bool) -> None:
        """Read the keyring for the first time.

        :param create: whether to make one with the key ``owner`` where there is none.
        :raises KeyringError: it cannot be used.
        """
        if not self.needed:
            return
        try:
            self._file.reload()
        except KeyringMissing:
            if not create:
                raise
            self._make()

    def _make(self) -> None:
        try:
            create_keyring(self.path)
            self.made = True
        except KeyringError as error:
            # If another server has made it meanwhile, that one is as good.
            try:
                self._file.reload()
            except KeyringMissing:
                raise error from None
        else:
            self._file.reload()

    def current(self) -> Keyring:
        """The keyring in force: the newest that could be read."""
        if not self.needed:
            return Keyring()
        keyring = self._file.current()
        self._noticed()
        return keyring

    def get(self, key_id: str) -> Key | None:
        """The key of that id in the keyring in force, valid or not."""
        return self.current().get(key_id)

    def reload(self) -> None:
        """Read the keyring now.

        :raises KeyringError: it cannot be used; the one before stays in force.
        """
        if not self.needed:
            return
        try:
            self._file.reload()
        finally:
            self._told = str(self._file.error or "")

    def remind(self) -> None:
        """Log, where that is so, that the keyring in force is not what the file holds."""
        self._told = str(self._file.error or "")
        if self._told:
            self._log.error(
                "the keyring cannot be read, and the one before stays in force: {error}",
                error=Whole(self._told),
            )

    def _noticed(self) -> None:
        """Say once what is wrong, and once that it is not so any longer."""
        told, now = self._told, str(self._file.error or "")
        if now and now != told:
            self.remind()
        elif told and not now:
            self._told = ""
            self._log.info("the keyring {path} can be read again", path=Whole(self.path))
