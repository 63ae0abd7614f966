"""A reactor whose TCP streams are uvloop's own transports: ``twistd --reactor=uvloop``.

Everything else - Unix sockets, with their passing of descriptors, datagrams, processes, timers,
threads - is Twisted's own, on uvloop's loop.
"""

from sockproto.reactor.reactor import UvloopReactor, install

__all__ = ["UvloopReactor", "install"]
