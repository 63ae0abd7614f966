"""Tests of docs/protocol.rst: the machines say and take what its test vectors say, byte by byte."""

from __future__ import annotations

import ast
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from sockproto.key import derive_secret
from sockproto.wire import events
from sockproto.wire.client_channels import ClientChannels
from sockproto.wire.commands import CommandRequest, CommandResult
from sockproto.wire.frames import FrameDecoder, encode_frame
from sockproto.wire.handshake import (
    Binding,
    ClientHandshake,
    Login,
    LoginRefused,
    Refusal,
    ServerHandshake,
)
from sockproto.wire.messages import FrameType
from sockproto.wire.server_channels import ServerChannels
from sockproto.wire.settings import Settings
from sockproto.wire.streams import ON_STREAMS
from sockproto.wire.terminal import Terminal
from tests.documents import ROOT, blocks, prose, table, vectors

PAGE = "docs/protocol.rst"
VECTORS = vectors(PAGE)


def payload(name: str) -> bytes:
    """The payload of a vector that is one whole frame."""
    frames = FrameDecoder(2**20)
    frames.feed(VECTORS[name][1])
    frame = frames.next_frame()
    assert frame is not None, name
    assert not frames.pending, name
    return frame


def random(*values: bytes) -> Callable[[int], bytes]:
    """A source of random bytes that has these."""
    left = list(values)
    return lambda _count: left.pop(0)


class VectorTests(SynchronousTestCase):
    """The page's own form."""

    def test_read(self) -> None:
        """Every bold name at the start of a paragraph is a vector, and no two have the same."""
        text = (ROOT / PAGE).read_text()
        names = re.findall(r"^\*\*([^*]+)\*\*", text, re.MULTILINE)
        self.assertEqual(list(VECTORS), names)
        self.assertEqual(len(set(names)), len(names))

    def test_blocksOfHex(self) -> None:
        """Every block that is nothing but hex is a vector."""
        hexadecimal = [
            bytes.fromhex(block.text)
            for block in blocks(PAGE)
            if re.fullmatch(r"[0-9a-f\s]+", block.text)
        ]
        self.assertEqual([data for _, data in VECTORS.values()], hexadecimal)

    def test_json(self) -> None:
        """The JSON that stands beside a vector is what is in it."""
        text = (ROOT / PAGE).read_text()
        shown = re.findall(
            r"^\*\*([a-z-]+)\*\*, from the client, with the JSON\n``(.+)``::", text, re.MULTILINE
        )
        self.assertEqual(len(shown), 3)
        for name, body in shown:
            self.assertEqual(payload(name)[5:].decode(), body)


class LoginTests(SynchronousTestCase):
    """The login's known answers."""

    def logIn(self, suffix: str, binding: Binding, cb_data: bytes) -> tuple[str, str]:
        """Go through a login with the page's values; its reference on both sides."""
        server = ServerHandshake(
            "agent", "srv1", binding, random(bytes(range(0x20, 0x40)), bytes(range(0x80, 0x90)))
        )
        client = ClientHandshake(
            "k1", bytes(range(32)), "agent", "srv1", "cli1", binding,
            random(bytes(range(0x40, 0x60))),
        )  # fmt: skip
        self.assertEqual(encode_frame(server.hello), VECTORS["hello" + suffix][1])
        auth = client.receive_hello(server.hello, cb_data)
        self.assertEqual(encode_frame(auth), VECTORS["auth" + suffix][1])
        ok, login = server.receive_auth(auth, cb_data, lambda _: bytes(range(32)))
        self.assertEqual(encode_frame(ok), VECTORS["ok" + suffix][1])
        assert isinstance(login, Login)
        return login.ref, client.receive_reply(ok).ref

    def test_withoutBinding(self) -> None:
        """The first login is as the page has it, message by message."""
        ref = self.logIn("", Binding.NONE, b"")
        self.assertEqual(ref, ("f0f06a4c", "f0f06a4c"))
        self.assertIn("reference is ``f0f06a4c``", prose(PAGE))

    def test_withBinding(self) -> None:
        """And so is the second."""
        ref = self.logIn("-tls", Binding.TLS_EXPORTER, bytes(range(0x60, 0x80)))
        self.assertEqual(ref, ("c286aaf0", "c286aaf0"))
        self.assertIn("reference is ``c286aaf0``", prose(PAGE))

    def test_fail(self) -> None:
        """FAIL is what a server says and a client understands."""
        server = ServerHandshake("agent", "srv1", Binding.NONE)
        answer, refusal = server.receive_auth(payload("auth"), b"", lambda _: None)
        self.assertIsInstance(refusal, Refusal)
        self.assertEqual(encode_frame(answer), VECTORS["fail"][1])
        client = ClientHandshake("k1", bytes(32), "agent", None, "cli1", Binding.NONE)
        client.receive_hello(payload("hello"), b"")
        self.assertRaises(LoginRefused, client.receive_reply, payload("fail"))

    def test_formulas(self) -> None:
        """The page's formulas, written down once more, give its values."""

        def mac(key: bytes, message: bytes) -> bytes:
            return hmac.digest(key, message, "sha256")

        def lp32(value: bytes) -> bytes:
            return len(value).to_bytes(4, "big") + value

        for suffix, cb_data in (("", b""), ("-tls", bytes(range(0x60, 0x80)))):
            hello, auth, ok = (payload(name + suffix) for name in ("hello", "auth", "ok"))
            prk = mac(hello[-32:] + auth[-64:-32], bytes(range(32)))
            t1 = hashlib.sha256(
                b"sockproto-auth-v1\0" + lp32(hello) + lp32(auth[:-32]) + lp32(cb_data)
            ).digest()
            t2 = hashlib.sha256(t1 + auth[-32:] + lp32(ok[:-32])).digest()
            self.assertEqual(
                auth[-32:], mac(mac(prk, b"sockproto-auth-v1 client" + t1 + b"\1"), t1)
            )
            self.assertEqual(ok[-32:], mac(mac(prk, b"sockproto-auth-v1 server" + t1 + b"\1"), t2))
            if not suffix:
                self.assertEqual([prk, t1, t2], [VECTORS[name][1] for name in ("prk", "t1", "t2")])

    def test_secretIsNotSent(self) -> None:
        """Nothing that is sent holds the secret, or what is made of it for the proofs."""
        for name in ("hello", "auth", "ok", "hello-tls", "auth-tls", "ok-tls"):
            for secret in (bytes(range(32)), VECTORS["prk"][1]):
                self.assertNotIn(secret, payload(name))

    def test_derived(self) -> None:
        """A host's key is derived as the page has it."""
        secret = derive_secret(bytes(range(0xA0, 0xC0)), "k1", "srv1")
        self.assertEqual(secret, VECTORS["derived"][1])


class ConversationTests(SynchronousTestCase):
    """The page's conversation, held by the two machines."""

    def setUp(self) -> None:
        self.server = ServerChannels(Settings(131072, 256, 4096, ("command",)))
        self.client = ClientChannels(Settings(262144, features=("ping",)))
        self.said = iter(
            list(VECTORS)[list(VECTORS).index("settings-server") :],
        )

    def say(self, sender: str, frame: bytes, data: bytes = b"") -> events.Event | None:
        """Say the next thing, and have the other side hear it.

        :return: what the other side makes of it.
        """
        name = next(self.said)
        self.assertEqual(VECTORS[name], (sender, frame + data), name)
        hearer = self.client if sender == "server" else self.server
        return hearer.receive(payload(name))

    def test_all(self) -> None:
        """Each frame is what the one machine sends, and means to the other what the page says."""
        server, client, say = self.server, self.client, self.say
        say("server", server.send_settings())
        say("client", client.send_settings())
        self.assertEqual((client.peer, server.peer), (server.settings, client.settings))

        asked = CommandRequest((b"wc", b"-c"), stdin=True)
        self.ask(1, asked, 1048576, 262144)
        heard = say("client", client.send_data(1, 0, 5), b"hello")
        self.assertEqual(heard, events.DataReceived(1, 0, b"hello"))
        self.assertEqual(say("client", client.send_end(1, 0)), events.EndReceived(1, 0))
        self.assertEqual(say("server", server.accept(1, {})), events.ChannelAccepted(1, {}))
        heard = say("server", server.send_data(1, 1, 2), b"5\n")
        self.assertEqual(heard, events.DataReceived(1, 1, b"5\n"))
        self.assertEqual(say("server", server.send_end(1, 1)), events.EndReceived(1, 1))
        self.assertEqual(say("server", server.send_end(1, 2)), events.EndReceived(1, 2))
        self.closed(1, CommandResult(0))

        self.ask(2, CommandRequest((b"nosuch",)), 1048576, 262144)
        reason = ("not-found", "no such program: 'nosuch'")
        heard = say("server", server.reject(2, *reason))
        self.assertEqual(heard, events.ChannelRejected(2, *reason))

        other = CommandRequest((b"yes", b"caf\xe9"), False, 30, b"/tmp", {b"LANG": b"C"})
        self.ask(3, other, 65536, 65536)
        say("server", server.accept(3, {}))
        heard = say("client", client.send_credit(3, 1, 262144))
        self.assertEqual(heard, events.CreditReceived(3, 1))
        self.assertEqual(say("client", client.send_stop(3, 1)), events.StopReceived(3, 1))
        heard = say("client", client.send_control(3, {"signal": "INT"}))
        self.assertEqual(heard, events.ControlReceived(3, {"signal": "INT"}))
        self.assertEqual(say("client", client.cancel(3)), events.CancelReceived(3))
        self.closed(3, CommandResult(signal="TERM"))

        question = bytes(range(8))
        self.assertEqual(say("client", client.send_ping(question)), events.PingReceived(question))
        self.assertEqual(say("server", server.send_pong(question)), events.PongReceived())
        leaving = ("shutdown", "the server is shutting down")
        heard = say("server", server.send_goaway(*leaving))
        self.assertEqual(heard, events.GoingAway(3, *leaving))
        self.assertEqual(list(self.said), [])

    def ask(self, number: int, request: CommandRequest, out: int, err: int) -> None:
        """Open the channel of that number for a command."""
        channel, frame = self.client.open(request.encode(), out, err)
        self.assertEqual(channel, number)
        heard = self.say("client", frame)
        assert isinstance(heard, events.ChannelOpened)
        self.assertEqual(CommandRequest.decode(heard.request), request)

    def closed(self, channel: int, result: CommandResult) -> None:
        """The server ends a channel."""
        heard = self.say("server", self.server.close(channel, result.encode()))
        assert isinstance(heard, events.ChannelClosed)
        self.assertEqual(CommandResult.decode(heard.result), result)


class TableTests(SynchronousTestCase):
    """The page's tables."""

    def test_frameTypes(self) -> None:
        """The types of frames are those of the code, and each side takes what is for it alone."""
        rows = table(PAGE, "type")
        self.assertEqual(
            [(int(number, 16), name) for number, name, _, _ in rows],
            [(int(kind), kind.name) for kind in FrameType],
        )
        common = {"SETTINGS", "CLOSE"}  # taken apart from the rest, and by both
        for side, machine in (("client", ServerChannels), ("server", ClientChannels)):
            taken = {*ON_STREAMS, *machine._ON_CHANNEL, *machine._ON_NEW, *machine._ON_CONNECTION}
            self.assertEqual(
                {name for _, name, by, _ in rows if by in (side, "both")} - common,
                {FrameType(kind).name for kind in taken} - common,
            )
            self.assertLessEqual(common, {name for _, name, by, _ in rows if by == "both"})

    def test_codes(self) -> None:
        """The codes of REJECT, of errors and of GOAWAY are those that the code says."""
        said = {row[0].strip("`") for row in table(PAGE, "code")}
        page = prose(PAGE)
        goaway = page[page.index("Its codes: ") : page.index("A further GOAWAY")]
        said |= set(re.findall(r"``([a-z-]+)``", goaway)) - {"ping"}
        self.assertEqual(said, set(_codes()))

    def test_fields(self) -> None:
        """The fields of SETTINGS, of OPEN and of CLOSE are those of the code."""
        settings = Settings(4096).encode()
        self.assertEqual([row[0].strip("`") for row in table(PAGE, "field  ")], list(settings))
        request = CommandRequest((b"a",), True, 1, b"/", {b"A": b"B"}, Terminal()).encode()
        self.assertEqual(
            [row[0].strip("`") for row in table(PAGE, "field of OPEN")],
            [name for name in request if name != "service"],
        )
        result = CommandResult(0, "KILL", True, True, "lost", age=1).encode()
        self.assertEqual({row[0].strip("`") for row in table(PAGE, "field of CLOSE")}, set(result))


# What is given a code, as a word of its own, in the server's code.
_SAYERS = {
    "Decision", "RemoteProtocolError", "SpawnFailed", "__init__", "_close", "_comeToNothing",
    "_failed", "_refuse", "_reject", "drop", "fail", "failed", "goAway", "reject",
}  # fmt: skip


def _codes() -> Iterator[str]:
    """The codes that the server's code can say."""
    package = ROOT / "sockproto"
    for path in [
        package / "errors.py",
        *(package / "auth").glob("*.py"),
        *(package / "wire").glob("*.py"),
        *(package / "session").glob("*.py"),
        *(package / "server").glob("service.py"),
        *(package / "services" / "command").glob("*.py"),
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            words: list[ast.expr] = []
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else ""
                name = function.id if isinstance(function, ast.Name) else name
                words = node.args if name in _SAYERS else []
                words = words + [each.value for each in node.keywords if each.arg == "code"]
            elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
                code, message = node.elts
                if isinstance(message, ast.JoinedStr) or (
                    isinstance(message, ast.Constant) and " " in str(message.value)
                ):
                    words = [code]
            for word in words:
                if isinstance(word, ast.Constant) and re.fullmatch(
                    r"[a-z][a-z-]+", str(word.value)
                ):
                    yield str(word.value)
