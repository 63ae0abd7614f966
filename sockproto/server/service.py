"""The server as a Twisted service: it listens, reloads, and drains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, TimeoutError, inlineCallbacks, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from sockproto.errors import ConfigurationError, KeyringError
from sockproto.logs import Logger, Whole
from sockproto.server.audit import ServerAudit
from sockproto.server.composition import Composition
from sockproto.server.delegation import delegated_cgroup
from sockproto.server.keys import ServerKeys
from sockproto.server.listeners import Listener, Listeners
from sockproto.server.schema import Configuration
from sockproto.services.command.accounts import account_problems
from sockproto.services.command.invocation import PythonCommand
from sockproto.services.command.processes import ProcessHost
from sockproto.services.command.service import CommandService
from sockproto.session import AgentFactory

__all__ = ["Server"]

#: How often sessions are held against the keyring, and their keys' dates against the clock.
_CHECK_SECONDS = 60.0
#: How often a keyring or a configuration that cannot be read is complained of.
_REMIND_SECONDS = 3600.0


class Server(MultiService):
    """Everything that ``twistd -n sockproto`` serves, in any Twisted program.

    The process stays the program's own: no signal is taken, and nothing ends it.  What cannot be
    listened on is raised by :meth:`startService`.

    :param reactor: the reactor.
    :param configuration: what to serve where, to whom.
    :param keys: the keys of those who may log in.
    :param reread: gives the configuration anew, for a reload; ``None``: it cannot change.
    :param owner: the user and the group that the program is about to become once it listens, if
        it is.
    :param commands: commands in Python by their names, which rules with ``python`` allow.
    :raises ConfigurationError: a certificate cannot be used.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        keys: ServerKeys,
        reread: Callable[[], Configuration] | None = None,
        owner: tuple[int, int] | None = None,
        commands: Mapping[str, PythonCommand] | None = None,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self.configuration = configuration
        self.keys = keys
        self._reread = reread
        limits = configuration.limits
        self._host = ProcessHost(reactor, cgroup=delegated_cgroup())
        self._audit = ServerAudit(owner)
        self.commands = CommandService(
            reactor,
            self._host,
            configuration.rules,
            limits,
            self._audit.commands,
            commands=commands,
            sessions=lambda: [session.principal for session in self.agent.sessions],
        )
        self.agent = AgentFactory(reactor, {"command": self.commands}, limits)
        self._composition = Composition(
            reactor, configuration, keys, self.agent, self.commands, owner
        )
        self._started = configuration
        self._toOpen = [
            Listener(settings, self._composition.served(settings))
            for settings in configuration.listeners
        ]
        self.listeners = Listeners(reactor, owner)
        self._opened = False
        self._problem = ""
        self._checks = LoopingCall(self._checkSessions)
        self._reminders = LoopingCall(self._remind)
        for loop in (self._checks, self._reminders):
            loop.clock = reactor

    # Start

    def privilegedStartService(self) -> None:
        """Listen, while ports below 1024 may be had.

        :raises ConfigurationError: a listener cannot be had, or the audit not be written; then
            there is no listener.
        """
        self._open()
        super().privilegedStartService()

    def startService(self) -> None:
        """Serve.

        :raises ConfigurationError: a listener cannot be had, or a rule's commands could not run as
            it says; then there is none.
        :raises OSError: the process that runs commands cannot be started; likewise.
        """
        self._open()
        try:
            # Not before: whom the server runs as is only settled now.
            _checkAccounts(self.configuration)
            kinds = {rule.new_privileges for rule in self.configuration.rules.rules} or {False}
            for new_privileges in kinds:
                self._host.start(new_privileges)
        except BaseException:
            self._opened = False
            self._audit.close()
            self._closed(self.listeners.close())
            self._closed(self._host.stop())
            raise
        self._checks.start(_CHECK_SECONDS, now=False)
        self._reminders.start(_REMIND_SECONDS, now=False)
        super().startService()

    def _open(self) -> None:
        if self._opened:
            return
        self._audit.prepare(self.configuration)
        self._audit.use(self.configuration)
        self._opened = True
        self._warn()
        problems: list[Failure] = []
        opening = True

        def failed(failure: Failure) -> None:
            self._opened = False
            if opening:
                problems.append(failure)
            elif self.running:
                self.listenersFailed(failure)

        self.listeners.open(self._toOpen).addErrback(failed)
        opening = False
        if problems:
            self._audit.close()
            problems[0].raiseException()

    def listenersFailed(self, failure: Failure) -> None:
        """An endpoint that takes its time could not be listened on after all: there is none now."""
        self._log.critical("{error}", error=Whole(failure.getErrorMessage()))

    def _warn(self) -> None:
        for warning in self.configuration.warnings:
            self._log.warn("{text}", text=Whole(warning))

    # Reload

    def reload(self) -> bool:
        """Read the keyring and the configuration again: both take effect, or neither does.

        :return: whether they did.
        """
        try:
            configuration = self.configuration if self._reread is None else self._reread()
            _checkAccounts(configuration)
            rules = configuration.rules
            self._audit.prepare(configuration)
            self._problem = ""
            self.keys.reload()
        except ConfigurationError as error:
            self._problem = str(error)
        except KeyringError:
            # Which the keys themselves remember, and say.
            self._log.error("not reloaded, what was before stays in force")
        except Exception as error:
            self._log.failure("reloading failed")
            self._problem = f"{type(error).__name__}, as logged when it happened"
        else:
            self.configuration = configuration
            limits = configuration.limits
            self._audit.use(configuration)
            self.commands.reconfigure(rules, limits)
            self.agent.reconfigure(limits)
            self._composition.reconfigure(limits)
            self._log.info("reloaded the keyring and the configuration")
            self._warn()
            self._warnOfRestart()
            self._checkSessions()
            return True
        if self._reminders.running:
            self._reminders.reset()
        self._remind()
        return False

    def _warnOfRestart(self) -> None:
        """Say which changes a reload cannot put in force."""
        old, new = self._started, self.configuration
        for name, changed in (
            ("the listeners", new.listeners != old.listeners),
            ("server_id", new.server_id != old.server_id),
            ("[tutorial]", new.tutorial != old.tutorial),
            ("json in [log]", new.log.json != old.log.json),
        ):
            if changed:
                self._log.warn("{name} changed: that takes a restart to be in force", name=name)

    def _remind(self) -> None:
        """Log, where that is so, that not all is in force that the files say."""
        for line in self._problem.splitlines():
            self._log.error(
                "not reloaded, what was before stays in force: {line}", line=Whole(line)
            )
        self.keys.remind()
        self._audit.remind()

    def _checkSessions(self) -> None:
        """Drop the sessions whose keys are not valid any longer."""
        for login in self._composition.logins:
            try:
                login.dropInvalid()
            except Exception:
                self._log.failure("checking the keys of the sessions failed")

    # Stop

    @inlineCallbacks
    def stopService(self) -> Any:
        """Take nothing new, let what runs finish for a while, then end it."""
        limits = self.configuration.limits
        self.agent.goAway("shutdown", "the server is shutting down")
        for loop in (self._checks, self._reminders):
            if loop.running:
                loop.stop()
        self._opened = False
        yield self.listeners.close()
        yield maybeDeferred(super().stopService).addErrback(self._stopFailed)
        if self.commands.running:
            self._log.info(
                "{count} commands are running; they have {seconds:g} s",
                count=self.commands.running,
                seconds=limits.shutdown_seconds,
            )
        yield self._within(limits.shutdown_seconds, self.commands.whenEmpty())
        self.commands.endAll()
        grace = limits.kill_seconds + limits.close_seconds
        yield self._within(grace, self.commands.whenEmpty())
        yield self._within(limits.close_seconds, self.agent.whenEmpty())
        self._composition.abortAll()
        self._composition.close()
        ended = yield self._within(grace, self._host.stop())
        if not ended:
            self._log.error("the process that runs commands did not end")
        self._audit.close()

    def _within(self, seconds: float, waiting: Deferred[None]) -> Deferred[bool]:
        """Wait, but not for ever.

        :return: fires with whether it was waited for to the end.
        """

        def late(failure: Failure) -> bool:
            failure.trap(TimeoutError)
            return False

        return waiting.addTimeout(seconds, self._reactor).addCallbacks(lambda _: True, late)

    def _stopFailed(self, failure: Failure) -> None:
        self._log.failure("a service inside could not be stopped", failure)

    def _closed(self, closing: Deferred[None]) -> None:
        closing.addErrback(lambda failure: self._log.failure("closing failed", failure))


def _checkAccounts(configuration: Configuration) -> None:
    """:raises ConfigurationError: a rule's commands could not run as the user that it names."""
    problems = account_problems(configuration.commands)
    if problems:
        raise ConfigurationError("\n".join(problems))
