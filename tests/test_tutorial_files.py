"""Tests of the tutorial dialects that move files, and of the folder that confines them."""

import errno
import fcntl
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sockproto.services.tutorial.download import DownloadFactory
from sockproto.services.tutorial.folder import Folder, Unavailable, base_name
from sockproto.services.tutorial.upload import UploadJsonFactory
from tests.tutorials import LIMITS, Connection, FolderCase, atOnce, bytewise

OUTSIDE = b"not yours"
REFUSALS = ("expected the name of a file, not a path", "that is no name for a file here")


def md5(data: bytes) -> str:
    """The digest as clients send it."""
    return hashlib.md5(data).hexdigest()


def headed(header: object) -> bytes:
    """A header as a tutorial's client sends it."""
    data = json.dumps(header).encode()
    return struct.pack("i", len(data)) + data


def upload(name: str, content: bytes, **other: Any) -> bytes:
    """All that a client sends for a file."""
    header = {"file_size": len(content), "file_name": name, "md5": md5(content), **other}
    return headed(header) + content


class UploadTests(FolderCase):
    """Tests of tutorial-upload-json."""

    def client(self, folder: Folder | None = None, aside: Any = atOnce) -> Connection:
        """A client."""
        factory = UploadJsonFactory(self.clock, folder or self.folder, LIMITS, aside=aside)
        return self.connect(factory)

    def refused(self, data: bytes, reason: str, folder: Folder | None = None) -> None:
        """What a client sends ends the connection with one line, and leaves nothing."""
        before = self.files()
        self.events.clear()
        self.clock.advance(61)
        client = self.client(folder).send(data)
        self.assertBroken(client, reason)
        self.assertEqual(client.received(), b"")
        self.assertEqual(self.files(), before)

    def test_transcript(self) -> None:
        """A file is stored under its name, and the server answers nothing; so is the next."""
        content = bytes(range(256)) * 4
        data = upload("a.bin", content) + upload("empty", b"") + upload("你好.txt", b"x")
        for pieces in ([data], bytewise(data)):
            client = self.client().send(*pieces)
            self.assertEqual(client.received(), b"")
            self.assertTrue(client.isOpen)
            self.assertEqual(self.files(), {"a.bin": content, "empty": b"", "你好.txt": b"x"})
            for name in self.files():
                os.unlink(os.path.join(self.path, name))

    def test_replaces(self) -> None:
        """A file of that name is replaced as a whole."""
        self.put("a", b"old, and longer")
        self.client().send(upload("a", b"new"))
        self.assertEqual(self.files(), {"a": b"new"})

    def test_mode(self) -> None:
        """What is stored is for the server's user."""
        self.client().send(upload("a", b"x"))
        self.assertEqual(os.stat(os.path.join(self.path, "a")).st_mode & 0o777, 0o600)

    def test_baseName(self) -> None:
        """Of a path, from any system, the last part counts."""
        for path in ("/etc/a", "../../a", "C:\\Users\\me\\a", "C:a", "./a", "x/../a"):
            self.client().send(upload(path, path.encode()))
            self.assertEqual(self.files(), {"a": path.encode()})

    def test_names(self) -> None:
        """What is no name for a file is refused."""
        for name in ("", ".", "..", "/", "a/", "a/..", ".bashrc", "a\0b", "a\nb", "\x1b[2J", " "):
            self.refused(upload(name, b"x"), "no name for a file")
        self.refused(upload("\ud800", b"x"), "no name for a file")
        self.refused(upload("x" * 256, b"x"), "longer than 255")
        self.refused(upload("好" * 86, b"x"), "longer than 255")

    def test_digest(self) -> None:
        """A file whose digest does not agree is not stored; one in capitals agrees."""
        self.put("a", b"old")
        self.refused(upload("a", b"x", md5="0" * 32), "does not agree")
        self.client().send(upload("a", b"y", md5=md5(b"y").upper()))
        self.assertEqual(self.files(), {"a": b"y"})

    def test_headers(self) -> None:
        """A header that does not say all is refused."""
        good = {"file_size": 1, "file_name": "a", "md5": md5(b"x")}
        for wrong in (
            {"file_size": -1},
            {"file_size": "1"},
            {"file_size": True},
            {"file_size": 1.0},
            {"file_size": None},
            {"file_name": 7},
            {"file_name": None},
            {"md5": "x" * 32},
            {"md5": "0" * 33},
            {"md5": None},
        ):
            self.refused(headed({**good, **wrong}), "the header's")
        nothing: tuple[object, ...] = ([], "x", 1, None)
        for header in nothing:
            self.refused(headed(header), "a JSON object")
        for data in (b"{", b"\xff\xfe", b"[" * 20_000, b'{"a": 1e999'):
            self.refused(struct.pack("i", len(data)) + data, "JSON header")
        for length in (-1, 0, 32 * 1024 + 1, 2**31 - 1):
            self.refused(struct.pack("i", length), "length")

    def test_tooLarge(self) -> None:
        """A file over the limit is refused at its header; one at the limit is not."""
        self.refused(headed({"file_size": 200_001, "file_name": "a", "md5": "0" * 32}), "at most")
        self.refused(headed({"file_size": 10**30, "file_name": "a", "md5": "0" * 32}), "at most")
        self.client().send(upload("a", bytes(200_000)))
        self.assertEqual(len(self.files()["a"]), 200_000)

    def test_quota(self) -> None:
        """The folder takes only so many bytes; what is under way counts too."""
        self.put("there", bytes(150_000))
        first = self.client().send(upload("a", bytes(200_000))[:1000])
        self.refused(upload("b", bytes(200_000)), "no room left")
        first.lose()
        self.connections.remove(first)
        self.client().send(upload("b", bytes(200_000)))
        self.assertEqual(sorted(self.files()), ["b", "there"])

    def test_count(self) -> None:
        """And only so many files."""
        for number in range(9):
            self.put(str(number), b"")
        first = self.client().send(upload("a", b"xy")[:-1])
        self.refused(upload("b", b"x"), "takes no more")
        first.send(b"y")
        self.refused(upload("b", b"x"), "takes no more")
        self.assertEqual(len(self.files()), 10)

    def test_fullDisk(self) -> None:
        """A write that fails leaves nothing."""
        room = 100_000
        write = os.write

        def full(descriptor: int, data: bytes) -> int:
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = write(descriptor, data[:room])
            room -= written
            return written

        with mock.patch("sockproto.services.tutorial.folder.os.write", full):
            self.refused(upload("a", bytes(150_000)), "cannot be stored: No space left on device")

    def test_gone(self) -> None:
        """A client that goes in the middle leaves nothing, but a line in the log."""
        data = upload("a", b"x" * 100)
        client = self.client().send(data[:-1])
        self.assertEqual(len(self.files()), 1)
        client.lose()
        self.connections.remove(client)
        self.assertEqual(self.files(), {})
        self.assertEqual(self.complaints(), ["not all of it came: a"])
        self.clock.advance(61)
        client = self.client().send(data[:-1])
        client.protocol.readConnectionLost()
        self.assertEqual(self.files(), {})
        self.assertTrue(client.closed)

    def test_cutAnywhere(self) -> None:
        """Wherever a client is cut off, there is the old file or the new."""
        self.put("a", b"old")
        data = upload("a", b"new one")
        for end in range(len(data)):
            self.client().send(data[:end]).lose()
            self.assertEqual(self.files(), {"a": b"old"})
        self.connections.clear()
        self.client().send(data)
        self.assertEqual(self.files(), {"a": b"new one"})

    def test_idle(self) -> None:
        """A client that goes silent in the middle is ended."""
        client = self.client().send(upload("a", b"x" * 100)[:-1])
        self.clock.pump([30] * 5)
        self.assertTrue(client.aborted)

    def test_hiddenUntilWhole(self) -> None:
        """Until all of a file is there and on the disk it has no name of its own."""
        storing: list[tuple[Callable[[], None], Deferred[None]]] = []

        def aside(work: Callable[[], None]) -> Deferred[None]:
            storing.append((work, Deferred()))
            return storing[-1][1]

        client = self.client(aside=aside).send(upload("a", b"x"))
        self.assertEqual([name[:1] for name in self.files()], ["."])
        # What comes meanwhile waits, and nothing more is read.
        client.send(upload("b", b"y"))
        self.assertTrue(client.paused)
        work, done = storing.pop()
        work()
        self.assertEqual(self.files(), {"a": b"x"})
        done.callback(None)
        self.assertFalse(client.paused)
        work, done = storing.pop()
        # Once all is there it is stored, even if the client leaves.
        client.lose()
        self.connections.remove(client)
        work()
        done.callback(None)
        self.assertEqual(self.files(), {"a": b"x", "b": b"y"})

    def test_diskFails(self) -> None:
        """What does not get to the disk is not stored."""

        def aside(work: Callable[[], None]) -> Deferred[None]:
            failed: Deferred[None] = Deferred()
            failed.errback(OSError(5, "Input/output error"))
            return failed

        client = self.client(aside=aside).send(upload("a", b"x"))
        self.assertBroken(client, "Input/output error")
        self.assertEqual(self.files(), {})

    def test_links(self) -> None:
        """A link of that name, or anything else that is no file, is not followed or replaced."""
        outside = tempfile.mkdtemp(dir=os.getcwd())
        os.symlink(outside, os.path.join(self.path, "link"))
        os.mkdir(os.path.join(self.path, "folder"))
        os.mkfifo(os.path.join(self.path, "fifo"))
        for name in ("link", "folder", "fifo"):
            self.refused(upload(name, b"x"), "no file")
        self.assertEqual(os.listdir(outside), [])

    @given(st.lists(st.binary(min_size=1, max_size=200), max_size=6), st.binary(max_size=60))
    def test_fuzz(self, pieces: list[bytes], header: bytes) -> None:
        """Nothing that is sent makes a connection raise, or leaves a file that is not whole."""
        clock = Clock()
        factory = UploadJsonFactory(clock, self.folder, LIMITS, aside=atOnce)
        for start in (b"", struct.pack("i", len(header)) + header):
            client = Connection(factory, clock)
            for piece in [start, *pieces]:
                if piece and client.isOpen:
                    client.send(piece)
            client.lose()
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(self.files(), {})


class DownloadTests(FolderCase):
    """Tests of tutorial-download."""

    def client(self) -> Connection:
        """A client."""
        return self.connect(DownloadFactory(self.clock, self.folder, LIMITS))

    def header(self, client: Connection) -> Any:
        """The header that came."""
        data = client.received()
        (length,) = struct.unpack("i", data[:4])
        self.assertEqual(len(data), 4 + length)
        return json.loads(data[4:])

    def error(self, name: bytes) -> str:
        """Why a file cannot be had."""
        client = self.client().send(name)
        header = self.header(client)
        self.assertEqual(list(header), ["error"])
        self.assertTrue(client.isOpen)
        return str(header["error"])

    def test_transcript(self) -> None:
        """Header, ready, bytes; and so on with the next file."""
        self.put("a.txt", b"hello")
        self.put("empty", b"")
        client = self.client().send(b"a.txt")
        text = b'{"file_size": 5, "file_name": "a.txt", "md5": "5d41402abc4b2a76b9719d911017c592"}'
        self.assertEqual(client.received(), struct.pack("<i", len(text)) + text)
        client.send(*bytewise(b"read"))
        self.assertEqual(client.received(), b"")
        self.assertEqual(client.send(b"y").received(), b"hello")
        client.send(b"empty\r\n")
        self.assertEqual(self.header(client)["file_size"], 0)
        self.assertEqual(client.send(b"ready").received(), b"")
        client.send(b"nope")
        self.assertEqual(self.header(client), {"error": "there is no such file"})
        client.send(b"a.txt\n")
        self.assertEqual(self.header(client)["file_size"], 5)
        self.assertEqual(client.send(b"readynope").received()[:5], b"hello")

    def test_large(self) -> None:
        """A large file is digested and sent in pieces, no faster than the client reads."""
        content = os.urandom(200_000)
        self.put("big", content)
        client = self.client().send(b"big")
        self.assertEqual(client.received(), b"")
        self.clock.pump([0] * 4)
        self.assertEqual(self.header(client)["md5"], md5(content))
        write = client.transport.write

        def full(data: bytes) -> None:
            write(data)
            client.protocol.pauseProducing()

        client.transport.write = full
        client.send(b"ready")
        got = client.received()
        while len(got) < len(content):
            self.assertTrue(client.paused)
            client.protocol.resumeProducing()
            piece = client.received()
            self.assertTrue(0 < len(piece) <= 65_536)
            got += piece
        self.assertEqual(got, content)
        client.protocol.resumeProducing()
        self.assertFalse(client.paused)

    def test_slowReader(self) -> None:
        """A client that reads is not idle, however long it takes; one that does not is."""
        self.put("big", bytes(200_000))
        client = self.client().send(b"big")
        self.clock.pump([0] * 4)
        client.protocol.pauseProducing()
        client.protocol.resumeProducing()
        write = client.transport.write
        client.transport.write = lambda data: (write(data), client.protocol.pauseProducing())
        client.send(b"ready")
        for _ in range(3):
            self.clock.pump([29] * 2)
            client.protocol.resumeProducing()
        self.assertTrue(client.isOpen)
        self.clock.pump([30] * 5)
        self.assertTrue(client.aborted)

    def test_confined(self) -> None:
        """Nothing but the regular files of the folder can be had."""
        outside = os.path.join(os.getcwd(), "outside")
        with open(outside, "wb") as file:
            file.write(OUTSIDE)
        os.symlink(outside, os.path.join(self.path, "link"))
        os.symlink("/etc", os.path.join(self.path, "etc"))
        os.mkfifo(os.path.join(self.path, "fifo"))
        os.mkdir(os.path.join(self.path, "folder"))
        self.put(".hidden", b"x")
        for name in (b"link", b"fifo", b"folder", b"nope", b"etc"):
            self.assertEqual(self.error(name), "there is no such file")
        for name in (b"../outside", outside.encode(), b"etc/passwd", b"folder/", b"c:\\x", b"C:x"):
            self.assertIn(self.error(name), REFUSALS)
        for name in (b".", b"..", b".hidden", b"a\0b", b"\n", b" ", b"a\nb"):
            self.assertEqual(self.error(name), "that is no name for a file here")
        self.assertEqual(self.error(b"\xff"), "the name is not UTF-8")
        self.assertIn("255", self.error(b"x" * 256))
        self.assertIn("255", self.error(b"x" * 1024))
        self.assertIn("1024", self.error(b"x" * 1025))

    def test_device(self) -> None:
        """A device is not even opened."""
        try:
            os.mknod(os.path.join(self.path, "null"), 0o20600, os.makedev(1, 3))
        except PermissionError:
            self.skipTest("only root can make a device")
        self.assertEqual(self.error(b"null"), "there is no such file")

    def test_renamedFolder(self) -> None:
        """It stays the folder that was opened, whatever stands at its path by now."""
        self.put("a", b"right")
        moved = self.path + "-moved"
        os.rename(self.path, moved)
        os.mkdir(self.path)
        self.put("a", b"wrong")
        client = self.client().send(b"a")
        self.assertEqual(self.header(client)["md5"], md5(b"right"))

    def test_shorter(self) -> None:
        """A file that becomes shorter on the way ends the connection: a client can tell."""
        path = self.put("a", b"hello")
        client = self.client().send(b"a")
        os.truncate(path, 0)
        client.received()
        client.send(b"ready")
        self.assertEqual(client.received(), b"")
        self.assertBroken(client, "shorter")

    def test_exactly(self) -> None:
        """Anything else than ready ends the connection."""
        self.put("a", b"hello")
        client = self.client().send(b"a", b"rexx")
        self.assertBroken(client, "expected ready")

    def test_http(self) -> None:
        """So does a browser."""
        self.assertBroken(self.client().send(b"GET /a HTTP/1.1\r\n\r\n"), "HTTP")

    def test_early(self) -> None:
        """What comes before its time waits."""
        self.put("big", bytes(200_000))
        client = self.client().send(b"big", b"ready")
        self.assertTrue(client.paused)
        self.clock.pump([0] * 4)
        self.assertEqual(client.received()[-100:], bytes(100))
        self.assertFalse(client.paused)

    def test_gone(self) -> None:
        """A client that goes at any time leaves no descriptor behind."""
        self.put("big", bytes(200_000))
        before = len(os.listdir("/proc/self/fd"))
        for pieces, turns in (((b"big",), 0), ((b"big",), 2), ((b"big",), 9)):
            client = self.client().send(*pieces)
            self.clock.pump([0] * turns)
            client.lose()
            self.connections.remove(client)
        client = self.client().send(b"big")
        self.clock.pump([0] * 9)
        client.send(b"ready").lose()
        self.connections.remove(client)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    @given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
    def test_fuzz(self, pieces: list[bytes]) -> None:
        """Nothing that is sent makes a connection raise."""
        self.put("a", b"x")
        clock = Clock()
        client = Connection(DownloadFactory(clock, self.folder, LIMITS), clock)
        for piece in pieces:
            if client.isOpen and not client.paused:
                client.send(piece)
                clock.advance(0)
        client.lose()
        self.assertEqual(clock.getDelayedCalls(), [])


class FolderTests(FolderCase):
    """Tests of the folder."""

    def test_made(self) -> None:
        """A folder that is missing is made, for its user alone; the one above it is not."""
        path = os.path.join(self.path, "new")
        Folder(path, file_size=1, folder_size=1, files=1).close()
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o700)
        missing = os.path.join(self.path, "no", "no")
        with self.assertRaises(FileNotFoundError):
            Folder(missing, file_size=1, folder_size=1, files=1)

    def test_shared(self) -> None:
        """A folder that others can write to is not used."""
        for mode in (0o777, 0o1777, 0o770):
            os.chmod(self.path, mode)
            with self.assertRaises(PermissionError):
                self.openFolder()
        os.chmod(self.path, 0o755)
        self.openFolder()

    def test_noFolder(self) -> None:
        """What is not a folder is none."""
        with self.assertRaises(NotADirectoryError):
            Folder(self.put("a", b""), file_size=1, folder_size=1, files=1)

    def test_leftovers(self) -> None:
        """What a killed server has left is removed at the next start; what is in use is not."""
        dead = self.put(".sockproto-dead", b"x")
        alive = self.folder.upload("a", 1, md5(b"x"))
        os.symlink("/etc/passwd", os.path.join(self.path, ".sockproto-link"))
        self.openFolder()
        self.assertFalse(os.path.exists(dead))
        alive.write(b"x")
        alive.publish()
        alive.drop()
        self.assertEqual(self.files(), {"a": b"x"})

    def test_locked(self) -> None:
        """An upload under way is locked, which is how the next start can tell."""
        self.folder.upload("a", 1, md5(b"x"))
        (name,) = self.files()
        with open(os.path.join(self.path, name), "rb") as file:
            self.assertRaises(BlockingIOError, fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @given(st.text(max_size=300))
    def test_anyName(self, text: str) -> None:
        """Whatever a client says, a name is one component, and visible."""
        try:
            name = base_name(text)
        except Unavailable:
            return
        self.assertTrue(name and not name.startswith("."))
        self.assertFalse(set(name) & set("/\\\0\n"))
        self.assertLessEqual(len(os.fsencode(name)), 255)
