"""Tests for :mod:`sockproto.hosts`: the client's configuration, and what connecting makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sockproto import hosts
from sockproto.credentials import target_and_credentials
from sockproto.errors import ConfigurationError, KeyringError
from sockproto.hosts import Host, known_hosts
from sockproto.key import Key
from sockproto.target import Target
from tests.servers import client_environment

PLAIN = Key("k1", secret=bytes(32))

KEYRING = """
[[key]]
id = "fleet"
identity = "ops"
master = "AAAAAAAAAAAAAAAAAAAAAA=="
hosts = ["web*"]

[[key]]
id = "mine"
identity = "owner"
secret = "AAAAAAAAAAAAAAAAAAAAAA=="
"""


class HostsTestCase(SynchronousTestCase):
    """Tests in a home of their own, whose system has no configuration unless one is written."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.system = self.folder / "etc.toml"
        self.user = self.folder / "sockproto" / "client.toml"
        self.user.parent.mkdir(parents=True)
        self.patch(hosts, "SYSTEM_PATH", str(self.system))
        self.patch(os, "environ", {**os.environ, "XDG_CONFIG_HOME": str(self.folder)})
        hosts._merged.cache_clear()

    def write(self, text: str, path: Path | None = None) -> None:
        """Have a file, which only its owner can write."""
        path = path or self.user
        path.write_text(text)
        path.chmod(0o644)

    def problem(self, where: str = "web1") -> str:
        """What is said of a configuration that cannot be used."""
        hosts._merged.cache_clear()
        with self.assertRaises(ConfigurationError) as caught:
            known_hosts(where, os.environ)
        return str(caught.exception)


class KnownHostsTests(HostsTestCase):
    """What the files say."""

    def test_none(self) -> None:
        """Without files no name is known, and nobody minds."""
        found = known_hosts("web1", os.environ)
        self.assertIsNone(found.find("web1"))
        self.assertIsNone(found.members("web"))
        self.assertIsNone(known_hosts("web1", {"HOME": "/no/such"}).find("web1"))

    def test_all(self) -> None:
        """All keys of a host, and none of them; a group."""
        self.write(
            '[hosts.web1]\nconnect = "tcp:10.0.0.5:7100"\nidentity = "ops"\nserver_id = "w1"\n'
            'keyring = "ops.toml"\nplaintext = true\n[hosts.web2]\n'
            '[groups]\nweb = ["web1", "web2", "web1"]\n'
        )
        found = known_hosts("web", os.environ)
        keyring = str(self.user.parent / "ops.toml")
        self.assertEqual(
            found.find("web1"), Host("web1", "tcp:10.0.0.5:7100", "ops", "w1", keyring, True)
        )
        self.assertEqual(found.find("web2"), Host("web2", "web2"))
        self.assertEqual(found.members("web"), ("web1", "web2"))
        self.assertIsNone(found.members("web1"))

    def test_groupIsNoHost(self) -> None:
        """Where one host is wanted a group is not."""
        self.write('[hosts.a]\n[groups]\nall = ["a"]\n')
        error = self.assertRaises(ConfigurationError, known_hosts("all", os.environ).find, "all")
        self.assertIn("all is a group of 1 hosts: expected one host", str(error))

    def test_both(self) -> None:
        """The user's entries go before those of the system, whose others hold too."""
        self.write('[hosts.a]\nconnect = "sys:1"\n[hosts.b]\nconnect = "sys:2"\n', self.system)
        self.write('[hosts.a]\nconnect = "own:1"\n[groups]\nall = ["a", "b"]\n')
        found = known_hosts("a", os.environ)
        self.assertEqual([found.hosts[name].connect for name in "ab"], ["own:1", "sys:2"])
        self.assertEqual(found.members("all"), ("a", "b"))

    def test_addresses(self) -> None:
        """For an address nothing is read."""
        self.write("no TOML at all")
        for where in ("tcp:127.0.0.1:1", "unix:/x"):
            self.assertEqual(known_hosts(where, os.environ).hosts, {})
        self.assertIn("is not TOML", self.problem())

    def test_changed(self) -> None:
        """A file is read once, and again when it has changed."""
        self.write("[hosts.a]\n")
        first = known_hosts("a", os.environ)
        self.assertIs(known_hosts("a", os.environ), first)
        self.write("[hosts.a]\n[hosts.bb]\n")
        self.assertEqual(set(known_hosts("a", os.environ).hosts), {"a", "bb"})

    def test_wrong(self) -> None:
        """What is wrong is said with the file, the key, and the nearest name that is known."""
        for text, words in (
            ("[host.web1]\n", ("host: unknown key; did you mean hosts?",)),
            ("hosts = 3\n", ("hosts: expected a table",)),
            ('hosts.web1 = "x"\n', ("hosts.web1: expected a table: [hosts.web1]",)),
            ('[hosts."a b"]\n', ("hosts.'a b': expected a name",)),
            (
                '[hosts.a]\nconect = "x"\n',
                ("hosts.a: unknown key 'conect'; did you mean connect?",),
            ),
            ("[hosts.a]\nconnect = 3\n", ("hosts.a.connect: expected text",)),
            ('[hosts.a]\nplaintext = "yes"\n', ("hosts.a.plaintext: expected true or false",)),
            ('[hosts.a]\nidentity = "o p"\n', ("hosts.a.identity: expected 1 to 64",)),
            ('[hosts.a]\nconnect = "tcp:10.0.0.1:1"\n', ("hosts.a.connect: ", "needs --plaintext")),
            ('[hosts.a]\nconnect = "a:99999"\n', ("hosts.a.connect: ", "1 to 65535")),
            ('[hosts.a]\n[groups]\na = ["a"]\n', ("groups.a: there is a host of that name",)),
            ('[hosts.web1]\n[groups]\na = ["web2"]\n', ("no host 'web2'; did you mean web1?",)),
            ("[groups]\na = []\n", ("groups.a: expected an array of hosts",)),
            ("[groups]\na = [1]\n", ("groups.a: expected an array of hosts",)),
            ("\udcff".encode("utf-8", "surrogateescape").decode("latin-1") + "=", ("not TOML",)),
        ):
            self.write(text)
            said = self.problem()
            self.assertTrue(said.startswith(f"{self.user}: "), said)
            for each in words:
                self.assertIn(each, said)

    def test_writable(self) -> None:
        """A file that anybody could write is not believed."""
        self.write("[hosts.a]\n")
        self.user.chmod(0o666)
        self.assertIn("found mode 0666", self.problem())

    def test_folder(self) -> None:
        """What is no file at all is said to be none."""
        self.user.mkdir()
        self.assertIn("cannot be read: Is a directory", self.problem())


class ConnectingTests(HostsTestCase):
    """What a connection is made of."""

    def setUp(self) -> None:
        super().setUp()
        keyring = self.user.parent / "ops.toml"
        keyring.write_text(KEYRING)
        keyring.chmod(0o600)
        self.write(
            '[hosts.web1]\nconnect = "10.0.0.5:7200"\nidentity = "ops"\nkeyring = "ops.toml"\n'
            '[hosts.web2]\nconnect = "10.0.0.6"\nserver_id = "two"\n'
            '[hosts.old]\nconnect = "tcp:10.0.0.7:1"\nplaintext = true\n'
        )

    def test_entry(self) -> None:
        """The entry says where and as whom; a master is for the server of that name."""
        target, credentials = target_and_credentials("web1")
        self.assertEqual(target, Target("10.0.0.5", 7200, tls=True))
        self.assertEqual((credentials.key.id, credentials.server_id), ("fleet", "web1"))
        target, credentials = target_and_credentials("web2", PLAIN)
        self.assertEqual((target.port, credentials.server_id), (7100, "two"))
        target, credentials = target_and_credentials("old", PLAIN)
        self.assertEqual(
            (str(target), target.tls, credentials.server_id), ("10.0.0.7:1", False, None)
        )

    def test_explicit(self) -> None:
        """What is said outright goes before the entry."""
        _, credentials = target_and_credentials("web1", identity="owner")
        self.assertEqual((credentials.key.id, credentials.server_id), ("mine", None))
        _, credentials = target_and_credentials("web2", PLAIN, server_id="three")
        self.assertEqual((credentials.key, credentials.server_id), (PLAIN, "three"))
        self.assertRaises(KeyringError, target_and_credentials, "web1", self.folder / "no.toml")

    def test_others(self) -> None:
        """A name that is in no file is a host's, as ever."""
        target, credentials = target_and_credentials("web9:1", PLAIN)
        self.assertEqual((target, credentials.server_id), (Target("web9", 1, tls=True), None))

    def test_light(self) -> None:
        """To look a name up nothing heavy is imported."""
        code = (
            "import os, sys; from sockproto.hosts import known_hosts;"
            "known_hosts('web1', os.environ);"
            "print([m for m in ('twisted', 'cattrs', 'zope', 'OpenSSL') if m in sys.modules])"
        )
        environment = client_environment(XDG_CONFIG_HOME=str(self.folder))
        said = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        self.assertEqual(said.stdout, b"[]\n")
