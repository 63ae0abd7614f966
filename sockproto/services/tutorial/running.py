"""Runs a command line for a tutorial client as the agent runs commands, and collects its output."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IAddress, IReactorTime
from zope.interface import implementer

from sockproto.auth.principal import Principal
from sockproto.auth.transport import describe, host_of
from sockproto.interfaces import IChannel, IChannelService, IServedChannel
from sockproto.services.tutorial.reading import MAX_READ
from sockproto.wire.commands import CommandRequest, InvalidRequest
from sockproto.wire.handshake import Binding, Login
from sockproto.wire.messages import MAX_DATA, Stream

__all__ = ["IDENTITY", "CollectingChannel", "Output", "principal_of", "words_of"]

#: Whom rules have to allow a command to. There is no login: whoever can connect is this.
IDENTITY = "tutorial"


@frozen
class Output:
    """What came of a command line.

    :ivar message: why there is no output; ``None`` where the command ran to its end.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    message: str | None = None


def principal_of(service: str, address: IAddress) -> Principal:
    """Who a tutorial client is to the rules, the log and the command.

    :param service: the dialect.
    """
    login = Login(IDENTITY, IDENTITY, service, "", os.urandom(16), "", Binding.NONE)
    return Principal(IDENTITY, (), login, host_of(address), describe(address))


def words_of(line: bytes) -> list[str]:
    """The words of a command line, as a POSIX shell would part them; nothing else of a shell's.

    :param line: what one read brought, with or without a newline.
    :return: text in which bytes that are not UTF-8 stand as ``os.fsdecode`` has them.
    :raises ValueError: these are not words of one line; the message is fit for the client.
    """
    if len(line) > MAX_READ:
        raise ValueError(f"a command line has at most {MAX_READ} bytes")
    if line.endswith(b"\n"):
        line = line[:-1].removesuffix(b"\r")
    if b"\n" in line or b"\r" in line:
        raise ValueError("a command is a single line")
    try:
        words = shlex.split(os.fsdecode(line))
    except ValueError as error:
        raise ValueError(f"{error}".lower()) from None
    if not words or not words[0]:
        raise ValueError("there is no command")
    return words


@implementer(IChannel)
class CollectingChannel:
    """A channel whose client is here: it takes all output, keeps some, and tells it at the end.

    :param clock: the reactor.
    :param principal: for whom.
    :param most: bytes of each stream; a command that writes more is ended, as by a rule's
        ``max_output``, and what came before is its output.
    :param done: is told what came of it, once, perhaps before :meth:`run` has returned.
    """

    free = True

    def __init__(
        self,
        clock: IReactorTime,
        principal: Principal,
        most: int,
        done: Callable[[Output], None],
    ) -> None:
        self.principal = principal
        self._clock = clock
        self._most = most
        self._done: Callable[[Output], None] | None = done
        self._served: IServedChannel | None = None
        self._collected = {Stream.OUT: bytearray(), Stream.ERR: bytearray()}
        self._isOver = False

    def run(self, commands: IChannelService, line: bytes) -> None:
        """Run a command line.

        :param commands: the service ``command``.
        """
        try:
            request = CommandRequest.of(words_of(line)).encode()
            served = commands.open(self, request)
        except (InvalidRequest, ValueError) as error:
            self.reject("refused", str(error))
        else:
            if self._done is not None:
                self._served = served

    def lose(self) -> None:
        """The client is gone."""
        self._done = None
        served, self._served = self._served, None
        if served is not None:
            served.connectionLost()

    # What the service says

    def accept(self, reply: Mapping[str, Any]) -> None:
        """The command runs."""

    def reject(self, code: str, message: str) -> None:
        """It does not."""
        self._tell(Output(message=message))

    def fail(self, code: str, message: str) -> None:
        """It came to nothing."""
        self._tell(Output(message=message))

    def close(self, result: Mapping[str, Any]) -> None:
        """It has ended."""
        if result.get("timed_out"):
            self._tell(Output(message="the command was ended: its time was up"))
            return
        stdout, stderr = (bytes(self._collected[one]) for one in (Stream.OUT, Stream.ERR))
        self._tell(Output(stdout, stderr))

    def sendable(self, stream: int) -> int:
        """There is always credit: what is too much is dropped here."""
        return MAX_DATA

    def write(self, stream: int, data: bytes) -> None:
        """Some output."""
        collected = self._collected[Stream(stream)]
        room = self._most - len(collected)
        collected += data[:room]
        if len(data) > room and not self._isOver:
            self._isOver = True
            # Not while the pipe is at it.
            self._clock.callLater(0, self._tooMuch)

    def ready(self, turn: Callable[[], bool]) -> None:
        """It is always this channel's turn."""
        while turn():
            pass

    def withdraw(self, turn: Callable[[], bool]) -> None:
        """A turn that is not wanted any longer: none waits here."""

    def end(self, stream: int) -> None:
        """There is no more of a stream."""

    def consumed(self, count: int) -> None:
        """No input is sent."""

    def stop(self) -> None:
        """No input is wanted."""

    def control(self, body: Mapping[str, Any]) -> None:
        """Nothing that a tutorial knows of."""

    def _tooMuch(self) -> None:
        if self._served is not None:
            self._served.cancelled()

    def _tell(self, output: Output) -> None:
        self._served = None
        done, self._done = self._done, None
        if done is not None:
            done(output)
