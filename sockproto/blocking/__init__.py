"""The client without Twisted, for scripts: plain sockets, one thread.

::

    from sockproto.blocking import connect

    with connect("tcp:127.0.0.1:7100") as session:
        result = session.run(["uname", "-a"])
        print(result.stdout.decode(), end="")
"""

from sockproto.blocking.command import Command
from sockproto.blocking.connecting import connect
from sockproto.blocking.session import Session

__all__ = ["Command", "Session", "connect"]
