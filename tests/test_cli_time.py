"""Tests for ``sockproto time``, against servers that say what they are told to, and our own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from struct import pack
from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli import time as time_module
from sockproto.cli.main import program
from sockproto.services.ntp import NTPServer
from sockproto.wire.ntp import PACKET
from sockproto.wire.timestamps import to_rfc868
from tests.scripted import ScriptedTestCase, unused_port
from tests.servers import PATIENCE, client, client_environment

_PAIR = """
import ctypes
from datetime import UTC
from twisted.internet import reactor
from sockproto.datagrams import AnsweringProtocol, DatagramGuard
from sockproto.limits import Limits
from sockproto.services.clock import DaytimeFactory, TimeFactory, WallClock
from sockproto.services.echo import EchoFactory, echo
from sockproto.services.ntp import NTPServer

ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM: it does not outlive the tests
guard = DatagramGuard(Limits(datagram_burst=1000), reactor.seconds)
wall = WallClock(UTC)
for name, answer in (
    ("echo", echo), ("strftime", wall.answer), ("daytime", wall.daytime), ("time", wall.time),
    ("ntp", NTPServer(8).answer),
):
    protocol = AnsweringProtocol(name, answer, guard)
    port = reactor.listenUDP(0, protocol, "127.0.0.1", maxPacketSize=65535)
    print(f"udp-{name}", port.getHost().port)
for factory in (EchoFactory(reactor), DaytimeFactory(reactor, wall), TimeFactory(reactor, wall)):
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    print(f"tcp-{factory.service}", port.getHost().port)
print("end", 0, flush=True)

reactor.run()
"""


def start_pair() -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    """Our own services in a process of their own; their ports."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PAIR],
        env=client_environment(),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    ports: dict[str, int] = {}
    while "end" not in ports:
        name, port = process.stdout.readline().decode().split()
        ports[name] = int(port)
    return process, ports


def stop_pair(process: subprocess.Popen[bytes]) -> None:
    """End it."""
    process.terminate()
    assert process.stdout is not None
    process.stdout.close()
    process.wait(PATIENCE)


class TimeTestCase(ScriptedTestCase):
    """Runs the program in this process."""

    def setUp(self) -> None:
        self.patch(time_module, "_PAUSE", 0.0)

    def time(self, *argv: str) -> tuple[int, str, str]:
        """Run it: the exit status, the output, and what it says on stderr."""
        result = CliRunner().invoke(program, ["time", *argv])
        return result.exit_code, result.stdout, result.stderr

    def assertFails(self, status: int, words: str, *argv: str) -> None:
        """It says one line, and nothing else."""
        found, output, errors = self.time(*argv)
        self.assertEqual((found, output, errors.count("\n")), (status, "", 1), errors)
        self.assertRegex(errors, words)

    def assertWrong(self, words: str, *argv: str) -> None:
        """What came is no answer."""
        self.assertFails(1, rf"\Asockproto: answer: 127\.0\.0\.1:\d+: .*{words}", *argv)


class StrftimeTests(TimeTestCase):
    """The time as a format asks for it."""

    def serve(self, *answers: bytes) -> tuple[list[bytes], str]:
        """A server that gives answers; what it was asked, and where it is."""
        heard: list[bytes] = []

        def answer(data: bytes) -> list[bytes]:
            heard.append(data)
            return list(answers)

        return heard, f"127.0.0.1:{self.datagrams(answer)}"

    def test_format(self) -> None:
        """The format is the datagram, the answer is printed."""
        heard, to = self.serve("2026年".encode())
        self.assertEqual(self.time("%Y年", "--to", to), (0, "2026年\n", ""))
        self.assertEqual(heard, ["%Y年".encode()])

    def test_empty(self) -> None:
        """Without a format the datagram is empty."""
        heard, to = self.serve(b"now")
        self.assertEqual(self.time("--udp", "--to", to), (0, "now\n", ""))
        self.assertEqual(heard, [b""])

    def test_terminal(self) -> None:
        """What a terminal would obey is escaped, lines and tabs are not."""
        _, to = self.serve(b"a\n\tb\x1b[2J\r")
        self.assertEqual(self.time("--to", to), (0, "a\n\tb\\x1b[2J\\r\n", ""))

    def test_notText(self) -> None:
        """An answer that is not UTF-8 is wrong."""
        _, to = self.serve(b"\xff")
        self.assertWrong("UTF-8", "--to", to)

    def test_lost(self) -> None:
        """A datagram that is lost is sent again, within the same time-out."""
        heard: list[bytes] = []

        def answer(data: bytes) -> list[bytes]:
            heard.append(data)
            return [b"third"] if len(heard) == 3 else []

        to = f"127.0.0.1:{self.datagrams(answer)}"
        self.assertEqual(self.time("x", "--timeout", "0.6", "--to", to), (0, "third\n", ""))
        self.assertEqual(heard, [b"x"] * 3)

    def test_silent(self) -> None:
        """Where nothing answers, the line says how often and how long it was waited for."""
        heard, to = self.serve()
        quick = ("--timeout", "0.1", "--to", to)
        self.assertFails(255, r"no answer to 2 datagrams \(UDP\) within 0.1 s", "--tries=2", *quick)
        self.assertEqual(len(heard), 2)
        self.assertFails(255, "no answer to a datagram", "--tries=1", *quick)
        self.assertFails(255, r"FORMAT has 65 bytes: more than 64", "x" * 65, *quick)

    def test_nobody(self) -> None:
        """Where nobody listens, that is said at once."""
        to = f"127.0.0.1:{unused_port(socket.SOCK_DGRAM)}"
        self.assertFails(255, rf"connect: {to}: Connection refused", "--timeout=60", "--to", to)

    def test_hosts(self) -> None:
        """IPv6 is in brackets, and a name's addresses have their turns."""
        port = self.datagrams(lambda _: [b"six"], "::1")
        self.assertEqual(self.time("--to", f"[::1]:{port}"), (0, "six\n", ""))
        _, to = self.serve(b"four")
        places = [
            (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", int(to[10:]))),
            (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", int(to[10:]))),
        ]
        self.patch(socket, "getaddrinfo", lambda *_, **__: places)
        self.assertEqual(self.time("--to", "both"), (0, "four\n", ""))

    def test_usage(self) -> None:
        """Wrong usage is 2 and says what was expected."""
        for words, argv in (
            ("FORMAT is for the strftime", ("%Y", "--protocol", "time")),
            ("by datagrams", ("--tcp",)),
            ("by datagrams", ("--protocol", "ntp", "--tcp")),
            ("stream", ("--to", "unix:/x")),
            ("stream", ("--protocol", "time", "--udp", "--to", "unix:/x")),
            ("--to.*port", ("--to", "a:0")),
            ("--to.*brackets", ("--to", "::1")),
            ("--protocol", ("--protocol", "sundial")),
            ("--timeout", ("--timeout", "0")),
            ("--timeout", ("--timeout", "nan")),
            ("--tries", ("--tries", "0")),
            ("No such option '--connect'", ("--connect", "x")),
            ("too long", ("x" * 65_508,)),
        ):
            self.assertFails(2, f"usage: .*{words}", *argv)
        self.assertFails(
            255, "connect: no.such.host.invalid:7113: ", "--to", "no.such.host.invalid"
        )

    def test_help(self) -> None:
        """The help teaches by examples, and names the ports."""
        text = CliRunner().invoke(program, ["time", "--help"]).stdout
        self.assertIn("  sockproto time '%Y %m %d'\n", text)
        self.assertIn("7123", text)
        self.assertNotIn("--keyring", text)


def _always(answers: list[bytes], _question: bytes) -> list[bytes]:
    """The same answers to all."""
    return answers


class ToldTests(TimeTestCase):
    """daytime and time: what everybody is told."""

    def say(self, *pieces: bytes) -> str:
        """A server that says something to each connection; where it is."""

        def conversation(connection: socket.socket) -> None:
            for piece in pieces:
                connection.sendall(piece)

        return f"127.0.0.1:{self.stream(conversation)}"

    def test_daytime(self) -> None:
        """The line is printed without its end, however it comes and begins."""
        for pieces in ((b"Now\r\n",), (b"N", b"ow"), (b"\n", b"Now\r", b"\n")):
            to = self.say(*pieces)
            self.assertEqual(self.time("--protocol=daytime", "--to", to), (0, "Now\n", ""))

    def test_daytimeWrong(self) -> None:
        """Nothing, and far too much, is no line."""
        for data in (b"", b"\r\n", b"x" * 5000):
            self.assertWrong("RFC 867", "--protocol=daytime", "--to", self.say(data))

    def test_daytimeUDP(self) -> None:
        """An empty datagram asks, too."""
        port = self.datagrams(lambda data: [b"Now\r\n"] if data == b"" else [])
        to = f"127.0.0.1:{port}"
        self.assertEqual(self.time("--protocol=daytime", "--udp", "--to", to), (0, "Now\n", ""))

    def test_notClosed(self) -> None:
        """A server need not close; one that never comes to an end did not answer."""
        kept: list[socket.socket] = []

        def conversation(connection: socket.socket) -> None:
            connection.sendall(b"Now")
            kept.append(connection.dup())
            if len(kept) == 1:
                connection.sendall(b"\r\n")

        to = f"127.0.0.1:{self.stream(conversation)}"
        argv = ("--protocol=daytime", "--timeout=0.2", "--to", to)
        self.assertEqual(self.time(*argv), (0, "Now\n", ""))
        self.assertFails(255, "connect: .*not told all within 0.2 s", *argv)
        for connection in kept:
            connection.close()

    def shown(self, text: str) -> float:
        """The time that a line shows."""
        from datetime import datetime

        moment = datetime.fromisoformat(text.removesuffix("\n"))
        self.assertIsNotNone(moment.utcoffset())
        return moment.timestamp()

    def test_time(self) -> None:
        """Four bytes are a time, by TCP as by UDP."""
        for moment in (0, 1_800_000_000):
            data = to_rfc868(moment)
            told = self.time("--protocol=time", "--to", self.say(data[:1], data[1:]))
            self.assertEqual((told[0], told[2], self.shown(told[1])), (0, "", moment))
            to = f"127.0.0.1:{self.datagrams(partial(_always, [data]))}"
            self.assertEqual(self.time("--protocol=time", "--udp", "--to", to), told)

    def test_time2036(self) -> None:
        """Where the count begins anew, the time nearest to ours is meant."""
        wrap = 2_085_978_496
        for ours, theirs in ((wrap - 5, wrap + 3), (wrap + 5, wrap - 3), (wrap + 5, wrap + 6)):
            # The clock that the command reads; the waiting is by another.
            self.patch(time_module, "clock", _Clock(ours))
            status, output, _ = self.time("--protocol=time", "--to", self.say(to_rfc868(theirs)))
            self.assertEqual((status, self.shown(output)), (0, theirs))

    def test_timeWrong(self) -> None:
        """More or fewer than four bytes are none."""
        for data in (b"", b"\0\0\0", b"\0\0\0\0\0"):
            self.assertWrong("four bytes", "--protocol=time", "--to", self.say(data))
        to = f"127.0.0.1:{self.datagrams(lambda _: [b'12345'])}"
        self.assertWrong("not 5", "--protocol=time", "--udp", "--to", to)

    def test_nobody(self) -> None:
        """Where nobody listens: 255."""
        to = f"127.0.0.1:{unused_port()}"
        self.assertFails(255, f"connect: {to}: Connection refused", "--protocol=time", "--to", to)

    def test_otherPlaces(self) -> None:
        """IPv6 and Unix sockets work as well."""

        def conversation(connection: socket.socket) -> None:
            connection.sendall(b"Now\r\n")

        path = os.path.join(self.mktemp())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        port = self.stream(conversation, "::1")
        self.stream(conversation, path)
        for to in (f"[::1]:{port}", f"unix:{path}"):
            self.assertEqual(self.time("--protocol=daytime", "--to", to), (0, "Now\n", ""))


class _Clock:
    """The module ``time`` with another time of day."""

    def __init__(self, now: float) -> None:
        self.time = lambda: now


class NTPTests(TimeTestCase):
    """The NTP client."""

    def serve(self, *answers: Callable[[bytes], list[bytes]]) -> str:
        """A server that answers the first question by the first, and so on; the last stays."""
        left = list(answers)

        def answer(data: bytes) -> list[bytes]:
            current = left.pop(0) if len(left) > 1 else left[0]
            return current(data)

        return f"127.0.0.1:{self.datagrams(answer)}"

    def ntp(self, to: str, *argv: str) -> tuple[int, str, str]:
        return self.time("--protocol", "ntp", "--timeout=0.2", "--tries=1", "--to", to, *argv)

    @staticmethod
    def right(
        ahead: float = 100, stratum: int = 2, fields: Mapping[int, Any] | None = None
    ) -> Callable[[bytes], list[bytes]]:
        """A server whose clock is ahead of ours."""

        def answer(data: bytes) -> list[bytes]:
            answer = NTPServer(stratum, lambda: time.time() + ahead).answer(data)
            assert answer is not None
            found = dict(enumerate(PACKET.unpack(answer))) | dict(fields or {})
            return [PACKET.pack(*found.values())]

        return answer

    def test_line(self) -> None:
        """The line has the address, stratum, offset and delay."""
        status, output, errors = self.ntp(self.serve(self.right()))
        self.assertEqual((status, errors), (0, ""))
        line = r"\Aserver 127\.0\.0\.1, stratum (?:2|10), offset (\d+\.\d{6}), delay 0\.\d{5}\n\Z"
        self.assertRegex(output, line)
        self.assertTrue(99.5 < float(output.split("offset ")[1].split(",")[0]) < 100.5)

    def test_best(self) -> None:
        """Of the samples the fastest counts."""

        def slow(data: bytes) -> list[bytes]:
            time.sleep(0.05)
            return self.right(500)(data)

        to = self.serve(slow, self.right(7), slow)
        self.assertRegex(self.ntp(to, "--samples=3")[1], r"offset [67]\.")

    def test_unsynchronised(self) -> None:
        """A server that says so: its line, why not to use it, and 1."""
        answer = self.right(fields={0: 3 << 6 | 4 << 3 | 4, 1: 0, 6: bytes(4)})
        status, output, errors = self.ntp(self.serve(answer))
        self.assertEqual(status, 1)
        self.assertRegex(output, r"\Aserver 127\.0\.0\.1, stratum 0, offset 100\.")
        self.assertRegex(errors, r"\Asockproto: unsynchronised: .*not synchronised .*leap 3\)\n\Z")

    def test_kiss(self) -> None:
        """One that wants fewer questions has its first answer used; one that refuses has none."""
        rate = self.right(fields={0: 3 << 6 | 36, 1: 0, 6: b"RATE"})
        self.assertEqual(self.ntp(self.serve(self.right(), rate))[0], 0)
        status, _, errors = self.ntp(self.serve(rate))
        self.assertEqual(status, 1)
        self.assertIn("refuses to answer (RATE)", errors)

    def test_fewer(self) -> None:
        """One that falls silent has what it said used."""
        self.assertEqual(self.ntp(self.serve(self.right(), lambda _: []))[0], 0)

    def test_wrong(self) -> None:
        """What is no answer of NTP's is wrong; nothing at all is another thing."""
        for answer, words in (
            (lambda _: [b"hello"], "this answer 5"),
            (lambda data: [data], "mode 3"),
            (self.right(fields={8: 1}), "1 datagrams came, and none answers our question"),
        ):
            status, output, errors = self.ntp(self.serve(answer))
            self.assertEqual((status, output), (1, ""))
            self.assertRegex(errors, rf"\Asockproto: answer: .*{words}.*\n\Z")
        self.assertEqual(self.ntp(self.serve(lambda _: []))[0], 255)

    def test_forged(self) -> None:
        """An answer to somebody else's question does not stand in the way of ours."""

        def answer(data: bytes) -> list[bytes]:
            right = self.right()(data)[0]
            return [right[:24] + pack(">Q", 1) + right[32:], right]

        self.assertEqual(self.ntp(self.serve(answer))[0], 0)


class PairTests(SynchronousTestCase):
    """The program against our own services."""

    def test_all(self) -> None:
        """Each service answers, by each of its transports, without Twisted on the client's side."""
        server, ports = start_pair()
        self.addCleanup(stop_pair, server)
        year = str(time.gmtime().tm_year)
        for name, argv, words in (
            ("udp-strftime", (), rf"\A{year}-\d\d-\d\d \d\d:\d\d:\d\d\n\Z"),
            ("udp-strftime", ("%Y年 %q",), rf"\A{year}年 %q\n\Z"),
            ("udp-daytime", ("--protocol=daytime", "--udp"), rf"\A\w+, .* {year} .*-UTC\n\Z"),
            ("tcp-daytime", ("--protocol=daytime",), rf"\A\w+, .* {year} .*-UTC\n\Z"),
            ("udp-time", ("--protocol=time", "--udp"), r"\A\d{4}-\d\d-\d\d .*[+-]\d\d:\d\d\n\Z"),
            ("tcp-time", ("--protocol=time",), r"\A\d{4}-\d\d-\d\d .*[+-]\d\d:\d\d\n\Z"),
            ("udp-ntp", ("--protocol=ntp", "--samples=2"), r"\Aserver 127.0.0.1, stratum \d+, "),
        ):
            to = f"127.0.0.1:{ports[name]}"
            with client("time", *argv, "--to", to) as process:
                output, errors = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, errors), (0, b""))
            self.assertRegex(output.decode(), words)

    def test_light(self) -> None:
        """Nothing heavy is imported on the way."""
        check = (
            "import sys, sockproto.cli.time, sockproto.cli.echo, sockproto.cli.shell\n"
            "heavy = {'twisted', 'zope', 'cattrs', 'OpenSSL', 'cryptography', 'tomlkit'}\n"
            "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
        )
        found = subprocess.run(
            [sys.executable, "-c", check],
            env=client_environment(),
            capture_output=True,
            check=False,
        )
        self.assertEqual((found.returncode, found.stderr), (0, b""))
