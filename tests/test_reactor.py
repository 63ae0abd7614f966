"""Tests of the reactor on uvloop, beside Twisted's own, which tools/run_reactor_tests.py runs."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import subprocess
import sys
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from twisted.application.reactors import IReactorInstaller
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import ConfigurationError
from sockproto.reactor.reactor import UvloopReactor
from tests.servers import PATIENCE, client_environment
from tests.twistd_process import ProcessTestCase

MISSING = None if find_spec("uvloop") else "uvloop is not installed"

# What each program begins with: a server and a client on a connection, each doing as it is told.
PROGRAM = """
import json, socket, sys
from sockproto.reactor import install
install()
from twisted.internet import reactor
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from zope.interface import implementer

told = {}
reactor.callLater(30, reactor.stop)

def end(**what):
    told.update(what)
    reactor.stop()

class Client(Protocol):
    received = b""
    def dataReceived(self, data):
        self.received += data

def connect(server, client=Client):
    port = reactor.listenTCP(0, Factory.forProtocol(server), interface="127.0.0.1")
    made = Factory.forProtocol(client)
    made.clientConnectionLost = made.startedConnecting = lambda *arguments: None
    reactor.connectTCP("127.0.0.1", port.getHost().port, made)
"""
AT_END = """
reactor.run()
print(json.dumps(told))
"""


def run(program: str) -> Any:
    """Run a program in a process of its own; what it told."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program + AT_END],
        check=True,
        capture_output=True,
        env=client_environment(),
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )
    return json.loads(done.stdout)


class InstallTests(SynchronousTestCase):
    """What it takes to have the reactor."""

    def test_plugin(self) -> None:
        """Twisted's programs list it, and find the module by its name."""
        found: list[Any] = list(getPlugins(IReactorInstaller))
        modules = [plugin.moduleName for plugin in found if plugin.shortName == "uvloop"]
        self.assertEqual(modules, ["sockproto.reactor"])

    def test_withoutUvloop(self) -> None:
        """Without uvloop the error names it, and how to install it."""
        with patch.dict("sys.modules", uvloop=None):
            error = self.assertRaises(ConfigurationError, UvloopReactor)
        self.assertIn("pip install 'sockproto[uvloop]'", str(error))

    def test_anotherLoop(self) -> None:
        """A loop of asyncio's own is refused."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        self.assertRaises(ConfigurationError, UvloopReactor, loop)

    if MISSING:
        test_anotherLoop.skip = MISSING  # type: ignore[attr-defined]


class StreamTests(SynchronousTestCase):
    """What Twisted's own tests do not ask of a stream."""

    skip = MISSING

    def test_together(self) -> None:
        """The writes of one read leave in one piece, and before what follows them."""
        told = run("""
class Server(Protocol):
    def dataReceived(self, data):
        for _ in range(100):
            self.transport.write(b"x")
        self.transport.loseConnection()
class Counting(Client):
    reads = 0
    def connectionMade(self):
        self.transport.write(b"?")
    def dataReceived(self, data):
        self.reads += 1
        self.received += data
    def connectionLost(self, reason):
        end(reads=self.reads, size=len(self.received), why=reason.type.__name__)
connect(Server, Counting)
""")
        self.assertEqual(told, {"reads": 1, "size": 100, "why": "ConnectionDone"})

    def test_producerYields(self) -> None:
        """A producer that writes until it is paused is paused, even if all is sent at once."""
        told = run("""
class Server(Protocol):
    written = pauses = 0
    def connectionMade(self):
        self.transport.registerProducer(self, True)
        reactor.callLater(0, self.resumeProducing)
    def resumeProducing(self):
        self.paused = False
        while not self.paused:
            self.transport.write(b"x" * 1000)
            self.written += 1000
    def pauseProducing(self):
        self.paused = True
        self.pauses += 1
        if self.pauses == 3:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
    def stopProducing(self):
        pass
    def connectionLost(self, reason):
        told.update(written=self.written, pauses=self.pauses)
class Sink(Client):
    def connectionLost(self, reason):
        reactor.callLater(0.01, end, received=len(self.received))
connect(Server, Sink)
""")
        self.assertEqual(told, {"pauses": 3, "written": 3 * 66000, "received": 3 * 66000})

    def test_pausedAtFirst(self) -> None:
        """One that is paused as it begins reads nothing until it is resumed, but can write."""
        told = run("""
class Server(Protocol):
    early = True
    received = b""
    def connectionMade(self):
        self.transport.pauseProducing()
        self.transport.write(b"written")
        reactor.callLater(0.1, self.resume)
    def resume(self):
        told["before"] = len(self.received)
        self.transport.resumeProducing()
    def dataReceived(self, data):
        self.received += data
    def connectionLost(self, reason):
        reactor.callLater(0.01, end, after=len(self.received))
class Quick(Client):
    def connectionMade(self):
        self.transport.write(b"x" * 1000)
    def dataReceived(self, data):
        told["client"] = data.decode()
        self.transport.write(b"y")
        self.transport.loseConnection()
connect(Server, Quick)
""")
        self.assertEqual(told, {"before": 0, "after": 1001, "client": "written"})

    def test_halfClosed(self) -> None:
        """A protocol that knows of half-closed connections answers after the peer's end."""
        told = run("""
@implementer(IHalfCloseableProtocol)
class Server(Client):
    def readConnectionLost(self):
        self.transport.write(self.received * 100000)
        self.transport.loseConnection()
    def writeConnectionLost(self):
        pass
@implementer(IHalfCloseableProtocol)
class Asking(Client):
    def connectionMade(self):
        self.transport.write(b"question")
        self.transport.loseWriteConnection()
    def readConnectionLost(self):
        self.transport.loseConnection()
    def writeConnectionLost(self):
        told["closed"] = True
    def connectionLost(self, reason):
        end(size=len(self.received))
connect(Server, Asking)
""")
        self.assertEqual(told, {"closed": True, "size": 800000})

    def test_abort(self) -> None:
        """An abort is a reset to the peer, and drops what was not sent."""
        told = run("""
class Server(Protocol):
    def dataReceived(self, data):
        self.transport.write(b"x" * 10**7)
        self.transport.abortConnection()
    def connectionLost(self, reason):
        told["server"] = reason.type.__name__
class Asking(Client):
    def connectionMade(self):
        self.transport.write(b"?")
    def connectionLost(self, reason):
        reactor.callLater(0.01, end, client=reason.type.__name__, whole=len(self.received) == 10**7)
connect(Server, Asking)
""")
        self.assertEqual(
            told, {"server": "ConnectionAborted", "client": "ConnectionLost", "whole": False}
        )

    def test_raises(self) -> None:
        """An exception of the program's closes that connection, and is its reason."""
        told = run("""
class Server(Protocol):
    def dataReceived(self, data):
        self.transport.write(b"answer")
        raise ZeroDivisionError
    def connectionLost(self, reason):
        told["server"] = reason.type.__name__
class Asking(Client):
    def connectionMade(self):
        self.transport.write(b"?")
    def connectionLost(self, reason):
        reactor.callLater(0.01, end, client=reason.type.__name__)
connect(Server, Asking)
""")
        self.assertEqual(told, {"server": "ZeroDivisionError", "client": "ConnectionDone"})


class ProcessEndTests(SynchronousTestCase):
    """Children."""

    skip = MISSING

    def test_ends(self) -> None:
        """The end of each of many children is heard, with its status."""
        told = run("""
statuses = []
class Child(ProcessProtocol):
    def processEnded(self, reason):
        statuses.append(reason.value.exitCode)
        if len(statuses) == 50:
            end(statuses=sorted(statuses))
for number in range(50):
    reactor.callWhenRunning(
        reactor.spawnProcess, Child(), "/bin/sh", ["sh", "-c", f"exit {number}"], None
    )
""")
        self.assertEqual(told, {"statuses": list(range(50))})


class ServerTests(ProcessTestCase):
    """The agent over it."""

    skip = MISSING

    def test_serves(self) -> None:
        """Twistd serves by its name; commands, their statuses and output come; signals end it."""
        server = self.serve(
            "--listen", "agent=tcp:0:interface=127.0.0.1", before=("--reactor=uvloop",)
        )  # fmt: skip
        words = shlex.split(next(line for line in server.lines if " run " in line))
        command = words[words.index("run") : words.index("--") + 1]
        self.assertIn("UvloopReactor", server.output)
        self.assertEqual(self.run_client(*command, "echo", "hello"), (0, "hello\n"))
        status, output = self.run_client(*command, "sh", "-c", "head -c 3000000 /dev/zero; exit 7")
        self.assertEqual((status, len(output)), (7, 3000000))
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertNotIn("Traceback", server.output)
