"""The client's configuration: agents by name, and names for several of them."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

from attrs import frozen

from sockproto.errors import ConfigurationError, KeyringError
from sockproto.keyring_file import user_folder
from sockproto.private_file import FileState, file_state
from sockproto.target import Target

__all__ = ["SYSTEM_PATH", "Host", "Hosts", "known_hosts"]

#: Read before the user's own file, whose entries go before the ones here.
SYSTEM_PATH = "/etc/sockproto/client.toml"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_SERVER_ID = re.compile(r"[A-Za-z0-9._@-]{1,64}", re.ASCII)
_TABLES = ("hosts", "groups")
# A thousand hosts are a tenth of it; more is another kind of file.
_MAX_SIZE = 4 * 1024 * 1024


@frozen
class Host:
    """One ``[hosts.NAME]`` table.

    :ivar name: what it is called here.
    :ivar connect: WHERE: ``tcp:HOST:PORT``, ``unix:PATH`` or ``HOST[:PORT]``; the name itself
        unless given.
    :ivar identity: whose key to log in with.
    :ivar server_id: the server expected.
    :ivar keyring: the path of the keyring.
    :ivar plaintext: whether ``tcp:`` may go beyond this machine.
    """

    name: str
    connect: str
    identity: str | None = None
    server_id: str | None = None
    keyring: str | None = None
    plaintext: bool = False


@frozen
class Hosts:
    """All that the client's configuration names.

    :ivar hosts: by name.
    :ivar groups: the names of hosts, by the name of the group.
    """

    hosts: Mapping[str, Host] = MappingProxyType({})
    groups: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def find(self, where: str) -> Host | None:
        """The host of that name, if there is one.

        :raises ConfigurationError: it is a group.
        """
        if where in self.groups:
            raise ConfigurationError(
                f"{where} is a group of {len(self.groups[where])} hosts: expected one host"
                " (`sockproto run` takes a group)"
            )
        return self.hosts.get(where)

    def members(self, where: str) -> tuple[str, ...] | None:
        """The names of the hosts of a group; ``None`` if there is no such group."""
        return self.groups.get(where)


_NOTHING = Hosts()


def known_hosts(where: str, environ: Mapping[str, str]) -> Hosts:
    """The client's configuration, for somebody who wants to connect to WHERE.

    Nothing is read for ``tcp:`` and ``unix:``, which are addresses already.

    :param environ: says where the user's own file is; /etc/sockproto/client.toml is read before it.
    :raises ConfigurationError: a file of it cannot be used; the message says where and why.
    """
    if where.startswith(("tcp:", "unix:")):
        return _NOTHING
    paths = [SYSTEM_PATH]
    with suppress(KeyringError):  # a daemon's user may have no home
        paths.append(os.path.join(user_folder(environ), "client.toml"))
    return _merged(tuple((path, state) for path in paths if (state := _state(path)) is not None))


def _state(path: str) -> FileState | None:
    # Through links: dotfiles are often kept elsewhere.
    return file_state(os.path.realpath(path))


@lru_cache(maxsize=4)
def _merged(files: tuple[tuple[str, FileState], ...]) -> Hosts:
    """The files as one; they are read again once they have changed.

    :raises ConfigurationError: one of them cannot be used.
    """
    if not files:
        return _NOTHING
    hosts: dict[str, Host] = {}
    groups: dict[str, tuple[str, ...]] = {}
    origin: dict[str, str] = {}
    for path, _ in files:
        table = _read(path)
        here = {name: _host(path, name, entry) for name, entry in _entries(path, table, "hosts")}
        teams = {name: _group(path, name, entry) for name, entry in _entries(path, table, "groups")}
        for name in here:
            groups.pop(name, None)
            if name in teams:
                _fail(path, f"groups.{name}", "there is a host of that name")
        for name in teams:
            hosts.pop(name, None)
            origin[name] = path
        hosts.update(here)
        groups.update(teams)
    for name, members in groups.items():
        for member in members:
            if member not in hosts:
                problem = f"there is no host {member!a}{_near(member, hosts)}"
                _fail(origin[name], f"groups.{name}", problem)
    return Hosts(MappingProxyType(hosts), MappingProxyType(groups))


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            data = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
        # Whoever writes it says which server is believed to be which.
        raise ConfigurationError(
            f"{path}: expected that only its reader or root can write it, "
            f"found mode {stat.S_IMODE(found.st_mode):04o} of user {found.st_uid}"
        )
    if len(data) > _MAX_SIZE:
        raise ConfigurationError(f"{path}: expected at most {_MAX_SIZE} bytes")
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from None
    for key in table:
        if key not in _TABLES:
            _fail(path, key, f"unknown key{_near(key, _TABLES)}")
    return table


def _entries(path: str, table: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        _fail(path, key, "expected a table")
    for name in found:
        if _NAME.fullmatch(name) is None:
            _fail(path, f"{key}.{name!a}", "expected a name of 1 to 64 letters, digits or ._-")
    return list(found.items())


def _host(path: str, name: str, entry: object) -> Host:
    place = f"hosts.{name}"
    if not isinstance(entry, dict):
        _fail(path, place, f"expected a table: [{place}]")
    kinds = {"plaintext": (bool, "true or false")}
    known = ("connect", "identity", "server_id", "keyring", "plaintext")
    for key, value in entry.items():
        if key not in known:
            _fail(path, place, f"unknown key {key!a}{_near(key, known)}")
        kind, expected = kinds.get(key, (str, "text"))
        if not isinstance(value, kind) or value == "":
            _fail(path, f"{place}.{key}", f"expected {expected}")
    for key in ("identity", "server_id"):
        if key in entry and _SERVER_ID.fullmatch(entry[key]) is None:
            _fail(path, f"{place}.{key}", "expected 1 to 64 letters, digits or ._@-")
    values = {"connect": name, **entry}
    try:
        Target.parse(values["connect"], bool(values.get("plaintext")))
    except ConfigurationError as error:
        _fail(path, f"{place}.connect", str(error))
    if "keyring" in values:
        folder = os.path.dirname(os.path.abspath(path))
        values["keyring"] = os.path.join(folder, os.path.expanduser(values["keyring"]))
    return Host(name, **values)


def _group(path: str, name: str, entry: object) -> tuple[str, ...]:
    if not isinstance(entry, list) or not entry or not all(isinstance(one, str) for one in entry):
        _fail(path, f"groups.{name}", 'expected an array of hosts, such as ["web1", "web2"]')
    return tuple(dict.fromkeys(entry))


def _near(word: str, known: Collection[str]) -> str:
    from difflib import get_close_matches  # only errors need it

    found = get_close_matches(word, list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def _fail(path: str, key: str, problem: str) -> NoReturn:
    raise ConfigurationError(f"{path}: {key}: {problem}")
