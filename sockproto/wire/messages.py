"""The frames of an agent connection after the login, as bytes and as values.

Each is the payload of one length-prefixed frame::

    uint8 type | uint32 channel, big-endian | body

What the bodies hold is in docs/protocol.rst; this module knows only their shapes: JSON objects,
DATA with its stream number, CREDIT with its amount, PING's eight bytes, GOAWAY.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from enum import IntEnum
from struct import Struct
from typing import Any, NoReturn

from sockproto.errors import RemoteProtocolError

__all__ = [
    "DATA_OVERHEAD",
    "LARGEST_CHANNEL",
    "LENGTH_PREFIX",
    "MAX_DATA",
    "MAX_REASON",
    "FrameType",
    "Stream",
    "decode_bytes",
    "decode_credit",
    "decode_goaway",
    "decode_json",
    "decode_reason",
    "encode_bytes",
    "encode_json",
    "encode_reason",
    "pack",
    "pack_credit",
    "pack_goaway",
    "pack_json",
    "pack_stream",
    "unpack_header",
]

#: The most bytes that one DATA frame carries, and so the most that one turn of a channel takes.
MAX_DATA = 65_536
#: What the header can say at most.
LARGEST_CHANNEL = 2**32 - 1
#: The most characters of an error's message that are sent: in JSON they fit into every frame.
MAX_REASON = 256

# What an error's code looks like: it is printed as it is.
_CODE = re.compile(r"[a-z][a-z0-9-]{0,31}")


class FrameType(IntEnum):
    """The types of frames.  Unknown ones from 0x80 up are ignored."""

    SETTINGS = 0x01
    OPEN = 0x02
    ACCEPT = 0x03
    REJECT = 0x04
    DATA = 0x05
    END = 0x06
    STOP = 0x07
    CREDIT = 0x08
    CONTROL = 0x09
    CLOSE = 0x0A
    PING = 0x0B
    PONG = 0x0C
    GOAWAY = 0x0D


class Stream(IntEnum):
    """The streams of a channel: the first goes to the server, the others come from it."""

    IN = 0
    OUT = 1
    ERR = 2


_HEADER = Struct(">BI")
_LENGTH_AND_HEADER = Struct(">IBI")
_STREAM_FRAME = Struct(">IBIB")
_CREDIT_FRAME = Struct(">IBIBI")
_CREDIT_BODY = Struct(">BI")
_UINT32 = Struct(">I")

#: Bytes of a DATA frame's payload that are not data.
DATA_OVERHEAD = _HEADER.size + 1
#: Bytes of a whole frame before its payload.
LENGTH_PREFIX = _UINT32.size


def pack(kind: FrameType, channel: int, body: bytes = b"") -> bytes:
    """A whole frame, length prefix and all."""
    return _LENGTH_AND_HEADER.pack(_HEADER.size + len(body), kind, channel) + body


def pack_json(kind: FrameType, channel: int, body: Mapping[str, Any]) -> bytes:
    """A whole frame whose body is a JSON object."""
    return pack(kind, channel, encode_json(body))


def pack_stream(kind: FrameType, channel: int, stream: int, length: int = 0) -> bytes:
    """END, STOP, or the part of a DATA frame before its ``length`` bytes of data."""
    return _STREAM_FRAME.pack(DATA_OVERHEAD + length, kind, channel, stream)


def pack_credit(channel: int, stream: int, amount: int) -> bytes:
    """A CREDIT frame."""
    return _CREDIT_FRAME.pack(
        _HEADER.size + _CREDIT_BODY.size, FrameType.CREDIT, channel, stream, amount
    )


def pack_goaway(last_channel: int, code: str, message: str) -> bytes:
    """A GOAWAY frame."""
    body = _UINT32.pack(last_channel) + encode_json(encode_reason(code, message))
    return pack(FrameType.GOAWAY, 0, body)


def unpack_header(payload: bytes) -> tuple[int, int]:
    """The type and the channel of a frame.

    :raises RemoteProtocolError: it is too short to have them.
    """
    if len(payload) < _HEADER.size:
        raise RemoteProtocolError(f"a frame of {len(payload)} bytes: expected at least 5")
    kind, channel = _HEADER.unpack_from(payload)
    return kind, channel


def decode_credit(body: bytes) -> tuple[int, int]:
    """The stream and the amount of a CREDIT body."""
    if len(body) != _CREDIT_BODY.size:
        raise RemoteProtocolError(f"a CREDIT body of {len(body)} bytes: expected 5")
    stream, amount = _CREDIT_BODY.unpack(body)
    return stream, amount


def decode_goaway(body: bytes) -> tuple[int, str, str]:
    """The last channel, the code and the message of a GOAWAY body."""
    if len(body) < _UINT32.size:
        raise RemoteProtocolError("a GOAWAY body without a channel")
    (last_channel,) = _UINT32.unpack_from(body)
    return last_channel, *decode_reason(decode_json(body[_UINT32.size :]))


def encode_json(value: Mapping[str, Any]) -> bytes:
    """A JSON object as it goes into a body."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def decode_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    :raises RemoteProtocolError: it is not JSON (RFC 8259), not UTF-8, or not an object.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a body that is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RemoteProtocolError("a JSON body that is not an object")
    return value


def encode_reason(code: str, message: str) -> dict[str, str]:
    """An error as a JSON object; a long message is cut."""
    return {"code": code, "message": message[:MAX_REASON]}


def decode_reason(reason: Mapping[str, Any]) -> tuple[str, str]:
    """The code and the message of an error; ``internal`` and nothing where they are none."""
    code, message = reason.get("code"), reason.get("message")
    if not isinstance(code, str) or _CODE.fullmatch(code) is None:
        code = "internal"
    if not isinstance(message, str):
        message = ""
    # A lone surrogate, which JSON can spell, could not be printed.
    return code, message.encode("utf-8", "backslashreplace").decode("utf-8")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def encode_bytes(value: bytes) -> str | dict[str, str]:
    """A byte string as JSON has it: a string where it is UTF-8, else ``{"b64": "..."}``."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}


def decode_bytes(value: object) -> bytes:
    """The byte string that a JSON value stands for.

    :raises ValueError: it stands for none.
    """
    if isinstance(value, str):
        # A lone surrogate, which JSON can spell, is an error of UTF-8 and so a ValueError.
        return value.encode("utf-8")
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from None
    raise ValueError('expected a string or {"b64": "..."}')
