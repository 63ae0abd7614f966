"""Tests of `sockproto.wire.handshake_messages`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire.handshake_messages import (
    MAX_MESSAGE,
    Auth,
    Hello,
    Ok,
    checked_id,
    lp8,
    lp32,
    reference,
)

NONCE = bytes(range(32))
TAG = bytes(range(32, 64))
SESSION_ID = bytes(range(16))
LONGEST = "x" * 64
UNFIT_IDS = (b"", b"x" * 65, b"a b", b"a/b", b"a\n", b"\n", b"a\0", b"\xe9", b"\xff", b"a:b", b"a*")
UNFIT_TEXTS = ("", "x" * 65, "a b", "a/b", "a\n", "a\0", "\u00e9", "\u0661", "\udcff", "a:b", "a*")

ids = st.from_regex(r"\A[A-Za-z0-9._@-]{1,64}\Z")
nonces = st.binary(min_size=32, max_size=32)
octets = st.integers(0, 255)


def auth_message(key_id: bytes, client_id: bytes) -> bytes:
    """An AUTH with these ids, fit or not."""
    return b"\x02\x01\x01\x01" + lp8(key_id) + lp8(client_id) + NONCE + TAG


def hello_message(service: bytes, server_id: bytes) -> bytes:
    """A HELLO with these ids, fit or not."""
    return b"\x01\x01\x01\x01\x01" + lp8(service) + lp8(server_id) + NONCE


class LengthTests(SynchronousTestCase):
    """Values behind their lengths."""

    def test_lengths(self) -> None:
        """A length is one byte, or four, big-endian; what one byte cannot say is refused."""
        self.assertEqual(lp8(b""), b"\0")
        self.assertEqual(lp8(b"abc"), b"\3abc")
        self.assertEqual(lp8(bytes(255)), b"\xff" + bytes(255))
        self.assertRaises(ValueError, lp8, bytes(256))
        self.assertEqual(lp32(b""), bytes(4))
        self.assertEqual(lp32(bytes(258)), b"\0\0\1\2" + bytes(258))

    def test_reference(self) -> None:
        """The reference of a login is 8 hex digits of the SHA-256 of HELLO."""
        self.assertEqual(reference(b"abc"), "ba7816bf")

    def test_longest(self) -> None:
        """No message that can be read is over the limit of a frame during the login."""
        hello = Hello(bytes(255), 1, LONGEST, LONGEST, NONCE).encode()
        auth = Auth(1, 1, LONGEST, LONGEST, NONCE).encode_untagged() + TAG
        ok = Ok(bytes(255), SESSION_ID).encode_untagged() + TAG
        self.assertEqual((len(hello), len(auth), len(ok)), (421, 198, 305))
        self.assertTrue(max(map(len, (hello, auth, ok))) <= MAX_MESSAGE)


class MessageTests(SynchronousTestCase):
    """The messages as bytes and as values."""

    @settings(deadline=None)
    @given(st.binary(max_size=255), octets, ids, ids, nonces)
    def test_hello(
        self, suites: bytes, cb_mask: int, service: str, server_id: str, nonce: bytes
    ) -> None:
        """A HELLO is read as it was written."""
        hello = Hello(suites, cb_mask, service, server_id, nonce)
        self.assertEqual(Hello.decode(hello.encode()), hello)

    @settings(deadline=None)
    @given(octets, octets, ids, ids, nonces, nonces)
    def test_auth(
        self, suite: int, cb: int, key_id: str, client_id: str, nonce: bytes, tag: bytes
    ) -> None:
        """An AUTH is read as it was written."""
        auth = Auth(suite, cb, key_id, client_id, nonce, tag)
        self.assertEqual(Auth.decode(auth.encode_untagged() + tag), auth)

    @settings(deadline=None)
    @given(st.binary(max_size=255), st.binary(min_size=16, max_size=16), nonces)
    def test_ok(self, grants: bytes, session_id: bytes, tag: bytes) -> None:
        """An OK is read as it was written."""
        ok = Ok(grants, session_id, tag)
        self.assertEqual(Ok.decode(ok.encode_untagged() + tag), ok)

    def test_exactLengths(self) -> None:
        """A message that is shorter or longer than its fields is none."""
        decoders: tuple[tuple[Callable[[bytes], object], bytes], ...] = (
            (Hello.decode, hello_message(b"agent", b"srv1")),
            (Auth.decode, auth_message(b"k1", b"cli1")),
            (Ok.decode, Ok(b"", SESSION_ID).encode_untagged() + TAG),
        )
        for decode, message in decoders:
            decode(message)
            for length in range(len(message)):
                self.assertRaises(RemoteProtocolError, decode, message[:length])
            for more in (b"\0", b"\1", bytes(32)):
                self.assertRaises(RemoteProtocolError, decode, message + more)

    def test_kinds(self) -> None:
        """Each message begins with its own bytes, version included, and is no other."""
        messages: dict[Any, bytes] = {
            Hello: hello_message(b"agent", b"srv1"),
            Auth: auth_message(b"k1", b"cli1"),
            Ok: Ok(b"", SESSION_ID).encode_untagged() + TAG,
        }
        for kind in messages:
            for other, message in messages.items():
                if other is not kind:
                    self.assertRaises(RemoteProtocolError, kind.decode, message)
        for kind in (Hello, Auth):
            wrong = messages[kind][:1] + b"\x02" + messages[kind][2:]
            self.assertRaises(RemoteProtocolError, kind.decode, wrong)

    @settings(deadline=None)
    @given(st.binary(max_size=300))
    def test_anything(self, message: bytes) -> None:
        """Whatever comes is read, and then is exactly what it says, or is refused as the peer's."""
        for start in (b"", b"\x01\x01", b"\x02\x01", b"\x03"):
            for kind in (Hello, Auth, Ok):
                try:
                    value = kind.decode(start + message)
                except RemoteProtocolError:
                    continue
                written = (
                    value.encode()
                    if isinstance(value, Hello)
                    else value.encode_untagged() + value.tag
                )
                self.assertEqual(written, start + message)


class IdTests(SynchronousTestCase):
    """Ids: `[A-Za-z0-9._@-]{1,64}`."""

    def test_fit(self) -> None:
        """Up to 64 of the characters are an id, in every place."""
        for text in ("a", "A.b_c@d-9", "-", LONGEST):
            self.assertEqual(checked_id(text, "key id"), text)
            raw = text.encode()
            self.assertEqual(Auth.decode(auth_message(raw, b"c")).key_id, text)
            self.assertEqual(Auth.decode(auth_message(b"k", raw)).client_id, text)
            self.assertEqual(Hello.decode(hello_message(raw, b"s")).service, text)
            self.assertEqual(Hello.decode(hello_message(b"s", raw)).server_id, text)

    def test_unfitOfThePeer(self) -> None:
        """None, 65 characters or another character is refused in every place."""
        for raw in UNFIT_IDS:
            self.assertRaises(RemoteProtocolError, Auth.decode, auth_message(raw, b"c"))
            self.assertRaises(RemoteProtocolError, Auth.decode, auth_message(b"k", raw))
            self.assertRaises(RemoteProtocolError, Hello.decode, hello_message(raw, b"s"))
            self.assertRaises(RemoteProtocolError, Hello.decode, hello_message(b"s", raw))

    def test_everyCharacter(self) -> None:
        """Of all bytes exactly the 66 named are taken."""
        fit = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-"
        taken = []
        for octet in range(256):
            try:
                Auth.decode(auth_message(bytes((octet,)), b"c"))
            except RemoteProtocolError:
                continue
            taken.append(octet)
        self.assertEqual(taken, sorted(fit))

    def test_unfitOfOurOwn(self) -> None:
        """An unfit id of this side's own is the caller's mistake, and the message says which."""
        for text in UNFIT_TEXTS:
            error = self.assertRaises(LocalProtocolError, checked_id, text, "server id")
            self.assertIn("server id", str(error))


class SecrecyTests(SynchronousTestCase):
    """What is shown of messages."""

    def test_noNonces(self) -> None:
        """A message's representation, which may get into a log, shows no nonce and no tag."""
        for shown in (
            repr(Hello(b"\1", 1, "agent", "srv1", b"N" * 32)),
            repr(Auth(1, 1, "k1", "cli1", b"N" * 32, b"T" * 32)),
            repr(Ok(b"", SESSION_ID, b"T" * 32)),
        ):
            self.assertNotIn("NNN", shown)
            self.assertNotIn("TTT", shown)
