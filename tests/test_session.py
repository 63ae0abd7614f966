"""Tests of the server's side of an agent connection: frames in, frames out, and its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from sockproto.interfaces import IChannel, IChannelService, IDroppable, IServedChannel
from sockproto.limits import Limits
from sockproto.session.channel import ServerChannel
from sockproto.session.keepalive import keep_alive
from sockproto.wire.commands import InvalidRequest
from sockproto.wire.events import (
    ChannelAccepted,
    ChannelClosed,
    ChannelRejected,
    ControlReceived,
    CreditReceived,
    DataReceived,
    EndReceived,
    GoingAway,
    PingReceived,
    PongReceived,
    SettingsReceived,
    StopReceived,
)
from sockproto.wire.messages import FrameType, decode_goaway, pack, pack_credit, pack_stream
from tests.commandfakes import Wire

OPEN = FrameType.OPEN
INTERNAL = {
    "error": {"code": "internal", "message": "the server made a mistake; its log says which"}
}


@implementer(IServedChannel)
class Served:
    """The server's end of a channel: records what it hears, and fails where it is told to."""

    def __init__(self, channel: IChannel, number: int) -> None:
        self.channel = channel
        self.number = number
        self.heard: list[tuple[Any, ...]] = []
        self.failing: set[str] = set()

    def _hear(self, what: str, *args: Any) -> None:
        self.heard.append((what, *args))
        if what in self.failing:
            raise ValueError("a secret of the server")

    def dataReceived(self, data: bytes) -> None:
        self._hear("data", data)

    def endReceived(self) -> None:
        self._hear("end")

    def stopReceived(self, stream: int) -> None:
        self._hear("stop", stream)

    def creditReceived(self, stream: int) -> None:
        self._hear("credit", stream)

    def controlReceived(self, body: Mapping[str, Any]) -> None:
        self._hear("control", body)

    def cancelled(self) -> None:
        self._hear("cancel")

    def connectionLost(self) -> None:
        self._hear("lost")

    def send(self, stream: int, count: int) -> None:
        """Queue so many bytes of a stream, a full frame each turn."""
        left = count

        def turn() -> bool:
            nonlocal left
            room = min(left, self.channel.sendable(stream))
            if room:
                self.channel.write(stream, bytes([48 + self.number % 10]) * room)
                left -= room
            return left > 0 and room > 0

        self.channel.ready(turn)


@implementer(IChannelService)
class Service:
    """Takes every channel; ``how`` in the request says what it does with it."""

    def __init__(self) -> None:
        self.served: list[Served] = []

    def open(self, channel: IChannel, request: Mapping[str, Any]) -> IServedChannel | None:
        how = request.get("how", "accept")
        if how == "reject":
            channel.reject("refused", "no" * 1000)
            return None
        if how == "invalid":
            raise InvalidRequest("not so" * 100)
        if how == "accept and invalid":
            channel.accept({})
            raise InvalidRequest("not so")
        if how == "reject and invalid":
            channel.reject("refused", "no")
            raise InvalidRequest("not so")
        if how == "raise":
            raise ValueError("a secret of the server")
        if how == "accept and raise":
            channel.accept({})
            raise ValueError("a secret of the server")
        if how == "reject and raise":
            channel.reject("refused", "no")
            raise ValueError("a secret of the server")
        self.served.append(Served(channel, len(self.served) + 1))
        if how == "accept":
            channel.accept({})
        if how == "much":
            channel.accept({"much": "x" * 70_000})
        return self.served[-1]


class SessionTests(SynchronousTestCase):
    """A session with a fake service."""

    def setUp(self) -> None:
        self.service = Service()
        self.wire = self.connect()

    def connect(self, limits: Limits | None = None, **settings: Any) -> Wire:
        self.wire = Wire({"test": self.service}, limits, **settings)
        return self.wire

    def open(self, **request: Any) -> tuple[int, Served]:
        """A channel that was opened, and its server's end."""
        channel = self.wire.open(service="test", **request)
        return channel, self.service.served[-1]

    def expectEnd(self, code: str, aborted: bool = False) -> None:
        """The last word was GOAWAY with this code; the connection is being closed, everything
        on it was told, and no timer but that of the close is left."""
        *_, last = self.wire.frames()
        self.assertEqual(last[:5], b"\x0d\0\0\0\0")
        self.assertEqual(decode_goaway(last[5:])[1], code)
        self.assertEqual(self.wire.aborted, aborted)
        self.assertTrue(self.wire.transport.disconnecting)
        self.assertIsNone(self.wire.transport.producer)
        for served in self.service.served:
            self.assertEqual(served.heard[-1], ("lost",))
        self.assertEqual(len(self.wire.clock.getDelayedCalls()), 1)

    # The connection

    def test_interfaces(self) -> None:
        """The session can be dropped; its channels are what services expect."""
        self.assertTrue(verifyObject(IDroppable, self.wire.protocol))
        _, served = self.open()
        self.assertTrue(verifyObject(IChannel, served.channel))
        self.assertTrue(verifyClass(IChannel, ServerChannel, tentative=True))
        self.assertTrue(verifyObject(IServedChannel, served))
        self.assertTrue(verifyObject(IChannelService, self.service))

    def test_settings(self) -> None:
        """The server announces what it takes, first thing."""
        wire = self.connect(Limits(frame=100_000, channels=512), settings=False)
        self.assertEqual(wire.events(), [SettingsReceived()])
        assert wire.machine.peer is not None
        self.assertEqual(
            (wire.machine.peer.max_frame, wire.machine.peer.max_channels),
            (100_000, 512),
        )
        self.assertEqual((wire.machine.peer.credit, wire.machine.peer.features), (2048, ("test",)))

    def test_ping(self) -> None:
        """A PING is answered."""
        self.wire.send(self.wire.machine.send_ping(b"12345678"))
        self.assertEqual(self.wire.events(), [PongReceived()])

    def test_protocolErrors(self) -> None:
        """What the protocol does not allow ends the connection, with a last word that says why."""
        open1 = pack(OPEN, 1, b'{"service":"test","credit":{}}')
        for frame, code in (
            (b"\0\0\0\x01\x05", "protocol"),
            (pack(FrameType.OPEN, 1, b"{"), "protocol"),
            (pack(FrameType.OPEN, 1, b"[]"), "protocol"),
            (pack(FrameType.OPEN, 0, b'{"credit":{}}'), "protocol"),
            (pack(FrameType.OPEN, 1, b'{"credit":{"1":-1}}'), "protocol"),
            (open1 + open1, "protocol"),
            (pack_stream(FrameType.END, 7, 0), "protocol"),
            (open1 + pack_stream(FrameType.DATA, 1, 1, 1) + b"x", "protocol"),
            (open1 + pack_stream(FrameType.DATA, 1, 0, 4097) + bytes(4097), "credit"),
            (open1 + pack_credit(1, 1, 0), "credit"),
            (open1 + pack_stream(FrameType.END, 1, 0) * 2, "protocol"),
            (pack(FrameType.PONG, 0, bytes(8)), "protocol"),
            (pack(FrameType.ACCEPT, 1, b"{}"), "protocol"),
            (b"\x00\x02\x00\x01", "too-long"),
            (b"\xff\xff\xff\xff", "too-long"),
        ):
            with self.subTest(frame=frame[:20], code=code):
                self.setUp()
                self.wire.send(frame)
                self.expectEnd(code)
                # Nothing is heard any longer.
                self.wire.send(pack(FrameType.PING, 0, bytes(8)))
                self.assertEqual(self.wire.transport.value(), b"")

    def test_firstFrame(self) -> None:
        """A client has to begin with SETTINGS."""
        wire = self.connect(settings=False)
        wire.send(pack(FrameType.PING, 0, bytes(8)))
        self.expectEnd("protocol")

    def test_unknownTypes(self) -> None:
        """Types from 0x80 up are ignored."""
        self.wire.send(b"\0\0\0\x06\x80\0\0\0\0x")
        self.assertEqual(self.wire.events(), [])
        self.assertFalse(self.wire.transport.disconnecting)

    def test_stuckClose(self) -> None:
        """A close that the peer does not let happen is an abort after a while."""
        self.wire.send(b"\xff\xff\xff\xff")
        self.wire.clock.advance(4.9)
        self.assertFalse(self.wire.aborted)
        self.wire.clock.advance(0.1)
        self.assertTrue(self.wire.aborted)
        self.wire.lose()
        self.assertEqual(self.wire.factory.sessions, set())

    def test_lost(self) -> None:
        """A connection that is gone: its channels are told, once, and nothing is left."""
        _, first = self.open()
        _, second = self.open(how="accept")
        self.assertEqual(self.wire.factory.sessions, {self.wire.protocol})
        empty = self.wire.factory.whenEmpty()
        self.assertNoResult(empty)
        self.wire.lose()
        self.assertEqual((first.heard, second.heard), ([("lost",)], [("lost",)]))
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])
        self.assertIsNone(self.successResultOf(empty))
        self.assertTrue(self.wire.factory.whenEmpty().called)
        # Whoever comes late does no harm.
        first.channel.close({"exit_status": 0})
        second.channel.end(1)
        self.wire.protocol.drop("revoked", "too late")
        self.wire.protocol.goAway("shutdown", "too late")
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_lostAndRaising(self) -> None:
        """A service that raises when the connection is lost does not keep the others from
        hearing it."""
        _, first = self.open()
        _, second = self.open()
        first.failing.add("lost")
        self.wire.lose()
        self.assertEqual(second.heard, [("lost",)])
        self.assertEqual(self.wire.factory.sessions, set())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_drop(self) -> None:
        """A session whose key is not valid any longer is closed, and what runs on it told."""
        self.open()
        self.wire.protocol.drop("revoked", "the key was revoked")
        self.expectEnd("revoked")

    # Silence

    def test_idle(self) -> None:
        """A silent client is asked; without an answer the connection is cut."""
        self.wire.clock.advance(60)
        (ping,) = self.wire.events()
        assert isinstance(ping, PingReceived)
        self.wire.send(self.wire.machine.send_pong(ping.payload))
        self.wire.clock.advance(60)
        self.assertIsInstance(self.wire.events()[0], PingReceived)
        self.wire.clock.advance(59)
        self.assertFalse(self.wire.aborted)
        self.wire.clock.advance(1)
        self.expectEnd("idle", aborted=True)

    def test_notAnswering(self) -> None:
        """A client that says other things is there; once it is silent as well it is cut off."""
        self.wire.clock.advance(60)
        for _ in range(5):
            self.wire.send(b"\0\0\0\x05\x80\0\0\0\0")
            self.wire.clock.advance(60)
        self.assertFalse(self.wire.aborted)
        self.wire.clock.advance(60)
        self.expectEnd("idle", aborted=True)

    def test_notAsked(self) -> None:
        """A client that does not read all the time is not asked, nor cut off."""
        wire = self.connect(features=())
        wire.clock.pump([60] * 100)
        self.assertEqual((wire.events(), wire.aborted), ([], False))

    def test_neverSpoke(self) -> None:
        """A client that logs in and says nothing at all is cut off."""
        wire = self.connect(settings=False)
        wire.clock.advance(60)
        self.expectEnd("idle", aborted=True)

    # Channels

    def test_answers(self) -> None:
        """ACCEPT, REJECT, or an error of the channel alone, by code; nothing of an exception."""
        for how, expected in (
            ("accept", [ChannelAccepted(1, {})]),
            ("reject", [ChannelRejected(1, "refused", ("no" * 1000)[:256])]),
            ("invalid", [ChannelRejected(1, "invalid", ("not so" * 100)[:256])]),
            (
                "accept and invalid",
                [
                    ChannelAccepted(1, {}),
                    ChannelClosed(1, {"error": {"code": "invalid", "message": "not so"}}),
                ],
            ),
            ("reject and invalid", [ChannelRejected(1, "refused", "no")]),
            ("raise", [ChannelRejected(1, "internal", INTERNAL["error"]["message"])]),
            ("accept and raise", [ChannelAccepted(1, {}), ChannelClosed(1, INTERNAL)]),
            ("reject and raise", [ChannelRejected(1, "refused", "no")]),
        ):
            with self.subTest(how=how):
                wire = self.connect()
                wire.open(service="test", how=how)
                self.assertEqual(wire.events(), expected)
                self.flushLoggedErrors(ValueError)
                self.assertFalse(wire.transport.disconnecting)

    def test_unknownService(self) -> None:
        """A service that is not there is the channel's error."""
        for name in ("nosuch", 7, None, ["test"]):
            with self.subTest(name=name):
                wire = self.connect()
                wire.open(service=name)
                self.assertEqual(
                    wire.events(), [ChannelRejected(1, "unknown", "no such service of the agent")]
                )

    def test_tooMany(self) -> None:
        """Beyond the limit of channels a new one is refused; one that is over makes room."""
        wire = self.connect(Limits(channels=2))
        _, first = self.open()
        self.open()
        wire.open(service="test")
        *_, last = wire.events()
        assert isinstance(last, ChannelRejected)
        self.assertEqual(last.code, "busy")
        first.channel.close({"exit_status": 0})
        self.open()
        self.assertIsInstance(wire.events()[-1], ChannelAccepted)

    def test_everything(self) -> None:
        """A channel's service hears all that the client says, in order, and what it says arrives
        in order."""
        channel, served = self.open()
        machine = self.wire.machine
        self.wire.send(
            machine.send_data(channel, 0, 5) + b"hello",
            machine.send_control(channel, {"signal": "INT"}),
            machine.send_credit(channel, 1, 10),
            machine.send_stop(channel, 2),
            machine.send_end(channel, 0),
            machine.cancel(channel),
        )
        self.assertEqual(
            served.heard,
            [
                ("data", b"hello"),
                ("control", {"signal": "INT"}),
                ("credit", 1),
                ("stop", 2),
                ("end",),
                ("cancel",),
            ],
        )
        other, served = self.open()
        self.wire.events()
        served.channel.write(1, b"out")
        served.channel.control({"x": 1})
        served.channel.write(2, b"err")
        served.channel.end(1)
        served.channel.stop()
        served.channel.end(2)
        served.channel.close({"exit_status": 0})
        self.assertEqual(
            self.wire.events(),
            [
                DataReceived(other, 1, b"out"),
                ControlReceived(other, {"x": 1}),
                DataReceived(other, 2, b"err"),
                EndReceived(other, 1),
                StopReceived(other, 0),
                EndReceived(other, 2),
                ChannelClosed(other, {"exit_status": 0}),
            ],
        )

    def test_cancelledBeforeAccept(self) -> None:
        """A channel that is cancelled before it was accepted gets no ACCEPT, and its CLOSE."""
        channel, served = self.open(how="wait")
        self.wire.send(self.wire.machine.cancel(channel))
        served.channel.accept({})
        served.channel.end(1)
        served.channel.consumed(1)
        served.channel.stop()
        served.channel.control({})
        self.assertEqual(served.channel.sendable(1), 0)
        served.channel.fail("not-found", "no such program")
        self.assertEqual(
            self.wire.closed(),
            [(channel, {"error": {"code": "not-found", "message": "no such program"}})],
        )

    def test_raising(self) -> None:
        """A service that raises, whatever it heard: its channel ends as ``internal``, the others
        stay, the log has it all and the peer nothing."""
        machine = self.wire.machine
        for what, frame in (
            ("data", lambda channel: machine.send_data(channel, 0, 1) + b"x"),
            ("end", lambda channel: machine.send_end(channel, 0)),
            ("control", lambda channel: machine.send_control(channel, {})),
            ("credit", lambda channel: machine.send_credit(channel, 1, 1)),
            ("stop", lambda channel: machine.send_stop(channel, 1)),
            ("cancel", machine.cancel),
        ):
            for alsoAtEnd in (False, True):
                with self.subTest(what=what, alsoAtEnd=alsoAtEnd):
                    channel, served = self.open()
                    self.wire.events()
                    served.failing = {what, "lost"} if alsoAtEnd else {what}
                    self.wire.send(frame(channel))
                    self.assertEqual(self.wire.closed(), [(channel, INTERNAL)])
                    self.assertEqual(served.heard[-1], ("lost",))
                    self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2 if alsoAtEnd else 1)
        _, served = self.open()
        self.assertEqual(served.heard, [])
        self.assertFalse(self.wire.transport.disconnecting)

    def test_raisingInTurn(self) -> None:
        """A service that raises in its turn, which another's frame or the transport brought about:
        its own channel ends, and the transport does not hear of it."""
        channel, served = self.open()
        other, fine = self.open()
        self.wire.events()
        self.wire.producer.pauseProducing()

        def turn() -> bool:
            raise ValueError("a secret of the server")

        served.channel.ready(turn)
        fine.send(1, 3)
        self.wire.producer.resumeProducing()
        self.assertEqual(
            self.wire.events(),
            [ChannelClosed(channel, INTERNAL), DataReceived(other, 1, b"222")],
        )
        self.assertEqual((served.heard, fine.heard), ([("lost",)], []))
        self.flushLoggedErrors(ValueError)

    # Turns and credit

    def test_fatAndThin(self) -> None:
        """Channels take turns of a frame each while the transport takes bytes."""
        credit = 1 << 20
        fat, fatServed = self.open(out=credit)
        thin, thinServed = self.open(out=credit)
        self.wire.events()
        self.wire.producer.pauseProducing()
        fatServed.send(1, 4 * 65_536)
        fatServed.send(2, 65_536)
        thinServed.send(1, 100)
        self.assertEqual(self.wire.events(), [])
        self.wire.producer.resumeProducing()
        events = self.wire.events()
        self.assertEqual(
            [(e.channel, e.stream, len(e.data)) for e in events if isinstance(e, DataReceived)],
            [(fat, 1, 65_536), (fat, 2, 65_536), (thin, 1, 100)] + 3 * [(fat, 1, 65_536)],
        )

    def test_paused(self) -> None:
        """While the transport has enough nothing but answers is written; a channel that ends
        meanwhile leaves nothing behind."""
        channel, served = self.open()
        self.wire.events()
        self.wire.producer.pauseProducing()
        self.assertFalse(served.channel.free)
        served.send(1, 10)
        served.channel.withdraw(lambda: True)
        self.wire.send(self.wire.machine.send_ping(bytes(8)))
        self.assertEqual(self.wire.events(), [PongReceived()])
        self.wire.producer.resumeProducing()
        self.assertEqual(self.wire.data(), {(channel, 1): b"1" * 10})

    def test_credit(self) -> None:
        """No more is written than there is credit for, and no frame is longer than 64 KiB or
        than the client takes."""
        _, served = self.open(out=100, err=70_000)
        self.assertEqual((served.channel.sendable(1), served.channel.sendable(2)), (100, 65_536))
        served.send(1, 1000)
        self.assertEqual(served.channel.sendable(1), 0)
        wire = self.connect(settings=False)
        wire.send(pack(FrameType.SETTINGS, 0, json.dumps({"max_frame": 4096}).encode()))
        wire.events()
        _, served = self.open()
        self.assertEqual(served.channel.sendable(1), 4096 - 6)

    def test_inputCredit(self) -> None:
        """Stream 0 has a small credit from the start, more as it is used, and all of it is free
        for the others when the channel is over."""
        channel, served = self.open(how="wait")
        machine, pool = self.wire.machine, self.wire.protocol.inputPool
        whole = pool.free
        self.assertEqual(machine.sendable(channel, 0), 4096)
        self.wire.send(machine.send_data(channel, 0, 4096) + bytes(4096))
        served.channel.accept({})
        served.channel.consumed(4096)
        self.assertEqual(self.wire.events()[1:], [CreditReceived(channel, 0)])
        self.assertEqual(machine.sendable(channel, 0), 8192)
        self.assertEqual(pool.free, whole - 4096)
        served.channel.close({})
        self.assertEqual(pool.free, whole)

    def test_inputEnded(self) -> None:
        """An input that has ended and was read holds no share, while its command runs on; nor
        does one that is not wanted."""
        for how in ("end", "stop"):
            with self.subTest(how=how):
                channel, served = self.open()
                machine, pool = self.wire.machine, self.wire.protocol.inputPool
                whole = pool.free
                self.wire.send(machine.send_data(channel, 0, 4096) + bytes(4096))
                served.channel.consumed(4000)
                self.assertLess(pool.free, whole)
                if how == "end":
                    self.wire.send(machine.send_end(channel, 0))
                    self.assertLess(pool.free, whole)
                    served.channel.consumed(96)
                else:
                    served.channel.stop()
                self.assertEqual(pool.free, whole)

    def test_inputNotRead(self) -> None:
        """A command that does not read gets no more, and all channels together at most 2 MiB."""
        total = 0
        machine = self.wire.machine
        for _ in range(256):
            channel, served = self.open()
            for _ in range(20):
                count = machine.sendable(channel, 0)
                self.wire.send(machine.send_data(channel, 0, count) + bytes(count))
                served.channel.consumed(count)
                self.wire.events()
            while count := machine.sendable(channel, 0):
                self.wire.send(machine.send_data(channel, 0, count) + bytes(count))
                total += count
        self.assertTrue(1 << 20 < total <= 2 << 20, total)

    # Those who do not read

    def test_flood(self) -> None:
        """A client that asks and does not read the answers is cut off at 64 KiB of them."""
        self.open()
        self.wire.producer.pauseProducing()
        ping = pack(FrameType.PING, 0, bytes(8))
        self.wire.send(ping * (65_536 // len(ping)))
        self.assertFalse(self.wire.aborted)
        self.wire.send(ping)
        self.expectEnd("flood", aborted=True)

    def test_noFlood(self) -> None:
        """A client that reads may ask for ever, although the transport is never found empty: what
        counts is what was written since it last took bytes."""
        self.open()
        ping = pack(FrameType.PING, 0, bytes(8))
        for _ in range(100):
            self.wire.producer.pauseProducing()
            self.wire.send(ping * 1000)
            self.wire.producer.resumeProducing()
            self.wire.transport.clear()
        self.assertFalse(self.wire.transport.disconnecting)

    def test_floodWhileOpening(self) -> None:
        """A channel whose very ACCEPT is too much: its service is told that nobody is there."""
        self.wire.producer.pauseProducing()
        _, served = self.open(how="much")
        self.assertEqual(served.heard, [("lost",)])
        self.expectEnd("flood", aborted=True)

    def test_floodOfClosedChannels(self) -> None:
        """Channels that come and go while the client does not read leave nothing in the queue."""
        self.wire.producer.pauseProducing()
        for _ in range(200):
            channel, served = self.open()

            def turn() -> bool:
                return False

            served.channel.ready(turn)
            self.wire.send(self.wire.machine.cancel(channel))
            served.channel.withdraw(turn)
            served.channel.close({})
        self.assertEqual(len(self.wire.protocol.turns._queue), 0)

    # Going away

    def test_goAway(self) -> None:
        """A server that goes away takes no new channels, lets the open ones finish, and then
        closes."""
        channel, served = self.open()
        self.wire.events()
        stale = self.wire.machine.open({"service": "test"}, 0, 0)[1]
        self.wire.protocol.goAway("shutdown", "the server is shutting down")
        (event,) = self.wire.events()
        self.assertEqual(event, GoingAway(channel, "shutdown", "the server is shutting down"))
        self.wire.send(stale)
        self.assertEqual(len(self.service.served), 1)
        self.assertFalse(self.wire.transport.disconnecting)
        served.channel.write(1, b"last")
        served.channel.close({"exit_status": 0})
        self.assertEqual(len(self.wire.events()), 2)
        self.assertTrue(self.wire.transport.disconnecting)
        self.assertFalse(self.wire.aborted)
        self.assertEqual(served.heard, [])

    def test_goAwayAtOnce(self) -> None:
        """Without an open channel it closes at once."""
        self.wire.protocol.goAway("shutdown", "bye")
        self.expectEnd("shutdown")

    def test_clientGoesAway(self) -> None:
        """A client that goes away: the connection is closed once its channels are over; and it
        cannot keep the server from going away."""
        _, served = self.open()
        self.wire.send(self.wire.machine.send_goaway("done", "bye"))
        self.wire.events()
        self.assertFalse(self.wire.transport.disconnecting)
        stale = self.wire.machine.open({"service": "test"}, 0, 0)[1]
        self.wire.protocol.goAway("shutdown", "the server is shutting down")
        self.assertEqual(len(self.wire.events()), 1)
        self.wire.send(stale)
        self.assertEqual(len(self.service.served), 1)
        served.channel.close({})
        self.assertTrue(self.wire.transport.disconnecting)

    def test_factoryGoesAway(self) -> None:
        """A factory that goes away tells its sessions, and builds no new one until it starts
        again."""
        factory = self.wire.factory
        address = IPv4Address("TCP", "192.0.2.7", 1)
        factory.goAway("shutdown", "bye")
        self.expectEnd("shutdown")
        self.assertIsNone(factory.buildProtocol(address))
        factory.startFactory()
        self.assertIsInstance(factory.buildProtocol(address), Protocol)

    def test_reconfigure(self) -> None:
        """Other limits hold for the sessions to come."""
        self.wire.factory.reconfigure(Limits(channels=7))
        self.assertEqual(self.wire.factory.settings.max_channels, 7)
        self.assertEqual(self.wire.protocol.machine.settings.max_channels, 256)


class KeepaliveTests(SynchronousTestCase):
    """The kernel's own watch."""

    def test_others(self) -> None:
        """Nothing but TCP is touched."""
        transport = StringTransport()
        self.assertFalse(hasattr(transport, "socket"))
        assert ITransport.providedBy(transport)
        keep_alive(transport)
