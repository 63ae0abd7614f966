"""Tests of times that count from 1900, on both sides of 2036."""

from struct import unpack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import RemoteProtocolError
from sockproto.wire.timestamps import from_rfc868, from_timestamp, to_rfc868, to_timestamp

#: 2036-02-07 06:28:16 UTC, where the seconds since 1900 begin anew.
WRAP = 2_085_978_496


class TimestampTests(SynchronousTestCase):
    """Tests of NTP's timestamps."""

    def test_wrap(self) -> None:
        """The second at which the count is full is followed by zero."""
        self.assertEqual(to_timestamp(WRAP - 1) >> 32, 2**32 - 1)
        self.assertEqual(to_timestamp(WRAP), 0)

    @given(st.floats(0, 8_000_000_000, allow_nan=False), st.floats(-(2**31) + 2, 2**31 - 2))
    def test_nearest(self, seconds: float, apart: float) -> None:
        """A timestamp means the time in the era that is nearest to now."""
        back = from_timestamp(to_timestamp(seconds), seconds + apart)
        self.assertLess(abs(back - seconds), 0.00001)


class RFC868Tests(SynchronousTestCase):
    """Tests of RFC 868's seconds."""

    def test_known(self) -> None:
        """The examples of the RFC itself, and back."""
        for moment, since1900 in ((0, 2_208_988_800), (208_223_999 + 1, 2_417_212_800)):
            self.assertEqual(unpack(">I", to_rfc868(moment)), (since1900,))
            self.assertEqual(from_rfc868(to_rfc868(moment), 0), moment)

    def test_wrap(self) -> None:
        """In 2036 the count begins anew."""
        self.assertEqual(to_rfc868(WRAP - 1), b"\xff\xff\xff\xff")
        self.assertEqual(to_rfc868(WRAP), b"\0\0\0\0")
        self.assertEqual(to_rfc868(WRAP + 1.9), b"\0\0\0\x01")

    def test_acrossTheWrap(self) -> None:
        """Whichever side of it either clock is on, the time is the one nearest to ours."""
        for theirs in (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x05"):
            told = {from_rfc868(theirs, WRAP + ours) - WRAP for ours in (-100, 0, 100)}
            self.assertEqual(told, {unpack(">i", theirs)[0]})

    @given(st.integers(0, 8_000_000_000), st.integers(-(2**31) + 2, 2**31 - 2))
    def test_nearest(self, seconds: int, apart: int) -> None:
        """Four bytes mean the time in the era that is nearest to now."""
        self.assertEqual(from_rfc868(to_rfc868(seconds), seconds + apart), seconds)

    def test_wrong(self) -> None:
        """More or fewer than four bytes are no time."""
        for data in (b"", b"\0\0\0", b"\0\0\0\0\0"):
            self.assertRaises(RemoteProtocolError, from_rfc868, data, 0)
