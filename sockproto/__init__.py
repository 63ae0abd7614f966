"""An authenticated agent for commands and files, with echo and time services, on Twisted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sockproto.auth import AuthenticatingEndpoint, AuthenticatingFactory, Principal
    from sockproto.client import Command, Session, connect
    from sockproto.credentials import Credentials
    from sockproto.errors import (
        AgentError,
        CommandFailed,
        ConnectFailed,
        ConnectionLost,
        KeyringError,
        LoginFailed,
        Refused,
        SockprotoError,
    )
    from sockproto.framing import FramedProtocol
    from sockproto.key import Key, new_key
    from sockproto.keyring import Keyring
    from sockproto.keyring_file import KeyringFile
    from sockproto.limits import Limits
    from sockproto.result import Output, Result
    from sockproto.server.service import Server
    from sockproto.services.command.audit_file import FileAudit
    from sockproto.services.command.auditing import CommandAudit
    from sockproto.services.command.processes import ProcessHost
    from sockproto.services.command.rule import CommandRule
    from sockproto.services.command.rules import CommandRules
    from sockproto.services.command.service import CommandService
    from sockproto.session import AgentFactory
    from sockproto.wire.terminal import Terminal

# Where each public name lives.  They are imported when they are first asked for, so that the client
# program does not pay for Twisted (PEP 562).
_HOMES = {
    "AgentError": "errors",
    "AgentFactory": "session",
    "AuthenticatingEndpoint": "auth",
    "AuthenticatingFactory": "auth",
    "Command": "client",
    "CommandAudit": "services.command.auditing",
    "CommandFailed": "errors",
    "CommandRule": "services.command.rule",
    "CommandRules": "services.command.rules",
    "CommandService": "services.command.service",
    "ConnectFailed": "errors",
    "ConnectionLost": "errors",
    "Credentials": "credentials",
    "FileAudit": "services.command.audit_file",
    "FramedProtocol": "framing",
    "Key": "key",
    "Keyring": "keyring",
    "KeyringError": "errors",
    "KeyringFile": "keyring_file",
    "Limits": "limits",
    "LoginFailed": "errors",
    "Output": "result",
    "Principal": "auth",
    "ProcessHost": "services.command.processes",
    "Refused": "errors",
    "Result": "result",
    "Server": "server.service",
    "Session": "client",
    "SockprotoError": "errors",
    "Terminal": "wire.terminal",
    "connect": "client",
    "new_key": "key",
}

__all__ = [
    "AgentError",
    "AgentFactory",
    "AuthenticatingEndpoint",
    "AuthenticatingFactory",
    "Command",
    "CommandAudit",
    "CommandFailed",
    "CommandRule",
    "CommandRules",
    "CommandService",
    "ConnectFailed",
    "ConnectionLost",
    "Credentials",
    "FileAudit",
    "FramedProtocol",
    "Key",
    "Keyring",
    "KeyringError",
    "KeyringFile",
    "Limits",
    "LoginFailed",
    "Output",
    "Principal",
    "ProcessHost",
    "Refused",
    "Result",
    "Server",
    "Session",
    "SockprotoError",
    "Terminal",
    "connect",
    "new_key",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"sockproto.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
