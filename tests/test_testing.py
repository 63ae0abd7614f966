"""Tests for :mod:`sockproto.testing`, which are examples of its use too."""

from __future__ import annotations

import re
import unittest
from textwrap import dedent

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost as TransportLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import sockproto.testing
from sockproto import (
    AgentError,
    ConnectFailed,
    ConnectionLost,
    LoginFailed,
    Refused,
    Result,
    connect,
    new_key,
)
from sockproto.interfaces import IServedChannel
from sockproto.testing import FakeAgent, FakeCommand, MemoryServer


class DocumentationTests(SynchronousTestCase):
    """The example in the module's documentation."""

    def test_example(self) -> None:
        """It is a test, and passes; with another answer it fails."""
        text = sockproto.testing.__doc__ or ""
        found = re.search(r"::\n\n((?:    .*\n|\n)+)", text)
        assert found is not None
        code = dedent(found[1])
        for source, expected in ((code, True), (code.replace('b"6.12', 'b"6.11', 1), False)):
            names: dict[str, object] = {}
            exec(source, names)
            case = names["KernelTests"]
            assert isinstance(case, type) and issubclass(case, unittest.TestCase)
            result = unittest.TestResult()
            case("test_release").run(result)
            self.assertEqual((result.testsRun, result.wasSuccessful()), (1, expected))


class FakeAgentTests(SynchronousTestCase):
    """An agent in memory."""

    def test_answers(self) -> None:
        """Results come as they were made up: output, status, signal, flags."""
        agent = FakeAgent(
            {
                ("a",): Result(3, stdout=b"out", stderr=b"err"),
                ("b", "x"): Result(signal="KILL", truncated=True),
            }
        )
        session = agent.connect()
        result = agent.wait(session.run(["a"]))
        self.assertEqual((result.exit_status, result.stdout, result.stderr), (3, b"out", b"err"))
        result = agent.wait(session.run(["b", "x"]))
        self.assertEqual((result.signal, result.truncated), ("KILL", True))
        self.assertEqual([command.argv for command in agent.commands], [("a",), ("b", "x")])

    def test_refusals(self) -> None:
        """An error is a command that was not started; what is not named is not found."""
        agent = FakeAgent({("a",): Refused("not you", "refused")})
        session = agent.connect()
        for argv, code in ((["a"], "refused"), (["b"], "not-found")):
            with self.assertRaises(Refused) as caught:
                agent.wait(session.run(argv))
            self.assertEqual(caught.exception.code, code)
        self.assertEqual(agent.commands, [])

    def test_function(self) -> None:
        """A function sees what was asked, and may wait for the input."""

        def answer(command: FakeCommand) -> Result | Deferred[Result]:
            if command.argv[0] == "env":
                return Result(0, stdout=repr(dict(command.request.env)).encode())
            if command.argv[0] == "no":
                raise Refused("no", "refused")
            return command.read_input().addCallback(lambda data: Result(0, stdout=data.upper()))

        agent = FakeAgent(answer)
        session = agent.connect()
        self.assertEqual(agent.wait(session.run(["env"], env={"A": "b"})).stdout, b"{b'A': b'b'}")
        large = b"x" * 3_000_000
        self.assertTrue(agent.wait(session.run(["up"], input=large)).stdout == large.upper())
        with self.assertRaises(Refused):
            agent.wait(session.run(["no"]))

    def test_coroutine(self) -> None:
        """A coroutine is fine, too; what it raises is the end of the command."""

        async def answer(command: FakeCommand) -> Result:
            if await command.read_input() == b"fail":
                raise AgentError("it has gone", "lost")
            return Result(0)

        agent = FakeAgent(answer)
        session = agent.connect()
        self.assertTrue(agent.wait(session.run(["x"])).ok)
        with self.assertRaises(AgentError) as caught:
            agent.wait(session.run(["x"], input=b"fail"))
        self.assertEqual(caught.exception.code, "lost")

    def test_mistakeInAnAnswer(self) -> None:
        """An answer that fails fails the test, by what is logged, and the command."""

        async def answer(command: FakeCommand) -> Result:
            raise ZeroDivisionError

        agent = FakeAgent(answer)
        with self.assertRaises(AgentError):
            agent.wait(agent.connect().run(["x"]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_interactive(self) -> None:
        """A command may be left running, and played by the test."""
        agent = FakeAgent(lambda command: None)
        verifyObject(IServedChannel, FakeCommand(agent.clock, None, _request()))  # type: ignore[arg-type]
        session = agent.connect()
        running = agent.wait(session.start(["tail", "-f"], stdin=True))
        (command,) = agent.commands
        command.write(b"line")
        piece = agent.wait(running.read())
        assert piece is not None
        self.assertEqual((piece.stream, piece.data), (1, b"line"))
        running.write(b"input")
        running.signal("HUP")
        agent.flush()
        self.assertEqual((command.input, command.signals), (b"input", ["HUP"]))
        command.finish(Result(0))
        self.assertTrue(agent.wait(running.wait()).ok)

    def test_credit(self) -> None:
        """What is not read waits at the command: credit is as real as the rest."""
        agent = FakeAgent(lambda command: command.write(bytes(5_000_000)))
        running = agent.wait(agent.connect().start(["x"]))
        agent.flush()
        self.assertLess(sum(len(piece.data) for piece in running._pieces), 2_000_000)
        agent.commands[0].finish(Result(0))
        self.assertEqual(len(agent.wait(running.wait()).stdout), 5_000_000)

    def test_cancel(self) -> None:
        """A command that is cancelled ends; the fake knows."""
        agent = FakeAgent(lambda command: None)
        running = agent.wait(agent.connect().start(["x"]))
        running.cancel()
        self.assertEqual(agent.wait(running.wait()).signal, "TERM")
        self.assertTrue(agent.commands[0].was_cancelled)

    def test_timeout(self) -> None:
        """Time passes by the clock alone."""
        agent = FakeAgent(lambda command: None)
        result = Deferred.fromCoroutine(agent.connect().run(["x"], timeout=30))
        agent.flush()
        agent.clock.advance(29)
        self.assertNoResult(result)
        agent.clock.advance(1)
        self.assertTrue(agent.wait(result).timed_out)

    def test_unfinished(self) -> None:
        """To wait for what cannot come is an error that says so."""
        agent = FakeAgent(lambda command: None)
        session = agent.connect()
        self.assertRaises(AssertionError, agent.wait, session.run(["x"]))

    def test_lost(self) -> None:
        """A connection that breaks loses what runs; the next one may be refused."""
        agent = FakeAgent(lambda command: None)
        session = agent.connect()
        running = agent.wait(session.start(["x"]))
        agent.break_connections()
        with self.assertRaises(ConnectionLost):
            agent.wait(running.wait())
        self.assertTrue(agent.commands[0].was_cancelled)
        agent.endpoint.listening = False
        with self.assertRaises(ConnectFailed):
            agent.connect()

    def test_login(self) -> None:
        """The login is real: another key is refused."""
        agent = FakeAgent({})
        with self.assertRaises(LoginFailed):
            agent.wait(connect(agent.clock, agent.endpoint, new_key("owner")))

    def test_nothingLeft(self) -> None:
        """After a session is closed nothing of it is left on the clock."""
        agent = FakeAgent({("a",): Result(0)})
        session = agent.connect()
        agent.wait(session.run(["a"], timeout=10))
        agent.wait(session.close())
        self.assertEqual(agent.clock.getDelayedCalls(), [])


def _request() -> object:
    from sockproto.wire.commands import CommandRequest

    return CommandRequest.of(["x"])


class Shout(LineReceiver):
    """Answers in upper case, and says who asked."""

    def connectionMade(self) -> None:
        self.who = self.transport.principal.identity  # type: ignore[union-attr]

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(self.who.encode() + b": " + line.upper())


class Asker(LineReceiver):
    """Collects lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.lost: Failure | None = None

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class MemoryServerTests(SynchronousTestCase):
    """Any factory behind the login."""

    def test_anyFactory(self) -> None:
        """A factory of the program's own is served to those who log in, and knows who they are."""
        server = MemoryServer(Factory.forProtocol(Shout), "shout", key=new_key("k", identity="ann"))
        asker = server.log_in(Factory.forProtocol(Asker))
        assert isinstance(asker, Asker)
        asker.sendLine(b"hello")
        server.flush()
        self.assertEqual(asker.lines, [b"ann: HELLO"])
        server.break_connections()
        assert asker.lost is not None
        self.assertIsNotNone(asker.lost.value)

    def test_closing(self) -> None:
        """What was written before a close arrives; an abort is a lost connection for the peer."""

        class Leaver(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"bye\r\n")
                self.transport.loseConnection()

        server = MemoryServer(Factory.forProtocol(Leaver), "x")
        asker = server.log_in(Factory.forProtocol(Asker))
        assert isinstance(asker, Asker)
        self.assertEqual(asker.lines, [b"bye"])
        assert asker.lost is not None
        self.assertIsNone(asker.lost.check(TransportLost))
