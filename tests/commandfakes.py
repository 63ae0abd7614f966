"""What the tests of the agent's connections and commands share: fakes, and a client of frames."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor, IWriteDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.auth.principal import Principal
from sockproto.auth.transport import AuthenticatedTransport
from sockproto.interfaces import IChannel, IRunObserver
from sockproto.limits import Limits
from sockproto.services.command.processes import Run, Spawn
from sockproto.services.command.processes_pipes import make_pipes
from sockproto.session.factory import AgentFactory
from sockproto.wire.client_channels import ClientChannels
from sockproto.wire.events import ChannelClosed, DataReceived, Event
from sockproto.wire.frames import FrameDecoder
from sockproto.wire.handshake import Binding, Login
from sockproto.wire.messages import FrameType, pack_json
from sockproto.wire.settings import PING_FEATURE, Settings

LOGIN = Login(
    "test-key", "tester@here", "agent", "web1", bytes(range(16)), "cafe0123", Binding.NONE
)
PRINCIPAL = Principal("ops", ("monitoring",), LOGIN, "192.0.2.7", "192.0.2.7:4711")


def openDescriptors() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


@implementer(IReactorFDSet)
class PollingReactor(Clock):
    """A clock that also watches descriptors, and looks at them only when it is told to.

    Unlike a real reactor it never waits, so nothing depends on time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[IReadDescriptor, None] = {}
        self.writers: dict[IWriteDescriptor, None] = {}

    def addReader(self, reader: IReadDescriptor) -> None:
        assert reader.fileno() >= 0
        self.readers[reader] = None

    def removeReader(self, reader: IReadDescriptor) -> None:
        self.readers.pop(reader, None)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        assert writer.fileno() >= 0
        self.writers[writer] = None

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        self.writers.pop(writer, None)

    def removeAll(self) -> list[Any]:
        raise AssertionError("nobody asks for this")

    def getReaders(self) -> list[IReadDescriptor]:
        return list(self.readers)

    def getWriters(self) -> list[IWriteDescriptor]:
        return list(self.writers)

    def poll(self) -> None:
        """Look at every descriptor once, as select(2) would: at what is there and at ends."""
        found = select.select(list(self.readers), list(self.writers), [], 0)
        for reader in found[0]:
            if reader in self.readers:
                reader.doRead()
        for writer in found[1]:
            if writer in self.writers:
                writer.doWrite()

    def settle(self, rounds: int = 200) -> None:
        """Poll until nothing is to be had, at most so many times; then what is due at once."""
        for _ in range(rounds):
            found = select.select(list(self.readers), list(self.writers), [], 0)
            if not any(found):
                break
            self.poll()
        self.advance(0)


@implementer(IChannel)
class FakeChannel:
    """Records what a service says, with credit as the test gives it."""

    def __init__(self, credit: int = 1 << 20, principal: Principal = PRINCIPAL) -> None:
        self.principal = principal
        self.free = True
        self.credit = {1: credit, 2: credit}
        self.said: list[tuple[Any, ...]] = []
        self.data = {1: b"", 2: b""}
        self.turns: dict[Callable[[], bool], None] = {}
        self.passedOn = 0

    def ready(self, turn: Callable[[], bool]) -> None:
        self.turns[turn] = None
        if self.free:
            self.takeTurns()

    def takeTurns(self) -> None:
        """Give everybody who is queued their turns."""
        while self.turns:
            turn = next(iter(self.turns))
            del self.turns[turn]
            if turn():
                self.turns[turn] = None

    def withdraw(self, turn: Callable[[], bool]) -> None:
        self.turns.pop(turn, None)

    def accept(self, reply: Mapping[str, Any]) -> None:
        self.said.append(("accept", reply))

    def reject(self, code: str, message: str) -> None:
        self.said.append(("reject", code, message))

    def sendable(self, stream: int) -> int:
        return min(self.credit[stream], 65_536)

    def write(self, stream: int, data: bytes) -> None:
        assert 0 < len(data) <= self.sendable(stream)
        self.credit[stream] -= len(data)
        self.data[stream] += data

    def end(self, stream: int) -> None:
        self.said.append(("end", stream))

    def consumed(self, count: int) -> None:
        self.passedOn += count

    def stop(self) -> None:
        self.said.append(("stop",))

    def control(self, body: Mapping[str, Any]) -> None:
        self.said.append(("control", body))

    def close(self, result: Mapping[str, Any]) -> None:
        self.said.append(("close", result))

    def fail(self, code: str, message: str) -> None:
        self.said.append(("fail", code, message))


class FakeRun(Run):
    """A run whose child is the test, at the other ends of its pipes."""

    def __init__(self, spec: Spawn, observer: IRunObserver) -> None:
        ours, theirs = make_pipes(spec.stdin)
        super().__init__(*ours)
        self.spec = spec
        self.observer = observer
        self.childInput = theirs[0] if spec.stdin else None
        self.childOutput, self.childError = theirs[-2:]
        self.said: list[str] = []

    def signal(self, name: str) -> None:
        if name == "NOPE":
            raise ValueError("there is no such signal")
        self.said.append(name)

    def end(self) -> None:
        self.said.append("end")

    def closeChild(self) -> None:
        """The child's descriptors are closed, as by its exit."""
        ends = (self.childInput, self.childOutput, self.childError)
        self.childInput = None
        self.childOutput = self.childError = -1
        for descriptor in ends:
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)

    def exit(self, status: int | None = 0, signal: str | None = None) -> None:
        """The child exits, and leaves nothing behind."""
        self.closeChild()
        self.observer.exited(status, signal)
        self.observer.gone()


class FakeHost:
    """A process host without processes."""

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []

    def spawn(self, spec: Spawn, observer: IRunObserver) -> Run:
        self.runs.append(FakeRun(spec, observer))
        return self.runs[-1]

    def closeChildren(self) -> None:
        for run in self.runs:
            run.closeChild()


class _Transport(StringTransport):
    """A string transport that tells of an abort, and is not gone at once."""

    def __init__(self, abort: Callable[[], None]) -> None:
        super().__init__()
        self._abort = abort

    def abortConnection(self) -> None:
        self._abort()


class Wire:
    """A client's side of an agent connection, by frames, and the transport between."""

    def __init__(
        self,
        services: Mapping[str, Any],
        limits: Limits | None = None,
        clock: Clock | None = None,
        features: tuple[str, ...] = (PING_FEATURE,),
        settings: bool = True,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.factory = AgentFactory(self.clock, services, limits)
        protocol = self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 4711))
        assert protocol is not None
        self.protocol: Any = protocol
        self.transport: Any = _Transport(self._abort)
        self.aborted = False
        self.machine = ClientChannels(Settings(256 * 1024, features=features))
        self._decoder = FrameDecoder(1 << 20)
        self.protocol.makeConnection(AuthenticatedTransport(self.transport, PRINCIPAL))
        if settings:
            self.send(self.machine.send_settings())
            self.events()

    def _abort(self) -> None:
        self.aborted = True

    @property
    def producer(self) -> Any:
        return self.transport.producer

    def send(self, *frames: bytes) -> None:
        """Send frames, together."""
        self.protocol.dataReceived(b"".join(frames))

    def open(self, out: int = 1 << 20, err: int = 1 << 20, **request: Any) -> int:
        """OPEN a channel."""
        request.setdefault("service", "command")
        channel, frame = self.machine.open(request, out, err)
        self.send(frame)
        return channel

    def sendRaw(self, kind: FrameType, channel: int, **body: Any) -> None:
        """A JSON frame that the client's machine would not send."""
        self.send(pack_json(kind, channel, body))

    def frames(self) -> list[bytes]:
        """What has come since the last call, as it is."""
        self._decoder.feed(self.transport.value())
        self.transport.clear()
        found = []
        while (frame := self._decoder.next_frame()) is not None:
            found.append(frame)
        return found

    def events(self) -> list[Event]:
        """What has come since the last call, as what it means."""
        found = []
        for frame in self.frames():
            event = self.machine.receive(frame)
            if event is not None:
                found.append(event)
        return found

    def data(self) -> dict[tuple[int, int], bytes]:
        """The data that has come since the last call, by channel and stream."""
        found: dict[tuple[int, int], bytes] = {}
        for event in self.events():
            if isinstance(event, DataReceived):
                where = (event.channel, event.stream)
                found[where] = found.get(where, b"") + event.data
        return found

    def closed(self) -> list[tuple[int, Mapping[str, Any]]]:
        """The channels that were closed since the last call."""
        return [(e.channel, e.result) for e in self.events() if isinstance(e, ChannelClosed)]

    def lose(self) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(ConnectionDone()))
