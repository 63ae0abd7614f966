"""Tests of the NTP server: what it answers, and what it says of a clock that nobody keeps right."""

from struct import unpack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.services.kernelclock import UNSYNCHRONISED, KernelClock, read_kernel_clock
from sockproto.services.ntp import NTPServer
from sockproto.wire.ntp import LENGTH
from sockproto.wire.timestamps import from_timestamp


def request(first: int = 0x23, length: int = LENGTH, poll: int = 6) -> bytes:
    """A client's packet, with a transmit time of ones."""
    packet = bytearray(length)
    if length:
        packet[0] = first
    if length >= LENGTH:
        packet[2] = poll % 256
        packet[40:48] = b"\x11" * 8
    return bytes(packet)


class AnswerTests(SynchronousTestCase):
    """Tests of `NTPServer.answer`."""

    def setUp(self) -> None:
        self.now = 1_800_000_000.25
        self.clock = KernelClock(True, leap=1, precision=-20, dispersion=0.5)

    def server(self, local_stratum: int | None = None) -> NTPServer:
        return NTPServer(local_stratum, lambda: self.now, lambda: self.clock)

    def fields(self, answer: bytes | None) -> tuple[int, ...]:
        assert answer is not None
        return unpack(">BBbbIIIQQQQ", answer)

    def test_synchronised(self) -> None:
        """A clock that is kept right answers with its leap, dispersion, and the client's words."""
        fields = self.fields(self.server().answer(request(0x23, poll=-3)))
        self.assertEqual(fields[0], 1 << 6 | 4 << 3 | 4)
        self.assertTrue(1 <= fields[1] <= 15)
        self.assertEqual(fields[2:6], (-3, -20, 0, 0x8000))
        self.assertEqual(fields[8], 0x1111111111111111)
        self.assertEqual(fields[9] & 0xFFFFFFFF, 2**30)
        self.assertEqual(fields[9], fields[10])
        self.assertAlmostEqual(from_timestamp(fields[10], self.now), self.now, places=6)

    def test_unsynchronised(self) -> None:
        """One that is not says so: leap 3, stratum 0, no reference."""
        self.clock = UNSYNCHRONISED
        fields = self.fields(self.server().answer(request()))
        self.assertEqual((fields[0] >> 6, fields[1], fields[6], fields[7]), (3, 0, 0, 0))

    def test_localStratum(self) -> None:
        """An isolated network may be told to trust it all the same."""
        self.clock = KernelClock(False, dispersion=16)
        fields = self.fields(self.server(8).answer(request()))
        self.assertEqual((fields[0] >> 6, fields[1], fields[5]), (0, 8, 0))

    def test_whoIsAnswered(self) -> None:
        """Of all first bytes and lengths from 0 to 100 only mode 3 of versions 1 to 4, from 48
        bytes on in fours, is answered: with the same version, in mode 4, and by 48 bytes."""
        server = self.server()
        for first in range(256):
            version, mode = first >> 3 & 7, first & 7
            for length in range(101):
                answer = server.answer(request(first, length))
                fit = mode == 3 and 1 <= version <= 4 and length >= 48 and length % 4 == 0
                self.assertEqual((first, length, answer is not None), (first, length, fit))
                if answer is not None:
                    self.assertEqual((len(answer), answer[0] & 0x3F), (48, version << 3 | 4))

    @given(st.binary(max_size=120))
    def test_anything(self, data: bytes) -> None:
        """No bytes raise, and the answer is never longer than the request."""
        answer = NTPServer(None, lambda: 0.0, lambda: UNSYNCHRONISED).answer(data)
        if answer is not None:
            self.assertLessEqual(len(answer), len(data))


class KernelClockTests(SynchronousTestCase):
    """Tests of `read_kernel_clock`."""

    def test_read(self) -> None:
        """The kernel's answer is plausible."""
        clock = read_kernel_clock()
        self.assertIn(clock.leap, (0, 1, 2))
        self.assertTrue(-128 <= clock.precision <= 0)
        self.assertGreaterEqual(clock.dispersion, 0)

    def test_refused(self) -> None:
        """Where the kernel does not answer, the clock counts as not synchronised."""
        from sockproto.services import kernelclock

        self.patch(kernelclock, "_adjtimex", lambda _state: -1)
        self.assertEqual(read_kernel_clock(), UNSYNCHRONISED)
        self.patch(kernelclock, "_adjtimex", None)
        self.assertEqual(read_kernel_clock(), UNSYNCHRONISED)
