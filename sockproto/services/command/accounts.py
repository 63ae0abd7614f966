"""Whom commands run as: the users and groups of rules, and whether the server may become them."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable

from attrs import frozen

from sockproto.services.command.rule import CommandRule

__all__ = ["Account", "account_of", "account_problems", "may_switch"]

# What the spawning takes in one call (CPython's _posixsubprocess).
_MOST_GROUPS = 64
_CAP_SETGID, _CAP_SETUID, _CAP_SYS_NICE = 6, 7, 23


@frozen
class Account:
    """Whom a command runs as.

    :ivar uid: the user; ``None``: the server's.
    :ivar gid: the group; ``None``: the server's.
    :ivar groups: the further groups; ``None``: the server's.
    :ivar name: what the user is called.
    :ivar home: the user's home, which need not be there.
    :ivar shell: the user's shell.
    """

    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None
    name: str
    home: str
    shell: str

    @property
    def is_ours(self) -> bool:
        """Whether the server is this already."""
        return (
            self.uid in (None, os.geteuid())
            and self.gid in (None, os.getegid())
            and (
                self.groups is None
                or {*self.groups, os.getegid()} == {*os.getgroups(), os.getegid()}
            )
        )


def account_of(rule: CommandRule) -> Account | None:
    """Whom a rule's commands run as.

    :return: ``None`` where the rule says nothing of it: they run as the server does.
    :raises ValueError: there is no such user or group.
    """
    if rule.user is None and rule.group is None and rule.groups is None:
        return None
    uid = None if rule.user is None else _user(rule.user)
    entry = _entry(os.geteuid() if uid is None else uid)
    gid = None if rule.group is None else _group(rule.group)
    groups = None if rule.groups is None else tuple(map(_group, rule.groups))
    if uid is not None:
        if gid is None:
            # For a user without an entry the group of the same number.
            gid = uid if entry is None else entry.pw_gid
        if groups is None and (uid, gid) != (os.geteuid(), os.getegid()):
            groups = (gid,) if entry is None else tuple(os.getgrouplist(entry.pw_name, gid))
    if groups is not None and len(groups) > _MOST_GROUPS:
        raise ValueError(
            f"{len(groups)} groups are more than the {_MOST_GROUPS} that a command can have; "
            "name those that matter in groups"
        )
    if entry is None:
        return Account(uid, gid, groups, str(uid), "/", "/bin/sh")
    shell = entry.pw_shell or "/bin/sh"
    return Account(uid, gid, groups, entry.pw_name, entry.pw_dir, shell)


def account_problems(rules: Iterable[CommandRule]) -> list[str]:
    """What keeps this process from running the commands of some rules as they say; a line each."""
    problems = []
    for rule in rules:
        where = f"[[command]] {rule.label}"
        try:
            account = account_of(rule)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        if account is not None and not account.is_ours and not may_switch():
            problems.append(
                f"{where}: runs as another user or group, which takes a server that root starts "
                f"(or one with CAP_SETUID and CAP_SETGID), not one of user {os.geteuid()}"
            )
        least = os.getpriority(os.PRIO_PROCESS, 0)
        if rule.nice is not None and rule.nice < least and not _has(_CAP_SYS_NICE):
            problems.append(
                f"{where}: nice {rule.nice} is under the server's own {least}, which takes a "
                "server that root starts (or one with CAP_SYS_NICE)"
            )
    return problems


def may_switch() -> bool:
    """Whether this process may become any user and group."""
    return _has(_CAP_SETUID) and _has(_CAP_SETGID)


def _has(capability: int) -> bool:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) >> capability & 1)
    except (OSError, ValueError):
        pass
    return os.geteuid() == 0


def _user(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        if name.isdecimal() and int(name) < 2**32 - 1:
            return int(name)
    raise ValueError(f"user: there is no user {name[:80]!a} on this machine")


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if name.isdecimal() and int(name) < 2**32 - 1:
            return int(name)
    raise ValueError(f"there is no group {name[:80]!a} on this machine")


def _entry(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None
