"""Tests of commands on a terminal, by the client's API and what the commands see."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from sockproto import blocking, connect
from sockproto.blocking import Command, Session
from sockproto.errors import AgentError
from sockproto.wire.commands import CommandRequest, InvalidRequest
from sockproto.wire.terminal import Terminal, decode_window, encode_window
from tests.servers import ServedTestCase, ended

TERMINAL = Terminal(33, 101, "vt100")


class TerminalTests(SynchronousTestCase):
    """:class:`Terminal` on the wire."""

    def test_roundTrip(self) -> None:
        """OPEN has it as an object; a terminal means input."""
        body = CommandRequest.of(["sh"], tty=TERMINAL).encode()
        self.assertEqual(body["tty"], {"rows": 33, "columns": 101, "term": "vt100"})
        asked = CommandRequest.decode(body)
        self.assertEqual((asked.terminal, asked.stdin), (TERMINAL, True))
        self.assertIsNone(CommandRequest.decode({"argv": ["sh"]}).terminal)

    def test_absent(self) -> None:
        """What is not said is as usual."""
        asked = CommandRequest.decode({"argv": ["sh"], "tty": {"new": 1}})
        self.assertEqual(asked.terminal, Terminal(24, 80, "xterm"))

    def test_wrong(self) -> None:
        """What is no terminal is told, and is a fault of the channel alone."""
        wrong: Any
        for wrong in (
            True,
            [],
            "xterm",
            {"rows": -1},
            {"rows": True},
            {"columns": 65_536},
            {"columns": "80"},
            {"term": "a b"},
            {"term": ""},
            {"term": "x" * 65},
            {"term": None},
            {"term": "../x"},
        ):
            request = {"argv": ["sh"], "tty": wrong}
            error = self.assertRaises(InvalidRequest, CommandRequest.decode, request)
            self.assertTrue(str(error).startswith("tty: "))

    def test_window(self) -> None:
        """A size that is none is refused by the client, and ignored by the server."""
        self.assertEqual(encode_window(1, 2), {"window": {"rows": 1, "columns": 2}})
        self.assertEqual(decode_window({"rows": 1, "columns": 2}), (1, 2))
        for wrong in (None, 5, {}, {"rows": 1}, {"rows": 1, "columns": -2}, {"rows": 1.5}):
            self.assertIsNone(decode_window(wrong))
        self.assertRaises(ValueError, encode_window, 0, 70_000)


class RealTests(ServedTestCase, SynchronousTestCase):
    """A real server, and the blocking client."""

    def setUp(self) -> None:
        self.session: Session = blocking.connect(**self.server.connection())
        self.addCleanup(self.session.close)

    def start(self, *argv: str, tty: Terminal = TERMINAL, **options: Any) -> Command:
        """Start something on a terminal."""
        return self.session.start(argv, tty=tty, **options)

    def expect(self, command: Command, words: bytes) -> bytes:
        """Read until some words have come."""
        seen = b""
        while words not in seen:
            piece = command.read()
            if piece is None:
                self.fail(f"the output ended before {words!r}: {seen!r}")
            self.assertEqual(piece.stream, 1)
            seen += piece.data
        return seen

    def test_isTerminal(self) -> None:
        """All three streams are the controlling terminal of the command's session, in the size and
        of the kind that was asked for; output is one stream."""
        script = """
            tty; test -t 0 && test -t 1 && test -t 2 && echo all
            stty size; echo $TERM; echo err >&2
            echo direct > /dev/tty; echo named > $(tty); ps -o tty=,sid=,tpgid= -p $$; echo $$
        """
        result = self.start("sh", "-c", script).wait()
        self.assertEqual((result.exit_status, result.stderr), (0, b""))
        lines = result.stdout.decode().split("\r\n")
        self.assertRegex(lines[0], "/dev/pts/[0-9]+")
        self.assertEqual(lines[1:7], ["all", "33 101", "vt100", "err", "direct", "named"])
        terminal, session, foreground = lines[7].split()
        self.assertEqual(f"/dev/{terminal}", lines[0])
        self.assertEqual((session, foreground), (lines[8], lines[8]))

    def test_input(self) -> None:
        """Input goes to the terminal, which echoes it and edits the line; its end is Ctrl-D."""
        command = self.start("cat")
        command.write(b"helko\x7f\x7flo\n")
        seen = self.expect(command, b"hello\r\n")
        seen += self.expect(command, b"hello\r\n") if seen.count(b"hello\r\n") < 1 else b""
        command.end_input()
        self.assertEqual(command.wait().exit_status, 0)

    def test_closedEarly(self) -> None:
        """A command that closes its streams a while before it ends is not hung up by that."""
        script = "echo over; exec <&- >&- 2>&-; sleep 0.2; exit 5"
        self.assertEqual(self.start("sh", "-c", script).wait().exit_status, 5)

    def test_endBehindPart(self) -> None:
        """The end of the input behind a part of a line is the end all the same."""
        command = self.start("cat")
        result = command.communicate(b"part")
        self.assertEqual((result.exit_status, result.stdout), (0, b"partpart"))

    def test_interrupt(self) -> None:
        """Ctrl-C as a byte interrupts what is in the foreground."""
        command = self.start(
            "sh", "-c", "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done"
        )
        self.expect(command, b"ready")
        command.write(b"\x03")
        self.expect(command, b"caught")
        self.assertEqual(command.wait().exit_status, 7)

    def test_resize(self) -> None:
        """A new size is told by WINCH, and is there to be read."""
        script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
        command = self.start("sh", "-c", script)
        self.expect(command, b"ready")
        command.resize(50, 132)
        self.expect(command, b"50 132")
        self.assertEqual(command.wait().exit_status, 0)

    def test_hangUp(self) -> None:
        """When the client is lost, an interactive shell, which takes no notice of TERM, ends with
        all that it runs."""
        command = self.start("sh", "-i")
        command.write(b"trap '' TERM; sleep 600 & echo pids $$ $! end\n")
        seen = b""
        while seen.count(b" end") < 2:
            piece = command.read()
            assert piece is not None
            seen += piece.data
        pids = [int(word) for word in seen.split(b"pids ")[-1].split()[:2]]
        self.session.close()
        for pid in pids:
            self.assertTrue(ended(pid))

    def test_large(self) -> None:
        """Much output comes whole, up to the command's end."""
        result = self.start("seq", "100000").wait()
        self.assertEqual(result.stdout.count(b"\r\n"), 100_000)
        self.assertTrue(result.stdout.endswith(b"100000\r\n"))

    def test_refused(self) -> None:
        """A rule without ``tty`` does not run on one."""
        error = self.assertRaises(AgentError, self.start, "some")
        self.assertEqual(error.code, "refused")
        self.assertIn("terminal", str(error))

    def test_windowWithout(self) -> None:
        """A size for a command without a terminal is ignored."""
        command = self.session.start(["cat"], stdin=True)
        command.resize(1, 2)
        self.assertEqual(command.communicate(b"x").stdout, b"x")


class RealTwistedTests(ServedTestCase, TestCase):
    """A real server, and the Twisted client."""

    timeout = 60

    async def test_terminal(self) -> None:
        """A terminal, its input and its size."""
        where = self.server.connection()
        session = await connect(reactor, where["where"], where["key"])
        try:
            script = "stty size; read x; echo got $x; stty size"
            command = await session.start(["sh", "-c", script], tty=TERMINAL)
            piece = await command.read()
            assert piece is not None
            self.assertEqual(piece.data, b"33 101\r\n")
            command.resize(1, 2)
            await command.write(b"this\n")
            result = await command.wait()
            self.assertEqual(result.stdout, b"this\r\ngot this\r\n1 2\r\n")
        finally:
            await session.close()
