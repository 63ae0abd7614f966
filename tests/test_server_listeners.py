"""Tests for :mod:`sockproto.server.listeners` and :mod:`sockproto.server.socket_file`."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs, formatEvent, formatEventAsClassicLogText
from twisted.trial.unittest import TestCase

from sockproto.errors import ConfigurationError
from sockproto.server import listeners as listenersModule
from sockproto.server.config import ListenerSettings
from sockproto.server.listeners import Listener, Listeners

TCP = "tcp:0:interface=127.0.0.1"


class SilentFactory(Factory):
    """Serves nothing, and says nothing of itself."""

    noisy = False
    protocol = Protocol


class ListenersTests(TestCase):
    """All listeners or none."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        # Short: the path of a Unix socket has 107 bytes at most.
        self.folder = Path(os.path.relpath(self.mktemp()))
        self.folder.mkdir(parents=True)
        self.listeners = Listeners(reactor)
        self.addCleanup(self.listeners.close)

    def open(self, *endpoints: str, into: Listeners | None = None) -> Deferred[None]:
        """Listen."""
        opening: Deferred[None] = (into or self.listeners).open(
            [
                Listener(ListenerSettings(service="agent", endpoint=endpoint), SilentFactory())
                for endpoint in endpoints
            ]
        )
        return opening

    def another(self) -> Listeners:
        """What another server has."""
        from twisted.internet import reactor

        other = Listeners(reactor)
        self.addCleanup(other.close)
        return other

    def refusal(self, opening: Deferred[None]) -> str:
        """The message of what failed at once."""
        return str(self.failureResultOf(opening, ConfigurationError).value)

    def unix(self, name: str = "s", rest: str = "") -> tuple[Path, str]:
        """A path and its endpoint."""
        path = self.folder / name
        return path, f"unix:{path}{rest}"

    def test_open(self) -> None:
        """Each listener is one line with its real port, and Twisted's own line is empty."""
        path, endpoint = self.unix()
        with capturedLogs() as captured:
            self.successResultOf(self.open(TCP, endpoint))
        port = self.listeners.addresses[0][1].port  # type: ignore[attr-defined]
        self.assertNotEqual(port, 0)
        self.assertEqual(
            [formatEvent(event) for event in captured if formatEventAsClassicLogText(event)],
            [
                f"agent listens on tcp 127.0.0.1:{port} (behind the login)",
                f"agent listens on unix:{path} (behind the login)",
            ],
        )

    def test_none(self) -> None:
        """Where one cannot be had the others are closed, and the error is there at once."""
        _, endpoint = self.unix()
        self.successResultOf(self.open(TCP))
        taken = self.listeners.addresses[0][1].port  # type: ignore[attr-defined]
        other = self.another()
        again = f"tcp:{taken}:interface=127.0.0.1"
        message = self.refusal(self.open(endpoint, TCP, again, into=other))
        self.assertEqual(message, f"cannot listen on agent={again}: Address already in use")
        self.assertEqual(other.addresses, [])
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_reasons(self) -> None:
        """The message says what is wrong in the system's words."""
        file, _ = self.unix("file")
        file.touch()
        for endpoint, reason in (
            (f"unix:{self.folder}/none/s", "No such file or directory"),
            (f"unix:{file}", "there is something else than a socket"),
            (f"unix:{self.folder}/{'x' * 120}", "AF_UNIX path too long"),
            ("tcp:0:interface=192.0.2.1", "Cannot assign requested address"),
            ("systemd:domain=INET:index=9", ""),
            ("nothing:1", "Unknown endpoint type: 'nothing'"),
        ):
            message = self.refusal(self.open(endpoint))
            self.assertIn(f"cannot listen on agent={endpoint}: ", message)
            self.assertIn(reason, message)
            self.assertFalse(message.endswith(": "), message)
        self.assertTrue(file.exists())
        self.assertEqual([one.name for one in self.folder.iterdir()], ["file"])

    def test_mode(self) -> None:
        """A Unix socket is for its owner alone unless the endpoint says otherwise."""
        path, endpoint = self.unix()
        wide, wideEndpoint = self.unix("w", ":mode=666")
        self.successResultOf(self.open(endpoint, wideEndpoint))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(wide.stat().st_mode), 0o666)

    def test_stale(self) -> None:
        """What a dead server left is replaced, even a lock that names a living process."""
        path, endpoint = self.unix()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        Path(f"{path}.lock").write_text(str(os.getpid()))
        self.successResultOf(self.open(endpoint))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))

    def test_inUse(self) -> None:
        """A socket that another server listens on is left alone, with our lock beside it or not."""
        path, endpoint = self.unix()
        self.successResultOf(self.open(endpoint))
        message = self.refusal(self.open(endpoint, into=self.another()))
        self.assertIn("another server listens there", message)
        foreign, foreignEndpoint = self.unix("f")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(foreign))
            listening.listen(0)
            message = self.refusal(self.open(foreignEndpoint, into=self.another()))
        self.assertIn("another program listens there", message)
        self.assertTrue(foreign.exists())
        self.assertFalse(Path(f"{foreign}.lock").exists())
        self.assertTrue(path.exists())

    def test_lockLink(self) -> None:
        """A lock is never made through a link."""
        path, endpoint = self.unix()
        os.symlink("victim", f"{path}.lock")
        self.refusal(self.open(endpoint))
        self.assertFalse((self.folder / "victim").exists())

    @inlineCallbacks
    def test_close(self) -> Any:
        """Closing removes the socket and its lock, and the name can be had again."""
        path, endpoint = self.unix()
        for _ in range(2):
            yield self.open(endpoint, TCP)
            self.assertTrue(path.exists())
            yield self.listeners.close()
            self.assertEqual(list(self.folder.iterdir()), [])

    @inlineCallbacks
    def test_removed(self) -> Any:
        """A socket that somebody else removed or replaced is no trouble, and theirs stays."""
        path, endpoint = self.unix()
        yield self.open(endpoint)
        path.unlink()
        path.write_text("theirs")
        yield self.listeners.close()
        self.assertEqual(path.read_text(), "theirs")

    @inlineCallbacks
    def test_lockReplaced(self) -> Any:
        """A lock on a file that has lost its name counts for nothing."""
        path, endpoint = self.unix()
        lock = f"{path}.lock"
        real = fcntl.flock
        calls: list[int] = []

        def flock(descriptor: int, how: int) -> None:
            # Whoever held it before removes it between our open and our lock.
            if not calls:
                os.unlink(lock)
            calls.append(descriptor)
            real(descriptor, how)

        self.patch(fcntl, "flock", flock)
        yield self.open(endpoint)
        self.assertEqual(len(calls), 2)
        self.assertTrue(os.path.exists(lock))

    def test_slow(self) -> None:
        """An endpoint that is not there yet when all is closed is cancelled."""
        pending: Deferred[None] = Deferred()

        class Slow:
            def listen(self, factory: object) -> Deferred[None]:
                return pending

        self.patch(listenersModule, "serverFromString", lambda *_: Slow())
        opening = self.open("slow:1")
        self.assertNoResult(opening)
        self.successResultOf(self.listeners.close())
        failure = self.failureResultOf(opening, ConfigurationError)
        self.assertIsInstance(failure.value.__cause__, CancelledError)
