"""Tests of the host process's parts that need no process: endings, signals, what went wrong."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import sockproto
from sockproto.services.command.host_ending import Ending, Phase
from sockproto.services.command.host_signals import signal_name, signal_number
from sockproto.services.command.host_spawn import SpawnFailed, spawn
from sockproto.services.command.tree import Process

A = Process(101, 50, 101, 1000)
B = Process(102, 101, 101, 1001)
C = Process(103, 102, 101, 1002)


class EndingTests(SynchronousTestCase):
    """:class:`Ending` with a grace of one second from time 10."""

    def setUp(self) -> None:
        self.ending = Ending(1.0, 10.0)

    def step(self, now: float, *members: Process) -> list[tuple[int, int]]:
        """What is sent, as signal numbers and pids."""
        return [(number, process.pid) for number, process in self.ending.step(members, now)]

    def test_asks(self) -> None:
        """TERM goes to the whole tree, and CONT so that stopped processes hear it."""
        self.assertEqual(self.ending.due, 10.0)
        self.assertEqual(
            self.step(10.0, A, B),
            [
                (signal.SIGTERM, 101),
                (signal.SIGCONT, 101),
                (signal.SIGTERM, 102),
                (signal.SIGCONT, 102),
            ],
        )
        self.assertEqual(self.ending.due, 11.0)

    def test_goneInTime(self) -> None:
        """A tree that goes within its grace is not signalled again; two scans have to agree."""
        self.step(10.0, A, B)
        self.ending.hurry(10.2)
        self.assertEqual(self.ending.due, 10.2)
        self.assertEqual(self.step(10.2, B), [])
        self.assertEqual(self.ending.due, 11.0)
        self.assertEqual(self.step(10.4), [])
        self.assertIsNot(self.ending.phase, Phase.GONE)
        self.assertEqual(self.ending.due, 10.4)
        self.assertEqual(self.step(10.4), [])
        self.assertIs(self.ending.phase, Phase.GONE)

    def test_stopsThenKills(self) -> None:
        """After the grace all are stopped until a scan shows nothing new, then all are killed."""
        self.step(10.0, A)
        self.assertEqual(self.step(11.0, A, B), [(signal.SIGSTOP, 101), (signal.SIGSTOP, 102)])
        self.assertEqual(self.step(11.0, A, B, C), [(signal.SIGSTOP, 103)])
        self.assertEqual(self.ending.due, 11.0)
        self.assertEqual(
            self.step(11.0, A, B, C),
            [(signal.SIGKILL, 101), (signal.SIGKILL, 102), (signal.SIGKILL, 103)],
        )
        self.assertGreater(self.ending.due, 11.0)
        self.assertEqual(self.step(11.1, C), [(signal.SIGKILL, 103)])
        self.step(11.2)
        self.step(11.2)
        self.assertIs(self.ending.phase, Phase.GONE)

    def test_reusedPid(self) -> None:
        """A process under the pid of one that was stopped before is new."""
        self.step(10.0, A)
        self.step(11.0, A)
        self.assertEqual(self.step(11.0, A._replace(start=1099)), [(signal.SIGSTOP, 101)])

    def test_forksForEver(self) -> None:
        """A tree that shows something new at every scan is killed nevertheless."""
        self.step(10.0, A)
        sent: list[tuple[int, int]] = []
        for n in range(1000):
            sent = self.step(11.0, A._replace(pid=1000 + n))
            if sent[0][0] == signal.SIGKILL:
                break
        self.assertEqual(sent[0][0], signal.SIGKILL)

    def test_stuck(self) -> None:
        """What outlives KILL for seconds is called stuck, and looked at less and less often."""
        for now in (10.0, 11.0, 11.0, 12.0):
            self.step(now, A)
        self.assertFalse(self.ending.stuck)
        for _ in range(20):
            self.step(20.0, A)
        self.assertTrue(self.ending.stuck)
        self.assertEqual(self.ending.due, 21.0)

    def test_noGrace(self) -> None:
        """Without grace the next scan stops and kills."""
        ending = Ending(0.0, 10.0)
        ending.step([A], 10.0)
        self.assertEqual(ending.due, 10.0)
        self.assertEqual(ending.step([A], 10.0), [(signal.SIGSTOP, A)])


class SignalTests(SynchronousTestCase):
    """Signals by name."""

    def test_roundTrip(self) -> None:
        """Every signal that can be sent has a name of its own, without SIG."""
        names = {signal_name(number): number for number in signal.valid_signals()}
        self.assertEqual(len(names), len(signal.valid_signals()))
        for name, number in names.items():
            self.assertFalse(name.startswith("SIG"), name)
            self.assertEqual(signal_number(name), number)

    def test_realTime(self) -> None:
        """Real-time signals count from RTMIN, also the one that Python calls SIGRTMAX."""
        self.assertEqual(signal_name(signal.SIGRTMIN), "RTMIN")
        self.assertEqual(signal_name(signal.SIGRTMIN + 3), "RTMIN+3")
        self.assertEqual(signal_name(signal.SIGRTMAX), f"RTMIN+{signal.SIGRTMAX - signal.SIGRTMIN}")

    def test_unknown(self) -> None:
        """Other names are refused."""
        for name in ("", "SIGTERM", "term", "9", "NOPE", "RTMIN+99", "RTMIN+", "_DFL", "RTMIN-1"):
            self.assertRaises(ValueError, signal_number, name)


class SpawnFailedTests(SynchronousTestCase):
    """What :func:`spawn` says when nothing could be started."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.null = os.open(os.devnull, os.O_RDWR)
        self.addCleanup(os.close, self.null)

    def write(self, name: str, text: str, mode: int = 0o755) -> str:
        """Write a program."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def failure(self, *argv: str, cwd: str | None = None, env: dict[str, str] | None = None):
        """The code and the message of a spawn that fails."""
        environment = {"PATH": str(self.folder)} if env is None else env
        folder = str(self.folder) if cwd is None else cwd
        error = self.assertRaises(
            SpawnFailed, spawn, argv, environment, folder, self.null, self.null, self.null
        )
        return error.code, str(error)

    def test_notFound(self) -> None:
        """A program that is not there, by name in the PATH of its environment and by path."""
        for program in ("sh", "nope", "./nope", "/nope/nope", "a" * 300, "/dev/null/x", ""):
            code, message = self.failure(program)
            self.assertEqual(code, "not-found", message)
        self.assertEqual(self.failure()[0], "not-found")

    def test_notExecutable(self) -> None:
        """A folder, a file without the right, a script without #!, one without its interpreter."""
        self.write("plain", "echo\n")
        self.write("broken", "#!/nope/interpreter\n")
        self.write("private", "#!/bin/sh\n", stat.S_IRUSR)
        for program in ("/", "plain", "./plain", "broken", "./broken", "private"):
            code, message = self.failure(program)
            self.assertEqual(code, "not-executable", message)
        self.assertIn("#!", self.failure("plain")[1])
        self.assertIn("interpreter that does not exist", self.failure("broken")[1])

    def test_cwd(self) -> None:
        """A folder that cannot be entered is told from a program that is not there."""
        program = self.write("ok", "#!/bin/sh\n")
        for cwd in ("/nope", program, ""):
            self.assertEqual(self.failure("ok", cwd=cwd)[0], "bad-cwd", cwd)
        self.assertEqual(self.failure("/", cwd="/")[0], "not-executable")
        self.assertEqual(self.failure("/nope", cwd="/nope")[0], "bad-cwd")

    def test_tooLong(self) -> None:
        """Arguments that the system does not take."""
        self.write("ok", "#!/bin/sh\n")
        self.assertEqual(self.failure("ok", "x" * 3_000_000)[0], "too-long")

    def test_nul(self) -> None:
        """What no program can get, since a NUL byte ends it."""
        self.assertEqual(self.failure("ok", "a\0b")[0], "protocol")
        self.assertEqual(self.failure("ok", env={"A=B": "c"})[0], "protocol")

    def test_messageIsPrintable(self) -> None:
        """A program's name brings no control characters, odd bytes or length into a message."""
        message = self.failure("\x1b[31m\n\udcff" + "x" * 5000)[1]
        self.assertTrue(message.isprintable())
        self.assertLess(len(message), 400)


class ImportTests(SynchronousTestCase):
    """What the host process loads."""

    def test_standardLibraryOnly(self) -> None:
        """The host process starts without site-packages, and without Twisted."""
        folder = str(Path(sockproto.__file__).parent.parent)
        program = (
            f"import sys; sys.path.append({folder!r})\n"
            "import sockproto.services.command.host\n"
            "print([m for m in ('twisted', 'attr', 'zope', 'asyncio') if m in sys.modules])"
        )
        output = subprocess.check_output([sys.executable, "-I", "-S", "-c", program], text=True)
        self.assertEqual(output.strip(), "[]")
