"""The server as a Twisted service: it listens, reloads, and drains."""

from __future__ import annotations

import random
import resource
import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sockproto.admission import Admission
from sockproto.auth.server import AuthenticatingFactory
from sockproto.connections import ConnectionCap
from sockproto.errors import ConfigurationError, KeyringError
from sockproto.names import default_server_id
from sockproto.server.keys import ServerKeys
from sockproto.server.listeners import Listener, Listeners
from sockproto.server.schema import Configuration, ListenerSettings
from sockproto.services.command.processes import ProcessHost
from sockproto.services.command.service import CommandService
from sockproto.session import AgentFactory

__all__ = ["Server"]

#: How often sessions are held against the keyring, and their keys' dates against the clock.
_CHECK_SECONDS = 60.0
#: How often a keyring that cannot be read is complained of.
_REMIND_SECONDS = 3600.0


class Server(MultiService):
    """Everything that ``twistd -n sockproto`` runs.

    :param reactor: the reactor.
    :param configuration: what to serve where, to whom.
    :param keys: the keys of those who may log in.
    :param reread: gives the configuration anew, for a reload; ``None``: it cannot change.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        keys: ServerKeys,
        reread: Callable[[], Configuration] | None = None,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._configuration = configuration
        self._keys = keys
        self._reread = reread
        limits = configuration.limits
        self._host = ProcessHost(reactor)
        self.commands = CommandService(reactor, self._host, configuration.rules, limits)
        self.agent = AgentFactory(reactor, {"command": self.commands}, limits)
        self._admission = Admission(limits, reactor.seconds, random.random)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._cap = ConnectionCap(limits, descriptors)
        self._logins: list[AuthenticatingFactory] = []
        self.listeners = Listeners(reactor)
        self._opened = False
        self._checks = LoopingCall(self._checkSessions)
        self._reminders = LoopingCall(keys.remind)
        for loop in (self._checks, self._reminders):
            loop.clock = reactor

    # Start

    def privilegedStartService(self) -> None:
        """Listen, while ports below 1024 may be had."""
        self._open()
        super().privilegedStartService()

    def startService(self) -> None:
        """Serve."""
        self._open()
        self._host.start()
        self._checks.start(_CHECK_SECONDS, now=False)
        self._reminders.start(_REMIND_SECONDS, now=False)
        self._watchHangup()
        super().startService()

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        for warning in self._configuration.warnings:
            self._log.warn("{warning}", warning=warning)
        failures: list[ConfigurationError] = []

        def failed(failure: Any) -> None:
            if not failure.check(ConfigurationError):
                self._log.failure("listening failed", failure)
            failures.append(failure.value)
            self._log.critical("sockproto: {error}", error=str(failure.value))
            if self.running:
                self._reactor.stop()

        self.listeners.open(
            [Listener(each, self._factoryOf(each)) for each in self._configuration.listeners]
        ).addErrback(failed)
        if failures:
            raise SystemExit(1)

    def _factoryOf(self, settings: ListenerSettings) -> IProtocolFactory:
        """What a listener serves: the service, behind the login, behind TLS."""
        factory: IProtocolFactory = AuthenticatingFactory(
            self._reactor,
            self.agent,
            self._keys,
            settings.service,
            self._configuration.server_id or default_server_id(),
            self._configuration.limits,
            self._admission,
            self._cap,
        )
        assert isinstance(factory, AuthenticatingFactory)
        self._logins.append(factory)
        protection = settings.protection
        if protection is None:
            return factory
        from sockproto.auth.tls import tlsFactory
        from sockproto.tls import automatic_context, context_from_file

        context = automatic_context() if protection == "auto" else context_from_file(protection)
        return tlsFactory(self._reactor, context, factory)

    # Reload

    def _watchHangup(self) -> None:
        """Reload on SIGHUP, where this is the program and not a guest in another."""
        try:
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        except ValueError:
            self._log.info("not in the main thread: SIGHUP does not reload")

    def reload(self) -> bool:
        """Read the keyring and the configuration again: both take effect, or neither does.

        :return: whether they did.
        """
        try:
            configuration = self._configuration if self._reread is None else self._reread()
            self._keys.reload()
        except (ConfigurationError, KeyringError) as error:
            for line in str(error).splitlines():
                self._log.error("not reloaded, what was before stays in force: {line}", line=line)
            return False
        if configuration.listeners != self._configuration.listeners:
            self._log.warn("the listeners have changed: that takes a restart, the rest is in force")
        self._configuration = configuration
        self.commands.reconfigure(configuration.rules, configuration.limits)
        self._log.info("reloaded")
        self._checkSessions()
        return True

    def _checkSessions(self) -> None:
        """Drop the sessions whose keys are not valid any longer."""
        for login in self._logins:
            login.dropInvalid()

    # Stop

    @inlineCallbacks
    def stopService(self) -> Any:
        """Take nothing new, let what runs finish for a while, then end it."""
        yield maybeDeferred(super().stopService)
        limits = self._configuration.limits
        for loop in (self._checks, self._reminders):
            if loop.running:
                loop.stop()
        yield self.listeners.close()
        for session in list(self.agent.sessions):
            session.goAway("shutdown", "the server is shutting down")
        if self.commands.running:
            self._log.info(
                "{count} commands are running; they have {seconds:g} s",
                count=self.commands.running,
                seconds=limits.shutdown_seconds,
            )
        yield self._within(limits.shutdown_seconds, self.commands.whenEmpty())
        self.commands.endAll()
        yield self._within(limits.kill_seconds + limits.close_seconds, self.commands.whenEmpty())
        yield self._within(limits.close_seconds, self.agent.whenEmpty())
        for login in self._logins:
            login.abortAll()
        yield self._host.stop()

    def _within(self, seconds: float, waiting: Deferred[None]) -> Deferred[None]:
        """Wait, but not for ever."""
        return waiting.addTimeout(seconds, self._reactor).addErrback(
            lambda failure: failure.trap(CancelledError, TimeoutError) and None
        )
