"""What a protocol has sent and its transport has not been given yet, and the order of the two."""

from __future__ import annotations

from collections.abc import Callable
from socket import socket
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection
from zope.interface import implementer

__all__ = ["BATCH_LIMIT", "OrderedTransport", "Outbox", "Pressure"]

# A batch is handed to the transport once it holds this much, so that a reply many times the size of
# its request meets the transport's own limit (64 KiB) and its producer is paused in time.
BATCH_LIMIT = 2**16
# The system takes no more than 1024 buffers in one call (IOV_MAX).
_MOST_PARTS = 1024
# What tells whether a socket of Twisted's has anything to send before us. There is no public way
# to ask; they are only read, and where one is missing everything goes through ``write``.
_LOOKED_AT = ("_tempDataLen", "dataBuffer", "TLS")
# What may be asked of the transport without the batch being handed over first.
_HARMLESS = frozenset(
    (
        "connected",
        "disconnecting",
        "getHost",
        "getPeer",
        "getPeerCertificate",
        "pauseProducing",
        "resumeProducing",
    )
)
# After these only the transport itself knows what has to go out before what.
_NO_LONGER_AT_ONCE = frozenset(("sendFileDescriptor", "startTLS"))


class _Unwatched:
    """Stands in for a transport that has no ``disconnecting``: asyncio's say it by a method."""

    def __init__(self, transport: Any) -> None:
        self._isClosing = getattr(transport, "is_closing", bool)

    @property
    def disconnecting(self) -> bool:
        return bool(self._isClosing())


def _sendParts(socket: socket, parts: list[bytes]) -> list[bytes]:
    """Send, without joining them, as many bytes as the socket takes at once.

    :return: what remains.
    """
    try:
        sent = socket.sendmsg(parts[:_MOST_PARTS])
    except OSError:
        return parts
    for index, part in enumerate(parts):
        if sent < len(part):
            return [part[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return []


class Outbox:
    """What a protocol has sent and the transport has not been given yet, in order.

    :ivar transport: the real one.
    :ivar socket: the transport's, if we may send on it what the transport need not keep.
    :ivar watched: whose ``disconnecting`` tells that somebody has begun to close.
    :ivar parts: the batch: headers and bodies.
    :ivar size: of the batch, in bytes.
    :ivar open: whether sends are collected: while one read is being worked through.
    :ivar closing: the protocol has begun to close; nothing is delivered any more.
    :ivar paused: the protocol's own pause.
    :ivar full: the transport has asked for a pause; nothing is delivered until it resumes.
    :ivar stalled: one of the three.
    :ivar pressure: the producer that we registered with the transport ourselves.
    """

    __slots__ = (
        "closing",
        "full",
        "open",
        "parts",
        "paused",
        "pressure",
        "size",
        "socket",
        "stalled",
        "transport",
        "watched",
    )

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.watched = transport if hasattr(transport, "disconnecting") else _Unwatched(transport)
        self.socket: socket | None = None
        if isinstance(transport, Connection) and all(
            hasattr(transport, name) for name in _LOOKED_AT
        ):
            self.socket = transport.socket
        self.parts: list[bytes] = []
        self.size = 0
        self.open = self.closing = self.paused = self.full = self.stalled = False
        self.pressure: Pressure | None = None

    def flush(self) -> None:
        """Hand the batch to the transport, in one call."""
        parts = self.parts
        if not parts:
            return
        transport = self.transport
        # Twisted's sockets only buffer what is written and send it a turn of the reactor later, at
        # the cost of two epoll_ctl and one epoll_wait. Where nothing waits before it, the answer to
        # what was just read can go out at once. An error is left for the transport to meet again.
        socket = self.socket
        if socket is not None and (transport._tempDataLen or transport.dataBuffer or transport.TLS):
            socket = None
        if self.size < BATCH_LIMIT:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self.size = 0
            if socket is not None:
                try:
                    sent = socket.send(data)
                except OSError:
                    sent = 0
                if sent == len(data):
                    return
                data = data[sent:]
            transport.write(data)
        else:
            self.parts = []
            self.size = 0
            if socket is not None:
                parts = _sendParts(socket, parts)
            if parts:
                transport.writeSequence(parts)

    def drop(self) -> None:
        """Forget the batch."""
        self.parts.clear()
        self.size = 0

    def settle(self) -> None:
        """Bring `stalled` up to date."""
        self.stalled = self.closing or self.paused or self.full

    def beginToClose(self) -> None:
        """Let go what was sent before the close, and deliver nothing from now on."""
        self.flush()
        self.end()
        # A connection is not closed while it has a producer that is paused.
        self.releasePressure()

    def gone(self) -> bool:
        """Whether the transport is closing or closed; nobody may have told us."""
        return bool(self.watched.disconnecting or getattr(self.transport, "disconnected", False))

    def press(self, resume: Callable[[], object]) -> None:
        """Stop delivering while the transport is full.

        :param resume: called to deliver what is held, when it no longer is.
        """
        self.pressure = Pressure(self, resume)
        self.transport.registerProducer(self.pressure, True)

    def releasePressure(self) -> None:
        """Give the transport's place for a producer back."""
        if self.pressure is not None:
            self.pressure = None
            self.transport.unregisterProducer()

    def end(self) -> None:
        """Deliver nothing from now on, and leave all sending to the transport."""
        self.closing = self.stalled = True
        self.socket = None

    def loseConnection(self) -> None:
        """Close once everything is sent."""
        self.beginToClose()
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close now; the batch is dropped."""
        self.drop()
        self.beginToClose()
        self.transport.abortConnection()


@implementer(IPushProducer)
class Pressure:
    """Stops a protocol's reading while the transport has more to send than it wants to hold.

    :param resume: has the protocol deliver what it holds.

    It is apart from the protocol's own `pauseProducing`, so that neither undoes the other.
    """

    def __init__(self, outbox: Outbox, resume: Callable[[], object]) -> None:
        self._outbox = outbox
        self._resume = resume

    def pauseProducing(self) -> None:
        outbox = self._outbox
        if not outbox.full:
            outbox.full = outbox.stalled = True
            if not (outbox.closing or outbox.paused):
                outbox.transport.pauseProducing()

    def resumeProducing(self) -> None:
        outbox = self._outbox
        if outbox.full:
            outbox.full = False
            outbox.settle()
            if not outbox.stalled:
                outbox.transport.resumeProducing()
                self._resume()

    def stopProducing(self) -> None:
        self._outbox.pressure = None
        self._outbox.end()


class OrderedTransport:
    """The transport as a protocol sees it: the real one, with the batch always going before.

    Whatever is asked of it, what was sent so far is handed over first; and to close through it is
    to close the protocol. Attributes, and the interfaces provided, are those of the real transport.
    """

    __slots__ = ("_outbox",)
    _outbox: Outbox

    def __init__(self, outbox: Outbox) -> None:
        object.__setattr__(self, "_outbox", outbox)

    def __getattr__(self, name: str) -> Any:
        outbox = self._outbox
        if name not in _HARMLESS:
            outbox.flush()
            if name in _NO_LONGER_AT_ONCE:
                outbox.socket = None
        return getattr(outbox.transport, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._outbox.transport, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._outbox.transport, name)

    def __repr__(self) -> str:
        return f"<frames over {self._outbox.transport!r}>"

    # These are methods of our own, since programs keep bound ones.
    def write(self, data: bytes) -> None:
        self._outbox.flush()
        self._outbox.transport.write(data)

    def writeSequence(self, data: Any) -> None:
        self._outbox.flush()
        self._outbox.transport.writeSequence(data)

    def loseConnection(self, *args: Any, **kwargs: Any) -> None:
        self._outbox.beginToClose()
        self._outbox.transport.loseConnection(*args, **kwargs)

    def abortConnection(self) -> None:
        self._outbox.abortConnection()

    def stopConsuming(self) -> None:
        self._outbox.beginToClose()
        self._outbox.transport.stopConsuming()

    def stopProducing(self) -> None:
        self._outbox.beginToClose()
        self._outbox.transport.stopProducing()

    def loseWriteConnection(self) -> None:
        self._outbox.flush()
        self._outbox.transport.loseWriteConnection()
