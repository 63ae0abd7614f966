"""Tests of commands over a real connection, with real processes, from the client to the pipes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from sockproto.auth.server import AuthenticatingFactory
from sockproto.auth.tls import ClientTLS, tlsFactory
from sockproto.client import Session, connect
from sockproto.client.command import Command
from sockproto.errors import AgentError
from sockproto.key import Key
from sockproto.limits import Limits
from sockproto.services.command.processes import ProcessHost
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import OWNER_RULE, CommandRules
from sockproto.services.command.service import CommandService
from sockproto.session.factory import AgentFactory
from sockproto.tls import automatic_context
from tests.commandfakes import openDescriptors

KEY = Key("owner", secret=bytes(32))
_SERVER = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from tests.test_session_real import KEY, agent, loginTo
from sockproto.limits import Limits
factory = agent(reactor, Limits(idle_seconds=600))[0]
endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
endpoint.listen(loginTo(reactor, factory)).addCallback(
    lambda port: print(port.getHost().port, flush=True)
)
from twisted.internet.stdio import StandardIO
from twisted.internet.protocol import Protocol
class Stop(Protocol):
    def connectionLost(self, reason):
        reactor.stop()
StandardIO(Stop())
reactor.run()
"""


def agent(
    reactor: Any, limits: Limits, rules: CommandRules | None = None
) -> tuple[AgentFactory, CommandService, ProcessHost]:
    """An agent's factory, its service and its host process."""
    host = ProcessHost(reactor)
    found = CommandRules((), owner_unrestricted=True) if rules is None else rules
    service = CommandService(reactor, host, found, limits)
    return AgentFactory(reactor, {"command": service}, limits), service, host


def loginTo(reactor: Any, factory: AgentFactory) -> AuthenticatingFactory:
    """The factory behind the login."""
    keys: dict[str, Key] = {KEY.id: KEY}
    return AuthenticatingFactory(reactor, factory, keys, "agent", "web1", factory.limits)


def alive(pid: int) -> bool:
    """Whether there is such a process, and no mere zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


class RealCommandsTests(TestCase):
    """An agent with a host process on a loopback port, and clients of it."""

    timeout = 60
    protection = False

    async def setUpAgent(
        self, rules: CommandRules | None = None, **limits: Any
    ) -> tuple[Any, Session]:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.factory, self.service, self.host = agent(reactor, Limits(**limits), rules)
        served: Any = loginTo(reactor, self.factory)
        if self.protection:
            served = tlsFactory(self.reactor, automatic_context(), served)
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(served)
        self.port = port.getHost().port
        self.sessions: list[Session] = []
        self.addCleanup(self.host.stop)
        self.addCleanup(self.factory.whenEmpty)
        self.addCleanup(port.stopListening)
        self.addCleanup(self.closeAll)
        return port, await self.client()

    async def client(self) -> Session:
        where: Any = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port)
        if self.protection:
            where = wrapClientTLS(ClientTLS(), where)
        session = await connect(self.reactor, where, KEY)
        self.sessions.append(session)
        return session

    def closeAll(self) -> Deferred[Any]:
        return gatherResults([session.close() for session in self.sessions])

    async def until(self, condition: Any) -> None:
        """Wait for what has to become true; the test's own time-out bounds it."""
        while not condition():
            await deferLater(self.reactor, 0.01)

    async def test_endsAndStreams(self) -> None:
        """Statuses and signals come back as they were, and both streams apart."""
        _port, session = await self.setUpAgent()
        result = await session.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
        self.assertEqual(
            (result.exit_status, result.signal, result.stdout, result.stderr),
            (3, None, b"out\n", b"err\n"),
        )
        for status in (0, 1, 77, 255):
            result = await session.run(["sh", "-c", f"exit {status}"])
            self.assertEqual((result.exit_status, result.signal), (status, None))
        for name in ("TERM", "KILL", "SEGV"):
            result = await session.run(["sh", "-c", f"ulimit -c 0; kill -{name} $$"])
            self.assertEqual((result.exit_status, result.signal), (None, name))

    async def test_keepalive(self) -> None:
        """The kernel watches the connection too, under TLS as well."""
        await self.setUpAgent()
        (served,) = self.factory.sessions
        handle = served.transport.socket
        self.assertEqual(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
        self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60)

    async def test_failures(self) -> None:
        """What cannot be run is told apart by its code."""
        _port, session = await self.setUpAgent()
        plain = Path(self.mktemp())
        plain.write_text("no program")
        for argv, cwd, code in (
            (["/nonexistent/program"], None, "not-found"),
            ([str(plain.absolute())], None, "not-executable"),
            (["true"], "/nonexistent", "bad-cwd"),
        ):
            error: Any = await self.assertFailure(
                Deferred.fromCoroutine(session.run(argv, cwd=cwd)), AgentError
            )
            self.assertEqual(error.code, code)

    async def test_input(self) -> None:
        """20 MB of stdin arrive whole, and come back whole."""
        _port, session = await self.setUpAgent()
        sent = os.urandom(1 << 16) * 320
        counted = await session.run(["wc", "-c"], input=sent)
        self.assertEqual(int(counted.stdout), len(sent))
        command = await session.start(["cat"], stdin=True)
        command.write(sent)
        command.end_input()
        digest, size = hashlib.sha256(), 0
        async for piece in command:
            digest.update(piece.data)
            size += len(piece.data)
        self.assertEqual(size, len(sent))
        self.assertEqual(digest.digest(), hashlib.sha256(sent).digest())

    async def test_inputNotRead(self) -> None:
        """A command that reads no input does not hold its client up, and its output still comes."""
        _port, session = await self.setUpAgent()
        result = await session.run(
            ["sh", "-c", "exec <&-; head -c 300000 /dev/zero; echo end >&2"], input=bytes(3 << 20)
        )
        self.assertEqual((result.exit_status, result.stderr), (0, b"end\n"))
        self.assertEqual(result.stdout, bytes(300_000))

    async def test_manyAtOnce(self) -> None:
        """200 commands at once over one connection: one whose reader has stopped holds up none of
        the others."""
        _port, session = await self.setUpAgent()
        began = time.monotonic()
        stalled = await session.start(["cat", "/dev/zero"])
        results = await gatherResults(
            [
                Deferred.fromCoroutine(session.run(["sh", "-c", f"echo {n}; exit {n}"]))
                for n in range(199)
            ]
        )
        self.manyTook = time.monotonic() - began
        self.assertEqual(
            [(each.exit_status, each.stdout) for each in results],
            [(n, b"%d\n" % n) for n in range(199)],
        )
        stalled.cancel()
        result = await stalled.wait()
        self.assertEqual(result.signal, "TERM")

    async def test_stop(self) -> None:
        """A client that closes early ends a command as a closed pipe does."""
        _port, session = await self.setUpAgent()
        command = await session.start(["yes"])
        await command.read()
        protocol: Any = session._protocol
        protocol.transport.write(protocol._machine.send_stop(command._channel, 1))
        self.assertEqual((await command.wait()).signal, "PIPE")

    async def test_background(self) -> None:
        """A command whose background process holds its pipes ends after the drain time, and the
        process is left alone."""
        _port, session = await self.setUpAgent(drain_seconds=0.2)
        result = await session.run(["sh", "-c", "sleep 600 & echo $!"])
        pid = int(result.stdout)
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.assertEqual(result.exit_status, 0)
        self.assertTrue(alive(pid))
        self.assertEqual(self.service.running, 0)

    async def test_endlessBackground(self) -> None:
        """A background process that writes for ever is over with the output limit."""
        rule = CommandRule(argv="any", allow=("owner",), max_output=1_000_000)
        _port, session = await self.setUpAgent(CommandRules([rule]))
        result = await session.run(["sh", "-c", "yes & exit 4"])
        self.assertEqual((result.exit_status, result.truncated), (4, True))
        self.assertEqual(len(result.stdout), 1_000_000)

    async def startTree(self, session: Session, **settings: Any) -> tuple[Command, list[int]]:
        """Start a command with a child of the same session, one of another, and an orphan."""
        script = (
            "sleep 600 & echo $!; setsid sleep 601 & echo $!;"
            " (sleep 602 & echo $!); echo $$; trap '' TERM; while :; do sleep 1; done"
        )
        command = await session.start(["sh", "-c", script], **settings)
        seen = b""
        while seen.count(b"\n") < 4:
            piece = await command.read()
            assert piece is not None
            seen += piece.data
        pids = [int(word) for word in seen.split()]
        self.addCleanup(self.killAll, pids)
        return command, pids

    def killAll(self, pids: list[int]) -> None:
        for pid in filter(alive, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def test_cancelEndsTree(self) -> None:
        """A cancelled command is gone with everything it has started when the CLOSE comes."""
        _port, session = await self.setUpAgent(kill_seconds=0.1)
        command, pids = await self.startTree(session)
        command.cancel()
        await command.wait()
        self.assertEqual([pid for pid in pids if alive(pid)], [])

    async def test_timeoutEndsTree(self) -> None:
        """A command whose time is up is gone with everything it has started."""
        _port, session = await self.setUpAgent(kill_seconds=0.1)
        command, pids = await self.startTree(session, timeout=1.0)
        result = await command.wait()
        self.assertTrue(result.timed_out)
        self.assertEqual([pid for pid in pids if alive(pid)], [])

    async def test_disconnectEndsTree(self) -> None:
        """A lost client ends its commands with everything they have started."""
        _port, session = await self.setUpAgent(kill_seconds=0.1)
        _command, pids = await self.startTree(session)
        await session.close()
        await self.until(lambda: not self.service.running)
        self.assertEqual([pid for pid in pids if alive(pid)], [])

    async def test_hostLost(self) -> None:
        """The death of the host process is told; what it ran is ended without it, and the next
        command runs in another."""
        _port, session = await self.setUpAgent()
        command = await session.start(["sh", "-c", "echo $$; exec sleep 600"])
        piece = await command.read()
        assert piece is not None
        (pid,) = self.host.pids
        os.kill(pid, signal.SIGKILL)
        error: Any = await self.assertFailure(Deferred.fromCoroutine(command.wait()), AgentError)
        self.assertEqual(error.code, "lost")
        self.assertEqual((await session.run(["echo", "again"])).stdout, b"again\n")
        await self.until(lambda: not alive(int(piece.data)))

    async def test_descriptors(self) -> None:
        """Nothing stays open of commands, however they came to their end."""
        rule = CommandRule(
            name="some",
            argv=("head", "-c", "200000", "/dev/zero"),
            allow=("owner",),
            max_output=9,
            new_privileges=True,
        )
        _port, session = await self.setUpAgent(
            CommandRules([rule, OWNER_RULE]), kill_seconds=0.1, drain_seconds=0.1
        )
        await session.run(["true"])
        before = openDescriptors()
        for _ in range(3):
            await session.run(["cat"], input=b"x" * 100_000)
            await session.run(["true"], input=b"x" * 500_000)
            await session.run(["some"])
            await session.run(["sleep", "600"], timeout=0.05)
            for argv in (["/nonexistent"], ["true", "x" * 120_000]):
                with contextlib.suppress(AgentError):
                    await session.run(argv)
            command = await session.start(["cat"], stdin=True)
            command.cancel()
            await command.wait()
            starting = session.start(["sleep", "600"], stdin=True)
            starting.cancel()
            await self.assertFailure(starting, CancelledError)
            other = await self.client()
            await other.start(["cat", "/dev/zero"], stdin=True)
            await other.close()
            self.sessions.remove(other)
        await self.until(lambda: not self.service.running)
        await self.until(lambda: openDescriptors() == before)


class RealTLSCommandsTests(TestCase):
    """The same behind TLS."""

    timeout = 60
    protection = True
    setUpAgent = RealCommandsTests.setUpAgent
    client = RealCommandsTests.client
    closeAll = RealCommandsTests.closeAll
    test_endsAndStreams = RealCommandsTests.test_endsAndStreams
    test_keepalive = RealCommandsTests.test_keepalive
    test_input = RealCommandsTests.test_input
    test_manyAtOnce = RealCommandsTests.test_manyAtOnce


class MemoryTests(TestCase):
    """What a server of its own process keeps for those who do not read."""

    timeout = 60

    def residentSize(self, pid: int) -> int:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the kernel does not say")

    async def test_stalledReaders(self) -> None:
        """``yes`` into clients that have stopped reading costs under 4 MiB: of one channel, and of
        the connection."""
        from twisted.internet import reactor

        clock: Any = reactor
        server: Any = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )

        def end() -> None:
            server.stdin.close()
            server.stdout.close()
            server.wait()

        self.addCleanup(end)
        where = TCP4ClientEndpoint(clock, "127.0.0.1", int(server.stdout.readline()))
        session = await connect(clock, where, KEY)
        self.addCleanup(session.close)
        for _ in range(5):
            await session.run(["head", "-c", "8000000", "/dev/zero"])
        before = self.residentSize(server.pid)
        # Of a stopped channel the server sends what there is credit for ...
        channel = await session.start(["yes"])
        await channel.read()
        # ... and of a stopped connection what the system's buffers hold.
        other = await connect(clock, where, KEY)
        protocol: Any = other._protocol
        await other.start(["yes"])
        protocol.transport.pauseProducing()
        self.addCleanup(protocol.transport.abortConnection)
        for _ in range(20):
            await session.ping()
            await deferLater(clock, 0.02)
        self.grown = self.residentSize(server.pid) - before
        self.assertLess(self.grown, 4 << 20)
