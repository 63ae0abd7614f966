"""Tests for :mod:`sockproto.target`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import ConfigurationError
from sockproto.target import DEFAULT_WHERE, Target, is_loopback


class ParseTests(SynchronousTestCase):
    """WHERE."""

    def test_right(self) -> None:
        """Each form is what it says."""
        for where, target, shown in (
            (DEFAULT_WHERE, Target("127.0.0.1", 7100), "127.0.0.1:7100"),
            ("tcp:localhost:1", Target("localhost", 1), "localhost:1"),
            ("tcp:[::1]:65535", Target("::1", 65535), "[::1]:65535"),
            ("unix:/run/a b:c", Target(path="/run/a b:c"), "unix:/run/a b:c"),
            ("unix:here", Target(path="here"), "unix:here"),
            ("web1", Target("web1", 7100, tls=True), "web1:7100"),
            (
                "web.example.org:99",
                Target("web.example.org", 99, tls=True),
                "web.example.org:99",
            ),
            ("127.0.0.1", Target("127.0.0.1", 7100, tls=True), "127.0.0.1:7100"),
            ("[2001:db8::1]", Target("2001:db8::1", 7100, tls=True), "[2001:db8::1]:7100"),
            ("[2001:db8::1]:5", Target("2001:db8::1", 5, tls=True), "[2001:db8::1]:5"),
        ):
            self.assertEqual(Target.parse(where), target)
            self.assertEqual(str(target), shown)

    def test_service(self) -> None:
        """A service without a login is at a host, at its own port unless another is named, or at a
        Unix socket; how it is spoken to is said elsewhere."""
        for text, target in (
            ("web1", Target("web1", 7037)),
            ("web1:37", Target("web1", 37)),
            ("[::1]", Target("::1", 7037)),
            ("[::1]:37", Target("::1", 37)),
            ("unix:/run/time", Target(path="/run/time")),
        ):
            self.assertEqual(Target.of_service(text, 7037), target)
        for text, words in (
            ("tcp:web1:37", "--tcp and --udp say how"),
            ("udp:web1", "--tcp and --udp say how"),
            ("::1", "stands in brackets"),
            ("web1:0", "expected a port"),
            ("", "expected HOST[:PORT]"),
        ):
            error = self.assertRaises(ConfigurationError, Target.of_service, text, 7037)
            self.assertIn(words, str(error))

    def test_wrong(self) -> None:
        """Anything else is an error that says what was expected."""
        for where, words in (
            ("", "expected HOST[:PORT]"),
            ("unix:", "expected unix:PATH"),
            ("tcp:", "expected HOST[:PORT], tcp:HOST:PORT"),
            ("tcp:localhost", "expected tcp:HOST:PORT"),
            ("tcp::7100", "expected HOST[:PORT]"),
            ("tcp:::1:7100", "stands in brackets"),
            ("::1", "stands in brackets"),
            ("[::1", "expected [ADDRESS]:PORT"),
            ("[::1]7100", "expected [ADDRESS]:PORT"),
            ("[]:7100", "expected HOST[:PORT]"),
            ("web1:", "expected a port from 1 to 65535, found ''"),
            ("web1:http", "expected a port"),
            ("web1:0", "expected a port"),
            ("web1:65536", "expected a port"),
            ("web1:-1", "expected a port"),
            ("web1:\u0661", "expected a port"),
            ("web1:" + "9" * 5000, "expected a port"),
            ("me@web1", "expected HOST[:PORT]"),
            ("http://web1", "expected a port"),
            ("web 1", "expected HOST[:PORT]"),
        ):
            with self.assertRaises(ConfigurationError) as caught:
                Target.parse(where)
            self.assertIn(words, str(caught.exception))

    def test_plaintext(self) -> None:
        """Plaintext beyond this machine has to be asked for."""
        for where in ("tcp:192.0.2.1:7100", "tcp:web1:7100", "tcp:127.1:7100", "tcp:0.0.0.0:7100"):
            with self.assertRaises(ConfigurationError) as caught:
                Target.parse(where)
            self.assertIn("--plaintext", str(caught.exception))
            self.assertFalse(Target.parse(where, plaintext=True).tls)

    @given(st.text())
    def test_anything(self, where: str) -> None:
        """No text is anything but a target or that error."""
        try:
            target = Target.parse(where)
        except ConfigurationError:
            return
        self.assertTrue(target.path or (target.host and 0 < target.port < 65536))
        self.assertTrue(target.tls or target.path or is_loopback(target.host))


class LoopbackTests(SynchronousTestCase):
    """Hosts that are this machine."""

    def test_hosts(self) -> None:
        """Loopback addresses and localhost; no name that a name server would be asked for."""
        for host in ("127.0.0.1", "127.255.0.1", "::1", "localhost", "LOCALHOST"):
            self.assertTrue(is_loopback(host))
        for host in ("0.0.0.0", "::", "128.0.0.1", "localhost.example.org", "", "127.1", "web1"):
            self.assertFalse(is_loopback(host))
