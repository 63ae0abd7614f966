"""Tests for ``sockproto run``, as a program and against a real server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli.interrupt import Interrupt
from sockproto.cli.main import program
from sockproto.keyring_edit import create_keyring
from tests.servers import PATIENCE, AgentServer, ServedTestCase, client, client_environment, ended

Outcome = tuple[int, bytes, bytes]


def finish(process: subprocess.Popen[bytes], given: bytes | None = None) -> Outcome:
    """Wait for a program's end: its status, its output, its errors."""
    with process:
        try:
            output, errors = process.communicate(given, PATIENCE)
        except BaseException:
            process.kill()
            raise
    return process.returncode, output, errors


def is_there(pid: int) -> bool:
    """Whether a process is there now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class RunTestCase(ServedTestCase, SynchronousTestCase):
    """Starts clients."""

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        return client("run", *argv, server=self.server, **options)

    def run_(self, *argv: str, given: bytes | None = None, **options: Any) -> Outcome:
        if given is not None:
            options["stdin"] = subprocess.PIPE
        return finish(self.start(*argv, **options), given)

    def run_all(self, commands: Iterable[tuple[str, ...]]) -> list[Outcome]:
        """Run several clients at the same time."""
        return [finish(each) for each in [self.start(*argv) for argv in commands]]

    def assertOneLine(self, outcome: Outcome, code: str, status: int = 255) -> str:
        """There is no status, and one line on stderr says why; return the rest of the line."""
        returncode, _, errors = outcome
        text = errors.decode()
        self.assertTrue(text.startswith(f"sockproto: {code}: "), text)
        self.assertEqual((returncode, text.count("\n"), text[-1:]), (status, 1, "\n"), text)
        return text


class StatusTests(RunTestCase):
    """The exit status, and what is said."""

    def test_commandsOwn(self) -> None:
        """A command's own status, and both its streams apart."""
        self.assertEqual(
            self.run_("--", "sh", "-c", "echo out; echo err >&2; exit 3"), (3, b"out\n", b"err\n")
        )
        self.assertEqual(self.run_("--", "true"), (0, b"", b""))

    def test_signal(self) -> None:
        """128 and the signal's number where one ended it."""
        self.assertEqual(self.run_("--", "sh", "-c", "kill -KILL $$"), (137, b"", b""))

    def test_refusals(self) -> None:
        """Each reason for which a command is not started has its code, 255, and one line."""
        guest = ("--identity", "guest")
        cases = (
            ("not-found", ("--", "no-such-program")),
            ("not-executable", ("--", "/etc/passwd")),
            ("bad-cwd", ("--cwd", "/no/such", "--", "true")),
            ("refused", (*guest, "--", "some", "more")),
            ("refused", (*guest, "--cwd", "/", "--", "some")),
            ("unknown", (*guest, "--", "other")),
            ("invalid", ("--", "")),
        )
        outcomes = self.run_all(argv for _, argv in cases)
        for (code, _), outcome in zip(cases, outcomes, strict=True):
            self.assertOneLine(outcome, code)

    def test_hint(self) -> None:
        """A command given as one word is answered with how to write it."""
        text = self.assertOneLine(self.run_("--", "ls -l"), "not-found")
        self.assertIn("sockproto run -- ls -l", text)
        text = self.assertOneLine(self.run_("--identity", "guest", "--", "ls -l"), "unknown")
        self.assertIn("sockproto run -- ls -l", text)
        self.assertNotIn("run -- ", self.assertOneLine(self.run_("--", "no-such"), "not-found"))

    def test_timeout(self) -> None:
        """A command whose time is up: 255, and how long it had; what it wrote is there."""
        outcome = self.run_("--timeout", "0.3", "--", "sh", "-c", "echo out; sleep 1000")
        self.assertIn("0.3 s", self.assertOneLine(outcome, "timeout"))
        self.assertEqual(outcome[1], b"out\n")

    def test_wrongUsage(self) -> None:
        """Wrong usage is 255 as well, for 2 would be taken for the command's."""
        for argv in (
            (),
            ("--timeout", "0", "--", "true"),
            ("--timeout", "nan", "--", "true"),
            ("--timeout", "inf", "--", "true"),
            ("--env", "novalue", "--", "true"),
            ("--no-such", "--", "true"),
        ):
            result = CliRunner().invoke(program, ["run", *argv])
            self.assertOneLine((result.exit_code, b"", result.output.encode()), "usage")

    def test_nobodyThere(self) -> None:
        """No server, or another key than it has: 255 and a line."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            where = f"tcp:127.0.0.1:{unused.getsockname()[1]}"
            self.assertOneLine(self.run_("--connect", where, "--", "true"), "connect")
        folder = self.mktemp()
        os.mkdir(folder)
        keyring = os.path.join(folder, "keyring.toml")
        create_keyring(keyring)
        text = self.assertOneLine(self.run_("--keyring", keyring, "--", "true"), "login")
        self.assertIn("(ref ", text)
        os.chmod(keyring, 0o644)
        self.assertOneLine(self.run_("--keyring", keyring, "--", "true"), "login")
        self.assertOneLine(self.run_("--keyring", "/no/such", "--", "true"), "login")
        self.assertOneLine(self.run_("--connect", "tcp:a:b:c", "--", "true"), "configuration")

    def test_nagios(self) -> None:
        """For Nagios what goes wrong is a line on stdout, and 3; a status is a status."""
        cases = (
            ("not-found", ("--", "no-such-program")),
            ("connect", ("--connect", "unix:/no/such", "--", "true")),
            ("login", ("--keyring", "/no/such", "--", "true")),
            ("timeout", ("--timeout", "0.05", "--", "sleep", "1000")),
            ("signal", ("--", "sh", "-c", "kill -9 $$")),
            ("usage", ()),
            ("usage", ("--env", "foo", "--", "true")),
        )
        outcomes = self.run_all(("--nagios", *argv) for _, argv in cases)
        for (code, _), (status, output, errors) in zip(cases, outcomes, strict=True):
            self.assertEqual((status, errors, output.count(b"\n")), (3, b"", 1), output)
            self.assertTrue(output.startswith(f"UNKNOWN - {code}: ".encode()), output)
        plugin = ("sh", "-c", "echo CRITICAL - disk; exit 2")
        self.assertEqual(self.run_("--nagios", "--", *plugin), (2, b"CRITICAL - disk\n", b""))

    def test_truncated(self) -> None:
        """Where the server's limit cuts output off, a warning says so."""
        status, output, errors = self.run_("--", "some")
        self.assertEqual((status, len(output)), (143, 100_000))
        self.assertIn(b"warning", errors)
        self.assertEqual(errors.count(b"\n"), 1)

    def test_environment(self) -> None:
        """Folder, variables, and every argument as it was."""
        outcome = self.run_(
            *("--cwd", "/usr", "--env", "A=b=c", "--env", "E=", "--"),
            *("sh", "-c", 'pwd; echo "$A$E"; printf "%s|" "$@"', "sh", "a b", "$(id)", "--", "é\n"),
        )
        self.assertEqual(outcome, (0, "/usr\nb=c\na b|$(id)|--|é\n|".encode(), b""))

    def test_options(self) -> None:
        """What stands behind the command's name is the command's, with or without --."""
        self.assertEqual(self.run_("echo", "--timeout", "x")[1], b"--timeout x\n")


class StreamTests(RunTestCase):
    """Input and output."""

    def test_binary(self) -> None:
        """Any bytes, many times every window, in and out at once, by each kind of connection."""
        content = bytes(range(256)) * 12_000
        for where in (self.server.tcp, self.server.unix, self.server.tls):
            outcome = self.run_("--stdin", "--", "cat", where=where, given=content)
            self.assertTrue(outcome == (0, content, b""), outcome[2])

    def test_noInput(self) -> None:
        """Without --stdin the command reads nothing, and our input is left alone."""
        self.assertEqual(self.run_("--", "cat", given=b"secret"), (0, b"", b""))

    def test_smallInputs(self) -> None:
        """Nothing, and a line, are inputs like any other."""
        for content in (b"", b"line\n"):
            self.assertEqual(self.run_("--stdin", "--", "cat", given=content), (0, content, b""))

    def test_inputNobodyReads(self) -> None:
        """A command that ends without reading, or has closed its input, ends all the same."""
        content = bytes(3_000_000)
        for line in ("exit 5", "exec <&-; exec >&-; sleep 0.1; exit 5"):
            outcome = self.run_("--stdin", "--", "sh", "-c", line, given=content)
            self.assertEqual(outcome, (5, b"", b""))
        with self.start("--stdin", "--", "head", "-c", "1", stdin=subprocess.PIPE) as process:
            # Our input stays open, and the program ends.
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"ab")
            process.stdin.flush()
            self.assertEqual((process.stdout.read(), process.wait(PATIENCE)), (b"a", 0))

    def test_inputFromOddPlaces(self) -> None:
        """A file, /dev/null, a descriptor that does not block: all are read to their end."""
        path = self.mktemp()
        Path(path).write_bytes(b"x" * 1_000_000)
        with open(path, "rb") as file:
            self.assertEqual(self.run_("--stdin", "--", "wc", "-c", stdin=file)[1], b"1000000\n")
        null = subprocess.DEVNULL
        self.assertEqual(self.run_("--stdin", "--", "wc", "-c", stdin=null)[1], b"0\n")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            process = self.start("--stdin", "--", "cat", stdin=theirs, stdout=theirs)
            ours.sendall(b"there and back")
            ours.settimeout(PATIENCE)
            self.assertEqual(ours.recv(100), b"there and back")
            ours.shutdown(socket.SHUT_WR)
            self.assertEqual(finish(process)[::2], (0, b""))

    def test_live(self) -> None:
        """Output is there as soon as it is written, and so is input."""
        script = "while read a; do echo got $a; done"
        with self.start("--stdin", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            for line in (b"one\n", b"two\n"):
                process.stdin.write(line)
                process.stdin.flush()
                self.assertEqual(process.stdout.readline(), b"got " + line)
            process.stdin.close()
            self.assertEqual(process.wait(PATIENCE), 0)

    def test_readerGone(self) -> None:
        """As in ``run -- yes | head -1``: the command gets its SIGPIPE, and that is all."""
        with self.start("--", "yes") as process:
            assert process.stdout is not None and process.stderr is not None
            self.assertEqual(process.stdout.readline(), b"y\n")
            process.stdout.close()
            self.assertEqual(process.wait(PATIENCE), 128 + signal.SIGPIPE)
            self.assertEqual(process.stderr.read(), b"")

    def test_readerGoneAndTheCommandGoesOn(self) -> None:
        """A command that does not die of its SIGPIPE ends as it likes."""
        script = "trap '' PIPE; while echo y; do :; done 2>/dev/null; exit 7"
        with self.start("--", "sh", "-c", script) as process:
            assert process.stdout is not None
            process.stdout.close()
            self.assertEqual(process.wait(PATIENCE), 7)

    def test_readerOfErrorsGone(self) -> None:
        """The one stream goes on where nobody reads the other."""
        script = "read a; echo err >&2; echo out"
        with self.start("--stdin", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
            assert process.stderr is not None
            assert process.stdin is not None and process.stdout is not None
            process.stderr.close()
            process.stdin.write(b"go\n")
            process.stdin.flush()
            self.assertEqual((process.stdout.read(), process.wait(PATIENCE)), (b"out\n", 0))

    def test_slowReader(self) -> None:
        """A reader that takes its time gets all of it, though there is far more than pipes hold."""
        with self.start("--", "sh", "-c", "head -c 4000000 /dev/zero; echo end >&2") as process:
            assert process.stdout is not None and process.stderr is not None
            # The command has ended long before, or waits: we see its end only after its output.
            self.assertEqual(len(process.stdout.read(10)), 10)
            self.assertEqual(len(process.stdout.read()), 3_999_990)
            self.assertEqual((process.stderr.read(), process.wait(PATIENCE)), (b"end\n", 0))

    def test_fullDisk(self) -> None:
        """Output that cannot be written: one line, 255."""
        with open("/dev/full", "wb") as full:
            outcome = self.run_("--", "echo", "x", stdout=full)
        returncode, _, errors = outcome
        self.assertEqual((returncode, errors.count(b"\n")), (255, 1), errors)
        self.assertTrue(errors.startswith(b"sockproto: system: "), errors)

    def test_closedStreams(self) -> None:
        """Where the caller has closed our streams the connection does not become one of them."""
        for closing, expected in ((">&-", b""), ("<&-", b"out\n"), ("<&- >&- 2>&-", b"")):
            process = subprocess.Popen(
                [
                    *("sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-m", "sockproto"),
                    *("run", "--stdin", "--", "sh", "-c", "echo out; echo >&2; cat; exit 3"),
                ],
                env=client_environment(
                    SOCKPROTO_CONNECT=self.server.tcp, SOCKPROTO_KEYRING=self.server.keyring
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self.assertEqual(finish(process)[:2], (3, expected), closing)


class InterruptedTests(RunTestCase):
    """Ctrl-C."""

    def pids(self, process: subprocess.Popen[bytes], count: int) -> list[int]:
        assert process.stdout is not None
        return [int(process.stdout.readline()) for _ in range(count)]

    def test_wholeTree(self) -> None:
        """When the client ends with 130 the whole tree of the command is gone already."""
        script = "trap '' TERM; setsid sleep 1000 & echo $!; sleep 1001 & echo $!; echo $$; wait"
        with self.start("--", "sh", "-c", script) as process:
            pids = self.pids(process, 3)
            process.send_signal(signal.SIGINT)
            status, output, errors = finish(process)
        self.assertEqual((status, output, errors), (130, b"", b""))
        self.assertEqual([pid for pid in pids if is_there(pid)], [])

    def test_whileOutputIsStuck(self) -> None:
        """Ctrl-C is heard while nobody reads our output."""
        with self.start("--", "sh", "-c", "echo $$; exec yes") as process:
            (pid,) = self.pids(process, 1)
            # The pipe is full once so much of it is there to be read.
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(PATIENCE), 130)
            self.assertFalse(is_there(pid))

    def test_whileInputIsOpen(self) -> None:
        """Ctrl-C is heard while we wait for input that does not come."""
        command = ("--stdin", "--", "sh", "-c", "echo $$; exec cat")
        with self.start(*command, stdin=subprocess.PIPE) as process:
            (pid,) = self.pids(process, 1)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(PATIENCE), 130)
            self.assertFalse(is_there(pid))

    def test_ignored(self) -> None:
        """In the background of a script, where SIGINT is ignored, it stays so."""
        process = subprocess.Popen(
            [
                *("sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "sockproto"),
                *("run", "--stdin", "--", "sh", "-c", "echo started; cat"),
            ],
            env=client_environment(
                SOCKPROTO_CONNECT=self.server.tcp, SOCKPROTO_KEYRING=self.server.keyring
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"started\n")
            process.send_signal(signal.SIGINT)
            self.assertEqual(finish(process, b"more"), (0, b"more", b""))

    def test_clientGone(self) -> None:
        """A client that is killed, or terminated, takes its command with it."""
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
            with self.start("--", "sh", "-c", "echo $$; exec sleep 1000") as process:
                (pid,) = self.pids(process, 1)
                process.send_signal(number)
                self.assertEqual(process.wait(PATIENCE), -number)
                self.assertTrue(ended(pid))


class LostTests(RunTestCase):
    """When the server goes."""

    def test_killed(self) -> None:
        """A server that dies in the middle: 255, one line, and the output so far."""
        server = AgentServer()
        self.addCleanup(server.stop)
        script = ("--", "sh", "-c", "echo out; exec sleep 1000")
        processes = [
            client("run", *script, server=server, where=where) for where in (server.tcp, server.tls)
        ]
        for process in processes:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"out\n")
        server.kill()
        for process in processes:
            self.assertOneLine(finish(process), "lost")

    def test_stuck(self) -> None:
        """Ctrl-C gets us out of a server that does nothing any longer, at the latest the second."""
        server = AgentServer()
        self.addCleanup(server.stop)
        self.addCleanup(server.send_signal, signal.SIGCONT)
        with open("/dev/zero", "rb") as endless:
            process = client(
                *("run", "--stdin", "--", "sh", "-c", "echo out; exec cat >/dev/null"),
                server=server,
                stdin=endless,
            )
            with process:
                assert process.stdout is not None and process.stderr is not None
                self.assertEqual(process.stdout.readline(), b"out\n")
                server.send_signal(signal.SIGSTOP)
                while process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    try:
                        process.wait(0.1)
                    except subprocess.TimeoutExpired:
                        pass
                self.assertEqual((process.returncode, process.stderr.read()), (130, b""))


class EmbeddedTests(ServedTestCase, SynchronousTestCase):
    """In another program's process."""

    def test_inAThread(self) -> None:
        """Where signals cannot be caught, all the rest works."""
        found = []

        def call() -> None:
            arguments = ["--connect", self.server.tcp, "--keyring", self.server.keyring]
            result = CliRunner().invoke(program, [*arguments, "run", "--nagios", "--", "no-such"])
            found.append((result.exit_code, result.output[:20]))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join(PATIENCE)
        self.assertEqual(found, [(3, "UNKNOWN - not-found:")])


class InterruptTests(SynchronousTestCase):
    """Ctrl-C as it is held back."""

    def test_heldBack(self) -> None:
        """It comes out of what waits, and of nothing else; once for each time."""
        done = []
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            done.append("not interrupted")
            self.assertRaises(KeyboardInterrupt, interrupt.waiting, done.append, "never")
            self.assertEqual(interrupt.waiting(len, "abc"), 3)
            self.assertRaises(
                KeyboardInterrupt, interrupt.waiting, os.kill, os.getpid(), signal.SIGINT
            )
        self.assertEqual(done, ["not interrupted"])
        self.assertIs(signal.getsignal(signal.SIGINT), self.before)

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.before = signal.default_int_handler

    def test_othersHandler(self) -> None:
        """A handler of somebody else's stays."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with Interrupt():
            self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)
        self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)
