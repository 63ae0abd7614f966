"""Tests for :mod:`sockproto.client`, in memory: connecting, and servers that misbehave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from sockproto import AgentError, ConnectFailed, ConnectionLost, Result, Session, connect
from sockproto.client.connecting import endpoint_to
from sockproto.errors import ConfigurationError, KeyringError
from sockproto.framing import FramedProtocol
from sockproto.key import new_key
from sockproto.target import Target
from sockproto.testing import FakeAgent, MemoryServer
from sockproto.wire.frames import encode_frame
from sockproto.wire.messages import (
    FrameType,
    pack,
    pack_credit,
    pack_goaway,
    pack_json,
    pack_stream,
)

SETTINGS = pack_json(
    FrameType.SETTINGS, 0, {"max_frame": 131_072, "max_channels": 8, "credit": 4096}
)
ACCEPT = pack_json(FrameType.ACCEPT, 1, {})


def data(stream: int, content: bytes, channel: int = 1) -> bytes:
    """A DATA frame."""
    return pack_stream(FrameType.DATA, channel, stream, len(content)) + content


def close(channel: int = 1, **result: object) -> bytes:
    """A CLOSE frame of the server's."""
    return pack_json(FrameType.CLOSE, channel, result)


class Script(FramedProtocol):
    """A server's side that says what it is told to, and keeps what it hears."""

    def __init__(self, first: bytes) -> None:
        self.first = first
        self.frames: list[bytes] = []
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.transport.write(self.first)

    def stringReceived(self, string: bytes) -> None:
        self.frames.append(string)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.lost = reason

    def heard(self, kind: FrameType) -> list[bytes]:
        return [frame for frame in self.frames if frame[0] == kind]


class ScriptedTestCase(SynchronousTestCase):
    """Sessions with a scripted server, behind the real login."""

    def attempt(self, first: bytes = SETTINGS) -> Deferred[Session]:
        self.script = Script(first)
        factory = Factory.forProtocol(Protocol)
        factory.buildProtocol = lambda addr: self.script  # type: ignore[method-assign]
        self.server = MemoryServer(factory)
        attempt = Deferred.fromCoroutine(
            connect(self.server.clock, self.server.endpoint, self.server.key, timeout=10)
        )
        self.server.flush()
        return attempt

    def session(self) -> Session:
        return self.successResultOf(self.attempt())

    def say(self, *frames: bytes) -> None:
        """Have the server say something."""
        self.script.transport.write(b"".join(frames))
        self.server.flush()

    def run_(self, session: Session, *frames: bytes, **more: Any) -> Deferred[Result]:
        """Run a command to which the server says something."""
        result = Deferred.fromCoroutine(session.run(["true"], **more))
        self.server.flush()
        self.say(*frames)
        return result

    def assertFails(self, deferred: Deferred[Any], code: str) -> AgentError:
        error = self.failureResultOf(deferred, AgentError).value
        assert isinstance(error, AgentError)
        self.assertEqual(error.code, code)
        self.assertTrue(str(error))
        return error


class SessionTests(ScriptedTestCase):
    """What a session makes of what the server says."""

    def test_brokenProtocol(self) -> None:
        """Whatever breaks the protocol ends the command and the connection, with that code."""
        for name, frames in {
            "junk": [b"GET / HTTP/1.1\r\n\r\n"],
            "an empty frame": [encode_frame(b"")],
            "DATA before ACCEPT": [data(1, b"x")],
            "DATA on another channel": [ACCEPT, data(1, b"x", channel=2)],
            "CLOSE without a result": [ACCEPT, close()],
            "a status that is none": [ACCEPT, close(exit_status=256)],
            "a PONG nobody asked for": [pack(FrameType.PONG, 0, bytes(8))],
            "SETTINGS again": [SETTINGS],
        }.items():
            with self.subTest(name):
                session = self.session()
                self.assertFails(self.run_(session, *frames), "protocol")
                self.assertIsNotNone(self.script.lost)
                self.assertFails(Deferred.fromCoroutine(session.ping()), "protocol")

    def test_overrun(self) -> None:
        """More output than there was credit for breaks the protocol; what was within it is read."""
        session = self.session()
        started = session.start(["true"])
        self.server.flush()
        self.say(ACCEPT, *[data(2, bytes(65_536))] * 5)
        result = Deferred.fromCoroutine(self.successResultOf(started).wait())
        self.assertFails(result, "protocol")

    def test_refusedByGoingAway(self) -> None:
        """A GOAWAY refuses what was opened behind its last channel, and the rest finishes."""
        session = self.session()
        first, second = (Deferred.fromCoroutine(session.run([name])) for name in "ab")
        self.server.flush()
        self.say(ACCEPT, pack_goaway(1, "shutdown", ""), pack_json(FrameType.ACCEPT, 2, {}))
        self.assertFails(second, "shutdown")
        self.assertFails(Deferred.fromCoroutine(session.run(["c"])), "shutdown")
        self.say(data(1, b"first"), close(exit_status=0))
        self.assertEqual(self.successResultOf(first).stdout, b"first")
        self.script.transport.loseConnection()
        self.server.flush()
        self.assertFails(Deferred.fromCoroutine(session.ping()), "shutdown")

    def test_lost(self) -> None:
        """A connection that is lost loses every command, every ping, and the session."""
        session = self.session()
        waiting = [
            Deferred.fromCoroutine(session.run(["a"])),
            Deferred.fromCoroutine(session.run(["b"])),
            Deferred.fromCoroutine(session.ping()),
        ]
        self.server.flush()
        self.say(ACCEPT)
        self.server.break_connections()
        for each in [*waiting, Deferred.fromCoroutine(session.run(["c"]))]:
            error = self.failureResultOf(each, ConnectionLost).value
            self.assertEqual(error.code, "lost")

    def test_endOfInputFromWithin(self) -> None:
        """Who waited for a piece of input to be sent may go on at once: more, or the end."""
        session = self.session()
        started = session.start(["cat"], stdin=True)
        self.server.flush()
        self.say(ACCEPT)
        command = self.successResultOf(started)

        async def feed() -> None:
            await command.write(b"a" * 5000)
            await command.write(b"b" * 5000)
            command.end_input()

        fed = Deferred.fromCoroutine(feed())
        self.server.flush()
        self.assertNoResult(fed)
        self.say(pack_credit(1, 0, 100_000))
        self.successResultOf(fed)
        self.assertEqual(len(self.script.heard(FrameType.END)), 1)
        sent = b"".join(frame[6:] for frame in self.script.heard(FrameType.DATA))
        self.assertEqual(sent, b"a" * 5000 + b"b" * 5000)
        self.say(close(exit_status=0))
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(command.wait())).ok)

    def test_unwantedInput(self) -> None:
        """Input counts as sent once the command wants none, was cancelled or has ended."""
        for how in (
            lambda command: self.say(pack_stream(FrameType.STOP, 1, 0)),
            lambda command: command.cancel(),
            lambda command: self.say(close(exit_status=0)),
            lambda command: self.server.break_connections(),
        ):
            session = self.session()
            started = session.start(["cat"], stdin=True)
            self.server.flush()
            self.say(ACCEPT)
            command = self.successResultOf(started)
            sent = command.write(bytes(100_000))
            self.assertNoResult(sent)
            how(command)
            self.successResultOf(sent)
            self.successResultOf(command.write(b"more"))
            command.end_input()
            self.assertRaises(ValueError, command.write, b"more")

    def test_noInput(self) -> None:
        """A command that was started without input takes none."""
        session = self.session()
        started = session.start(["cat"])
        self.server.flush()
        self.say(ACCEPT)
        self.assertRaises(ValueError, self.successResultOf(started).write, b"x")

    def test_cancelledWait(self) -> None:
        """Who gives up waiting for a run ends the command; a later result is no surprise."""
        session = self.session()
        result = self.run_(session, ACCEPT)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.server.flush()
        self.assertEqual(len(self.script.heard(FrameType.CLOSE)), 1)
        self.say(data(1, b"late"), close(signal="TERM"))
        self.assertEqual(session._protocol._commands, {})

    def test_cancelledStart(self) -> None:
        """To cancel a start before it is accepted, or rejected, cancels the command."""
        for answer in (ACCEPT + close(signal="TERM"), pack_json(FrameType.REJECT, 1, {})):
            session = self.session()
            started = session.start(["true"])
            started.cancel()
            self.failureResultOf(started, CancelledError)
            self.server.flush()
            self.assertEqual(len(self.script.heard(FrameType.CLOSE)), 1)
            self.say(answer)
            self.assertEqual(session._protocol._commands, {})
            self.assertIsNone(self.script.lost)

    def test_cancelledRead(self) -> None:
        """To give up one read leaves the command as it is."""
        session = self.session()
        started = session.start(["true"])
        self.server.flush()
        self.say(ACCEPT)
        command = self.successResultOf(started)
        read = Deferred.fromCoroutine(command.read())
        read.cancel()
        self.failureResultOf(read, CancelledError)
        self.say(data(1, b"x"), close(exit_status=0))
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(command.wait())).stdout, b"x")

    def test_pings(self) -> None:
        """A PING of the server's is answered; ours take the time they take, and may be many."""
        session = self.session()
        self.say(pack(FrameType.PING, 0, b"12345678"))
        self.assertEqual(self.script.heard(FrameType.PONG), [b"\x0c\0\0\0\x0012345678"])
        pings = [Deferred.fromCoroutine(session.ping()) for _ in range(2)]
        self.server.flush()
        self.server.clock.advance(2)
        (ping,) = self.script.heard(FrameType.PING)
        self.say(pack(FrameType.PONG, 0, ping[5:]))
        self.assertEqual([self.successResultOf(each) for each in pings], [2, 2])

    def test_close(self) -> None:
        """A session that is closed is over at once; what ran on it is told so."""
        session = self.session()
        result = self.run_(session, ACCEPT)
        closed = session.close()
        self.assertIn("closed", str(self.assertFails(result, "lost")))
        self.assertFails(Deferred.fromCoroutine(session.run(["x"])), "lost")
        self.server.flush()
        self.successResultOf(closed)
        self.successResultOf(session.close())
        self.assertIsNotNone(self.script.lost)
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_closeWithAStuckServer(self) -> None:
        """A server that reads nothing cannot keep a session from being closed."""
        session = self.session()
        self.script.transport.pauseProducing()
        Deferred.fromCoroutine(session.run(["x"])).addErrback(lambda failure: None)
        closed = session.close()
        self.server.flush()
        self.assertNoResult(closed)
        self.server.clock.advance(5)
        self.server.flush()
        self.successResultOf(closed)

    def test_contextManager(self) -> None:
        """``async with`` closes the session, whatever happens in it."""
        agent = FakeAgent({("a",): Result(4)})
        session = agent.connect()

        async def use() -> int | None:
            async with session:
                return (await session.run(["a"])).exit_status

        self.assertEqual(agent.wait(use()), 4)
        with self.assertRaises(ConnectionLost):
            agent.wait(session.run(["a"]))

    def test_asynchronousIteration(self) -> None:
        """``async for`` gives the pieces of output, in order, and ends."""
        agent = FakeAgent({("a",): Result(0, stdout=b"out", stderr=b"err")})
        session = agent.connect()

        async def collect() -> list[tuple[int, bytes]]:
            return [(each.stream, each.data) async for each in await session.start(["a"])]

        self.assertEqual(agent.wait(collect()), [(1, b"out"), (2, b"err")])


class ConnectTests(ScriptedTestCase):
    """Connecting."""

    def test_silence(self) -> None:
        """A server that says nothing after the login is given up, and let go."""
        attempt = self.attempt(b"")
        self.server.clock.advance(9.9)
        self.assertNoResult(attempt)
        self.server.clock.advance(0.1)
        self.assertIn("says nothing", str(self.assertFails(attempt, "lost")))
        self.server.flush()
        self.assertIsNotNone(self.script.lost)

    def test_cancelledAfterTheLogin(self) -> None:
        """To cancel at the last moment closes the connection, too."""
        attempt = self.attempt(b"")
        attempt.cancel()
        self.failureResultOf(attempt, CancelledError)
        self.server.flush()
        self.assertIsNotNone(self.script.lost)

    def test_lostAfterTheLogin(self) -> None:
        """A server that leaves instead of saying anything, or says the wrong thing, is lost."""
        attempt = self.attempt(b"")
        self.server.break_connections()
        self.assertFails(attempt, "lost")
        self.assertFails(self.attempt(ACCEPT), "protocol")

    def test_errors(self) -> None:
        """Whatever an endpoint fails with because nobody is there is the one error for that."""

        class Nowhere:
            def __init__(self, error: Exception) -> None:
                self.error = error

            def connect(self, factory: Factory) -> Deferred[IProtocol]:
                raised: Deferred[IProtocol] = Deferred()
                raised.errback(self.error)
                return raised

        for error in (DNSLookupError("no such name"), ValueError("invalid"), OSError("path")):
            attempt = Deferred.fromCoroutine(
                connect(Clock(), Nowhere(error), new_key("owner"))  # type: ignore[arg-type]
            )
            self.failureResultOf(attempt, ConnectFailed)

    def test_mistakes(self) -> None:
        """A wrong address, or no key, is told before anything is tried."""
        key = new_key("owner")
        for where, given, expected in (
            ("tcp:example.org:1", key, ConfigurationError),
            ("", key, ConfigurationError),
            ("unix:/x", "/no/such/keyring", KeyringError),
        ):
            attempt = Deferred.fromCoroutine(connect(Clock(), where, given))
            self.failureResultOf(attempt, expected)

    def test_endpoints(self) -> None:
        """Each kind of address has the endpoint for it."""
        kinds: dict[str, Callable[[str], bool]] = {
            "tcp:127.0.0.1:1": lambda name: name == "TCP4ClientEndpoint",
            "tcp:[::1]:1": lambda name: name == "TCP6ClientEndpoint",
            "tcp:localhost:1": lambda name: name == "HostnameEndpoint",
            "unix:/x": lambda name: name == "UNIXClientEndpoint",
            "10.0.0.1": lambda name: "Wrapper" in name,
        }
        from twisted.internet.testing import MemoryReactorClock

        for where, fits in kinds.items():
            endpoint = endpoint_to(MemoryReactorClock(), Target.parse(where))
            self.assertTrue(fits(type(endpoint).__name__), where)
