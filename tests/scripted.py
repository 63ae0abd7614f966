"""Small servers on plain sockets that say what a test has them say, each in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

__all__ = ["ScriptedTestCase", "unused_port"]

_Answer = Callable[[bytes], list[bytes]]
_Conversation = Callable[[socket.socket], None]


def unused_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of this machine where nobody listens."""
    with socket.socket(socket.AF_INET, kind) as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


class ScriptedTestCase(SynchronousTestCase):
    """Starts servers that end with the test."""

    def datagrams(self, answer: _Answer, host: str = "127.0.0.1") -> int:
        """Serve datagrams.

        :param answer: gives the answers to each.
        :return: the port.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind((host, 0))

        def serve() -> None:
            while True:
                data, peer = server.recvfrom(65_536)
                if data == b"end of the test" and peer == stopper.getsockname():
                    return
                for each in answer(data):
                    server.sendto(each, peer)

        stopper = socket.socket(family, socket.SOCK_DGRAM)
        stopper.bind((host, 0))
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def stop() -> None:
            stopper.sendto(b"end of the test", server.getsockname())
            thread.join()
            stopper.close()
            server.close()

        self.addCleanup(stop)
        port: int = server.getsockname()[1]
        return port

    def stream(self, conversation: _Conversation, where: str = "127.0.0.1") -> int:
        """Serve connections, one after the other.

        :param conversation: what happens on each; it is closed after that.
        :param where: an address, or the path of a Unix socket.
        :return: the port.
        """
        if "/" in where:
            server = socket.socket(socket.AF_UNIX)
            server.bind(where)
        else:
            server = socket.socket(socket.AF_INET6 if ":" in where else socket.AF_INET)
            server.bind((where, 0))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        conversation(connection)
                    except OSError:
                        pass  # the client has gone

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def stop() -> None:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            server.close()

        self.addCleanup(stop)
        port: int = server.getsockname()[1] if "/" not in where else 0
        return port
