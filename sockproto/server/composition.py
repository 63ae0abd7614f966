"""What each listener serves: the service that it names, behind the login and TLS as it says."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from twisted.internet.interfaces import IProtocolFactory

from sockproto.admission import Admission
from sockproto.auth.server import AuthenticatingFactory, KeySource
from sockproto.connections import ConnectionCap
from sockproto.datagrams import AnsweringProtocol, DatagramGuard
from sockproto.errors import ConfigurationError
from sockproto.interfaces import IChannelService
from sockproto.limits import Limits
from sockproto.names import default_server_id
from sockproto.server.privileges import acting_as
from sockproto.server.schema import Configuration, ListenerSettings
from sockproto.services.clock import DaytimeFactory, FramedTimeFactory, TimeFactory, WallClock
from sockproto.services.echo import EchoFactory, FramedEchoFactory, UpperFactory, echo, upper
from sockproto.services.ntp import PORT as NTP_PORT
from sockproto.services.ntp import NTPServer
from sockproto.services.open import OpenFactory
from sockproto.services.settings import ClockSettings, NTPSettings
from sockproto.services.tutorial.dialects import Dialects
from sockproto.services.tutorial.settings import DIALECTS
from sockproto.session import AgentFactory

__all__ = ["Composition"]

_Answer = Callable[[bytes], bytes | None]


def _wall(settings: ListenerSettings) -> WallClock:
    own = settings.own
    return WallClock(own.zone if isinstance(own, ClockSettings) else None)


def _ntp(settings: ListenerSettings) -> _Answer:
    own = settings.own
    return NTPServer(own.local_stratum if isinstance(own, NTPSettings) else None).answer


_ECHOES: Mapping[str, type[OpenFactory]] = MappingProxyType(
    {"echo": EchoFactory, "upper": UpperFactory, "framed-echo": FramedEchoFactory}
)
_CLOCKS = MappingProxyType(
    {"daytime": DaytimeFactory, "time": TimeFactory, "framed-time": FramedTimeFactory}
)
_ANSWERS: Mapping[str, Callable[[ListenerSettings], _Answer]] = MappingProxyType(
    {
        "echo": lambda _: echo,
        "upper": lambda _: upper,
        "strftime": lambda settings: _wall(settings).answer,
        "daytime": lambda settings: _wall(settings).daytime,
        "time": lambda settings: _wall(settings).time,
        "ntp": _ntp,
    }
)


class Composition:
    """Makes what listeners serve; all listeners of a server share its limits.

    :param reactor: the reactor.
    :param configuration: the server's.
    :param keys: of those who may log in.
    :param agent: what the service ``agent`` is.
    :param commands: the agent's service ``command``, which tutorial dialects use too.
    :param owner: the user and the group that the server is about to become, if it is: uploads are
        to be theirs.
    :ivar logins: the logins in front of services.
    :ivar guard: what all datagram services share.
    """

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        keys: KeySource,
        agent: AgentFactory,
        commands: IChannelService,
        owner: tuple[int, int] | None = None,
    ) -> None:
        limits = configuration.limits
        self._reactor = reactor
        self._owner = owner
        self._limits = limits
        self._keys = keys
        self._agent = agent
        self._server_id = configuration.server_id or default_server_id()
        self._admission = Admission(limits, reactor.seconds, random.random)
        self._cap = ConnectionCap(limits, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._opens: list[OpenFactory] = []
        self._dialects = Dialects(reactor, configuration.tutorial, commands, limits)
        self.logins: list[AuthenticatingFactory] = []
        self.guard = DatagramGuard(limits, reactor.seconds)

    def served(self, settings: ListenerSettings) -> IProtocolFactory | AnsweringProtocol:
        """What a listener serves.

        :raises ConfigurationError: its certificate, or the folder of the tutorials, cannot be used.
        """
        return self._datagrams(settings) if settings.is_datagram else self._stream(settings)

    def _datagrams(self, settings: ListenerSettings) -> AnsweringProtocol:
        service = settings.service
        reserved = {NTP_PORT} if service == "ntp" else ()
        return AnsweringProtocol(service, _ANSWERS[service](settings), self.guard, reserved)

    def _stream(self, settings: ListenerSettings) -> IProtocolFactory:
        factory = self._service(settings)
        if settings.authenticates:
            factory = self._behindLogin(settings, factory)
        protection = settings.protection
        if protection is None:
            return factory
        from sockproto.auth.tls import tlsFactory
        from sockproto.tls import automatic_context, context_from_file

        context = automatic_context() if protection == "auto" else context_from_file(protection)
        return tlsFactory(self._reactor, context, factory)

    def reconfigure(self, limits: Limits) -> None:
        """Have other limits hold from now on."""
        self._admission.reconfigure(limits)
        self._cap.reconfigure(limits)
        self.guard.reconfigure(limits)
        for login in self.logins:
            login.reconfigure(limits)
        for each in self._opens:
            each.reconfigure(limits)

    def close(self) -> None:
        """Let go of what was opened to serve."""
        self._dialects.close()

    def abortAll(self) -> None:
        """End every connection at once."""
        for login in self.logins:
            login.abortAll()
        for each in self._opens:
            each.abortAll()

    def _service(self, settings: ListenerSettings) -> IProtocolFactory:
        if settings.service == "agent":
            return self._agent
        # Behind a login it is the login that counts connections.
        cap = None if settings.authenticates else self._cap
        factory: OpenFactory
        if settings.service in DIALECTS:
            try:
                with acting_as(self._owner):
                    factory = self._dialects.factory(settings.service, cap)
            except (ValueError, OSError) as error:
                raise ConfigurationError(f"cannot serve {settings}: {error}") from None
        elif settings.service in _ECHOES:
            factory = _ECHOES[settings.service](self._reactor, self._limits, cap)
        else:
            factory = _CLOCKS[settings.service](self._reactor, _wall(settings), self._limits, cap)
        self._opens.append(factory)
        return factory

    def _behindLogin(
        self, settings: ListenerSettings, factory: IProtocolFactory
    ) -> AuthenticatingFactory:
        login = AuthenticatingFactory(
            self._reactor,
            factory,
            self._keys,
            settings.service,
            self._server_id,
            self._limits,
            self._admission,
            self._cap,
        )
        self.logins.append(login)
        return login
