"""Tests of `sockproto.wire.messages`."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import RemoteProtocolError
from sockproto.wire.messages import (
    DATA_OVERHEAD,
    MAX_DATA,
    MAX_REASON,
    FrameType,
    Stream,
    decode_bytes,
    decode_credit,
    decode_goaway,
    decode_json,
    decode_reason,
    encode_bytes,
    encode_json,
    encode_reason,
    pack,
    pack_credit,
    pack_goaway,
    pack_json,
    pack_stream,
    unpack_header,
)
from sockproto.wire.settings import MIN_FRAME

plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def nested(depth: int, key: str = "message") -> bytes:
    """A JSON object with lists in lists."""
    return b'{"%s":%s%s}' % (key.encode(), b"[" * depth, b"]" * depth)


class FrameTests(SynchronousTestCase):
    """Frames as bytes, written out."""

    def test_bytes(self) -> None:
        """Each frame is its length, its type, its channel and its body, big-endian."""
        for frame, octets in (
            (pack(FrameType.PING, 0, b"12345678"), "0000000d 0b 00000000 3132333435363738"),
            (pack(FrameType.CLOSE, 0x01020304), "00000005 0a 01020304"),
            (pack_json(FrameType.ACCEPT, 1, {}), "00000007 03 00000001 7b7d"),
            (pack_stream(FrameType.END, 1, Stream.ERR), "00000006 06 00000001 02"),
            (pack_stream(FrameType.DATA, 1, Stream.IN, 5), "0000000b 05 00000001 00"),
            (pack_credit(1, Stream.OUT, 262144), "0000000a 08 00000001 01 00040000"),
        ):
            self.assertEqual(frame.hex(), octets.replace(" ", ""))
        self.assertEqual(
            pack_goaway(7, "shutdown", "bye"),
            b'\0\0\0\x2c\x0d\0\0\0\0\0\0\0\7{"code":"shutdown","message":"bye"}',
        )

    def test_types(self) -> None:
        """The numbers of the types are those of the document, without a gap."""
        names = "SETTINGS OPEN ACCEPT REJECT DATA END STOP CREDIT CONTROL CLOSE PING PONG GOAWAY"
        self.assertEqual(" ".join(kind.name for kind in FrameType), names)
        self.assertEqual([kind.value for kind in FrameType], list(range(1, 14)))

    def test_header(self) -> None:
        """A payload begins with five bytes, and a shorter one is refused."""
        self.assertEqual(unpack_header(b"\x05\0\0\1\0rest"), (5, 256))
        self.assertEqual(unpack_header(b"\xff" * 5), (255, 2**32 - 1))
        for length in range(5):
            self.assertRaises(RemoteProtocolError, unpack_header, bytes(length))

    def test_credit(self) -> None:
        """A CREDIT body has exactly five bytes."""
        self.assertEqual(decode_credit(b"\1\0\4\0\0"), (1, 262144))
        for length in (0, 1, 4, 6):
            self.assertRaises(RemoteProtocolError, decode_credit, bytes(length))

    def test_dataOverhead(self) -> None:
        """What a DATA frame has beside its data is counted right."""
        header = pack_stream(FrameType.DATA, 1, 1, MAX_DATA)
        self.assertEqual(len(header) - 4, DATA_OVERHEAD)
        self.assertEqual(int.from_bytes(header[:4], "big"), DATA_OVERHEAD + MAX_DATA)

    def test_goaway(self) -> None:
        """GOAWAY is read as it was written; without a channel, or with another body, it is none."""
        self.assertEqual(
            decode_goaway(pack_goaway(3, "flood", "too much")[9:]), (3, "flood", "too much")
        )
        for body in (b"", b"\0\0\0", bytes(4), bytes(4) + b"[]", bytes(4) + b"{"):
            self.assertRaises(RemoteProtocolError, decode_goaway, body)


class JsonTests(SynchronousTestCase):
    """JSON objects in bodies."""

    @settings(deadline=None)
    @given(st.dictionaries(st.text(), plain_json))
    def test_roundTrip(self, value: dict[str, Any]) -> None:
        """An object is read as it was written, in ASCII without blanks."""
        body = encode_json(value)
        self.assertTrue(body.isascii())
        self.assertEqual(decode_json(body), value)

    def test_none(self) -> None:
        """What is no JSON object in UTF-8 is refused as the peer's fault."""
        for body in (
            b"",
            b" ",
            b"null",
            b"[]",
            b"1",
            b'"a"',
            b"{",
            b"{}{}",
            b"{} x",
            b"{'a':1}",
            b"{a:1}",
            b'{"a":1,}',
            b'{"a":NaN}',
            b'{"a":Infinity}',
            b'{"a":-Infinity}',
            b'{"a":01}',
            b'{"a":"\n"}',
            b'{"a":"\\x"}',
            b'{"a":"\xff"}',
            b'{"a":"\xed\xa0\x80"}',  # a surrogate in UTF-8
            b"\xef\xbb\xbf{}",  # a byte order mark
            '{"a":1}'.encode("utf-16"),
            b"\0{}",
            b"{}\0",
        ):
            self.assertRaises(RemoteProtocolError, decode_json, body)

    def test_hugeNumbers(self) -> None:
        """A number with more digits than can be read in good time is refused."""
        self.assertEqual(decode_json(b'{"a":%s}' % (b"9" * 400)), {"a": 10**400 - 1})
        self.assertRaises(RemoteProtocolError, decode_json, b'{"a":%s}' % (b"9" * 100_000))

    def test_deep(self) -> None:
        """An object nested too deep is refused, as deep as a frame can have it."""
        for depth in (10_000, 60_000):
            self.assertRaises(RemoteProtocolError, decode_json, nested(depth))
            self.assertRaises(RemoteProtocolError, decode_json, b'{"a":' * depth)

    def test_duplicates(self) -> None:
        """Of a name that comes twice the last counts."""
        self.assertEqual(decode_json(b'{"a":1,"a":2}'), {"a": 2})

    def test_notJson(self) -> None:
        """What JSON cannot say is never sent."""
        for value in (float("nan"), float("inf")):
            self.assertRaises(ValueError, encode_json, {"a": value})
        self.assertRaises(TypeError, encode_json, {"a": b"bytes"})

    @settings(deadline=None)
    @given(st.binary() | st.text().map(str.encode))
    def test_anything(self, body: bytes) -> None:
        """Whatever comes is an object or refused as the peer's."""
        for whole in (body, b'{"a":' + body + b"}"):
            try:
                self.assertIsInstance(decode_json(whole), dict)
            except RemoteProtocolError:
                pass


class ReasonTests(SynchronousTestCase):
    """The code and the message of an error."""

    def test_roundTrip(self) -> None:
        """They are read as they were written."""
        reason = decode_json(encode_json(encode_reason("not-found", "no such thing: \u00e9")))
        self.assertEqual(decode_reason(reason), ("not-found", "no such thing: \u00e9"))

    def test_long(self) -> None:
        """A long message is cut, so that in JSON it fits into every frame that may be announced."""
        for letter in ("a", "\u00e9", "\0", "\U0001f600"):
            reason = encode_reason("internal", letter * 10_000)
            self.assertEqual(reason["message"], letter * MAX_REASON)
            self.assertTrue(len(pack_json(FrameType.REJECT, 1, reason)) - 4 <= MIN_FRAME)

    def test_unfit(self) -> None:
        """What is no code is ``internal``, what is no message is empty."""
        self.assertEqual(decode_reason({}), ("internal", ""))
        codes: tuple[Any, ...] = (
            None,
            1,
            True,
            [],
            {},
            ["lost"],
            "",
            "Lost",
            "a b",
            "a\n",
            "\x1b[2J",
            "x" * 33,
        )
        for code in codes:
            self.assertEqual(decode_reason({"code": code, "message": "m"}), ("internal", "m"))
        messages: tuple[Any, ...] = (None, 1, True, [], {"a": 1})
        for message in messages:
            self.assertEqual(decode_reason({"code": "lost", "message": message}), ("lost", ""))

    def test_surrogate(self) -> None:
        """A lone surrogate, which could not be printed, is spelt out."""
        code, message = decode_reason(decode_json(b'{"code":"lost","message":"a\\udcffb"}'))
        self.assertEqual((code, message), ("lost", "a\\udcffb"))
        message.encode()

    def test_deepButReadable(self) -> None:
        """A message nested as deep as can just be read is no message, and nothing else happens."""
        read = []
        for depth in range(sys.getrecursionlimit() + 10):
            for decode, body in (
                (decode_json, nested(depth)),
                (decode_goaway, bytes(4) + nested(depth)),
            ):
                try:
                    value = decode(body)
                except RemoteProtocolError:
                    continue
                read.append(value)
                if isinstance(value, dict):
                    self.assertEqual(decode_reason(value), ("internal", ""))
        self.assertTrue(read)


class ByteStringTests(SynchronousTestCase):
    """Byte strings in JSON."""

    @settings(deadline=None)
    @given(st.binary() | st.text().map(str.encode))
    def test_roundTrip(self, value: bytes) -> None:
        """Any byte string is read as it was written: a string where it is UTF-8, else base64."""
        encoded = encode_bytes(value)
        body = encode_json({"a": encoded})
        self.assertEqual(decode_bytes(decode_json(body)["a"]), value)
        try:
            self.assertEqual(encoded, value.decode())
        except UnicodeDecodeError:
            self.assertIsInstance(encoded, dict)

    def test_examples(self) -> None:
        """The two forms, written out."""
        self.assertEqual(encode_bytes(b"caf\xc3\xa9"), "caf\u00e9")
        self.assertEqual(encode_bytes(b"\xff\xfe"), {"b64": "//4="})
        self.assertEqual(encode_bytes(b"\xed\xa0\x80"), {"b64": "7aCA"})
        self.assertEqual(decode_bytes({"b64": ""}), b"")
        # Base64 of what is UTF-8 stands for it just the same.
        self.assertEqual(decode_bytes({"b64": "YQ=="}), b"a")

    def test_none(self) -> None:
        """Anything else stands for no byte string, and says so with a ``ValueError``."""
        odd: tuple[Any, ...] = (
            None,
            True,
            1,
            1.5,
            [],
            ["a"],
            {},
            {"b64": None},
            {"b64": 1},
            {"b64": ["YQ=="]},
            {"b64": "YQ==", "more": 1},
            {"B64": "YQ=="},
            {"b64": "YQ"},
            {"b64": "Y Q=="},
            {"b64": "YQ==\n"},
            {"b64": "_-=="},
            {"b64": "\u00e9"},
            {"b64": "\udcff"},
            "\udcff",
            "a\ud800",
        )
        for value in odd:
            self.assertRaises(ValueError, decode_bytes, value)

    @settings(deadline=None)
    @given(plain_json)
    def test_anything(self, value: Any) -> None:
        """Whatever JSON has is a byte string or a ``ValueError``."""
        for each in (value, {"b64": value}):
            try:
                self.assertIsInstance(decode_bytes(each), bytes)
            except ValueError:
                pass
