"""The reactor: Twisted's asyncio reactor on a loop of uvloop's, with streams of its own."""

from __future__ import annotations

import asyncio
from importlib import import_module
from socket import AF_UNIX
from typing import Any

from twisted.internet._signals import SignalHandling, _MultiSignalHandling
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IConnector, IListeningPort
from twisted.internet.main import installReactor

from sockproto.errors import ConfigurationError
from sockproto.reactor.children import ChildSignals
from sockproto.reactor.stream import Stream
from sockproto.reactor.tcp import Connector, Port, Server

__all__ = ["UvloopReactor", "install"]


def _usableLoop(eventloop: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
    """Make a loop, or check one.

    :raises ConfigurationError: says what is missing.
    """
    try:
        uvloop = import_module("uvloop")
    except ImportError as error:
        raise ConfigurationError(
            f"the reactor uvloop wants the package of that name: {error};"
            " install it with pip install 'sockproto[uvloop]'"
        ) from error
    if eventloop is None:
        eventloop = uvloop.new_event_loop()
        asyncio.set_event_loop(eventloop)
    elif not isinstance(eventloop, uvloop.Loop):
        raise ConfigurationError(f"the reactor uvloop wants a loop of uvloop's, not {eventloop!r}")
    assert isinstance(eventloop, asyncio.AbstractEventLoop)
    return eventloop


class UvloopReactor(AsyncioSelectorReactor):
    """Runs TCP, and TLS on it, over uvloop's transports; all else as the asyncio reactor does.

    :param eventloop: a loop of uvloop's; without one it is a new one, which becomes the thread's.
    :ivar streams: the connections that are open; each tells us itself.
    """

    def __init__(self, eventloop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = _usableLoop(eventloop)
        self.streams: set[Stream] = set()
        super().__init__(self.loop)

    # Processes

    def _signalsFactory(self) -> SignalHandling:
        # Twisted's own would wait for SIGCHLD on the descriptor that signals wake up, of which
        # there is one, and uvloop takes it when it runs.
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), ChildSignals(self)))

    # TCP

    def listenTCP(
        self, port: Any, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        listening = Port(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: Any, port: Any, factory: Any, timeout: float = 30.0, bindAddress: Any = None
    ) -> IConnector:
        connector = Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        self._check(addressFamily)
        if addressFamily == AF_UNIX:
            return super().adoptStreamPort(fileDescriptor, addressFamily, factory)
        listening = Port._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        listening.startListening()
        return listening

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        self._check(addressFamily)
        if addressFamily == AF_UNIX:
            return super().adoptStreamConnection(fileDescriptor, addressFamily, factory)
        return Server._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)

    def _check(self, addressFamily: int) -> None:
        if addressFamily not in self._supportedAddressFamilies:
            raise UnsupportedAddressFamily(addressFamily)

    # Streams are no sets of descriptors, but whoever treats one so gets what it means.

    def addReader(self, reader: Any) -> None:
        if isinstance(reader, Stream):
            reader.startReading()
        else:
            super().addReader(reader)

    def removeReader(self, reader: Any) -> None:
        if isinstance(reader, Stream):
            reader.stopReading()
        else:
            super().removeReader(reader)

    def getReaders(self) -> list[Any]:
        return [*super().getReaders(), *(stream for stream in self.streams if stream.reading)]

    def getWriters(self) -> list[Any]:
        return [*super().getWriters(), *(stream for stream in self.streams if stream.unsent)]

    def removeAll(self) -> list[Any]:
        # A stream that is paused with nothing to send is not among them, as none of Twisted's is.
        streams = [stream for stream in self.streams if stream.reading or stream.unsent]
        for stream in streams:
            stream.stopReading()
        return [*super().removeAll(), *streams]


def install(eventloop: asyncio.AbstractEventLoop | None = None) -> None:
    """Install the reactor, as each module of a reactor can, before any other is.

    :param eventloop: a loop of uvloop's that does not run yet; without one it is a new one.
    :raises ConfigurationError: uvloop is not installed, or the loop is not one of its.
    """
    installReactor(UvloopReactor(eventloop))
