"""Tests of the credit for stream 0: how channels share what a connection takes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.session.input_credit import MAX_OUTSTANDING, MAX_WINDOW, InputPool, InputWindow


class Sender:
    """A client's side of a window: sends all that it may, which the command reads at once."""

    def __init__(self, pool: InputPool, initial: int) -> None:
        self.window = InputWindow(pool, initial)
        self.credit = initial

    def send(self, count: int) -> None:
        self.credit -= count
        self.window.received(count)

    def read(self, count: int) -> int:
        granted = self.window.consumed(count, self.credit)
        self.credit += granted
        return granted

    def stream(self) -> None:
        """Send and read until the window grows no more."""
        for _ in range(20):
            count = self.credit
            self.send(count)
            self.read(count)


class InputCreditTests(SynchronousTestCase):
    """The pool and its windows."""

    def test_initial(self) -> None:
        """All channels together are born with at most half of what a connection takes."""
        for channels in (1, 2, 255, 256, 257, 1000, 65_536):
            initial = InputPool.initial_credit(channels)
            self.assertTrue(0 < initial <= 4096)
            self.assertLessEqual(initial * channels, MAX_OUTSTANDING // 2)
            pool = InputPool.for_channels(channels, initial)
            self.assertEqual(pool.free + channels * initial, MAX_OUTSTANDING)

    def test_growth(self) -> None:
        """A window grows as it is used, to 256 KiB."""
        sender = Sender(InputPool(1 << 20), 4096)
        sender.send(4096)
        self.assertEqual(sender.read(4096), 8192)
        sender.stream()
        self.assertEqual(sender.credit, MAX_WINDOW)

    def test_shortInput(self) -> None:
        """A short input takes little from the pool."""
        pool = InputPool(1 << 20)
        sender = Sender(pool, 4096)
        sender.send(1)
        sender.read(1)
        self.assertEqual(pool.free, (1 << 20) - 4096)

    def test_latecomers(self) -> None:
        """However many use their windows to the full, something is left for the next."""
        pool = InputPool(1 << 20)
        senders = [Sender(pool, 4096) for _ in range(100)]
        for sender in senders:
            sender.stream()
        sizes = [sender.credit for sender in senders]
        self.assertEqual(sizes[:3], [MAX_WINDOW] * 3)
        self.assertGreater(sizes[7], 8192)
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertGreaterEqual(min(sizes), 4096)
        self.assertGreaterEqual(pool.free, 0)

    def test_worthAFrame(self) -> None:
        """Credit is granted in quarters of the window, not byte by byte."""
        sender = Sender(InputPool(0), 4096)
        sender.send(4096)
        self.assertEqual([sender.read(1) for _ in range(1023)], [0] * 1023)
        self.assertEqual(sender.read(1), 1024)

    def test_unread(self) -> None:
        """What the command has not read is not granted anew."""
        sender = Sender(InputPool(0), 4096)
        sender.send(4096)
        self.assertEqual(sender.read(2048), 2048)
        sender.send(2048)
        self.assertEqual(sender.credit, 0)
        self.assertEqual(sender.read(1), 0)

    def test_end(self) -> None:
        """After the end of the input its share is free as soon as all has been passed on."""
        pool = InputPool(1 << 20)
        sender = Sender(pool, 4096)
        sender.stream()
        sender.send(1000)
        sender.window.end()
        self.assertLess(pool.free, 1 << 20)
        self.assertEqual(sender.read(600), 0)
        self.assertLess(pool.free, 1 << 20)
        self.assertEqual(sender.read(400), 0)
        self.assertEqual(pool.free, 1 << 20)

    def test_endRead(self) -> None:
        """The end of an input that has all been read frees its share at once."""
        pool = InputPool(1 << 20)
        sender = Sender(pool, 4096)
        sender.stream()
        sender.window.end()
        self.assertEqual(pool.free, 1 << 20)

    def test_released(self) -> None:
        """A release gives back what was taken, once, and nothing is taken after it."""
        pool = InputPool(1 << 20)
        sender = Sender(pool, 4096)
        sender.stream()
        sender.send(10)
        sender.window.release()
        sender.window.release()
        self.assertEqual(pool.free, 1 << 20)
        self.assertEqual(sender.read(10), 0)
        self.assertEqual(pool.free, 1 << 20)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.integers(0, 7), st.sampled_from("srze"), st.integers(0, 300_000)),
            max_size=120,
        )
    )
    def test_bound(self, steps: list[tuple[int, str, int]]) -> None:
        """Whatever the channels do, what clients may send and commands have not read is never
        over what the connection takes, and all comes back in the end."""
        initial = InputPool.initial_credit(8)
        pool = InputPool.for_channels(8, initial)
        whole = pool.free
        senders = [Sender(pool, initial) for _ in range(8)]
        for number, what, count in steps:
            sender = senders[number]
            if what == "s":
                sender.send(min(count, sender.credit))
            elif what == "r":
                sender.read(min(count, sender.window._unread))
            elif what == "z":
                sender.window.release()
                sender.credit = 0
            else:
                sender.window.end()
                sender.credit = 0
            outstanding = sum(
                each.credit + each.window._unread for each in senders if not each.window._ended
            )
            self.assertLessEqual(outstanding, MAX_OUTSTANDING)
            self.assertGreaterEqual(pool.free, 0)
        for sender in senders:
            sender.window.release()
        self.assertEqual(pool.free, whole)
