"""``twistd`` and ``twist`` as real processes, for tests of how they start and how they end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.servers import PATIENCE, client_environment

__all__ = ["ProcessTestCase", "Started"]

# PR_SET_PDEATHSIG is 1, SIGTERM 15: nothing outlives the tests' own process.
_PROGRAMS = {
    "twistd": "from twisted.scripts.twistd import run",
    "twist": "from twisted.application.twist._twist import Twist; run = Twist.main",
    "sockproto": "from sockproto.cli.main import main as run",
}
_START = "import ctypes, sys; ctypes.CDLL(None).prctl(1, 15); {program}; sys.exit(run())"


class Started:
    """A process whose output, both streams together, is read as it comes."""

    def __init__(self, program: str, *argv: str, folder: Path, **environment: str) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START.format(program=_PROGRAMS[program]), *argv],
            cwd=folder,
            env=client_environment(HOME=str(folder), **environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    @property
    def lines(self) -> list[str]:
        """What came so far."""
        return self.output.splitlines()

    def until(self, text: str) -> str:
        """Wait for a line that holds a text.

        :return: the line from there on.
        """
        stdout = self.process.stdout
        assert stdout is not None
        deadline = time.monotonic() + PATIENCE
        while True:
            for line in self.output.split("\n")[:-1]:
                if text in line:
                    return line[line.index(text) + len(text) :]
            if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"no {text!r} in time, but:\n{self.output}")
            data = stdout.read()
            if not data:
                raise AssertionError(f"no {text!r}, but the end of:\n{self.output}")
            self.output += data.decode("utf-8", "replace")

    def wait(self) -> int:
        """Wait for its end, with all that it says until then; its exit status."""
        stdout = self.process.stdout
        assert stdout is not None
        os.set_blocking(stdout.fileno(), True)
        try:
            self.output += self.process.communicate(timeout=PATIENCE)[0].decode()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end of:\n{self.output}") from None
        return self.process.returncode

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end."""
        self.process.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class ProcessTestCase(SynchronousTestCase):
    """Tests with real processes in a folder of their own, which is their home."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="sp-", ignore_cleanup_errors=True)
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def start(self, program: str, *argv: str, **environment: str) -> Started:
        """Start ``twistd``, ``twist`` or ``sockproto``."""
        started = Started(program, *argv, folder=self.folder, **environment)
        self.addCleanup(started.kill)
        return started

    def serve(self, *argv: str, before: tuple[str, ...] = ()) -> Started:
        """Start ``twistd -n sockproto``, and wait until it serves."""
        server = self.start("twistd", "-n", "--pidfile=", *before, "sockproto", *argv)
        server.until("try: ")
        return server

    def configure(self, text: str) -> str:
        """Write a configuration; its path."""
        path = self.folder / "server.toml"
        path.write_text(text)
        path.chmod(0o644)
        return str(path)

    def run_client(self, *argv: str) -> tuple[int, str]:
        """Run the client: its exit status, and what it said."""
        started = self.start("sockproto", *argv)
        return started.wait(), started.output
