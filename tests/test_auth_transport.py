"""Tests for :mod:`sockproto.auth.transport`."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer
from zope.interface.verify import verifyObject

from sockproto.auth.principal import Principal
from sockproto.auth.server import AuthenticatingFactory
from sockproto.auth.transport import (
    AuthenticatedTransport,
    abort,
    binding_data,
    binding_of,
    describe,
    host_of,
    more_waits,
)
from sockproto.interfaces import IAuthenticatedTransport
from sockproto.wire.handshake import Binding
from tests.memory import KEYS, PEER, SERVER, SERVICE, Echo, End, Spy, authFor


@implementer(IPushProducer)
class Producer:
    """Hears what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def pauseProducing(self) -> None:
        self.heard.append("pause")

    def resumeProducing(self) -> None:
        self.heard.append("resume")

    def stopProducing(self) -> None:
        self.heard.append("stop")


class PassingTests(SynchronousTestCase):
    """What a protocol behind the login does with its transport reaches the one below."""

    def setUp(self) -> None:
        self.spy = Spy()
        factory = AuthenticatingFactory(Clock(), self.spy, KEYS, SERVICE, SERVER)
        self.end = End().attach(factory.buildProtocol(PEER))
        self.end.protocol.dataReceived(authFor(self.end.sent))
        self.transport = self.spy.built[0].transport
        self.end.outgoing = b""

    def test_interfaces(self) -> None:
        """It provides what the transport does, and that there was a login."""
        for interface in (IAuthenticatedTransport, ITCPTransport):
            self.assertTrue(verifyObject(interface, self.transport))
        self.assertFalse(ISSLTransport.providedBy(self.transport))
        self.assertFalse(IHalfCloseableProtocol.providedBy(self.transport))

    def test_writing(self) -> None:
        """Bytes, options and addresses pass through."""
        self.transport.write(b"one")
        self.transport.writeSequence([b"two", b"three"])
        self.transport.setTcpNoDelay(True)
        self.assertEqual(self.end.outgoing, b"onetwothree")
        self.assertTrue(self.end.getTcpNoDelay())
        self.assertEqual(self.transport.getPeer(), PEER)
        self.assertEqual(self.transport.getHost(), self.end.getHost())

    def test_closing(self) -> None:
        """So do the ways to close."""
        self.transport.loseWriteConnection()
        self.assertTrue(self.end.writeClosed)
        self.transport.loseConnection()
        self.assertTrue(self.transport.disconnecting)
        self.transport.abortConnection()
        self.assertTrue(self.end.aborted)

    def test_producers(self) -> None:
        """A producer is told by the transport below; and that can be paused."""
        producer = Producer()
        self.transport.registerProducer(producer, True)
        self.assertIs(self.end.producer, producer)
        self.end.producer.pauseProducing()
        self.end.producer.resumeProducing()
        self.assertEqual(producer.heard, ["pause", "resume"])
        self.transport.unregisterProducer()
        self.assertIsNone(self.end.producer)
        self.transport.pauseProducing()
        self.assertTrue(self.end.paused)
        self.transport.resumeProducing()
        self.assertFalse(self.end.paused)

    def test_adapts(self) -> None:
        """A transport that is a consumer or a producer is one here as well."""
        end = End()
        alsoProvides(end, IConsumer, IPushProducer, ISSLTransport)
        transport: Any = AuthenticatedTransport(end, self.transport.principal)
        for interface in (IConsumer, IPushProducer, ISSLTransport):
            self.assertIs(interface(transport), transport)

    def test_unknown(self) -> None:
        """What the transport below does not have is not there either."""
        with self.assertRaises(AttributeError):
            _ = self.transport.getPeerCertificate
        self.assertIsInstance(self.transport.principal, Principal)


class NamingTests(SynchronousTestCase):
    """Peers, as limits and logs name them."""

    def test_hosts(self) -> None:
        """IP addresses have a host; a Unix socket has none."""
        for address, host, text in (
            (IPv4Address("TCP", "192.0.2.7", 5), "192.0.2.7", "192.0.2.7:5"),
            (IPv6Address("TCP", "2001:db8::7", 5), "2001:db8::7", "[2001:db8::7]:5"),
            (UNIXAddress(None), None, "unix"),
            (UNIXAddress("/run/agent"), None, "unix"),
        ):
            self.assertEqual((host_of(address), describe(address)), (host, text))

    def test_others(self) -> None:
        """Any other address is described by its own words, and not too many."""
        self.assertLess(len(describe(HostnameAddress(b"x" * 1000, 1))), 257)


class BindingTests(SynchronousTestCase):
    """What a login is bound to."""

    def test_plaintext(self) -> None:
        """Nothing, where there is no TLS."""
        end = End()
        self.assertIs(binding_of(end), Binding.NONE)
        self.assertEqual(binding_data(end, Binding.NONE), b"")
        self.assertFalse(more_waits(end, Binding.NONE))

    def test_tls(self) -> None:
        """The TLS session, where there is one."""
        end = End()
        alsoProvides(end, ISSLTransport)
        self.assertIs(binding_of(end), Binding.TLS_EXPORTER)


class AbortTests(SynchronousTestCase):
    """Ending a connection."""

    def test_abort(self) -> None:
        """It is cut."""
        end = End()
        abort(end)
        self.assertTrue(end.aborted)

    def test_cannot(self) -> None:
        """Where that is not to be had, as on standard input and output, it is closed."""

        class Plain:
            closed = False

            def loseConnection(self) -> None:
                self.closed = True

        plain = Plain()
        abort(plain)
        self.assertTrue(plain.closed)
        self.assertIsInstance(Echo().received, bytes)
