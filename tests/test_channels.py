"""Tests of the channels' machines: both sides wired together, and what is common to them."""

from __future__ import annotations

import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire import events
from sockproto.wire.channel_state import STEPS, ChannelState, Step
from sockproto.wire.channels import Channels
from sockproto.wire.client_channels import ClientChannels
from sockproto.wire.commands import CommandRequest, CommandResult, InvalidRequest
from sockproto.wire.events import Event
from sockproto.wire.frames import FrameDecoder
from sockproto.wire.messages import (
    MAX_DATA,
    FrameType,
    Stream,
    encode_json,
    pack,
    unpack_header,
)
from sockproto.wire.server_channels import ServerChannels
from sockproto.wire.settings import MAX_CREDIT, MIN_FRAME, Settings

CREDIT = 100
STREAMS = {Stream.IN: "client", Stream.OUT: "server", Stream.ERR: "server"}


def payloads(octets: bytes) -> list[bytes]:
    """The payloads of whole frames."""
    decoder = FrameDecoder(2**32 - 1)
    decoder.feed(octets)
    taken = list(iter(decoder.next_frame, None))
    assert not decoder.pending
    return taken


@define
class Connection:
    """A client and a server, and what is under way between them, as whole payloads in order."""

    client: ClientChannels = field(
        factory=lambda: ClientChannels(Settings(2**20, features=("ping",)))
    )
    server: ServerChannels = field(factory=lambda: ServerChannels(Settings(2**20, 8, CREDIT)))
    to_server: deque[bytes] = field(factory=deque)
    to_client: deque[bytes] = field(factory=deque)

    def __attrs_post_init__(self) -> None:
        self.say(self.client, self.client.send_settings())
        self.say(self.server, self.server.send_settings())

    def say(self, side: Channels, octets: bytes) -> None:
        """Put what a side sends on its way."""
        way = self.to_server if side is self.client else self.to_client
        way.extend(payloads(octets))

    def hear(self, side: Channels) -> Event | None:
        """Give a side the next payload."""
        way = self.to_client if side is self.client else self.to_server
        return side.receive(way.popleft())

    def settle(self) -> list[Event]:
        """Deliver all that is under way: what the server hears, then the client."""
        heard = []
        for side, way in ((self.server, self.to_server), (self.client, self.to_client)):
            while way:
                heard.append(self.hear(side))
        return [event for event in heard if event is not None]

    def open(self, out: int = 1000, err: int = 1000) -> int:
        """A channel that is open on both sides, and nothing under way."""
        channel, frame = self.client.open({"service": "command"}, out, err)
        self.say(self.client, frame)
        self.settle()
        self.say(self.server, self.server.accept(channel, {}))
        self.settle()
        return channel

    def data(self, side: Channels, channel: int, stream: int, octets: bytes) -> None:
        """Send DATA."""
        self.say(side, side.send_data(channel, stream, len(octets)) + octets)


def ready() -> Connection:
    """A connection whose settings have been exchanged."""
    connection = Connection()
    connection.settle()
    return connection


class StepTests(SynchronousTestCase):
    """The table of a channel's states."""

    def test_whole(self) -> None:
        """Every state is in it, can be reached, and leads to the end."""
        self.assertEqual(set(STEPS), set(ChannelState))
        reached = {ChannelState.OPENING}.union(*(steps.values() for steps in STEPS.values()))
        self.assertEqual(reached, set(ChannelState))
        for state in ChannelState:
            ends = {state}
            for _ in ChannelState:
                ends.update(*(STEPS[end].values() for end in set(ends)))
            self.assertIn(ChannelState.OVER, ends)

    def test_crossing(self) -> None:
        """A cancel and an ACCEPT lead to the same state, whichever comes first."""
        for order in itertools.permutations((Step.ACCEPT, Step.CANCEL)):
            state = ChannelState.OPENING
            for step in order:
                state = STEPS[state][step]
            self.assertIs(state, ChannelState.CANCELLED)


class CancelTests(SynchronousTestCase):
    """A cancel that races with what the server does."""

    def server_acts(self) -> dict[str, list[Callable[[ServerChannels, int], bytes]]]:
        """What a server may do with a channel, act by act."""

        def accept(server: ServerChannels, channel: int) -> bytes:
            return server.accept(channel, {})

        def output(server: ServerChannels, channel: int) -> bytes:
            if not server.sendable(channel, Stream.OUT):
                return b""
            return server.send_data(channel, Stream.OUT, 3) + b"abc"

        def end(server: ServerChannels, channel: int) -> bytes:
            return server.send_end(channel, Stream.OUT) if server.is_open(channel) else b""

        def reject(server: ServerChannels, channel: int) -> bytes:
            return server.reject(channel, "not-found", "")

        def fail(server: ServerChannels, channel: int) -> bytes:
            return server.fail(channel, "lost", "")

        def close(server: ServerChannels, channel: int) -> bytes:
            return server.close(channel, {"exit_status": 0})

        return {
            "accepted": [accept, output, end, output_nothing, close],
            "rejected": [reject],
            "failed": [fail],
            "failed later": [accept, output, fail],
        }

    def test_everyOrder(self) -> None:
        """Whenever a cancel is sent and whenever it arrives, one end comes, and nothing breaks."""
        for name, acts in self.server_acts().items():
            for sent, arrives in itertools.combinations_with_replacement(range(len(acts) + 1), 2):
                connection = ready()
                client, server = connection.client, connection.server
                channel, frame = client.open({}, 10, 10)
                connection.say(client, frame)
                connection.hear(server)
                heard: list[Event | None] = []
                for moment in range(len(acts) + 1):
                    if moment == sent:
                        while connection.to_client:
                            heard.append(connection.hear(client))
                        connection.say(client, client.cancel(channel))
                        quiet_from = len(heard)
                    if moment == arrives:
                        while connection.to_server:
                            connection.hear(server)
                    if moment < len(acts):
                        connection.say(server, acts[moment](server, channel))
                while connection.to_client or connection.to_server:
                    side = client if connection.to_client else server
                    event = connection.hear(side)
                    if side is client:
                        heard.append(event)
                ends = [
                    event
                    for event in heard
                    if isinstance(event, events.ChannelRejected | events.ChannelClosed)
                ]
                where = f"{name}: sent at {sent}, arrives at {arrives}"
                self.assertEqual(len(ends), 1, where)
                news = [event for event in heard[quiet_from:] if event not in (None, *ends)]
                self.assertEqual(news, [], where)
                self.assertEqual((client.channels, server.channels), ({}, {}), where)

    def test_onlyItsEnd(self) -> None:
        """After a cancel the client hears only of the end, though credit is still counted."""
        connection = ready()
        client, server = connection.client, connection.server
        channel = connection.open(out=10)
        connection.say(client, client.cancel(channel))
        connection.data(server, channel, Stream.OUT, b"abc")
        connection.say(server, server.send_end(channel, Stream.OUT))
        connection.say(server, server.send_stop(channel, Stream.IN))
        connection.say(server, server.send_credit(channel, Stream.IN, 5))
        connection.say(server, server.send_control(channel, {}))
        while connection.to_client:
            self.assertIsNone(connection.hear(client))
        self.assertEqual(client.receivable(channel, Stream.OUT), 7)
        self.assertEqual(connection.settle(), [events.CancelReceived(channel)])
        connection.say(server, server.close(channel, {"exit_status": 0}))
        self.assertEqual(connection.settle(), [events.ChannelClosed(channel, {"exit_status": 0})])

    def test_silence(self) -> None:
        """What a client has sent before its cancel is heard, and nothing can be sent after it."""
        connection = ready()
        client, server = connection.client, connection.server
        channel = connection.open()
        connection.data(client, channel, Stream.IN, b"abc")
        connection.say(client, client.cancel(channel))
        self.assertEqual(client.sendable(channel, Stream.IN), 0)
        for send in (
            lambda: client.send_data(channel, Stream.IN, 1),
            lambda: client.send_end(channel, Stream.IN),
            lambda: client.send_stop(channel, Stream.OUT),
            lambda: client.send_credit(channel, Stream.OUT, 1),
            lambda: client.send_control(channel, {}),
        ):
            self.assertRaises(LocalProtocolError, send)
        self.assertEqual(client.cancel(channel), b"")
        self.assertEqual(
            connection.settle(),
            [events.DataReceived(channel, 0, b"abc"), events.CancelReceived(channel)],
        )
        self.assertEqual(server.sendable(channel, Stream.OUT), 0)
        self.assertFalse(server.is_open(channel))


def output_nothing(_server: ServerChannels, _channel: int) -> bytes:
    """An act of a server that sends nothing."""
    return b""


class StreamTests(SynchronousTestCase):
    """The streams of a channel, and their credit."""

    def setUp(self) -> None:
        self.connection = ready()
        self.client, self.server = self.connection.client, self.connection.server
        self.channel = self.connection.open(out=10, err=0)

    def hears(self, side: Channels, octets: bytes) -> list[Event | None]:
        """What a side makes of some frames."""
        return [side.receive(payload) for payload in payloads(octets)]

    def test_sendable(self) -> None:
        """A side may send what it was granted, and knows it; the other counts the same."""
        client, server, channel = self.client, self.server, self.channel
        self.assertEqual(server.sendable(channel, Stream.OUT), 10)
        self.assertEqual(server.sendable(channel, Stream.ERR), 0)
        self.assertEqual(client.sendable(channel, Stream.IN), CREDIT)
        self.connection.data(server, channel, Stream.OUT, b"1234567")
        self.assertEqual(server.sendable(channel, Stream.OUT), 3)
        self.assertEqual(client.receivable(channel, Stream.OUT), 10)
        self.connection.settle()
        self.assertEqual(client.receivable(channel, Stream.OUT), 3)
        self.connection.say(client, client.send_credit(channel, Stream.OUT, 4))
        self.assertEqual(client.receivable(channel, Stream.OUT), 7)
        self.assertEqual(server.sendable(channel, Stream.OUT), 3)
        self.assertEqual(self.connection.settle(), [events.CreditReceived(channel, Stream.OUT)])
        self.assertEqual(server.sendable(channel, Stream.OUT), 7)
        self.assertRaises(LocalProtocolError, server.send_data, channel, Stream.OUT, 8)
        self.assertRaises(LocalProtocolError, server.send_data, channel, Stream.OUT, 0)
        self.assertRaises(LocalProtocolError, server.send_data, channel, Stream.OUT, -1)

    def test_frameLimits(self) -> None:
        """One DATA frame carries 64 KiB at most, and fits into the peer's frames."""
        for max_frame, most in ((2**20, MAX_DATA), (MIN_FRAME, MIN_FRAME - 6)):
            connection = Connection(client=ClientChannels(Settings(max_frame)))
            connection.settle()
            channel = connection.open(out=MAX_CREDIT)
            self.assertEqual(connection.server.sendable(channel, Stream.OUT), most)
            connection.data(connection.server, channel, Stream.OUT, bytes(most))
            self.assertTrue(len(connection.to_client[0]) <= max_frame)
            self.assertEqual(len(connection.settle()), 1)

    def test_overrun(self) -> None:
        """DATA beyond the credit ends the connection, by its own code, and takes no credit."""
        for stream, side, credit in (
            (1, self.client, 10),
            (2, self.client, 0),
            (0, self.server, 100),
        ):
            frame = pack(FrameType.DATA, self.channel, bytes((stream,)) + bytes(credit + 1))
            error = self.assertRaises(RemoteProtocolError, self.hears, side, frame)
            self.assertEqual(error.code, "credit")
            self.assertEqual(side.receivable(self.channel, stream), credit)

    def test_sizes(self) -> None:
        """DATA has 1 to 65,536 bytes, whatever the credit."""
        self.connection.say(
            self.client, self.client.send_credit(self.channel, Stream.ERR, 2 * MAX_DATA)
        )
        for length in (0, MAX_DATA + 1):
            frame = pack(FrameType.DATA, self.channel, b"\2" + bytes(length))
            error = self.assertRaises(RemoteProtocolError, self.hears, self.client, frame)
            self.assertEqual(error.code, "protocol")
        for length in (1, MAX_DATA):
            self.hears(self.client, pack(FrameType.DATA, self.channel, b"\2" + bytes(length)))

    def test_creditLimits(self) -> None:
        """A credit of 0 and a total over 2**31 - 1 end the connection; neither can be sent."""
        most = MAX_CREDIT - CREDIT
        for amount in (0, most + 1, 2**32 - 1):
            frame = pack(FrameType.CREDIT, self.channel, b"\0" + amount.to_bytes(4, "big"))
            error = self.assertRaises(RemoteProtocolError, self.hears, self.client, frame)
            self.assertEqual(error.code, "credit")
            self.assertRaises(
                LocalProtocolError, self.server.send_credit, self.channel, Stream.IN, amount
            )
        self.assertRaises(LocalProtocolError, self.server.send_credit, self.channel, 0, -1)
        self.connection.say(self.server, self.server.send_credit(self.channel, Stream.IN, most))
        self.connection.settle()
        self.assertEqual(self.server.receivable(self.channel, Stream.IN), MAX_CREDIT)

    def test_onlyDataCosts(self) -> None:
        """Nothing but DATA costs credit."""
        client, server = self.client, self.server
        self.connection.say(server, server.send_control(self.channel, {"a": "b" * 100}))
        self.connection.say(server, server.send_end(self.channel, Stream.OUT))
        self.connection.settle()
        self.assertEqual(client.receivable(self.channel, Stream.OUT), 10)

    def test_end(self) -> None:
        """After END nothing can be sent on the stream, and nothing is taken."""
        server, channel = self.server, self.channel
        self.connection.say(server, server.send_end(channel, Stream.OUT))
        self.assertEqual(server.sendable(channel, Stream.OUT), 0)
        self.assertRaises(LocalProtocolError, server.send_end, channel, Stream.OUT)
        self.assertRaises(LocalProtocolError, server.send_data, channel, Stream.OUT, 1)
        self.assertEqual(self.connection.settle(), [events.EndReceived(channel, Stream.OUT)])
        for frame in (
            pack(FrameType.DATA, channel, b"\1a"),
            pack(FrameType.END, channel, b"\1"),
        ):
            self.assertRaises(RemoteProtocolError, self.hears, self.client, frame)
        # There is nothing to stop any longer, and nothing to grant.
        self.assertEqual(self.client.send_stop(channel, Stream.OUT), b"")
        self.assertEqual(self.client.send_credit(channel, Stream.OUT, 1), b"")

    def test_stop(self) -> None:
        """After STOP nothing is sent; what was under way is dropped, and has cost credit."""
        client, server, channel = self.client, self.server, self.channel
        self.connection.data(server, channel, Stream.OUT, b"abc")
        self.connection.say(client, client.send_stop(channel, Stream.OUT))
        self.assertEqual(client.send_stop(channel, Stream.OUT), b"")
        self.assertEqual(client.send_credit(channel, Stream.OUT, 1), b"")
        self.assertEqual(self.connection.settle(), [events.StopReceived(channel, Stream.OUT)])
        self.assertEqual(client.receivable(channel, Stream.OUT), 7)
        self.assertEqual(server.sendable(channel, Stream.OUT), 0)
        self.assertEqual(server.send_end(channel, Stream.OUT), b"")
        frame = pack(FrameType.STOP, channel, b"\1")
        self.assertRaises(RemoteProtocolError, self.hears, server, frame)
        # A stop is no licence to flood.
        frame = pack(FrameType.DATA, channel, b"\1" + bytes(8))
        self.assertRaises(RemoteProtocolError, self.hears, client, frame)

    def test_endAndStopCross(self) -> None:
        """An END and a STOP that cross are both right, and neither is news to its receiver."""
        client, server, channel = self.client, self.server, self.channel
        self.connection.say(server, server.send_end(channel, Stream.OUT))
        self.connection.say(client, client.send_stop(channel, Stream.OUT))
        self.connection.say(client, client.send_credit(channel, Stream.ERR, 1))
        self.connection.say(server, server.send_end(channel, Stream.ERR))
        self.assertEqual(self.connection.settle(), [events.EndReceived(channel, Stream.ERR)])

    def test_otherStreams(self) -> None:
        """Nobody sends on the other's stream, or on one that is not there."""
        for side, own, others in (
            (self.client, (0,), (1, 2)),
            (self.server, (1, 2), (0,)),
        ):
            for stream in (*others, 3, -1):
                for misuse in (
                    lambda: side.sendable(self.channel, stream),  # noqa: B023
                    lambda: side.send_data(self.channel, stream, 1),  # noqa: B023
                    lambda: side.send_end(self.channel, stream),  # noqa: B023
                ):
                    self.assertRaises(LocalProtocolError, misuse)
            for stream in (*own, 3, -1):
                for misuse in (
                    lambda: side.receivable(self.channel, stream),  # noqa: B023
                    lambda: side.send_stop(self.channel, stream),  # noqa: B023
                    lambda: side.send_credit(self.channel, stream, 1),  # noqa: B023
                ):
                    self.assertRaises(LocalProtocolError, misuse)
            for stream in (*own, 3, 255):
                octet = bytes((stream,))
                for kind, body in ((FrameType.DATA, octet + b"a"), (FrameType.END, octet)):
                    frame = pack(kind, self.channel, body)
                    self.assertRaises(RemoteProtocolError, self.hears, side, frame)
            for stream in (*others, 3, 255):
                octet = bytes((stream,))
                for kind, body in (
                    (FrameType.STOP, octet),
                    (FrameType.CREDIT, octet + bytes(3) + b"\1"),
                ):
                    frame = pack(kind, self.channel, body)
                    self.assertRaises(RemoteProtocolError, self.hears, side, frame)

    def test_exactBodies(self) -> None:
        """END and STOP have a stream and nothing else, CREDIT a stream and an amount."""
        for kind in (FrameType.END, FrameType.STOP, FrameType.CREDIT):
            for body in (b"", b"\1\1", b"\0\0", b"\1\0\0\0", b"\1\0\0\0\1\0"):
                frame = pack(kind, self.channel, body)
                for side in (self.client, self.server):
                    self.assertRaises(RemoteProtocolError, self.hears, side, frame)
        self.assertRaises(
            RemoteProtocolError, self.hears, self.client, pack(FrameType.DATA, self.channel)
        )

    def test_noChannel(self) -> None:
        """On a channel that is over, or was never there, nothing can be sent or has credit."""
        connection, server = self.connection, self.server
        connection.say(server, server.close(self.channel, {"exit_status": 0}))
        connection.settle()
        for side in (self.client, server):
            for channel in (self.channel, 99):
                self.assertFalse(side.is_open(channel))
                self.assertEqual(side.sendable(channel, 0), 0)
                self.assertEqual(side.receivable(channel, 0), 0)
                self.assertRaises(LocalProtocolError, side.send_data, channel, 0, 1)
                self.assertRaises(LocalProtocolError, side.send_end, channel, 0)
                self.assertRaises(LocalProtocolError, side.send_control, channel, {})


class PingTests(SynchronousTestCase):
    """PING and PONG."""

    def test_answered(self) -> None:
        """Each side may ask, once at a time, and hears the answer."""
        connection = ready()
        for asker, other in (
            (connection.client, connection.server),
            (connection.server, connection.client),
        ):
            for payload in (b"12345678", b"again..."):
                self.assertTrue(asker.may_ping)
                connection.say(asker, asker.send_ping(payload))
                self.assertFalse(asker.may_ping)
                self.assertRaises(LocalProtocolError, asker.send_ping, payload)
                self.assertEqual(connection.settle(), [events.PingReceived(payload)])
                connection.say(other, other.send_pong(payload))
                self.assertEqual(connection.settle(), [events.PongReceived()])

    def test_both(self) -> None:
        """Both may ask at once."""
        connection = ready()
        client, server = connection.client, connection.server
        connection.say(client, client.send_ping(b"client.."))
        connection.say(server, server.send_ping(b"server.."))
        connection.settle()
        connection.say(client, client.send_pong(b"server.."))
        connection.say(server, server.send_pong(b"client.."))
        self.assertEqual(connection.settle(), [events.PongReceived()] * 2)

    def test_unasked(self) -> None:
        """An answer to nothing, or another than was asked for, is an error of the connection."""
        for side in (ready().client, ready().server):
            pong = payloads(pack(FrameType.PONG, 0, b"12345678"))[0]
            self.assertRaises(RemoteProtocolError, side.receive, pong)
            side.send_ping(b"12345679")
            self.assertRaises(RemoteProtocolError, side.receive, pong)
            self.assertRaises(LocalProtocolError, side.send_pong, b"12345678")

    def test_impatient(self) -> None:
        """A second PING before the answer to the first is an error; after it, it is not."""
        for side in (ready().client, ready().server):
            ping = payloads(pack(FrameType.PING, 0, b"12345678"))[0]
            side.receive(ping)
            self.assertRaises(RemoteProtocolError, side.receive, ping)
            self.assertRaises(LocalProtocolError, side.send_pong, b"12345679")
            side.send_pong(b"12345678")
            self.assertEqual(side.receive(ping), events.PingReceived(b"12345678"))

    def test_eightBytes(self) -> None:
        """A PING has eight bytes."""
        for side in (ready().client, ready().server):
            for length in (0, 7, 9):
                self.assertRaises(LocalProtocolError, side.send_ping, bytes(length))
                for kind in (FrameType.PING, FrameType.PONG):
                    frame = payloads(pack(kind, 0, bytes(length)))[0]
                    self.assertRaises(RemoteProtocolError, side.receive, frame)


class FirstFrameTests(SynchronousTestCase):
    """SETTINGS come first."""

    def test_nothingBefore(self) -> None:
        """Any other frame before SETTINGS ends the connection, one of an ignored type too."""
        for side in (Connection().client, Connection().server):
            for kind in (0, *range(2, 15), 0x7F, 0x80, 0xFF):
                for body in (b"", b"{}", b'{"max_frame":4096}'):
                    self.assertRaises(
                        RemoteProtocolError, side.receive, bytes((kind, 0, 0, 0, 0)) + body
                    )

    def test_unfit(self) -> None:
        """SETTINGS for a channel, or that cannot be read, end the connection."""
        for side in (Connection().client, Connection().server):
            for frame in (
                b"\1\0\0\0\1" + b'{"max_frame":4096}',
                b"\1\0\0\0\0",
                b"\1\0\0\0\0{}",
                b"\1\0\0\0\0[]",
                b"\1\0\0\0\0" + b'{"max_frame":4095}',
                b"\1\0\0\0",
                b"\1",
                b"",
            ):
                self.assertRaises(RemoteProtocolError, side.receive, frame)
            self.assertIsNone(side.peer)

    def test_settings(self) -> None:
        """They are there once they have come, and come once."""
        connection = Connection()
        again = connection.to_server[0]
        self.assertEqual(connection.settle(), [events.SettingsReceived()] * 2)
        self.assertEqual(connection.server.peer, connection.client.settings)
        self.assertEqual(connection.client.peer, connection.server.settings)
        self.assertRaises(RemoteProtocolError, connection.server.receive, again)


class TypeTests(SynchronousTestCase):
    """Types of frames."""

    def test_unknown(self) -> None:
        """Types that are not known are ignored from 0x80 up, and are errors below."""
        for side in (ready().client, ready().server):
            for kind in (0, *range(14, 256)):
                for channel, body in ((0, b""), (1, b"{}"), (2**32 - 1, b"\0")):
                    frame = bytes((kind,)) + channel.to_bytes(4, "big") + body
                    if kind >= 0x80:
                        self.assertIsNone(side.receive(frame))
                    else:
                        self.assertRaises(RemoteProtocolError, side.receive, frame)

    def test_short(self) -> None:
        """A frame without a type and a channel is an error, whatever it begins with."""
        for side in (ready().client, ready().server):
            for kind in range(256):
                for length in range(4):
                    self.assertRaises(
                        RemoteProtocolError, side.receive, bytes((kind,)) + bytes(length)
                    )

    def test_connectionFrames(self) -> None:
        """What is for the connection is for no channel, nor the other way round."""
        for side in (ready().client, ready().server):
            for kind in FrameType:
                of_connection = kind in (FrameType.PING, FrameType.PONG, FrameType.GOAWAY)
                frame = payloads(pack(kind, int(of_connection), b"{}"))[0]
                self.assertRaises(RemoteProtocolError, side.receive, frame)


class Conversation(RuleBasedStateMachine):
    """A client and a server that do whatever they may, over a wire that delivers in order.

    Nothing that one may send is an error to the other; what is sent is what arrives; both count
    the same credit.
    """

    @staticmethod
    def _choose(ids: Iterable[int], number: int) -> int:
        ordered = sorted(ids)
        return ordered[number % len(ordered)]

    def __init__(self) -> None:
        super().__init__()
        self.connection = Connection()
        self.client, self.server = self.connection.client, self.connection.server
        self.sent: dict[tuple[int, int], bytearray] = {}
        self.got: dict[tuple[int, int], bytearray] = {}
        self.cut: set[tuple[int, int]] = set()
        self.ids: list[int] = []
        self.ends: Counter[int] = Counter()
        self.fill = itertools.count()
        self.leaving = False

    def _heard(self, side: Channels, event: Event | None) -> None:
        channel = getattr(event, "channel", None)
        if side is self.client and channel is not None:
            assert not self.ends[channel], "something came after the end of a channel"
        match event:
            case events.DataReceived(channel, stream, data):
                assert STREAMS[Stream(stream)] == ("server" if side is self.client else "client")
                assert (channel, stream) not in self.cut
                got = self.got.setdefault((channel, stream), bytearray())
                got += data
                assert self.sent[channel, stream].startswith(got)
            case events.EndReceived(channel, stream):
                assert self.got.get((channel, stream), b"") == self.sent.get((channel, stream), b"")
            case events.ChannelClosed(channel) | events.ChannelRejected(channel):
                self.ends[channel] += 1
            case events.PingReceived(payload):
                self.connection.say(side, side.send_pong(payload))
            case events.GoingAway(last):
                self.ends.update(
                    channel for channel in self.ids if channel > last and not self.ends[channel]
                )

    def _hear(self, side: Channels) -> None:
        self._heard(side, self.connection.hear(side))

    @initialize(accepted=st.lists(st.booleans(), min_size=1, max_size=3), settled=st.booleans())
    def begin(self, accepted: list[bool], settled: bool) -> None:
        """There are some channels to begin with."""
        self._drain()
        for accept in accepted:
            self.open(200, 100)
            if accept:
                self._drain()
                self.connection.say(self.server, self.server.accept(self.ids[-1], {}))
        if settled:
            self._drain()

    # What the client does

    @precondition(lambda self: self.client.peer is not None and self.client.going_away is None)
    @rule(out=st.integers(0, 300), err=st.sampled_from([0, 1, MAX_CREDIT]))
    def open(self, out: int, err: int) -> None:
        channel, frame = self.client.open({"service": "command"}, out, err)
        assert all(channel > other for other in self.ids)
        self.ids.append(channel)
        self.connection.say(self.client, frame)

    @precondition(lambda self: self.client.channels)
    @rule(number=st.integers(0, 20))
    def cancel(self, number: int) -> None:
        channel = self._choose(self.client.channels, number)
        self.cut.update((channel, stream) for stream in (1, 2))
        self.connection.say(self.client, self.client.cancel(channel))

    # What the server does

    @precondition(lambda self: self.server.channels)
    @rule(
        number=st.integers(0, 20),
        act=st.sampled_from(["accept", "accept", "accept", "reject", "close", "fail"]),
    )
    def decide(self, number: int, act: str) -> None:
        channel = self._choose(self.server.channels, number)
        state = self.server.channels[channel].state
        step = {"accept": Step.ACCEPT, "reject": Step.REJECT, "close": Step.CLOSE}.get(act)
        try:
            frame = (
                getattr(self.server, act)(channel, {})
                if act in ("accept", "close")
                else getattr(self.server, act)(channel, "lost", "")
            )
        except LocalProtocolError:
            assert step is not None
            assert step not in STEPS[state]
            assert self.server.channels[channel].state is state
        else:
            assert step is None or step in STEPS[state]
            self.connection.say(self.server, frame)

    @precondition(lambda self: len(self.ids) > 2 and not self.leaving)
    @rule()
    def leave(self) -> None:
        self.leaving = True
        self.connection.say(self.server, self.server.send_goaway("shutdown", ""))

    # What both do

    @rule(number=st.integers(0, 20), stream=st.sampled_from(Stream), length=st.integers(1, 200))
    def write(self, number: int, stream: Stream, length: int) -> None:
        side: Channels = self.client if stream is Stream.IN else self.server
        if not side.channels:
            return
        channel = self._choose(side.channels, number)
        room = side.sendable(channel, stream)
        if length > room:
            self._refused(side.send_data, channel, stream, length)
            length = room
        if length:
            octets = bytes(next(self.fill) % 256 for _ in range(length))
            self.sent.setdefault((channel, stream), bytearray()).extend(octets)
            self.connection.data(side, channel, stream, octets)

    @rule(number=st.integers(0, 20), stream=st.sampled_from(Stream))
    def end(self, number: int, stream: Stream) -> None:
        side: Channels = self.client if stream is Stream.IN else self.server
        if side.channels:
            channel = self._choose(side.channels, number)
            if side.is_open(channel) and not side.channels[channel].outgoing[stream].ended:
                self.connection.say(side, side.send_end(channel, stream))
            else:
                self._refused(side.send_end, channel, stream)

    @rule(number=st.integers(0, 20), stream=st.sampled_from(Stream))
    def stop(self, number: int, stream: Stream) -> None:
        side: Channels = self.server if stream is Stream.IN else self.client
        if side.channels:
            channel = self._choose(side.channels, number)
            if side.is_open(channel):
                self.cut.add((channel, stream))
                self.connection.say(side, side.send_stop(channel, stream))
            else:
                self._refused(side.send_stop, channel, stream)

    @rule(
        number=st.integers(0, 20),
        stream=st.sampled_from(Stream),
        amount=st.integers(1, 300) | st.just(MAX_CREDIT),
    )
    def grant(self, number: int, stream: Stream, amount: int) -> None:
        side: Channels = self.server if stream is Stream.IN else self.client
        if side.channels:
            channel = self._choose(side.channels, number)
            fits = side.receivable(channel, stream) + amount <= MAX_CREDIT
            if side.is_open(channel) and fits:
                self.connection.say(side, side.send_credit(channel, stream, amount))
            else:
                self._refused(side.send_credit, channel, stream, amount)

    @rule(number=st.integers(0, 20), from_client=st.booleans())
    def control(self, number: int, from_client: bool) -> None:
        side: Channels = self.client if from_client else self.server
        if side.channels:
            channel = self._choose(side.channels, number)
            if side.is_open(channel):
                self.connection.say(side, side.send_control(channel, {"signal": "INT"}))

    @rule(from_client=st.booleans())
    def ping(self, from_client: bool) -> None:
        side: Channels = self.client if from_client else self.server
        if side.may_ping:
            self.connection.say(side, side.send_ping(next(self.fill).to_bytes(8, "big")))

    def _refused(self, send: Callable[..., bytes], *args: Any) -> None:
        try:
            send(*args)
        except LocalProtocolError:
            return
        raise AssertionError(f"{send} of {args} should have been refused")

    # The wire

    @precondition(lambda self: self.connection.to_server)
    @rule(count=st.integers(1, 4))
    def to_server(self, count: int) -> None:
        for _ in range(min(count, len(self.connection.to_server))):
            self._hear(self.server)

    @precondition(lambda self: self.connection.to_client)
    @rule(count=st.integers(1, 4))
    def to_client(self, count: int) -> None:
        for _ in range(min(count, len(self.connection.to_client))):
            self._hear(self.client)

    def _under_way(self, way: Iterable[bytes], channel: int, stream: int) -> tuple[int, int]:
        """How much DATA and how much CREDIT of a stream is on its way."""
        data = credit = 0
        for payload in way:
            kind, of = unpack_header(payload)
            if of == channel and payload[5:6] == bytes((stream,)):
                if kind == FrameType.DATA:
                    data += len(payload) - 6
                elif kind == FrameType.CREDIT:
                    credit += int.from_bytes(payload[6:], "big")
        return data, credit

    @invariant()
    def same_credit(self) -> None:
        """Both sides count the same credit, but for what is under way, and within its limits."""
        for side in (self.client, self.server):
            for channel in side.channels.values():
                for flow in (*channel.incoming.values(), *channel.outgoing.values()):
                    assert 0 <= flow.credit <= MAX_CREDIT
        for number in self.client.channels.keys() & self.server.channels.keys():
            for stream, sender in STREAMS.items():
                one: Channels = self.client if sender == "client" else self.server
                other = self.server if sender == "client" else self.client
                there, back = self.connection.to_server, self.connection.to_client
                if sender == "server":
                    there, back = back, there
                data, _ = self._under_way(there, number, stream)
                _, credit = self._under_way(back, number, stream)
                assert (
                    other.channels[number].incoming[stream].credit
                    == one.channels[number].outgoing[stream].credit + data + credit
                )
                assert one.sendable(number, stream) <= other.receivable(number, stream)

    def teardown(self) -> None:
        """Once all has arrived both sides agree on everything, and it can all be brought to an
        end."""
        self._drain()
        assert self.client.channels.keys() == self.server.channels.keys()
        for number, channel in self.client.channels.items():
            assert channel.state is self.server.channels[number].state
            for stream in Stream:
                if (number, stream) not in self.cut and channel.state is ChannelState.OPEN:
                    sent = self.sent.get((number, stream), bytearray())
                    assert self.got.get((number, stream), bytearray()) == sent
        for number in list(self.server.channels):
            self.connection.say(self.server, self.server.fail(number, "shutdown", ""))
        self._drain()
        assert not self.client.channels
        assert not self.server.channels
        assert all(self.ends[channel] == 1 for channel in self.ids)

    def _drain(self) -> None:
        while self.connection.to_server or self.connection.to_client:
            while self.connection.to_server:
                self._hear(self.server)
            while self.connection.to_client:
                self._hear(self.client)


class ConversationTests(SynchronousTestCase):
    """`Conversation`, run."""

    def test_anyConversation(self) -> None:
        """What one side may do the other understands, and both count and end the same."""
        run_state_machine_as_test(
            Conversation,
            settings=settings(
                max_examples=200,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )


def recorded() -> tuple[list[bytes], list[bytes]]:
    """A whole conversation, frame by frame: what the client sent, and what the server."""
    connection = Connection()
    said: tuple[list[bytes], list[bytes]] = ([], [])
    client, server = connection.client, connection.server

    def turn() -> None:
        said[0].extend(connection.to_server)
        said[1].extend(connection.to_client)
        connection.settle()

    turn()
    first, frame = client.open(CommandRequest.of(["cat"], stdin=True).encode(), 70_000, 10)
    connection.say(client, frame)
    connection.data(client, first, Stream.IN, b"early")
    second, frame = client.open(CommandRequest.of(["false"]).encode(), 0, 0)
    connection.say(client, frame)
    turn()
    connection.say(server, server.reject(second, "not-found", "no such program: \u00e9"))
    connection.say(server, server.accept(first, {}))
    connection.say(server, server.send_credit(first, Stream.IN, 5))
    connection.data(server, first, Stream.OUT, bytes(range(256)) * 256)
    connection.data(server, first, Stream.ERR, b"e")
    connection.say(server, server.send_ping(b"12345678"))
    turn()
    connection.say(client, client.send_pong(b"12345678"))
    connection.say(client, client.send_control(first, {"signal": "INT"}))
    connection.say(client, client.send_stop(first, Stream.ERR))
    connection.say(client, client.send_end(first, Stream.IN))
    turn()
    third, frame = client.open(CommandRequest.of(["sleep", "9"]).encode(), 0, 0)
    connection.say(client, frame)
    connection.say(client, client.cancel(third))
    turn()
    connection.say(server, server.send_goaway("shutdown", "bye"))
    connection.say(server, server.close(third, {"signal": "TERM"}))
    connection.say(server, server.send_end(first, Stream.OUT))
    connection.say(server, server.close(first, {"exit_status": 0}))
    turn()
    return said


class SplitTests(SynchronousTestCase):
    """A conversation's bytes, in any portions."""

    def sides(self) -> list[tuple[bytes, Callable[[], Channels], list[Event | None]]]:
        """What comes to each side of the conversation, a side in the state to take it, and what
        it makes of it frame by frame."""
        from_client, from_server = recorded()

        def server_side() -> Channels:
            # What the server said moves its own state too, so it takes its part as a client would
            # see it: all that is checked here is that the portions make no difference.
            server = ServerChannels(Settings(2**20, 8, 2**20))
            server.send_ping(b"12345678")
            return server

        def client_side() -> Channels:
            client = ClientChannels(Settings(2**20))
            client.receive(from_server[0])
            for _ in range(3):
                client.open({}, 2**20, 10)
            client.cancel(3)
            return client

        found: list[tuple[bytes, Callable[[], Channels], list[Event | None]]] = []
        for frames, side in ((from_client, server_side), (from_server[1:], client_side)):
            octets = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
            machine = side()
            found.append((octets, side, [machine.receive(frame) for frame in frames]))
        return found

    def events_of(self, machine: Channels, portions: Iterable[bytes]) -> list[Event | None]:
        """What a side makes of the portions."""
        decoder = FrameDecoder(2**20)
        heard = []
        for portion in portions:
            decoder.feed(portion)
            heard += [machine.receive(frame) for frame in iter(decoder.next_frame, None)]
        self.assertEqual(decoder.pending, 0)
        return heard

    def test_allAtOnceAndByteByByte(self) -> None:
        """All bytes at once and each by itself give the same events."""
        for octets, side, expected in self.sides():
            self.assertTrue(len(expected) >= 9)
            self.assertEqual(self.events_of(side(), [octets]), expected)
            self.assertEqual(
                self.events_of(side(), (octets[at : at + 1] for at in range(len(octets)))), expected
            )

    @settings(deadline=None, max_examples=50)
    @given(st.randoms(use_true_random=False), st.integers(1, 40))
    def test_anyPortions(self, source: random.Random, count: int) -> None:
        """Any portions give the same events."""
        for octets, side, expected in self.sides():
            cuts = sorted(source.randrange(len(octets) + 1) for _ in range(count))
            portions = [
                octets[start:end] for start, end in itertools.pairwise([0, *cuts, len(octets)])
            ]
            self.assertEqual(self.events_of(side(), portions), expected)


odd_values = st.recursive(
    st.sampled_from(
        [None, True, False, 0, 1, -1, 2**31, 10**30, 1.5, "", "command", "\udcff", "1"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["1", "2", "b64", "code"]), inner, max_size=3)
    ),
    max_leaves=5,
)
odd_names = [
    *("service", "argv", "stdin", "timeout", "cwd", "env", "credit", "max_frame", "features"),
    *("code", "message", "exit_status", "signal", "error", "timed_out"),
]
odd_objects = st.dictionaries(st.sampled_from(odd_names), odd_values, max_size=5).map(encode_json)
bodies = (
    st.binary(max_size=12)
    | odd_objects
    | odd_objects.map(lambda body: bytes(4) + body)
    | st.builds(
        lambda stream, rest: bytes((stream,)) + rest, st.integers(0, 3), st.binary(max_size=5)
    )
    | st.just(b'{"credit":{"1":9}}')
)
frames = st.builds(
    lambda kind, channel, body: bytes((kind,)) + channel.to_bytes(4, "big") + body,
    st.integers(1, 13) | st.integers(0, 255),
    st.integers(0, 6) | st.integers(0, 2**32 - 1),
    bodies,
)


class HostilePeerTests(SynchronousTestCase):
    """Whatever a peer sends: an event, nothing, or a `RemoteProtocolError`."""

    def both(self) -> tuple[ClientChannels, ServerChannels]:
        """Both sides with channels in every state: 1 over, 2 open, 3 withdrawn, 4 cancelled, 5 not
        accepted yet."""
        connection = ready()
        client, server = connection.client, connection.server
        for _ in range(5):
            connection.say(client, client.open({}, 5, 5)[1])
        connection.settle()
        for channel in (1, 2, 4):
            connection.say(server, server.accept(channel, {}))
        connection.say(server, server.close(1, {"exit_status": 0}))
        connection.settle()
        for channel in (3, 4):
            connection.say(client, client.cancel(channel))
        connection.settle()
        for side in (client, server):
            self.assertEqual(
                {number: channel.state.name for number, channel in side.channels.items()},
                {2: "OPEN", 3: "WITHDRAWN", 4: "CANCELLED", 5: "OPENING"},
            )
        return client, server

    @settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(frames | st.binary(max_size=8), min_size=1, max_size=30))
    def test_onlyRemoteErrors(self, sent: list[bytes]) -> None:
        """No other exception comes out of a machine, nor of the reading of what it found."""
        for side in (*self.both(), Connection().client, Connection().server):
            for frame in sent:
                before = len(side.channels)
                try:
                    event = side.receive(frame)
                    if isinstance(event, events.ChannelClosed):
                        CommandResult.decode(event.result)
                    elif isinstance(event, events.ChannelOpened):
                        CommandRequest.decode(event.request)
                except RemoteProtocolError as error:
                    self.assertTrue(len(str(error)) < 256, error)
                except InvalidRequest:
                    pass
                self.assertTrue(len(side.channels) <= before + 1)
                for channel in side.channels.values():
                    for flow in (*channel.incoming.values(), *channel.outgoing.values()):
                        self.assertTrue(0 <= flow.credit <= MAX_CREDIT)

    def test_nothingIsKept(self) -> None:
        """No flood of frames makes a machine keep more than the channels that are open."""
        client, server = self.both()
        server.send_goaway("shutdown", "")
        last = server.last_channel
        for number in range(1000):
            for kind, channel, body in (
                (FrameType.OPEN, last + 1 + number, b'{"credit":{}}'),
                (FrameType.CONTROL, 2, b'{"signal":"INT"}'),
                (FrameType.CONTROL, last + 1 + number, b'{"signal":"INT"}'),
                (FrameType.DATA, 1, b"\0abc"),
                (FrameType.CREDIT, 2, b"\1\0\0\0\1"),
            ):
                server.receive(payloads(pack(kind, channel, body))[0])
            for kind, channel, body in (
                (FrameType.CONTROL, 2, b"{}"),
                (FrameType.DATA, 1, b"\1abc"),
                (FrameType.CREDIT, 2, b"\0\0\0\0\1"),
            ):
                client.receive(payloads(pack(kind, channel, body))[0])
        self.assertEqual((len(server.channels), len(client.channels)), (4, 4))
        for side in (client, server):
            self.assertTrue(all(not isinstance(value, list) for value in vars(side).values()))
