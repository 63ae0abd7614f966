"""Tests of what listeners serve: every service of the table, over each transport it has."""

import os
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import inlineCallbacks
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from sockproto.auth.server import AuthenticatingFactory
from sockproto.keyring import Keyring
from sockproto.limits import Limits
from sockproto.server.composition import Composition
from sockproto.server.config import SERVICES
from sockproto.server.listeners import Listener, Listeners
from sockproto.server.schema import Configuration, ListenerSettings
from sockproto.services.command.processes import ProcessHost
from sockproto.services.command.service import CommandService
from sockproto.services.open import OpenFactory
from sockproto.services.tutorial.settings import TutorialSettings
from sockproto.session import AgentFactory

PEER = IPv4Address("TCP", "192.0.2.9", 5000)


def composition(clock: Any, limits: Limits | None = None, folder: str | None = None) -> Composition:
    """A composition with a configuration of nothing else."""
    tutorial = TutorialSettings(secret="only for learning", folder=folder)
    configuration = Configuration(limits=limits or Limits(), tutorial=tutorial)
    commands = CommandService(clock, ProcessHost(clock), configuration.rules, configuration.limits)
    return Composition(clock, configuration, Keyring(), AgentFactory(clock, {}), commands)


def settings(service: str, endpoint: str, **more: Any) -> ListenerSettings:
    """A listener's settings, with the service's own where it has some."""
    own = SERVICES[service].settings
    return ListenerSettings(
        service=service, endpoint=endpoint, own=None if own is None else own(), **more
    )


class ServedTests(SynchronousTestCase):
    """Tests of `Composition.served`."""

    def test_every(self) -> None:
        """Every service of the table is there, over streams and datagrams as the table says."""
        folder = os.path.abspath(self.mktemp())
        made = composition(Clock(), folder=folder)
        self.addCleanup(made.close)
        for service in SERVICES.values():
            if service.stream:
                served = made.served(settings(service.name, "unix:/nowhere"))
                self.assertNotIsInstance(served, DatagramProtocol)
                kind = AuthenticatingFactory if service.authenticates else OpenFactory
                self.assertIsInstance(served, kind)
            if service.datagram:
                served = made.served(settings(service.name, "udp:0"))
                self.assertIsInstance(served, DatagramProtocol)

    def test_behindLogin(self) -> None:
        """Any stream service can be put behind the login."""
        made = composition(Clock())
        served = made.served(settings("echo", "unix:/nowhere", auth=True))
        self.assertIsInstance(served, AuthenticatingFactory)
        self.assertEqual(made.logins, [served])

    def test_underTLS(self) -> None:
        """And under TLS, where a connection over the limit is refused like any other."""
        made = composition(Clock(), Limits(per_source=1))
        served: Any = made.served(settings("echo", "unix:/nowhere", tls="auto"))
        self.assertIsNotNone(served.buildProtocol(PEER))
        self.assertIsNone(served.buildProtocol(PEER))

    def test_shared(self) -> None:
        """All listeners share the limits, which a reload changes for all."""
        made = composition(Clock(), Limits(per_source=2))
        echo: Any = made.served(settings("echo", "unix:/a"))
        time: Any = made.served(settings("time", "unix:/b"))
        self.assertIsNotNone(echo.buildProtocol(PEER))
        self.assertIsNotNone(time.buildProtocol(PEER))
        self.assertIsNone(echo.buildProtocol(PEER))
        made.reconfigure(Limits(per_source=3))
        self.assertIsNotNone(echo.buildProtocol(PEER))


class DatagramListenerTests(TestCase):
    """UDP listeners on a real network."""

    timeout = 20

    def exchange(self, port: int, sizes: tuple[int, ...]) -> list[bool]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            same = []
            for size in sizes:
                client.sendto(bytes(size), ("127.0.0.1", port))
                same.append(client.recv(65_535) == bytes(size))
            return same

    @inlineCallbacks
    def test_sizes(self) -> Any:
        """Datagrams of every size that there can be come back byte for byte."""
        listeners = Listeners(reactor)
        self.addCleanup(listeners.close)
        echo = settings("echo", "udp:0:interface=127.0.0.1")
        yield listeners.open([Listener(echo, composition(reactor).served(echo))])
        [(_, address)] = listeners.addresses
        sizes = (0, 1, 8192, 8193, 65_507)
        same = yield deferToThread(self.exchange, address.port, sizes)  # type: ignore[attr-defined]
        self.assertEqual(same, [True] * len(sizes))

    @inlineCallbacks
    def test_notEachOther(self) -> Any:
        """Two listeners of one server do not answer each other, whoever sets them at it."""
        listeners = Listeners(reactor)
        self.addCleanup(listeners.close)
        made = composition(reactor)
        both = [settings(name, "udp:0:interface=127.0.0.1") for name in ("echo", "daytime")]
        served: list[Any] = [made.served(each) for each in both]
        yield listeners.open(map(Listener, both, served))
        _, second = (address.port for _, address in listeners.addresses)  # type: ignore[attr-defined]
        served[0].transport.write(b"go", ("127.0.0.1", second))
        while not made.guard.dropped:
            # A loop would end in another reason, or in the time-out of the test.
            pause: Any = deferToThread(lambda: None)
            yield pause
        self.assertEqual(dict(made.guard.dropped), {"from the port of a listener of ours": 1})
