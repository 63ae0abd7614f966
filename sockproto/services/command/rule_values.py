"""The values that a command rule's keys may have, each checked by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Literal

from attrs import Attribute

from sockproto.limits import Network
from sockproto.services.command.parameters import placeholders

__all__ = [
    "ENV_NAME",
    "Origin",
    "a_name",
    "a_path",
    "above_zero",
    "accounts",
    "an_account",
    "an_argv",
    "between",
    "comes_from",
    "environment",
    "environment_patterns",
    "octal",
    "origins",
    "who",
]

#: Where a client may be: a network, or a Unix socket of this machine.
Origin = IPv4Network | IPv6Network | Literal["unix"]

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}", re.ASCII)
_WHO = re.compile(r"(?:group:)?[A-Za-z0-9._@-]{1,64}", re.ASCII)
_ENV_PATTERN = re.compile(r"[A-Za-z0-9_*?]+", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*\$?", re.ASCII)
_OCTAL = re.compile(r"0?[0-7]{1,3}", re.ASCII)

# As scripts for remctl and for ssh's forced commands expect them; see environment.py.
_WHO_ASKED = frozenset(
    ("REMOTE_USER", "REMOTE_ADDR", "REMOTE_HOST", "REMCTL_COMMAND", "SSH_ORIGINAL_COMMAND")
)


def a_name(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    """A validator: what a client can ask for."""
    if value is not None and not _NAME.fullmatch(value):
        raise ValueError(
            "expected a name of 1 to 64 letters, digits or ._@+- (no . @ + - first), "
            f"found {value[:80]!a}"
        )


def who(_instance: Any, _attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    """A validator: identities and groups of keys."""
    for one in value:
        if not _WHO.fullmatch(one):
            raise ValueError(
                'expected identities or "group:NAME", of 1 to 64 letters, digits or ._@-, '
                f"found {one[:80]!a}"
            )


def an_argv(_instance: Any, _attribute: Attribute[Any], value: object) -> None:
    """A validator: a program and its arguments, or ``any``."""
    if isinstance(value, str):
        if value != "any":
            raise ValueError('expected an array of words or "any"')
        return
    assert isinstance(value, tuple)
    if not value or not value[0]:
        raise ValueError("expected at least the program")
    if any("\0" in word for word in value):
        raise ValueError("a word holds a NUL character, which no argument can")
    if placeholders(value[:1]):
        raise ValueError("the program cannot be a parameter; give each program a rule of its own")


def a_path(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    """A validator: an absolute path."""
    if value is not None and (not value.startswith("/") or "\0" in value):
        raise ValueError(f"expected an absolute path, found {value[:80]!a}")


def above_zero(_instance: Any, attribute: Attribute[Any], value: float | None) -> None:
    """A validator: more than nothing."""
    if value is not None and value <= 0:
        raise ValueError(f"{attribute.name} has to be more than 0, not {value}")


def between(low: int, high: int | None = None) -> Any:
    """A validator: ``low`` or more, and at most ``high`` if that is given."""

    def check(_instance: Any, attribute: Attribute[Any], value: float | None) -> None:
        if value is not None and (value < low or (high is not None and value > high)):
            span = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ValueError(f"{attribute.name} has to be {span}, not {value}")

    return check


def environment(_instance: Any, _attribute: Attribute[Any], value: dict[str, str]) -> None:
    """A validator: variables and their values."""
    for name, text in value.items():
        if not ENV_NAME.fullmatch(name):
            raise ValueError(f"expected names of variables, found {name[:80]!a}")
        if "\0" in text:
            raise ValueError(f"{name} holds a NUL character, which no variable can")


def environment_patterns(
    _instance: Any, _attribute: Attribute[Any], value: tuple[str, ...]
) -> None:
    """A validator: names of variables, perhaps with wildcards."""
    for one in value:
        if not _ENV_PATTERN.fullmatch(one):
            raise ValueError(
                f"expected names of variables, perhaps with * or ?, found {one[:80]!a}"
            )


def an_account(_instance: Any, attribute: Attribute[Any], value: str | None) -> None:
    """A validator: the name or the number of a user or a group; whether there is one, is known
    only where the server runs."""
    if value is not None and not _ACCOUNT.fullmatch(value):
        raise ValueError(f"expected the name of a {attribute.name}, found {value[:80]!a}")


def accounts(_instance: Any, _attribute: Attribute[Any], value: tuple[str, ...] | None) -> None:
    """A validator: names or numbers of groups."""
    for one in value or ():
        if not _ACCOUNT.fullmatch(one):
            raise ValueError(f"expected the names of groups, found {one[:80]!a}")


def octal(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    """A validator: permission bits as ``umask`` of a shell has them."""
    if value is not None and not _OCTAL.fullmatch(value):
        raise ValueError(f'expected octal digits such as "022", found {value[:80]!a}')


def origins(given: Iterable[Network | str]) -> tuple[Any, ...]:
    """Take networks as objects or as text, so that an embedder can write ``["10.0.0.0/8"]``."""
    return tuple(
        ip_network(one) if isinstance(one, str) and one != "unix" else one for one in given
    )


def comes_from(allowed: tuple[Origin, ...], origin: str | None) -> bool:
    """Whether a client is where it is expected.

    :param allowed: networks and ``unix``; none is anywhere.
    :param origin: an IP address, or ``unix``; ``None``: not known, which is nowhere.
    """
    if not allowed:
        return True
    if origin is None or origin == "unix":
        return origin in allowed
    address = ip_address(origin)
    # What a socket for both families calls a client with an address of the old one.
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in allowed if not isinstance(network, str))


def says_who_asked(variable: str) -> bool:
    """Whether a variable is one of those that tell a command who asked for it."""
    return variable.startswith("SOCKPROTO_") or variable in _WHO_ASKED
