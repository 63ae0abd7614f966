"""Keys and keyrings: who may log in with which secret, as a TOML file says.

A keyring is a file of ``[[key]]`` tables::

    [[key]]
    id = "ops-2026b"                       # the key id of the login
    identity = "ops"                       # what rules and logs speak of; the id if absent
    secret = "base64"                      # or secret_file = "a file with the base64 in it",
                                           # or, on a client, master = "base64"
    groups = ["monitoring"]
    hosts = ["web*"]                       # on a client: where it is used; everywhere if absent
    not_before = 2026-01-01T00:00:00Z      # times need an offset: a local time is refused, since
    not_after = 2026-12-31T23:59:59Z       # it would mean another moment on another machine
    revoked = false
"""

from __future__ import annotations

import base64
import binascii
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Self

from sockproto.errors import KeyringError
from sockproto.key import Key, derive_secret, is_id, moment_expected, new_key, shown
from sockproto.private_file import FileState, file_state, read_private

__all__ = ["Key", "Keyring", "KeyringMissing", "derive_secret", "is_id", "new_key"]

_BEGINNING = datetime.min.replace(tzinfo=UTC)


class KeyringMissing(KeyringError):
    """There is no file at the keyring's path."""


class Keyring(Mapping[str, Key]):
    """Keys by id, in the order of their file.

    :param keys: the keys.
    :param path: where they came from, for messages.
    :raises KeyringError: two keys have the same id.
    """

    def __init__(self, keys: Iterable[Key] = (), path: str = "keyring") -> None:
        self._path = path
        self._keys: dict[str, Key] = {}
        for number, key in enumerate(keys, 1):
            if key.id in self._keys:
                first = list(self._keys).index(key.id) + 1
                raise KeyringError(
                    f"{path}: key {number} ({key.id!r}): the id is that of key {first} already"
                )
            self._keys[key.id] = key

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        euid: Callable[[], int] = os.geteuid,
        seen: dict[str, FileState | None] | None = None,
    ) -> Self:
        """Read a keyring from its file, and the files of secrets that it names.

        :param path: the file, as :func:`~sockproto.private_file.read_private` wants it.
        :param euid: who reads.
        :param seen: is filled, even on an error, with the files looked at and what they were then.
        :raises KeyringMissing: there is no such file.
        :raises KeyringError: anything else is wrong with it.
        """
        path = os.fspath(path)
        seen = {} if seen is None else seen

        def read(name: str) -> bytes:
            seen[name] = file_state(name)
            return read_private(name, euid)

        def read_secret(name: str) -> bytes:
            full = os.path.join(os.path.dirname(path), name)
            try:
                return read(full)
            except FileNotFoundError:
                raise KeyringError(f"{full}: no such file") from None

        try:
            content = read(path)
        except FileNotFoundError:
            raise KeyringMissing(
                f"{path}: no such keyring (to make it: sockproto keys new owner --keyring {path})"
            ) from None
        return cls.parse(content, path, read_secret)

    @classmethod
    def parse(
        cls, content: bytes, path: str, read_secret: Callable[[str], bytes] | None = None
    ) -> Self:
        """Read a keyring from its text.

        :param content: TOML.
        :param path: where it came from, for messages.
        :param read_secret: reads a ``secret_file``; without it, that field is refused.
        :raises KeyringError: it cannot be used.
        """
        try:
            document = tomllib.loads(content.decode("utf-8"))
        except UnicodeDecodeError:
            raise KeyringError(f"{path}: expected TOML, which is UTF-8 text") from None
        except RecursionError:
            raise KeyringError(f"{path}: expected TOML: nested too deeply") from None
        except ValueError as error:
            raise KeyringError(f"{path}: expected TOML: {error}") from None
        for name in document:
            if name != "key":
                raise KeyringError(f"{path}: unknown name {shown(name)}: expected [[key]] tables")
        tables = document.get("key", [])
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            raise KeyringError(f"{path}: key: expected tables, each headed [[key]]")
        keys = []
        for number, table in enumerate(tables, 1):
            try:
                keys.append(_key_of(table, read_secret))
            except KeyringError as error:
                named = f" ({table['id']!r})" if is_id(table.get("id")) else ""
                raise KeyringError(f"{path}: key {number}{named}: {error}") from None
        return cls(keys, path)

    def __getitem__(self, key_id: str) -> Key:
        return self._keys[key_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<Keyring {self._path}: {', '.join(self._keys) or 'no keys'}>"

    def newest(self, identity: str, host: str | None = None, now: datetime | None = None) -> Key:
        """The newest valid key of an identity for a host.

        The one whose ``not_before`` is latest, a key without one being older than any; of several
        the one that stands last.

        :param host: the host's name; without one, a key for any host will do.
        :param now: the time, aware; by default, the machine's.
        :raises KeyringError: there is none; the message says why.
        """
        moment = datetime.now(UTC) if now is None else now
        keys = [key for key in self.values() if key.identity == identity]
        if not keys:
            known = list(dict.fromkeys(key.identity for key in self.values()))
            hint = _nearest(identity, known) or (
                f": there is {', '.join(map(repr, known[:5]))}" if known else ": it has no keys"
            )
            raise KeyringError(f"{self._path}: no key of the identity {shown(identity)}{hint}")
        fitting = [key for key in keys if host is None or key.fits_host(host)]
        if not fitting:
            places = "; ".join(f"{key.id}: {', '.join(key.hosts)}" for key in keys[:5])
            raise KeyringError(
                f"{self._path}: no key of the identity {identity!r} is for the host "
                f"{shown(host)} ({places})"
            )
        valid = [key for key in fitting if key.problem(moment) is None]
        if not valid:
            reasons = "; ".join(f"{key.id}: {key.problem(moment)}" for key in fitting[:5])
            where = "" if host is None else f" for the host {shown(host)}"
            raise KeyringError(
                f"{self._path}: no key of the identity {identity!r}{where} is valid now ({reasons})"
            )
        # max() takes the first of several: backwards, that is the one that stands last.
        return max(reversed(valid), key=lambda key: key.not_before or _BEGINNING)


def _key_of(table: dict[str, Any], read_secret: Callable[[str], bytes] | None) -> Key:
    """One ``[[key]]`` table as a key."""
    for name in table:
        if name not in _FIELDS:
            raise KeyringError(f"unknown field {shown(name)}{_nearest(name, list(_FIELDS))}")
    if "id" not in table:
        raise KeyringError("expected an id")
    given = {name: _FIELDS[name](name, value) for name, value in table.items()}
    if sum(name in given for name in ("secret", "secret_file", "master")) != 1:
        raise KeyringError("expected one of secret, secret_file and master")
    file = given.pop("secret_file", None)
    if file is not None:
        if read_secret is None:
            raise KeyringError("secret_file: expected the secret itself here")
        try:
            text = read_secret(file).decode("ascii")
        except UnicodeDecodeError:
            raise KeyringError(f"secret_file: expected base64 in {file}") from None
        except KeyringError as error:
            raise KeyringError(f"secret_file: {error}") from None
        given["secret"] = _base64("secret_file", text)
    return Key(**given)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise KeyringError(f"{name}: expected text in quotes")
    return value


def _base64(name: str, value: object) -> bytes:
    try:
        return base64.b64decode(_text(name, value).strip(), validate=True)
    except (binascii.Error, ValueError):
        raise KeyringError(f"{name}: expected base64") from None


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise KeyringError(f'{name}: expected an array of texts, such as ["one", "two"]')
    return tuple(value)


def _moment(name: str, value: object) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise KeyringError(moment_expected(name))
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise KeyringError(f"{name}: expected true or false")
    return value


_FIELDS: Mapping[str, Callable[[str, object], Any]] = {
    "id": _text,
    "identity": _text,
    "secret": _base64,
    "secret_file": _text,
    "master": _base64,
    "groups": _texts,
    "hosts": _texts,
    "not_before": _moment,
    "not_after": _moment,
    "revoked": _flag,
}


def _nearest(name: str, known: list[str]) -> str:
    """A hint at the nearest known name, if there is one."""
    from difflib import get_close_matches  # only errors need it

    near = get_close_matches(name, known, n=1)
    return f": did you mean {near[0]!r}?" if near else ""
