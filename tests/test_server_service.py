"""Tests for :mod:`sockproto.server.service` and :mod:`sockproto.server.program`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Application, IService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sockproto import logs
from sockproto.errors import ConfigurationError
from sockproto.keyring import new_key
from sockproto.keyring_edit import add_keys, revoke_key
from sockproto.limits import Limits
from sockproto.server import service
from sockproto.server.config import Configuration, ListenerSettings, LogSettings
from sockproto.server.keys import ServerKeys
from sockproto.server.listeners import Listeners
from sockproto.server.program import Program, StartFailed
from sockproto.server.service import Server
from sockproto.services.command.counts import Slot
from sockproto.services.command.rule import CommandRule
from tests.commandfakes import PRINCIPAL

LOCAL = ListenerSettings(service="agent", endpoint="tcp:7100:interface=127.0.0.1")
OTHER = ListenerSettings(service="agent", endpoint="tcp:7101:interface=127.0.0.1")


class Host:
    """A host process that is none."""

    def __init__(self, reactor: object, cgroup: str | None = None) -> None:
        self.started = 0
        self.error: OSError | None = None
        self.ending: Deferred[None] = succeed(None)

    def start(self, new_privileges: bool) -> None:
        """Count."""
        if self.error is not None:
            raise self.error
        self.started += 1

    def stop(self) -> Deferred[None]:
        """Say when."""
        self.started -= 1
        return self.ending


class Reactor(MemoryReactorClock):
    """A reactor without I/O, some of whose ports are taken."""

    taken: tuple[int, ...] = ()
    closed = 0
    stopped = False

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """As of a memory reactor."""
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        listening = super().listenTCP(port, factory, backlog, interface)
        factory.doStart()

        def stop() -> None:
            self.closed += 1
            factory.doStop()

        listening.stopListening = stop
        return listening

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        """At once."""
        call(*args)

    def stop(self) -> None:
        """Note it."""
        self.stopped = True


class Session:
    """A session of the agent's."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def goAway(self, code: str, message: str) -> None:
        """Note it."""
        self.told.append(code)


class ServerTestCase(SynchronousTestCase):
    """Tests of a server in memory."""

    kind: type[Server] = Server

    def setUp(self) -> None:
        self.patch(service, "ProcessHost", Host)
        self.patch(logs.EVENTS, "level", LogLevel.debug)
        self.reactor = Reactor()
        self.keys = ServerKeys(Path(self.mktemp()).absolute())
        self.keys.open(create=True)
        self.read: Configuration | Exception = Configuration()

    def server(self, *listeners: ListenerSettings, **fields: Any) -> Any:
        """A server, whose reloads give :attr:`read`."""
        self.read = Configuration(listeners=listeners or (LOCAL,), **fields)

        def reread() -> Configuration:
            if isinstance(self.read, Exception):
                raise self.read
            return self.read

        return self.kind(self.reactor, self.read, self.keys, reread)

    def messages(self, captured: Iterable[Any]) -> list[str]:
        """What was logged."""
        return [formatEvent(event) for event in captured if formatEvent(event)]


class StartTests(ServerTestCase):
    """How it starts."""

    def test_start(self) -> None:
        """It listens once, before privileges are given up."""
        server = self.server(LOCAL, OTHER)
        server.privilegedStartService()
        self.assertEqual(len(self.reactor.tcpServers), 2)
        self.assertEqual(server._host.started, 0)
        server.startService()
        self.assertEqual(len(self.reactor.tcpServers), 2)
        self.assertEqual(server._host.started, 1)
        self.successResultOf(server.stopService())

    def test_taken(self) -> None:
        """A port that cannot be had is raised, the others are closed, nothing is left running."""
        self.reactor.taken = (7101,)
        server = self.server(LOCAL, OTHER)
        error = self.assertRaises(ConfigurationError, server.startService)
        self.assertEqual(
            str(error),
            "cannot listen on agent=tcp:7101:interface=127.0.0.1: Address already in use",
        )
        self.assertEqual((self.reactor.closed, server._host.started, server.running), (1, 0, 0))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.successResultOf(server.stopService())
        self.reactor.taken = ()
        server.startService()
        self.assertEqual(len(server.listeners.addresses), 2)
        self.successResultOf(server.stopService())

    def test_noHost(self) -> None:
        """So it is where the process for commands cannot be started."""
        server = self.server()
        server._host.error = OSError(11, "Resource temporarily unavailable")
        self.assertRaises(OSError, server.startService)
        self.assertEqual((self.reactor.closed, server.running), (1, 0))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        server._host.error = None
        server.startService()
        self.assertEqual(len(server.listeners.addresses), 1)
        self.successResultOf(server.stopService())

    def test_certificate(self) -> None:
        """A certificate that cannot be used is found before anything listens."""
        error = self.assertRaises(
            ConfigurationError, self.server, attrs.evolve(LOCAL, tls="/none.pem")
        )
        self.assertIn("/none.pem: expected a PEM file", str(error))

    def test_signals(self) -> None:
        """A server inside another program leaves its signals alone."""
        before = [signal.getsignal(each) for each in (signal.SIGHUP, signal.SIGTERM)]
        server = self.server()
        server.startService()
        after = [signal.getsignal(each) for each in (signal.SIGHUP, signal.SIGTERM)]
        self.successResultOf(server.stopService())
        self.assertEqual(before, after)

    def test_slow(self) -> None:
        """An endpoint that fails later is logged, and the program goes on."""
        opening: Deferred[None] = Deferred()
        self.patch(Listeners, "open", lambda *_: opening)
        server = self.server()
        server.startService()
        with capturedLogs() as captured:
            opening.errback(ConfigurationError("cannot listen on x: y"))
        self.assertEqual(self.messages(captured), ["cannot listen on x: y"])
        self.assertFalse(self.reactor.stopped)
        self.successResultOf(server.stopService())


class ReloadTests(ServerTestCase):
    """What a reload puts in force."""

    def setUp(self) -> None:
        super().setUp()
        self.running = self.server(limits=Limits(shutdown_seconds=0))
        self.running.startService()
        self.addCleanup(lambda: self.successResultOf(self.running.stopService()))

    def test_limits(self) -> None:
        """Rules and limits hold everywhere at once."""
        limits = Limits(frame=70_000, connections=3, unauthenticated_local=7, login_seconds=3)
        rule = CommandRule(name="one", argv=("true",), allow=("ops",))
        assert isinstance(self.read, Configuration)
        self.read = attrs.evolve(self.read, limits=limits, commands=(rule,))
        self.assertTrue(self.running.reload())
        (login,) = self.running._composition.logins
        self.assertIs(login.limits, limits)
        self.assertEqual(self.running.agent.settings.max_frame, 70_000)
        self.assertEqual(self.running._composition._cap._most, 3)
        for _ in range(7):
            self.assertIsNotNone(self.running._composition._admission.admit(None))
        self.assertIsNone(self.running._composition._admission.admit(None))
        self.assertTrue(self.running.commands._rules.decide("ops", (), ["one"]).allowed)

    def test_restart(self) -> None:
        """What takes a restart is said, each time, for it is still not in force."""
        assert isinstance(self.read, Configuration)
        self.read = attrs.evolve(self.read, listeners=(OTHER,), server_id="x")
        for _ in range(2):
            with capturedLogs() as captured:
                self.assertTrue(self.running.reload())
            self.assertEqual(
                self.messages(captured)[1:],
                [
                    "the listeners changed: that takes a restart to be in force",
                    "server_id changed: that takes a restart to be in force",
                ],
            )

    def test_warnings(self) -> None:
        """What is doubtful in a configuration is said again."""
        assert isinstance(self.read, Configuration)
        self.read = attrs.evolve(self.read, warnings=("hm",))
        with capturedLogs() as captured:
            self.running.reload()
        self.assertIn("hm", self.messages(captured))

    def test_configurationWrong(self) -> None:
        """A wrong configuration keeps rules and keys, and is an error again each hour."""
        before = self.running.configuration
        self.read = ConfigurationError("a: one\nb: two")
        self.reactor.advance(1800)
        expected = [
            f"not reloaded, what was before stays in force: {line}" for line in ("a: one", "b: two")
        ]
        with capturedLogs() as captured:
            self.assertFalse(self.running.reload())
        self.assertEqual(self.messages(captured), expected)
        self.assertIs(self.running.configuration, before)
        for _ in range(2):
            with capturedLogs() as captured:
                self.reactor.pump([600] * 5 + [599])
            self.assertEqual(captured, [])
            with capturedLogs() as captured:
                self.reactor.advance(1)
            self.assertEqual(self.messages(captured), expected)
            self.assertEqual({event["log_level"].name for event in captured}, {"error"})
        self.read = before
        self.assertTrue(self.running.reload())
        with capturedLogs() as captured:
            self.reactor.pump([600] * 12)
        self.assertEqual(captured, [])

    def test_keyringWrong(self) -> None:
        """A wrong keyring keeps the configuration as well."""
        before = self.running.configuration
        self.read = attrs.evolve(before, limits=Limits(frame=70_000))
        self.keys.path.write_text("x")
        with capturedLogs() as captured:
            self.assertFalse(self.running.reload())
        self.assertEqual(len(captured), 2)
        self.assertIs(self.running.configuration, before)
        self.assertIsNotNone(self.keys.get("owner"))
        with capturedLogs() as captured:
            self.reactor.pump([600] * 6)
        self.assertIn("the keyring cannot be read", self.messages(captured)[0])

    def test_unexpected(self) -> None:
        """A reload that fails in a way nobody thought of keeps what was before, too."""
        self.read = ZeroDivisionError()
        self.assertFalse(self.running.reload())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_sessions(self) -> None:
        """Sessions of revoked keys are dropped at a reload, and within a minute without one."""
        add_keys(self.keys.path, [new_key("ops")])
        dropped: list[str] = []
        (login,) = self.running._composition.logins
        for key_id in ("owner", "ops"):
            connection = Connection(key_id, self.keys)
            connection.dropped = dropped
            login.connections.add(connection)
        self.addCleanup(login.connections.clear)
        revoke_key(self.keys.path, "ops")
        self.running.reload()
        self.assertEqual(dropped, ["ops"])
        revoke_key(self.keys.path, "owner")
        self.reactor.advance(60)
        self.assertIn("owner", dropped)

    def test_checksGoOn(self) -> None:
        """A check that fails is logged, and is not the last."""
        (login,) = self.running._composition.logins

        def fail() -> None:
            raise ZeroDivisionError

        self.patch(login, "dropInvalid", fail)
        self.reactor.advance(60)
        self.reactor.advance(60)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


class Connection:
    """A connection that has logged in."""

    dropped: list[str]

    def __init__(self, key_id: str, keys: ServerKeys) -> None:
        self.key = keys.get(key_id)
        self.transport = StringTransport()

    def drop(self, problem: str) -> None:
        """Note it."""
        assert self.key is not None
        self.dropped.append(self.key.id)


class AccountTests(ServerTestCase):
    """Rules whose commands run as users that there are not, or that the server cannot become."""

    kind = Server

    def test_start(self) -> None:
        """They are an error at the start, which leaves no listener."""
        rule = CommandRule(name="one", argv=("true",), allow=("ops",), user="no-such-user")
        server = self.server(commands=(rule,))
        error = self.assertRaises(ConfigurationError, server.startService)
        self.assertIn("[[command]] one: user: there is no user", str(error))
        self.assertEqual(self.reactor.closed, 1)

    def test_reload(self) -> None:
        """At a reload the rules that were in force stay."""
        server = self.server()
        server.startService()
        rule = CommandRule(name="one", argv=("true",), allow=("ops",), group="no-such-group")
        self.read = Configuration(listeners=(LOCAL,), commands=(rule,))
        with capturedLogs() as captured:
            self.assertFalse(server.reload())
        self.assertIn("there is no group 'no-such-group'", "".join(self.messages(captured)))
        self.assertEqual(server.commands._rules.rules, ())

    def test_hosts(self) -> None:
        """Commands with and without new privileges have a host process each, where rules ask for
        both."""
        rules = [
            CommandRule(name=name, argv=("true",), allow=("ops",), new_privileges=name == "two")
            for name in ("one", "two")
        ]
        server = self.server(commands=tuple(rules))
        server.startService()
        self.assertEqual(server._host.started, 2)


class StopTests(ServerTestCase):
    """How it drains."""

    def setUp(self) -> None:
        super().setUp()
        self.running = self.server(
            limits=Limits(shutdown_seconds=10, kill_seconds=1, close_seconds=2)
        )
        self.running.startService()
        self.session = Session()
        self.running.agent.sessions.add(self.session)
        self.ended: list[str] = []

    def run_command(self) -> Any:
        """A command that runs."""

        class Command:
            end = staticmethod(lambda: self.ended.append("command"))

        command = Command()
        rule = CommandRule(name="x", argv=("x",))
        self.running.commands.counts.take(command, Slot(rule, PRINCIPAL, 0))
        return command

    def test_idle(self) -> None:
        """With nothing running it takes no time, and leaves no timer behind."""
        self.running.agent.sessions.clear()
        self.successResultOf(self.running.stopService())
        self.assertEqual((self.reactor.closed, self.running._host.started), (1, 0))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertFalse(self.running.running)

    def test_finishes(self) -> None:
        """Nothing new is taken; what runs and finishes is not ended."""
        command = self.run_command()
        stopping = self.running.stopService()
        self.assertEqual(self.session.told, ["shutdown"])
        self.assertEqual(self.reactor.closed, 1)
        self.assertIsNone(self.running.agent.buildProtocol(None))
        self.reactor.advance(9)
        self.assertEqual(self.ended, [])
        self.running.commands.counts.free(command)
        self.running.agent.sessionOver(self.session)
        self.successResultOf(stopping)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """Whatever does not end, it ends in time."""
        self.run_command()
        self.running._host.ending = Deferred()
        stopping = self.running.stopService()
        self.reactor.advance(10)
        self.assertEqual(self.ended, ["command"])
        self.reactor.advance(3)
        self.reactor.advance(2)
        with capturedLogs() as captured:
            self.assertNoResult(stopping)
            self.reactor.advance(3)
        self.successResultOf(stopping)
        self.assertEqual(self.messages(captured), ["the process that runs commands did not end"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_again(self) -> None:
        """It may be started again, and takes sessions again."""
        self.running.agent.sessions.clear()
        self.successResultOf(self.running.stopService())
        self.running.startService()
        self.assertIsNotNone(self.running.agent.buildProtocol(None))
        self.assertEqual(len(self.running.listeners.addresses), 1)
        self.successResultOf(self.running.stopService())


class ProgramTests(ServerTestCase):
    """What a program does besides."""

    kind = Program

    def test_failed(self) -> None:
        """What cannot be had ends the program with one line and status 1, without a traceback."""
        self.reactor.taken = (7100,)
        program = self.server()
        with capturedLogs() as captured:
            error = self.assertRaises(StartFailed, program.privilegedStartService)
        self.assertIsInstance(error, SystemExit)
        self.assertEqual(error.code, 1)
        self.assertIn("Address already in use", str(error))
        (event,) = [event for event in captured if formatEvent(event)]
        self.assertEqual(event["log_level"], LogLevel.critical)

    def test_slow(self) -> None:
        """Where that is known only later, the program ends then."""
        opening: Deferred[None] = Deferred()
        self.patch(Listeners, "open", lambda *_: opening)
        program = self.server()
        program.startService()
        opening.errback(Failure(ConfigurationError("x")))
        self.assertTrue(self.reactor.stopped)
        self.successResultOf(program.stopService())

    def test_signals(self) -> None:
        """SIGHUP reloads, and is what it was once all has stopped."""
        numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
        before = {number: signal.getsignal(number) for number in numbers}

        def restore() -> None:
            for number, what in before.items():
                signal.signal(number, what)

        self.addCleanup(restore)
        program = self.server()
        program.startService()
        with capturedLogs() as captured:
            os.kill(os.getpid(), signal.SIGHUP)
        self.assertIn("reloaded the keyring and the configuration", self.messages(captured))
        program.agent.sessions.add(session := Session())
        stopping = program.stopService()
        with capturedLogs() as captured:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(os.getpid(), number)
        self.assertEqual(self.messages(captured), ["stopping already"] * 2)
        program.agent.sessionOver(session)
        self.successResultOf(stopping)
        self.assertEqual(signal.getsignal(signal.SIGHUP), before[signal.SIGHUP])

    def test_otherThread(self) -> None:
        """Outside the main thread it does without signals."""
        before = signal.getsignal(signal.SIGHUP)
        program = self.server()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                program.startService()
                self.successResultOf(program.stopService())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(signal.getsignal(signal.SIGHUP), before)

    def test_level(self) -> None:
        """The level of the log is the configuration's, at a reload too."""
        program = self.server(log=LogSettings(level="error"))
        with capturedLogs() as captured:
            program.startService()
            self.assertEqual(captured, [e for e in captured if not formatEvent(e)])
            self.read = attrs.evolve(program.configuration, log=LogSettings(level="debug"))
            program.reload()
            self.assertEqual(logs.EVENTS.level, LogLevel.debug)
        restore = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        self.successResultOf(program.stopService())
        for number, what in restore.items():
            signal.signal(number, what)

    def test_observer(self) -> None:
        """An application that it becomes part of logs to where it says."""
        said: list[Any] = []

        @implementer(ILogObserver)
        def observer(event: Any) -> None:
            said.append(event)

        program = Program(self.reactor, Configuration(), self.keys, observer=observer)
        application = Application("x")
        program.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), observer)
        self.assertEqual(list(IService(application)), [program])  # type: ignore[call-overload]
