"""For the tests of programs that use sockproto: an agent in memory, and any factory behind the
login, without sockets, processes or waiting.

::

    from twisted.trial.unittest import SynchronousTestCase

    from sockproto import Result
    from sockproto.testing import FakeAgent


    class KernelTests(SynchronousTestCase):
        def test_release(self):
            agent = FakeAgent({("uname", "-r"): Result(0, stdout=b"6.12\\n")})
            session = agent.connect()
            result = agent.wait(session.run(["uname", "-r"]))
            self.assertEqual(result.stdout, b"6.12\\n")

Everything but the commands is real: the login, the channels with their credit, the session.  Time
passes by ``agent.clock.advance``, and bytes move by ``agent.flush`` (which ``agent.wait`` does).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.client import Session, connect
from sockproto.errors import AgentError
from sockproto.interfaces import IChannel, IChannelService, IServedChannel
from sockproto.key import Key
from sockproto.limits import Limits
from sockproto.memory import MemoryEndpoint, MemoryServer, deferred_of
from sockproto.result import Result
from sockproto.session import AgentFactory
from sockproto.wire.commands import CommandRequest, CommandResult

__all__ = ["Answer", "FakeAgent", "FakeCommand", "MemoryEndpoint", "MemoryServer"]

#: What comes of a command: its result; an error, with which it is not started; or what is called
#: with the :class:`FakeCommand` and returns a result, something to await it from, or ``None`` for a
#: command that the test itself ends by :meth:`FakeCommand.finish`.
Answer = Result | AgentError | Callable[["FakeCommand"], Result | Awaitable[Result] | None]


class FakeAgent(MemoryServer):
    """An agent in memory, whose commands a test makes up.

    :param answers: what comes of which argv, or a function for all of them.  What is not in there
        is ``not-found``.
    :ivar commands: the commands that were started, in order.
    """

    def __init__(
        self,
        answers: Mapping[tuple[str, ...], Answer] | Answer,
        *,
        key: Key | None = None,
        server_id: str = "memory",
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        clock = Clock() if clock is None else clock
        self.commands: list[FakeCommand] = []
        self._answers = answers
        factory = AgentFactory(clock, {"command": _Commands(self)}, limits)
        super().__init__(factory, key=key, server_id=server_id, clock=clock, limits=limits)

    def connect(self) -> Session:
        """Connect and log in."""
        return self.wait(connect(self.clock, self.endpoint, self.key, server_id=self.server_id))

    def answer_for(self, argv: tuple[str, ...]) -> Answer:
        """What comes of a command."""
        if not isinstance(self._answers, Mapping):
            return self._answers
        missing = AgentError(f"there is no program {argv[0]!a}", "not-found")
        return self._answers.get(argv, missing)


@implementer(IServedChannel)
class FakeCommand:
    """A command that a :class:`FakeAgent` was asked for.

    :ivar argv: the program and its arguments.
    :ivar request: all that was asked for: ``cwd``, ``env``, ``timeout``, as bytes.
    :ivar input: what came for its stdin so far.
    :ivar signals: the names of the signals it was sent.
    :ivar was_cancelled: whether the client has cancelled it, or is gone.
    """

    _log = Logger()

    def __init__(self, clock: Clock, channel: IChannel, request: CommandRequest) -> None:
        self.argv = tuple(map(os.fsdecode, request.argv))
        self.request = request
        self.input = b""
        self.signals: list[str] = []
        self.was_cancelled = False
        self._clock = clock
        self._channel: IChannel | None = channel
        self._started = False
        self._timer: IDelayedCall | None = None
        self._unread: deque[tuple[int, bytes]] = deque()
        self._end: CommandResult | None = None
        self._input_ended = not request.stdin
        self._readers: list[Deferred[bytes]] = []

    # For tests

    def write(self, data: bytes, stream: int = 1) -> None:
        """Write to stdout (1) or stderr (2); it is sent as the client reads."""
        if data:
            self._unread.append((stream, data))
            self._send()

    def read_input(self) -> Deferred[bytes]:
        """All of the input, once it has ended."""
        reader: Deferred[bytes] = Deferred()
        self._readers.append(reader)
        self._tell_readers()
        return reader

    def finish(self, result: Result) -> None:
        """End it: what the result has of output is written first."""
        if self._end is None:
            self.write(result.stdout)
            self.write(result.stderr, 2)
            self._end = CommandResult(
                result.exit_status,
                result.signal,
                result.timed_out,
                result.truncated,
                age=result.age,
            )
            self._send()

    def fail(self, error: AgentError) -> None:
        """End it without a status."""
        channel = self._over()
        if channel is not None:
            channel.fail(error.code, str(error))

    # For the agent

    def start(self, answer: Answer) -> bool:
        """Have it come to what it is to come to.

        :return: whether it was started.
        """
        assert self._channel is not None
        outcome: Result | AgentError | Awaitable[Result] | None
        if isinstance(answer, Result | AgentError):
            outcome = answer
        else:
            try:
                outcome = answer(self)
            except AgentError as error:
                outcome = error
        if isinstance(outcome, AgentError):
            self.fail(outcome)
            return False
        self._started = True
        self._channel.accept({})
        if self.request.timeout is not None:
            self._timer = self._clock.callLater(self.request.timeout, self._out_of_time)
        self._send()
        if isinstance(outcome, Result):
            self.finish(outcome)
        elif outcome is not None:
            deferred_of(outcome).addCallbacks(self.finish, self._failed)
        return True

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, AgentError):
            self.fail(failure.value)
        else:
            self._log.failure("an answer of a test failed", failure)
            self.fail(AgentError("an answer of a test failed", "internal"))

    def _out_of_time(self) -> None:
        self._unread.clear()
        self.finish(Result(signal="TERM", timed_out=True))

    def _send(self) -> None:
        if self._started and self._channel is not None:
            self._channel.ready(self._turn)

    def _turn(self) -> bool:
        channel = self._channel
        if channel is None:
            return False
        for place, (stream, data) in enumerate(self._unread):
            room = channel.sendable(stream)
            if room:
                channel.write(stream, data[:room])
                if len(data) > room:
                    self._unread[place] = (stream, data[room:])
                else:
                    del self._unread[place]
                return True
        if self._end is not None and not self._unread:
            self._over()
            channel.close(self._end.encode())
        return False

    def _over(self) -> IChannel | None:
        """Let go of the channel."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        channel, self._channel = self._channel, None
        return channel

    def _tell_readers(self) -> None:
        if self._input_ended:
            readers, self._readers = self._readers, []
            for reader in readers:
                reader.callback(self.input)

    def dataReceived(self, data: bytes) -> None:
        """Input."""
        self.input += data
        if self._channel is not None:
            self._channel.consumed(len(data))

    def endReceived(self) -> None:
        """The end of the input."""
        self._input_ended = True
        self._tell_readers()

    def stopReceived(self, stream: int) -> None:
        """The client wants no more of a stream: a command that goes on writing gets SIGPIPE."""
        self._unread = deque(piece for piece in self._unread if piece[0] != stream)
        self._send()

    def creditReceived(self, stream: int) -> None:
        """The client has read."""
        self._send()

    def controlReceived(self, body: Mapping[str, Any]) -> None:
        """A signal."""
        self.signals.append(str(body.get("signal")))

    def cancelled(self) -> None:
        """The client wants it ended: so it is, as by the agent."""
        self.was_cancelled = True
        self._unread.clear()
        self.finish(Result(signal="TERM"))

    def connectionLost(self) -> None:
        """The client is gone."""
        self.was_cancelled = True
        self._over()


@implementer(IChannelService)
class _Commands:
    """The service ``command`` of a :class:`FakeAgent`."""

    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent

    def open(self, channel: IChannel, request: Mapping[str, Any]) -> FakeCommand | None:
        """Start a command, or reject the channel."""
        agent = self._agent
        command = FakeCommand(agent.clock, channel, CommandRequest.decode(request))
        if not command.start(agent.answer_for(command.argv)):
            return None
        agent.commands.append(command)
        return command
