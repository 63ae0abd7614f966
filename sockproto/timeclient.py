"""NTP from the client's side, without I/O: the question, what an answer says, and the best of them.

::

    query = NTPQuery()
    question = query.question()             # sent at query's own reading of the clock
    sample = query.sample(answer)           # None: the answer to somebody else's question
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable

from attrs import frozen

from sockproto.errors import RemoteProtocolError
from sockproto.wire.ntp import (
    LEAP_UNSYNCHRONISED,
    LENGTH,
    MAX_STRATUM,
    MODE_CLIENT,
    MODE_SERVER,
    PACKET,
    VERSIONS,
)
from sockproto.wire.timestamps import SECONDS_FROM_1900_TO_1970

__all__ = ["NTPQuery", "NTPSample", "best_sample", "ntp_question", "ntp_sample"]

_VERSION = 4
_ERA = 2**32
_NANOSECONDS = 10**9
# Codes of a kiss of death (RFC 5905, section 7.4) by which a server asks to be left alone.
_REFUSALS = frozenset({"DENY", "RATE", "RSTR"})


@frozen
class NTPSample:
    """What an answer says.

    :ivar stratum: how many steps the server is from a clock of its own; 0: it does not say.
    :ivar leap: the leap indicator; 3: the server's clock is not synchronised.
    :ivar offset: seconds to add to our clock to have the server's.
    :ivar delay: seconds that question and answer were on their way, both together.
    :ivar reference_id: four bytes: the server's own source, or with stratum 0 the reason.
    """

    stratum: int
    leap: int
    offset: float
    delay: float
    reference_id: bytes = b"\0\0\0\0"

    @property
    def kiss(self) -> str:
        """The code that stands in place of a stratum, such as RATE or INIT; else nothing."""
        code = self.reference_id.rstrip(b"\0") if not self.stratum else b""
        return code.decode("ascii") if code.isalnum() else ""

    @property
    def refused(self) -> bool:
        """Whether the server asks to be left alone."""
        return self.kiss in _REFUSALS

    @property
    def problem(self) -> str | None:
        """Why the server's time is nothing to go by; ``None`` if it is."""
        if self.refused:
            return f"the server refuses to answer ({self.kiss})"
        if self.leap != LEAP_UNSYNCHRONISED and 0 < self.stratum <= MAX_STRATUM:
            return None
        code = f", {self.kiss}" if self.kiss else ""
        return (
            "the server says that its clock is not synchronised"
            f" (stratum {self.stratum}, leap {self.leap}{code})"
        )

    def line(self, address: str) -> str:
        """The sample as ``ntpdate -q`` prints it.

        :param address: the server's.
        """
        offset = round(self.offset, 6) + 0.0  # no -0.000000
        return (
            f"server {address}, stratum {self.stratum}, offset {offset:.6f}, delay {self.delay:.5f}"
        )


def ntp_question(cookie: int) -> bytes:
    """A client's packet.

    It tells nothing of our clock: the server copies the transmit timestamp and does not look at it,
    so it may be anything that nobody can guess.

    :param cookie: 64 bits, not 0.
    """
    return PACKET.pack(_VERSION << 3 | MODE_CLIENT, 0, 0, 0, 0, 0, b"\0\0\0\0", 0, 0, 0, cookie)


def ntp_sample(answer: bytes, cookie: int, sent: int, received: int) -> NTPSample | None:
    """What an answer says (RFC 5905, section 8).

    The differences are taken modulo 2⁶⁴, so it does not matter in which era either clock is, as
    long as they are less than 68 years apart.

    :param cookie: what the question had.
    :param sent: when it was sent, as a timestamp of 64 bits by our clock.
    :param received: when the answer came, likewise.
    :return: ``None`` if it answers another question.
    :raises RemoteProtocolError: it is no answer of an NTP server.
    """
    if len(answer) < LENGTH:
        raise RemoteProtocolError(
            f"an NTP packet has {LENGTH} bytes or more (RFC 5905), this answer {len(answer)}"
        )
    first, stratum, *_, reference_id, _, origin, arrived, left = PACKET.unpack_from(answer)
    leap, version, mode = first >> 6, first >> 3 & 7, first & 7
    if mode != MODE_SERVER or version not in VERSIONS:
        raise RemoteProtocolError(
            f"an NTP server answers in mode {MODE_SERVER}, not with version {version}, mode {mode}"
        )
    if origin != cookie:
        return None
    if not (arrived and left):
        if stratum and leap != LEAP_UNSYNCHRONISED:
            raise RemoteProtocolError("the NTP server's answer has no time in it")
        return NTPSample(stratum, leap, 0.0, 0.0, reference_id)
    to_server, to_us = _apart(arrived, sent), _apart(left, received)
    return NTPSample(
        stratum,
        leap,
        offset=(to_server + to_us) / 2 / _ERA,
        delay=max(0, to_server - to_us) / _ERA,
        reference_id=reference_id,
    )


def best_sample(samples: Iterable[NTPSample]) -> NTPSample:
    """The one whose question and answer were the shortest time on their way.

    Its offset is the most certain: half the delay is the greatest error that the way can make.
    """
    return min(samples, key=lambda sample: sample.delay)


class NTPQuery:
    """One question to a server, which may be sent again until an answer comes.

    :param wall: nanoseconds since 1970.
    :param elapsed: nanoseconds by a clock that is never set.
    """

    def __init__(
        self,
        wall: Callable[[], int] = time.time_ns,
        elapsed: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        # So that nobody sets the clock while the answer is on its way.
        self._began = wall() - elapsed()
        self._elapsed = elapsed
        self._sent: dict[int, int] = {}

    def _now(self) -> int:
        return _timestamp(self._began + self._elapsed())

    def question(self) -> bytes:
        """The packet to send now."""
        cookie = secrets.randbits(64) or 1
        packet = ntp_question(cookie)
        self._sent[cookie] = self._now()
        return packet

    def sample(self, answer: bytes) -> NTPSample | None:
        """What an answer says that has come now.

        :return: ``None`` if it answers none of our questions.
        :raises RemoteProtocolError: it is no answer of an NTP server.
        """
        received = self._now()
        cookie = int.from_bytes(answer[24:32], "big")
        sent = self._sent.get(cookie)
        if sent is None:
            # Another than ours, so this tells only whether it is an answer at all.
            return ntp_sample(answer, ~cookie % 2**64, received, received)
        return ntp_sample(answer, cookie, sent, received)


def _timestamp(nanoseconds: int) -> int:
    """A timestamp of 64 bits, exact where a float of seconds would not be.

    :param nanoseconds: since 1970.
    """
    fractions = (nanoseconds << 32) // _NANOSECONDS
    return (fractions + (SECONDS_FROM_1900_TO_1970 << 32)) % 2**64


def _apart(later: int, earlier: int) -> int:
    """The difference of two timestamps, the shorter way round."""
    return (later - earlier + 2**63) % 2**64 - 2**63
