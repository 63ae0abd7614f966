"""``sockproto run`` on all hosts of a group: the same command everywhere, at the same time."""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from collections.abc import Sequence
from typing import Any

import click
from attrs import evolve

from sockproto.blocking import Command, Session
from sockproto.cli.carrier import write_output
from sockproto.cli.command import NO_STATUS, one_line
from sockproto.cli.interrupt import Interrupt
from sockproto.cli.options import ConnectionOptions
from sockproto.cli.outcome import INTERRUPTED, code_of, status_of
from sockproto.errors import SockprotoError
from sockproto.wire.commands import CommandRequest
from sockproto.wire.messages import Stream

__all__ = ["GroupRun", "PrefixedLines"]

# Logins under way at once: each takes a thread, and some work of ours.
_LOGINS = 64
# What is longer is told as several lines, so that no host can fill our memory with one.
_LONGEST_LINE = 64 * 1024
# How long Ctrl-C waits for the agents to say that their commands are gone.
_CANCEL_SECONDS = 5.0

_Arrival = tuple[str, Session | None, Exception | None]


class PrefixedLines:
    """One stream of one host as lines that begin with its name.

    :param name: the host's.
    """

    def __init__(self, name: str) -> None:
        self._prefix = name.encode() + b": "
        self._rest = b""

    def add(self, data: bytes) -> bytes:
        """Take some output; give the lines that are complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]
        return b"".join(self._prefix + line + b"\n" for line in lines)

    def end(self) -> bytes:
        """The last line, if it has no end of its own."""
        return self.add(b"\n") if self._rest else b""


class _Running:
    """The command on one host."""

    def __init__(self, name: str, session: Session, command: Command) -> None:
        self.name = name
        self.session = session
        self.command = command
        self.lines = {stream: PrefixedLines(name) for stream in (Stream.OUT, Stream.ERR)}


class GroupRun:
    """Runs a command on several hosts.

    Logins are made by threads; everything after them is one thread's, which waits for all sessions
    at once.

    :param options: the common options; those that are given hold for every host.
    :param names: of the hosts.
    :param request: what to run.
    :param timeout: seconds that each has, for the message about one that took longer.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        names: Sequence[str],
        request: CommandRequest,
        timeout: float | None,
    ) -> None:
        self._options = options
        self._names = names
        self._request = request
        self._timeout = timeout
        self._interrupt = Interrupt()
        self._arrived: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        self._logins = threading.BoundedSemaphore(_LOGINS)
        self._awaited = len(names)
        self._running: dict[int, _Running] = {}
        self._highest = 0
        self._wakes, self._wake = os.pipe()

    def run(self) -> int:
        """Run it everywhere.

        :return: the highest exit status of all, where a host without one has 255.
        :raises BrokenPipeError: nobody reads our output any longer.
        """
        for name in self._names:
            threading.Thread(target=self._log_in, args=(name,), daemon=True).start()
        with self._interrupt:
            try:
                while self._awaited or self._running:
                    self._turn(None)
            except KeyboardInterrupt:
                self._cancel()
                return INTERRUPTED
            except BrokenPipeError:
                self._cancel()
                raise
        os.close(self._wakes)
        os.close(self._wake)
        return self._highest

    # In a thread of its own

    def _log_in(self, name: str) -> None:
        session, problem = None, None
        with self._logins:
            try:
                session = evolve(self._options, where=name).connect()
            except Exception as error:
                problem = error
        self._arrived.put((name, session, problem))
        os.write(self._wake, b".")

    # In the main thread

    def _turn(self, timeout: float | None) -> None:
        """Wait until something comes from anywhere, and see to it."""
        poll = select.poll()
        poll.register(self._wakes, select.POLLIN)
        for descriptor, running in self._running.items():
            sending = select.POLLOUT if running.session.sending else 0
            poll.register(descriptor, select.POLLIN | sending)
        limit = None if timeout is None else timeout * 1000
        for descriptor, _ in self._interrupt.waiting(poll.poll, limit):
            if descriptor == self._wakes:
                os.read(self._wakes, 1)
                self._begin(*self._arrived.get())
            else:
                self._proceed(descriptor, self._running[descriptor])

    def _begin(self, name: str, session: Session | None, problem: Exception | None) -> None:
        """A login has come to something."""
        self._awaited -= 1
        if session is None:
            assert problem is not None
            self._fail(name, problem)
            return
        try:
            running = _Running(name, session, session.ask(self._request))
        except SockprotoError as error:
            session.close()
            self._fail(name, error)
            return
        self._running[session.fileno()] = running

    def _proceed(self, descriptor: int, running: _Running) -> None:
        """Something came from a host."""
        try:
            running.session.pump(0)
        except SockprotoError:
            pass  # the command says so too, once its output is told
        try:
            while (piece := running.command.take()) is not None:
                stream = Stream(piece.stream)
                self._tell(stream, running.lines[stream].add(piece.data))
            if not running.command.ended:
                return
            status = status_of(running.command.wait(), self._timeout)
        except SockprotoError as error:
            self._tell_rest(running)
            self._fail(running.name, error)
        else:
            self._tell_rest(running)
            self._highest = max(self._highest, status)
        del self._running[descriptor]
        running.session.close()

    def _tell_rest(self, running: _Running) -> None:
        for stream, lines in running.lines.items():
            self._tell(stream, lines.end())

    def _tell(self, stream: Stream, data: bytes) -> None:
        if not write_output(self._interrupt, stream, data):
            raise BrokenPipeError

    def _fail(self, name: str, error: Exception) -> None:
        """A host has no status for us; the others go on."""
        known = isinstance(error, SockprotoError | OSError)
        code = code_of(error) if known else "internal"  # type: ignore[arg-type]
        click.echo(f"sockproto: {name}: {code}: {one_line(str(error))}", err=True)
        self._highest = max(self._highest, NO_STATUS)

    def _cancel(self) -> None:
        """End the commands; wait until the agents say that they are gone, but not for long."""
        for running in self._running.values():
            running.command.cancel()
        deadline = time.monotonic() + _CANCEL_SECONDS
        try:
            while self._running and (left := deadline - time.monotonic()) > 0:
                self._turn_of_cancelled(left)
        except (KeyboardInterrupt, OSError):
            pass

    def _turn_of_cancelled(self, timeout: float) -> None:
        poll: Any = select.poll()
        for descriptor in self._running:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in self._interrupt.waiting(poll.poll, timeout * 1000):
            running = self._running[descriptor]
            try:
                running.session.pump(0)
            except SockprotoError:
                del self._running[descriptor]
                continue
            if running.command.ended:
                del self._running[descriptor]
                running.session.close()
