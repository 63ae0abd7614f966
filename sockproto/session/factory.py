"""Agent connections: what serves them, and which there are."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol

from sockproto.interfaces import IChannelService
from sockproto.limits import Limits
from sockproto.session.input_credit import InputPool
from sockproto.session.protocol import AgentProtocol
from sockproto.wire.settings import Settings

__all__ = ["AgentFactory"]


class AgentFactory(Factory):
    """Serves agent connections, to be put behind the login.

    :param clock: the reactor.
    :param services: what channels may ask for, by name.
    :param limits: the figures.
    :ivar sessions: the connections that are open.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        services: Mapping[str, IChannelService],
        limits: Limits | None = None,
    ) -> None:
        self.clock = clock
        self.services = services
        self.sessions: set[AgentProtocol] = set()
        self._empty: list[Deferred[None]] = []
        self._leaving = False
        self.reconfigure(Limits() if limits is None else limits)

    def reconfigure(self, limits: Limits) -> None:
        """Have other limits hold for the sessions to come."""
        self.limits = limits
        self.settings = Settings(
            max_frame=limits.frame,
            max_channels=limits.channels,
            credit=InputPool.initial_credit(limits.channels),
            features=sorted(self.services),
        )

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A session; none while the server is going away."""
        return None if self._leaving else AgentProtocol(self)

    def startFactory(self) -> None:
        """Sessions may come (again)."""
        self._leaving = False

    def goAway(self, code: str, message: str) -> None:
        """Take no new session, and no new channel on those there are."""
        self._leaving = True
        for session in list(self.sessions):
            session.goAway(code, message)

    def sessionOver(self, session: AgentProtocol) -> None:
        """A session's connection is gone."""
        self.sessions.discard(session)
        if not self.sessions:
            waiting, self._empty = self._empty, []
            for deferred in waiting:
                deferred.callback(None)

    def whenEmpty(self) -> Deferred[None]:
        """Fires once no session is open."""
        deferred: Deferred[None] = Deferred()
        if self.sessions:
            self._empty.append(deferred)
        else:
            deferred.callback(None)
        return deferred
