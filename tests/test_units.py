"""Tests for :mod:`sockproto.server.units`."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.server.units import kind_of, parse_duration, parse_size


class DurationTests(SynchronousTestCase):
    """Durations become seconds."""

    def test_values(self) -> None:
        """Numbers are seconds; text has a figure and a unit, with or without a space or plural."""
        for written, seconds in (
            (30, 30.0),
            (0, 0.0),
            (1.5, 1.5),
            ("30", 30.0),
            ("100 ms", 0.1),
            ("100ms", 0.1),
            ("5 min", 300.0),
            ("5 minutes", 300.0),
            ("1.5 h", 5400.0),
            ("2 hours", 7200.0),
            ("1 d", 86_400.0),
            (" 10 s ", 10.0),
        ):
            self.assertAlmostEqual(parse_duration(written), seconds, places=9, msg=repr(written))

    def test_refused(self) -> None:
        """What is no duration is refused, with what was expected and what was found."""
        for written, found in (
            ("5 parsecs", "'5 parsecs'"),
            ("", "''"),
            ("-5 s", "'-5 s'"),
            ("5 m", "'5 m'"),
            ("1e3", "'1e3'"),
            ("٣ s", "'\\u0663 s'"),
            (True, "true"),
            (None, "a NoneType"),
            ([], "an array"),
            ({}, "a table"),
            (-1, "-1"),
            (math.inf, "inf"),
            (math.nan, "nan"),
        ):
            error = self.assertRaises(ValueError, parse_duration, written)
            self.assertIn("expected a duration", str(error))
            self.assertTrue(str(error).endswith(f"found {found}"), str(error))

    @settings(deadline=None)
    @given(st.text(max_size=30))
    def test_anyText(self, text: str) -> None:
        """Any text is a finite duration of 0 or more, or a ValueError of one short line."""
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            self.assertNotIn("\n", str(error))
        else:
            self.assertTrue(math.isfinite(seconds) and seconds >= 0)


class SizeTests(SynchronousTestCase):
    """Sizes become bytes."""

    def test_values(self) -> None:
        """Numbers are bytes; KiB and the like are powers of 1024, kB and the like of 1000."""
        for written, size in (
            (0, 0),
            (65_536, 65_536),
            ("17", 17),
            ("64 KiB", 65_536),
            ("1 MiB", 1_048_576),
            ("1MiB", 1_048_576),
            ("10 MB", 10_000_000),
            ("2 gib", 2_147_483_648),
            ("1.5 kB", 1500),
            ("0.5 KiB", 512),
            ("3 bytes", 3),
        ):
            self.assertEqual(parse_size(written), size, repr(written))

    def test_refused(self) -> None:
        """What is no size is refused, fractions of a byte too."""
        wrong: list[object] = ["1 XB", "one", "-1", "0.3 KiB", "1.5", "9" * 19]
        wrong += [True, 1.0, None, [], -1]
        for written in wrong:
            error = self.assertRaises(ValueError, parse_size, written)
            self.assertIn("expected a ", str(error))
            self.assertIn("found", str(error))

    @settings(deadline=None)
    @given(st.integers(0, 10**6), st.integers(0, 999))
    def test_exact(self, whole: int, thousandths: int) -> None:
        """Decimal fractions are exact, as a float would not be."""
        self.assertEqual(
            parse_size(f"{whole}.{thousandths:03} GB"), whole * 10**9 + thousandths * 10**6
        )


class KindTests(SynchronousTestCase):
    """Values in messages."""

    def test_textIsNotRepeated(self) -> None:
        """Text in the wrong place may be a secret: the message has only its type."""
        self.assertEqual(kind_of("hunter2"), "text")

    def test_kinds(self) -> None:
        """Booleans and numbers are shown as TOML writes them."""
        self.assertEqual(kind_of(False), "false")
        self.assertEqual(kind_of(7), "the number 7")
        self.assertEqual(kind_of(10**5000), "a very long number")
