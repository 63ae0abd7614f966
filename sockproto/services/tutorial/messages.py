"""The dialects of messages: ``tutorial-message-ready``, ``-message-int32`` and ``-upper-int32``."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime

from sockproto.admission import Source
from sockproto.auth.transport import describe, host_of
from sockproto.connections import ConnectionCap
from sockproto.errors import RemoteProtocolError
from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.services.echo import upper
from sockproto.services.tutorial.counted import CountedText
from sockproto.services.tutorial.dialect import DialectFactory, DialectProtocol
from sockproto.services.tutorial.reading import Exactly, OneRead, decimal, int32
from sockproto.throttle import LogThrottle

__all__ = [
    "MessageInt32Factory",
    "MessageReadyFactory",
    "UpperInt32Factory",
    "UpperInt32Protocol",
]

#: Messages of one source that are logged in a minute: more than a person sends.
_LINES = 60


class Int32Protocol(DialectProtocol):
    """::

        client: int32 length, then so many bytes, or characters: a message

    and so on.  What becomes of the message, a subclass says.
    """

    def begin(self) -> None:
        """Expect a header."""
        self.expectHeader()

    def expectHeader(self) -> None:
        """Expect a message, from its header on."""
        self.expect(Exactly(4), self._headerReceived)

    def _headerReceived(self, header: bytes) -> None:
        length = int32(header, self.factory.limits.frame)
        if length:
            self.expect(CountedText(length, self._isHeader), self._textReceived)
        else:
            self._textReceived(b"")

    def _textReceived(self, message: bytes) -> None:
        self.messageReceived(message)
        self.expectHeader()

    def messageReceived(self, message: bytes) -> None:
        """A whole message."""
        raise TypeError("a dialect has to say what becomes of a message")

    def _isHeader(self, data: bytes) -> bool:
        try:
            return len(data) >= 4 and int32(data[:4], self.factory.limits.frame) >= 0
        except RemoteProtocolError:
            return False


class UpperInt32Protocol(Int32Protocol):
    """::

    client: int32 length and message
    server: the message in upper case, without a header
    """

    def messageReceived(self, message: bytes) -> None:
        """Answer, in ASCII letters as ``upper`` does."""
        self.transport.write(upper(message))


class UpperInt32Factory(DialectFactory):
    """``tutorial-upper-int32``."""

    protocol = UpperInt32Protocol
    service = "tutorial-upper-int32"


class MessageFactory(DialectFactory):
    """Builds the connections of a dialect whose messages are logged.

    :param clock: the reactor.
    :param limits: the longest message and the idle time among them.
    :param cap: how many connections there may be.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        limits: Limits | None = None,
        cap: ConnectionCap | None = None,
    ) -> None:
        super().__init__(clock, limits, cap)
        self._lines = LogThrottle(clock.seconds, _LINES)

    def logMessage(self, address: IAddress, message: bytes) -> None:
        """Log a message; of one source so many a minute."""
        unlogged = self._lines.admit(Source.of(host_of(address)).name)
        if unlogged is not None:
            self._log.info(
                "{service}: {peer}: {text}{more}",
                service=self.service,
                peer=describe(address),
                text=message,
                more=f" ({unlogged} messages before it were not logged)" if unlogged else "",
            )


class MessageInt32Protocol(Int32Protocol):
    """::

        client: int32 length and message

    There is no answer; the message is logged.
    """

    factory: MessageFactory

    def messageReceived(self, message: bytes) -> None:
        """Log it."""
        self.factory.logMessage(self.address, message)


class MessageInt32Factory(MessageFactory):
    """``tutorial-message-int32``."""

    protocol: Any = MessageInt32Protocol
    service = "tutorial-message-int32"


class MessageReadyProtocol(DialectProtocol):
    """::

        client: a length in decimal digits, in one send
        server: ready
        client: so many bytes, or characters: a message

    and so on.  There is no answer to the message; it is logged.
    """

    factory: MessageFactory

    def begin(self) -> None:
        """Expect a length."""
        self.expect(OneRead(), self._lengthReceived)

    def _lengthReceived(self, digits: bytes) -> None:
        length = decimal(digits, self.factory.limits.frame)
        self.transport.write(b"ready")
        if length:
            self.expect(CountedText(length, bytes.isdigit), self._messageReceived)
        else:
            self._messageReceived(b"")

    def _messageReceived(self, message: bytes) -> None:
        self.factory.logMessage(self.address, message)
        self.begin()


class MessageReadyFactory(MessageFactory):
    """``tutorial-message-ready``."""

    protocol: Any = MessageReadyProtocol
    service = "tutorial-message-ready"
