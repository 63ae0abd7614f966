"""The line with which a server that has just started says how to try it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from sockproto.keyring import Keyring
from sockproto.server.schema import Configuration, ListenerSettings
from sockproto.target import DEFAULT_WHERE

__all__ = ["trial_command"]

_ARGV = ("uname", "-a")
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def trial_command(
    configuration: Configuration,
    addresses: Sequence[tuple[ListenerSettings, IAddress]],
    keyring: Keyring,
    path: str,
    default: str,
) -> str:
    """What to type in another terminal of this machine.

    Options are named only where their defaults would not do.

    :param addresses: where it listens.
    :param keyring: the keys of those who may log in.
    :param path: where the keyring is.
    :param default: where the client looks for one.
    :return: one line; where nobody can log in, it says so.
    """
    where = next(
        (_where(*each) for each in addresses if each[0].service == "agent" and _where(*each)), ""
    )
    if not where:
        return "there is no agent listening to try"
    now = datetime.now(UTC)
    valid = [key for key in keyring.values() if key.problem(now) is None]
    if not valid:
        return "nobody can log in: the keyring has no key that is valid now"
    # The client's own default goes first.
    valid.sort(key=lambda key: key.identity != "owner")
    rules = configuration.rules
    origin = _origin(where)
    able = [key for key in valid if rules.decide(key.identity, key.groups, _ARGV, origin).allowed]
    key = (able or valid)[0]
    options = []
    if where != DEFAULT_WHERE:
        options += ["--connect", where]
    if os.path.abspath(path) != os.path.abspath(default):
        options += ["--keyring", path]
    if key.identity != "owner":
        options += ["--identity", key.identity]
    what = ["run", *options, "--", *_ARGV] if able else ["ping", *options]
    return f"try: {shlex.join([*_program(), *what])}"


def _where(settings: ListenerSettings, address: IAddress) -> str:
    """A listener as the client's ``--connect`` has it; empty if the client cannot get there."""
    if isinstance(address, UNIXAddress) and address.name and settings.protection is None:
        return f"unix:{os.fsdecode(address.name)}"
    if not isinstance(address, IPv4Address | IPv6Address):
        return ""
    host = _ANYWHERE.get(address.host, address.host)
    shown = f"[{host}]" if ":" in host else host
    if settings.protection is None:
        return f"tcp:{shown}:{address.port}"
    return f"{shown}:{address.port}"


def _origin(where: str) -> str:
    """Where a client of this machine is seen to be, as the ``from`` of a rule has it."""
    if where.startswith("unix:"):
        return "unix"
    host = where.removeprefix("tcp:").rpartition(":")[0]
    return host.strip("[]")


def _program() -> list[str]:
    """How to start the client that came with this server."""
    beside = os.path.join(os.path.dirname(sys.argv[0]), "sockproto")
    found = shutil.which("sockproto")
    if os.path.dirname(sys.argv[0]) and os.access(beside, os.X_OK):
        if found is not None and os.path.samefile(found, beside):
            return ["sockproto"]
        return [beside]
    return ["sockproto"] if found is not None else [sys.executable, "-m", "sockproto"]
