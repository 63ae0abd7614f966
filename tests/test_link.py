"""Tests of a session that is made anew when it is lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli.link import Link
from sockproto.errors import AgentError, ConnectFailed, ConnectionLost, LoginFailed
from sockproto.wire.commands import CommandRequest

REQUEST = CommandRequest.of(["true"])


class FakeSession:
    """A session that does as it is told.

    :param lost: raised by :meth:`pump`.
    :param silent: raised by :meth:`ping`.
    :param leaving: raised by :meth:`ask`.
    """

    def __init__(self, name: str = "web1") -> None:
        self.login = SimpleNamespace(server_id=name)
        self.lost: AgentError | None = None
        self.silent: AgentError | None = None
        self.leaving: AgentError | None = None
        self.closed = False
        self.pings = 0
        self.asked: list[CommandRequest] = []

    def pump(self, timeout: float) -> None:
        assert timeout == 0
        if self.lost is not None:
            raise self.lost

    def ping(self, timeout: float) -> None:
        self.pings += 1
        if self.silent is not None:
            raise self.silent

    def ask(self, request: CommandRequest) -> object:
        if self.leaving is not None:
            raise self.leaving
        self.asked.append(request)
        return self

    def close(self) -> None:
        self.closed = True


class LinkTests(SynchronousTestCase):
    """Tests of `Link`."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.said: list[str] = []
        self.slept: list[float] = []
        self.sessions: list[Any] = [FakeSession(), FakeSession("web2")]
        self.left = list(self.sessions)

    def connect(self) -> Any:
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def link(self) -> Link:
        return Link(self.connect, self.said.append, lambda: self.now, self.slept.append)

    def asked(self, link: Link) -> Any:
        session, running = link.ask(REQUEST)
        self.assertIs(session, running)
        return session

    def test_there(self) -> None:
        """One session serves while it is there."""
        link = self.link()
        for _ in range(3):
            self.assertIs(self.asked(link), self.sessions[0])
        self.assertEqual((link.server_id, self.said, len(self.left)), ("web1", [], 1))
        link.close()
        self.assertTrue(self.sessions[0].closed)

    def test_firstOnce(self) -> None:
        """The first connection is tried once."""
        self.left = [ConnectFailed("no"), FakeSession()]
        self.assertRaises(ConnectFailed, self.link)
        self.assertEqual(self.slept, [])

    def test_lost(self) -> None:
        """One that has gone is made anew before the command is asked for, and that is said."""
        link = self.link()
        self.sessions[0].lost = ConnectionLost("gone")
        self.assertIs(self.asked(link), self.sessions[1])
        self.assertEqual(self.said, ["lost: gone: connecting again", "connected again to web2"])
        self.assertEqual((link.server_id, self.sessions[0].asked), ("web2", []))
        self.assertTrue(self.sessions[0].closed)
        self.assertEqual(self.sessions[1].asked, [REQUEST])

    def test_leaving(self) -> None:
        """So is one whose server takes no more commands."""
        link = self.link()
        self.sessions[0].leaving = AgentError("going", "shutdown")
        self.assertIs(self.asked(link), self.sessions[1])
        self.assertEqual(self.said[0], "shutdown: going: connecting again")

    def test_tooLong(self) -> None:
        """A command that cannot be sent at all is its own fault."""
        link = self.link()
        self.sessions[0].leaving = AgentError("big", "too-long")
        self.assertEqual(self.assertRaises(AgentError, link.ask, REQUEST).code, "too-long")
        self.assertEqual(self.said, [])

    def test_quiet(self) -> None:
        """One that was quiet for long is asked whether it is there."""
        link = self.link()
        self.now += 29
        self.asked(link)
        self.assertEqual(self.sessions[0].pings, 0)
        self.now += 1
        self.asked(link)
        self.asked(link)
        self.assertEqual(self.sessions[0].pings, 1)
        self.now += 29
        link.heard()
        self.now += 29
        self.asked(link)
        self.assertEqual(self.sessions[0].pings, 1)
        link.doubt()
        self.sessions[0].silent = ConnectionLost("silent")
        self.assertIs(self.asked(link), self.sessions[1])

    def test_tries(self) -> None:
        """It is tried again for some seconds, and not for ever; the next command tries anew."""
        link = self.link()
        self.sessions[0].lost = ConnectionLost("gone")
        self.left = [ConnectFailed("1"), ConnectionLost("2"), self.sessions[1]]
        self.assertIs(self.asked(link), self.sessions[1])
        self.assertEqual(self.slept, [0.5, 1.0])
        self.sessions[1].lost = ConnectionLost("gone")
        last = FakeSession()
        self.left = [ConnectFailed(str(number)) for number in range(5)] + [last]
        del self.slept[:]
        self.assertEqual(str(self.assertRaises(ConnectFailed, link.ask, REQUEST)), "4")
        self.assertEqual(self.slept, [0.5, 1.0, 2.0, 4.0])
        self.assertIs(self.asked(link), last)

    def test_notLetIn(self) -> None:
        """A login that fails is not tried again: it would only be counted."""
        link = self.link()
        self.sessions[0].lost = ConnectionLost("gone")
        self.left = [LoginFailed("no"), FakeSession()]
        self.assertRaises(LoginFailed, link.ask, REQUEST)
        self.assertEqual((self.slept, len(self.left)), ([], 1))
