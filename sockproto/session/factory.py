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
        self.limits = Limits() if limits is None else limits
        self.settings = Settings(
            max_frame=self.limits.frame,
            max_channels=self.limits.channels,
            credit=InputPool.initial_credit(self.limits.channels),
            features=sorted(services),
        )
        self.sessions: set[AgentProtocol] = set()
        self._empty: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """A session."""
        return AgentProtocol(self)

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
