"""The command service's JSON bodies: what is asked in OPEN, and the result in CLOSE."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

from attrs import field, frozen

from sockproto.errors import RemoteProtocolError
from sockproto.wire.messages import decode_bytes, decode_reason, encode_bytes, encode_reason
from sockproto.wire.settings import integer
from sockproto.wire.terminal import Terminal

__all__ = ["CommandRequest", "CommandResult", "InvalidRequest"]

#: The longest time-out that a client may ask for, in seconds (about ten years).
_MAX_TIMEOUT = 315_360_000
_TIMEOUT_EXPECTED = f"timeout: expected a number of seconds above 0, up to {_MAX_TIMEOUT}"
# The name of a signal without ``SIG``, real-time ones included: ``KILL``, ``RTMIN+3``.
_SIGNAL = re.compile(r"[A-Z][A-Z0-9+-]{0,15}")


class InvalidRequest(ValueError):
    """A request that cannot be served as it is: the fault of the channel alone."""


@frozen
class CommandRequest:
    """A command to run.

    :ivar argv: the program's name and its arguments; no byte of them is NUL.
    :ivar stdin: whether stream 0 feeds the command; else it reads /dev/null.
    :ivar timeout: seconds until it is ended, ``None`` for no limit of the client's.
    :ivar cwd: the folder to run it in, ``None`` for the server's choice.
    :ivar env: what the client adds to the environment.
    :ivar terminal: what it runs on, which stream 0 then feeds, if it is to be a terminal.
    """

    argv: tuple[bytes, ...]
    stdin: bool = False
    timeout: float | None = None
    cwd: bytes | None = None
    env: Mapping[bytes, bytes] = field(factory=dict)
    terminal: Terminal | None = None

    @classmethod
    def of(
        cls,
        argv: Iterable[str | bytes],
        *,
        stdin: bool = False,
        timeout: float | None = None,
        cwd: str | bytes | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        tty: Terminal | None = None,
    ) -> Self:
        """A request from what a Python program has at hand.

        :raises TypeError: ``argv`` is a string: a command is a list of words, never a line.
        :raises ValueError: ``argv`` is empty, or ``timeout`` is not a time that can be kept.
        """
        if isinstance(argv, str | bytes):
            raise TypeError(f"argv is a list of words, not a line: {argv!r}")
        words = tuple(map(os.fsencode, argv))
        if not words:
            raise ValueError("argv is empty: expected a program and its arguments")
        if timeout is not None and not 0 < timeout <= _MAX_TIMEOUT:
            raise ValueError(_TIMEOUT_EXPECTED)
        return cls(
            words,
            stdin or tty is not None,
            timeout,
            None if cwd is None else os.fsencode(cwd),
            {os.fsencode(name): os.fsencode(value) for name, value in (env or {}).items()},
            tty,
        )

    def encode(self) -> dict[str, Any]:
        """The JSON object of OPEN, but for its credit."""
        request: dict[str, Any] = {
            "service": "command",
            "argv": [encode_bytes(word) for word in self.argv],
        }
        if self.stdin:
            request["stdin"] = True
        if self.timeout is not None:
            request["timeout"] = self.timeout
        if self.cwd is not None:
            request["cwd"] = encode_bytes(self.cwd)
        if self.env:
            request["env"] = [
                [encode_bytes(name), encode_bytes(value)] for name, value in self.env.items()
            ]
        if self.terminal is not None:
            request["tty"] = self.terminal.encode()
        return request

    @classmethod
    def decode(cls, request: Mapping[str, Any]) -> Self:
        """Read the JSON object of OPEN; fields that are not known are ignored.

        :raises InvalidRequest: a field is not as it should be; the message says which.
        """
        argv = request.get("argv")
        if not isinstance(argv, list) or not argv:
            raise InvalidRequest("argv: expected a list of at least one string")
        words = tuple(_text(word, f"argv[{place}]") for place, word in enumerate(argv))
        if not words[0]:
            raise InvalidRequest("argv[0]: expected the name of a program, found nothing")
        stdin = request.get("stdin", False)
        if not isinstance(stdin, bool):
            raise InvalidRequest("stdin: expected true or false")
        timeout = request.get("timeout")
        if timeout is not None and (
            isinstance(timeout, bool)
            or not isinstance(timeout, int | float)
            or not 0 < timeout <= _MAX_TIMEOUT
        ):
            raise InvalidRequest(_TIMEOUT_EXPECTED)
        cwd = request.get("cwd")
        terminal = request.get("tty")
        if terminal is not None:
            try:
                terminal = Terminal.decode(terminal)
            except ValueError as error:
                raise InvalidRequest(f"tty: {error}") from None
        return cls(
            words,
            stdin or terminal is not None,
            timeout,
            None if cwd is None else _text(cwd, "cwd"),
            _environment(request.get("env", [])),
            terminal,
        )


def _environment(pairs: object) -> dict[bytes, bytes]:
    if not isinstance(pairs, list):
        raise InvalidRequest("env: expected a list of [name, value]")
    environment = {}
    for place, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2:
            raise InvalidRequest(f"env[{place}]: expected [name, value]")
        name, value = (_text(part, f"env[{place}]") for part in pair)
        if not name or b"=" in name:
            raise InvalidRequest(f"env[{place}]: expected a name without '='")
        environment[name] = value
    return environment


def _text(value: object, where: str) -> bytes:
    try:
        text = decode_bytes(value)
    except ValueError as error:
        raise InvalidRequest(f"{where}: {error}") from None
    if b"\0" in text:
        raise InvalidRequest(f"{where}: a NUL byte cannot be passed to a program")
    return text


@frozen
class CommandResult:
    """How a command ended, as CLOSE has it.

    :ivar exit_status: 0 to 255, ``None`` when there is none.
    :ivar signal: the signal that ended it, without ``SIG`` (RFC 4254, section 6.10).
    :ivar timed_out: it was ended because its time was up.
    :ivar truncated: output was dropped because there was more than allowed.
    :ivar code: for an end without a status, what happened, in a word; else ``None``.
    :ivar message: the same, in a sentence.
    :ivar age: seconds since it was asked for, where that was for another client; else ``None``.
    """

    exit_status: int | None = None
    signal: str | None = None
    timed_out: bool = False
    truncated: bool = False
    code: str | None = None
    message: str = ""
    age: float | None = None

    def encode(self) -> dict[str, Any]:
        """The JSON object of CLOSE."""
        result: dict[str, Any] = {}
        if self.exit_status is not None:
            result["exit_status"] = self.exit_status
        if self.signal is not None:
            result["signal"] = self.signal
        if self.timed_out:
            result["timed_out"] = True
        if self.truncated:
            result["truncated"] = True
        if self.code is not None:
            result["error"] = encode_reason(self.code, self.message)
        if self.age is not None:
            result["age"] = self.age
        return result

    @classmethod
    def decode(cls, result: Mapping[str, Any]) -> Self:
        """Read the JSON object of CLOSE.

        :raises RemoteProtocolError: it says neither a status, a signal nor an error, or one that
            is none.
        """
        exit_status, signal, error = map(result.get, ("exit_status", "signal", "error"))
        if exit_status is None and signal is None and error is None:
            raise RemoteProtocolError("CLOSE without a status, a signal or an error")
        if exit_status is not None:
            exit_status = integer(result, "exit_status", 0, 255)
        if signal is not None and not (isinstance(signal, str) and _SIGNAL.fullmatch(signal)):
            raise RemoteProtocolError("CLOSE: signal is not the name of one")
        code, message = None, ""
        if error is not None:
            if not isinstance(error, dict):
                raise RemoteProtocolError("CLOSE: error is not an object")
            code, message = decode_reason(error)
        return cls(
            exit_status,
            signal,
            result.get("timed_out") is True,
            result.get("truncated") is True,
            code,
            message,
            _age(result.get("age")),
        )


def _age(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return value
