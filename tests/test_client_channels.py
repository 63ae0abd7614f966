"""Tests of `sockproto.wire.client_channels`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire import events
from sockproto.wire.channel_state import ChannelState
from sockproto.wire.client_channels import ClientChannels
from sockproto.wire.messages import FrameType, decode_json, encode_json
from sockproto.wire.settings import MAX_CREDIT, MIN_FRAME, Settings

# What each type of frame is to a client in each state of the channel it names: E an error,
# - nothing, else an event by a letter.
STATES = ("never", "OPENING", "OPEN", "WITHDRAWN", "CANCELLED", "over")
TABLE = {
    FrameType.SETTINGS: "EEEEEE",
    FrameType.OPEN: "EEEEEE",
    FrameType.ACCEPT: "EAE-E-",
    FrameType.REJECT: "ERERE-",
    FrameType.DATA: "EEDE--",
    FrameType.END: "EENE--",
    FrameType.STOP: "EESE--",
    FrameType.CREDIT: "EECE--",
    FrameType.CONTROL: "EEME--",
    FrameType.CLOSE: "EEXXX-",
    FrameType.PING: "EEEEEE",
    FrameType.PONG: "EEEEEE",
    FrameType.GOAWAY: "EEEEEE",
}
BODIES = {
    FrameType.SETTINGS: b'{"max_frame":4096}',
    FrameType.OPEN: b'{"credit":{}}',
    FrameType.DATA: b"\1abc",
    FrameType.END: b"\1",
    FrameType.STOP: b"\0",
    FrameType.CREDIT: b"\0\0\0\0\1",
    FrameType.PING: bytes(8),
    FrameType.PONG: bytes(8),
    FrameType.GOAWAY: b"\0\0\0\0{}",
}
EVENTS = {
    "A": events.ChannelAccepted,
    "R": events.ChannelRejected,
    "D": events.DataReceived,
    "N": events.EndReceived,
    "S": events.StopReceived,
    "C": events.CreditReceived,
    "M": events.ControlReceived,
    "X": events.ChannelClosed,
}


def frame(kind: FrameType, channel: int, body: bytes | dict[str, Any] = b"{}") -> bytes:
    """A payload."""
    octets = body if isinstance(body, bytes) else encode_json(body)
    return bytes((kind,)) + channel.to_bytes(4, "big") + octets


class ClientTests(SynchronousTestCase):
    """The client's side, with a server that is played by bytes."""

    def setUp(self) -> None:
        self.client = self.fresh()

    def fresh(self, max_frame: int = 2**20) -> ClientChannels:
        """A client whose server has told its settings."""
        client = ClientChannels(Settings(2**20))
        client.receive(frame(FrameType.SETTINGS, 0, {"max_frame": max_frame, "credit": 100}))
        return client

    def in_state(self, state: str) -> ClientChannels:
        """A client whose channel 1 is in a state."""
        client = self.fresh()
        if state == "never":
            return client
        client.open({}, 10, 10)
        if state in ("OPEN", "CANCELLED"):
            client.receive(frame(FrameType.ACCEPT, 1))
        if state in ("WITHDRAWN", "CANCELLED"):
            client.cancel(1)
        if state == "over":
            client.receive(frame(FrameType.REJECT, 1))
        else:
            self.assertIs(client.channels[1].state, ChannelState[state])
        return client

    def test_everyFrameInEveryState(self) -> None:
        """Each type of frame is an event, nothing or an error, as the state of its channel says."""
        self.assertEqual(set(TABLE), set(FrameType))
        for kind, row in TABLE.items():
            for state, expected in zip(STATES, row, strict=True):
                client = self.in_state(state)
                payload = frame(kind, 1, BODIES.get(kind, b"{}"))
                where = f"{kind.name} in {state}"
                if expected == "E":
                    try:
                        found = client.receive(payload)
                    except RemoteProtocolError as error:
                        self.assertEqual(error.code, "protocol", where)
                    else:
                        self.fail(f"{where}: {found}")
                else:
                    event = client.receive(payload)
                    if expected == "-":
                        self.assertIsNone(event, where)
                    else:
                        self.assertIsInstance(event, EVENTS[expected], where)

    def test_unreadable(self) -> None:
        """A body that is no JSON object is an error, and leaves the channel as it was."""
        for state, kind in (
            ("OPENING", FrameType.ACCEPT),
            ("OPENING", FrameType.REJECT),
            ("OPEN", FrameType.CLOSE),
            ("OPEN", FrameType.CONTROL),
            ("CANCELLED", FrameType.CLOSE),
        ):
            for body in (b"", b"[]", b"{", b"null", b"\xff"):
                client = self.in_state(state)
                self.assertRaises(RemoteProtocolError, client.receive, frame(kind, 1, body))
                self.assertIs(client.channels[1].state, ChannelState[state])

    def test_open(self) -> None:
        """OPEN says what is asked for, and the credit; the ids are 1, 2, 3."""
        for number in (1, 2, 3):
            channel, sent = self.client.open({"service": "command", "argv": ["a"]}, 5, 6)
            self.assertEqual(channel, number)
            self.assertEqual(sent[4:9], frame(FrameType.OPEN, number, b""))
            self.assertEqual(
                decode_json(sent[9:]),
                {"service": "command", "argv": ["a"], "credit": {"1": 5, "2": 6}},
            )
            self.assertEqual(self.client.sendable(number, 0), 100)

    def test_cannotOpen(self) -> None:
        """Nothing is opened before SETTINGS, with impossible credit, or too long for the server."""
        self.assertRaises(LocalProtocolError, ClientChannels(Settings(2**20)).open, {}, 0, 0)
        for out, err in ((-1, 0), (0, -1), (MAX_CREDIT + 1, 0), (0, MAX_CREDIT + 1)):
            self.assertRaises(LocalProtocolError, self.client.open, {}, out, err)
        small = self.fresh(MIN_FRAME)
        error = self.assertRaises(LocalProtocolError, small.open, {"a": "b" * MIN_FRAME}, 0, 0)
        self.assertIn(str(MIN_FRAME), str(error))
        for client in (self.client, small):
            self.assertEqual((client.channels, client.last_channel), ({}, 0))

    def test_fits(self) -> None:
        """A request that is just as long as the server takes is sent."""
        small = self.fresh(MIN_FRAME)
        rest = len(small.open({"a": ""}, 0, 0)[1]) - 4
        _, sent = small.open({"a": "b" * (MIN_FRAME - rest)}, 0, 0)
        self.assertEqual(len(sent) - 4, MIN_FRAME)
        self.assertRaises(LocalProtocolError, small.open, {"a": "b" * (MIN_FRAME - rest + 1)}, 0, 0)

    def test_idsUsedUp(self) -> None:
        """A connection whose ids are used up opens no more."""
        self.client.last_channel = 2**32 - 2
        self.assertEqual(self.client.open({}, 0, 0)[0], 2**32 - 1)
        self.assertRaises(LocalProtocolError, self.client.open, {}, 0, 0)

    def test_rejected(self) -> None:
        """What is no code or message of a REJECT is replaced, and never shown as it is."""
        for body, code, message in (
            ({"code": "not-found", "message": "m"}, "not-found", "m"),
            ({}, "internal", ""),
            ({"code": ["x"], "message": {"y": []}}, "internal", ""),
            ({"code": "a\nb", "message": None}, "internal", ""),
        ):
            channel, _ = self.client.open({}, 0, 0)
            self.assertEqual(
                self.client.receive(frame(FrameType.REJECT, channel, body)),
                events.ChannelRejected(channel, code, message),
            )

    def test_goingAway(self) -> None:
        """GOAWAY ends the channels that are not served; what still comes for them is ignored."""
        for _ in range(3):
            self.client.open({}, 10, 10)
        body = b"\0\0\0\1" + b'{"code":"shutdown","message":"bye"}'
        event = self.client.receive(frame(FrameType.GOAWAY, 0, body))
        self.assertEqual(event, events.GoingAway(1, "shutdown", "bye"))
        self.assertEqual(self.client.going_away, event)
        self.assertEqual(list(self.client.channels), [1])
        for kind in (FrameType.ACCEPT, FrameType.DATA, FrameType.CLOSE):
            self.assertIsNone(self.client.receive(frame(kind, 2, BODIES.get(kind, b"{}"))))
        self.assertEqual(self.client.cancel(2), b"")
        self.assertFalse(self.client.is_open(2))
        self.assertRaises(LocalProtocolError, self.client.open, {}, 0, 0)
        self.assertEqual(
            self.client.receive(frame(FrameType.ACCEPT, 1)), events.ChannelAccepted(1, {})
        )
        self.assertEqual(
            self.client.receive(frame(FrameType.CLOSE, 1)), events.ChannelClosed(1, {})
        )
        self.assertRaises(RemoteProtocolError, self.client.receive, frame(FrameType.ACCEPT, 4))

    def test_cancelNothing(self) -> None:
        """To cancel what is over, or was never there, is to say nothing."""
        self.assertEqual(self.in_state("over").cancel(1), b"")
        self.assertEqual(self.client.cancel(7), b"")

    def test_early(self) -> None:
        """Input may be sent before ACCEPT, and the stream ended."""
        channel, _ = self.client.open({}, 0, 0)
        self.client.send_data(channel, 0, 100)
        self.assertEqual(self.client.sendable(channel, 0), 0)
        self.assertTrue(self.client.send_end(channel, 0))
