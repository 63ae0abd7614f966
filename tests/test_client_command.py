"""Tests for :mod:`sockproto.client` with a real server: commands that really run."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.trial.unittest import TestCase

from sockproto import (
    AgentError,
    Command,
    ConnectFailed,
    ConnectionLost,
    LoginFailed,
    Session,
    connect,
    new_key,
)
from sockproto.result import Output
from tests.servers import PATIENCE, AgentServer, ServedTestCase, ended


class ClientTestCase(TestCase):
    """Connects."""

    timeout = PATIENCE

    async def connect(self, server: AgentServer, where: str | None = None) -> Session:
        session = await connect(reactor, **server.connection(where))
        self.addCleanup(session.close)
        return session


async def first_line(command: Command) -> bytes:
    """The first line of a command's output, which comes in one piece."""
    piece = await command.read()
    assert piece is not None
    return piece.data


class RealServerTests(ServedTestCase, ClientTestCase):
    """With a real server."""

    async def test_everyKindOfConnection(self) -> None:
        """TCP, a Unix socket and TLS: the same result, and the login says who the server is."""
        for where in (self.server.tcp, self.server.unix, self.server.tls):
            session = await self.connect(self.server, where)
            result = await session.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
            self.assertEqual((result.exit_status, result.signal), (3, None))
            self.assertEqual((result.stdout, result.stderr), (b"out\n", b"err\n"))
            self.assertFalse(result.ok or result.truncated or result.timed_out)
            self.assertEqual(session.login.server_id, "here")

    async def test_largeInputAndOutput(self) -> None:
        """Input and output of many times every window come through whole, at the same time."""
        content = os.urandom(1000) * 6000
        for where in (self.server.tcp, self.server.tls):
            session = await self.connect(self.server, where)
            result = await session.run(["cat"], input=content)
            self.assertTrue(result.stdout == content)

    async def test_outputAsItComes(self) -> None:
        """Output comes while the command runs, and an answer to it reaches the command."""
        session = await self.connect(self.server)
        command = await session.start(["sh", "-c", "echo one; read a; echo $a"], stdin=True)
        self.assertEqual(await command.read(), Output(1, b"one\n"))
        await command.write(b"two\n")
        self.assertEqual([each async for each in command], [Output(1, b"two\n")])
        self.assertEqual((await command.wait()).exit_status, 0)

    async def test_writeWaits(self) -> None:
        """A command that does not read has a write wait, until it is ended."""
        session = await self.connect(self.server)
        command = await session.start(["sh", "-c", "read a; echo $a; sleep 1000"], stdin=True)
        sent = command.write(b"x\n" * 1_500_000)
        self.assertEqual(await first_line(command), b"x\n")
        await session.run(["true"])
        self.assertFalse(sent.called)
        command.cancel()
        await sent
        self.assertEqual((await command.wait()).signal, "TERM")

    async def test_closedInput(self) -> None:
        """Input that a command wants no longer counts as sent, and the command goes on."""
        session = await self.connect(self.server)
        command = await session.start(
            ["sh", "-c", "exec <&-; echo closed; cat /dev/null"], stdin=True
        )
        await command.write(b"x" * 3_000_000)
        command.end_input()
        self.assertEqual((await command.wait()).stdout, b"closed\n")

    async def test_signal(self) -> None:
        """A signal by any of its names reaches the command, and the result names it."""
        session = await self.connect(self.server)
        for name in ("KILL", "SIGKILL", signal.SIGKILL, 9):
            command = await session.start(["sleep", "1000"])
            command.signal(name)
            result = await command.wait()
            self.assertEqual((result.exit_status, result.signal), (None, "KILL"))

    async def test_cancel(self) -> None:
        """Cancelling ends the whole tree."""
        session = await self.connect(self.server)
        command = await session.start(["sh", "-c", "sleep 1000 & echo $!; wait"])
        pid = int(await first_line(command))
        command.cancel()
        self.assertIn((await command.wait()).signal, ("TERM", "KILL"))
        self.assertTrue(ended(pid))

    async def test_timeout(self) -> None:
        """A command whose time is up is ended, and the result says so."""
        session = await self.connect(self.server)
        result = await session.run(["sleep", "1000"], timeout=0.05)
        self.assertTrue(result.timed_out)

    async def test_limits(self) -> None:
        """Where output was cut, here or there, the result is truncated."""
        session = await self.connect(self.server)
        result = await session.run(["echo", "12345"], max_output=3)
        self.assertEqual((result.stdout, result.truncated, result.ok), (b"123", True, True))
        result = await session.run(["some"])
        self.assertEqual((len(result.stdout), result.truncated), (100_000, True))

    async def test_codes(self) -> None:
        """What keeps a command from being started has a code of its own for each reason."""
        session = await self.connect(self.server)
        cases: tuple[tuple[str, list[str], dict[str, Any]], ...] = (
            ("not-found", ["no-such-program"], {}),
            ("not-executable", ["/etc/passwd"], {}),
            ("bad-cwd", ["true"], {"cwd": "/no/such/folder"}),
            ("refused", ["some", "more"], {}),
            ("invalid", [""], {}),
            ("too-long", ["echo", "x" * 200_000], {}),
        )
        for code, argv, more in cases:
            for call in (session.run, session.start):
                try:
                    await call(argv, **more)
                except AgentError as error:
                    self.assertEqual(error.code, code)
                else:
                    self.fail(code)
        self.assertEqual((await session.run(["echo", "here"])).stdout, b"here\n")

    async def test_unread(self) -> None:
        """A command whose output is not read waits; others on the session do not."""
        session = await self.connect(self.server)
        fat = await session.start(["head", "-c", "5000000", "/dev/zero"])
        for _ in range(10):
            self.assertTrue((await session.run(["true"])).ok)
        self.assertLess(sum(len(piece.data) for piece in fat._pieces), 2_000_000)
        self.assertEqual(len((await fat.wait()).stdout), 5_000_000)

    async def test_many(self) -> None:
        """Fifty commands at once give each its own result."""
        session = await self.connect(self.server)
        results = await gatherResults(
            [
                ensureDeferred(session.run(["sh", "-c", f"cat; exit {n}"], input=b"%d" % n))
                for n in range(50)
            ]
        )
        self.assertEqual(
            [(each.exit_status, each.stdout) for each in results],
            [(n, b"%d" % n) for n in range(50)],
        )

    async def test_close(self) -> None:
        """To close a session ends what runs on it."""
        session = await self.connect(self.server, self.server.tls)
        command = await session.start(["sh", "-c", "echo $$; exec sleep 1000"])
        pid = int(await first_line(command))
        self.assertGreaterEqual(await session.ping(), 0)
        await session.close()
        self.assertTrue(ended(pid))

    async def test_notLetIn(self) -> None:
        """A wrong key, another server, or TLS where there is none: the login fails."""
        cases: tuple[tuple[str, Any, dict[str, Any]], ...] = (
            (self.server.tcp, new_key("owner"), {}),
            (self.server.tls, new_key("owner"), {}),
            (self.server.tcp, self.server.keyring, {"server_id": "other"}),
            (self.server.tcp.removeprefix("tcp:"), self.server.keyring, {"timeout": 0.2}),
            ("tcp:" + self.server.tls, self.server.keyring, {"timeout": 0.2}),
        )
        for where, key, more in cases:
            with self.assertRaises(LoginFailed):
                await connect(reactor, where, key, **more)

    async def test_notThere(self) -> None:
        """Nobody that listens, no such socket, no such name."""
        for where in ("unix:/no/such/socket", "tcp:127.0.0.1:1", "a" * 70 + ".invalid"):
            with self.assertRaises(ConnectFailed):
                await connect(reactor, where, new_key("owner"), timeout=PATIENCE)


class LostTests(ClientTestCase):
    """When the server goes."""

    async def test_killed(self) -> None:
        """A server that dies in the middle loses what runs, and ends it."""
        server = AgentServer()
        self.addCleanup(server.stop)
        sessions = [await self.connect(server, where) for where in (server.tcp, server.tls)]
        commands = [await each.start(["sh", "-c", "echo $$; exec sleep 1000"]) for each in sessions]
        pids = [int(await first_line(each)) for each in commands]
        server.kill()
        for command in commands:
            with self.assertRaises(ConnectionLost) as caught:
                await command.wait()
            self.assertEqual(caught.exception.code, "lost")
        self.assertTrue(all(map(ended, pids)))
