"""Where the keyring is, and the keyring of a server: read again whenever its file has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from sockproto.errors import KeyringError
from sockproto.key import Key
from sockproto.keyring import Keyring
from sockproto.private_file import FileState, file_state

__all__ = ["KeyringFile", "default_path", "user_folder"]


def default_path(environ: Mapping[str, str]) -> str:
    """The path of a user's own keyring.

    :param environ: as for :func:`user_folder`.
    :raises KeyringError: no such folder is known.
    """
    return os.path.join(user_folder(environ), "keyring.toml")


def user_folder(environ: Mapping[str, str]) -> str:
    """The folder of a user's own configuration, by the XDG Base Directory Specification.

    :param environ: the environment: XDG_CONFIG_HOME, else HOME, else the user's entry in the
        password database.
    :raises KeyringError: none of them says it.
    """
    # The specification has relative paths ignored.
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        home = environ.get("HOME", "")
        if not home:
            import pwd  # only daemons have no HOME

            try:
                home = pwd.getpwuid(os.geteuid()).pw_dir
            except KeyError:
                raise KeyringError(
                    "no keyring is named, and there is no home folder to look in"
                ) from None
        folder = os.path.join(home, ".config")
    return os.path.join(folder, "sockproto")


class KeyringFile:
    """A keyring that follows its file.

    :param path: the file.
    :param euid: who reads it.
    :ivar error: why the file cannot be used as it is now, or ``None`` if it can; until it can
        again, the keyring is what it was before.
    """

    def __init__(self, path: str | os.PathLike[str], euid: Callable[[], int] = os.geteuid) -> None:
        self.path = os.fspath(path)
        self.error: KeyringError | None = None
        self._euid = euid
        self._keyring: Keyring | None = None
        self._seen: dict[str, FileState | None] = {}

    def current(self) -> Keyring:
        """The keyring, read again if its file or one with a secret has changed since the last time.

        :raises KeyringError: it cannot be used, and never could.
        """
        if not self._seen or any(file_state(path) != seen for path, seen in self._seen.items()):
            try:
                return self.reload()
            except KeyringError:
                if self._keyring is None:
                    raise
        if self._keyring is None:
            assert self.error is not None
            raise self.error
        return self._keyring

    def reload(self) -> Keyring:
        """Read the file now.

        :raises KeyringError: it cannot be used; :meth:`current` goes on with what it was before.
        """
        self._seen = {}
        try:
            self._keyring = Keyring.load(self.path, euid=self._euid, seen=self._seen)
        except KeyringError as error:
            self.error = error
            raise
        self.error = None
        return self._keyring

    def get(self, key_id: str) -> Key | None:
        """The key of that id now, valid or not; ``None`` if there is none.

        :raises KeyringError: there has never been a keyring that could be used.
        """
        return self.current().get(key_id)
