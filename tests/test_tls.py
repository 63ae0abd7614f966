"""Tests for :mod:`sockproto.tls`, :mod:`sockproto.auth.tls` and logins that are bound to TLS."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockproto.auth.client import AuthenticatingEndpoint
from sockproto.auth.server import AuthenticatingFactory
from sockproto.auth.tls import ClientTLS, ServerTLS
from sockproto.credentials import Credentials
from sockproto.errors import ConfigurationError, LoginFailed
from sockproto.limits import Limits
from sockproto.tls import (
    automatic_context,
    channel_binding,
    client_context,
    context_from_file,
    more_waits,
)
from sockproto.wire.frames import encode_frame
from sockproto.wire.handshake import Binding
from tests.memory import (
    KEY,
    KEYS,
    PEER,
    SERVER,
    SERVICE,
    Echo,
    End,
    MemoryEndpoint,
    Silent,
    Spy,
    handshake,
    join,
    overClientTLS,
    overServerTLS,
    pump,
)

CONTEXT = automatic_context()


def certificate(passphrase: bytes | None = None) -> tuple[bytes, bytes]:
    """A private key and a certificate for it, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, SHA256())
    )
    encryption: Any = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        ),
        made.public_bytes(serialization.Encoding.PEM),
    )


@implementer(IOpenSSLClientConnectionCreator)
class AnyClientTLS:
    """A TLS client by any context."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


def limited(version: int) -> SSL.Context:
    """A client's context with a highest version."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_max_proto_version(version)
    return context


def given(protocol: Any) -> Spy:
    """A factory that builds this very protocol."""
    return Spy(lambda: protocol)


class Relay(Protocol):
    """A machine in the middle: passes on what it reads, as it was."""

    transport: Any

    def __init__(self) -> None:
        self.waiting = b""
        self.passed = b""
        self.to: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.passed += data
        if self.to is None:
            self.waiting += data
        else:
            self.to.write(data)

    def passTo(self, transport: Any) -> None:
        """From now on it goes there."""
        self.to = transport
        transport.write(self.waiting)


class TLSCase(SynchronousTestCase):
    """Clients and servers with TLS 1.3 in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.spy = Spy(Silent)
        self.served = Spy(Echo)
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.factory = AuthenticatingFactory(self.clock, self.served, KEYS, SERVICE, SERVER)

    def server(self, context: SSL.Context | None = None) -> Any:
        """The server's protocol, under TLS."""
        wrap = overServerTLS(self.clock, CONTEXT if context is None else context)
        return wrap(self.factory).buildProtocol(PEER)

    def begin(self, wrap: Callable[[Any], Any] | None = None, tls: bool = True) -> Any:
        """A client's attempt, and its protocol."""
        endpoint = MemoryEndpoint(overClientTLS(self.clock) if wrap is None else wrap)
        credentials = Credentials(KEY, SERVICE, SERVER, "tester", tls)
        attempt = AuthenticatingEndpoint(self.clock, endpoint, credentials).connect(self.spy)
        return attempt, endpoint.build()

    def lines(self) -> list[str]:
        """The log so far."""
        return [str(formatEvent(event)) for event in self.events]


class BoundLoginTests(TLSCase):
    """Logins over TLS."""

    def test_login(self) -> None:
        """Both sides see one TLS session, so the login succeeds, bound to it."""
        attempt, client = self.begin()
        ends = join(self.server(), client)
        pump(self.clock, *ends)
        inner = self.successResultOf(attempt)
        self.assertIs(inner.transport.principal.login.binding, Binding.TLS_EXPORTER)
        self.assertEqual(
            inner.transport.principal.login, self.served.built[0].transport.principal.login
        )
        inner.transport.write(b"x" * 100_000)
        pump(self.clock, *ends)
        self.assertEqual(inner.received, b"x" * 100_000)
        for end in ends:
            self.assertNotIn(b"tester", end.sent)
        inner.transport.loseConnection()
        pump(self.clock, *ends)
        self.assertIsNotNone(self.served.built[0].lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_byteByByte(self) -> None:
        """However TLS's bytes arrive, it is the same."""
        attempt, client = self.begin()
        there, here = join(self.server(), client)
        for _ in range(20):
            self.clock.advance(0)
            for end in (there, here):
                data, end.outgoing = end.outgoing, b""
                assert end.other is not None
                for byte in data:
                    end.other.protocol.dataReceived(bytes((byte,)))
        self.successResultOf(attempt)

    def test_inTheMiddle(self) -> None:
        """Who ends TLS on both sides and passes the login on unchanged gets FAIL, and nothing."""
        attempt, client = self.begin()
        toClient, toServer = Relay(), Relay()
        spoof = overServerTLS(self.clock, automatic_context())(given(toClient))
        forward = overClientTLS(self.clock)(given(toServer))
        one = join(spoof.buildProtocol(PEER), client)
        two = join(self.server(), forward.buildProtocol(PEER))
        toClient.passTo(toServer.transport)
        toServer.passTo(toClient.transport)
        pump(self.clock, *one, *two)
        error = self.failureResultOf(attempt, LoginFailed).value
        self.assertIn("the server refused the login", str(error))
        self.assertIn(
            f"wrong tag (from 192.0.2.7:40000, key k1, client tester, ref {error.ref})",
            self.lines()[-1],
        )
        self.assertTrue(toServer.passed.endswith(b"\0\0\0\x02\x04\x01"))
        self.assertEqual(self.served.built + self.spy.built, [])

    def test_sameSession(self) -> None:
        """The relay itself is no fault: one that passes on TLS as it is lets the login through."""
        attempt, client = self.begin()
        toClient, toServer = Relay(), Relay()
        one = join(toClient, client)
        two = join(self.server(), toServer)
        toClient.passTo(toServer.transport)
        toServer.passTo(toClient.transport)
        pump(self.clock, *one, *two)
        self.successResultOf(attempt)

    def test_toPlaintext(self) -> None:
        """From TLS to a plaintext listener with the same key: the client says nothing."""
        attempt, client = self.begin()
        toClient, toServer = Relay(), Relay()
        spoof = overServerTLS(self.clock, automatic_context())(given(toClient))
        one = join(spoof.buildProtocol(PEER), client)
        two = join(self.factory.buildProtocol(PEER), toServer)
        toClient.passTo(toServer.transport)
        toServer.passTo(toClient.transport)
        pump(self.clock, *one, *two)
        error = self.failureResultOf(attempt, LoginFailed).value
        self.assertIn("may be a machine in the middle", str(error))
        self.assertEqual(toClient.passed, b"")
        self.assertEqual(self.served.built + self.spy.built, [])

    def test_toPlaintextWithForgedHello(self) -> None:
        """With a HELLO made to offer the binding the server does not take what comes of it."""
        attempt, client = self.begin()
        end = End()
        end.attach(self.factory.buildProtocol(PEER))
        hello = bytearray(end.sent)
        hello[8] = 0x02
        toClient = Relay()
        spoof = overServerTLS(self.clock, automatic_context())(given(toClient))
        ends = join(spoof.buildProtocol(PEER), client)
        toClient.transport.write(bytes(hello))
        pump(self.clock, *ends)
        before = len(end.sent)
        end.protocol.dataReceived(toClient.passed)
        self.assertEqual(end.sent[before:], b"\0\0\0\x02\x04\x01")
        self.assertEqual(self.served.built, [])
        self.assertNoResult(attempt)

    def test_plaintextClient(self) -> None:
        """A client without TLS at a listener with it gets no login."""
        attempt, client = self.begin(wrap=lambda factory: factory, tls=False)
        ends = join(self.server(), client)
        pump(self.clock, *ends)
        self.clock.advance(10)
        pump(self.clock, *ends)
        self.failureResultOf(attempt, LoginFailed)
        self.assertEqual(self.served.built, [])

    def test_oldClient(self) -> None:
        """A client that knows no more than TLS 1.2 is refused by TLS itself."""
        attempt, client = self.begin(
            lambda factory: TLSMemoryBIOFactory(
                AnyClientTLS(limited(SSL.TLS1_2_VERSION)), True, factory, self.clock
            )
        )
        ends = join(self.server(), client)
        pump(self.clock, *ends)
        error = self.failureResultOf(attempt, LoginFailed).value
        self.assertNotIn("channel binding", str(error))
        self.assertEqual(self.served.built, [])
        self.assertEqual(len(self.events), 1)
        self.assertNotIn("channel binding", self.lines()[0])

    def test_oldServer(self) -> None:
        """A server with TLS 1.2 alone, made by other means, takes no login: there is no binding."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        path = self.mktemp()
        Path(path).write_bytes(b"".join(certificate()))
        context.use_privatekey_file(path)
        context.use_certificate_file(path)
        relay = Relay()
        client = TLSMemoryBIOFactory(
            AnyClientTLS(limited(SSL.TLS1_2_VERSION)), True, given(relay), self.clock
        ).buildProtocol(PEER)
        ends = join(self.server(context), client)
        pump(self.clock, *ends)
        machine = handshake(binding=Binding.TLS_EXPORTER)
        relay.transport.write(encode_frame(machine.receive_hello(relay.passed[4:], bytes(32))))
        pump(self.clock, *ends)
        self.assertTrue(relay.passed.endswith(b"\0\0\0\x02\x04\x01"))
        self.assertIn("without channel binding", self.lines()[-1])
        attempt, mine = self.begin()
        ends = join(self.server(context), mine)
        pump(self.clock, *ends)
        error = self.failureResultOf(attempt, LoginFailed).value
        self.assertNotIn("channel binding", str(error))
        self.assertEqual(self.served.built, [])

    def test_pipelinedRecords(self) -> None:
        """What stands in a TLS record behind AUTH's ends the connection as well."""
        relay = Relay()
        client = overClientTLS(self.clock)(given(relay)).buildProtocol(PEER)
        there, here = join(self.server(), client)
        pump(self.clock, there, here)
        machine = handshake(binding=Binding.TLS_EXPORTER)
        auth = encode_frame(
            machine.receive_hello(relay.passed[4:], channel_binding(client.getHandle()) or b"")
        )
        relay.transport.write(auth)
        self.clock.advance(0)
        relay.transport.write(b"more")
        self.clock.advance(0)
        pump(self.clock, there, here)
        self.assertIn("more bytes behind AUTH", self.lines()[-1])
        self.assertEqual(self.served.built, [])

    def test_deadline(self) -> None:
        """The time for the login covers TLS's handshake."""
        end = End()
        end.attach(self.server())
        self.clock.advance(Limits().login_seconds)
        self.assertTrue(end.aborted)
        end.lose()
        attempt, client = self.begin()
        end = End().attach(client)
        self.clock.advance(10)
        self.failureResultOf(attempt, LoginFailed)
        self.assertTrue(end.aborted)
        end.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_junk(self) -> None:
        """Junk instead of TLS is a line, and the end."""
        for junk in (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 100):
            there, here = join(self.server(), Silent())
            here.write(junk)
            pump(self.clock, there, here)
            here.loseConnection()
            pump(self.clock, there, here)
            self.assertFalse(there.connected)
        self.assertEqual(len(self.events), 3)
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_notAdmitted(self) -> None:
        """Who is not admitted is closed before TLS begins."""
        ends = [End().attach(self.server()) for _ in range(9)]
        self.assertTrue(ends[8].aborted)
        self.assertEqual(ends[8].sent, b"")
        for end in ends:
            end.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stuckClose(self) -> None:
        """A peer that takes FAIL and then answers no close is cut off."""
        relay = Relay()
        client = overClientTLS(self.clock)(given(relay)).buildProtocol(PEER)
        there, here = join(self.server(), client)
        pump(self.clock, there, here)
        relay.transport.write(encode_frame(b"no AUTH"))
        here.stuck = False
        self.clock.advance(0)
        here.move()
        here.stuck = True
        pump(self.clock, there)
        self.assertFalse(there.aborted)
        self.clock.advance(Limits().close_seconds)
        self.assertTrue(there.aborted)


class ContextTests(SynchronousTestCase):
    """TLS contexts."""

    def write(self, content: bytes) -> str:
        """A file's path."""
        path = self.mktemp()
        Path(path).write_bytes(content)
        return path

    def test_file(self) -> None:
        """A private key and a certificate in one file, in either order."""
        key, made = certificate()
        for content in (key + made, made + key, b"# a comment\n" + made + b"\n" + key):
            path = self.write(content)
            for given in (path, Path(path)):
                self.assertIsInstance(context_from_file(given), SSL.Context)

    def test_brokenFiles(self) -> None:
        """Any other file is an error of one line, which names it and shows nothing of it."""
        key, made = certificate()
        other, _ = certificate()
        folder = self.mktemp()
        os.mkdir(folder)
        paths = [
            self.write(content)
            for content in (b"", b"x", key, made, other + made, key[:100] + made, b"\0" * 1000)
        ]
        for path in [*paths, folder, self.mktemp()]:
            with self.assertRaises(ConfigurationError) as caught:
                context_from_file(path)
            message = str(caught.exception)
            self.assertTrue(message.startswith(f"{path}: expected a PEM file"), message)
            self.assertEqual(len(message.splitlines()), 1)
            self.assertNotIn(key.splitlines()[1].decode(), message)

    def test_encrypted(self) -> None:
        """A key with a passphrase is refused; nobody is asked for it."""
        key, made = certificate(b"passphrase")
        self.assertRaises(ConfigurationError, context_from_file, self.write(key + made))

    def test_automatic(self) -> None:
        """Each automatic context has a certificate of its own."""
        self.assertIsNot(automatic_context(), automatic_context())

    def test_creators(self) -> None:
        """They are what Twisted makes its TLS connections with."""
        server, client = ServerTLS(CONTEXT), ClientTLS()
        self.assertTrue(verifyObject(IOpenSSLServerConnectionCreator, server))
        self.assertTrue(verifyObject(IOpenSSLClientConnectionCreator, client))

    def test_bindings(self) -> None:
        """Both ends of a session have the same value, and each session its own."""
        values = set()
        for _ in range(2):
            server, client = SSL.Connection(CONTEXT, None), SSL.Connection(client_context(), None)
            server.set_accept_state()
            client.set_connect_state()
            self.assertRaises(SSL.Error, client.do_handshake)
            for one, two in ((client, server), (server, client), (client, server)):
                two.bio_write(one.bio_read(65536))
                try:
                    two.do_handshake()
                except SSL.WantReadError:
                    pass
            value = channel_binding(server)
            assert value is not None
            self.assertEqual(value, channel_binding(client))
            self.assertEqual(len(value), 32)
            values.add(value)
            self.assertFalse(more_waits(server))
            client.send(b"xy")
            server.bio_write(client.bio_read(65536))
            self.assertTrue(more_waits(server))
            self.assertEqual(server.recv(2), b"xy")
            self.assertFalse(more_waits(server))
            server.bio_write(b"junk that is no record")
            self.assertTrue(more_waits(server))
        self.assertEqual(len(values), 2)
