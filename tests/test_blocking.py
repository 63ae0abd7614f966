"""Tests for :mod:`sockproto.blocking`: against a real server, and against one that misbehaves."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sockproto.blocking import Session, connect, connecting
from sockproto.blocking.transport import PlainTransport
from sockproto.errors import (
    AgentError,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    KeyringError,
    LoginFailed,
)
from sockproto.key import new_key
from sockproto.result import Output
from sockproto.wire.commands import CommandRequest
from sockproto.wire.frames import FrameDecoder, encode_frame
from sockproto.wire.handshake import Binding, Login
from sockproto.wire.messages import (
    FrameType,
    decode_json,
    pack,
    pack_credit,
    pack_goaway,
    pack_json,
    pack_stream,
)
from tests.servers import PATIENCE, AgentServer, ServedTestCase, ended

SETTINGS = pack_json(
    FrameType.SETTINGS, 0, {"max_frame": 131_072, "max_channels": 8, "credit": 4096}
)
ACCEPT = pack_json(FrameType.ACCEPT, 1, {})
LOGIN = Login("owner", "test", "agent", "here", bytes(16), "00000000", Binding.NONE)


def data(stream: int, content: bytes, channel: int = 1) -> bytes:
    """A DATA frame."""
    return pack_stream(FrameType.DATA, channel, stream, len(content)) + content


def close(channel: int = 1, **result: object) -> bytes:
    """A CLOSE frame of the server's."""
    return pack_json(FrameType.CLOSE, channel, result)


class RealServerTests(ServedTestCase, SynchronousTestCase):
    """With a real server."""

    def connect(self, where: str | None = None) -> Session:
        session = connect(**self.server.connection(where))
        self.addCleanup(session.close)
        return session

    def test_everyKindOfConnection(self) -> None:
        """TCP, a Unix socket and TLS: the same result, and the login says who the server is."""
        for where in (self.server.tcp, self.server.unix, self.server.tls):
            with self.connect(where) as session:
                result = session.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
            self.assertEqual((result.exit_status, result.signal), (3, None))
            self.assertEqual((result.stdout, result.stderr), (b"out\n", b"err\n"))
            self.assertFalse(result.ok or result.truncated or result.timed_out)
            self.assertEqual(session.login.server_id, "here")

    def test_largeInputAndOutput(self) -> None:
        """Input and output of many times every window come through whole, at the same time."""
        content = os.urandom(1000) * 6000
        for where in (self.server.tcp, self.server.tls):
            result = self.connect(where).run(["cat"], input=content, max_output=len(content))
            self.assertTrue(result.stdout == content)
            self.assertTrue(result.ok)

    def test_burstOverTLS(self) -> None:
        """What came in one read of many TLS records is there at once, however it is waited for."""
        session = self.connect(self.server.tls)
        command = session.start(["head", "-c", "900000", "/dev/zero"])
        count = 0
        while not command.ended:
            self.assertTrue(session._transport.wait(PATIENCE), f"{count} bytes came")
            session.pump(0)
            while (piece := command.take()) is not None:
                count += len(piece.data)
        self.assertEqual(count, 900_000)

    def test_outputAsItComes(self) -> None:
        """Output comes while the command runs, and an answer to it reaches the command."""
        command = self.connect().start(["sh", "-c", "echo one; read a; echo $a"], stdin=True)
        self.assertEqual(command.read(), Output(1, b"one\n"))
        command.write(b"two\n")
        self.assertEqual(list(command), [Output(1, b"two\n")])
        self.assertEqual(command.wait().exit_status, 0)

    def test_writeWaits(self) -> None:
        """A command that does not read takes a window of input and no more."""
        command = self.connect().start(["sh", "-c", "read line; sleep 1000"], stdin=True)
        taken = command.write_some(b"x\n" * 2_000_000)
        self.assertLess(taken, 1_000_000)
        self.assertEqual(command.write_some(b"y"), 0)
        command.cancel()
        self.assertEqual(command.write_some(b"y"), 1)
        command.write(b"it counts as sent")
        self.assertEqual(command.wait().signal, "TERM")

    def test_writeToOneThatHasClosedItsInput(self) -> None:
        """Input that a command wants no longer counts as sent, and the command goes on."""
        command = self.connect().start(
            ["sh", "-c", "exec <&-; echo closed; cat /dev/null"], stdin=True
        )
        command.write(b"x" * 3_000_000)
        command.end_input()
        self.assertEqual(command.wait().stdout, b"closed\n")

    def test_endOfInput(self) -> None:
        """After its end, and without any, writing is a mistake that is told of."""
        session = self.connect()
        command = session.start(["cat"], stdin=True)
        command.end_input()
        command.end_input()
        self.assertRaises(ValueError, command.write, b"more")
        self.assertRaises(ValueError, session.start(["true"]).write, b"more")
        self.assertEqual(command.wait().exit_status, 0)

    def test_signal(self) -> None:
        """A signal by any of its names reaches the command, and the result names it."""
        session = self.connect()
        for name in ("KILL", "SIGKILL", signal.SIGKILL, 9):
            command = session.start(["sleep", "1000"])
            command.signal(name)
            result = command.wait()
            self.assertEqual((result.exit_status, result.signal), (None, "KILL"))

    def test_cancel(self) -> None:
        """Cancelling ends the whole tree; the result says by what."""
        command = self.connect().start(["sh", "-c", "sleep 1000 & echo $!; wait"])
        piece = command.read()
        assert piece is not None
        command.cancel()
        self.assertIn(command.wait().signal, ("TERM", "KILL"))
        self.assertTrue(ended(int(piece.data)))

    def test_timeout(self) -> None:
        """A command whose time is up is ended, and the result says so."""
        result = self.connect().run(["sleep", "1000"], timeout=0.05)
        self.assertTrue(result.timed_out)
        self.assertFalse(result.ok)

    def test_maxOutput(self) -> None:
        """Of each stream what was asked for is kept; the result says that there was more."""
        result = self.connect().run(["sh", "-c", "echo 12345; echo 12345 >&2"], max_output=3)
        self.assertEqual((result.stdout, result.stderr, result.truncated), (b"123", b"123", True))
        self.assertEqual(result.exit_status, 0)

    def test_serversLimit(self) -> None:
        """Where the server's own limit ends a command, the result is truncated as well."""
        result = self.connect().run(["some"])
        self.assertEqual((len(result.stdout), result.truncated), (100_000, True))

    def test_environment(self) -> None:
        """Folder, variables and bytes that are not UTF-8 arrive as they were."""
        result = self.connect().run(
            ["sh", "-c", 'pwd; echo "$A"; printf %s "$1"', "sh", b"\xff\xfe"],
            cwd="/usr",
            env={"A": "b c"},
        )
        self.assertEqual(result.stdout, b"/usr\nb c\n\xff\xfe")

    def test_codes(self) -> None:
        """What keeps a command from being started has a code of its own for each reason."""
        session = self.connect()
        for code, argv, more in (
            ("not-found", ["no-such-program"], {}),
            ("not-executable", ["/etc/passwd"], {}),
            ("bad-cwd", ["true"], {"cwd": "/no/such/folder"}),
            ("refused", ["some", "more"], {}),
            ("invalid", [""], {}),
            ("too-long", ["echo", "x" * 200_000], {}),
        ):
            error = self.assertRaises(AgentError, session.run, argv, **more)
            self.assertEqual(error.code, code, str(error))
        self.assertEqual(session.run(["echo", "still", "here"]).stdout, b"still here\n")

    def test_interleaved(self) -> None:
        """Commands on one session are independent of each other."""
        session = self.connect()
        slow = session.start(["cat"], stdin=True)
        quick = session.start(["echo", "quick"])
        slow.write(b"slow")
        self.assertEqual(quick.wait().stdout, b"quick\n")
        slow.end_input()
        self.assertEqual(slow.wait().stdout, b"slow")

    def test_unread(self) -> None:
        """A command whose output is not read waits; others on the session do not."""
        session = self.connect()
        fat = session.start(["head", "-c", "5000000", "/dev/zero"])
        for _ in range(20):
            self.assertTrue(session.run(["true"]).ok)
        self.assertFalse(fat.ended)
        self.assertEqual(len(fat.wait().stdout), 5_000_000)

    def test_many(self) -> None:
        """Fifty commands at once, waited for in another order, give each its own result."""
        session = self.connect()
        commands = [session.start(["sh", "-c", f"echo {n}; exit {n}"]) for n in range(50)]
        results = [command.wait() for command in reversed(commands)]
        self.assertEqual(
            [(each.exit_status, each.stdout) for each in reversed(results)],
            [(n, b"%d\n" % n) for n in range(50)],
        )

    def test_ping(self) -> None:
        """A ping takes some time, not much, again and again."""
        session = self.connect()
        for _ in range(3):
            self.assertTrue(0 <= session.ping(PATIENCE) < PATIENCE)

    def test_closed(self) -> None:
        """After its end a session says so, and its commands have ended."""
        session = self.connect()
        command = session.start(["sh", "-c", "echo $$; exec sleep 1000"])
        piece = command.read()
        assert piece is not None
        session.close()
        session.close()
        for call in (command.wait, session.ping, session.pump):
            self.assertEqual(self.assertRaises(ConnectionLost, call).code, "lost")
        self.assertTrue(ended(int(piece.data)))

    def test_interrupted(self) -> None:
        """Ctrl-C while waiting ends the command; the session goes on, for it waited for a frame."""
        session = self.connect()
        wait, count = session._transport.wait, iter(range(1000))

        def interrupted(timeout: float | None) -> bool:
            if next(count) == 1:
                raise KeyboardInterrupt
            return wait(timeout)

        self.patch(session._transport, "wait", interrupted)
        self.assertRaises(KeyboardInterrupt, session.run, ["sh", "-c", "sleep 1000"])
        self.assertTrue(session.run(["true"]).ok)
        # Its CLOSE has come by then or comes now.
        while session._machine.channels:
            session.pump()

    def test_interruptedInTheMiddle(self) -> None:
        """Ctrl-C in the middle of a frame ends the session: nobody knows how much was sent."""
        session = self.connect()

        def torn(*_pieces: bytes) -> None:
            raise KeyboardInterrupt

        self.patch(session._transport, "send", torn)
        self.assertRaises(KeyboardInterrupt, session.run, ["true"])
        self.assertRaises(ConnectionLost, session.run, ["true"])

    def test_wrongKey(self) -> None:
        """With a key that the server does not have the login fails; its ref is in both logs."""
        error = self.assertRaises(LoginFailed, connect, self.server.tcp, new_key("owner"))
        self.assertEqual(error.code, "login")
        assert error.ref is not None
        self.assertIn(error.ref, str(error))
        self.server.wait_for_log(error.ref)

    def test_wrongServer(self) -> None:
        """Another server than the one expected is not talked to."""
        self.assertRaises(
            LoginFailed, connect, self.server.tcp, self.server.keyring, server_id="other"
        )

    def test_plaintextToTLS(self) -> None:
        """TLS where there is none, and none where there is, fail in words."""
        tls = self.server.tls
        for where in (f"tcp:{tls}", self.server.tcp.removeprefix("tcp:")):
            with self.subTest(where):
                error = self.assertRaises(
                    LoginFailed, connect, where, self.server.keyring, timeout=0.2
                )
                self.assertNotIn("Error(", str(error))


class LostTests(SynchronousTestCase):
    """When the server dies, or leaves."""

    def setUp(self) -> None:
        self.server = AgentServer()
        self.addCleanup(self.server.stop)

    def test_killed(self) -> None:
        """A server that dies in the middle: every command is lost, and so is the session; and its
        commands are ended."""
        sessions = [
            connect(**self.server.connection(w)) for w in (self.server.tcp, self.server.tls)
        ]
        commands = [each.start(["sh", "-c", "echo $$; exec sleep 1000"]) for each in sessions]
        pids = []
        for command in commands:
            piece = command.read()
            assert piece is not None
            pids.append(int(piece.data))
        self.server.kill()
        for session, command in zip(sessions, commands, strict=True):
            error = self.assertRaises(ConnectionLost, command.wait)
            self.assertEqual(error.code, "lost")
            self.assertNotIn("Error", str(error))
            self.assertRaises(ConnectionLost, session.run, ["true"])
        self.assertTrue(all(map(ended, pids)))
        self.assertRaises(ConnectFailed, connect, **self.server.connection())

    def test_goingAway(self) -> None:
        """A server that is told to stop lets a command finish, takes no other, and then is gone."""
        for where in (self.server.tcp, self.server.tls):
            session = connect(**self.server.connection(where))
            self.addCleanup(session.close)
            command = session.start(["cat"], stdin=True)
            if where is self.server.tcp:
                other, first = session, command
        self.server.send_signal(signal.SIGTERM)
        while session._machine.going_away is None:
            session.pump()
        error = self.assertRaises(AgentError, session.run, ["true"])
        self.assertEqual(error.code, "shutdown")
        for running in (command, first):
            running.write(b"to the end")
            running.end_input()
            self.assertEqual(running.wait().stdout, b"to the end")
        for each in (session, other):
            error = self.assertRaises(AgentError, self._pumpForever, each)
            self.assertEqual(error.code, "shutdown")

    def _pumpForever(self, session: Session) -> None:
        while True:
            session.pump()


class ScriptedTests(SynchronousTestCase):
    """With a server that misbehaves: all that it says is said before it is asked."""

    def session(self, *frames: bytes, end: bool = False) -> Session:
        ours, self.theirs = socket.socketpair()
        self.addCleanup(self.theirs.close)
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.theirs.sendall(SETTINGS)
        session = Session(PlainTransport(ours), LOGIN, FrameDecoder(256 * 1024))
        self.addCleanup(session.close)
        session.begin(time.monotonic() + PATIENCE)
        self.theirs.sendall(b"".join(frames))
        if end:
            self.theirs.shutdown(socket.SHUT_WR)
        return session

    def test_brokenProtocol(self) -> None:
        """Whatever breaks the protocol ends the command and the session, with that code."""
        for name, frames in {
            "junk": [b"GET / HTTP/1.1\r\n\r\n"],
            "an empty frame": [encode_frame(b"")],
            "an unknown type": [pack(FrameType.DATA, 0)[:4] + b"\x7f\0\0\0\0"],
            "too long a frame": [(1 << 24).to_bytes(4, "big")],
            "DATA before ACCEPT": [data(1, b"x")],
            "DATA on no stream": [ACCEPT, data(7, b"x")],
            "DATA on another channel": [ACCEPT, data(1, b"x", channel=2)],
            "DATA after END": [ACCEPT, pack_stream(FrameType.END, 1, 1), data(1, b"x")],
            "CLOSE without a result": [ACCEPT, close()],
            "CLOSE with a status that is none": [ACCEPT, close(exit_status=256)],
            "no JSON": [pack(FrameType.ACCEPT, 1, b"{")],
            "a PONG nobody asked for": [pack(FrameType.PONG, 0, bytes(8))],
            "SETTINGS again": [SETTINGS],
        }.items():
            session = self.session(*frames, end=True)
            error = self.assertRaises(AgentError, session.run, ["true"])
            self.assertIn("broke the protocol", str(error), name)
            self.assertEqual(error.code, "protocol", name)
            self.assertIs(self.assertRaises(AgentError, session.pump), error)
            self.assertEqual(session.fileno(), -1, name)

    def test_lateFramesOfARefusedChannel(self) -> None:
        """What comes for a channel that a GOAWAY has refused is ignored; others finish."""
        session = self.session(
            ACCEPT,
            pack_goaway(1, "shutdown", "bye"),
            pack_json(FrameType.ACCEPT, 2, {}),
            close(channel=2, exit_status=0),
            data(1, b"first"),
            close(exit_status=0),
        )
        first, second = (session.ask(CommandRequest.of([name])) for name in "ab")
        self.assertEqual(self.assertRaises(AgentError, second.wait).code, "shutdown")
        self.assertEqual(first.wait().stdout, b"first")

    def test_overrun(self) -> None:
        """More output than there was credit for breaks the protocol; what was within it is read."""
        session = self.session(ACCEPT, *[data(2, bytes(65_536))] * 5, end=True)
        command = session.ask(CommandRequest.of(["true"]))
        while not command.ended:
            session.pump()
        pieces = [command.read() for _ in range(4)]
        self.assertNotIn(None, pieces)
        self.assertEqual(self.assertRaises(AgentError, command.read).code, "protocol")

    def test_goodbyeWithoutACode(self) -> None:
        """A GOAWAY that gives no reason still gives a code and a message."""
        session = self.session(pack_goaway(0, "", ""), end=True)
        error = self.assertRaises(AgentError, session.run, ["true"])
        self.assertTrue(error.code and str(error))

    def test_resultBeforeTheEnd(self) -> None:
        """Output and result that came before the connection ended are not lost with it."""
        session = self.session(ACCEPT, data(1, b"all"), close(exit_status=4), end=True)
        self.theirs.close()
        result = session.run(["true"])
        self.assertEqual((result.exit_status, result.stdout), (4, b"all"))
        self.assertRaises(ConnectionLost, session.ping)

    def test_earlyEnd(self) -> None:
        """A connection that ends before the result is lost; the output before it was there."""
        session = self.session(ACCEPT, data(1, b"some"), end=True)
        command = session.start(["true"])
        self.assertEqual(command.read(), Output(1, b"some"))
        self.assertEqual(self.assertRaises(ConnectionLost, command.read).code, "lost")

    def test_halfAFrame(self) -> None:
        """A frame that never comes to its end is a lost connection."""
        session = self.session(ACCEPT[:7], end=True)
        self.assertRaises(ConnectionLost, session.run, ["true"])

    def test_stuckServer(self) -> None:
        """To a server that reads nothing, sending does not wait, and waiting has an end."""
        session = self.session(ACCEPT, pack_credit(1, 0, 2_000_000))
        command = session.start(["cat"], stdin=True)
        while not command.write_some(bytes(65_536)):
            session.pump()
        self.assertEqual(command.write_some(bytes(1_900_000)), 1_900_000)
        self.assertTrue(session.sending)
        command.cancel()
        session.pump(0)
        self.assertRaises(ConnectionLost, session.ping, 0.01)
        self.assertRaises(ConnectionLost, command.wait)

    def test_sentInOrder(self) -> None:
        """What the network did not take at once goes out in order, later, to the last byte."""
        session = self.session(ACCEPT, pack_credit(1, 0, 2_000_000))
        command = session.start(["cat"], stdin=True)
        content = os.urandom(1_000_000)
        unsent = memoryview(content)
        while unsent := unsent[command.write_some(unsent) :]:
            session.pump()
        command.end_input()
        self.assertTrue(session.sending)
        frames = FrameDecoder(1 << 20)
        sent: list[bytes] = []
        while session.sending:
            frames.feed(self.theirs.recv(1 << 16))
            session.pump(0)
        while not sent or sent[-1][0] != FrameType.END:
            frame = frames.next_frame()
            if frame is None:
                frames.feed(self.theirs.recv(1 << 16))
            else:
                sent.append(frame)
        got = b"".join(frame[6:] for frame in sent if frame[0] == FrameType.DATA)
        self.assertTrue(got == content)

    def test_promisesNoAnswers(self) -> None:
        """The session does not say that it answers pings: a program may be busy with other things,
        such as writing to a reader who has stopped, for any time, and keeps its connection."""
        self.session()
        frames = FrameDecoder(1 << 20)
        frames.feed(self.theirs.recv(1 << 16))
        settings = frames.next_frame()
        assert settings is not None
        self.assertEqual(settings[0], FrameType.SETTINGS)
        self.assertEqual(decode_json(settings[5:])["features"], [])

    def test_pings(self) -> None:
        """A PING is answered while the session is pumped, with the same bytes."""
        session = self.session(ACCEPT, pack(FrameType.PING, 0, b"12345678"), close(exit_status=0))
        session.run(["true"])
        frames = FrameDecoder(1 << 20)
        frames.feed(self.theirs.recv(1 << 16))
        kinds = {}
        while (frame := frames.next_frame()) is not None:
            kinds[frame[0]] = frame
        self.assertEqual(kinds[FrameType.PONG][5:], b"12345678")


class BeforeTheSessionTests(SynchronousTestCase):
    """What can go wrong before there is a session."""

    def attempt(self, say: bytes, end: bool = False, **options: Any) -> Callable[[], object]:
        """A connection whose other end has said all it will ever say."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        theirs.sendall(say)
        if end:
            theirs.shutdown(socket.SHUT_WR)
        self.patch(connecting, "open_socket", lambda target, timeout: ours)
        self.ours = ours
        where = options.pop("where", "unix:x")
        return lambda: connect(where, new_key("owner"), **options)

    def test_noLogin(self) -> None:
        """Silence, junk, an early end, in plaintext and in TLS: a failed login."""
        for where in ("unix:x", "127.0.0.1"):
            for say, end in (
                (b"", False),
                (b"", True),
                (b"SSH-2.0-x\r\n", True),
                (b"\0\0\0\5abc", True),
            ):
                with self.subTest(f"{where} {say!r} {end}"):
                    attempt = self.attempt(say, end, where=where, timeout=0.05)
                    error = self.assertRaises(LoginFailed, attempt)
                    self.assertNotIn("Error", str(error))
                    self.assertEqual(self.ours.fileno(), -1)

    def test_silenceAfterTheLogin(self) -> None:
        """A server that says nothing after the login is not waited for longer than was asked."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        session = Session(PlainTransport(ours), LOGIN, FrameDecoder(4096))
        error = self.assertRaises(ConnectionLost, session.begin, time.monotonic() + 0.01)
        self.assertIn("says nothing", str(error))
        self.assertEqual(ours.fileno(), -1)

    def test_nobodyThere(self) -> None:
        """Nothing that listens, no such name, no such socket: no connection, in words."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            for where in (
                f"tcp:127.0.0.1:{port}",
                f"127.0.0.1:{port}",
                "unix:/no/such/socket",
                "unix:" + "x" * 200,
                "no-such-host.invalid",
                "x" * 70 + ".invalid",
                "a\0b",
            ):
                error = self.assertRaises(
                    ConnectFailed, connect, where, new_key("owner"), timeout=5
                )
                self.assertEqual(error.code, "connect")

    def test_mistakes(self) -> None:
        """An address, a key file or a command that is none is the caller's own mistake."""
        key = new_key("owner")
        self.assertRaises(ConfigurationError, connect, "tcp:example.org:7100", key)
        self.assertRaises(KeyringError, connect, "unix:/x", "/no/such/keyring")
        session = Session(PlainTransport(socket.socketpair()[0]), LOGIN, FrameDecoder(4096))
        self.addCleanup(session.close)
        self.assertRaises(TypeError, session.run, "ls -l")
        self.assertRaises(ValueError, session.run, [])
        for timeout in (0, -1, float("nan"), float("inf")):
            self.assertRaises(ValueError, session.run, ["ls"], timeout=timeout)
