"""The time: daytime (RFC 867), time (RFC 868), and as a format asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any

from twisted.internet.interfaces import IReactorTime

from sockproto.connections import ConnectionCap
from sockproto.limits import Limits
from sockproto.services.echo import FramedOpenProtocol
from sockproto.services.open import OpenFactory, OpenProtocol
from sockproto.services.timetext import answer_format, daytime
from sockproto.wire.timestamps import to_rfc868

__all__ = ["DaytimeFactory", "FramedTimeFactory", "TimeFactory", "WallClock"]


class WallClock:
    """The time of day, in a time zone.

    :param zone: the zone; the machine's own unless given.
    :param seconds: seconds since 1970.
    """

    def __init__(
        self, zone: tzinfo | None = None, seconds: Callable[[], float] = time.time
    ) -> None:
        self.seconds = seconds
        self._zone = zone

    def now(self) -> datetime:
        """The time, aware."""
        if self._zone is not None:
            return datetime.fromtimestamp(self.seconds(), self._zone)
        return datetime.fromtimestamp(self.seconds()).astimezone()

    def answer(self, request: bytes) -> bytes | None:
        """The answer of ``strftime`` and ``framed-time`` to a format."""
        return answer_format(request, self.now())

    def daytime(self, _request: bytes = b"") -> bytes:
        """The answer of ``daytime`` to anything."""
        return daytime(self.now())

    def time(self, _request: bytes = b"") -> bytes:
        """The answer of ``time`` to anything."""
        return to_rfc868(self.seconds())


class TellingProtocol(OpenProtocol):
    """Says one thing and closes; what the peer says is not looked at."""

    factory: Any

    def connectionMade(self) -> None:
        """Say it."""
        self.transport.write(self.factory.tell())
        self.transport.loseConnection()


class _ClockFactory(OpenFactory):
    """A service that has a clock.

    :param clock: the reactor.
    :param wall: tells the time.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall: WallClock | None = None,
        limits: Limits | None = None,
        cap: ConnectionCap | None = None,
    ) -> None:
        super().__init__(clock, limits, cap)
        self.wall = WallClock() if wall is None else wall


class DaytimeFactory(_ClockFactory):
    """The stream form of ``daytime``: RFC 867."""

    protocol = TellingProtocol
    service = "daytime"

    def tell(self) -> bytes:
        """What each connection is told."""
        return self.wall.daytime()


class TimeFactory(_ClockFactory):
    """The stream form of ``time``: RFC 868."""

    protocol = TellingProtocol
    service = "time"

    def tell(self) -> bytes:
        """What each connection is told."""
        return self.wall.time()


class FramedTimeProtocol(FramedOpenProtocol):
    """Each frame is a format, each answer a frame; what is no format ends the connection."""

    def stringReceived(self, string: bytes) -> None:
        """Answer."""
        answer = self.factory.wall.answer(string)
        if answer is None:
            self.factory.complain(self.address, "a frame that is no format")
            self.transport.loseConnection()
        else:
            self.sendString(answer)


class FramedTimeFactory(_ClockFactory):
    """``framed-time``: what ``strftime`` answers, in frames."""

    protocol = FramedTimeProtocol
    service = "framed-time"
