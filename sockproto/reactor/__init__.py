"""A reactor whose TCP streams are uvloop's own transports: ``twistd --reactor=uvloop``.

Everything else - Unix sockets, with their passing of descriptors, datagrams, processes, timers,
threads - is Twisted's own on uvloop's loop.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop

__all__ = ["install"]


def install(eventloop: AbstractEventLoop | None = None) -> None:
    """Install the reactor, as other ``install`` functions of Twisted do, before any other is.

    :param eventloop: a loop of uvloop's that does not run yet; without one it is a new one.
    :raises ConfigurationError: uvloop is not installed, or the loop is not one of its.
    """
    # Twisted imports this package to list its reactors, where the reactor must not be imported.
    from twisted.internet.main import installReactor

    from sockproto.reactor.reactor import UvloopReactor

    installReactor(UvloopReactor(eventloop))
