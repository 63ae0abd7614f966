"""Reading as the user whom a server that root starts is to become."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["acting_as", "group_of", "home_of"]


@contextmanager
def acting_as(owner: tuple[int, int] | None) -> Iterator[None]:
    """Have files be opened and made as somebody else would, for a while.

    A file that only root can read would do for the start, but not for a reload; and a file that is
    made is to be theirs.

    :param owner: the user and the group; ``None``: all stays as it is.
    """
    if owner is None:
        yield
        return
    uid, gid = owner
    before = os.geteuid(), os.getegid(), os.getgroups()
    os.setgroups(os.getgrouplist(_name_of(uid), gid) if _name_of(uid) else [gid])
    try:
        os.setegid(gid)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
        os.setgroups(before[2])


def group_of(uid: int) -> int:
    """A user's own group; for one without an entry the group of the same number."""
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def home_of(uid: int) -> str:
    """A user's home; ``/`` for one without an entry."""
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
