"""Tests of the turns in which the channels of a connection write."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.session.turns import Turns


class TurnsTests(SynchronousTestCase):
    """Turns, by the order of what is written."""

    def setUp(self) -> None:
        self.turns = Turns()
        self.written: list[str] = []
        self.failures = 0

    def failed(self) -> None:
        self.failures += 1

    def stream(self, name: str, count: int, at: Callable[[], None] = lambda: None) -> None:
        """Queue a stream that has so many frames to write."""
        left = [name] * count

        def turn() -> bool:
            self.written.append(left.pop())
            at()
            return bool(left)

        self.turns.ready(turn, self.failed)

    def pause(self) -> None:
        self.turns.pauseProducing()

    def test_interface(self) -> None:
        """It is a push producer."""
        self.assertTrue(verifyObject(IPushProducer, self.turns))

    def test_atOnce(self) -> None:
        """While nobody waits a turn comes at once, until there is no more."""
        self.assertTrue(self.turns.free)
        self.stream("a", 3)
        self.assertEqual(self.written, ["a", "a", "a"])
        self.assertTrue(self.turns.free)

    def test_fatAndThin(self) -> None:
        """Streams write in turn, a frame each: a fat one does not delay a thin one."""
        self.turns.pauseProducing()
        self.stream("fat", 4)
        self.stream("thin", 1)
        self.stream("other", 2)
        self.assertEqual(self.written, [])
        self.assertFalse(self.turns.free)
        self.turns.resumeProducing()
        self.assertEqual(self.written, ["fat", "thin", "other", "fat", "other", "fat", "fat"])

    def test_pausedWithin(self) -> None:
        """A transport that has enough after a frame gets no other before it resumes."""
        self.stream("fat", 3, self.pause)
        self.stream("thin", 1, self.pause)
        self.assertEqual(self.written, ["fat"])
        self.turns.resumeProducing()
        self.assertEqual(self.written, ["fat", "fat"])
        self.turns.resumeProducing()
        self.assertEqual(self.written, ["fat", "fat", "thin"])
        self.turns.resumeProducing()
        self.assertEqual(self.written, ["fat", "fat", "thin", "fat"])

    def test_resumedWithin(self) -> None:
        """A transport that resumes from within a turn does not turn the order around."""
        self.pause()
        self.stream("a", 2, self.turns.resumeProducing)
        self.stream("b", 2, self.turns.resumeProducing)
        self.turns.resumeProducing()
        self.assertEqual(self.written, ["a", "b", "a", "b"])

    def test_readyWithin(self) -> None:
        """What gets ready during a turn waits for its own; what is queued is not queued twice."""

        def turn() -> bool:
            self.written.append("x")
            self.assertFalse(self.turns.free)
            if len(self.written) < 3:
                self.turns.ready(turn, self.failed)
                self.turns.ready(turn, self.failed)
                self.stream("y", 1)
            return len(self.written) < 3

        self.turns.ready(turn, self.failed)
        self.assertEqual(self.written, ["x", "x", "y", "x", "y"])

    def test_withdrawn(self) -> None:
        """A turn that was withdrawn does not come, and nothing of it is kept."""
        self.pause()

        def turn() -> bool:
            self.written.append("never")
            return False

        self.turns.ready(turn, self.failed)
        self.turns.withdraw(turn)
        self.turns.withdraw(turn)
        self.turns.resumeProducing()
        self.assertEqual(self.written, [])
        self.assertTrue(self.turns.free)

    def test_failure(self) -> None:
        """A turn that raises is over; the others go on, and who resumed does not hear of it."""

        def turn() -> bool:
            raise ValueError("a mistake")

        self.pause()
        self.turns.ready(turn, self.failed)
        self.stream("b", 2)
        self.turns.resumeProducing()
        self.assertEqual((self.failures, self.written), (1, ["b", "b"]))
        self.assertTrue(self.turns.free)

    def test_stopped(self) -> None:
        """Once the transport is gone no turn comes, whoever asks, and nothing is kept."""
        self.pause()
        self.stream("a", 1)
        self.turns.stopProducing()
        self.stream("b", 1)
        self.turns.resumeProducing()
        self.assertEqual(self.written, [])
        self.assertFalse(self.turns.free)

    def test_stoppedWithin(self) -> None:
        """A transport that goes during a turn gets no further one."""
        self.stream("a", 2, self.turns.stopProducing)
        self.assertEqual(self.written, ["a"])

    def test_owed(self) -> None:
        """What was owed during a pause is not owed after it."""
        self.pause()
        self.turns.owed += 100
        self.turns.resumeProducing()
        self.assertEqual(self.turns.owed, 0)
