"""Tests of the time as text: only the standard directives, and never more than threefold."""

import itertools
import string
import time
from datetime import UTC, datetime, timedelta, timezone
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.services.timetext import MAX_FORMAT, answer_format, daytime, expand

NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=1), "CET"))
STANDARD = "aAbBcCdDeFgGhHIjmMnprRStTuUVwWxXyYzZ%"
HEADERS = 28


class ExpandTests(SynchronousTestCase):
    """Tests of `expand`."""

    def test_values(self) -> None:
        """Each composed and padded directive has the value that C17 gives it in the C locale."""
        known = {
            "%c": "Tue Feb  3 04:05:06 2026",
            "%x": "02/03/26",
            "%X": "04:05:06",
            "%r": "04:05:06 AM",
            "%e": " 3",
            "%j": "034",
            "%Z": "CET",
            "%z": "+0100",
            "%n%t%%": "\n\t%",
        }
        self.assertEqual({text: expand(text, NOW, 100) for text in known}, known)

    @given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)))
    def test_asTheSystem(self, moment: datetime) -> None:
        """Every directive says what the C library says, whatever the day."""
        moment = moment.replace(tzinfo=UTC)
        for directive in STANDARD:
            text = f"%{directive}"
            self.assertEqual((text, expand(text, moment, 100)), (text, moment.strftime(text)))

    def test_literal(self) -> None:
        """What is no directive of the standards is copied: widths, flags, extensions, a lone %."""
        for text in ("%500d", "%-d", "%^a", "%s", "%k", "%P", "%+", "%", "%5Y", "%:z", "%Q", "%é"):
            self.assertEqual(expand(text, NOW, 10_000), text)

    def test_modifiers(self) -> None:
        """E and O change nothing in the C locale, and stand only where POSIX has them."""
        self.assertEqual(expand("%EY %Od %Ed %OY", NOW, 100), "2026 03 %Ed %OY")

    def test_limit(self) -> None:
        """What would be longer than allowed stays as it was, and what is behind it too if need
        be."""
        self.assertEqual(expand("%c|%Y", NOW, 26), "%c|2026")
        self.assertEqual(expand("%c", NOW, 24), "Tue Feb  3 04:05:06 2026")
        self.assertEqual(expand("%c", NOW, 23), "%c")


class AnswerTests(SynchronousTestCase):
    """Tests of `answer_format`."""

    def test_default(self) -> None:
        """An empty format is a date and a time."""
        self.assertEqual(answer_format(b"", NOW), b"2026-02-03 04:05:06")

    def test_otherText(self) -> None:
        """Text around the directives stays, whatever its script."""
        self.assertEqual(answer_format("%Y年%m月%d日".encode(), NOW), "2026年02月03日".encode())

    def test_noFormat(self) -> None:
        """A NUL, bad UTF-8, or more than 64 bytes get no answer; 64 do."""
        for request in (b"\0", b"%Y\0", b"\xff", b"%Y\xe5", b"a" * (MAX_FORMAT + 1)):
            self.assertIsNone(answer_format(request, NOW))
        self.assertEqual(answer_format(b"a" * MAX_FORMAT, NOW), b"a" * MAX_FORMAT)

    def check(self, request: bytes) -> None:
        answer = answer_format(request, NOW)
        if answer is not None:
            self.assertLessEqual(len(answer) + HEADERS, 3 * (len(request) + HEADERS), request)

    def test_amplification(self) -> None:
        """All formats of one and two characters, and all of three around a directive, get at most
        three times what they are."""
        letters = string.printable
        for size in (1, 2):
            for text in itertools.product(letters, repeat=size):
                self.check("".join(text).encode())
        for first, last in itertools.product("%EO5-^_", letters):
            self.check(f"%{first}{last}".encode())
        for directive in STANDARD:
            self.check(f"%{directive}".encode() * 32)

    @given(st.binary(max_size=70))
    def test_anything(self, request: bytes) -> None:
        """No bytes raise, and none are answered by more than three times as much."""
        self.check(request)

    @given(st.text("%EOcABrZ 年", max_size=40))
    def test_directives(self, text: str) -> None:
        """Nor do any crowds of directives."""
        self.check(text.encode())


class DaytimeTests(SynchronousTestCase):
    """Tests of `daytime`."""

    def test_line(self) -> None:
        """A line with the day, the date, the time and the zone (RFC 867)."""
        self.assertEqual(daytime(NOW), b"Tuesday, February 03, 2026 04:05:06-CET\r\n")

    def test_length(self) -> None:
        """The longest is no more than three times an empty request, also in an odd zone."""
        longest = datetime(2026, 9, 30, tzinfo=timezone(timedelta(0), "Zürich-Longname/Summer"))
        self.assertLessEqual(len(daytime(longest)) + HEADERS, 3 * HEADERS)
        self.assertTrue(daytime(longest).isascii())

    def test_notTheCLibrary(self) -> None:
        """A format of a stranger's never reaches the C library."""
        with mock.patch.object(time, "strftime", side_effect=AssertionError):
            self.assertEqual(answer_format(b"%A", NOW), b"Tuesday")
