"""Twisted endpoint strings, as far as it takes to see who can reach them."""

from __future__ import annotations

import difflib
import os
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType

from attrs import field, frozen

__all__ = ["Endpoint", "is_local_endpoint"]

#: The names of the positional arguments after the type, and the interface where none is given.
_ARGUMENTS = MappingProxyType(
    {
        "tcp": (("port", "interface", "backlog"), ""),
        "tcp6": (("port", "backlog", "interface"), "::"),
        "udp": (("port", "interface"), ""),
        "udp6": (("port", "interface"), "::"),
        "unix": (("address", "mode", "backlog", "lockfile"), None),
    }
)

#: Endpoints of Twisted's own whose place the string does not tell.
_OTHERS = ("systemd", "stdio", "haproxy")

_INSTEAD = MappingProxyType(
    {
        "ssl": 'TLS is said by tls = "auto" or tls = "FILE.pem" in [[listen]], not by ssl:',
        "hmac": "the login is said by auth = true in [[listen]], not by hmac:",
    }
)


@frozen
class Endpoint:
    """An endpoint string, taken apart as Twisted takes it apart.

    :ivar kind: ``tcp``, ``unix``, ``udp`` ...: the first word.
    :ivar arguments: the positional arguments after it, by name where the kind is known, and the
        others.
    """

    kind: str
    arguments: dict[str, str] = field(hash=False)

    @classmethod
    def parse(cls, description: str) -> Endpoint:
        """Take an endpoint string apart.

        Kinds from other people's plugins pass: whether they exist shows when they are listened on.

        :raises ValueError: if it cannot be an endpoint to listen on; the message says why.
        """
        words, named = _split(description)
        kind = words[0] if words else ""
        if not kind:
            raise ValueError(
                "expected an endpoint such as tcp:7100:interface=127.0.0.1 or unix:/run/agent.sock"
            )
        if kind in _INSTEAD:
            raise ValueError(_INSTEAD[kind])
        if kind not in _ARGUMENTS:
            near = difflib.get_close_matches(kind, (*_ARGUMENTS, *_OTHERS), 1)
            if near and kind not in _OTHERS:
                raise ValueError(f"there is no endpoint {kind!a}; did you mean {near[0]}?")
            return cls(kind, named)
        names, _ = _ARGUMENTS[kind]
        hint = r" (the colons of an address are written \:)" if "::" in description else ""
        if len(words) - 1 > len(names):
            raise ValueError(f"{kind}: takes {', '.join(names)}, not {len(words) - 1} words{hint}")
        given = dict(zip(names, words[1:], strict=False))
        twice = given.keys() & named.keys()
        if twice:
            raise ValueError(f"{kind}: {min(twice)} is given twice{hint}")
        for name in named:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                did = f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(names)})"
                raise ValueError(f"{kind}: there is no argument {name[:40]!a}{did}{hint}")
        endpoint = cls(kind, {**given, **named})
        endpoint._check_place()
        endpoint._check_figures()
        return endpoint

    @property
    def is_datagram(self) -> bool:
        """Whether it is UDP."""
        return self.kind in ("udp", "udp6")

    @property
    def interface(self) -> str:
        """The address to listen on by TCP or UDP, as Twisted takes it; empty: all of IPv4."""
        _, default = _ARGUMENTS[self.kind]
        return self.arguments.get("interface", default) or ""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it; ``False`` where the string does not tell."""
        if self.kind == "unix":
            return True
        if self.kind not in _ARGUMENTS:
            return False
        return _is_loopback(self.interface)

    def within(self, folder: str) -> str | None:
        """The same endpoint as a string, with a path that is relative to a folder made absolute.

        :param folder: absolute.
        :return: ``None`` where nothing changes: all but Unix sockets, and absolute paths.
        """
        if self.kind != "unix" or os.path.isabs(self.arguments["address"]):
            return None
        path = os.path.join(folder, self.arguments["address"])
        return ":".join(
            [
                self.kind,
                *(
                    f"{name}={_quoted(path if name == 'address' else value)}"
                    for name, value in self.arguments.items()
                ),
            ]
        )

    def _check_figures(self) -> None:
        """:raises ValueError: if a mode or a backlog is no number."""
        for name, base, expected in (
            ("mode", 8, "an octal mode such as 660"),
            ("backlog", 10, "a whole number"),
        ):
            value = self.arguments.get(name, "0")
            try:
                good = value.isalnum() and value.isascii() and 0 <= int(value, base) <= 0o777777
            except ValueError:
                good = False
            if not good:
                raise ValueError(f"{self.kind}: {name}: expected {expected}, found {value[:40]!a}")

    def _check_place(self) -> None:
        """:raises ValueError: if it lacks a port or a path."""
        if self.kind == "unix":
            if not self.arguments.get("address"):
                raise ValueError("unix: expected a path, as in unix:/run/agent.sock")
            return
        port = self.arguments.get("port", "")
        if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 65_536):
            found = f"found {port[:40]!a}" if port else "found none"
            raise ValueError(f"{self.kind}: expected a port from 0 to 65535, {found}")
        interface = self.arguments.get("interface", "")
        if ":" in interface and self.kind in ("tcp", "udp") and not _is_ipv6(interface):
            raise ValueError(f"{self.kind}: expected an address, found {interface[:40]!a}")


def is_local_endpoint(description: str) -> bool:
    """Whether only this machine can reach an endpoint: a Unix socket, or bound to loopback.

    ``tcp:7100`` is bound to all addresses, and so is not.

    :param description: an endpoint string.
    :raises ValueError: if it cannot be an endpoint to listen on.
    """
    return Endpoint.parse(description).is_local


def _quoted(text: str) -> str:
    """A value as it stands in an endpoint string."""
    return "".join(f"\\{one}" if one in "\\:=" else one for one in text)


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv6Address)
    except ValueError:
        return False


def _is_loopback(interface: str) -> bool:
    """Whether an interface is loopback; names other than ``localhost`` are not looked up."""
    if interface == "localhost":
        return True
    try:
        address = ip_address(interface)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def _split(description: str) -> tuple[list[str], dict[str, str]]:
    """Positional and named arguments: ``:`` parts them, ``=`` names one, a backslash quotes.

    :raises ValueError: if a name comes twice, or there is nothing after the last backslash.
    """
    words: list[str] = []
    named: dict[str, str] = {}
    name: str | None = None
    current = ""

    def add() -> None:
        if name is None:
            words.append(current)
        elif name in named:
            raise ValueError(f"{name[:40]!a} is given twice")
        else:
            named[name] = current

    characters = iter(description)
    for character in characters:
        if character == "\\":
            quoted = next(characters, None)
            if quoted is None:
                raise ValueError("expected a character after the last backslash")
            current += quoted
        elif character == "=" and name is None:
            name, current = current, ""
        elif character == ":":
            add()
            name, current = None, ""
        else:
            current += character
    add()
    return words, named
