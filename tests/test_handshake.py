"""Tests of `sockproto.wire.handshake`: the login."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    multiple,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.key import derive_secret
from sockproto.wire import handshake
from sockproto.wire.handshake import (
    MIN_SECRET,
    Binding,
    ClientHandshake,
    Login,
    LoginRefused,
    Refusal,
    ServerHandshake,
)
from sockproto.wire.handshake_messages import FAIL, Auth, Hello, lp8, lp32

VECTORS = Path(__file__).resolve().parent / "vectors" / "handshake.json"
SECRET = bytes(range(32))
EXPORTER = bytes(range(0x60, 0x80))
CB_DATA = {Binding.NONE: b"", Binding.TLS_EXPORTER: EXPORTER}


def given_bytes(*pieces: bytes) -> Callable[[int], bytes]:
    """A source of random bytes that gives these."""
    left = list(pieces)

    def random(count: int) -> bytes:
        piece = left.pop(0)
        assert len(piece) == count
        return piece

    return random


def new_server(binding: Binding = Binding.NONE, **changes: Any) -> ServerHandshake:
    """A server to log in to."""
    return ServerHandshake(
        **{"service": "agent", "server_id": "srv1", "binding": binding, **changes}
    )


def new_client(binding: Binding = Binding.NONE, **changes: Any) -> ClientHandshake:
    """A client that logs in to `new_server`."""
    return ClientHandshake(
        **{
            "key_id": "k1",
            "secret": SECRET,
            "service": "agent",
            "server_id": "srv1",
            "client_id": "cli1",
            "binding": binding,
            **changes,
        }
    )


def only_k1(key_id: str) -> bytes | None:
    """The keyring of a server that has one key."""
    return SECRET if key_id == "k1" else None


def flipped(message: bytes) -> list[bytes]:
    """The message with each one of its bits changed."""
    whole = int.from_bytes(message, "big")
    return [(whole ^ (1 << bit)).to_bytes(len(message), "big") for bit in range(8 * len(message))]


def resized(message: bytes) -> list[bytes]:
    """Each beginning and each end of the message, and it with something around or in it."""
    return [
        *(message[:length] for length in range(len(message))),
        *(message[start:] for start in range(1, len(message))),
        *(message[:place] + b"\1" + message[place:] for place in range(len(message) + 1)),
        *(message + bytes(more) for more in (1, 16, 32, 255)),
        message + message,
    ]


class KnownAnswerTests(SynchronousTestCase):
    """The known answers of tests/vectors/handshake.json."""

    known: dict[str, Any] = json.loads(VECTORS.read_text())

    def octets(self, name: str, login: str | None = None) -> bytes:
        """A value of the file."""
        of = self.known if login is None else self.known["logins"][login]
        return bytes.fromhex(of[name])

    def shakeHands(self, name: str, binding: Binding) -> None:
        """Log in with the file's random bytes, and compare everything that is sent."""
        known, cb_data = self.known, self.octets("cb_data", name)
        server = ServerHandshake(
            known["service"],
            known["server_id"],
            binding,
            given_bytes(self.octets("server_nonce"), self.octets("session_id")),
        )
        client = ClientHandshake(
            known["key_id"],
            self.octets("secret"),
            known["service"],
            known["server_id"],
            known["client_id"],
            binding,
            given_bytes(self.octets("client_nonce")),
        )
        self.assertEqual(server.hello, self.octets("hello", name))
        auth = client.receive_hello(server.hello, cb_data)
        self.assertEqual(auth, self.octets("auth", name))
        answer, there = server.receive_auth(auth, cb_data, lambda _: self.octets("secret"))
        self.assertEqual(answer, self.octets("ok", name))
        here = client.receive_reply(answer)
        self.assertEqual(here, there)
        self.assertEqual(
            here,
            Login(
                key_id=known["key_id"],
                client_id=known["client_id"],
                service=known["service"],
                server_id=known["server_id"],
                session_id=self.octets("session_id"),
                ref=known["logins"][name]["ref"],
                binding=binding,
            ),
        )
        self.assertEqual((client.ref, server.ref), (here.ref, here.ref))

    def test_withoutBinding(self) -> None:
        """The messages of a login without channel binding are those of the file."""
        self.shakeHands("no_binding", Binding.NONE)

    def test_withBinding(self) -> None:
        """The messages of a login that is bound to TLS are those of the file."""
        self.shakeHands("tls_exporter", Binding.TLS_EXPORTER)

    def test_intermediateValues(self) -> None:
        """The computation goes through the file's PRK, T1 and T2, and they are the document's."""
        seen: list[bytes] = []
        real = handshake._hmac

        def watched(key: bytes, message: bytes) -> bytes:
            digest = real(key, message)
            seen.extend((key, message, digest))
            return digest

        self.patch(handshake, "_hmac", watched)
        for name, binding in (
            ("no_binding", Binding.NONE),
            ("tls_exporter", Binding.TLS_EXPORTER),
        ):
            del seen[:]
            self.shakeHands(name, binding)
            for value in ("prk", "t1", "t2", "tag_c", "tag_s"):
                self.assertIn(self.octets(value, name), seen, value)
            auth0 = self.octets("auth", name)[:-32]
            t1 = hashlib.sha256(
                b"sockproto-auth-v1\0"
                + lp32(self.octets("hello", name))
                + lp32(auth0)
                + lp32(self.octets("cb_data", name))
            ).digest()
            self.assertEqual(t1, self.octets("t1", name))
            ok0 = self.octets("ok", name)[:-32]
            t2 = hashlib.sha256(t1 + self.octets("tag_c", name) + lp32(ok0)).digest()
            self.assertEqual(t2, self.octets("t2", name))

    def test_derivation(self) -> None:
        """The secret of a host is derived from a master as in the file, and logs in there."""
        derivation = self.known["derivation"]
        master = bytes.fromhex(derivation["master"])
        key_id, server_id = derivation["key_id"], derivation["server_id"]
        secret = derive_secret(master, key_id, server_id)
        self.assertEqual(secret.hex(), derivation["secret"])
        prk = hmac.digest(b"sockproto-key-v1", master, "sha256")
        info = lp8(key_id.encode()) + lp8(server_id.encode())
        self.assertEqual(hmac.digest(prk, info + b"\1", "sha256"), secret)


class LoginTests(SynchronousTestCase):
    """Logins that come about, and those that do not."""

    def test_agree(self) -> None:
        """Both sides come to the same login, each time with new random bytes."""
        logins = []
        for binding in (Binding.NONE, Binding.TLS_EXPORTER) * 2:
            server, client = new_server(binding), new_client(binding)
            auth = client.receive_hello(server.hello, CB_DATA[binding])
            answer, there = server.receive_auth(auth, CB_DATA[binding], only_k1)
            self.assertEqual(client.receive_reply(answer), there)
            self.assertIsInstance(there, Login)
            logins += [server.hello, auth, answer]
        self.assertEqual(len(set(logins)), len(logins))

    def test_anyServerId(self) -> None:
        """A client that expects no particular server takes the one that holds the secret."""
        server, client = new_server(server_id="other"), new_client(server_id=None)
        answer, _ = server.receive_auth(client.receive_hello(server.hello, b""), b"", only_k1)
        self.assertEqual(client.receive_reply(answer).server_id, "other")

    def test_longestIds(self) -> None:
        """Ids of 64 characters log in."""
        longest = "x" * 64
        server = new_server(service=longest, server_id=longest)
        client = new_client(service=longest, server_id=longest, key_id=longest, client_id=longest)
        answer, outcome = server.receive_auth(
            client.receive_hello(server.hello, b""), b"", lambda _: SECRET
        )
        self.assertEqual(client.receive_reply(answer), outcome)

    def test_otherService(self) -> None:
        """A client sends nothing to another service than it wants, nor to another server."""
        others: tuple[dict[str, Any], ...] = ({"service": "echo"}, {"server_id": "srv2"})
        for changes in others:
            client = new_client()
            error = self.assertRaises(
                RemoteProtocolError, client.receive_hello, new_server(**changes).hello, b""
            )
            self.assertIn(next(iter(changes.values())), str(error))
            self.assertIsNotNone(client.ref)
            self.assertRaises(LocalProtocolError, client.receive_reply, FAIL)

    def test_downgrade(self) -> None:
        """A client on TLS refuses a HELLO without binding, and one that is not refuses it with."""
        for own, other in itertools.permutations(Binding):
            hello = new_server(other).hello
            client = new_client(own)
            self.assertRaises(RemoteProtocolError, client.receive_hello, hello, CB_DATA[own])

    def test_otherConnection(self) -> None:
        """A login that is relayed between two TLS sessions fails, though the secret is right."""
        server, client = new_server(Binding.TLS_EXPORTER), new_client(Binding.TLS_EXPORTER)
        auth = client.receive_hello(server.hello, bytes(32))
        answer, outcome = server.receive_auth(auth, bytes(31) + b"\1", only_k1)
        self.assertEqual(answer, FAIL)
        self.assertEqual(outcome, Refusal("wrong tag", "k1", "cli1"))

    def test_bindingToNothing(self) -> None:
        """Neither side computes a login with a binding value that is not the binding's."""
        for binding, wrong in (
            (Binding.NONE, EXPORTER),
            (Binding.TLS_EXPORTER, b""),
            (Binding.TLS_EXPORTER, bytes(31)),
        ):
            server = new_server(binding)
            self.assertRaises(
                LocalProtocolError, new_client(binding).receive_hello, server.hello, wrong
            )
            self.assertRaises(LocalProtocolError, server.receive_auth, b"", wrong, only_k1)

    def test_maskWithBoth(self) -> None:
        """A server offers one binding, and takes no other, though the client may be told so."""
        for binding in Binding:
            server = new_server(binding)
            hello = Hello.decode(server.hello)
            both = Hello(hello.suites, 3, hello.service, hello.server_id, hello.nonce).encode()
            for own in Binding:
                client = new_client(own)
                auth = client.receive_hello(both, CB_DATA[own])
                answer, _ = new_server(binding).receive_auth(auth, CB_DATA[binding], only_k1)
                self.assertEqual(answer, FAIL)

    def test_unknownSuites(self) -> None:
        """A client needs its suite to be offered; others beside it do not matter to it."""
        for suites, fits in ((b"", False), (b"\2", False), (b"\2\1", True), (bytes(255), False)):
            hello = Hello(suites, 1, "agent", "srv1", bytes(32)).encode()
            if fits:
                new_client().receive_hello(hello, b"")
            else:
                self.assertRaises(RemoteProtocolError, new_client().receive_hello, hello, b"")


class ReflectionTests(SynchronousTestCase):
    """What one side said, sent back to it."""

    def test_ownNonce(self) -> None:
        """A client's nonce that is the server's own is refused, with the right tag too."""
        server = new_server(random=given_bytes(b"n" * 32))
        client = new_client(random=given_bytes(b"n" * 32))
        auth = client.receive_hello(server.hello, b"")
        answer, outcome = server.receive_auth(auth, b"", only_k1)
        self.assertEqual(answer, FAIL)
        self.assertEqual(outcome, Refusal("the server's own nonce came back", "k1", "cli1"))

    def test_ownMessages(self) -> None:
        """A side's own messages, sent back to it, prove nothing."""
        server, client = new_server(), new_client()
        self.assertEqual(server.receive_auth(server.hello, b"", only_k1)[0], FAIL)
        auth = client.receive_hello(server.hello, b"")
        self.assertRaises(RemoteProtocolError, client.receive_reply, auth)
        self.assertRaises(RemoteProtocolError, new_client().receive_hello, auth, b"")

    def test_clientTagAsServerTag(self) -> None:
        """The tag of one side is none of the other's."""
        server, client = new_server(), new_client()
        auth = client.receive_hello(server.hello, b"")
        answer, _ = server.receive_auth(auth, b"", only_k1)
        self.assertRaises(RemoteProtocolError, client.receive_reply, answer[:-32] + auth[-32:])


class MutationTests(SynchronousTestCase):
    """Every message that is not exactly what the other side sent ends the login."""

    def test_hello(self) -> None:
        """No change of HELLO on its way leads to a login."""
        for binding in Binding:
            server = new_server(binding)
            for changed in flipped(server.hello) + resized(server.hello):
                client = new_client(binding, server_id=None)
                try:
                    auth = client.receive_hello(changed, CB_DATA[binding])
                except RemoteProtocolError:
                    continue
                twin = new_server(binding, random=given_bytes(server.hello[-32:], bytes(16)))
                self.assertEqual(twin.hello, server.hello)
                answer, outcome = twin.receive_auth(auth, CB_DATA[binding], only_k1)
                self.assertEqual(answer, FAIL)
                self.assertIsInstance(outcome, Refusal)
                self.assertRaises(LoginRefused, client.receive_reply, answer)

    def test_auth(self) -> None:
        """No change of AUTH on its way leads to a login, whatever keys the server has."""
        for binding in Binding:
            server, client = new_server(binding), new_client(binding)
            auth = client.receive_hello(server.hello, CB_DATA[binding])
            for changed in flipped(auth) + resized(auth):
                twin = new_server(binding, random=given_bytes(server.hello[-32:], bytes(16)))
                answer, outcome = twin.receive_auth(changed, CB_DATA[binding], lambda _: SECRET)
                self.assertEqual(answer, FAIL)
                self.assertIsInstance(outcome, Refusal)
            last = new_server(binding, random=given_bytes(server.hello[-32:], bytes(16)))
            self.assertIsInstance(last.receive_auth(auth, CB_DATA[binding], only_k1)[1], Login)

    def test_ok(self) -> None:
        """No change of OK on its way is believed by the client."""
        for binding in Binding:
            server = new_server(binding)

            def client_there(
                binding: Binding = binding, hello: bytes = server.hello
            ) -> tuple[ClientHandshake, bytes]:
                client = new_client(binding, random=given_bytes(b"c" * 32))
                return client, client.receive_hello(hello, CB_DATA[binding])

            answer, _ = server.receive_auth(client_there()[1], CB_DATA[binding], only_k1)
            for changed in flipped(answer) + resized(answer):
                self.assertRaises(RemoteProtocolError, client_there()[0].receive_reply, changed)
            client_there()[0].receive_reply(answer)

    def test_fail(self) -> None:
        """FAIL is exactly two bytes, and anything like it ends the login as well."""
        server = new_server()
        for message in [FAIL, *flipped(FAIL), *resized(FAIL)]:
            client = new_client()
            client.receive_hello(server.hello, b"")
            error = self.assertRaises(RemoteProtocolError, client.receive_reply, message)
            self.assertEqual(isinstance(error, LoginRefused), message == FAIL)


class OracleTests(SynchronousTestCase):
    """A refusal tells nothing: neither by its bytes nor by the work that it costs."""

    def refusals(self) -> dict[str, tuple[bytes, Refusal, list[tuple[int, int]]]]:
        """The refusals of every kind: answer, reason, and the HMACs computed, by their lengths."""
        work: list[tuple[int, int]] = []
        real = handshake._hmac

        def counted(key: bytes, message: bytes) -> bytes:
            work.append((len(key), len(message)))
            return real(key, message)

        self.patch(handshake, "_hmac", counted)
        kinds: dict[str, tuple[dict[str, Any], Callable[[str], bytes | None]]] = {
            "wrong tag": ({"secret": bytes(32)}, only_k1),
            "no such key": ({"key_id": "k2"}, only_k1),
            "may not log in": ({}, lambda _: None),
        }
        found = {}
        for name, (changes, secret_of) in kinds.items():
            server, client = new_server(), new_client(**changes)
            auth = client.receive_hello(server.hello, b"")
            del work[:]
            answer, outcome = server.receive_auth(auth, b"", secret_of)
            assert isinstance(outcome, Refusal)
            found[name] = (answer, outcome, list(work))
        for name, place, octet in (("suite", 2, 2), ("binding", 3, 2)):
            server, client = new_server(), new_client()
            changed = bytearray(client.receive_hello(server.hello, b""))
            changed[place] = octet
            del work[:]
            answer, outcome = server.receive_auth(bytes(changed), b"", only_k1)
            assert isinstance(outcome, Refusal)
            found[name] = (answer, outcome, list(work))
        return found

    def test_oneAnswer(self) -> None:
        """Every refusal is the same two bytes; only the server's own log knows the reason."""
        refusals = self.refusals()
        self.assertEqual({answer for answer, _, _ in refusals.values()}, {b"\x04\x01"})
        self.assertEqual(
            {name: outcome.reason for name, (_, outcome, _) in refusals.items()},
            {
                "wrong tag": "wrong tag",
                "no such key": "no such key",
                "may not log in": "no such key",
                "suite": "a suite that was not offered",
                "binding": "a channel binding that was not offered",
            },
        )

    def test_sameWork(self) -> None:
        """A key that is not there costs the computation that a wrong tag costs."""
        work = [steps for _, _, steps in self.refusals().values()]
        self.assertEqual(work, [work[0]] * len(work))
        self.assertEqual(len(work[0]), 3)

    def test_dummyNeverLogsIn(self) -> None:
        """Whoever knows what the computation of a missing key runs on does not get in by it."""
        server, client = new_server(), new_client(key_id="k2", secret=handshake._DUMMY_SECRET)
        answer, outcome = server.receive_auth(client.receive_hello(server.hello, b""), b"", only_k1)
        self.assertEqual(answer, FAIL)
        self.assertEqual(outcome, Refusal("no such key", "k2", "cli1"))

    def test_unreadable(self) -> None:
        """What is no AUTH at all gets the same answer, and no key is looked up for it."""
        for message in (b"", b"\2", FAIL, bytes(1024), new_server().hello):
            server = new_server()
            answer, outcome = server.receive_auth(message, b"", lambda _: self.fail("looked up"))
            self.assertEqual(answer, FAIL)
            assert isinstance(outcome, Refusal)
            self.assertEqual((outcome.key_id, outcome.client_id), (None, None))


class MisuseTests(SynchronousTestCase):
    """What the program that uses the machines gets wrong."""

    def test_oneAttempt(self) -> None:
        """A server judges one message, and a right one after a wrong one is none."""
        server, client = new_server(), new_client()
        auth = client.receive_hello(server.hello, b"")
        server.receive_auth(b"", b"", only_k1)
        self.assertRaises(LocalProtocolError, server.receive_auth, auth, b"", only_k1)

    def test_order(self) -> None:
        """A client takes HELLO first, and once, and then one answer."""
        self.assertRaises(LocalProtocolError, new_client().receive_reply, FAIL)
        server, client = new_server(), new_client()
        auth = client.receive_hello(server.hello, b"")
        self.assertRaises(LocalProtocolError, client.receive_hello, server.hello, b"")
        answer, _ = server.receive_auth(auth, b"", only_k1)
        self.assertRaises(RemoteProtocolError, client.receive_reply, b"")
        self.assertRaises(LocalProtocolError, client.receive_reply, answer)

    def test_afterRefusedHello(self) -> None:
        """A client that refused a HELLO takes no other."""
        client = new_client()
        self.assertRaises(RemoteProtocolError, client.receive_hello, b"", b"")
        self.assertRaises(LocalProtocolError, client.receive_hello, new_server().hello, b"")

    def test_ownValues(self) -> None:
        """Unfit ids and a short secret of one's own are refused before anything is sent."""
        for unfit in ("", "x" * 65, "a b", "a\n"):
            self.assertRaises(LocalProtocolError, new_server, service=unfit)
            self.assertRaises(LocalProtocolError, new_server, server_id=unfit)
            self.assertRaises(LocalProtocolError, new_client, key_id=unfit)
            self.assertRaises(LocalProtocolError, new_client, client_id=unfit)
        self.assertRaises(LocalProtocolError, new_client, secret=bytes(MIN_SECRET - 1))
        new_client(secret=bytes(MIN_SECRET))

    def test_nothingSecretShown(self) -> None:
        """Neither the machines nor what they return show a secret."""
        secret = b"SECRET" * 4
        client = new_client(secret=secret)
        login = client.receive_hello(new_server().hello, b"")
        self.assertNotIn("SECRET", repr(client) + repr(login))


@define
class ServerSession:
    """A server's session as the wire sees it."""

    machine: ServerHandshake
    service: str
    server_id: str
    cb_data: bytes
    received: bytes | None = None
    sent: bytes | None = None
    outcome: Login | Refusal | None = None


@define
class ClientSession:
    """A client's session as the wire sees it."""

    machine: ClientHandshake
    key_id: str
    service: str
    server_id: str | None
    cb_data: bytes
    hello: bytes | None = None
    sent: bytes | None = None
    reply: bytes | None = None
    login: Login | None = field(default=None)


class HostileWire(RuleBasedStateMachine):
    """Several logins over a wire that drops, reorders, replays, splices and alters messages.

    The servers share the keys; they differ by service, by name and by the connection that they are
    on. Whoever accepts must have a peer that has exactly the same transcript.
    """

    keys: ClassVar[dict[str, bytes]] = {"k1": SECRET, "k2": b"another secret of somebody's"}
    connections: ClassVar[tuple[bytes, ...]] = (b"", bytes(32), EXPORTER)
    accepted: ClassVar[list[int]] = [0, 0]

    servers = Bundle("servers")
    clients = Bundle("clients")
    waiting = Bundle("waiting")
    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.serverSessions: list[ServerSession] = []
        self.clientSessions: list[ClientSession] = []
        self._count = 0

    def random(self, count: int) -> bytes:
        """Bytes that never come twice."""
        self._count += 1
        return hashlib.sha256(self._count.to_bytes(8, "big")).digest()[:count]

    @rule(
        target=servers,
        service=st.sampled_from(["agent", "echo"]),
        server_id=st.sampled_from(["srv1", "srv2"]),
        cb_data=st.sampled_from(connections),
    )
    def listen(self, service: str, server_id: str, cb_data: bytes) -> ServerSession:
        binding = Binding.TLS_EXPORTER if cb_data else Binding.NONE
        session = ServerSession(
            ServerHandshake(service, server_id, binding, self.random), service, server_id, cb_data
        )
        self.serverSessions.append(session)
        return session

    @rule(
        target=clients,
        key_id=st.sampled_from(["k1", "k2"]),
        service=st.sampled_from(["agent", "echo"]),
        server_id=st.sampled_from(["srv1", "srv2", None]),
        cb_data=st.sampled_from(connections),
    )
    def connect(
        self, key_id: str, service: str, server_id: str | None, cb_data: bytes
    ) -> ClientSession:
        return self._connect(key_id, service, server_id, cb_data)

    def _connect(
        self, key_id: str, service: str, server_id: str | None, cb_data: bytes
    ) -> ClientSession:
        binding = Binding.TLS_EXPORTER if cb_data else Binding.NONE
        machine = ClientHandshake(
            key_id, self.keys[key_id], service, server_id, "cli", binding, self.random
        )
        session = ClientSession(machine, key_id, service, server_id, cb_data)
        self.clientSessions.append(session)
        return session

    @rule(target=messages, server=servers)
    def overhear(self, server: ServerSession) -> bytes:
        return server.machine.hello

    @rule(target=waiting, client=consumes(clients), server=servers)
    def deliver_hello(self, client: ClientSession, server: ServerSession) -> Any:
        return self._hello(client, server.machine.hello)

    @rule(target=waiting, client=consumes(clients), message=messages)
    def deliver_other_hello(self, client: ClientSession, message: bytes) -> Any:
        return self._hello(client, message)

    def _hello(self, client: ClientSession, message: bytes) -> Any:
        client.hello = message
        try:
            client.sent = client.machine.receive_hello(message, client.cb_data)
        except RemoteProtocolError:
            return multiple()
        hello = Hello.decode(message)
        assert hello.service == client.service
        assert client.server_id in (None, hello.server_id)
        assert hello.cb_mask & client.machine._binding.value
        return client

    @rule(target=messages, server=consumes(servers), client=waiting)
    def deliver_auth(self, server: ServerSession, client: ClientSession) -> bytes:
        assert client.sent is not None
        return self._auth(server, client.sent)

    @rule(target=messages, server=consumes(servers), message=messages)
    def deliver_other_auth(self, server: ServerSession, message: bytes) -> bytes:
        return self._auth(server, message)

    def _auth(self, server: ServerSession, message: bytes) -> bytes:
        server.received = message
        server.sent, server.outcome = server.machine.receive_auth(
            message, server.cb_data, self.keys.get
        )
        if isinstance(server.outcome, Login):
            self.accepted[0] += 1
            login = server.outcome
            peers = [
                client
                for client in self.clientSessions
                if client.hello == server.machine.hello
                and client.sent == message
                and client.cb_data == server.cb_data
                and client.key_id == login.key_id
                and client.service == server.service == login.service
                and client.server_id in (None, server.server_id)
            ]
            assert len(peers) == 1, "a server accepted somebody who did not speak to it"
            twins = [
                other
                for other in self.serverSessions
                if other is not server
                and isinstance(other.outcome, Login)
                and other.received == message
            ]
            assert not twins, "two servers accepted the same message"
        else:
            assert server.sent == FAIL
        return server.sent

    @rule(client=consumes(waiting), message=messages)
    def deliver_reply(self, client: ClientSession, message: bytes) -> None:
        self._reply(client, message)

    def _reply(self, client: ClientSession, message: bytes) -> None:
        client.reply = message
        try:
            client.login = client.machine.receive_reply(message)
        except RemoteProtocolError:
            return
        self.accepted[1] += 1
        peers = [
            server
            for server in self.serverSessions
            if server.machine.hello == client.hello
            and server.received == client.sent
            and server.sent == message
            and server.cb_data == client.cb_data
            and server.outcome == client.login
        ]
        assert len(peers) == 1, "a client accepted a server that did not accept it"
        assert peers[0].service == client.service

    @rule(server=consumes(servers), target=messages, key_id=st.sampled_from(["k1", "k2"]))
    def honest(self, server: ServerSession, key_id: str) -> Any:
        """A login that nobody interferes with comes about; its messages are overheard."""
        client = self._connect(key_id, server.service, server.server_id, server.cb_data)
        assert self._hello(client, server.machine.hello) is client
        assert client.sent is not None
        self._reply(client, self._auth(server, client.sent))
        assert client.login is not None
        assert client.reply is not None
        return multiple(server.machine.hello, client.sent, client.reply)

    @rule(target=messages, client=waiting)
    def tap(self, client: ClientSession) -> bytes:
        assert client.sent is not None
        return client.sent

    @rule(target=messages, message=messages, bit=st.integers(0, 8 * 420))
    def alter(self, message: bytes, bit: int) -> bytes:
        altered = bytearray(message)
        altered[bit // 8 % len(altered)] ^= 1 << bit % 8
        return bytes(altered)

    @rule(
        target=messages,
        first=messages,
        second=messages,
        cut=st.integers(-64, 64),
        other_cut=st.integers(-64, 64),
    )
    def splice(self, first: bytes, second: bytes, cut: int, other_cut: int) -> bytes:
        return first[:cut] + second[other_cut:] or b"\0"

    @rule(target=messages, first=messages, second=messages)
    def swap_nonces(self, first: bytes, second: bytes) -> bytes:
        """An AUTH with the tag, or the nonce, of another one or of a HELLO."""
        try:
            auth = Auth.decode(first)
        except RemoteProtocolError:
            return first[:-32] + second[-32:]
        return (
            Auth(
                auth.suite, auth.cb, auth.key_id, auth.client_id, second[-32:].rjust(32)
            ).encode_untagged()
            + auth.tag
        )


class HostileWireTests(SynchronousTestCase):
    """`HostileWire`, run."""

    def test_noAcceptanceWithoutAPeer(self) -> None:
        """No side accepts without a peer that has exactly its transcript and the secret."""
        HostileWire.accepted[:] = [0, 0]
        run_state_machine_as_test(
            HostileWire,
            settings=settings(
                max_examples=200,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
        self.assertTrue(min(HostileWire.accepted) > 50, HostileWire.accepted)
