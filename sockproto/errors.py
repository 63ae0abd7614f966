"""What can go wrong, for programs to catch and for people to read.

Two families: :class:`ProtocolError` for the machines without I/O in :mod:`sockproto.wire`, split as
in other sans-I/O libraries into the caller's bug and the peer's fault; and :class:`AgentError` for
the users of a client, whose ``code`` is the word that the command line prints.
"""

from __future__ import annotations

__all__ = [
    "AgentError",
    "CommandFailed",
    "ConfigurationError",
    "ConnectFailed",
    "ConnectionLost",
    "FrameTooLong",
    "KeyringError",
    "LocalProtocolError",
    "LoginFailed",
    "ProtocolError",
    "Refused",
    "RemoteProtocolError",
    "SockprotoError",
]


class SockprotoError(Exception):
    """The base of every exception that sockproto raises on purpose."""


class ProtocolError(SockprotoError):
    """A rule of a wire format was broken."""


class LocalProtocolError(ProtocolError):
    """The program that uses a machine asked it for something the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol does not allow: the connection has to end.

    :ivar code: the word for the final GOAWAY frame.
    """

    def __init__(self, message: str, code: str = "protocol") -> None:
        super().__init__(message)
        self.code = code


class FrameTooLong(RemoteProtocolError):
    """A frame's header announces more bytes than the limit in force.

    :ivar length: the length announced.
    :ivar limit: the limit in force.
    """

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"a frame of {length} bytes is over the limit of {limit}", "too-long")
        self.length = length
        self.limit = limit


class ConfigurationError(SockprotoError):
    """A configuration file or option cannot be used; the message says where and what was
    expected."""


class KeyringError(SockprotoError):
    """A keyring cannot be used, or holds no fitting key; the message says which file and why."""


class AgentError(SockprotoError):
    """Something asked of an agent came to nothing.

    :ivar code: one word (``connect``, ``login``, ``refused``, ``unknown``, ``not-found``, ...), the
        one that ``sockproto run`` prints.
    """

    code = "internal"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ConnectFailed(AgentError):
    """No connection could be made: nothing listens there, or it is not reachable."""

    code = "connect"


class LoginFailed(AgentError):
    """The login came to nothing.

    :ivar ref: what the server's log has for this login, or ``None`` if it got no further than that.
    """

    code = "login"

    def __init__(self, message: str, ref: str | None = None) -> None:
        super().__init__(message if ref is None else f"{message} (ref {ref})")
        self.ref = ref


class ConnectionLost(AgentError):
    """The connection ended while something was still under way."""

    code = "lost"


class Refused(AgentError):
    """The agent refused the request or could not carry it out; ``code`` says which."""

    code = "refused"


class CommandFailed(SockprotoError):
    """Raised by a command in Python that comes to nothing.

    :param message: for the client's stderr.
    :ivar status: the exit status, 1 to 255.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        if not 1 <= status <= 255:
            raise ValueError(f"status: expected 1 to 255, found {status}")
        super().__init__(message)
        self.status = status
