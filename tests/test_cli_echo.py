"""Tests for ``sockproto echo``, against servers that say what they are told to, and our own."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli.echo import EchoCheck
from sockproto.errors import RemoteProtocolError
from tests.scripted import ScriptedTestCase, unused_port
from tests.servers import PATIENCE, client
from tests.test_cli_time import start_pair, stop_pair

Outcome = tuple[int, bytes, bytes]


def echo(*argv: str, given: bytes | None = None, **options: Any) -> Outcome:
    """Run the program: the exit status, the output, and what it says on stderr."""
    if given is not None:
        options["stdin"] = subprocess.PIPE
    with client("echo", *argv, **options) as process:
        output, errors = process.communicate(given, PATIENCE)
    return process.returncode, output, errors


def give_back(connection: socket.socket) -> None:
    """RFC 862."""
    while data := connection.recv(65_536):
        connection.sendall(data)


class CheckTests(SynchronousTestCase):
    """Tests of the comparison."""

    def setUp(self) -> None:
        self.check = EchoCheck()

    def assertWrong(self, words: str, data: bytes) -> None:
        self.assertIn(words, str(self.assertRaises(RemoteProtocolError, self.check.returned, data)))

    @given(st.lists(st.binary(max_size=9)), st.lists(st.integers(1, 9)))
    def test_anySplit(self, pieces: list[bytes], sizes: list[int]) -> None:
        """However it is sent and comes back, it is the same."""
        check, whole, back = EchoCheck(), b"".join(pieces), 0
        for piece in pieces:
            check.sent(piece)
        self.assertEqual(check.outstanding, len(whole))
        for size in [*sizes, len(whole)]:
            check.returned(whole[back : back + size])
            back = min(back + size, len(whole))
            self.assertEqual(check.outstanding, len(whole) - back)
        check.over()

    def test_other(self) -> None:
        """The first byte that differs is named by its place in all that was sent."""
        self.check.sent(b"abc")
        self.check.sent(b"def")
        self.check.returned(b"abcd")
        self.assertWrong("byte 5 is 0x46, and 0x66", b"eF")

    def test_more(self) -> None:
        """More than was sent is wrong."""
        self.check.sent(b"abc")
        self.assertWrong("more came back than was sent: 2 bytes after the 3", b"abcde")

    def test_fewer(self) -> None:
        """Less is, where nothing more comes."""
        self.check.sent(b"abc")
        self.check.returned(b"a")
        error = self.assertRaises(RemoteProtocolError, self.check.over)
        self.assertIn("of 3 bytes only 1 came back", str(error))


class StreamTests(ScriptedTestCase):
    """Over TCP and Unix sockets."""

    def test_text(self) -> None:
        """The text comes back, over each kind of stream."""
        path = self.mktemp()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.stream(give_back, path)
        for to in (
            f"127.0.0.1:{self.stream(give_back)}",
            f"[::1]:{self.stream(give_back, '::1')}",
            f"unix:{path}",
        ):
            self.assertEqual(echo("héllo\n", "--to", to), (0, "héllo\n\n".encode(), b""))

    def test_input(self) -> None:
        """Any amount of input comes back as it was, and nothing of nothing."""
        to = f"127.0.0.1:{self.stream(give_back)}"
        for content in (b"", b"line", os.urandom(3_000_000)):
            outcome = echo("--to", to, given=content)
            self.assertTrue(outcome == (0, content, b""), outcome[2])

    def test_wrong(self) -> None:
        """Something else, or less, is shown, and is a wrong answer: 1."""

        def upper(connection: socket.socket) -> None:
            connection.sendall(connection.recv(100).upper())
            connection.recv(100)

        def less(connection: socket.socket) -> None:
            connection.sendall(connection.recv(100)[:2])

        for conversation, output, words in (
            (upper, b"ABC", b"something else came back: byte 0 is 0x41, and 0x61 was sent"),
            (less, b"ab", b"of 3 bytes only 2 came back"),
        ):
            to = f"127.0.0.1:{self.stream(conversation)}"
            self.assertEqual(
                echo("abc", "--to", to),
                (1, output, f"sockproto: answer: {to}: ".encode() + words + b"\n"),
            )

    def test_nothing(self) -> None:
        """Nobody there, or nothing back in time: 255 and one line."""
        to = f"127.0.0.1:{unused_port()}"
        self.assertEqual(
            echo("x", "--to", to),
            (255, b"", f"sockproto: connect: {to}: Connection refused\n".encode()),
        )

        def silent(connection: socket.socket) -> None:
            while connection.recv(100):
                pass

        to = f"127.0.0.1:{self.stream(silent)}"
        self.assertEqual(
            echo("x", "--timeout", "0.2", "--to", to),
            (255, b"", f"sockproto: connect: {to}: no answer within 0.2 s\n".encode()),
        )

    def test_leaves(self) -> None:
        """A server that leaves while there may be input is lost."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        to = f"127.0.0.1:{self.stream(lambda _: None)}"
        outcome = echo("--to", to, stdin=reading)
        os.close(reading)
        self.assertEqual((outcome[0], outcome[2].count(b"\n")), (255, 1))
        self.assertIn(b"sockproto: lost: ", outcome[2])


class DatagramTests(ScriptedTestCase):
    """By UDP."""

    def test_answers(self) -> None:
        """A datagram of any length comes back; what does not is wrong."""
        to = f"127.0.0.1:{self.datagrams(lambda data: [data])}"
        self.assertEqual(echo("héllo", "--udp", "--to", to), (0, "héllo\n".encode(), b""))
        for size in (0, 1, 65_507):
            content = os.urandom(size)
            outcome = echo("--udp", "--to", to, given=content)
            self.assertTrue(outcome == (0, content, b""), outcome[2])
        to = f"127.0.0.1:{self.datagrams(lambda data: [data[:-1]])}"
        status, output, errors = echo("abc", "--udp", "--to", to)
        self.assertEqual((status, output), (1, b"ab\n"[:2]))
        self.assertIn(b"answer: ", errors)

    def test_tooLong(self) -> None:
        """What no datagram carries is wrong usage."""
        status, _, errors = echo("--udp", "--to", "127.0.0.1:9", given=bytes(65_508))
        self.assertEqual((status, errors.count(b"\n")), (2, 1))
        self.assertIn(b"use --tcp", errors)

    def test_silent(self) -> None:
        """Nothing back: 255."""
        to = f"127.0.0.1:{self.datagrams(lambda _: [])}"
        status, _, errors = echo("x", "--udp", "--timeout", "0.1", "--to", to)
        self.assertEqual(status, 255)
        self.assertIn(b"no answer to 3 datagrams", errors)


class PairTests(SynchronousTestCase):
    """The program against our own services."""

    def test_both(self) -> None:
        """Both transports bring back what was sent."""
        server, ports = start_pair()
        self.addCleanup(stop_pair, server)
        content = os.urandom(65_507)
        for how in ("tcp", "udp"):
            to = f"127.0.0.1:{ports[f'{how}-echo']}"
            outcome = echo(f"--{how}", "--to", to, given=content)
            self.assertTrue(outcome == (0, content, b""), outcome[2])
