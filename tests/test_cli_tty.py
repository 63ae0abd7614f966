"""Tests of ``sockproto run --tty``, driven through a pseudo-terminal as a person would."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.servers import PATIENCE, ServedTestCase, client


def _control() -> None:
    """In the child: make its standard input the terminal that controls it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class TerminalTests(ServedTestCase, SynchronousTestCase):
    """The client on a terminal, whose other end is the test."""

    def setUp(self) -> None:
        self.master, self.slave = os.openpty()
        self.addCleanup(os.close, self.master)
        self.addCleanup(os.close, self.slave)
        self.resize(40, 120)
        self.before = self.modes()
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def modes(self) -> list[Any]:
        """The terminal's modes."""
        return termios.tcgetattr(self.slave)

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start ``run --tty`` on the terminal."""
        streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), self.slave)
        process = client(
            *("run", "--tty", *argv),
            server=self.server,
            environment={"TERM": "vt220"},
            preexec_fn=_control,
            **{**streams, **options},
        )

        def end() -> None:
            process.kill()
            process.wait()

        self.addCleanup(end)
        return process

    def expect(self, words: bytes) -> None:
        """Read from the terminal until some words have come; forget what came up to them."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.seen:
            if not select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.fail(f"{words!r} did not come, but {self.seen!r}")
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen.partition(words)[2]

    def type(self, keys: bytes) -> None:
        """Press some keys."""
        os.write(self.master, keys)

    def finish(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end, and read on meanwhile; the exit status."""
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 65536)
        return process.wait(1)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that nobody tells of."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline, "it did not come to that")
            time.sleep(0.01)

    def isRaw(self) -> bool:
        """Whether the terminal leaves keys as they are."""
        return not self.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def test_shell(self) -> None:
        """A shell: its terminal is as large and of the kind as ours, keys go to it, Ctrl-C too, its
        status is ours; and our terminal is as it was."""
        process = self.start("--", "sh", "-i")
        self.until(self.isRaw)
        self.type(b"stty size; echo $TERM\r")
        self.expect(b"40 120\r\nvt220\r\n")
        self.type(b"sh -c 'echo st${X}arted; exec sleep 600'\r")
        self.expect(b"started\r\n")
        self.type(b"\x03")
        self.type(b"echo st-$?\r")
        self.expect(b"st-130")
        self.type(b"exit 9\r")
        self.assertEqual(self.finish(process), 9)
        self.assertEqual(self.modes(), self.before)

    def test_resize(self) -> None:
        """A change of our terminal's size is passed on."""
        script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
        process = self.start("--", "sh", "-c", script)
        self.expect(b"ready\r\n")
        self.resize(50, 132)
        self.expect(b"50 132")
        self.assertEqual(self.finish(process), 0)

    def test_signals(self) -> None:
        """A signal that ends the client leaves the terminal as it was; and ends it."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            process = self.start("--", "cat")
            self.until(self.isRaw)
            process.send_signal(number)
            self.assertEqual(self.finish(process), -number)
            self.assertEqual(self.modes(), self.before)

    def test_interrupted(self) -> None:
        """An interrupt that is no key ends the command."""
        process = self.start("--", "sh", "-c", "trap '' HUP TERM INT; echo ready; sleep 600")
        self.expect(b"ready")
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(process), 130)
        self.assertEqual(self.modes(), self.before)

    def test_lost(self) -> None:
        """When the server goes, the terminal is as it was, and the reason is told."""
        process = self.start("--timeout", "0.5", "--", "cat")
        self.assertEqual(self.finish(process), 255)
        self.expect(b"sockproto: timeout: ")
        self.assertEqual(self.modes(), self.before)

    def test_stopped(self) -> None:
        """While the client is stopped the terminal is as it was; then it is raw again."""
        process = self.start("--", "cat")
        self.until(self.isRaw)
        process.send_signal(signal.SIGTSTP)
        # Its group is orphaned, so the kernel stops it only by a signal that nobody catches.
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        process.send_signal(signal.SIGCONT)
        self.until(self.isRaw)
        self.type(b"x\r")
        self.expect(b"x\r\nx\r\n")
        self.type(b"\x04")
        self.assertEqual(self.finish(process), 0)
        self.assertEqual(self.modes(), self.before)

    def test_refused(self) -> None:
        """A refusal is told on a terminal that was never changed."""
        process = self.start("--", "some")
        self.assertEqual(self.finish(process), 255)
        self.expect(b"sockproto: refused: some does not run on a terminal\r\n")
        self.assertEqual(self.modes(), self.before)

    def test_none(self) -> None:
        """Without a terminal on standard input: one line, and 255."""
        process = client(
            *("run", "--tty", "--", "true"), server=self.server, stdin=subprocess.DEVNULL
        )
        _output, errors = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 255)
        self.assertIn(b"sockproto: usage: --tty: standard input is no terminal", errors)

    def test_outputElsewhere(self) -> None:
        """Output may go elsewhere; the keys are the terminal's."""
        process = self.start("--", "sh", "-c", "read x; echo got $x", stdout=subprocess.PIPE)
        self.until(self.isRaw)
        self.type(b"it\r")
        assert process.stdout is not None
        with process.stdout:
            self.assertIn(b"got it\r\n", process.stdout.read())
        self.assertEqual(self.finish(process), 0)
