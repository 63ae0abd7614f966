"""Tests of `sockproto.wire.server_channels`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire import events
from sockproto.wire.channel_state import ChannelState
from sockproto.wire.events import Event
from sockproto.wire.messages import MAX_REASON, FrameType, decode_goaway, encode_json
from sockproto.wire.server_channels import ServerChannels
from sockproto.wire.settings import MAX_CREDIT, MIN_FRAME, Settings

# What each type of frame is to a server in each state of the channel it names: E an error,
# - nothing, else an event by a letter.
STATES = ("never", "OPENING", "OPEN", "WITHDRAWN", "CANCELLED", "over")
TABLE = {
    FrameType.SETTINGS: "EEEEEE",
    FrameType.OPEN: "OEEEEE",
    FrameType.ACCEPT: "EEEEEE",
    FrameType.REJECT: "EEEEEE",
    FrameType.DATA: "EDD---",
    FrameType.END: "ENN---",
    FrameType.STOP: "ESS---",
    FrameType.CREDIT: "ECC---",
    FrameType.CONTROL: "ECC---",
    FrameType.CLOSE: "ECCEE-",
    FrameType.PING: "EEEEEE",
    FrameType.PONG: "EEEEEE",
    FrameType.GOAWAY: "EEEEEE",
}
BODIES = {
    FrameType.SETTINGS: b'{"max_frame":4096}',
    FrameType.OPEN: b'{"credit":{}}',
    FrameType.DATA: b"\0abc",
    FrameType.END: b"\0",
    FrameType.STOP: b"\1",
    FrameType.CREDIT: b"\1\0\0\0\1",
    FrameType.PING: bytes(8),
    FrameType.PONG: bytes(8),
    FrameType.GOAWAY: b"\0\0\0\0{}",
}
EVENTS = {
    "O": (events.ChannelOpened,),
    "D": (events.DataReceived,),
    "N": (events.EndReceived,),
    "S": (events.StopReceived,),
    "C": (events.CreditReceived, events.ControlReceived, events.CancelReceived),
}


def frame(kind: FrameType, channel: int, body: bytes | dict[str, Any] = b"{}") -> bytes:
    """A payload."""
    octets = body if isinstance(body, bytes) else encode_json(body)
    return bytes((kind,)) + channel.to_bytes(4, "big") + octets


class ServerTests(SynchronousTestCase):
    """The server's side, with a client that is played by bytes."""

    def setUp(self) -> None:
        self.server = self.fresh()

    def fresh(self, max_frame: int = 2**20) -> ServerChannels:
        """A server whose client has told its settings."""
        server = ServerChannels(Settings(2**20, 8, 100))
        server.receive(frame(FrameType.SETTINGS, 0, {"max_frame": max_frame}))
        return server

    def open(
        self, channel: int, server: ServerChannels | None = None, **request: Any
    ) -> Event | None:
        """Have the client open a channel."""
        return (server or self.server).receive(
            frame(FrameType.OPEN, channel, {"credit": {"1": 10, "2": 10}, **request})
        )

    def in_state(self, state: str) -> ServerChannels:
        """A server whose channel 1 is in a state."""
        server = self.fresh()
        if state == "never":
            return server
        self.open(1, server)
        if state in ("OPEN", "CANCELLED", "over"):
            server.accept(1, {})
        if state in ("WITHDRAWN", "CANCELLED"):
            server.receive(frame(FrameType.CLOSE, 1, b""))
        if state == "over":
            server.close(1, {"exit_status": 0})
        else:
            self.assertIs(server.channels[1].state, ChannelState[state])
        return server

    def test_everyFrameInEveryState(self) -> None:
        """Each type of frame is an event, nothing or an error, as the state of its channel says."""
        self.assertEqual(set(TABLE), set(FrameType))
        for kind, row in TABLE.items():
            for state, expected in zip(STATES, row, strict=True):
                server = self.in_state(state)
                payload = frame(kind, 1, BODIES.get(kind, b"{}"))
                where = f"{kind.name} in {state}"
                if expected == "E":
                    try:
                        found = server.receive(payload)
                    except RemoteProtocolError as error:
                        self.assertEqual(error.code, "protocol", where)
                    else:
                        self.fail(f"{where}: {found}")
                else:
                    event = server.receive(payload)
                    if expected == "-":
                        self.assertIsNone(event, where)
                    else:
                        self.assertIsInstance(event, EVENTS[expected], where)

    def test_everyActInEveryState(self) -> None:
        """What a server may do is what the table of steps allows; else it is its own mistake."""
        allowed = {
            "accept": "OPENING WITHDRAWN",
            "reject": "OPENING WITHDRAWN",
            "close": "OPEN WITHDRAWN CANCELLED",
            "fail": "OPENING OPEN WITHDRAWN CANCELLED",
        }
        for act, states in allowed.items():
            args: tuple[Any, ...] = ({},) if act in ("accept", "close") else ("lost", "m")
            for state in STATES:
                server = self.in_state(state)
                if state in states.split():
                    getattr(server, act)(1, *args)
                    self.assertEqual(1 in server.channels, act == "accept")
                else:
                    before = dict(server.channels)
                    self.assertRaises(LocalProtocolError, getattr(server, act), 1, *args)
                    self.assertEqual(server.channels, before)

    def test_fail(self) -> None:
        """A channel that comes to nothing is rejected while it may be accepted, else closed."""
        body = encode_json({"code": "lost", "message": "m"})
        for state, kind, expected in (
            ("OPENING", FrameType.REJECT, body),
            ("WITHDRAWN", FrameType.CLOSE, b'{"error":' + body + b"}"),
            ("OPEN", FrameType.CLOSE, b'{"error":' + body + b"}"),
            ("CANCELLED", FrameType.CLOSE, b'{"error":' + body + b"}"),
        ):
            sent = self.in_state(state).fail(1, "lost", "m")
            self.assertEqual(sent[4:], frame(kind, 1, expected))

    def test_acceptWithdrawn(self) -> None:
        """What was cancelled meanwhile is accepted without a word, and stays cancelled."""
        server = self.in_state("WITHDRAWN")
        self.assertEqual(server.accept(1, {}), b"")
        self.assertIs(server.channels[1].state, ChannelState.WITHDRAWN)
        self.assertFalse(server.is_open(1))
        self.assertEqual(server.close(1, {})[4:], frame(FrameType.CLOSE, 1))

    def test_nothingBeforeAccept(self) -> None:
        """A server sends nothing on a channel before ACCEPT."""
        self.open(1)
        self.assertEqual(self.server.sendable(1, 1), 0)
        for send in (
            lambda: self.server.send_data(1, 1, 1),
            lambda: self.server.send_end(1, 1),
            lambda: self.server.send_stop(1, 0),
            lambda: self.server.send_credit(1, 0, 1),
            lambda: self.server.send_control(1, {}),
        ):
            self.assertRaises(LocalProtocolError, send)

    def test_request(self) -> None:
        """What is asked for is passed on whole, and not looked at."""
        services: tuple[Any, ...] = ("command", None, 1, ["command"], {"a": []})
        for service in services:
            event = self.open(self.server.last_channel + 1, service=service)
            assert isinstance(event, events.ChannelOpened)
            self.assertEqual(event.request["service"], service)

    def test_early(self) -> None:
        """Stream 0 may be used before ACCEPT, up to the credit of our settings."""
        self.open(1)
        self.assertEqual(
            self.server.receive(frame(FrameType.DATA, 1, b"\0" + b"a" * 100)),
            events.DataReceived(1, 0, b"a" * 100),
        )
        self.assertRaises(
            RemoteProtocolError, self.server.receive, frame(FrameType.DATA, 1, b"\0a")
        )
        self.assertEqual(
            self.server.receive(frame(FrameType.END, 1, b"\0")), events.EndReceived(1, 0)
        )

    def test_ids(self) -> None:
        """Ids increase; gaps are allowed, and what was skipped is over."""
        self.open(3)
        for channel in (0, 1, 2, 3):
            self.assertRaises(RemoteProtocolError, self.open, channel)
        self.assertIsNone(self.server.receive(frame(FrameType.DATA, 2, b"\0a")))
        self.assertRaises(
            RemoteProtocolError, self.server.receive, frame(FrameType.DATA, 4, b"\0a")
        )
        self.assertRaises(
            RemoteProtocolError, self.server.receive, frame(FrameType.DATA, 0, b"\0a")
        )
        self.open(2**32 - 1)
        self.assertEqual(sorted(self.server.channels), [3, 2**32 - 1])

    def test_credit(self) -> None:
        """The credit of OPEN is an object with integers; a stream that is missing has none."""
        self.open(1, credit={})
        self.server.accept(1, {})
        self.assertEqual((self.server.sendable(1, 1), self.server.sendable(1, 2)), (0, 0))
        self.open(2, credit={"1": MAX_CREDIT, "2": 0, "0": "ignored"})
        values: tuple[Any, ...] = (None, True, -1, MAX_CREDIT + 1, 10**400, 1.0, "1", [], {})
        odd: tuple[Any, ...] = (
            None,
            10,
            "10",
            [1, 2],
            *({"1": value} for value in values),
            {"2": -1},
        )
        for credit in odd:
            self.assertRaises(RemoteProtocolError, self.open, 3, credit=credit)
        self.assertEqual(self.server.last_channel, 2)

    def test_unreadable(self) -> None:
        """An OPEN that cannot be read opens nothing."""
        for body in (b"", b"[]", b"{", b"{}", b"\xff"):
            self.assertRaises(
                RemoteProtocolError, self.server.receive, frame(FrameType.OPEN, 1, body)
            )
        self.assertEqual((self.server.channels, self.server.last_channel), ({}, 0))

    def test_goingAway(self) -> None:
        """After GOAWAY no channel is opened, those that are go on, and its word does not change."""
        self.open(1)
        sent = self.server.send_goaway("shutdown", "bye")
        self.assertEqual(decode_goaway(sent[9:]), (1, "shutdown", "bye"))
        self.assertIsNone(self.open(5))
        self.assertIsNone(self.server.receive(frame(FrameType.DATA, 5, b"\0a")))
        self.assertIsNone(self.server.receive(frame(FrameType.CLOSE, 5, b"")))
        self.assertEqual(list(self.server.channels), [1])
        self.assertRaises(RemoteProtocolError, self.open, 5)
        sent = self.server.send_goaway("protocol", "again")
        self.assertEqual(decode_goaway(sent[9:]), (1, "protocol", "again"))
        self.assertTrue(self.server.accept(1, {}))
        self.assertTrue(self.server.close(1, {}))

    def test_clientGoingAway(self) -> None:
        """A client that has said GOAWAY opens no more; what is open goes on."""
        self.open(1)
        self.assertEqual(
            self.server.receive(frame(FrameType.GOAWAY, 0, bytes(4) + b'{"code":"shutdown"}')),
            events.GoingAway(0, "shutdown", ""),
        )
        self.assertRaises(RemoteProtocolError, self.open, 2)
        self.assertTrue(self.server.accept(1, {}))

    def test_tooLong(self) -> None:
        """Nothing is sent that the client does not take, and the channel stays as it was."""
        server = self.fresh(MIN_FRAME)
        self.open(1, server)
        self.assertRaises(LocalProtocolError, server.accept, 1, {"a": "b" * MIN_FRAME})
        self.assertIs(server.channels[1].state, ChannelState.OPENING)
        server.accept(1, {})
        self.assertRaises(LocalProtocolError, server.send_control, 1, {"a": "b" * MIN_FRAME})
        self.assertRaises(LocalProtocolError, server.close, 1, {"a": "b" * MIN_FRAME})
        server.close(1, {})

    def test_longMessages(self) -> None:
        """The message of an error is cut, so that every client takes it."""
        server = self.fresh(MIN_FRAME)
        for channel, state in enumerate(("OPENING", "OPEN"), 1):
            self.open(channel, server)
            if state == "OPEN":
                server.accept(channel, {})
            sent = server.fail(channel, "lost", "\U0001f600" * 10 * MAX_REASON)
            self.assertTrue(len(sent) - 4 <= MIN_FRAME)
        self.assertTrue(len(server.send_goaway("lost", "\0" * 10 * MAX_REASON)) - 4 <= MIN_FRAME)
