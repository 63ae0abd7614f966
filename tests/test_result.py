"""Tests for :mod:`sockproto.result`."""

from __future__ import annotations

import signal

from twisted.trial.unittest import SynchronousTestCase

from sockproto.result import Collected, Output, Result, left, refused, signal_number
from sockproto.wire.commands import CommandResult
from sockproto.wire.events import ChannelRejected, GoingAway


class ResultTests(SynchronousTestCase):
    """What users see of an end."""

    def test_ok(self) -> None:
        """Only a status of 0, in time, is ok."""
        self.assertTrue(Result(0).ok)
        self.assertFalse(Result(1).ok)
        self.assertFalse(Result(signal="TERM").ok)
        self.assertFalse(Result(0, timed_out=True).ok)

    def test_repr(self) -> None:
        """A result's repr tells how much output there is, and not all of it."""
        self.assertIn("<1000000 bytes>", repr(Result(0, stdout=bytes(1_000_000))))

    def test_reasons(self) -> None:
        """An error always has something to say, whatever the agent said."""
        self.assertEqual(str(refused(ChannelRejected(1, "busy", "full"))), "full")
        self.assertTrue(str(refused(ChannelRejected(1, "busy", ""))))
        self.assertTrue(str(left(GoingAway(0, "shutdown", ""))))
        self.assertEqual(left(GoingAway(0, "shutdown", "")).code, "shutdown")


class CollectedTests(SynchronousTestCase):
    """Output as it is collected."""

    def collect(self, most: int, *pieces: Output) -> Result:
        collected = Collected(most)
        for piece in pieces:
            collected.add(piece)
        return collected.result(CommandResult(exit_status=0))

    def test_streamsApart(self) -> None:
        """The streams are kept apart, and each in order."""
        result = self.collect(10, Output(1, b"a"), Output(2, b"x"), Output(1, b"b"))
        self.assertEqual((result.stdout, result.stderr, result.truncated), (b"ab", b"x", False))

    def test_limit(self) -> None:
        """Exactly as much as allowed is whole; a byte more is truncated."""
        self.assertFalse(self.collect(2, Output(1, b"ab"), Output(2, b"xy")).truncated)
        result = self.collect(2, Output(1, b"a"), Output(1, b"bc"), Output(1, b"d"))
        self.assertEqual((result.stdout, result.truncated), (b"ab", True))
        self.assertTrue(self.collect(0, Output(1, b"a")).truncated)
        self.assertRaises(ValueError, Collected, -1)

    def test_dropsCostNothing(self) -> None:
        """What is over the limit is not even kept as nothing."""
        collected = Collected(1)
        for _ in range(100):
            collected.add(Output(1, b"ab"))
        self.assertEqual(len(collected._pieces[1]), 1)


class SignalNumberTests(SynchronousTestCase):
    """Names of signals."""

    def test_names(self) -> None:
        """Names, numbers and real-time signals are understood."""
        self.assertEqual(signal_number("KILL"), 9)
        self.assertEqual(signal_number("9"), 9)
        self.assertEqual(signal_number("RTMIN+3"), signal.SIGRTMIN + 3)

    def test_none(self) -> None:
        """What is no signal here is an error, not a number."""
        for name in ("", "NO", "99999", "0", "RTMIN+99", "RTMIN+x", "KILL+", "-1"):
            self.assertRaises(ValueError, signal_number, name)
