"""A logged-in connection to an agent, for Twisted programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from sockproto.client.command import Command
from sockproto.client.protocol import SessionProtocol
from sockproto.result import DEFAULT_MAX_OUTPUT, Result
from sockproto.wire.commands import CommandRequest
from sockproto.wire.handshake import Login
from sockproto.wire.terminal import Terminal

__all__ = ["Session"]

_T = TypeVar("_T")

_CLOSE_SECONDS = 5.0


class Session:
    """What :func:`sockproto.connect` gives: any number of commands at once over one connection.

    Close it, or use it as an asynchronous context manager.

    :ivar login: the login: the server's id, the session's id, the ``ref`` for the server's log.
    """

    def __init__(self, clock: IReactorTime, protocol: SessionProtocol) -> None:
        self._clock = clock
        self._protocol = protocol
        self.login: Login = protocol.transport.principal.login

    async def run(
        self,
        argv: Iterable[str | bytes],
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        cwd: str | bytes | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        max_output: int = DEFAULT_MAX_OUTPUT,
    ) -> Result:
        """Run a command to its end.

        :param argv: the program and its arguments; never a shell's line.
        :param input: what it reads on stdin; ``None``: nothing.
        :param timeout: seconds until it is ended; the result then says ``timed_out``.
        :param cwd: the folder to run it in.
        :param env: variables to set; the server may refuse some.
        :param max_output: bytes of each stream to keep; the rest is dropped, and the result
            ``truncated``.
        :raises AgentError: it was refused, is not there, or the connection was lost: see ``code``.
        """
        command = await self.start(argv, stdin=input is not None, timeout=timeout, cwd=cwd, env=env)
        try:
            if input is not None:
                command.write(input)
                command.end_input()
            return await command.wait(max_output)
        except BaseException:
            # Cancelled, above all: nobody is left to wait for it.
            command.cancel()
            raise

    def start(
        self,
        argv: Iterable[str | bytes],
        *,
        stdin: bool = False,
        timeout: float | None = None,
        cwd: str | bytes | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        tty: Terminal | None = None,
    ) -> Deferred[Command]:
        """Start a command.

        :param stdin: whether it gets input, by :meth:`Command.write`.
        :param tty: a terminal to run it on: that is its input too, and its output is all stdout.
        :return: fires with the command once it runs; fails with
            :class:`~sockproto.errors.AgentError`.  Cancelling it cancels the command.
        """
        request = CommandRequest.of(argv, stdin=stdin, timeout=timeout, cwd=cwd, env=env, tty=tty)
        command = Command(self._protocol, request.stdin)
        self._protocol.open(command, request.encode())
        return command._accepted

    async def ping(self) -> float:
        """Ask whether the server is there.

        :return: how long the answer took, in seconds.
        """
        asked = self._clock.seconds()
        await self._protocol.ping()
        return self._clock.seconds() - asked

    def close(self) -> Deferred[None]:
        """Close the connection: the server ends what still runs on it.

        :return: fires once it is closed.
        """
        closed = self._protocol.close()
        # An agent that reads nothing any longer is not waited for.
        timer = self._clock.callLater(_CLOSE_SECONDS, self._protocol.abort)

        def over(result: _T) -> _T:
            if timer.active():
                timer.cancel()
            return result

        return closed.addBoth(over)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
