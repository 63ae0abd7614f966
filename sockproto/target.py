"""Where an agent is: the WHERE of the command line and of the clients' ``connect``."""

from __future__ import annotations

import ipaddress

from attrs import frozen

from sockproto.errors import ConfigurationError

__all__ = ["DEFAULT_PORT", "DEFAULT_WHERE", "Target", "is_loopback"]

DEFAULT_PORT = 7100
DEFAULT_WHERE = f"tcp:127.0.0.1:{DEFAULT_PORT}"


@frozen
class Target:
    """An agent's address.

    :ivar host: a host name or an IP address; empty for a Unix socket.
    :ivar port: its TCP port; 0 for a Unix socket.
    :ivar path: the path of a Unix socket; empty for TCP.
    :ivar tls: whether the connection is TLS, to which the login is then bound.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False

    @classmethod
    def parse(cls, where: str, plaintext: bool = False) -> Target:
        """Read WHERE::

            tcp:HOST:PORT   plaintext; to this machine only, unless ``plaintext``
            unix:PATH       a Unix socket
            HOST[:PORT]     TLS; the port is 7100 unless given

        An IPv6 address stands in brackets.

        :raises ConfigurationError: it is none of these.
        """
        if where.startswith("unix:"):
            if len(where) == len("unix:"):
                raise ConfigurationError("unix: expected unix:PATH")
            return cls(path=where[len("unix:") :])
        if where.startswith("tcp:"):
            host, port = _split(where[len("tcp:") :], where)
            if port is None:
                raise ConfigurationError(f"{where}: expected tcp:HOST:PORT")
            if not (plaintext or is_loopback(host)):
                raise ConfigurationError(
                    f"{where}: plaintext beyond this machine needs --plaintext"
                    f" (in programs plaintext=True); {host}:{port} would use TLS"
                )
            return cls(host, port)
        host, port = _split(where, where)
        return cls(host, DEFAULT_PORT if port is None else port, tls=True)

    @classmethod
    def of_service(cls, text: str, port: int) -> Target:
        """Read where a service is that has no login: ``HOST[:PORT]``, or ``unix:PATH``.

        :param port: the service's own, where none is named.
        :raises ConfigurationError: it is neither.
        """
        if text.startswith("unix:"):
            return cls.parse(text)
        for scheme in ("tcp:", "udp:"):
            if text.startswith(scheme):
                raise ConfigurationError(
                    f"{text}: expected HOST[:PORT] or unix:PATH; --tcp and --udp say how"
                )
        host, named = _split(text, text)
        return cls(host, port if named is None else named)

    def __str__(self) -> str:
        """As people read it."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for certain, without asking any name server."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(text: str, where: str) -> tuple[str, int | None]:
    """The host and the port of ``HOST[:PORT]``."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigurationError(f"{where}: expected [ADDRESS]:PORT")
        port = rest[1:] if rest else None
    elif text.count(":") > 1:
        raise ConfigurationError(f"{where}: an IPv6 address stands in brackets: [::1]:7100")
    else:
        host, colon, after = text.partition(":")
        port = after if colon else None
    if not host or any(character.isspace() or character in "/@" for character in host):
        raise ConfigurationError(
            f"{where or 'an empty address'}: expected HOST[:PORT], tcp:HOST:PORT or unix:PATH"
        )
    if port is None:
        return host, None
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
        raise ConfigurationError(f"{where}: expected a port from 1 to 65535, found {port!r}")
    return host, int(port)
