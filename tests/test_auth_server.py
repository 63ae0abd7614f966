"""Tests for :mod:`sockproto.auth.server` and :mod:`~sockproto.auth.server_login`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockproto.auth.principal import Principal
from sockproto.auth.server import AuthenticatingFactory
from sockproto.connections import ConnectionCap
from sockproto.errors import KeyringError, LocalProtocolError
from sockproto.interfaces import IAuthenticatedTransport, IDroppable
from sockproto.key import Key
from sockproto.keyring import Keyring
from sockproto.limits import Limits
from sockproto.wire.frames import encode_frame
from sockproto.wire.handshake import Binding
from sockproto.wire.handshake_messages import FAIL, Auth, Ok
from tests.memory import (
    KEY,
    PEER,
    SECRET,
    SERVER,
    SERVICE,
    Echo,
    End,
    Spy,
    authFor,
    handshake,
)

NOW = datetime(2026, 7, 1, tzinfo=UTC)
FAILED = encode_frame(FAIL)


@implementer(IDroppable)
class Droppable(Echo):
    """Hears why it is ended."""

    dropped: tuple[str, str] | None = None

    def drop(self, code: str, message: str) -> None:
        self.dropped = (code, message)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Echo):
    """Hears that one direction has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def readConnectionLost(self) -> None:
        self.heard.append("read")

    def writeConnectionLost(self) -> None:
        self.heard.append("write")


class Closing(Echo):
    """Closes before anything was said."""

    def connectionMade(self) -> None:
        self.transport.loseConnection()


class Broken:
    """A source of keys that cannot be asked."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get(self, key_id: str) -> Key | None:
        raise self.error


class LoginCase(SynchronousTestCase):
    """A server in memory, whose log events are kept."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.now = NOW
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.spy = Spy()
        self.serve()

    def serve(self, keys: Any = None, **limits: Any) -> AuthenticatingFactory:
        """Have another server, with these keys and limits."""
        self.limits = Limits(**limits)
        self.factory = AuthenticatingFactory(
            self.clock,
            self.spy,
            Keyring([KEY]) if keys is None else keys,
            SERVICE,
            SERVER,
            self.limits,
            now=lambda: self.now,
        )
        return self.factory

    def connect(self, peer: Any = None) -> End:
        """A new connection, from loopback unless told: whence everything is admitted."""
        peer = IPv4Address("TCP", "127.0.0.1", 40000) if peer is None else peer
        return End(peer).attach(self.factory.buildProtocol(peer))

    def login(self, peer: Any = None) -> End:
        """A connection that has logged in."""
        end = self.connect(peer)
        end.protocol.dataReceived(authFor(end.sent))
        return end

    def answer(self, data: bytes, end: End | None = None) -> bytes:
        """What a connection says to these bytes, after its HELLO."""
        end = end or self.connect()
        before = len(end.sent)
        end.protocol.dataReceived(data)
        return end.sent[before:]

    def end(self, *ends: End) -> None:
        """End connections, and see that nothing is left of them."""
        for end in ends:
            end.lose(ConnectionLost())
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def lines(self) -> list[str]:
        """The log so far."""
        return [str(formatEvent(event)) for event in self.events]


class LoginTests(LoginCase):
    """Logins that succeed."""

    def test_login(self) -> None:
        """Both sides prove themselves; then the inner protocol has the connection."""
        end = self.connect()
        client = handshake()
        answer = self.answer(authFor(end.sent, client), end)
        login = client.receive_reply(answer[4:])
        (inner,) = self.spy.built
        self.assertEqual(self.answer(b"hello", end), b"hello")
        principal = inner.transport.principal
        self.assertEqual(
            principal,
            Principal("ops", ("monitoring",), login, "127.0.0.1", "127.0.0.1:40000"),
        )
        self.assertEqual(principal.login.client_id, "tester")
        self.assertEqual(len(login.session_id), 16)
        self.assertTrue(verifyObject(IAuthenticatedTransport, inner.transport))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.end(end)
        self.assertTrue(inner.lost.check(ConnectionLost))

    def test_byteByByte(self) -> None:
        """A login that trickles in within its time is one like any other."""
        end = self.connect()
        for byte in authFor(end.sent):
            end.protocol.dataReceived(bytes((byte,)))
        self.assertEqual(len(self.spy.built), 1)

    def test_deadlineEndsWithLogin(self) -> None:
        """Who has logged in has no deadline any more."""
        end = self.login()
        self.clock.advance(3600)
        self.assertFalse(end.disconnecting)

    def test_oneLine(self) -> None:
        """A login is one line, with what an administrator looks for."""
        end = self.connect()
        client = handshake()
        self.answer(authFor(end.sent, client), end)
        self.assertEqual(
            self.lines(),
            [
                f"login to echo as ops with key k1 from 127.0.0.1:40000 (client tester, ref"
                f" {client.ref})"
            ],
        )

    def test_halfClose(self) -> None:
        """An inner protocol that knows half-closed connections hears of them."""
        self.spy.make = HalfCloseable
        end = self.connect()
        self.assertFalse(IHalfCloseableProtocol.providedBy(end.protocol))
        end.protocol.dataReceived(authFor(end.sent))
        self.assertTrue(IHalfCloseableProtocol.providedBy(end.protocol))
        end.protocol.readConnectionLost()
        end.protocol.writeConnectionLost()
        self.assertEqual(self.spy.built[0].heard, ["read", "write"])

    def test_noHalfClose(self) -> None:
        """One that does not is not said to."""
        self.assertFalse(IHalfCloseableProtocol.providedBy(self.login().protocol))

    def test_closesAtOnce(self) -> None:
        """An inner protocol may close in its connectionMade."""
        self.spy.make = Closing
        end = self.login()
        self.assertTrue(end.disconnecting)
        self.end(end)
        self.assertIsNotNone(self.spy.built[0].lost)

    def test_noProtocol(self) -> None:
        """A factory that wants no protocol has the connection closed, stuck peers' too."""
        self.spy.make = lambda: None
        end = self.login()
        self.assertEqual((end.disconnecting, end.aborted), (True, False))
        self.clock.advance(self.limits.close_seconds)
        self.assertTrue(end.aborted)
        self.assertEqual(self.answer(b"more", end), b"")
        self.end(end)

    def test_brokenFactory(self) -> None:
        """A factory that raises is logged whole; the peer is told nothing, and closed."""
        self.spy.make = lambda: 1 // 0
        end = self.login()
        self.assertTrue(end.disconnecting)
        self.assertEqual(self.answer(b"more", end), b"")
        self.end(end)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_unfitNames(self) -> None:
        """A service or a server id that cannot be sent is refused at the start, not at a login."""
        for service, serverId in (("a b", "x"), ("x", ""), ("x" * 65, "x"), ("x", "\u00e9")):
            with self.assertRaises(LocalProtocolError):
                AuthenticatingFactory(self.clock, self.spy, {}, service, serverId)

    def test_startsAndStops(self) -> None:
        """The wrapped factory hears of starts and stops."""
        heard: list[str] = []
        self.spy.doStart = lambda: heard.append("start")  # type: ignore[method-assign]
        self.spy.doStop = lambda: heard.append("stop")  # type: ignore[method-assign]
        self.factory.doStart()
        self.factory.doStop()
        self.assertEqual(heard, ["start", "stop"])


class RefusalTests(LoginCase):
    """Logins that come to nothing."""

    def assertRefused(self, end: End, sent: bytes) -> None:
        """Nothing was built, the answer was this, and the connection ends."""
        self.assertEqual(end.sent[-len(sent) or len(end.sent) :], sent)
        self.assertTrue(end.disconnecting)

    def test_truncated(self) -> None:
        """Whatever part of AUTH comes, nothing is built; the deadline closes without a word."""
        ends = []
        for length in range(len(authFor(self.connect().sent))):
            end = self.connect()
            hello = end.sent
            end.protocol.dataReceived(authFor(hello)[:length])
            self.assertFalse(end.disconnecting)
            ends.append((end, hello))
        self.clock.advance(self.limits.login_seconds)
        for end, hello in ends:
            self.assertEqual(end.sent, hello)
            self.assertTrue(end.aborted)
            end.protocol.dataReceived(authFor(hello))
        self.assertEqual(self.spy.built, [])

    def test_shorterAndLonger(self) -> None:
        """A frame with part of AUTH, or with more than it, gets FAIL."""
        whole = authFor(self.connect().sent)[4:]
        for length in range(len(whole)):
            end = self.connect()
            auth = authFor(end.sent)[4:]
            self.assertEqual(self.answer(encode_frame(auth[:length]), end), FAILED)
            self.assertTrue(end.disconnecting)
        for more in (1, 2, 32, 256, 1024 - len(whole)):
            end = self.connect()
            auth = authFor(end.sent)[4:]
            self.assertEqual(self.answer(encode_frame(auth + bytes(more)), end), FAILED)
            self.assertTrue(end.disconnecting)
        self.assertEqual(self.spy.built, [])

    def test_mutated(self) -> None:
        """AUTH with any byte of it another gets FAIL, and never lets anybody in."""
        for position in range(len(authFor(self.connect().sent)) - 4):
            for change in range(1, 256):
                end = self.connect()
                auth = bytearray(authFor(end.sent)[4:])
                auth[position] ^= change
                self.assertEqual(self.answer(encode_frame(bytes(auth)), end), FAILED)
                end.lose()
        self.assertEqual(self.spy.built, [])

    def test_mutatedHeader(self) -> None:
        """A right AUTH behind any other length lets nobody in."""
        for length in (0, 1, 2, 50, 105, 200, 1024, 1025, 65536, 2**31, 2**32 - 1):
            end = self.connect()
            hello = end.sent
            auth = authFor(hello)[4:]
            self.assertNotEqual(length, len(auth))
            end.protocol.dataReceived(length.to_bytes(4, "big") + auth)
            self.assertIn(end.sent[len(hello) :], (b"", FAILED))
            self.clock.advance(self.limits.login_seconds)
            self.assertTrue(end.disconnecting)
        self.assertEqual(self.spy.built, [])

    def test_pipelined(self) -> None:
        """Any byte behind AUTH ends the connection; what comes later is not delivered either."""
        frame = encode_frame(b"frame")
        for behind in (b"\0", *(frame[:count] for count in range(1, len(frame) + 1)), frame * 9):
            end = self.connect()
            hello = end.sent
            end.protocol.dataReceived(authFor(hello) + behind)
            end.protocol.dataReceived(frame)
            self.assertEqual(end.sent, hello)
            self.assertTrue(end.aborted)
        self.assertEqual(self.spy.built, [])

    def test_splitWithMore(self) -> None:
        """That holds as well where AUTH itself came in two parts."""
        end = self.connect()
        auth = authFor(end.sent)
        end.protocol.dataReceived(auth[:20])
        end.protocol.dataReceived(auth[20:] + b"more")
        self.assertTrue(end.aborted)
        self.assertEqual(self.spy.built, [])

    def test_oneAttempt(self) -> None:
        """After FAIL nothing is judged any more, however right."""
        end = self.connect()
        hello = end.sent
        self.assertEqual(self.answer(encode_frame(b"wrong"), end), FAILED)
        self.assertEqual(self.answer(authFor(hello), end), b"")
        self.assertEqual(self.spy.built, [])

    def test_allTheSame(self) -> None:
        """A wrong tag, and unknown, expired, early and revoked keys: the peer sees one thing."""
        day = timedelta(days=1)
        keys = {
            "wrong": Key("wrong", secret=bytes(32)),
            "late": Key("late", secret=SECRET, not_after=NOW - day),
            "early": Key("early", secret=SECRET, not_before=NOW + day),
            "gone": Key("gone", secret=SECRET, revoked=True),
        }
        self.serve(Keyring(keys.values()))
        reasons = {
            "wrong": "wrong tag",
            "none": "no such key",
            "late": "expired",
            "early": "not yet valid",
            "gone": "revoked",
        }
        for name, reason in reasons.items():
            end = self.connect()
            client = handshake(evolve(KEY, id=name))
            self.assertEqual(self.answer(authFor(end.sent, client), end), b"\0\0\0\x02\x04\x01")
            self.assertEqual((end.disconnecting, end.aborted), (True, False))
            self.assertEqual(
                self.lines()[-1],
                f"login to echo refused: {reason} (from 127.0.0.1:40000, key {name},"
                f" client tester, ref {client.ref})",
            )
            self.end(end)
        self.assertEqual(len(self.events), len(reasons))
        self.assertEqual(self.spy.built, [])

    def test_badChoices(self) -> None:
        """A suite or a binding that was not offered, or the server's own nonce, gets FAIL."""
        choice: dict[str, Any]
        for choice, reason in (
            ({"suite": 2}, "a suite that was not offered"),
            ({"cb": 2}, "a channel binding that was not offered"),
            ({"nonce": None}, "the server's own nonce came back"),
        ):
            end = self.connect()
            auth = Auth.decode(authFor(end.sent)[4:])
            if "nonce" in choice:
                choice = {"nonce": end.sent[-32:]}
            auth = evolve(auth, **choice)
            message = encode_frame(auth.encode_untagged() + auth.tag)
            self.assertEqual(self.answer(message, end), FAILED)
            self.assertIn(reason, self.lines()[-1])

    def test_lengths(self) -> None:
        """Up to 1024 bytes a frame gets FAIL; over that the header alone closes, without a word."""
        for length in (0, 1, 2, 1023, 1024):
            self.assertEqual(self.answer(encode_frame(bytes(length))), FAILED)
        for length in (1025, 2**16, 2**31, 2**32 - 1):
            header = length.to_bytes(4, "big")
            for pieces in ([header], [header[:1], header[1:2], header[2:3], header[3:]]):
                end = self.connect()
                hello = end.sent
                for piece in pieces:
                    end.protocol.dataReceived(piece)
                self.assertEqual(end.sent, hello)
                self.assertTrue(end.aborted)
                self.assertIn(f"{length} bytes is over the limit of 1024", self.lines()[-1])
                self.clock.advance(60)

    def test_nothingKept(self) -> None:
        """Of what a refused peer sent nothing is kept, however long its connection lasts."""
        for data in (b"\xff" * 65536, authFor(self.connect().sent) + b"x" * 65536):
            end = self.connect()
            end.protocol.dataReceived(data)
            end.protocol.dataReceived(data)
            self.assertEqual(end.protocol._frames.pending, 0)

    def test_trickle(self) -> None:
        """A byte a second wins no time: the deadline is counted from the start."""
        end = self.connect()
        for byte in authFor(end.sent)[:9]:
            self.clock.advance(1)
            end.protocol.dataReceived(bytes((byte,)))
            self.assertFalse(end.disconnecting)
        self.clock.advance(1)
        self.assertTrue(end.aborted)
        self.assertIn("no login in time", self.lines()[-1])
        self.end(end)

    def test_stuckClose(self) -> None:
        """A peer that does not take FAIL and the close is cut off in the end."""
        end = self.connect()
        self.answer(encode_frame(b""), end)
        self.clock.advance(self.limits.close_seconds - 0.1)
        self.assertFalse(end.aborted)
        self.clock.advance(0.1)
        self.assertTrue(end.aborted)
        self.end(end)

    def test_earlyEnd(self) -> None:
        """A connection that ends before the login is a line, with its ref, and nothing else."""
        end = self.connect()
        client = handshake()
        end.protocol.dataReceived(authFor(end.sent, client)[:50])
        end.lose()
        self.assertEqual(
            self.lines(),
            [
                "login to echo refused: the connection ended before the login"
                f" (from 127.0.0.1:40000, key None, client None, ref {client.ref})"
            ],
        )
        self.end()

    def test_lostConnection(self) -> None:
        """Why it was lost is said in one line, whatever the words."""
        end = self.connect()
        end.lose(ConnectionLost("two\r\nlines {and} \x1b[31m" + "x" * 1000))
        (line,) = self.lines()
        self.assertIn("two\\r\\nlines {and} \\x1b[31m", line)
        self.assertTrue(line.isprintable())
        self.assertLess(len(line), 400)

    def test_unreadableKeys(self) -> None:
        """A keyring that cannot be read refuses, with its error in the one line."""
        self.serve(Broken(KeyringError("/etc/keys: expected mode 0600, found 0644")))
        end = self.connect()
        self.assertEqual(self.answer(authFor(end.sent), end), FAILED)
        (line,) = self.lines()
        self.assertIn("refused: /etc/keys: expected mode 0600, found 0644 (", line)
        self.end(end)

    def test_brokenKeys(self) -> None:
        """Keys that cannot be asked refuse as well; the error is logged whole, once."""
        self.serve(Broken(ZeroDivisionError()))
        end = self.connect()
        self.assertEqual(self.answer(authFor(end.sent), end), FAILED)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.events), 1)
        self.end(end)


class AdmissionTests(LoginCase):
    """Who may begin a login at all."""

    def test_refused(self) -> None:
        """Who has too many logins open hears nothing, and costs a line."""
        ends = [self.connect(PEER) for _ in range(self.limits.unauthenticated_per_source)]
        refused = self.connect(PEER)
        self.assertEqual(refused.sent, b"")
        self.assertTrue(refused.aborted)
        self.assertEqual(
            self.lines(),
            [
                "login to echo refused: 8 connections of 192.0.2.7 have not logged in"
                " (from 192.0.2.7:40000, key None, client None, ref None)"
            ],
        )
        self.assertEqual(self.answer(b"anything", refused), b"")
        ends.pop().lose()
        ends.append(self.connect(PEER))
        self.assertNotEqual(ends[-1].sent, b"")
        self.end(refused, *ends)

    def test_placeIsFreeAfterLogin(self) -> None:
        """A login gives its place back at once."""
        for _ in range(20):
            self.assertFalse(self.login(PEER).disconnecting)

    def test_penalty(self) -> None:
        """A stranger who fails again and again has to wait, by whatever way it fails."""
        for data in (encode_frame(b"x"), b"\xff" * 4, None, encode_frame(b"x")):
            end = self.connect(PEER)
            if data is None:
                self.clock.advance(self.limits.login_seconds)
            else:
                end.protocol.dataReceived(data)
            end.lose()
        self.assertIn("has to wait", (self.connect(PEER), self.lines()[-1])[1])

    def test_cap(self) -> None:
        """Over the cap nobody gets in; a connection that ends makes room, refused ones do not."""
        cap = ConnectionCap(Limits(connections=2), 10_000)
        self.factory.cap = cap
        first, second = self.login(), self.login()
        refused = self.connect()
        self.assertEqual((refused.sent, refused.aborted), (b"", True))
        self.assertIn("2 connections are open, which is the limit", self.lines()[-1])
        refused.lose()
        self.assertTrue(self.connect().aborted)
        first.lose()
        self.assertFalse(self.login().aborted)
        self.assertTrue(self.connect().aborted)
        second.lose()

    def test_capCountsTheRefused(self) -> None:
        """Who is not admitted to log in is counted until the connection is gone, once."""
        cap = self.factory.cap = ConnectionCap(Limits(connections=9), 10_000)
        ends = [self.connect(PEER) for _ in range(9)]
        self.assertTrue(ends[8].aborted)
        self.assertIsNotNone(cap.admit(None))
        ends[8].lose()
        self.assertIsNone(cap.admit(None))
        cap.release(None)
        self.end(*ends)
        self.assertEqual(cap._count, 0)

    def test_honestAmongIdle(self) -> None:
        """A thousand idle local connections keep an honest client from nothing."""
        idle = [self.connect() for _ in range(1000)]
        for peer in (PEER, None, UNIXAddress(None)):
            self.assertFalse(self.login(peer).disconnecting)
        self.assertEqual(len(self.spy.built), 3)
        del idle


class LogTests(LoginCase):
    """What the log has of logins, and what it never has."""

    def test_throttled(self) -> None:
        """A hundred thousand bad logins of one source are less than a hundred lines."""
        bad = encode_frame(b"x")
        for number in range(100_000):
            # As from one IPv6 customer, who has as many addresses as there are connections.
            peer = IPv6Address("TCP", f"2001:db8::{number & 0xFFFF:x}", 4)
            end = End(peer)
            end.attach(self.factory.buildProtocol(peer))
            end.protocol.dataReceived(bad)
            end.lose()
            self.clock.advance(0.001)
        self.assertGreater(len(self.events), 1)
        self.assertLess(len(self.events), 100)
        self.assertIn("more like this were not logged", self.lines()[20])

    def test_noSecrets(self) -> None:
        """No event of the log, nor what it refers to, shows a secret, a nonce or a tag."""
        secrets = [SECRET]
        for change in range(3):
            end = self.connect()
            secrets.append(end.sent[-32:])
            auth = bytearray(authFor(end.sent))
            auth[-1] ^= change
            answer = self.answer(bytes(auth) + b"more" * (change == 2), end)
            secrets += [bytes(auth[-32:]), bytes(auth[-64:-32])]
            if change == 0:
                secrets.append(Ok.decode(answer[4:]).tag)
                end.protocol.drop("revoked")
            self.factory.dropInvalid()
            end.lose()
        self.assertGreater(len(self.events), 3)
        text = "".join(
            f"{formatEvent(event)} {event!r} {[(str(v), repr(v)) for v in event.values()]}"
            for event in self.events
        )
        for secret in secrets:
            for shown in (repr(secret)[2:-1], secret.hex(), str(list(secret))):
                self.assertNotIn(shown, text)


class DropTests(LoginCase):
    """Sessions whose key is not valid any longer."""

    def setUp(self) -> None:
        super().setUp()
        self.spy.make = Droppable

    def dropped(self, *keys: Key) -> object:
        """What a session hears when the keyring comes to hold these keys."""
        self.factory.keys = Keyring([KEY])
        self.login()
        self.factory.keys = Keyring(keys)
        self.factory.dropInvalid()
        return self.spy.built[-1].dropped

    def test_reasons(self) -> None:
        """Revoked, removed, expired and replaced keys end their sessions, which hear why."""
        for keys, why in (
            ([], "removed"),
            ([evolve(KEY, revoked=True)], "revoked"),
            ([evolve(KEY, not_after=NOW - timedelta(seconds=1))], "expired"),
            ([evolve(KEY, secret=bytes(32))], "replaced"),
            ([evolve(KEY, identity="other")], "replaced"),
            ([evolve(KEY, groups=())], "replaced"),
        ):
            self.assertEqual(
                self.dropped(*keys), ("revoked", f"the key is not valid any longer: {why}")
            )
            self.assertIn(f"k1 from 127.0.0.1:40000 is ended: {why}", self.lines()[-1])

    def test_stay(self) -> None:
        """Who has the same key is left alone, also when it gets other dates or hosts."""
        later = NOW + timedelta(days=400)
        for key in (KEY, evolve(KEY, not_after=later), evolve(KEY, hosts=("web*",))):
            self.assertIsNone(self.dropped(key, Key("another", secret=SECRET)))

    def test_expiry(self) -> None:
        """A key that expires while it is used ends its session at the next look."""
        self.serve(Keyring([evolve(KEY, not_after=NOW)]))
        self.login()
        self.factory.dropInvalid()
        self.assertIsNone(self.spy.built[0].dropped)
        self.now += timedelta(seconds=1)
        self.factory.dropInvalid()
        self.assertIsNotNone(self.spy.built[0].dropped)

    def test_plainProtocol(self) -> None:
        """A protocol that cannot be told is cut off."""
        self.spy.make = Echo
        end = self.login()
        waiting = self.connect()
        self.factory.keys = Keyring()
        self.factory.dropInvalid()
        self.assertTrue(end.aborted)
        self.assertFalse(waiting.aborted)

    def test_oneFails(self) -> None:
        """One session that cannot be ended does not save the others."""

        class Stubborn(Droppable):
            def drop(self, code: str, message: str) -> None:
                super().drop(code, message)
                raise ZeroDivisionError

        self.spy.make = Stubborn
        self.login()
        self.login()
        self.factory.keys = Keyring()
        self.factory.dropInvalid()
        self.assertTrue(all(each.dropped for each in self.spy.built))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_unreadable(self) -> None:
        """While keys cannot be looked up sessions stay, and the log says so."""
        self.login()
        self.factory.keys = Broken(KeyringError("no"))
        self.factory.dropInvalid()
        self.assertIsNone(self.spy.built[0].dropped)
        self.assertEqual(len(self.flushLoggedErrors(KeyringError)), 1)

    def test_abortAll(self) -> None:
        """Every connection can be ended at once."""
        ends = [self.login(), self.connect()]
        self.factory.abortAll()
        self.assertTrue(all(end.aborted for end in ends))


class WrongBindingTests(LoginCase):
    """Logins bound to what this connection is not."""

    def test_tlsClaimed(self) -> None:
        """On a connection that is not TLS no login bound to TLS is taken."""
        end = self.connect()
        plain = handshake(binding=Binding.TLS_EXPORTER, service=SERVICE)
        hello = bytearray(end.sent[4:])
        hello[4] = 0x03
        auth = plain.receive_hello(bytes(hello), b"x" * 32)
        self.assertEqual(self.answer(encode_frame(auth), end), FAILED)


class PlainProtocol(Protocol):
    """Nothing but what Twisted gives."""


class ForeignTests(LoginCase):
    """Protocols that know nothing of the login."""

    def test_plain(self) -> None:
        """Any Twisted protocol can be served."""
        self.spy.make = PlainProtocol
        end = self.login()
        self.assertEqual(end.protocol.logPrefix(), "PlainProtocol")
        self.assertEqual(self.connect().protocol.logPrefix(), "ServerLogin")
