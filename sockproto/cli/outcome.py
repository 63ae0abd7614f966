"""How a command's end, or why it came to none, is told: as an exit status, as a line."""

from __future__ import annotations

from sockproto.cli.command import warn
from sockproto.errors import AgentError, ConfigurationError, KeyringError, SockprotoError
from sockproto.result import Result, signal_number

__all__ = ["INTERRUPTED", "code_of", "status_of"]

#: The exit status after Ctrl-C: 128 + SIGINT.
INTERRUPTED = 130


def status_of(result: Result, timeout: float | None = None) -> int:
    """The exit status for a result; truncated output is warned of.

    :param timeout: the seconds it was to have, at most.
    :raises AgentError: there is none, because its time was up.
    """
    if result.truncated:
        warn("there was more output than the agent passes on: it is truncated")
    if result.timed_out:
        limit = "its time was up" if timeout is None else f"it took longer than {timeout:g} s"
        raise AgentError(f"the command was ended: {limit}", "timeout")
    if result.exit_status is not None:
        return result.exit_status
    assert result.signal is not None
    try:
        return 128 + signal_number(result.signal)
    except ValueError as error:
        raise AgentError(f"the command was ended by a signal: {error}") from None


def code_of(error: SockprotoError | OSError) -> str:
    """The word for an error that stands before its message."""
    if isinstance(error, AgentError):
        return error.code
    if isinstance(error, ConfigurationError):
        return "configuration"
    if isinstance(error, OSError):
        return "system"
    return "login" if isinstance(error, KeyringError) else "internal"
