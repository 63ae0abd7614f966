"""Changes to a keyring's file: whole or not at all, one at a time, and the rest stays as it is."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from attrs import evolve, fields

from sockproto.errors import KeyringError
from sockproto.key import Key, new_key
from sockproto.keyring import Keyring, KeyringMissing

__all__ = ["add_keys", "create_keyring", "key_table", "moment_text", "revoke_key"]

_HEADER = "# A keyring of sockproto. Its secrets are for its owner alone: keep it at mode 0600.\n"


def key_table(key: Key, with_secret: bool = True) -> str:
    """A key as a ``[[key]]`` table.

    :param with_secret: if not, a comment stands in the secret's place.
    """
    lines = ["[[key]]", f"id = {_quoted(key.id)}"]
    if key.identity != key.id:
        lines.append(f"identity = {_quoted(key.identity)}")
    for name, secret in (("secret", key.secret), ("master", key.master)):
        if secret is not None:
            text = f'{name} = "{base64.b64encode(secret).decode("ascii")}"'
            lines.append(text if with_secret else f"# {name}: {len(secret)} bytes, not shown")
    for name, texts in (("groups", key.groups), ("hosts", key.hosts)):
        if texts:
            lines.append(f"{name} = [{', '.join(map(_quoted, texts))}]")
    for name, moment in (("not_before", key.not_before), ("not_after", key.not_after)):
        if moment is not None:
            lines.append(f"{name} = {moment_text(moment)}")
    if key.revoked:
        lines.append("revoked = true")
    return "\n".join(lines) + "\n"


def moment_text(moment: datetime) -> str:
    """A time as TOML has it (RFC 3339)."""
    return moment.isoformat().replace("+00:00", "Z")


def create_keyring(path: str | os.PathLike[str]) -> Keyring:
    """Make a keyring with one key, ``owner``, and the folders above it that are missing.

    :param path: where nothing is yet.
    :raises KeyringError: something is there, or it cannot be made.
    """
    path = os.fspath(path)
    key = new_key("owner")
    try:
        _create(path, [key])
    except FileExistsError:
        raise KeyringError(f"{path}: there is something already") from None
    return Keyring([key], path)


def add_keys(
    path: str | os.PathLike[str],
    keys: Iterable[Key],
    *,
    keep_existing: bool = False,
    euid: Callable[[], int] = os.geteuid,
) -> list[Key]:
    """Add keys to a keyring, which is made if there is none: all of them or none.

    :param keys: the keys; what is there already in the same words is left alone.
    :param keep_existing: leave a key alone that is there in other words too.
    :param euid: who does it.
    :return: those that have been added.
    :raises KeyringError: a key is there in other words, or the file cannot be used or written.
    """
    path = os.fspath(path)
    wanted = Keyring(keys, "the keys to add")
    while True:
        try:
            with _locked(path, euid) as (content, keyring):
                added = [
                    key
                    for key in wanted.values()
                    if not _is_there(key, keyring, path, keep_existing)
                ]
                if added:
                    tables = "".join(f"\n{key_table(key)}" for key in added)
                    end = "" if content.endswith(b"\n") or not content else "\n"
                    new = content + (end + tables).encode("utf-8")
                    _replace(path, new, [*keyring.values(), *added], euid)
                return added
        except KeyringMissing:
            try:
                _create(path, wanted.values())
            except FileExistsError:
                continue  # another process was faster: its keys stay
            return list(wanted.values())


def revoke_key(
    path: str | os.PathLike[str], key_id: str, *, euid: Callable[[], int] = os.geteuid
) -> bool:
    """Mark a key as revoked.

    :return: whether it was not revoked before.
    :raises KeyringError: there is no such key, or the file cannot be used or written.
    """
    path = os.fspath(path)
    with _locked(path, euid) as (content, keyring):
        if key_id not in keyring:
            raise KeyringError(f"{path}: no key with the id {key_id!r}")
        if keyring[key_id].revoked:
            return False
        new = _with_revoked(path, content.decode("utf-8"), list(keyring).index(key_id))
        revoked = evolve(keyring[key_id], revoked=True)
        _replace(
            path, new, [revoked if key.id == key_id else key for key in keyring.values()], euid
        )
        return True


def _is_there(key: Key, keyring: Keyring, path: str, keep_existing: bool) -> bool:
    """Whether a keyring has this very key; another one under its id is an error unless wanted."""
    there = keyring.get(key.id)
    if there is None:
        return False
    if there != key and not keep_existing:
        other = [
            each.name
            for each in fields(Key)
            if getattr(there, each.name) != getattr(key, each.name)
        ]
        raise KeyringError(
            f"{path}: there is another key {key.id!r} already, with another {', '.join(other)}"
        )
    return True


def _with_revoked(path: str, text: str, index: int) -> bytes:
    """The text of a keyring with ``revoked = true`` in the table with an index."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError
    from tomlkit.items import AoT, Comment, Item, Table, Whitespace

    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise KeyringError(f"{path}: cannot be edited: {error}") from None
    tables = document["key"]
    table = tables[index] if isinstance(tables, AoT) else None
    if not isinstance(table, Table):
        raise KeyringError(f"{path}: cannot be edited: expected its keys as [[key]] tables")
    # What stands between this table and the next, often a comment on that one, stays behind it.
    body = table.value.body
    rest: list[tuple[object, Item]] = []
    if "revoked" not in table:
        end = len(body)
        while (
            end and body[end - 1][0] is None and isinstance(body[end - 1][1], (Comment, Whitespace))
        ):
            end -= 1
        rest = list(body[end:])
        del body[end:]
    table["revoked"] = True
    body.extend(rest)  # type: ignore[arg-type]
    return tomlkit.dumps(document).encode("utf-8")


@contextmanager
def _locked(path: str, euid: Callable[[], int]) -> Iterator[tuple[bytes, Keyring]]:
    """Keep other editors of a keyring out; gives its text and what that says.

    The lock is on the file itself, so that nothing else is left in the folder; and since an editor
    puts another file in its place, the path has to name the locked one still once the lock is had.
    """
    while True:
        Keyring.load(path, euid=euid)  # before it is opened for writing: is it a file of ours?
        try:
            # For writing, since a lock over NFS needs that.
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise KeyringError(f"{path}: cannot be changed: {error.strerror}") from None
        with open(descriptor, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                same = os.path.samestat(os.fstat(descriptor), os.lstat(path))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise KeyringError(f"{path}: cannot be locked: {error.strerror}") from None
            if same:
                yield file.read(), Keyring.load(path, euid=euid)
                return


def _replace(path: str, new: bytes, keys: list[Key], euid: Callable[[], int]) -> None:
    """Put a new text in the place of a keyring's, once it is sure that it says what it should.

    :param keys: what it should say.
    """
    temporary = _write_beside(path, new)
    try:
        try:
            said = list(Keyring.load(temporary, euid=euid).values())
        except KeyringError:
            said = []
        if said != keys:
            raise KeyringError(
                f"{path}: cannot be edited as it is written: expected its keys as [[key]] tables"
            )
        with _reported(path):
            os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path)


def _create(path: str, keys: Iterable[Key]) -> None:
    """Make a keyring where nothing is.

    :raises FileExistsError: something is.
    """
    with _reported(path):
        _make_folders(os.path.dirname(os.path.abspath(path)))
    content = _HEADER + "".join(f"\n{key_table(key)}" for key in keys)
    temporary = _write_beside(path, content.encode("utf-8"))
    try:
        # Unlike a rename, a link never takes the place of what is there.
        with _reported(path):
            os.link(temporary, path)
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    _sync_folder(path)


def _write_beside(path: str, content: bytes) -> str:
    """Write a file of mode 0600 beside another, down to the disk.

    :return: its path.
    """
    folder, name = os.path.split(os.path.abspath(path))
    with _reported(path):
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    return temporary


def _make_folders(folder: str) -> None:
    """Make a folder and those above it that are missing, for their owner alone."""
    if os.path.isdir(folder):
        return
    _make_folders(os.path.dirname(folder))
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)


def _sync_folder(path: str) -> None:
    """Write a folder's entries down to the disk, where its file system can."""
    with suppress(OSError):
        descriptor = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _reported(path: str) -> Iterator[None]:
    """Turn the errors of the system, except that something is there, into errors of the keyring."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise KeyringError(f"{path}: cannot be written: {error.strerror}") from None


def _quoted(text: str) -> str:
    """A text in quotes. Printable ASCII as it is here is quoted in TOML as in JSON."""
    return json.dumps(text)
