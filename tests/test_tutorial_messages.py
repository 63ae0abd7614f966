"""Tests of the tutorial dialects of messages, and of the login by HMAC-MD5."""

import hmac
import random
import struct
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sockproto.limits import Limits
from sockproto.services.open import OpenFactory
from sockproto.services.tutorial.counted import CountedText
from sockproto.services.tutorial.login import UpperHmacFactory
from sockproto.services.tutorial.messages import (
    MessageInt32Factory,
    MessageReadyFactory,
    UpperInt32Factory,
)
from sockproto.services.tutorial.reading import Exactly, Piecewise, Word
from sockproto.services.tutorial.settings import TutorialSettings
from tests.tutorials import LIMITS, Connection, DialectCase, bytewise

SETTINGS = TutorialSettings(secret="linhaifeng bang bang bang")
CHALLENGE = bytes(range(32))
#: HMAC-MD5 of the challenge under the secret, as OpenSSL says.
PROOF = bytes.fromhex("073377114443732921e7133c6b32ec30")


def packed(text: str, *, characters: bool = False) -> bytes:
    """A message as clients of the int32 dialects send it."""
    data = text.encode()
    return struct.pack("i", len(text) if characters else len(data)) + data


def randomly(data: bytes, seed: int) -> list[bytes]:
    """Cut bytes into pieces."""
    source = random.Random(seed)
    cuts = sorted(source.sample(range(1, len(data)), min(5, len(data) - 1)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def ways(data: bytes) -> Iterable[list[bytes]]:
    """All at once, byte by byte, and in between."""
    yield [data]
    yield bytewise(data)
    for seed in range(5):
        yield randomly(data, seed)


class UpperInt32Tests(DialectCase):
    """Tests of tutorial-upper-int32."""

    def client(self) -> Connection:
        """A client."""
        return self.connect(UpperInt32Factory(self.clock, LIMITS))

    def answer(self, pieces: list[bytes]) -> bytes:
        """What comes back, once there was a silence."""
        client = self.client().send(*pieces)
        self.clock.pump([0.05] * 8)
        self.assertTrue(client.isOpen)
        return client.received()

    def test_transcript(self) -> None:
        """Messages come back in upper case, without a header."""
        data = packed("hello") + packed("") + packed("Big-Endian No 1\n")
        for pieces in ways(data):
            self.assertEqual(self.answer(pieces), b"HELLOBIG-ENDIAN NO 1\n")

    def test_atOnce(self) -> None:
        """ASCII is answered at once."""
        self.assertEqual(self.client().send(packed("abc")).received(), b"ABC")

    def test_characters(self) -> None:
        """A length may count characters; then the message is complete with the last of them."""
        text = "héllo 你好 wörld 😀"
        for pieces in ways(packed(text, characters=True)):
            client = self.client().send(*pieces)
            self.assertEqual(client.received(), text.encode().upper())

    def test_charactersInARow(self) -> None:
        """So may the lengths of messages that follow each other."""
        data = packed("你好吗", characters=True) + packed("abc") + packed("é你", characters=True)
        for pieces in ways(data):
            self.assertEqual(self.answer(pieces), "你好吗ABCé你".encode())

    def test_bytes(self) -> None:
        """A length that counts bytes is held to after a silence."""
        client = self.client().send(packed("你好 a"))
        self.assertEqual(client.received(), b"")
        self.clock.advance(0.049)
        self.assertEqual(client.received(), b"")
        self.clock.advance(0.002)
        self.assertEqual(client.received(), "你好 A".encode())

    def test_bytesInARow(self) -> None:
        """Messages of such a client may follow each other without a pause."""
        data = packed("你好 a") + packed("x" * 300) + packed("ü" * 90) + packed("你") + packed("z")
        for pieces in ways(data):
            self.assertEqual(
                self.answer(pieces), ("你好 A" + "X" * 300 + "ü" * 90 + "你Z").encode()
            )

    def test_bytesTogether(self) -> None:
        """Where the next header could count as characters, what is behind it tells."""
        for length in (1, 5, 65, 300, 0x4141):
            text = "x" * length
            data = packed("café") + packed(text) + packed("ÿ") + packed("z")
            self.assertEqual(self.answer([data]), ("CAFé" + text.upper() + "ÿZ").encode())
            data = packed("café", characters=True) + packed("éa", characters=True) + packed(text)
            self.assertEqual(self.answer([data]), ("CAFééA" + text.upper()).encode())

    def test_manyInARow(self) -> None:
        """It takes no silence between them."""
        client = self.client().send(packed("你好") * 1000 + packed("end"))
        self.assertEqual(client.received(), "你好".encode() * 1000 + b"END")

    def test_gbk(self) -> None:
        """What is not UTF-8 has its bytes, or all that came before the silence."""
        text = "你好吗".encode("gbk")
        for length in (6, 3):
            client = self.client().send(struct.pack("i", length) + text)
            self.clock.advance(0.05)
            self.assertEqual(client.received(), text.upper())
            self.assertEqual(client.send(packed("a")).received(), b"A")

    def test_limit(self) -> None:
        """A length over the limit, or under nothing, ends the connection at the header."""
        for length in (LIMITS.frame + 1, 2**31 - 1, -1, -(2**31)):
            self.events.clear()
            client = self.client().send(struct.pack("i", length))
            self.assertBroken(client, f"a length of {length}")
        client = self.client().send(struct.pack("i", LIMITS.frame))
        self.assertTrue(client.isOpen)

    def test_atLimit(self) -> None:
        """The longest message of the widest characters comes whole."""
        limits = Limits(frame=65_542)
        text = "😀" * limits.frame
        client = self.connect(UpperInt32Factory(self.clock, limits))
        data = packed(text, characters=True)
        client.send(*[data[at : at + 60_000] for at in range(0, len(data), 60_000)])
        self.assertEqual(client.received(), text.encode())

    def test_halfClosed(self) -> None:
        """A client that has said all gets the answer without a silence."""
        client = self.client().send(packed("é a"))
        client.protocol.readConnectionLost()
        self.assertEqual(client.received(), "é A".encode())
        self.assertTrue(client.closed)

    def test_doesNotRead(self) -> None:
        """While a client does not take its answers nothing more is read, or answered."""
        client = self.client()
        client.protocol.pauseProducing()
        self.assertTrue(client.paused)
        client.protocol.dataReceived(packed("late"))
        self.assertEqual(client.received(), b"")
        client.protocol.resumeProducing()
        self.assertEqual(client.received(), b"LATE")

    @given(st.lists(st.binary(min_size=1, max_size=64), max_size=8), st.booleans())
    def test_fuzz(self, pieces: list[bytes], short: bool) -> None:
        """Nothing that is sent makes a connection raise, or hold more than messages may have."""
        clock = Clock()
        client = Connection(UpperInt32Factory(clock, LIMITS), clock)
        for piece in pieces:
            if client.isOpen:
                client.send(struct.pack("i", len(piece) // 2) + piece if short else piece)
                clock.advance(0.03)
        client.lose()
        self.assertEqual(clock.getDelayedCalls(), [])


class CountedTextTests(SynchronousTestCase):
    """Tests of lengths that count bytes or characters."""

    @given(st.text(min_size=1, max_size=40), st.booleans(), st.text(max_size=10), st.randoms())
    def test_text(self, text: str, characters: bool, more: str, source: Any) -> None:
        """Text comes as it was sent, whichever its length counts, however it arrives."""
        text = text.replace("\0", "x")
        reader = CountedText(len(text) if characters else len(text.encode()), lambda _: True)
        # With what follows only where the text itself can tell that it is over.
        follows = more.encode() if characters or text.isascii() else b""
        data = text.encode() + follows
        rest = b""
        while data and not reader.done:
            cut = source.randint(1, len(data))
            rest, data = reader.feed(data[:cut]), data[cut:]
        if not reader.done:
            rest = reader.silent()
        self.assertEqual((reader.value, rest + data), (text.encode(), follows))

    @given(st.integers(1, 50), st.lists(st.binary(min_size=1, max_size=30), max_size=30))
    def test_loseNothing(self, length: int, pieces: list[bytes]) -> None:
        """Every byte is in the message or in the rest, and a message is never too short."""
        reader = CountedText(length, lambda data: data[:1] == b"h")
        fed = rest = b""
        for piece in pieces:
            rest = reader.feed(piece)
            fed += piece
            if reader.done:
                break
        else:
            rest = reader.silent()
        if reader.done:
            self.assertEqual(reader.value + rest, fed)
            self.assertTrue(length <= len(reader.value) <= 5 * length + 16)
        else:
            self.assertLess(len(fed), length)

    def test_patience(self) -> None:
        """A silence is waited for only where it decides."""
        for data, patience in ((b"ab", None), ("é".encode(), None), ("éé".encode()[:3], 0.05)):
            reader = CountedText(3, lambda _: True)
            reader.feed(data)
            self.assertEqual(reader.patience, patience)


class ReaderTests(SynchronousTestCase):
    """Tests of the other readers."""

    @given(st.integers(1, 20), st.binary(min_size=20, max_size=30))
    def test_pieces(self, count: int, data: bytes) -> None:
        """Each takes what is its own, however it comes, and gives back the rest."""
        got: list[bytes] = []
        for make in (
            lambda: Exactly(count),
            lambda: Word(data[:count]),
            lambda: Piecewise(count, got.append),
        ):
            for pieces in ways(data):
                reader: Any = make()
                rest = b""
                while not reader.done:
                    rest = reader.feed(pieces.pop(0))
                self.assertEqual(rest + b"".join(pieces), data[count:])
                if not isinstance(reader, Piecewise):
                    self.assertEqual(reader.value, data[:count])
                else:
                    self.assertEqual(b"".join(got), data[:count])
                got.clear()


class MessageInt32Tests(DialectCase):
    """Tests of tutorial-message-int32."""

    def test_transcript(self) -> None:
        """Messages are logged, and have no answer."""
        data = packed("hello") + packed("你好", characters=True) + packed("")
        for pieces in ways(data):
            self.events.clear()
            client = self.connect(MessageInt32Factory(self.clock, LIMITS)).send(*pieces)
            self.assertEqual(client.received(), b"")
            self.assertEqual(self.messages(), ["hello", "你好", ""])

    def test_log(self) -> None:
        """What was sent cannot move a terminal's cursor, begin a line, or fill the log."""
        client = self.connect(MessageInt32Factory(self.clock, LIMITS))
        client.send(packed("\x1b[2J\r\n{secret}" + "x" * 300))
        self.assertEqual(self.messages(), ["\\x1b[2J\\r\\n{secret}" + "x" * 237 + "..."])
        client.send(packed("x") * 9_000)
        self.assertEqual(len(self.messages()), 60)
        self.clock.advance(60)
        client.send(packed("y"))
        self.assertIn("8941 messages", self.events[-1]["more"])


class MessageReadyTests(DialectCase):
    """Tests of tutorial-message-ready."""

    def client(self) -> Connection:
        """A client."""
        return self.connect(MessageReadyFactory(self.clock, LIMITS))

    def test_transcript(self) -> None:
        """A length is answered by ready, the message by nothing, and so on."""
        client = self.client()
        for text in ("hello", "a" * 1000, "x"):
            self.assertEqual(client.send(b"%d" % len(text)).received(), b"ready")
            client.send(*bytewise(text.encode()))
            self.assertEqual(client.received(), b"")
        self.assertEqual([len(message) for message in self.messages()], [5, 259, 1])

    def test_next(self) -> None:
        """The next length may come with the message."""
        client = self.client()
        self.assertEqual(client.send(b"5").received(), b"ready")
        self.assertEqual(client.send(b"hello3").received(), b"ready")
        self.assertEqual(client.send("你好吗7".encode()).received(), b"ready")
        self.assertEqual(client.send("你好 6".encode()).received(), b"")
        self.clock.advance(0.05)
        self.assertEqual(client.received(), b"ready")
        self.assertEqual(self.messages(), ["hello", "你好吗", "你好 "])

    def test_length(self) -> None:
        """What is no length ends the connection."""
        for data in (
            b"abc",
            b"-1",
            b"1.5",
            b"0x10",
            b"\xef\xbc\x95",
            b"",
            b" ",
            b"9" * 11,
            b"131073",
        ):
            if data:
                self.events.clear()
                client = self.client().send(data)
                self.assertBroken(client, "length")
                self.assertEqual(client.received(), b"")
                self.clock.advance(61)

    def test_newline(self) -> None:
        """White space around the digits does not matter."""
        self.assertEqual(self.client().send(b" 5\r\n").received(), b"ready")

    def test_nothing(self) -> None:
        """A message of no length is there as soon as it is announced."""
        client = self.client()
        self.assertEqual(client.send(b"0").received(), b"ready")
        self.assertEqual(client.send(b"1").received(), b"ready")

    @given(st.lists(st.binary(min_size=1, max_size=20), max_size=8))
    def test_fuzz(self, pieces: list[bytes]) -> None:
        """Nothing that is sent makes a connection raise."""
        clock = Clock()
        client = Connection(MessageReadyFactory(clock, LIMITS), clock)
        for piece in pieces:
            if client.isOpen:
                client.send(b"%d" % len(piece))
            if client.isOpen:
                client.send(piece)
                clock.advance(0.03)
        client.lose()
        self.assertEqual(clock.getDelayedCalls(), [])


class UpperHmacTests(DialectCase):
    """Tests of tutorial-upper-hmac."""

    def client(self, **other: Any) -> Connection:
        """A client that was sent the known challenge."""
        factory = UpperHmacFactory(
            self.clock, SETTINGS, LIMITS, random=lambda count: CHALLENGE[:count], **other
        )
        client = self.connect(factory)
        self.assertEqual(client.received(), CHALLENGE)
        return client

    def test_knownAnswer(self) -> None:
        """A tutorial's own code proves that it knows the secret."""
        proof = hmac.new(b"linhaifeng bang bang bang", CHALLENGE, digestmod="md5").digest()
        self.assertEqual(proof, PROOF)

    def test_transcript(self) -> None:
        """A right answer leads to tutorial-upper-int32; nothing is said of it."""
        for pieces in ways(PROOF + packed("hello")):
            self.assertEqual(self.client().send(*pieces).received(), b"HELLO")

    def test_goesOn(self) -> None:
        """One login is for all that follows."""
        client = self.client().send(PROOF)
        for text in ("a", "b"):
            self.assertEqual(client.send(packed(text)).received(), text.upper().encode())

    def test_wrong(self) -> None:
        """A wrong answer closes, whatever follows it."""
        for wrong in (bytes(16), PROOF[:-1] + b"\0", b"\0" + PROOF[1:]):
            self.events.clear()
            client = self.client().send(wrong + packed("hello"))
            self.assertEqual(client.received(), b"")
            self.assertBroken(client, "secret")
            self.clock.advance(61)

    def test_random(self) -> None:
        """The challenges differ."""
        factory = UpperHmacFactory(self.clock, SETTINGS, LIMITS)
        challenges = {self.connect(factory).received() for _ in range(5)}
        self.assertEqual([len(one) for one in challenges], [32] * 5)

    def test_deadline(self) -> None:
        """The login has to be done with in its time, even if something comes."""
        client = self.client()
        for byte in bytewise(PROOF[:9]):
            client.send(byte)
            self.clock.advance(1)
        self.assertTrue(client.isOpen)
        self.clock.advance(1)
        self.assertBroken(client, "too long")

    def test_noDeadlineAfterwards(self) -> None:
        """After the login there is as much time as anywhere."""
        client = self.client().send(PROOF)
        self.clock.advance(20)
        self.assertTrue(client.isOpen)

    def test_warns(self) -> None:
        """Each start of it is a warning in the log."""
        factory = UpperHmacFactory(self.clock, SETTINGS, LIMITS)
        for count in (1, 2):
            factory.doStart()
            factory.doStop()
            warnings = [e for e in self.events if "HMAC-MD5" in e.get("log_format", "")]
            self.assertEqual([e["log_level"].name for e in warnings], ["warn"] * count)

    def test_noSecret(self) -> None:
        """There is none without a secret, and the secret is in no text of it."""
        self.assertRaises(ValueError, UpperHmacFactory, self.clock, TutorialSettings())
        self.assertNotIn("bang", repr(SETTINGS))

    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    def test_fuzz(self, pieces: list[bytes]) -> None:
        """Nothing that is sent makes a connection raise, or answer."""
        clock = Clock()
        client = Connection(UpperHmacFactory(clock, SETTINGS, LIMITS), clock)
        client.received()
        for piece in pieces:
            if client.isOpen:
                client.send(piece)
        self.assertEqual(client.received(), b"")
        client.lose()
        self.assertEqual(clock.getDelayedCalls(), [])


class EveryDialect(DialectCase):
    """What holds for all of them."""

    def test_cut(self) -> None:
        """Each may be cut off anywhere, with nothing left behind."""
        factories: list[OpenFactory] = [
            UpperInt32Factory(self.clock, LIMITS),
            MessageInt32Factory(self.clock, LIMITS),
            UpperHmacFactory(self.clock, SETTINGS, LIMITS, random=lambda n: CHALLENGE[:n]),
        ]
        data = packed("你好") + packed("x")
        for factory in factories:
            start = PROOF if isinstance(factory, UpperHmacFactory) else b""
            for end in range(len(start + data)):
                self.connect(factory).send(*bytewise((start + data)[:end])).lose()
        self.connections.clear()
        self.assertEqual(self.clock.getDelayedCalls(), [])
