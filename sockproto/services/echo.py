"""Echo (RFC 862), its sibling that answers in upper case, and echo in frames."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.framing import FramedProtocol
from sockproto.services.open import OpenFactory, OpenProtocol

__all__ = ["EchoFactory", "FramedEchoFactory", "UpperFactory", "echo", "upper"]


def echo(data: bytes) -> bytes:
    """The answer of ``echo``: the same."""
    return data


def upper(data: bytes) -> bytes:
    """The answer of ``upper``: ASCII letters in upper case, all else as it is, so UTF-8
    survives."""
    return data.upper()


@implementer(IHalfCloseableProtocol)
class EchoProtocol(OpenProtocol):
    """Answers bytes with bytes, and reads no faster than its peer does."""

    def connectionMade(self) -> None:
        """Have the transport pause itself: it stops reading while it cannot write."""
        self._answer = self.factory.answer  # type: ignore[attr-defined]
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        self.idle.heard = True
        self.transport.write(self._answer(data))

    def readConnectionLost(self) -> None:
        """The peer has said all; it still gets the rest of its answer."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The peer takes no more."""
        self.transport.abortConnection()


class EchoFactory(OpenFactory):
    """The stream form of ``echo``: RFC 862."""

    protocol = EchoProtocol
    service = "echo"
    answer = staticmethod(echo)


class UpperFactory(OpenFactory):
    """The stream form of ``upper``."""

    protocol = EchoProtocol
    service = "upper"
    answer = staticmethod(upper)


class FramedOpenProtocol(FramedProtocol, OpenProtocol):
    """What framed services share: counted, watched, and pausing with their transport."""

    backPressure = True
    factory: Any

    def makeConnection(self, transport: Any) -> None:
        """As for any protocol; both parents' parts of it."""
        self.MAX_LENGTH = self.factory.limits.frame
        OpenProtocol.makeConnection(self, transport)

    def dataReceived(self, data: bytes) -> None:
        """Take frames apart, and note that something came."""
        self.idle.heard = True
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        FramedProtocol.connectionLost(self, reason)
        OpenProtocol.connectionLost(self, reason)


class FramedEchoProtocol(FramedOpenProtocol):
    """Each frame comes back as it was."""

    def stringReceived(self, string: bytes) -> None:
        """Answer."""
        self.sendString(string)


class FramedEchoFactory(OpenFactory):
    """``framed-echo``: uint32-prefixed frames come back."""

    protocol = FramedEchoProtocol
    service = "framed-echo"
