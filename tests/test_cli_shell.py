"""Tests for ``sockproto shell``: scripts, a terminal, and connections that are lost."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from tests.scripted import ScriptedTestCase, unused_port
from tests.servers import PATIENCE, ServedTestCase, client, client_environment

Outcome = tuple[int, bytes, bytes]

# A new session with the terminal as its own, so that Ctrl-C is a signal.
_AT_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from sockproto.cli.main import main
main()
"""


class ShellTestCase(ServedTestCase, ScriptedTestCase):
    """Starts shells."""

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        options.setdefault("stdin", subprocess.PIPE)
        process = client("shell", *argv, server=self.server, **options)
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Whatever a test has left behind."""
        process.kill()
        process.wait(PATIENCE)
        streams: list[IO[bytes] | None] = [process.stdin, process.stdout, process.stderr]
        for stream in streams:
            if stream is not None:
                stream.close()

    def script(self, *lines: str, argv: tuple[str, ...] = (), **options: Any) -> Outcome:
        """Run lines: the exit status, the output and what is said on stderr."""
        process = self.start(*argv, **options)
        text = os.fsencode("".join(f"{line}\n" for line in lines))
        output, errors = process.communicate(text, PATIENCE)
        return process.returncode, output, errors


class ScriptTests(ShellTestCase):
    """An input that is no terminal."""

    def test_commands(self) -> None:
        """Lines run one after the other, streams apart; the last status is the exit status."""
        self.assertEqual(
            self.script("echo a 'b  c' *", "", "# no", "sh -c 'echo e >&2; exit 3'"),
            (3, b"a b  c *\n", b"e\n"),
        )
        self.assertEqual(self.script("false", "echo é\udcff"), (0, b"\xc3\xa9\xff\n", b""))
        self.assertEqual(self.script("sh -c 'kill -KILL $$'"), (137, b"", b""))
        self.assertEqual(self.script(), (0, b"", b""))

    def test_lastLine(self) -> None:
        """A last line needs no end."""
        process = self.start()
        self.assertEqual(process.communicate(b"echo a\necho b", PATIENCE), (b"a\nb\n", b""))

    def test_leaving(self) -> None:
        """exit and quit leave, with a status of their own or the last one."""
        for line, status in (("exit", 1), ("quit", 1), ("exit 0", 0), ("quit 7", 7)):
            self.assertEqual(self.script("false", line, "echo no"), (status, b"", b""))

    def test_folder(self) -> None:
        """cd goes where the agent can go, by the agent's own name, and it is kept."""
        link = Path(self.server.folder) / "to usr"
        link.symlink_to("/usr")
        home = os.path.realpath(self.server.folder).encode()
        self.addCleanup(link.unlink)
        self.assertEqual(
            self.script(
                *("pwd", "cd 'to usr'", "pwd", "cd ../usr/./lib", "pwd", "cd -", "pwd"),
                *("cd", "pwd", "cd -", "cd '~/to usr/lib'", "pwd"),
            ),
            (
                0,
                b"\n".join(
                    [home, b"/usr", b"/usr/lib", b"/usr", b"/usr", home, b"/usr", b"/usr/lib", b""]
                ),
                b"",
            ),
        )

    def test_noFolder(self) -> None:
        """Where it cannot go it says so in a line and stays, and the shell goes on."""
        status, output, errors = self.script(
            "cd /usr", "cd nowhere", "cd /etc/passwd", "cd a b", "pwd", "cd nowhere"
        )
        self.assertEqual((status, output, errors.count(b"\n")), (255, b"/usr\n", 4))
        lines = errors.decode().splitlines()
        self.assertTrue(lines[0].startswith("sockproto: bad-cwd: "), lines)
        self.assertIn("/usr/nowhere", lines[0])
        self.assertTrue(lines[1].startswith("sockproto: bad-cwd: "), lines)
        self.assertEqual(lines[2], "sockproto: usage: cd: expected one folder")

    def test_errors(self) -> None:
        """Each error is a line, and the shell goes on."""
        status, output, errors = self.script("no-such-program", "echo 'x", "''", "echo on")
        self.assertEqual((status, output), (0, b"on\n"))
        codes = [line.split(": ")[1] for line in errors.decode().splitlines()]
        self.assertEqual(codes, ["not-found", "usage", "invalid"])
        self.assertEqual(self.script("no-such-program")[0], 255)
        self.assertEqual(self.script("echo 'x")[0], 2)

    def test_refused(self) -> None:
        """Who may run one command only can do that, and does not get into another folder."""
        status, output, errors = self.script("some", "cd /", argv=("--identity", "guest"))
        self.assertEqual((status, len(output)), (255, 100_000))
        self.assertIn(b"sockproto: warning: ", errors)
        self.assertRegex(errors, rb"sockproto: (refused|unknown): ")

    def test_noInput(self) -> None:
        """A command does not read the script."""
        self.assertEqual(self.script("cat", "echo next"), (0, b"next\n", b""))

    def test_help(self) -> None:
        """help is on stdout."""
        status, output, errors = self.script("help")
        self.assertEqual((status, errors), (0, b""))
        self.assertIn(b"cd [FOLDER]", output)

    def test_large(self) -> None:
        """Any amount of output passes, before that of the next command."""
        status, output, _ = self.script("head -c 3000000 /dev/zero", "help", "echo end")
        self.assertEqual((status, output[:3_000_000]), (0, bytes(3_000_000)))
        self.assertTrue(output.endswith(b"end\n"))

    def test_nobodyThere(self) -> None:
        """Without an agent, or a key of its, nothing begins: 255."""
        for code, argv in (
            ("connect", ("--connect", f"tcp:127.0.0.1:{unused_port()}")),
            ("login", ("--keyring", "/no/such")),
        ):
            status, output, errors = self.script("echo no", argv=argv)
            self.assertEqual((status, output, errors.count(b"\n")), (255, b"", 1))
            self.assertTrue(errors.startswith(f"sockproto: {code}: ".encode()), errors)
        self.assertEqual(self.script(argv=("--no-such",))[0], 2)

    def test_closedStreams(self) -> None:
        """Without an input there is nothing to do; without an output all is done."""
        mark = Path(self.server.folder) / "mark"
        for closing, status in (("<&-", 0), (">&-", 0)):
            shell = f"exec {sys.executable} -m sockproto shell {closing}"
            process = subprocess.Popen(
                ["sh", "-c", shell],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=client_environment(
                    SOCKPROTO_CONNECT=self.server.tcp, SOCKPROTO_KEYRING=self.server.keyring
                ),
            )
            process.communicate(f"echo x\ntouch {mark}\n".encode(), PATIENCE)
            self.assertEqual((process.returncode, mark.exists()), (status, closing != "<&-"))

    def test_interrupted(self) -> None:
        """Ctrl-C ends the command and the script: 130."""
        process = self.start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"sh -c 'echo $$; exec sleep 1000'\necho no\n")
        process.stdin.flush()
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, output, errors), (130, b"", b""))
        self.assertFalse(os.path.exists(f"/proc/{pid}"))


class LostTests(ShellTestCase):
    """A connection that is lost."""

    def setUp(self) -> None:
        self.cutter, blade = socket.socketpair()
        self.addCleanup(self.cutter.close)
        self.addCleanup(blade.close)
        there = int(self.server.tcp.rpartition(":")[2])

        def relay(connection: socket.socket) -> None:
            with socket.create_connection(("127.0.0.1", there)) as upstream:
                ways = {connection: upstream, upstream: connection}
                while True:
                    ready = select.select([*ways, blade], [], [])[0]
                    if blade in ready:
                        blade.recv(1)
                        connection.close()
                        blade.send(b"cut")
                        return
                    for source in ready:
                        data = source.recv(65_536)
                        if not data:
                            return
                        ways[source].sendall(data)

        where = f"tcp:127.0.0.1:{self.stream(relay)}"
        self.process = self.start("--connect", where)

    def type(self, line: str) -> None:
        """Give it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def read(self) -> str:
        """A line of output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def cut(self) -> None:
        """End the connection."""
        self.cutter.send(b"x")
        self.cutter.recv(3)

    def test_between(self) -> None:
        """Between two commands: said in a line, connected again, in the same folder."""
        self.type("cd /usr/lib")
        self.type("pwd")
        self.assertEqual(self.read(), "/usr/lib\n")
        self.cut()
        self.type("pwd")
        output, errors = self.process.communicate(timeout=PATIENCE)
        self.assertEqual((self.process.returncode, output), (0, b"/usr/lib\n"))
        self.assertIn(b"sockproto: connected again to here\n", errors)
        self.assertTrue(errors.startswith(b"sockproto: lost: "), errors)

    def test_during(self) -> None:
        """During one: it is not run again, its status is 255, and the next runs where it was."""
        mark = Path(self.server.folder) / "times"
        self.type("cd /usr/lib")
        self.type(f"sh -c 'echo x >>{mark}; echo started; exec sleep 1000'")
        self.assertEqual(self.read(), "started\n")
        self.cut()
        self.type("pwd")
        output, errors = self.process.communicate(timeout=PATIENCE)
        self.assertEqual((self.process.returncode, output), (0, b"/usr/lib\n"))
        self.assertEqual(mark.read_text(), "x\n")
        self.assertEqual(errors.count(b"sockproto: lost: "), 2)
        self.assertTrue(errors.endswith(b"sockproto: connected again to here\n"))


class TerminalTests(ShellTestCase):
    """Somebody at a terminal."""

    def setUp(self) -> None:
        self.terminal, inside = pty.openpty()
        self.addCleanup(os.close, self.terminal)
        self.state = Path(self.mktemp()).resolve()
        environment = client_environment(
            SOCKPROTO_CONNECT=self.server.tcp,
            SOCKPROTO_KEYRING=self.server.keyring,
            XDG_STATE_HOME=str(self.state),
            INPUTRC="/dev/null",
            TERM="dumb",
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_TERMINAL, "shell"],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=environment,
            start_new_session=True,
        )
        self.addCleanup(self.end, self.process)
        os.close(inside)
        self.shown = ""

    def until(self, pattern: str, again: str = "") -> str:
        """Wait for something to be shown; what came before it.

        :param again: keys to press again while it is not.
        """
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.shown)) is None:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.terminal], [], [], min(left, 0.5) if again else left)[0]:
                if again and left:
                    self.type(again)
                    continue
                self.fail(f"no {pattern!r}, but {self.shown!r}")
            try:
                self.shown += os.read(self.terminal, 65_536).decode()
            except OSError:
                self.fail(f"the end, and no {pattern!r}, but {self.shown!r}")
        before, self.shown = self.shown[: found.start()], self.shown[found.end() :]
        return before

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.terminal, text.encode())

    @property
    def kept(self) -> str:
        """The history."""
        return (self.state / "sockproto" / "shell_history").read_text()

    def test_prompt(self) -> None:
        """The prompt has server, folder and status; end-of-file leaves with the last status."""
        self.until("here:~> ")
        self.type("cd /usr/lib/..\n")
        self.until("here:/usr> ")
        self.type("sh -c 'exit 3'\n")
        self.until(r"here:/usr \[3\]> ")
        self.type("\n")
        self.until(r"here:/usr \[3\]> ")
        self.type("no-such\n")
        self.until("sockproto: not-found: ")
        self.until(r"here:/usr \[255\]> ")
        self.type("echo 'on  ly'\n")
        self.until("\non  ly\r\n")
        self.until("here:/usr> ")
        self.type("\x04")
        self.assertEqual(self.process.wait(PATIENCE), 0)

    def test_interrupt(self) -> None:
        """Ctrl-C at the prompt clears the line; during a command it ends that."""
        self.until("here:~> ")
        self.type("echo half")
        self.until("half")
        # Python's readline sees a signal only once it waits for a key: it may not do so yet.
        self.type("\x03")
        self.until("\nhere:~> ", again="\x03")
        self.type("sh -c 'echo began; exec sleep 1000'\n")
        self.until("\nbegan\r\n")
        self.type("\x03")
        self.until(r"here:~ \[130\]> ")
        self.type("echo $PPID\n")
        self.until("\n\\$PPID\r\n")
        self.until("here:~> ")
        self.type("quit 5\n")
        self.assertEqual(self.process.wait(PATIENCE), 5)

    def test_history(self) -> None:
        """Lines can be had again, the next time too; not what began with a space."""
        self.until("here:~> ")
        self.type("echo first\n")
        self.until("\nfirst\r\n")
        self.until("here:~> ")
        self.type(" echo second\n")
        self.until("\nsecond\r\n")
        self.until("here:~> ")
        self.type("\x10\n")  # Ctrl-P: the line before
        self.until("\nfirst\r\n")
        self.until("here:~> ")
        self.type("\x04")
        self.process.wait(PATIENCE)
        self.assertEqual(self.kept, "echo first\n")
        path = self.state / "sockproto" / "shell_history"
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_completion(self) -> None:
        """The tabulator completes the shell's own words, and no names of files here."""
        self.until("here:~> ")
        self.type("he\t\n")
        self.until("cd \\[FOLDER\\]")
        self.until("here:~> ")
        self.type("echo /et\t\n")
        self.until("\n/et\r\n")
