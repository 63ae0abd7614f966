"""Clients as people wrote them from tutorials, on plain sockets, against the real factories.

Each function named ``..._client`` is such a client: what it does with its socket is what it was
taught, right or wrong.
"""

import hashlib
import hmac
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from sockproto.limits import Limits
from sockproto.services.command.parameters import Parameter
from sockproto.services.command.processes import ProcessHost
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules
from sockproto.services.command.service import CommandService
from sockproto.services.tutorial.dialects import Dialects
from sockproto.services.tutorial.settings import TutorialSettings

reactor: Any = installed

SECRET = b"linhaifeng bang bang bang"
PATIENCE = 20
#: So long that a client that was told a length surely waits for the output by then.
GAP = 0.5
MINE = ("tutorial",)

RULES = (
    CommandRule(
        name="echo",
        argv=("echo", "{words}"),
        allow=MINE,
        parameters={"words": Parameter(pattern=".*", rest=True)},
    ),
    CommandRule(name="true", argv=("true",), allow=MINE),
    CommandRule(name="complain", argv=("sh", "-c", "echo out; echo err >&2"), allow=MINE),
    CommandRule(
        name="seq",
        argv=("seq", "{last}"),
        allow=MINE,
        parameters={"last": Parameter(type="integer", max=100_000)},
    ),
    CommandRule(name="sleep", argv=("sleep", "600"), allow=MINE),
    CommandRule(name="slow", argv=("sh", "-c", "echo early; sleep 600"), allow=MINE, timeout=0.3),
)

#: Commands, and what their clients see of them.
SEEN = {
    "echo hello 你好": "hello 你好\n".encode(),
    "seq 20000": b"".join(b"%d\n" % number for number in range(1, 20_001)),
    "complain": b"err\n",
    "true": b"",
    "rm -rf /": b"there is no command 'rm'",
    "slow": b"the command was ended: its time was up",
}

KILLED = """
import socket, sys, time
phone = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
phone.send(sys.argv[2].encode())
time.sleep(60)
"""


def dial(port: int) -> socket.socket:
    """Connect as every tutorial does, except that it does not wait for ever."""
    phone = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    phone.settimeout(PATIENCE)
    phone.connect(("127.0.0.1", port))
    return phone


def hung_up() -> bytes:
    """A tutorial's client would go round for ever here."""
    raise AssertionError("the server hung up")


def length_client(phone: socket.socket, cmd: str) -> bytes:
    """The number by one recv(1024), then the output in a loop."""
    phone.send(cmd.encode("utf-8"))
    size = int(phone.recv(1024).decode())
    received = b""
    while len(received) < size:
        received += phone.recv(1024) or hung_up()
    return received


def int32_client(phone: socket.socket, cmd: str) -> bytes:
    """A struct header against sticky packets."""
    phone.send(cmd.encode("utf-8"))
    size = struct.unpack("i", phone.recv(4))[0]
    received = b""
    while len(received) < size:
        received += phone.recv(1024) or hung_up()
    return received


def ready_client(phone: socket.socket, cmd: str) -> bytes:
    """The number, then a word, then the output."""
    phone.send(cmd.encode("utf-8"))
    size = int(phone.recv(1024).decode("utf-8"))
    phone.send(b"recv_ready")
    received = b""
    while len(received) < size:
        received += phone.recv(1024) or hung_up()
    return received


def message_ready_client(phone: socket.socket, *texts: str) -> None:
    """The length in characters, and the text in UTF-8."""
    for text in texts:
        phone.send(str(len(text)).encode("utf-8"))
        assert phone.recv(1024) == b"ready"
        phone.send(text.encode("utf-8"))


def upper_client(phone: socket.socket, *texts: str) -> list[bytes]:
    """The length in characters, one recv for the answer."""
    answers = []
    for text in texts:
        phone.send(struct.pack("i", len(text)))
        phone.send(text.encode("utf-8"))
        answers.append(phone.recv(1024))
    return answers


def hmac_client(phone: socket.socket, secret: bytes, text: str) -> bytes:
    """The login, with what Python 3.8 changed; then upper."""
    challenge = phone.recv(32)
    phone.sendall(hmac.new(secret, challenge, digestmod="md5").digest())
    return upper_client(phone, text)[0]


def upload_client(phone: socket.socket, path: str, content: bytes) -> None:
    """A JSON header behind its length, then the file by pieces."""
    header = json.dumps(
        {
            "file_size": len(content),
            "file_name": path,
            "md5": hashlib.md5(content).hexdigest(),
        }
    ).encode("utf-8")
    phone.send(struct.pack("i", len(header)))
    phone.send(header)
    for start in range(0, len(content), 1024):
        phone.send(content[start : start + 1024])


def download_client(phone: socket.socket, name: str) -> Any:
    """A name; the header; ready; the file. Returns the bytes, or the error."""
    phone.send(name.encode("utf-8"))
    (size,) = struct.unpack("i", phone.recv(4))
    header = json.loads(phone.recv(size).decode("utf-8"))
    if "error" in header:
        return header["error"]
    phone.send(b"ready")
    received = b""
    while len(received) < header["file_size"]:
        received += phone.recv(1024) or hung_up()
    assert hashlib.md5(received).hexdigest() == header["md5"]
    return received


class ClientCase(TestCase):
    """The dialects on real ports, and clients in threads beside the reactor."""

    timeout = 60
    limits: ClassVar[Limits] = Limits()

    def setUp(self) -> None:
        self.path = tempfile.mkdtemp(prefix="sp-", dir=os.getcwd())
        self.host = ProcessHost(reactor)
        self.addCleanup(self.host.stop)
        self.commands = CommandService(reactor, self.host, CommandRules(RULES), self.limits)
        settings = TutorialSettings(secret=SECRET.decode(), folder=self.path, gap=GAP)
        self.dialects = Dialects(reactor, settings, self.commands, self.limits)
        self.addCleanup(self.dialects.close)
        self.events: list[Any] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def serve(self, service: str) -> int:
        """Listen; the port."""
        factory = self.dialects.factory(service, None)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1", backlog=300)
        self.addCleanup(self._close, factory, port)
        return int(port.getHost().port)

    @inlineCallbacks
    def _close(self, factory: Any, port: Any) -> Any:
        yield port.stopListening()
        factory.abortAll()
        yield self.until(lambda: not factory._connections)

    @inlineCallbacks
    def until(self, condition: Callable[[], bool]) -> Any:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline, "it did not come to pass")
            yield deferLater(reactor, 0.01)

    def client(self, port: int, talk: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Have a client talk in a thread, and hang up."""

        def call() -> Any:
            with dial(port) as phone:
                return talk(phone, *arguments)

        return deferToThread(call)

    def logged(self, name: str) -> list[Any]:
        """The values of a field in what was logged."""
        return [event[name] for event in self.events if name in event]


class CommandClientTests(ClientCase):
    """Clients that run commands."""

    def converse(
        self, service: str, talk: Callable[..., bytes], **expected: bytes
    ) -> Deferred[Any]:
        """Have a client run commands one after the other, and compare what it sees.

        :param expected: what the client sees of some, in place of what all see of them.
        """

        def session(phone: socket.socket) -> None:
            for cmd, output in {**SEEN, **expected}.items():
                self.assertEqual(talk(phone, cmd), output, cmd)

        return self.client(self.serve(service), session)

    def test_int32(self) -> Any:
        """A client with a struct header gets every output whole."""
        return self.converse("tutorial-command-int32", int32_client)

    def test_length(self) -> Any:
        """A client that reads the number by one recv(1024) gets nothing but the number by it."""
        return self.converse(
            "tutorial-command-length", length_client, complain=b"out\n", true=b"cmd hs no output..."
        )

    def test_ready(self) -> Any:
        """A client that says recv_ready gets the output then."""
        return self.converse("tutorial-command-ready", ready_client)

    @inlineCallbacks
    def test_halfClose(self) -> Any:
        """``printf 'seq 3' | nc -N`` gets its answer, and the end."""

        def talk(phone: socket.socket) -> bytes:
            phone.send(b"seq 3")
            phone.shutdown(socket.SHUT_WR)
            with phone.makefile("rb") as file:
                return file.read()

        received = yield self.client(self.serve("tutorial-command-int32"), talk)
        self.assertEqual(received, b"\x06\0\0\x001\n2\n3\n")

    @inlineCallbacks
    def test_reset(self) -> Any:
        """The command of a client that closes abruptly is ended at once."""
        port = self.serve("tutorial-command-int32")
        phone = yield deferToThread(dial, port)
        phone.send(b"sleep")
        yield self.until(lambda: self.commands.running == 1)
        phone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        phone.close()
        yield self.until(lambda: self.commands.running == 0)

    @inlineCallbacks
    def test_resetAnyTime(self) -> Any:
        """A client may close abruptly at any time: no traceback."""

        def abrupt(port: int) -> None:
            for data in (b"", b"seq 5", b"seq 20000", b"rm"):
                phone = dial(port)
                phone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                phone.send(data)
                if len(data) > 5:
                    phone.recv(2)
                phone.close()

        for service in ("int32", "length", "ready"):
            yield deferToThread(abrupt, self.serve(f"tutorial-command-{service}"))
        yield self.until(lambda: self.commands.running == 0)
        self.assertEqual(self.logged("log_failure"), [])

    @inlineCallbacks
    def test_http(self) -> Any:
        """A browser gets no byte."""

        def talk(phone: socket.socket) -> bytes:
            phone.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nseq 3")
            try:
                return phone.recv(1024)
            except ConnectionResetError:
                return b""

        received = yield self.client(self.serve("tutorial-command-int32"), talk)
        self.assertEqual(received, b"")


class BriefClientTests(ClientCase):
    """Clients that say nothing, or are killed, where the idle time is short."""

    limits = Limits(idle_seconds=0.4)

    @inlineCallbacks
    def test_killed(self) -> Any:
        """The command of a killed client is ended, at the latest when the client would be idle."""
        port = self.serve("tutorial-command-length")
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(port), "sleep"], stderr=subprocess.PIPE
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        yield self.until(lambda: self.commands.running == 1)
        process.kill()
        yield self.until(lambda: self.commands.running == 0)
        self.assertEqual(self.logged("log_failure"), [])

    @inlineCallbacks
    def test_silent(self) -> Any:
        """A client that says nothing is hung up on."""

        def talk(phone: socket.socket) -> bytes:
            try:
                return phone.recv(1024)
            except ConnectionResetError:
                return b""

        self.assertEqual((yield self.client(self.serve("tutorial-command-ready"), talk)), b"")


class MessageClientTests(ClientCase):
    """Clients that send messages."""

    @inlineCallbacks
    def test_messageReady(self) -> Any:
        """Messages whose length counts characters are logged whole."""
        texts = ("hello", "你好 世界", "x" * 100, "ok")
        yield self.client(self.serve("tutorial-message-ready"), message_ready_client, *texts)
        yield self.until(lambda: len(self.logged("text")) == len(texts))
        self.assertEqual(self.logged("text"), list(texts))

    @inlineCallbacks
    def test_sticky(self) -> Any:
        """Messages that stick together come apart, for one that counts bytes as for others."""
        texts = [f"第{number}条 message" for number in range(40)]

        def talk(phone: socket.socket) -> None:
            for text in texts:
                data = text.encode("utf-8")
                phone.send(struct.pack("i", len(data)) + data)

        yield self.client(self.serve("tutorial-message-int32"), talk)
        yield self.until(lambda: len(self.logged("text")) == len(texts))
        self.assertEqual(self.logged("text"), texts)

    @inlineCallbacks
    def test_upper(self) -> Any:
        """Each message comes back in upper case, in one recv(1024)."""
        texts = ("hello", "你好 sb", "é", "x" * 500)
        answers = yield self.client(self.serve("tutorial-upper-int32"), upper_client, *texts)
        self.assertEqual(answers, [text.encode().upper() for text in texts])

    @inlineCallbacks
    def test_hmac(self) -> Any:
        """Who knows the secret is served, who does not is hung up on."""
        port = self.serve("tutorial-upper-hmac")
        answer = yield self.client(port, hmac_client, SECRET, "hello")
        self.assertEqual(answer, b"HELLO")

        def wrong(phone: socket.socket) -> bytes:
            try:
                return hmac_client(phone, b"eggs", "hello")
            except (ConnectionResetError, BrokenPipeError):
                return b""

        self.assertEqual((yield self.client(port, wrong)), b"")

    @inlineCallbacks
    def test_neverReads(self) -> Any:
        """A client that only sends is not read any further."""

        def talk(phone: socket.socket) -> int:
            phone.setblocking(False)
            data = (struct.pack("i", 1000) + b"x" * 1000) * 64
            sent = 0
            while select.select([], [phone], [], 0.5)[1] and sent < 1 << 26:
                sent += phone.send(data[sent % len(data) :])
            return sent

        # What the kernel keeps for both directions, and nothing of ours.
        self.assertLess((yield self.client(self.serve("tutorial-upper-int32"), talk)), 1 << 26)

    @inlineCallbacks
    def test_many(self) -> Any:
        """Two hundred clients at once are all served."""

        def crowd(port: int) -> list[bytes]:
            phones = [dial(port) for _ in range(200)]
            try:
                for number, phone in enumerate(phones):
                    text = f"client {number}".encode()
                    phone.send(struct.pack("i", len(text)) + text)
                return [phone.recv(1024) for phone in phones]
            finally:
                for phone in phones:
                    phone.close()

        answers = yield deferToThread(crowd, self.serve("tutorial-upper-int32"))
        self.assertEqual(answers, [b"CLIENT %d" % number for number in range(200)])


class FileClientTests(ClientCase):
    """Clients that move files."""

    @inlineCallbacks
    def test_thereAndBack(self) -> Any:
        """What was uploaded can be downloaded."""
        content = os.urandom(300_000)
        up, down = (self.serve(f"tutorial-{way}") for way in ("upload-json", "download"))
        yield self.client(up, upload_client, "C:\\视频\\电影.mp4", content)
        stored = os.path.join(self.path, "电影.mp4")
        yield self.until(lambda: os.path.exists(stored))

        def talk(phone: socket.socket) -> list[Any]:
            names = ("电影.mp4", "../../etc/passwd", "nope", "电影.mp4")
            return [download_client(phone, name) for name in names]

        first, path, missing, again = yield self.client(down, talk)
        self.assertEqual(first, content)
        self.assertEqual(again, content)
        self.assertEqual(path, "expected the name of a file, not a path")
        self.assertEqual(missing, "there is no such file")

    @inlineCallbacks
    def test_cutOff(self) -> Any:
        """A client that is cut off in the middle leaves no file."""
        header = json.dumps({"file_size": 1000, "file_name": "a", "md5": "0" * 32}).encode()
        phone = yield deferToThread(dial, self.serve("tutorial-upload-json"))
        phone.send(struct.pack("i", len(header)) + header + b"x" * 500)
        yield self.until(lambda: len(os.listdir(self.path)) == 1)
        phone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        phone.close()
        yield self.until(lambda: os.listdir(self.path) == [])
