"""Carries input and output between our own streams and a command's."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sockproto.blocking import Command, Session
from sockproto.cli.descriptors import STDERR, STDIN, STDOUT
from sockproto.cli.interrupt import Interrupt
from sockproto.errors import AgentError
from sockproto.result import Result
from sockproto.wire.messages import Stream

if TYPE_CHECKING:
    from sockproto.cli.terminal import LocalTerminal

__all__ = ["Carrier", "write_output"]

_DESCRIPTORS = {Stream.OUT: STDOUT, Stream.ERR: STDERR}
_CHUNK = 65_536
# How long Ctrl-C waits for the agent to say that the command is gone: its grace, and some more.
_CANCEL_SECONDS = 5.0


class Carrier:
    """Carries until a command has ended.

    :param session: where it runs.
    :param command: the command.
    :param interrupt: Ctrl-C, which ends the command.
    :param terminal: our own, where the command runs on one: it is told of each new size.
    :param put: takes a stream's number and a piece of output, and says whether anybody wants more;
        our own stdout and stderr unless given.
    """

    def __init__(
        self,
        session: Session,
        command: Command,
        interrupt: Interrupt,
        put: Callable[[int, bytes], bool] | None = None,
        terminal: LocalTerminal | None = None,
    ) -> None:
        self._session = session
        self._command = command
        self._interrupt = interrupt
        self._put = partial(write_output, interrupt) if put is None else put
        self._terminal = terminal

    def carry(self, stdin: bool = False) -> Result:
        """Carry until the command has ended.

        :param stdin: whether to pass our input on.
        :raises KeyboardInterrupt: Ctrl-C came, and the command has been ended.
        """
        command = self._command
        try:
            while True:
                while (piece := command.take()) is not None:
                    if not self._put(piece.stream, piece.data):
                        command.stop_output(piece.stream)
                if command.ended:
                    return command.wait()
                # Our input is only read as far as the command, and the network, take it.
                room = min(command.writable, _CHUNK) if stdin and not self._session.sending else 0
                if self._wait(bool(room)):
                    stdin = self._feed(room)
                self._session.pump(0)
        except KeyboardInterrupt:
            self._cancel()
            raise

    def _wait(self, stdin: bool, timeout: float | None = None) -> bool:
        """Wait until something can be done.

        :param stdin: whether input counts.
        :return: whether there is input.
        """
        poll = select.poll()
        poll.register(
            self._session.fileno(), select.POLLIN | (select.POLLOUT if self._session.sending else 0)
        )
        if stdin:
            poll.register(STDIN, select.POLLIN)
        if self._terminal is not None:
            poll.register(self._terminal, select.POLLIN)
        limit = None if timeout is None else timeout * 1000
        ready = dict(self._interrupt.waiting(poll.poll, limit))
        if self._terminal is not None and self._terminal.fileno() in ready:
            self._command.resize(*self._terminal.changed())
        return STDIN in ready

    def _feed(self, room: int) -> bool:
        """Pass some input on.

        :return: whether there may be more.
        """
        try:
            data = self._interrupt.waiting(os.read, STDIN, room)
        except BlockingIOError:
            return True  # somebody else was faster; the descriptor has been made non-blocking
        if data:
            self._command.write_some(data)
        else:
            self._command.end_input()
        return bool(data)

    def _cancel(self) -> None:
        """End the command; wait until the agent says that it is gone, but not for long."""
        command = self._command
        command.cancel()
        deadline = time.monotonic() + _CANCEL_SECONDS
        try:
            while not command.ended and (left := deadline - time.monotonic()) > 0:
                self._wait(False, left)
                self._session.pump(0)
        except AgentError:
            pass  # it went with the connection


def write_output(interrupt: Interrupt, stream: int, data: bytes) -> bool:
    """Write all of some output, and wait for whoever reads it, however long that takes.

    :return: whether anybody wants more.
    """
    descriptor, rest = _DESCRIPTORS[Stream(stream)], memoryview(data)
    try:
        while rest:
            try:
                rest = rest[interrupt.waiting(os.write, descriptor, rest) :]
            except BlockingIOError:
                # Whoever gave us this descriptor has made it non-blocking.
                interrupt.waiting(select.select, [], [descriptor], [])
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True
