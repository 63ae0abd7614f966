"""Tests of NTP from the client's side: what is asked, what an answer means, and which is best."""

from __future__ import annotations

from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import RemoteProtocolError
from sockproto.services.kernelclock import UNSYNCHRONISED, KernelClock
from sockproto.services.ntp import NTPServer
from sockproto.timeclient import NTPQuery, NTPSample, best_sample, ntp_question, ntp_sample
from sockproto.wire.timestamps import to_timestamp

COOKIE = 0x0123456789ABCDEF
#: 2036-02-07 06:28:16 UTC, where the seconds since 1900 begin anew.
WRAP = 2_085_978_496


def answer(
    arrived: float | None,
    left: float | None,
    *,
    first: int = 4 << 3 | 4,
    stratum: int = 2,
    reference_id: bytes = b"\x7f\0\0\x01",
    origin: int = COOKIE,
) -> bytes:
    """A server's packet; times are seconds since 1970, ``None`` is no time."""
    times = [0 if each is None else to_timestamp(each) for each in (arrived, left)]
    return pack(">BBbbII4sQQQQ", first, stratum, 6, -20, 1, 2, reference_id, 3, origin, *times)


def sample(data: bytes, sent: float = 0, received: float = 0) -> NTPSample:
    """What an answer to our question says."""
    found = ntp_sample(data, COOKIE, to_timestamp(sent), to_timestamp(received))
    assert found is not None
    return found


class QuestionTests(SynchronousTestCase):
    """Tests of the question."""

    def test_bytes(self) -> None:
        """Version 4, mode 3, and nothing of our clock but what nobody can guess."""
        self.assertEqual(ntp_question(COOKIE), b"\x23" + bytes(39) + pack(">Q", COOKIE))

    def test_answered(self) -> None:
        """Our own server answers it, and the answer is to this question."""
        server = NTPServer(8, lambda: 1000.0, lambda: UNSYNCHRONISED)
        data = server.answer(ntp_question(COOKIE))
        assert data is not None
        self.assertEqual(sample(data, 999, 1001), NTPSample(8, 0, 0.0, 2.0, b"\x7f\x7f\x01\x01"))


class SampleTests(SynchronousTestCase):
    """Tests of what an answer says."""

    def test_arithmetic(self) -> None:
        """Offset and delay are those of RFC 5905, section 8."""
        found = sample(answer(110, 111), 100, 103)
        self.assertEqual((found.stratum, found.leap, found.offset, found.delay), (2, 0, 9.0, 2.0))
        found = sample(answer(89.5, 90.5), 100, 101.25)
        self.assertEqual((found.offset, found.delay), (-10.625, 0.25))

    def test_eras(self) -> None:
        """It does not matter which of the clocks has passed 2036 already."""
        for ours in (WRAP - 20, WRAP - 1, WRAP, WRAP + 5):
            for theirs in (WRAP - 10, WRAP - 0.5, WRAP + 10):
                found = sample(answer(theirs, theirs), ours, ours + 1)
                self.assertEqual((found.offset, found.delay), (theirs - ours - 0.5, 1.0))

    @given(
        st.integers(0, 2**33),
        st.integers(-(2**30), 2**30),
        st.integers(0, 2**10),
        st.integers(0, 2**10),
    )
    def test_any(self, sent: int, offset: int, way: int, stay: int) -> None:
        """An offset of decades is exact where both ways take the same time."""
        data = answer(sent + offset + way, sent + offset + way + stay)
        found = sample(data, sent, sent + 2 * way + stay)
        self.assertEqual((found.offset, found.delay), (offset, 2 * way))

    def test_noNegativeDelay(self) -> None:
        """A server that claims to have had it longer than we waited was not reached in no time."""
        self.assertEqual(sample(answer(100, 105), 100, 101).delay, 0.0)

    def test_others(self) -> None:
        """The answer to another question is none to ours."""
        self.assertIsNone(ntp_sample(answer(1, 1, origin=COOKIE + 1), COOKIE, 0, 0))

    def test_wrong(self) -> None:
        """Other lengths, modes and versions are wrong, and a time that is missing."""
        for data, words in (
            (b"", "this answer 0"),
            (answer(1, 1)[:47], "this answer 47"),
            (answer(1, 1, first=4 << 3 | 3), "version 4, mode 3"),
            (answer(1, 1, first=4 << 3 | 5), "mode 5"),
            (answer(1, 1, first=4), "version 0"),
            (answer(1, 1, first=7 << 3 | 4), "version 7"),
            (answer(1, None), "no time"),
            (answer(None, 1), "no time"),
        ):
            error = self.assertRaises(RemoteProtocolError, ntp_sample, data, COOKIE, 0, 0)
            self.assertIn(words, str(error))

    def test_longer(self) -> None:
        """Extensions behind the packet are left alone, and older versions understood."""
        self.assertEqual(sample(answer(5, 5, first=3 << 3 | 4) + bytes(20)).offset, 5.0)

    @given(st.binary(max_size=100))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes is a sample, not ours, or the one error."""
        try:
            found = ntp_sample(data, COOKIE, 0, 0)
        except RemoteProtocolError:
            return
        self.assertIsNone(found)


class ProblemTests(SynchronousTestCase):
    """Tests of what is nothing to go by."""

    def test_synchronised(self) -> None:
        """Strata from 1 to 15 are good, a leap second to come or not."""
        for stratum in (1, 15):
            for leap in (0, 1, 2):
                found = sample(answer(1, 1, first=leap << 6 | 4 << 3 | 4, stratum=stratum))
                self.assertIsNone(found.problem)
                self.assertFalse(found.refused)

    def test_unsynchronised(self) -> None:
        """Stratum 0 or 16, and leap 3, say that the clock is not synchronised."""
        alarm = 3 << 6 | 4 << 3 | 4
        for first, stratum, words in (
            (alarm, 0, "(stratum 0, leap 3)"),
            (alarm, 2, "(stratum 2, leap 3)"),
            (4 << 3 | 4, 0, "(stratum 0, leap 0)"),
            (4 << 3 | 4, 16, "(stratum 16, leap 0)"),
        ):
            found = sample(answer(1, 1, first=first, stratum=stratum, reference_id=bytes(4)))
            assert found.problem is not None
            self.assertIn("not synchronised " + words, found.problem)

    def test_kiss(self) -> None:
        """Stratum 0 has a code in place of a source: some want us to leave, some are reasons."""
        for code, refused in ((b"RATE", True), (b"DENY", True), (b"INIT", False)):
            data = answer(None, None, first=3 << 6 | 36, stratum=0, reference_id=code)
            found = sample(data)
            self.assertEqual((found.kiss, found.refused), (code.decode(), refused))
            self.assertIn(code.decode(), str(found.problem))
            self.assertEqual((found.offset, found.delay), (0.0, 0.0))
        self.assertEqual(sample(answer(1, 1, stratum=0, reference_id=b"\x1b[2J")).kiss, "")

    def test_line(self) -> None:
        """The line is that of ntpdate -q."""
        for found, line in (
            (
                NTPSample(2, 0, -0.0012344, 0.025914),
                "server ::1, stratum 2, offset -0.001234, delay 0.02591",
            ),
            (NTPSample(0, 3, -1e-9, 0), "server ::1, stratum 0, offset 0.000000, delay 0.00000"),
        ):
            self.assertEqual(found.line("::1"), line)

    def test_best(self) -> None:
        """The best is the one that was fastest."""
        samples = [NTPSample(2, 0, offset, delay) for offset, delay in ((1, 3), (2, 1), (3, 2))]
        self.assertEqual(best_sample(samples), samples[1])


class QueryTests(SynchronousTestCase):
    """Tests of `NTPQuery`."""

    def setUp(self) -> None:
        self.elapsed = 0
        self.query = NTPQuery(lambda: 1_000_000_000_000, lambda: self.elapsed)
        kernel = KernelClock(True)
        self.server = NTPServer(None, lambda: 1010 + self.elapsed / 10**9, lambda: kernel)

    def served(self, question: bytes) -> bytes:
        data = self.server.answer(question)
        assert data is not None
        return data

    def test_again(self) -> None:
        """Each sending has its own time, and the answer to any of them counts."""
        first = self.query.question()
        self.elapsed += 10**9
        second = self.query.question()
        self.assertNotEqual(first, second)
        self.elapsed += 10**9
        data = [self.served(first), self.served(second)]
        self.elapsed += 10**9
        late, prompt = map(self.query.sample, data)
        assert late is not None and prompt is not None
        self.assertEqual((late.delay, prompt.delay), (3.0, 2.0))
        self.assertEqual((late.offset, prompt.offset), (10.5, 10.0))

    def test_notOurs(self) -> None:
        """What nobody asked, or is no answer, is not taken for one."""
        self.query.question()
        self.assertIsNone(self.query.sample(answer(1, 1)))
        self.assertRaises(RemoteProtocolError, self.query.sample, b"")
        self.assertRaises(RemoteProtocolError, self.query.sample, self.query.question())

    def test_clock(self) -> None:
        """The time that our clock shows is the one that the offset is from."""
        query = NTPQuery()
        server = NTPServer(5)
        data = server.answer(query.question())
        assert data is not None
        found = query.sample(data)
        assert found is not None
        self.assertLess(abs(found.offset), 0.5)
