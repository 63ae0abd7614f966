"""Tests of `sockproto.wire.settings`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import RemoteProtocolError
from sockproto.wire.messages import decode_json, encode_json
from sockproto.wire.settings import MAX_CREDIT, MIN_FRAME, Settings, integer

LEAST: dict[str, Any] = {"max_frame": MIN_FRAME}
# What JSON has beside integers.
ODD: tuple[Any, ...] = (None, True, False, 1.0, 4096.0, "4096", "", [], [4096], {}, {"a": 1})


class SettingsTests(SynchronousTestCase):
    """What a side tells of itself."""

    @hypothesis_settings(deadline=None)
    @given(
        st.integers(MIN_FRAME, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, MAX_CREDIT),
        st.lists(st.text()).map(tuple),
    )
    def test_roundTrip(
        self, max_frame: int, max_channels: int, credit: int, features: tuple[str, ...]
    ) -> None:
        """Settings are read as they were written."""
        settings = Settings(max_frame, max_channels, credit, features)
        self.assertEqual(Settings.decode(decode_json(encode_json(settings.encode()))), settings)

    def test_least(self) -> None:
        """Only the longest frame is required; what is not known is ignored."""
        self.assertEqual(Settings.decode(LEAST), Settings(MIN_FRAME))
        self.assertEqual(Settings.decode({**LEAST, "new": [{}]}), Settings(MIN_FRAME))
        self.assertRaises(RemoteProtocolError, Settings.decode, {})

    def test_ranges(self) -> None:
        """A number out of its range is refused, and its ends are not."""
        for name, least, most in (
            ("max_frame", MIN_FRAME, 2**32 - 1),
            ("max_channels", 0, 2**32 - 1),
            ("credit", 0, MAX_CREDIT),
        ):
            for fit in (least, most):
                self.assertEqual(getattr(Settings.decode({**LEAST, name: fit}), name), fit)
            for unfit in (least - 1, most + 1, -(10**400), 10**400, *ODD):
                error = self.assertRaises(
                    RemoteProtocolError, Settings.decode, {**LEAST, name: unfit}
                )
                self.assertIn(name, str(error))

    def test_features(self) -> None:
        """Features are a list of strings."""
        for unfit in (None, True, 1, "ping", {}, {"ping": 1}, [1], ["ping", None], [["ping"]]):
            self.assertRaises(RemoteProtocolError, Settings.decode, {**LEAST, "features": unfit})

    def test_integer(self) -> None:
        """An integer field is one, and no truth value; a default stands in where it is missing."""
        self.assertEqual(integer({"n": 3}, "n", 0, 3), 3)
        self.assertEqual(integer({}, "n", 0, 3, 1), 1)
        for body in ({}, *({"n": odd} for odd in ODD)):
            self.assertRaises(RemoteProtocolError, integer, body, "n", 0, 5000)
        self.assertRaises(RemoteProtocolError, integer, {"n": None}, "n", 0, 3, 1)
