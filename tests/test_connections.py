"""Tests for :mod:`sockproto.connections`."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from sockproto.connections import ConnectionCap
from sockproto.limits import Limits


class CapTests(SynchronousTestCase):
    """How many connections there may be."""

    def test_all(self) -> None:
        """In all, whoever they are of."""
        cap = ConnectionCap(Limits(connections=3), 10_000)
        for host in ("192.0.2.1", "127.0.0.1", None):
            self.assertIsNone(cap.admit(host))
        for host in ("192.0.2.2", "::1", None):
            self.assertEqual(cap.admit(host), "3 connections are open, which is the limit")
        cap.release(None)
        self.assertIsNone(cap.admit("192.0.2.2"))

    def test_oneSource(self) -> None:
        """Of one source, which is an IPv4 address or an IPv6 /64."""
        cap = ConnectionCap(Limits(per_source=2), 10_000)
        for hosts in (
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::2", "2001:db8::3"),
        ):
            self.assertIsNone(cap.admit(hosts[0]))
            self.assertIsNone(cap.admit(hosts[1]))
            self.assertIn("which is its limit", str(cap.admit(hosts[2])))
        self.assertIsNone(cap.admit("192.0.2.2"))
        cap.release("192.0.2.1")
        self.assertIsNone(cap.admit("192.0.2.1"))

    def test_local(self) -> None:
        """This machine's users are no one source."""
        cap = ConnectionCap(Limits(per_source=1), 10_000)
        for host in ("127.0.0.1", "127.0.0.1", "::1", None, None):
            self.assertIsNone(cap.admit(host))

    def test_descriptors(self) -> None:
        """The descriptors of the process bound it, with room for what else needs them."""
        for descriptors, most in ((64, 32), (1024, 512), (4096, 4096 - 832), (100_000, 4096)):
            cap = ConnectionCap(Limits(), descriptors)
            count = 0
            while cap.admit(None) is None:
                count += 1
            self.assertEqual(count, most)

    def test_everythingComesBack(self) -> None:
        """Whatever comes and goes, in the end nothing is counted and nobody is remembered."""
        cap = ConnectionCap(Limits(connections=20, per_source=5), 10_000)
        dice = random.Random(7)
        inside: list[str | None] = []
        for _ in range(2000):
            if inside and dice.random() < 0.5:
                cap.release(inside.pop(dice.randrange(len(inside))))
            else:
                host = dice.choice(["192.0.2.1", "192.0.2.2", "2001:db8::1", "::1", None])
                if cap.admit(host) is None:
                    inside.append(host)
            self.assertLessEqual(len(inside), 20)
        for host in inside:
            cap.release(host)
        self.assertEqual((cap._count, dict(cap._sources)), (0, {}))
