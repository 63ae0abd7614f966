"""Tests for :mod:`sockproto.admission`: the limits before the login, on a clock of their own."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.admission import Admission, Kind, Source, Ticket
from sockproto.limits import Limits


class World:
    """An admission with a clock and a die that the test sets."""

    def __init__(self, **limits: object) -> None:
        self.now = 1000.0
        self.die = 0.999
        self.admission = Admission(
            Limits(**limits),  # type: ignore[arg-type]
            lambda: self.now,
            lambda: self.die,
        )

    def take(self, host: str | None) -> Ticket:
        """A ticket that the test relies on."""
        ticket = self.admission.admit(host)
        assert ticket is not None, self.admission.refusal
        return ticket

    def fail(self, host: str | None, times: int = 1) -> None:
        """Failed logins, one after the other."""
        for _ in range(times):
            ticket = self.take(host)
            ticket.failed()
            ticket.ended()

    def login(self, host: str | None) -> None:
        """A login, and the end of its connection."""
        ticket = self.take(host)
        ticket.succeeded()
        ticket.ended()


def stranger(number: int) -> str:
    """One of many addresses."""
    return f"198.18.{number // 256}.{number % 256}"


class SourceTests(SynchronousTestCase):
    """Sources that limits tell apart."""

    def test_names(self) -> None:
        """IPv4 by address, IPv6 by /64, mapped IPv4 as IPv4, scopes dropped."""
        for host, name in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("no address", "no address"),
        ):
            self.assertEqual(Source.of(host).name, name)
            self.assertFalse(Source.of(host).is_local)

    def test_local(self) -> None:
        """Unix sockets and all of loopback, also as mapped IPv4, are the one local source."""
        for host in (None, "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(Source.of(host).is_local)
        self.assertFalse(Source.of("local").is_local)

    @settings(deadline=None)
    @given(st.text(max_size=400))
    def test_anyText(self, host: str) -> None:
        """Whatever a transport calls its peer, there is a source with a name of bounded length."""
        self.assertLessEqual(len(Source.of(host).name), 256)


class StrangerTests(SynchronousTestCase):
    """Remote sources that never logged in."""

    def test_perSource(self) -> None:
        """The ninth connection of a source is refused until one of the eight ends."""
        world = World()
        tickets = [world.take("192.0.2.1") for _ in range(8)]
        self.assertIsNone(world.admission.admit("192.0.2.1"))
        self.assertIn("8 connections of 192.0.2.1", world.admission.refusal)
        self.assertIsNotNone(world.admission.admit("192.0.2.2"))
        tickets[3].ended()
        self.assertIsNotNone(world.admission.admit("192.0.2.1"))
        self.assertEqual(world.admission.refusal, "")

    def test_reconfigure(self) -> None:
        """Other figures hold for the next connection, and what is open still counts."""
        world = World()
        tickets = [world.take("192.0.2.1") for _ in range(2)]
        world.admission.reconfigure(Limits(unauthenticated_per_source=2))
        self.assertIsNone(world.admission.admit("192.0.2.1"))
        tickets[0].ended()
        self.assertIsNotNone(world.admission.admit("192.0.2.1"))

    def test_perNetwork(self) -> None:
        """The addresses of one /64 are one source."""
        world = World()
        for number in range(8):
            world.take(f"2001:db8::{number:x}")
        self.assertIsNone(world.admission.admit("2001:db8::ffff"))
        self.assertIsNotNone(world.admission.admit("2001:db8:0:1::1"))

    def test_oneSourceHarmsNoOther(self) -> None:
        """A thousand tries from one source hold eight places, and others are not even at risk."""
        world = World()
        world.die = 0.0
        admitted = [world.admission.admit("192.0.2.1") for _ in range(1000)]
        self.assertEqual(sum(ticket is not None for ticket in admitted), 8)
        self.assertIsNotNone(world.admission.admit("192.0.2.2"))

    def test_earlyDrop(self) -> None:
        """None below 10, 30 percent at 10, a straight line from there, all from 100 on."""
        world = World()
        for number in range(100):
            chance = 0 if number < 10 else 30 + 70 * (number - 10) / 90
            if chance:
                world.die = chance / 100 - 0.0001
                self.assertIsNone(world.admission.admit(stranger(number)), number)
                self.assertIn(f"{number} connections", world.admission.refusal)
            world.die = chance / 100 + 0.0001
            world.take(stranger(number))
        world.die = 0.999999
        self.assertIsNone(world.admission.admit(stranger(100)))

    def test_noSlope(self) -> None:
        """With start and full the same there is no chance in between: all come in, then none."""
        world = World(unauthenticated_start=10, unauthenticated_full=10)
        for number in range(10):
            world.take(stranger(number))
        self.assertIsNone(world.admission.admit(stranger(10)))

    def test_earlyDropAtRandom(self) -> None:
        """With a fair die some 30 in 100 are dropped at ten open connections."""
        fair = random.Random(20_26)
        admission = Admission(Limits(), lambda: 0.0, fair.random)
        for number in range(10):
            self.assertIsNotNone(admission.admit(stranger(number)))
        dropped = 0
        for number in range(2000):
            ticket = admission.admit(stranger(1000 + number))
            if ticket is None:
                dropped += 1
            else:
                ticket.ended()
        self.assertTrue(0.26 < dropped / 2000 < 0.34, dropped)

    def test_loginFreesThePlace(self) -> None:
        """A connection that has logged in no longer counts, and its end frees nothing twice."""
        world = World()
        ticket = world.take("192.0.2.1")
        self.assertEqual(world.admission.unauthenticated(Kind.STRANGER), 1)
        ticket.succeeded()
        self.assertEqual(world.admission.unauthenticated(Kind.STRANGER), 0)
        ticket.ended()
        ticket.ended()
        self.assertEqual(world.admission.unauthenticated(Kind.STRANGER), 0)

    def test_failureKeepsThePlace(self) -> None:
        """A refused connection counts until it is gone."""
        world = World()
        ticket = world.take("192.0.2.1")
        ticket.failed()
        self.assertEqual(world.admission.unauthenticated(Kind.STRANGER), 1)
        ticket.ended()
        self.assertEqual(world.admission.unauthenticated(Kind.STRANGER), 0)

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=200))
    def test_accounts(self, steps: list[tuple[int, int]]) -> None:
        """Whatever happens to tickets in whatever order, the counts are those of the open ones."""
        world = World(penalty_seconds=0, penalty_max_seconds=0)
        held: list[Ticket] = []
        for host, action in steps:
            if action == 0 or not held:
                ticket = world.admission.admit([None, "::1"][host] if host < 2 else stranger(host))
                if ticket is not None:
                    held.append(ticket)
            elif action == 1:
                held[0].failed()
            else:
                ticket = held.pop(host % len(held))
                (ticket.succeeded if action == 2 else ticket.ended)()
                ticket.ended()
        for kind in Kind:
            expected = sum(ticket.kind is kind for ticket in held)
            self.assertEqual(world.admission.unauthenticated(kind), expected)


class PenaltyTests(SynchronousTestCase):
    """Failures make a source wait."""

    def test_growth(self) -> None:
        """Three failures are free; then a source waits 15 s, 30 s, 60 s ... and at most 10 min."""
        world = World()
        source = Source.of("192.0.2.1")
        world.fail("192.0.2.1", 3)
        self.assertEqual(world.admission.waits(source), 0)
        for expected in (15, 30, 60, 120, 240, 480, 600, 600, 600):
            world.fail("192.0.2.1")
            self.assertAlmostEqual(world.admission.waits(source), expected)
            self.assertIsNone(world.admission.admit("192.0.2.1"))
            self.assertIn("has to wait", world.admission.refusal)
            world.now += expected - 0.01
            self.assertIsNone(world.admission.admit("192.0.2.1"))
            world.now += 0.01

    def test_others(self) -> None:
        """Another source does not wait, even while one is punished."""
        world = World()
        world.fail("192.0.2.1", 4)
        self.assertIsNotNone(world.admission.admit("192.0.2.2"))

    def test_decay(self) -> None:
        """Failures fade: what was wrong in the morning costs nothing in the evening."""
        world = World()
        world.fail("192.0.2.1", 4)
        world.now += 15 + 600
        self.assertEqual(world.admission.waits(Source.of("192.0.2.1")), 0)
        world.fail("192.0.2.1")  # 4 / 2 + 1: free again
        self.assertEqual(world.admission.waits(Source.of("192.0.2.1")), 0)

    def test_guessesADay(self) -> None:
        """However a guesser spaces its tries, a source has fewer than 420 guesses a day."""
        for pause in (0, 10, 60, 110, 150, 170, 200, 350, 900):
            world = World()
            guesses, end = 0, world.now + 86_400
            source = Source.of("192.0.2.1")
            while world.now < end:
                world.now += world.admission.waits(source) + pause + 0.001
                world.fail("192.0.2.1")
                guesses += 1
            self.assertLess(guesses, 420, pause)

    def test_connectionsAtOnce(self) -> None:
        """Connections that were open when the source began to wait only add to it."""
        world = World()
        tickets = [world.take("192.0.2.1") for _ in range(8)]
        waits = []
        for ticket in tickets:
            ticket.failed()
            waits.append(world.admission.waits(Source.of("192.0.2.1")))
            world.now += 1
        self.assertEqual(waits[:3], [0, 0, 0])
        self.assertTrue(waits[3:] == sorted(set(waits[3:])), waits)

    def test_abandoned(self) -> None:
        """A connection that ends by itself is no failure: port checks are not punished."""
        world = World()
        for _ in range(100):
            world.take("192.0.2.1").ended()
        self.assertEqual(world.admission.waits(Source.of("192.0.2.1")), 0)

    def test_oneVerdict(self) -> None:
        """A connection is judged once; a failure reported again does not count."""
        world = World()
        ticket = world.take("192.0.2.1")
        for _ in range(50):
            ticket.failed()
        ticket.succeeded()
        self.assertEqual(world.admission.waits(Source.of("192.0.2.1")), 0)
        self.assertIs(world.admission.kind_of(Source.of("192.0.2.1")), Kind.STRANGER)

    def test_manyFailures(self) -> None:
        """Thousands of failures in one moment are no arithmetic error."""
        world = World(
            unauthenticated_per_source=100_000,
            unauthenticated_start=100_000,
            unauthenticated_full=100_000,
        )
        tickets = [world.take("192.0.2.1") for _ in range(3000)]
        for ticket in tickets:
            ticket.failed()
        self.assertEqual(world.admission.waits(Source.of("192.0.2.1")), 600)

    def test_boundedMemory(self) -> None:
        """The table forgets the source that failed longest ago."""
        world = World(sources=10, free_failures=0)
        for number in range(11):
            world.fail(stranger(number))
        waiting = [world.admission.waits(Source.of(stranger(n))) > 0 for n in range(11)]
        self.assertEqual(waiting, [False] + [True] * 10)


class KnownTests(SynchronousTestCase):
    """Sources that logged in lately, or are trusted."""

    def test_sixteenfold(self) -> None:
        """A source that logged in may hold 128 places instead of 8."""
        world = World()
        world.login("192.0.2.1")
        for _ in range(128):
            world.take("192.0.2.1")
        self.assertIsNone(world.admission.admit("192.0.2.1"))

    def test_dropsLater(self) -> None:
        """Known sources are dropped at random from 160 on, and all of them at 1,600."""
        world = World()
        for number in range(201):
            world.login(stranger(number))
        world.die = 0.0
        for number in range(160):
            world.take(stranger(number % 20))
        self.assertIsNone(world.admission.admit(stranger(200)))
        world.die = 0.31
        self.assertIsNotNone(world.admission.admit(stranger(200)))
        world.die = 0.999999
        for number in range(161, 1600):
            world.take(stranger(number % 200))
        self.assertIsNone(world.admission.admit(stranger(200)))

    def test_noPenalty(self) -> None:
        """A known source never waits, and its login wipes out what it got wrong before."""
        world = World()
        world.fail("192.0.2.1", 3)
        world.login("192.0.2.1")
        world.fail("192.0.2.1", 50)
        self.assertIsNotNone(world.admission.admit("192.0.2.1"))
        world.now += 3600
        world.fail("192.0.2.1", 3)
        self.assertEqual(world.admission.waits(Source.of("192.0.2.1")), 0)

    def test_anHour(self) -> None:
        """A source is known for an hour after its latest login."""
        world = World()
        source = Source.of("192.0.2.1")
        world.login("192.0.2.1")
        world.now += 3599
        self.assertIs(world.admission.kind_of(source), Kind.KNOWN)
        world.login("192.0.2.1")
        world.now += 3599
        self.assertIs(world.admission.kind_of(source), Kind.KNOWN)
        world.now += 1
        self.assertIs(world.admission.kind_of(source), Kind.STRANGER)

    def test_trusted(self) -> None:
        """Sources in trusted_sources are treated so without any login, mapped addresses too."""
        world = World(trusted_sources=("10.0.0.0/8", "2001:db8::/32"))
        for host in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8:5::1"):
            self.assertIs(world.admission.kind_of(Source.of(host)), Kind.KNOWN)
            world.fail(host, 20)
            self.assertIsNotNone(world.admission.admit(host))
        self.assertIs(world.admission.kind_of(Source.of("11.1.2.3")), Kind.STRANGER)

    def test_floodOfStrangers(self) -> None:
        """With every place of strangers taken, a known, a trusted and a local source come in."""
        world = World(trusted_sources=("10.0.0.0/8",))
        world.login("192.0.2.1")
        for number in range(100):
            world.take(stranger(number))
        world.die = 0.0
        self.assertIsNone(world.admission.admit("203.0.113.1"))
        for host in ("192.0.2.1", "10.0.0.1", "127.0.0.1", None):
            self.assertIsNotNone(world.admission.admit(host))

    def test_boundedMemory(self) -> None:
        """The table of known sources forgets the one that logged in longest ago."""
        world = World(sources=10)
        for number in range(10):
            world.login(stranger(number))
        world.login(stranger(0))
        world.login(stranger(10))
        kinds = [world.admission.kind_of(Source.of(stranger(n))) for n in range(11)]
        self.assertIs(kinds[0], Kind.KNOWN)
        self.assertIs(kinds[1], Kind.STRANGER)
        self.assertEqual(kinds.count(Kind.KNOWN), 10)


class LocalTests(SynchronousTestCase):
    """Loopback and Unix sockets."""

    def test_shared(self) -> None:
        """All local sources share 1,024 places, with no random drop on the way."""
        world = World()
        world.die = 0.0
        for number in range(1024):
            world.take([None, "127.0.0.1", "::1", "127.0.0.2"][number % 4])
        self.assertIsNone(world.admission.admit(None))
        self.assertIn("1024 local connections", world.admission.refusal)
        self.assertIsNotNone(world.admission.admit("192.0.2.1"))

    def test_noPenalty(self) -> None:
        """A local client never waits, however often it fails."""
        world = World()
        world.fail("127.0.0.1", 1000)
        self.assertIsNotNone(world.admission.admit("127.0.0.1"))
