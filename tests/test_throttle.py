"""Tests for :mod:`sockproto.throttle`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sockproto.throttle import LogThrottle


class ThrottleTests(SynchronousTestCase):
    """Lines of a log, by source."""

    def setUp(self) -> None:
        self.now = 0.0
        self.throttle = LogThrottle(lambda: self.now, lines=3, period=60, sources=4)

    def test_lines(self) -> None:
        """A source has its lines, and the first one of the next period says what was left out."""
        self.assertEqual([self.throttle.admit("a") for _ in range(8)], [0, 0, 0, *[None] * 5])
        self.now = 59.9
        self.assertIsNone(self.throttle.admit("a"))
        self.now = 60
        self.assertEqual(self.throttle.admit("a"), 6)
        self.assertEqual(self.throttle.admit("a"), 0)

    def test_apart(self) -> None:
        """One source's lines are nothing to another's."""
        for _ in range(10):
            self.throttle.admit("a")
        self.assertEqual(self.throttle.admit("b"), 0)

    def test_bounded(self) -> None:
        """Of many sources the one whose period began first is forgotten."""
        for source in "abcdefghij" * 2:
            self.throttle.admit(source)
        self.assertEqual(list(self.throttle._windows), ["g", "h", "i", "j"])

    def test_renewedIsYoung(self) -> None:
        """A source whose period begins again is not the oldest any more."""
        for source in "abcd":
            self.throttle.admit(source)
        self.now = 60
        self.throttle.admit("a")
        self.throttle.admit("e")
        self.assertEqual(list(self.throttle._windows), ["c", "d", "a", "e"])
