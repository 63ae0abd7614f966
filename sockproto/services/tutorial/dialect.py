"""What the connections of all tutorial dialects share: one thing at a time, and what ends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.auth.transport import abort
from sockproto.errors import RemoteProtocolError
from sockproto.services.open import IdleEnd, OpenFactory, OpenProtocol
from sockproto.services.tutorial.reading import Reader

__all__ = ["DialectFactory", "DialectProtocol"]


@implementer(IHalfCloseableProtocol, IPushProducer)
class DialectProtocol(OpenProtocol):
    """Reads one thing after the other, each as the dialect says, and none while it is busy.

    Between :meth:`expect` and the next it is busy when what was expected has come: what comes then
    is held, and nothing more is read, so that nothing grows.  Nor is anything read while the client
    does not take its answers.

    Subclasses have :meth:`begin`, which expects the first thing.
    """

    #: Bytes that are held of what comes too early; ``None``: all that one read brought.
    holds: int | None = None

    def connectionMade(self) -> None:
        """Begin."""
        self._reader: Reader | None = None
        self._received: Callable[[bytes], None] | None = None
        self._held = b""
        self._advancing = False
        self._full = False
        self._isPaused = False
        self._hasEnded = False
        self._isClosing = False
        self._silence: IDelayedCall | None = None
        self._closeTimer: IDelayedCall | None = None
        if ITCPTransport.providedBy(self.transport):
            # A length that stands alone has to leave alone.
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.idle.cancel()
        self._watch()
        self.begin()

    def begin(self) -> None:
        """The conversation begins: expect something."""

    def gone(self) -> None:
        """The connection is gone, or about to be: let go of everything."""

    def expect(self, reader: Reader, received: Callable[[bytes], None]) -> None:
        """Read one thing.

        :param reader: how.
        :param received: is given it; until it has expected something else this is busy.
        """
        self._reader, self._received = reader, received
        if not self._advancing:
            self._advance(b"")

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        self.idle.heard = True
        self._stopSilence()
        if not self._isClosing:
            self._advance(data)

    def broken(self, reason: str) -> None:
        """The client breaks the dialect: log that, and close."""
        if not self._isClosing:
            self.factory.complain(self.address, reason)
            self.close()

    def close(self) -> None:
        """Close, once the client has read what it was sent."""
        if self._isClosing:
            return
        self._isClosing = True
        self._held = b""
        self._stopSilence()
        self.gone()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._closeTimer = self.factory.clock.callLater(
            self.factory.limits.close_seconds, self._abort
        )

    @property
    def isBusy(self) -> bool:
        """Whether something has come that is not done with."""
        return self._reader is None

    @property
    def isClosing(self) -> bool:
        """Whether the connection is gone, or about to be."""
        return self._isClosing

    @property
    def isFull(self) -> bool:
        """Whether the client has to read before more is written."""
        return self._full

    # Reading

    def _advance(self, data: bytes) -> None:
        """Take as many things as have come, and can be done with at once."""
        data = self._held + data
        self._held = b""
        self._advancing = True
        place = 0
        while place < len(data) and self._reader is not None and not self._full:
            # In bites, since what a reader leaves is copied.
            bite = data[place : place + self._reader.bite]
            rest = self._feed(self._reader, self._reader.feed, bite)
            place += len(bite) - len(rest)
            if place < 0 and not self._isClosing:
                # It has given back more, which it had kept until it knew.
                data, place = rest + data[place + len(rest) :], 0
        self._advancing = False
        data = data[place:]
        if self._isClosing:
            return
        self._held = data if self.holds is None else data[: self.holds]
        if self._hasEnded and not self._held and self._reader is not None:
            self._finish()
        else:
            self._adjust()

    def _feed(self, reader: Reader, take: Callable[[bytes], bytes], data: bytes) -> bytes:
        """Have the reader take some; tell what it has read, if that is all.

        :return: the rest.
        """
        self._stopSilence()
        rest = b""
        try:
            rest = take(data)
            if reader.done:
                received, self._reader, self._received = self._received, None, None
                assert received is not None
                received(reader.value)
            elif reader.patience is not None:
                self._silence = self.factory.clock.callLater(reader.patience, self._silent)
        except RemoteProtocolError as error:
            self.broken(str(error))
        return b"" if self._isClosing else rest

    def _silent(self) -> None:
        """Nothing came for as long as the reader has patience."""
        self._silence = None
        reader = self._reader
        if reader is None or self._isClosing:
            return
        self._advancing = True
        rest = self._feed(reader, lambda _: reader.silent(), b"")
        self._advancing = False
        if not self._isClosing:
            self._advance(rest)

    def _stopSilence(self) -> None:
        timer, self._silence = self._silence, None
        if timer is not None:
            timer.cancel()

    def _adjust(self) -> None:
        """Read, or do not."""
        if self._hasEnded:
            return
        pause = self._full or bool(self._held)
        if pause != self._isPaused and not self._isClosing:
            self._isPaused = pause
            if pause:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    # Writing

    def pauseProducing(self) -> None:
        """The client does not read its answers: hear no more questions."""
        self._full = True
        self._adjust()

    def resumeProducing(self) -> None:
        """The client has read."""
        self._full = False
        self.idle.heard = True
        if not self._isClosing:
            self.drained()
            self._advance(b"")

    def stopProducing(self) -> None:
        """The transport takes no more."""

    def drained(self) -> None:
        """The client has read what was written."""

    # Ends

    def readConnectionLost(self) -> None:
        """The client has said all; it still gets its answer."""
        self._hasEnded = True
        if self._silence is not None:
            self._stopSilence()
            self._silent()
        elif not self._isClosing:
            self._advance(b"")

    def writeConnectionLost(self) -> None:
        """The client takes no answers any longer."""
        self._abort()

    def incomplete(self) -> None:
        """The client has said all, but not all of what was expected of it."""

    def _finish(self) -> None:
        self.incomplete()
        self.close()

    def _watch(self) -> None:
        self.idle = IdleEnd(self.factory.clock, self.factory.limits.idle_seconds, self._idled)

    def _idled(self) -> None:
        """Nothing came for long: who waits for an answer may be silent, if they are still there."""
        if self.isBusy and not (self._hasEnded or self._full or self._isClosing):
            self._watch()
        else:
            self._abort()

    def _abort(self) -> None:
        abort(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._stopSilence()
        if self._closeTimer is not None and self._closeTimer.active():
            self._closeTimer.cancel()
        if not self._isClosing:
            self._isClosing = True
            self.gone()
        super().connectionLost(reason)


class DialectFactory(OpenFactory):
    """Builds the connections of a tutorial dialect."""

    protocol: Any = DialectProtocol
