"""What the tests of the tutorial dialects share: connections in memory, fake commands, a folder."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, implementer

from sockproto.interfaces import IChannel, IChannelService
from sockproto.limits import Limits
from sockproto.services.open import OpenFactory
from sockproto.services.tutorial.folder import Folder
from sockproto.wire.commands import CommandRequest

PEER = IPv4Address("TCP", "127.0.0.1", 40_000)
#: Idle after 60 to 90 seconds.
LIMITS = Limits(idle_seconds=60)


class FakeServed:
    """A command that runs until the test says otherwise."""

    def __init__(self, channel: IChannel, argv: tuple[bytes, ...]) -> None:
        self.channel = channel
        self.argv = argv
        self.said: list[str] = []

    def cancelled(self) -> None:
        self.said.append("cancelled")

    def connectionLost(self) -> None:
        self.said.append("lost")

    def end(self, stdout: bytes = b"", stderr: bytes = b"", **result: Any) -> None:
        """The command writes this, and ends."""
        for stream, data in ((1, stdout), (2, stderr)):
            while data:
                room = self.channel.sendable(stream)
                self.channel.write(stream, data[:room])
                data = data[room:]
            self.channel.end(stream)
        self.channel.close({"exit_status": 0, **result})


@implementer(IChannelService)
class FakeCommands:
    """The service ``command``: what it is asked for runs as the test says.

    :param outputs: by the name of the command, what it writes to stdout and stderr; it then ends
        at once. A command that is not among them runs on.
    """

    def __init__(self, outputs: Mapping[bytes, tuple[bytes, bytes]] | None = None) -> None:
        self.outputs = dict(outputs or {})
        self.served: list[FakeServed] = []

    def open(self, channel: IChannel, request: Mapping[str, Any]) -> Any:
        asked = CommandRequest.decode(request)
        if asked.argv[0] == b"no":
            channel.reject("refused", "'no' is not allowed")
            return None
        served = FakeServed(channel, asked.argv)
        self.served.append(served)
        if asked.argv[0] in self.outputs:
            served.end(*self.outputs[asked.argv[0]])
        return served


class Connection:
    """A client's side of a connection in memory, over TCP as far as the server can tell."""

    def __init__(self, factory: OpenFactory, clock: Clock) -> None:
        self.clock = clock
        self.protocol: Any = factory.buildProtocol(PEER)
        assert self.protocol is not None
        transport = StringTransport(peerAddress=PEER)
        directlyProvides(transport, ITCPTransport)
        self.transport: Any
        self.transport = transport
        self.noDelay = False
        self.transport.setTcpNoDelay = self._setTcpNoDelay
        self.transport.abortConnection = self._abort
        self.aborted = False
        self.protocol.makeConnection(self.transport)

    def _setTcpNoDelay(self, enabled: bool) -> None:
        self.noDelay = enabled

    def _abort(self) -> None:
        self.aborted = True

    def send(self, *pieces: bytes) -> Connection:
        """Send, each piece in a read of its own, as long as the server reads."""
        for piece in pieces:
            assert not self.paused, "the server does not read"
            if not (self.closed or self.aborted):
                self.protocol.dataReceived(piece)
        return self

    def received(self) -> bytes:
        """What has come since the last call."""
        data = bytes(self.transport.value())
        self.transport.clear()
        return data

    @property
    def paused(self) -> bool:
        """Whether the server does not read."""
        return bool(self.transport.producerState == "paused")

    @property
    def closed(self) -> bool:
        """Whether the server has closed."""
        return bool(self.transport.disconnecting)

    @property
    def isOpen(self) -> bool:
        return not (self.closed or self.aborted)

    def lose(self) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class DialectCase(SynchronousTestCase):
    """A test of dialects in memory, and what was logged."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.commands = FakeCommands({b"ls": (b"a\nb\n", b""), b"true": (b"", b"")})
        self.connections: list[Connection] = []
        self.events: list[Any] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.addCleanup(self.noTimersLeft)

    def noTimersLeft(self) -> None:
        """Once its connections are gone a factory waits for nothing."""
        for connection in self.connections:
            connection.lose()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def connect(self, factory: OpenFactory) -> Connection:
        """A connection to a factory."""
        connection = Connection(factory, self.clock)
        self.connections.append(connection)
        return connection

    def complaints(self) -> list[str]:
        """What was logged of what peers did wrong."""
        return [event["reason"] for event in self.events if "reason" in event]

    def messages(self) -> list[str]:
        """The messages that were logged."""
        return [event["text"] for event in self.events if "text" in event]

    def assertBroken(self, connection: Connection, reason: str = "") -> None:
        """The server has closed, and said why in one line."""
        self.assertFalse(connection.isOpen)
        complaints = self.complaints()
        self.assertEqual(len(complaints), 1, complaints)
        self.assertIn(reason, complaints[0])


class FolderCase(DialectCase):
    """A test with a folder."""

    def setUp(self) -> None:
        super().setUp()
        # Not mktemp(): a test's own folder, and one that others cannot write to, whatever umask.
        self.path = tempfile.mkdtemp(prefix="sp-", dir=os.getcwd())
        self.folder = self.openFolder()

    def openFolder(self, **limits: int) -> Folder:
        """Open the folder with other limits."""
        figures = {"file_size": 200_000, "folder_size": 500_000, "files": 10, **limits}
        folder = Folder(self.path, **figures)
        self.addCleanup(folder.close)
        return folder

    def put(self, name: str, content: bytes) -> str:
        """A file in the folder; its path."""
        path = os.path.join(self.path, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def files(self) -> dict[str, bytes]:
        """All regular files of the folder, hidden ones too."""
        found = {}
        for name in os.listdir(self.path):
            path = os.path.join(self.path, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as file:
                    found[name] = file.read()
        return found


def atOnce(work: Callable[[], None]) -> Deferred[None]:
    """Do at once what a server would do in a thread."""
    done: Deferred[None] = Deferred()
    try:
        work()
    except BaseException:
        done.errback(Failure())
    else:
        done.callback(None)
    return done


def bytewise(data: bytes) -> list[bytes]:
    """Bytes one by one."""
    return [data[place : place + 1] for place in range(len(data))]
