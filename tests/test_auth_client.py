"""Tests for :mod:`sockproto.auth.client`."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError, NoProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockproto.auth.client import AuthenticatingEndpoint
from sockproto.auth.server import AuthenticatingFactory
from sockproto.credentials import Credentials
from sockproto.errors import KeyringError, LoginFailed
from sockproto.interfaces import IAuthenticatedTransport
from sockproto.key import Key
from sockproto.wire.frames import encode_frame
from sockproto.wire.handshake import Binding, ServerHandshake
from tests.memory import (
    KEY,
    KEYS,
    PEER,
    SECRET,
    SERVER,
    SERVICE,
    End,
    MemoryEndpoint,
    Silent,
    Spy,
    join,
    overClientTLS,
    pump,
)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Silent):
    """Hears that one direction has ended."""

    heard = ""

    def readConnectionLost(self) -> None:
        self.heard += "read "

    def writeConnectionLost(self) -> None:
        self.heard += "write "


class ClientCase(SynchronousTestCase):
    """A client in memory, and a machine for the server's side of the login."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.spy = Spy(Silent)
        self.endpoint = MemoryEndpoint()

    def credentials(self, **other: Any) -> Credentials:
        """What the client logs in with."""
        settings: dict[str, Any] = {
            "key": KEY,
            "service": SERVICE,
            "server_id": SERVER,
            "client_id": "tester",
        }
        return Credentials(**{**settings, **other})

    def begin(self, **other: Any) -> Deferred[Any]:
        """A client's attempt."""
        return AuthenticatingEndpoint(
            self.clock, self.endpoint, self.credentials(**other), 10
        ).connect(self.spy)

    def hello(self, service: str = SERVICE, server: str = SERVER, mask: int = 1) -> bytes:
        """A server's HELLO, as a frame."""
        self.server = ServerHandshake(service, server, Binding.NONE)
        at = 4
        assert self.server.hello[at] == 1
        return encode_frame(self.server.hello[:at] + bytes((mask,)) + self.server.hello[at + 1 :])

    def reply(self, end: End, secret: bytes | None = SECRET) -> bytes:
        """What the server says to the AUTH that a client has sent."""
        return encode_frame(self.server.receive_auth(end.sent[4:], b"", lambda _: secret)[0])

    def assertFailed(self, end: End, attempt: Deferred[Any], *words: str) -> None:
        """The attempt has failed with these words, and left nothing."""
        error = self.failureResultOf(attempt, LoginFailed).value
        for word in words:
            self.assertIn(word, str(error))
        self.assertTrue(end.aborted)
        end.lose()
        self.assertEqual(self.spy.built, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LoginTests(ClientCase):
    """Logins that succeed."""

    def test_interface(self) -> None:
        """It is a stream client endpoint."""
        endpoint = AuthenticatingEndpoint(self.clock, self.endpoint, self.credentials())
        self.assertTrue(verifyObject(IStreamClientEndpoint, endpoint))

    def test_bothWays(self) -> None:
        """A client and a server prove themselves to each other; then both protocols talk."""
        served = Spy()
        factory = AuthenticatingFactory(self.clock, served, KEYS, SERVICE, SERVER)
        attempt = self.begin()
        server, client = join(factory.buildProtocol(PEER), self.endpoint.build())
        self.assertNoResult(attempt)
        pump(self.clock, server, client)
        inner = self.successResultOf(attempt)
        self.assertIs(inner, self.spy.built[0])
        self.assertTrue(verifyObject(IAuthenticatedTransport, inner.transport))
        principal = inner.transport.principal
        self.assertEqual(principal.identity, SERVER)
        self.assertEqual(principal.login, served.built[0].transport.principal.login)
        inner.transport.write(b"ping")
        pump(self.clock, server, client)
        self.assertEqual(inner.received, b"ping")
        inner.transport.loseConnection()
        pump(self.clock, server, client)
        self.assertIsNotNone(inner.lost)
        self.assertIsNotNone(served.built[0].lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_splitAnyhow(self) -> None:
        """However the server's bytes arrive, the protocol gets what is behind OK, and only that."""
        for size in (1, 2, 3, 7, 50, 1000):
            attempt = self.begin()
            end = self.endpoint.connected()
            hello = self.hello()
            for start in range(0, len(hello), size):
                self.assertEqual(end.sent, b"")
                end.protocol.dataReceived(hello[start : start + size])
            rest = self.reply(end) + b"first words"
            for start in range(0, len(rest), size):
                end.protocol.dataReceived(rest[start : start + size])
            self.assertEqual(self.successResultOf(attempt).received, b"first words")

    def test_protocolFirst(self) -> None:
        """What is behind OK comes once the caller has the protocol."""
        attempt = self.begin()
        end = self.endpoint.connected()
        seen: list[bytes] = []
        attempt.addCallback(lambda protocol: seen.append(protocol.received))
        end.protocol.dataReceived(self.hello())
        end.protocol.dataReceived(self.reply(end) + b"words")
        self.assertEqual(seen, [b""])
        self.assertEqual(self.spy.built[0].received, b"words")

    def test_closedAtOnce(self) -> None:
        """A protocol that closes in its connectionMade hears nothing that was behind OK."""

        class Closing(Silent):
            def connectionMade(self) -> None:
                self.transport.loseConnection()

        self.spy.make = Closing
        attempt = self.begin()
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello())
        end.protocol.dataReceived(self.reply(end) + b"words")
        self.assertEqual(self.successResultOf(attempt).received, b"")

    def test_anyServer(self) -> None:
        """Without an expected server id any server that holds the secret will do."""
        attempt = self.begin(server_id=None)
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello(server="whoever"))
        end.protocol.dataReceived(self.reply(end))
        self.assertEqual(self.successResultOf(attempt).transport.principal.identity, "whoever")

    def test_master(self) -> None:
        """A master key becomes the key of the server expected."""
        key = Key("k1", master=bytes(32))
        attempt = self.begin(key=key)
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello())
        end.protocol.dataReceived(self.reply(end, key.secret_for(SERVER)))
        self.successResultOf(attempt)

    def test_halfClose(self) -> None:
        """A protocol that knows half-closed connections hears of them, once it is there."""
        self.spy.make = HalfCloseable
        self.begin()
        end = self.endpoint.connected()
        self.assertFalse(IHalfCloseableProtocol.providedBy(end.protocol))
        end.protocol.dataReceived(self.hello())
        end.protocol.dataReceived(self.reply(end))
        self.assertTrue(IHalfCloseableProtocol.providedBy(end.protocol))
        end.protocol.readConnectionLost()
        end.protocol.writeConnectionLost()
        self.assertEqual(self.spy.built[0].heard, "read write ")

    def test_noDeadlineAfter(self) -> None:
        """The deadline is the login's alone."""
        self.begin()
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello())
        end.protocol.dataReceived(self.reply(end))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RefusalTests(ClientCase):
    """Servers that are not believed."""

    def test_wrongHello(self) -> None:
        """What is not the server wanted gets no AUTH, and the error says what it was."""
        right = self.hello()
        for hello, words in (
            (self.hello(service="other"), "the service there is 'other', not 'echo'"),
            (self.hello(server="web2"), "the server there is 'web2', not 'web1'"),
            (self.hello(mask=2), "the server wants TLS"),
            (self.hello(mask=0), "the server wants TLS"),
            (encode_frame(b""), "HELLO"),
            (encode_frame(right[4:-1]), "HELLO is too short"),
            (encode_frame(right[4:] + b"x"), "HELLO is too long"),
            (encode_frame(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HELLO"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "over the limit of 1024"),
            (b"HTTP/1.1 400 Bad Request\r\n", "over the limit of 1024"),
        ):
            attempt = self.begin()
            end = self.endpoint.connected()
            end.protocol.dataReceived(hello)
            self.assertEqual(end.sent, b"")
            self.assertFailed(end, attempt, words)

    def test_mutatedOk(self) -> None:
        """An OK of which any bit is wrong is believed nothing."""
        self.begin()
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello())
        size = len(self.reply(end)) - 4
        self.spy.built.clear()
        for position in range(size):
            for bit in range(8):
                attempt = self.begin()
                end = self.endpoint.connected()
                end.protocol.dataReceived(self.hello())
                ok = bytearray(self.reply(end)[4:])
                ok[position] ^= 1 << bit
                end.protocol.dataReceived(encode_frame(bytes(ok)) + b"words")
                self.failureResultOf(attempt, LoginFailed)
                self.assertTrue(end.aborted)
        self.assertEqual(self.spy.built, [])

    def test_wrongTag(self) -> None:
        """A server without the secret is found out, though it says OK."""
        attempt = self.begin()
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello())
        ok = bytearray(self.reply(end))
        ok[-1] ^= 1
        end.protocol.dataReceived(bytes(ok))
        self.assertFailed(end, attempt, "did not prove", f"(ref {self.server.ref})")

    def test_refused(self) -> None:
        """FAIL is an error with the ref by which the server's log has the reason."""
        attempt = self.begin()
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello())
        end.protocol.dataReceived(self.reply(end, None) + b"words")
        self.assertFailed(end, attempt, f"the server refused the login (ref {self.server.ref})")

    def test_okBeforeAuth(self) -> None:
        """An answer that came with HELLO is no answer."""
        attempt = self.begin()
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello() + encode_frame(b"\x03\0" + bytes(48)))
        self.assertFailed(end, attempt, "did not prove")

    def test_earlyEnd(self) -> None:
        """The connection's end is the attempt's, at either stage."""
        for said in (b"", self.hello()[:20], self.hello()):
            attempt = self.begin()
            end = self.endpoint.connected()
            end.protocol.dataReceived(said)
            end.lose()
            self.failureResultOf(attempt, LoginFailed)
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.spy.built, [])

    def test_deadline(self) -> None:
        """A server that trickles is given up when the time is over, at either stage."""
        for whole in (False, True):
            attempt = self.begin()
            end = self.endpoint.connected()
            hello = self.hello()
            if whole:
                end.protocol.dataReceived(hello)
                hello = self.reply(end)
            for byte in hello[:10]:
                self.assertNoResult(attempt)
                end.protocol.dataReceived(bytes((byte,)))
                self.clock.advance(1)
            self.assertFailed(end, attempt, "no login within 10 s", "(ref" if whole else "")

    def test_notTLS(self) -> None:
        """A client that was to use TLS says nothing on a connection that is none."""
        attempt = self.begin(tls=True)
        end = self.endpoint.connected()
        self.assertFailed(end, attempt, "not TLS")
        self.assertEqual(end.sent, b"")

    def test_noServerForMaster(self) -> None:
        """A master key without a server is the caller's error, and ends the attempt."""
        attempt = self.begin(key=Key("m", master=bytes(32)), server_id=None)
        end = self.endpoint.connected()
        self.failureResultOf(attempt, KeyringError)
        self.assertTrue(end.aborted)
        end.lose()

    def test_notConnected(self) -> None:
        """Where there is no connection the endpoint's own error comes through."""
        attempt = self.begin()
        self.endpoint.attempt.errback(ConnectionRefusedError())
        self.failureResultOf(attempt, ConnectionRefusedError)

    def test_programsErrors(self) -> None:
        """A factory that raises or builds none, or a protocol that raises, ends it all."""

        class Raising(Silent):
            def connectionMade(self) -> None:
                raise ZeroDivisionError

        for make, error in (
            (lambda: None, NoProtocol),
            (lambda: 1 // 0, ZeroDivisionError),
            (Raising, ZeroDivisionError),
        ):
            self.spy.make = make
            attempt = self.begin()
            end = self.endpoint.connected()
            end.protocol.dataReceived(self.hello())
            end.protocol.dataReceived(self.reply(end) + b"words")
            self.failureResultOf(attempt, error)
            self.assertTrue(end.aborted)
            end.protocol.dataReceived(b"more")
            end.lose()
        self.assertEqual(self.spy.built[-1].received, b"")
        self.assertIsNotNone(self.spy.built[-1].lost)


class CancelTests(ClientCase):
    """Attempts that are given up."""

    def cancel(self, attempt: Deferred[Any]) -> Failure:
        """Cancel an attempt, which leaves nothing."""
        attempt.cancel()
        failure = self.failureResultOf(attempt)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.spy.built, [])
        return failure

    def test_connecting(self) -> None:
        """While it connects the endpoint below is cancelled."""
        attempt = self.begin()
        self.assertTrue(self.cancel(attempt).check(CancelledError))
        self.assertTrue(self.endpoint.cancelled)

    def test_loggingIn(self) -> None:
        """During the login the connection is cut, at either stage, and nothing is built later."""
        for said in (b"", self.hello()[:9], self.hello()):
            attempt = self.begin()
            end = self.endpoint.connected()
            end.protocol.dataReceived(said)
            self.assertTrue(self.cancel(attempt).check(ConnectingCancelledError))
            self.assertTrue(end.aborted)
            end.protocol.dataReceived(self.hello())
            end.lose()

    def test_wrapped(self) -> None:
        """So it is when others have put their factories around the login's, or TLS."""
        for wrap in (
            overClientTLS(self.clock),
            lambda factory: WrappingFactory(WrappingFactory(factory)),
        ):
            self.endpoint = MemoryEndpoint(wrap)
            attempt = self.begin()
            end = self.endpoint.connected()
            self.assertTrue(self.cancel(attempt).check(ConnectingCancelledError))
            self.assertTrue(end.disconnecting)
            end.lose()

    def test_between(self) -> None:
        """An attempt given up before its protocol is connected ends that when it is."""
        attempt = self.begin()
        protocol = self.endpoint.build()
        self.cancel(attempt)
        end = End().attach(protocol)
        self.assertTrue(end.aborted)
        end.lose()

    def test_inConnectionMade(self) -> None:
        """The protocol itself may be what gives the attempt up."""
        attempts: list[Deferred[Any]] = []

        class Cancelling(Silent):
            def connectionMade(self) -> None:
                attempts[0].cancel()

        self.spy.make = Cancelling
        attempts.append(self.begin())
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello())
        end.protocol.dataReceived(self.reply(end) + b"words")
        self.failureResultOf(attempts[0], ConnectingCancelledError)
        self.assertTrue(end.aborted)
        self.assertEqual(self.spy.built[0].received, b"")

    def test_afterwards(self) -> None:
        """After the login to cancel changes nothing."""
        attempt = self.begin()
        end = self.endpoint.connected()
        end.protocol.dataReceived(self.hello())
        end.protocol.dataReceived(self.reply(end))
        attempt.cancel()
        self.assertFalse(end.disconnecting)


class SecretTests(ClientCase):
    """What errors show."""

    def test_noSecrets(self) -> None:
        """Neither the credentials nor an error shows the secret."""
        credentials = self.credentials(key=evolve(KEY, secret=b"sixteen letters!"))
        self.assertNotIn("sixteen", repr(credentials))
