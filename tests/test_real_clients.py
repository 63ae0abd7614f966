"""Other people's clients against our services: rdate, chronyd, socat, netcat.

The programs are Debian's.  Where one is missing its tests are skipped, unless the environment has
SOCKPROTO_REQUIRE_CLIENTS: then they fail.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from sockproto.datagrams import MAX_DATAGRAM, AnsweringProtocol, DatagramGuard
from sockproto.limits import Limits
from sockproto.services.clock import DaytimeFactory, TimeFactory, WallClock
from sockproto.services.echo import EchoFactory, UpperFactory, echo
from sockproto.services.ntp import PORT, NTPServer
from sockproto.services.open import OpenFactory

# Which of the reactor's interfaces there are is settled when it is installed.
reactor: Any = installed

#: How far apart the clocks of two programs on one machine may seem, in seconds.
APART = 5


class ClientCase(TestCase):
    """What the tests share: services on loopback, and programs that are run beside the reactor."""

    timeout = 60

    def program(self, name: str) -> str:
        """Where a program is; the test is skipped, or fails, where it is nowhere."""
        path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if path is None:
            if os.environ.get("SOCKPROTO_REQUIRE_CLIENTS"):
                self.fail(f"{name} is not installed")
            self.skipTest(f"{name} is not installed")
        return path

    def serve(self, factory: OpenFactory) -> str:
        """Serve over TCP; the port."""
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return str(port.getHost().port)

    def answer(self, answer: Callable[[bytes], bytes | None], reserved: Any = ()) -> str:
        """Serve over UDP; the port."""
        guard = DatagramGuard(Limits(), reactor.seconds)
        protocol = AnsweringProtocol("test", answer, guard, reserved)
        port = reactor.listenUDP(0, protocol, "127.0.0.1", MAX_DATAGRAM + 1)
        self.addCleanup(port.stopListening)
        return str(port.getHost().port)

    def run_program(self, *argv: str, input: bytes = b"") -> Deferred[Any]:
        """Run a program to its end."""
        return deferToThread(
            subprocess.run,
            argv,
            input=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=45,
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
            check=False,
        )


class RdateTests(ClientCase):
    """Debian's rdate: RFC 868 over TCP and UDP, and SNTP."""

    def assertNow(self, ended: Any) -> None:
        """The program printed the time, and was content."""
        text = ended.stdout.decode()
        self.assertEqual(ended.returncode, 0, text)
        said = datetime.strptime(text.strip(), "%a %b %d %H:%M:%S %Z %Y").replace(tzinfo=UTC)
        self.assertTrue(abs(said.timestamp() - time.time()) < APART, text)

    @inlineCallbacks
    def test_tcp(self) -> Any:
        """The time over TCP."""
        rdate = self.program("rdate")
        port = self.serve(TimeFactory(reactor))
        self.assertNow((yield self.run_program(rdate, "-p", "-o", port, "127.0.0.1")))

    @inlineCallbacks
    def test_udp(self) -> Any:
        """The time over UDP."""
        rdate = self.program("rdate")
        port = self.answer(WallClock().time)
        self.assertNow((yield self.run_program(rdate, "-p", "-u", "-o", port, "127.0.0.1")))

    @inlineCallbacks
    def test_sntp(self) -> Any:
        """SNTP, from a clock that is to be trusted though nothing keeps it right."""
        rdate = self.program("rdate")
        port = self.answer(NTPServer(8).answer, {PORT})
        self.assertNow((yield self.run_program(rdate, "-p", "-n", "-o", port, "127.0.0.1")))


class ChronyTests(ClientCase):
    """chronyd, which believes nobody without cause."""

    def query(self, server: NTPServer) -> Deferred[Any]:
        chronyd = self.program("chronyd")
        port = self.answer(server.answer, {PORT})
        folder = self.mktemp()
        os.mkdir(folder)
        return self.run_program(
            chronyd,
            "-Q",
            "-U",
            "-t",
            "15",
            "-f",
            os.devnull,
            f"server 127.0.0.1 port {port} iburst maxsamples 4",
            "cmdport 0",
            f"pidfile {folder}/chronyd.pid",
        )

    @inlineCallbacks
    def test_synchronises(self) -> Any:
        """It takes the time of a clock with a local stratum, which is its own."""
        ended = yield self.query(NTPServer(8))
        found = re.search(rb"System clock wrong by (-?[0-9.]+) seconds", ended.stdout)
        assert found is not None, ended.stdout
        self.assertTrue(abs(float(found[1])) < 1, ended.stdout)


class EchoClientTests(ClientCase):
    """socat and netcat, for streams of bytes and datagrams."""

    @inlineCallbacks
    def test_socat(self) -> Any:
        """What socat sends over TCP comes back, all of it after it has said that there is no
        more."""
        socat = self.program("socat")
        port = self.serve(EchoFactory(reactor))
        data = os.urandom(1_000_000)
        ended = yield self.run_program(socat, "-t", "20", "-", f"TCP:127.0.0.1:{port}", input=data)
        self.assertEqual(ended.stdout, data)

    @inlineCallbacks
    def test_datagram(self) -> Any:
        """A datagram of socat's comes back."""
        socat = self.program("socat")
        port = self.answer(echo)
        ended = yield self.run_program(
            socat, "-t", "2", "-", f"UDP:127.0.0.1:{port}", input=b"hello\0"
        )
        self.assertEqual(ended.stdout, b"hello\0")

    @inlineCallbacks
    def test_netcat(self) -> Any:
        """netcat talks to upper and to daytime."""
        netcat = self.program("nc")
        port = self.serve(UpperFactory(reactor))
        ended = yield self.run_program(netcat, "-N", "127.0.0.1", port, input="größe\n".encode())
        self.assertEqual(ended.stdout, "GRößE\n".encode())
        port = self.serve(DaytimeFactory(reactor))
        ended = yield self.run_program(netcat, "-d", "127.0.0.1", port)
        self.assertRegex(
            ended.stdout, rb"^[A-Z][a-z]+day, [A-Z][a-z]+ \d\d, \d{4} [\d:]{8}-\S+\r\n$"
        )
