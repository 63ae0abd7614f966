"""Tests for :mod:`sockproto.limits`."""

from __future__ import annotations

from ipaddress import ip_network

import attrs
from twisted.trial.unittest import SynchronousTestCase

from sockproto.limits import MAX_DATA, Limits


class LimitsTests(SynchronousTestCase):
    """The limits of a server."""

    def test_defaultsOfTheContract(self) -> None:
        """The figures that the design and the threats name are the defaults."""
        limits = Limits()
        self.assertEqual(limits.frame, 131_072)
        self.assertEqual(limits.login_seconds, 10)
        self.assertEqual(limits.drain_seconds, 5)
        self.assertEqual((limits.commands, limits.channels, limits.output), (256, 256, None))
        self.assertEqual(
            (
                limits.unauthenticated_start,
                limits.unauthenticated_rate,
                limits.unauthenticated_full,
                limits.unauthenticated_per_source,
                limits.unauthenticated_local,
            ),
            (10, 30, 100, 8, 1024),
        )
        self.assertEqual((limits.known_factor, limits.known_seconds), (16, 3600))
        self.assertEqual((limits.datagram_burst, limits.datagram_rate), (20, 1))

    def test_frozen(self) -> None:
        """Limits do not change once a server has them."""
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            Limits().frame = 1  # type: ignore[misc]

    def test_trustedSourcesAsText(self) -> None:
        """An embedder may write networks as text."""
        limits = Limits(trusted_sources=["10.0.0.0/8"])
        self.assertEqual(limits.trusted_sources, (ip_network("10.0.0.0/8"),))

    def test_frameHoldsData(self) -> None:
        """A limit on frames that the largest DATA frame would break is refused."""
        self.assertEqual(Limits(frame=MAX_DATA + 6).frame, MAX_DATA + 6)
        error = self.assertRaises(ValueError, Limits, frame=MAX_DATA + 5)
        self.assertIn("frame has to be from 65542", str(error))

    def test_nonsense(self) -> None:
        """Figures that would make a server useless are refused by name."""
        for name, value in (
            ("login_seconds", 0),
            ("idle_seconds", -1),
            ("connections", 0),
            ("commands", 0),
            ("channels", 65_537),
            ("output", 0),
            ("unauthenticated_rate", 101),
            ("unauthenticated_full", 9),
            ("penalty_max_seconds", 1),
            ("sources", 0),
            ("datagram_rate", 0),
            ("login_seconds", float("nan")),
            ("drain_seconds", float("nan")),
        ):
            error = self.assertRaises(ValueError, Limits, **{name: value})
            self.assertIn(name, str(error))

    def test_connectionsWithin(self) -> None:
        """The cap leaves descriptors for commands, and something is left however few there are."""
        limits = Limits()
        self.assertEqual(limits.connections_within(1_048_576), limits.connections)
        self.assertEqual(limits.connections_within(4096), 4096 - 3 * 256 - 64)
        self.assertEqual(limits.connections_within(1024), 512)
        self.assertEqual(limits.connections_within(1), 1)
