"""Tests for :mod:`sockproto.auth.endpoints`: real sockets, and the prefix as Twisted finds it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    quoteStringArgument,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.wire import Echo
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from sockproto.auth.client import AuthenticatingEndpoint
from sockproto.auth.endpoints import AuthenticatingServerEndpoint
from sockproto.auth.server import AuthenticatingFactory
from sockproto.auth.tls import ClientTLS, tlsFactory
from sockproto.credentials import Credentials
from sockproto.errors import KeyringError, LocalProtocolError, LoginFailed
from sockproto.key import Key
from sockproto.tls import automatic_context
from tests.memory import KEY, KEYS, SECRET, SERVER, SERVICE, Spy

KEYRING = """
[[key]]
id = "k1"
secret = "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM="
"""


class Asking(Protocol):
    """Collects what it reads, until it is as much as it waits for."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.wanted = 0
        self.enough: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def ask(self, question: bytes) -> Deferred[bytes]:
        """Send this, and wait for as many bytes."""
        self.wanted = len(question)
        self.transport.write(question)
        return self.enough

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= self.wanted:
            self.enough.callback(self.received)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class RealTests(TestCase):
    """Twisted's own Echo behind the login, over real sockets."""

    timeout = 30

    def credentials(self, **other: Any) -> Credentials:
        """What the client logs in with."""
        settings: dict[str, Any] = {"key": KEY, "service": SERVICE, "server_id": SERVER}
        return Credentials(**{**settings, **other})

    def factory(self) -> AuthenticatingFactory:
        """Echo behind the login."""
        return AuthenticatingFactory(reactor, Factory.forProtocol(Echo), KEYS, SERVICE, SERVER)

    async def converse(self, endpoint: Any, **other: Any) -> None:
        """Log in, have a megabyte echoed, and leave."""
        login = AuthenticatingEndpoint(reactor, endpoint, self.credentials(**other))
        protocol: Any = await login.connect(Factory.forProtocol(Asking))
        question = os.urandom(2**20)
        self.assertEqual(await protocol.ask(question), question)
        protocol.transport.loseConnection()
        await protocol.lost

    async def serve(self, endpoint: Any, factory: Any) -> Any:
        """Listen until the test is over."""
        port = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        return port.getHost()

    def test_tcp(self) -> Deferred[None]:
        """Over TCP."""

        async def run() -> None:
            endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
            host = await self.serve(endpoint, self.factory())
            await self.converse(TCP4ClientEndpoint(reactor, "127.0.0.1", host.port))

        return started(run())

    def test_unix(self) -> Deferred[None]:
        """Over a Unix socket."""

        async def run() -> None:
            path = os.path.relpath(self.mktemp())
            await self.serve(UNIXServerEndpoint(reactor, path), self.factory())
            await self.converse(UNIXClientEndpoint(reactor, path))

        return started(run())

    def test_tls(self) -> Deferred[None]:
        """Over TLS; a client without it gets nothing."""

        async def run() -> None:
            endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
            factory = tlsFactory(reactor, automatic_context(), self.factory())
            host = await self.serve(endpoint, factory)
            below = TCP4ClientEndpoint(reactor, "127.0.0.1", host.port)
            await self.converse(wrapClientTLS(ClientTLS(), below), tls=True)

        return started(run())

    def test_wrongKey(self) -> Deferred[None]:
        """Over TCP the wrong secret gets FAIL: the close does not overtake it."""

        async def run() -> None:
            endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
            host = await self.serve(endpoint, self.factory())
            below = TCP4ClientEndpoint(reactor, "127.0.0.1", host.port)
            with self.assertRaises(LoginFailed) as caught:
                await self.converse(below, key=Key("k1", secret=bytes(32)))
            self.assertIn("the server refused the login (ref ", str(caught.exception))

        return started(run())

    def test_prefix(self) -> Deferred[None]:
        """The hmac: prefix puts what an endpoint string names behind the login."""
        path = Path(self.mktemp())
        path.write_text(KEYRING)
        path.chmod(0o600)

        async def run() -> None:
            endpoint = serverFromString(
                reactor,
                f"hmac:hmac_service=echo:hmac_keyring={path}:hmac_server_id=web1:"
                "tcp:0:interface=127.0.0.1",
            )
            host = await self.serve(endpoint, Factory.forProtocol(Echo))
            self.assertEqual(host.host, "127.0.0.1")
            await self.converse(TCP4ClientEndpoint(reactor, "127.0.0.1", host.port))

        return started(run())

    def test_prefixUnix(self) -> Deferred[None]:
        """Characters that mean something in endpoint strings come through it."""
        folder = Path(os.path.relpath(self.mktemp()))
        folder.mkdir()
        keyring = folder / "key:ring=1\\.toml"
        keyring.write_text(KEYRING)
        keyring.chmod(0o600)
        where = str(folder / "a:b=c\\d")
        quoted = quoteStringArgument(where).replace("=", "\\=")

        async def run() -> None:
            endpoint = serverFromString(
                reactor,
                f"hmac:hmac_service=echo:hmac_keyring={quoteStringArgument(str(keyring))}:"
                f"hmac_server_id=web1:unix:{quoted}:mode=600",
            )
            await self.serve(endpoint, Factory.forProtocol(Echo))
            self.assertEqual(os.stat(where).st_mode & 0o777, 0o600)
            await self.converse(UNIXClientEndpoint(reactor, where))

        return started(run())


def started(running: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
    """A test's coroutine as what trial waits for."""
    return ensureDeferred(running)


class PrefixTests(SynchronousTestCase):
    """Endpoint strings with the prefix."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_text(KEYRING)
        self.path.chmod(0o600)
        self.reactor = MemoryReactorClock()

    def parse(self, rest: str = "tcp:0") -> Any:
        """An endpoint by its string."""
        return serverFromString(self.reactor, f"hmac:hmac_keyring={self.path}:{rest}")

    def test_endpoint(self) -> None:
        """It is a server endpoint, which listens where the rest says."""
        endpoint = self.parse("hmac_service=echo:tcp:7:interface=127.0.0.2:backlog=3")
        self.assertTrue(verifyObject(IStreamServerEndpoint, endpoint))
        endpoint.listen(Spy())
        factory: Any
        (port, factory, backlog, interface) = self.reactor.tcpServers[0]
        self.assertEqual((port, backlog, interface), (7, 3, "127.0.0.2"))
        self.assertIsInstance(factory, AuthenticatingFactory)
        self.assertEqual(factory.service, "echo")
        self.assertIsNotNone(factory.cap)

    def test_absoluteKeyring(self) -> None:
        """The keyring is meant as seen from where the program is started."""
        endpoint = self.parse("hmac_service=echo:tcp:7")
        endpoint.listen(Spy())
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir("/")
        factory: Any = self.reactor.tcpServers[0][1]
        factory.keys._seen = {}
        key = factory.keys.get("k1")
        self.assertEqual(key.secret, SECRET)
        self.assertIsNone(factory.keys.error)

    def test_errors(self) -> None:
        """What is missing, unknown or unfit is said, with what was expected."""
        for rest, words in (
            ("tcp:0", "missing: hmac_service"),
            ("hmac_service=echo:hmac_servce=x:tcp:0", "not known: hmac_servce"),
            ("hmac_service=echo", "no endpoint behind the prefix"),
            ("hmac_service=a b:tcp:0", "service name 'a b': expected 1 to 64"),
            ("hmac_service=echo:hmac_server_id=\u00e9:tcp:0", "server id '\u00e9': expected"),
            ("hmac_service=echo:nosuch:0", "nosuch"),
            ("hmac_service=echo:tcp:http\\:", ""),
        ):
            with self.assertRaises(ValueError) as caught:
                self.parse(rest)
            self.assertIn(words, str(caught.exception))

    def test_keyringErrors(self) -> None:
        """A keyring that cannot be used is an error before anything listens."""
        self.path.chmod(0o644)
        with self.assertRaises(KeyringError) as caught:
            self.parse("hmac_service=echo:tcp:0")
        self.assertIn("expected mode 0600", str(caught.exception))
        self.path.unlink()
        self.assertRaises(KeyringError, self.parse, "hmac_service=echo:tcp:0")

    def test_names(self) -> None:
        """The endpoint itself refuses a service that cannot be sent."""
        below = TCP4ServerEndpoint(self.reactor, 0)
        with self.assertRaises(LocalProtocolError):
            AuthenticatingServerEndpoint(self.reactor, below, KEYS, "")


#: Serves with few descriptors, and prints its port.
_SERVER = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo
from sockproto.auth.endpoints import AuthenticatingServerEndpoint
from tests.memory import KEYS
below = TCP4ServerEndpoint(reactor, 0, backlog=1000, interface="127.0.0.1")
endpoint = AuthenticatingServerEndpoint(reactor, below, KEYS, "echo", "web1")
def listening(port):
    print(port.getHost().port, flush=True)
endpoint.listen(Factory.forProtocol(Echo)).addCallback(listening)
reactor.callLater(60, reactor.stop)
reactor.run()
"""


class DescriptorTests(TestCase):
    """A server that is asked for more connections than it can have."""

    timeout = 60

    def test_moreThanDescriptors(self) -> Deferred[None]:
        """With 100 connections more than it has descriptors for, a server serves again at once."""
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        port = int(process.stdout.readline())

        async def login() -> Any:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout=5)
            credentials = Credentials(KEY, SERVICE, SERVER)
            return await AuthenticatingEndpoint(reactor, endpoint, credentials, 5).connect(
                Factory.forProtocol(Asking)
            )

        async def run() -> None:
            idle = []
            for _ in range(228):
                try:
                    idle.append(socket.create_connection(("127.0.0.1", port), 5))
                except ConnectionResetError:
                    pass  # refused even before it was known to be made
            for each in idle:
                # It is served, or refused and cut off: nobody is left without an answer.
                try:
                    self.assertIn(each.recv(1), (b"\0", b""))
                except ConnectionResetError:
                    pass
            for each in idle:
                each.close()
            begun = reactor.seconds()
            while True:
                try:
                    protocol = await login()
                    break
                except LoginFailed:  # the server has not read yet that they are gone
                    self.assertLess(reactor.seconds() - begun, 5)
            self.assertEqual(await protocol.ask(b"still there?"), b"still there?")
            protocol.transport.loseConnection()
            await protocol.lost

        return started(run())
