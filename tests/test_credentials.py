"""Tests for :mod:`sockproto.credentials` and :mod:`sockproto.names`."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sockproto.credentials import Credentials, credentials_for, default_client_id
from sockproto.errors import KeyringError
from sockproto.key import Key, is_id
from sockproto.names import default_server_id
from sockproto.target import Target
from sockproto.wire.handshake import Binding

MASTER = Key("fleet", master=bytes(32))
PLAIN = Key("k1", secret=bytes(32))

KEYRING = """
[[key]]
id = "web"
identity = "owner"
secret = "AAAAAAAAAAAAAAAAAAAAAA=="
hosts = ["web*"]

[[key]]
id = "fleet"
identity = "owner"
master = "AAAAAAAAAAAAAAAAAAAAAA=="
hosts = ["db*"]

[[key]]
id = "mine"
identity = "me"
secret = "AAAAAAAAAAAAAAAAAAAAAA=="
"""


class CredentialsTests(SynchronousTestCase):
    """What a client logs in with."""

    def test_given(self) -> None:
        """A key of one's own is used as it is; the target says whether TLS has to be there."""
        for where, tls in (("web1", True), ("tcp:127.0.0.1:1", False), ("unix:/x", False)):
            found = credentials_for(Target.parse(where), PLAIN)
            self.assertEqual((found.key, found.tls, found.server_id), (PLAIN, tls, None))
            self.assertEqual(found.service, "agent")
        self.assertFalse(credentials_for(None, PLAIN).tls)

    def test_keyring(self) -> None:
        """From a keyring comes the newest key of the identity for the host."""
        path = Path(self.mktemp())
        path.write_text(KEYRING)
        path.chmod(0o600)
        self.assertEqual(credentials_for(Target.parse("web1"), path).key.id, "web")
        self.assertEqual(credentials_for(None, path, "me").key.id, "mine")
        self.assertEqual(credentials_for(None, path, server_id="web7").key.id, "web")
        found = credentials_for(Target.parse("db1:7"), str(path))
        self.assertEqual((found.key.id, found.server_id), ("fleet", "db1"))
        self.assertRaises(KeyringError, credentials_for, Target.parse("mail1"), path)
        self.assertRaises(KeyringError, credentials_for, None, path, "you")

    def test_master(self) -> None:
        """A master needs the server's name: one that is given, or the name of the host."""
        self.assertEqual(credentials_for(Target.parse("web1"), MASTER).server_id, "web1")
        named = credentials_for(Target.parse("10.0.0.1"), MASTER, server_id="web1")
        self.assertEqual(named.server_id, "web1")
        for target in (None, Target.parse("unix:/x"), Target.parse("[::1]")):
            self.assertRaises(KeyringError, credentials_for, target, MASTER)

    def test_noSecrets(self) -> None:
        """Credentials do not show their secret."""
        self.assertNotIn("sixteen", repr(Credentials(Key("k", secret=b"sixteen letters!"))))

    def test_handshake(self) -> None:
        """They begin a login."""
        self.assertIsNone(Credentials(PLAIN).handshake(Binding.NONE).ref)
        with self.assertRaises(KeyringError):
            Credentials(MASTER).handshake(Binding.NONE)


class NameTests(SynchronousTestCase):
    """What both sides call themselves."""

    def test_fit(self) -> None:
        """Whatever the user and the machine are called, it is an id."""
        for user, host in (
            ("me", "web1"),
            ("M\u00fcller jr", "w\u00e9b 1\n"),
            ("u" * 100, "h" * 100),
            ("", ""),
            ("user", "\udcff"),
        ):
            self.patch(getpass, "getuser", lambda user=user: user)
            self.patch(socket, "gethostname", lambda host=host: host)
            self.assertTrue(is_id(default_client_id()), default_client_id())
            self.assertTrue(is_id(default_server_id()), default_server_id())

    def test_nobody(self) -> None:
        """A user without a name has a client id, too."""

        def unknown() -> str:
            raise KeyError("getpwuid(): uid not found: 12345")

        self.patch(getpass, "getuser", unknown)
        self.patch(socket, "gethostname", lambda: "web1")
        self.assertEqual(default_client_id(), "unknown@web1")
