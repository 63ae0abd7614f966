"""Tests of the host process and the server's side of it, on real processes."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import sockproto
from sockproto.interfaces import IRunObserver
from sockproto.services.command import processes_link
from sockproto.services.command.processes import ProcessHost, Run, Spawn

PATH = "/usr/local/bin:/usr/bin:/bin"
FOLDER = str(Path(sockproto.__file__).parent.parent)
PR_GET_CHILD_SUBREAPER = 37


@implementer(IReadDescriptor)
class Output:
    """Collects what comes out of a pipe, and closes it at its end."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self.data = b""
        self.ended: Deferred[bytes] = Deferred()
        self._reactor = reactor
        self._descriptor = descriptor
        self._waiting: list[tuple[int, Deferred[list[bytes]]]] = []
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "Output"

    def doRead(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        self.data += data
        for count, waiter in self._waiting[:]:
            if self.data.count(b"\n") >= count:
                self._waiting.remove((count, waiter))
                waiter.callback(self.data.split(b"\n")[:count])
        if not data:
            self.close()

    def connectionLost(self, reason: Any) -> None:
        # Some reactors tell of the end of a pipe in this way, and not by an empty read.
        self.close()

    def lines(self, count: int) -> Deferred[list[bytes]]:
        """Wait for some whole lines."""
        waiter: Deferred[list[bytes]] = Deferred()
        if self.data.count(b"\n") >= count:
            waiter.callback(self.data.split(b"\n")[:count])
        else:
            self._waiting.append((count, waiter))
        return waiter

    def close(self) -> None:
        """Close the pipe."""
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1
            self.ended.callback(self.data)


@implementer(IRunObserver)
class Command:
    """A run with all that is heard of it."""

    def __init__(self, host: ProcessHost, reactor: Any, spec: Spawn) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.over: Deferred[list[tuple[Any, ...]]] = Deferred()
        self.running: Deferred[None] = Deferred()
        self.run: Run = host.spawn(spec, self)
        self._outputs = [
            Output(reactor, descriptor)
            for descriptor in (self.run.stdout, self.run.stderr)
            if descriptor is not None
        ]

    @property
    def stdout(self) -> Output:
        return self._outputs[0]

    @property
    def stderr(self) -> Output:
        return self._outputs[1]

    @property
    def stdin(self) -> int:
        assert self.run.stdin is not None
        return self.run.stdin

    def started(self, pid: int) -> None:
        self.events.append(("started",))
        self.pid = pid
        self.running.callback(None)

    def failed(self, code: str, message: str) -> None:
        self.events.append(("failed", code))
        self.over.callback(self.events)

    def exited(self, exit_status: int | None, signal: str | None) -> None:
        self.events.append(("exited", exit_status, signal))

    def gone(self) -> None:
        self.events.append(("gone",))
        self.over.callback(self.events)

    def hostLost(self) -> None:
        self.events.append(("hostLost",))
        self.over.callback(self.events)

    def close(self) -> None:
        """Close its pipes."""
        for output in self._outputs:
            output.close()
        if self.run.stdin is not None:
            with contextlib.suppress(OSError):
                os.close(self.run.stdin)


def withWord(word: str) -> list[int]:
    """The pids of all processes that have a word in their arguments."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                data = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in data:
                found.append(int(name))
    return found


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[str]:
    """The states of a process's children."""
    states = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                states.append(fields[0])
    return states


class HostedTestCase(TestCase):
    """A test case with a host, which finds and ends what its commands leave."""

    timeout = 30

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.host = self.makeHost()
        self.commands: list[Command] = []
        self.addCleanup(self.cleanUp)
        # Part of the arguments of what a test starts, so that it can be told from other processes.
        self.word = f"1000.{secrets.randbelow(10**12):012d}"

    def makeHost(self) -> ProcessHost:
        """The host that is tested."""
        return ProcessHost(self.reactor)

    async def cleanUp(self) -> None:
        """End all that a test has started."""
        await self.host.stop()
        for command in self.commands:
            command.close()
        left = withWord(self.word)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def hostPid(self) -> int:
        """The pid of the host process."""
        (pid,) = self.host.pids
        return pid

    def spawn(self, *argv: str, **settings: Any) -> Command:
        """Spawn a command."""
        settings = {"env": {"PATH": PATH}, "cwd": "/", "grace": 0.3, **settings}
        command = Command(self.host, self.reactor, Spawn(argv=argv, **settings))
        self.commands.append(command)
        return command

    def shell(self, script: str, **settings: Any) -> Command:
        """Spawn a shell script, with the test's word as its first argument."""
        return self.spawn("sh", "-c", script, "sh", self.word, **settings)

    async def until(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        """Wait until a condition holds, looking at it now and then."""
        deadline = self.reactor.seconds() + seconds
        while not condition():
            if self.reactor.seconds() > deadline:
                self.fail(f"after {seconds} s: {what}")
            await deferLater(self.reactor, 0.01, lambda: None)


class OutcomeTests(HostedTestCase):
    """What is heard of commands."""

    async def test_statuses(self) -> None:
        """Exit statuses and signals arrive as they are, with the output of both streams."""
        cases: dict[str, tuple[Any, ...]] = {
            "exit 0": (0, None),
            "exit 3": (3, None),
            "exit 255": (255, None),
            "kill -9 $$": (None, "KILL"),
            "kill -s HUP $$": (None, "HUP"),
            "kill -40 $$": (None, f"RTMIN+{40 - signal.SIGRTMIN}"),
            "kill -64 $$": (None, f"RTMIN+{64 - signal.SIGRTMIN}"),
        }
        for script, expected in cases.items():
            command = self.shell(f"echo out; echo err >&2; {script}")
            self.assertEqual(
                await command.over, [("started",), ("exited", *expected), ("gone",)], script
            )
            self.assertEqual(await command.stdout.ended, b"out\n")
            self.assertEqual(await command.stderr.ended, b"err\n")
            self.assertEqual(command.pid, command.run.pid)

    async def test_failures(self) -> None:
        """What cannot be started fails with a code, and nothing else is heard."""
        for expected, argv, settings in (
            ("not-found", ["nope"], {}),
            ("not-executable", ["/etc/passwd"], {}),
            ("bad-cwd", ["true"], {"cwd": "/nope"}),
            ("too-long", ["true", "x" * 3_000_000], {}),
            ("protocol", ["true", "\0"], {}),
        ):
            command = self.spawn(*argv, **settings)
            self.assertEqual(await command.over, [("failed", expected)])
            self.assertEqual(await command.stdout.ended, b"")
            command.run.signal("TERM")
            command.run.end()

    async def test_interface(self) -> None:
        """The observer of these tests is what the interface says."""
        verifyObject(IRunObserver, self.spawn("true"))

    async def test_bytes(self) -> None:
        """Arguments, environment and directory reach the program byte by byte, however long."""
        folder = os.fsencode(Path(self.mktemp()).absolute()) + b"/d\xff\n"
        os.makedirs(folder)
        argv = [bytes([n]) * 50 for n in range(1, 256)] * 10
        program = (
            "import os, sys\n"
            "for each in (*map(os.fsencode, sys.argv[1:]), os.environb[b'ODD'], os.getcwdb()):\n"
            "    os.write(1, each + b'\\0')"
        )
        command = self.spawn(
            sys.executable,
            "-c",
            program,
            *map(os.fsdecode, argv),
            env={"PATH": PATH, "ODD": os.fsdecode(b"\xfe=\n")},
            cwd=os.fsdecode(folder),
        )
        await command.over
        output = await command.stdout.ended
        self.assertEqual(output.split(b"\0"), [*argv, b"\xfe=\n", folder, b""])

    async def test_input(self) -> None:
        """Standard input is a pipe if that is asked for, and else empty."""
        command = self.spawn("cat", stdin=True)
        os.write(command.stdin, b"some words")
        os.close(command.stdin)
        command.run.stdin = None
        self.assertEqual(await command.stdout.ended, b"some words")
        command = self.spawn("cat")
        self.assertIsNone(command.run.stdin)
        self.assertEqual((await command.over)[1:], [("exited", 0, None), ("gone",)])

    async def test_descriptors(self) -> None:
        """A command gets no descriptors but the three, and this side's do not block."""
        others = [self.spawn("cat", stdin=True) for _ in range(3)]
        command = self.shell("ls /proc/$$/fd")
        self.assertEqual((await command.stdout.ended).split(), [b"0", b"1", b"2"])
        run = others[0].run
        for descriptor in (run.stdin, run.stdout, run.stderr):
            assert descriptor is not None
            self.assertFalse(os.get_blocking(descriptor))
            self.assertFalse(os.get_inheritable(descriptor))

    async def test_dispositions(self) -> None:
        """Whatever the server ignores and blocks, a command starts with no signal so treated."""
        old = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGHUP, signal.SIGTTIN)}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR1])
        try:
            self.host.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in old.items():
                signal.signal(number, handler)
        command = self.spawn("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")
        values = {int(line.split()[1], 16) for line in (await command.stdout.ended).splitlines()}
        # 32 and 33 are the C library's own, which no program can set or clear.
        self.assertEqual({value & ~(0b11 << 31) for value in values}, {0})

    async def test_session(self) -> None:
        """A command leads a session and a process group of its own, and works where it was told."""
        command = self.spawn("sh", "-c", "pwd; ps -o pid=,pgid=,sid= $$ || true", cwd="/usr")
        lines = (await command.stdout.ended).split()
        self.assertEqual(lines[0], b"/usr")
        self.assertEqual({int(each) for each in lines[1:]}, {command.pid})

    async def test_signal(self) -> None:
        """A signal goes to the process group, and does not count as an end."""
        command = self.shell("sleep $1 & trap 'echo got; exit 7' USR1; echo ready; wait")
        await command.stdout.lines(1)
        command.run.signal("USR1")
        self.assertEqual((await command.over)[-2:], [("exited", 7, None), ("gone",)])
        self.assertEqual(await command.stdout.ended, b"ready\ngot\n")
        self.assertEqual(withWord(self.word), [])
        self.assertRaises(ValueError, command.run.signal, "SIGUSR1")
        command.run.signal("USR1")

    async def test_observerFails(self) -> None:
        """An observer that raises is logged, and disturbs neither the next event nor others."""
        command = self.spawn("true")
        command.started = lambda pid: 1 / 0  # type: ignore[method-assign,assignment]
        other = self.spawn("true")
        self.assertEqual((await command.over)[-1], ("gone",))
        self.assertEqual((await other.over)[-1], ("gone",))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class EndTests(HostedTestCase):
    """The end of a command's tree."""

    # A daemon of the book: own session, two forks, cleared environment, closed descriptors.
    ESCAPE = (
        "env -i setsid /bin/sh -c '(/bin/sleep $0 <&- >&- 2>&- & ) ; "
        '(trap "" TERM; exec /bin/sleep $0 <&- >&- 2>&-) & \' $1; '
    )

    async def test_term(self) -> None:
        """A command that heeds TERM ends by it, at once."""
        command = self.shell("sleep $1 & sleep $1; exit 1", grace=20)
        await command.running
        await self.until(lambda: len(withWord(self.word)) >= 3, 5, "not started")
        command.run.end()
        command.run.end()
        self.assertEqual(await command.over, [("started",), ("exited", None, "TERM"), ("gone",)])
        self.assertEqual(withWord(self.word), [])

    async def test_kill(self) -> None:
        """What ignores TERM, or is stopped, is killed after its grace."""
        command = self.shell("trap '' TERM; sleep $1 & echo; kill -STOP $!; sleep $1; sleep $1")
        await command.stdout.lines(1)
        began = self.reactor.seconds()
        command.run.end()
        self.assertEqual((await command.over)[-2:], [("exited", None, "KILL"), ("gone",)])
        self.assertGreater(self.reactor.seconds() - began, 0.25)
        self.assertEqual(withWord(self.word), [])

    async def test_orderly(self) -> None:
        """A command that cleans up after TERM within its grace keeps its exit status."""
        command = self.shell("sleep $1 & trap 'echo bye; exit 5' TERM; echo; wait", grace=10)
        await command.stdout.lines(1)
        command.run.end()
        self.assertEqual((await command.over)[-2:], [("exited", 5, None), ("gone",)])
        self.assertEqual(await command.stdout.ended, b"\nbye\n")

    async def test_exitedBeforeGone(self) -> None:
        """The leader's end is heard at once, even while something of its tree holds out."""
        command = self.shell("(trap '' TERM; echo; sleep $1; sleep $1) & sleep $1", grace=1.0)
        await command.stdout.lines(1)
        command.run.end()
        await self.until(lambda: len(command.events) == 2, 0.8, "exited was not heard")
        self.assertEqual(command.events, [("started",), ("exited", None, "TERM")])
        await command.over
        self.assertEqual(withWord(self.word), [])

    async def test_escapes(self) -> None:
        """Double forks, setsid and a cleared environment do not save a process; others live on."""
        other = self.spawn("sleep", "1000")
        escape = self.shell(self.ESCAPE + "echo; sleep $1")
        third = self.spawn("sleep", "1000")
        await DeferredList([other.running, third.running])
        await escape.stdout.lines(1)
        await self.until(lambda: len(withWord(self.word)) >= 4, 5, "not started")
        escape.run.end()
        self.assertEqual((await escape.over)[-1], ("gone",))
        self.assertEqual(withWord(self.word), [], "gone, but not all are dead")
        for each in (other, third):
            self.assertEqual(each.events, [("started",)])
            os.kill(each.pid, 0)

    async def test_manyAtOnce(self) -> None:
        """Forty trees that are ended together end together."""
        commands = [self.shell(self.ESCAPE + "echo; sleep $1") for _ in range(40)]
        await DeferredList([command.stdout.lines(1) for command in commands])
        for command in commands:
            command.run.end()
        await DeferredList([command.over for command in commands])
        self.assertEqual(withWord(self.word), [])

    async def test_leftBehind(self) -> None:
        """What a command leaves behind when it ends by itself stays, even when the server stops."""
        command = self.shell(self.ESCAPE + "setsid sleep $1 >&- 2>&- & echo; exit 0")
        self.assertEqual((await command.over)[-2:], [("exited", 0, None), ("gone",)])
        left: list[int] = []

        def three() -> bool:
            left[:] = withWord(self.word)
            return len(left) == 3

        await self.until(three, 5, "not three sleep")
        command.run.end()
        other = self.shell(self.ESCAPE + "echo; sleep $1")
        await other.stdout.lines(1)
        other.run.end()
        await other.over
        self.assertEqual(withWord(self.word), left)
        await self.host.stop()
        self.assertEqual(withWord(self.word), left)

    async def test_reapsOrphans(self) -> None:
        """Orphans that end are reaped, also while a leader is held, and the host does not spin."""
        holding = self.shell(
            "(trap '' TERM; echo; sleep $1; sleep $1; sleep $1) & sleep $1", grace=1.5
        )
        await holding.stdout.lines(1)
        holding.run.end()
        await self.until(lambda: len(holding.events) == 2, 1, "exited was not heard")
        ticks = processorTicks(self.hostPid)
        for _ in range(5):
            command = self.spawn("sh", "-c", "(sleep 0.05 >&- 2>&- &) ; exit 0")
            await command.over
        zombies: list[int] = []

        def reaped() -> bool:
            # The held leader is the one zombie that is allowed.
            states = children(self.hostPid)
            zombies.append(states.count("Z"))
            return states == ["Z", "S"] or sorted(states) == ["S", "Z"]

        await self.until(reaped, 1, "orphans were not reaped")
        self.assertEqual(holding.events[-1], ("exited", None, "TERM"), "the leader was not held")
        self.assertLess(processorTicks(self.hostPid) - ticks, 30, "the host spins")
        await holding.over
        await self.until(lambda: children(self.hostPid) == [], 1, "zombies stay")

    async def test_storm(self) -> None:
        """A bounded storm of forks that ignore TERM and change sessions ends."""
        program = (
            "import mmap, os, signal, struct, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "count = mmap.mmap(-1, 4096)\n"
            "leader = os.getpid()\n"
            "while True:\n"
            "    n, = struct.unpack_from('I', count)\n"
            "    if n >= 280:\n"
            "        time.sleep(60)\n"
            "    struct.pack_into('I', count, 0, n + 1)\n"
            "    if os.fork() == 0:\n"
            "        os.setsid()\n"
            "    elif n % 3 == 0 and os.getpid() != leader:\n"
            "        os._exit(0)\n"
            "    time.sleep(0.004)\n"
        )
        command = self.spawn(sys.executable, "-c", program, self.word, grace=0.05)
        await self.until(lambda: len(withWord(self.word)) > 30, 10, "no storm")
        command.run.end()
        self.assertEqual((await command.over)[-1], ("gone",))
        self.assertEqual(withWord(self.word), [])
        await self.until(lambda: children(self.hostPid) == [], 2, "zombies stay")


def processorTicks(pid: int) -> int:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class LifeTests(HostedTestCase):
    """The life of the host process and of the server."""

    async def test_soak(self) -> None:
        """Hundreds of runs leave no zombie and no descriptor, here or in the host."""
        self.host.start()
        await self.spawn("true").over
        self.commands.pop().close()
        before = descriptors(os.getpid()), descriptors(self.hostPid)

        async def worker() -> None:
            for n in range(50):
                command = self.spawn(*(["true"] if n % 5 else ["nope"]))
                await command.over
                command.close()
                self.commands.remove(command)

        await DeferredList([Deferred.fromCoroutine(worker()) for _ in range(6)])
        after = descriptors(os.getpid()), descriptors(self.hostPid)
        self.assertEqual(after, before)
        self.assertEqual(children(self.hostPid), [])

    async def test_stop(self) -> None:
        """Stopping ends all commands, tells of their ends, and fires once the host has exited."""
        commands = [self.shell(EndTests.ESCAPE + "echo; sleep $1") for _ in range(5)]
        await DeferredList([command.stdout.lines(1) for command in commands])
        pid = self.hostPid
        first, second = self.host.stop(), self.host.stop()
        late = self.spawn("true")
        await first
        await second
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        for command in commands:
            self.assertEqual((await command.over)[-1], ("gone",))
        self.assertEqual(await late.over, [("failed", "shutdown")])
        self.assertEqual(withWord(self.word), [])
        self.host.start()
        self.assertEqual((await self.spawn("true").over)[-1], ("gone",))

    async def test_startWhileStopping(self) -> None:
        """Starting again while the former host is still ending its commands gives a new one."""
        command = self.shell("trap '' TERM; echo; sleep $1; sleep $1")
        await command.stdout.lines(1)
        former = self.hostPid
        stopping = self.host.stop()
        self.host.start()
        self.assertNotEqual(self.hostPid, former)
        self.assertEqual((await self.spawn("true").over)[-1], ("gone",))
        await stopping
        self.assertEqual(command.events[-1], ("gone",))
        self.assertEqual((await self.spawn("true").over)[-1], ("gone",))

    async def test_stopIdle(self) -> None:
        """Stopping what was never started, or has stopped, is fine."""
        await self.host.stop()
        self.host.start()
        await self.host.stop()
        await self.host.stop()

    async def test_hostSurvivesSignals(self) -> None:
        """Ctrl-C at a terminal and a hang-up do not reach the host, and would not end it."""
        self.host.start()
        await self.spawn("true").over
        pid = self.hostPid
        self.assertNotEqual(os.getsid(pid), os.getsid(0))
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE):
            os.kill(pid, number)
        self.assertEqual((await self.spawn("true").over)[-1], ("gone",))
        self.assertEqual(self.hostPid, pid)

    async def test_hostTerminated(self) -> None:
        """SIGTERM makes the host end all trees first; the next command gets a new one."""
        command = self.shell(EndTests.ESCAPE + "echo; sleep $1")
        await command.stdout.lines(1)
        os.kill(self.hostPid, signal.SIGTERM)
        self.assertEqual((await command.over)[-1], ("gone",))
        self.assertEqual(withWord(self.word), [])

    async def test_hostKilled(self) -> None:
        """When the host dies every observer hears it, and the next command gets a new host."""
        commands = [self.shell("echo; exec sleep $1") for _ in range(3)]
        # Output may come before the event; both are waited for.
        await DeferredList([command.stdout.lines(1) for command in commands])
        await DeferredList([command.running for command in commands])
        former = self.hostPid
        os.kill(former, signal.SIGKILL)
        for command in commands:
            self.assertEqual(await command.over, [("started",), ("hostLost",)])
            command.run.signal("TERM")
            command.run.end()
        self.assertEqual((await self.spawn("true").over)[-1], ("gone",))
        self.assertNotEqual(self.hostPid, former)
        await self.until(lambda: not os.path.exists(f"/proc/{former}"), 2, "not reaped")

    async def test_stalledHost(self) -> None:
        """Requests for a host that does not read wait, up to a bound; none is lost after all."""
        self.patch(processes_link, "_MOST_WAITING", 5)
        self.host.start()
        await self.spawn("true").over
        os.kill(self.hostPid, signal.SIGSTOP)
        commands = []
        try:
            for _ in range(100):
                commands.append(self.spawn("true", "x" * 20_000))
                if commands[-1].run.stdout is None:
                    break
            self.assertEqual(await commands.pop().over, [("failed", "busy")])
        finally:
            os.kill(self.hostPid, signal.SIGCONT)
        self.assertGreater(len(commands), 5)
        for command in commands:
            self.assertEqual((await command.over)[-1], ("gone",))

    async def test_stalledServer(self) -> None:
        """Events for a server that does not read wait in the host, and then arrive in order."""
        makePair = socket.socketpair

        def narrow(*arguments: Any) -> tuple[socket.socket, socket.socket]:
            ours, theirs = makePair(*arguments)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            return ours, theirs

        self.patch(socket, "socketpair", narrow)
        commands = [self.spawn("true") for _ in range(150)]
        pid = self.hostPid
        deadline = self.reactor.seconds() + 5
        # The reactor does not run meanwhile, so nothing is read.
        while children(pid) or self.reactor.seconds() < deadline - 4.5:
            self.assertLess(self.reactor.seconds(), deadline)
        for command in commands:
            self.assertEqual(await command.over, [("started",), ("exited", 0, None), ("gone",)])

    async def test_embedder(self) -> None:
        """This process is no subreaper, and its own children and SIGCHLD are left to it."""
        await deferLater(self.reactor, 0, lambda: None)  # now the reactor has set up its own
        before = signal.getsignal(signal.SIGCHLD)
        with subprocess.Popen(["sh", "-c", "exit 9"]) as own:
            self.host.start()
            await self.spawn("true").over
            self.assertEqual(own.wait(), 9)
        self.assertIs(signal.getsignal(signal.SIGCHLD), before)
        subreaper = ctypes.c_int(-1)
        ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(subreaper), 0, 0, 0)
        self.assertEqual(subreaper.value, 0)

    async def test_serverDies(self) -> None:
        """When the server is killed the host ends all trees, and exits."""
        program = (
            f"import sys; sys.path[:0] = {[FOLDER, *filter(None, sys.path)]!r}\n"
            "import os, time\n"
            "from twisted.internet import reactor\n"
            "from sockproto.services.command.processes import ProcessHost, Spawn\n"
            "class Silent:\n"
            "    def started(self, pid): pass\n"
            "host = ProcessHost(reactor)\n"
            "argv = ('sh', '-c', os.environ['SCRIPT'], 'sh', os.environ['WORD'])\n"
            "spec = Spawn(argv=argv, grace=0.3,\n"
            f"             env={{'PATH': {PATH!r}}}, cwd='/')\n"
            "reactor.callWhenRunning(lambda: [host.spawn(spec, Silent()) for _ in range(3)])\n"
            # A fork that lives on with the server's end of the socket must not hide its death.
            "reactor.callLater(0.1, lambda: os.fork() or time.sleep(20) or os._exit(0))\n"
            "reactor.callLater(0.2, print, host, flush=True)\n"
            "reactor.run()\n"
        )
        server = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "SCRIPT": EndTests.ESCAPE + "sleep $1", "WORD": self.word},
        )
        self.addCleanup(os.killpg, server.pid, signal.SIGKILL)
        with server:
            assert server.stdout is not None
            server.stdout.readline()
            await self.until(lambda: len(withWord(self.word)) >= 10, 5, "not started")
            hosts = childPids(server.pid, "main()")
            self.assertEqual(len(hosts), 1)
            server.kill()
        await self.until(lambda: withWord(self.word) == [], 3, "something lives on")
        await self.until(lambda: not os.path.exists(f"/proc/{hosts[0]}"), 2, "the host lives on")


def childPids(pid: int, word: str) -> list[int]:
    """The children of a process that have a word in their arguments."""
    return [
        each
        for each in withWord(word)
        if f"\nPPid:\t{pid}\n" in Path(f"/proc/{each}/status").read_text()
    ]


class ReactorTests(TestCase):
    """The reactors that a server may run on."""

    PROGRAM = (
        "import json, os, sys\n"
        "sys.path[:0] = json.loads(sys.argv[1])\n"
        "from importlib import import_module\n"
        "import_module(f'twisted.internet.{sys.argv[2]}reactor').install()\n"
        "from twisted.internet import reactor\n"
        "from sockproto.services.command.processes import ProcessHost, Spawn\n"
        "host = ProcessHost(reactor)\n"
        "left = [20]\n"
        "class Observer:\n"
        "    def started(self, pid):\n"
        "        if self.run_ends: self.run.end()\n"
        "    def exited(self, exit_status, signal): self.end = exit_status, signal\n"
        "    def gone(self):\n"
        "        assert self.end == ((None, 'TERM') if self.run_ends else (3, None)), self.end\n"
        "        left[0] -= 1\n"
        "        if not left[0]:\n"
        "            host.stop().addCallback(lambda _: (print('good'), reactor.stop()))\n"
        "def go():\n"
        "    for n in range(20):\n"
        "        observer = Observer()\n"
        "        observer.run_ends = n % 2\n"
        "        argv = ('sleep', '100') if n % 2 else ('sh', '-c', 'exit 3')\n"
        "        spec = Spawn(argv=argv, env={'PATH': os.environ['PATH']}, cwd='/')\n"
        "        observer.run = host.spawn(spec, observer)\n"
        "reactor.callWhenRunning(go)\n"
        "reactor.callLater(20, reactor.stop)\n"
        "reactor.run()\n"
    )

    def test_reactors(self) -> None:
        """The host works under the select, poll, epoll and asyncio reactors."""
        path = json.dumps([FOLDER, *filter(None, sys.path)])
        servers = {
            name: subprocess.Popen(
                [sys.executable, "-c", self.PROGRAM, path, name], stdout=subprocess.PIPE, text=True
            )
            for name in ("select", "poll", "epoll", "asyncio")
        }
        output = {name: server.communicate()[0].strip() for name, server in servers.items()}
        self.assertEqual(output, dict.fromkeys(servers, "good"))
