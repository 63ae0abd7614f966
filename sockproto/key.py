"""One key: its secret, whom it speaks for, where and when it may be used."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable
from datetime import datetime
from fnmatch import fnmatchcase

from attrs import Factory, field, frozen

from sockproto.errors import KeyringError
from sockproto.wire.handshake import MIN_SECRET
from sockproto.wire.handshake_messages import ID_PATTERN

__all__ = ["Key", "derive_secret", "is_id", "moment_expected", "new_key", "shown"]

#: The length of a secret that is made or derived here.
SECRET_LENGTH = 32
_DERIVE_SALT = b"sockproto-key-v1"
_MAX_GLOB = 255


def is_id(text: object) -> bool:
    """Whether something can be a key's id, an identity, a group or a server's id."""
    return isinstance(text, str) and ID_PATTERN.fullmatch(text) is not None


def _texts(given: Iterable[str]) -> tuple[str, ...]:
    """Several texts; a single one is several letters, which nobody means."""
    if isinstance(given, str):
        raise KeyringError(f"expected several texts, found {shown(given)} alone")
    return tuple(given)


@frozen
class Key:
    """One key.

    :ivar id: what the login names it by.
    :ivar identity: whom it speaks for; its id unless given.
    :ivar secret: the secret, at least 16 bytes; or
    :ivar master: that from which the secret for each server is derived.
    :ivar groups: what ``group:NAME`` in a rule means.
    :ivar hosts: globs for the hosts where a client uses it; everywhere if there are none.
    :ivar not_before: when it begins to be valid; aware, as the next.
    :ivar not_after: the last moment at which it is.
    :ivar revoked: whether it is not to be used any more.
    :raises KeyringError: a value cannot be used; the message does not repeat a secret.
    """

    id: str
    identity: str = field(
        default=Factory(lambda self: self.id, takes_self=True),
        kw_only=True,
    )
    secret: bytes | None = field(default=None, repr=False, kw_only=True)
    master: bytes | None = field(default=None, repr=False, kw_only=True)
    groups: tuple[str, ...] = field(default=(), converter=_texts, kw_only=True)
    hosts: tuple[str, ...] = field(default=(), converter=_texts, kw_only=True)
    not_before: datetime | None = field(default=None, kw_only=True)
    not_after: datetime | None = field(default=None, kw_only=True)
    revoked: bool = field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        for name, ids in (
            ("id", [self.id]),
            ("identity", [self.identity]),
            ("groups", self.groups),
        ):
            for one in ids:
                if not is_id(one):
                    raise KeyringError(
                        f"{name}: expected 1 to 64 of the characters A-Z a-z 0-9 . _ @ -, "
                        f"found {shown(one)}"
                    )
        for glob in self.hosts:
            if not (0 < len(glob) <= _MAX_GLOB and glob.isascii() and glob.isprintable()):
                raise KeyringError(
                    f'hosts: expected host names such as "web*", found {shown(glob)}'
                )
        if (self.secret is None) == (self.master is None):
            raise KeyringError("expected one of secret, secret_file and master")
        for name, secret in (("secret", self.secret), ("master", self.master)):
            if secret is not None and len(secret) < MIN_SECRET:
                raise KeyringError(
                    f"{name}: expected at least {MIN_SECRET} bytes, found {len(secret)}"
                )
        for name, moment in (("not_before", self.not_before), ("not_after", self.not_after)):
            if moment is not None and moment.utcoffset() is None:
                raise KeyringError(moment_expected(name))
        if self.not_before and self.not_after and self.not_after < self.not_before:
            raise KeyringError("not_after: expected no time before not_before")

    def problem(self, now: datetime) -> str | None:
        """Why the key cannot be used: ``revoked``, ``expired``, ``not yet valid``; or ``None``.

        :param now: the time, aware.
        """
        if self.revoked:
            return "revoked"
        if self.not_after is not None and now > self.not_after:
            return "expired"
        if self.not_before is not None and now < self.not_before:
            return "not yet valid"
        return None

    def secret_for(self, server_id: str | None) -> bytes:
        """The secret for the login at a server.

        :param server_id: the server expected; only a master's secret depends on it.
        :raises KeyringError: this is a master, and the server is not known or has an unfit id.
        """
        if self.secret is not None:
            return self.secret
        assert self.master is not None
        if server_id is None:
            raise KeyringError(
                f"key {self.id!r} is a master, whose secret is another on each server: "
                "say which server is expected (--server-id)"
            )
        return derive_secret(self.master, self.id, server_id)

    def fits_host(self, name: str) -> bool:
        """Whether the key is for a host, by its name; letters' case does not matter."""
        name = name.lower()
        return not self.hosts or any(fnmatchcase(name, glob.lower()) for glob in self.hosts)


def derive_secret(master: bytes, key_id: str, server_id: str) -> bytes:
    """The secret of a master's key on one server: HKDF-SHA256 (RFC 5869).

    :param master: the input keying material.
    :return: 32 bytes.
    :raises KeyringError: an id is none.
    """
    for name, one in (("key id", key_id), ("server id", server_id)):
        if not is_id(one):
            raise KeyringError(
                f"{name}: expected 1 to 64 of A-Z a-z 0-9 . _ @ -, found {shown(one)}"
            )
    info = b"".join(bytes((len(one),)) + one.encode("ascii") for one in (key_id, server_id))
    return _hkdf(master, _DERIVE_SALT, info)


def _hkdf(material: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 for 32 bytes, which is one block: T(1) of RFC 5869, section 2.3."""
    pseudorandom_key = hmac.digest(salt, material, "sha256")
    return hmac.digest(pseudorandom_key, info + b"\x01", "sha256")


def new_key(
    key_id: str,
    *,
    master: bool = False,
    identity: str | None = None,
    groups: Iterable[str] = (),
    hosts: Iterable[str] = (),
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    random: Callable[[int], bytes] = os.urandom,
) -> Key:
    """Make a key with a random secret, or a random master.

    :param random: the source of random bytes.
    :raises KeyringError: a value cannot be used.
    """
    secret = random(SECRET_LENGTH)
    return Key(
        key_id,
        identity=key_id if identity is None else identity,
        secret=None if master else secret,
        master=secret if master else None,
        groups=groups,
        hosts=hosts,
        not_before=not_before,
        not_after=not_after,
    )


def moment_expected(name: str) -> str:
    return f"{name}: expected a date and time with an offset, such as 2026-12-31T23:59:59Z"


def shown(value: object) -> str:
    """A text in quotes, escaped and short; of anything else its type."""
    if not isinstance(value, str):
        return type(value).__name__
    return ascii(value if len(value) <= 40 else value[:40] + "...")
