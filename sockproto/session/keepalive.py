"""What the kernel is told of a session's connection."""

from __future__ import annotations

import socket

from twisted.internet.interfaces import ITCPTransport, ITransport

__all__ = ["keep_alive"]

# A peer that is gone is noticed after about two minutes: 60 s of silence, then four questions.
_OPTIONS = (
    (socket.SO_KEEPALIVE, 1, socket.SOL_SOCKET),
    (socket.TCP_KEEPIDLE, 60, socket.IPPROTO_TCP),
    (socket.TCP_KEEPINTVL, 15, socket.IPPROTO_TCP),
    (socket.TCP_KEEPCNT, 4, socket.IPPROTO_TCP),
    # Else the end of each short command waits, for 40 ms, until the peer has acknowledged what was
    # sent of it before.
    (socket.TCP_NODELAY, 1, socket.IPPROTO_TCP),
)


def keep_alive(transport: ITransport) -> None:
    """Have the kernel ask a silent peer from time to time, and send small frames at once; nothing
    but TCP needs it."""
    if ITCPTransport.providedBy(transport):
        handle = getattr(transport, "socket", None)
        # Twisted's Unix connections say that they are TCP's.
        if handle is not None and handle.family in (socket.AF_INET, socket.AF_INET6):
            for option, value, level in _OPTIONS:
                handle.setsockopt(level, option, value)
