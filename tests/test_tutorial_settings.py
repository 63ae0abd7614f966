"""Tests of [tutorial], of where the dialects listen, and of the example that starts them all."""

import os
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sockproto.limits import Limits
from sockproto.server.endpoint import Endpoint
from sockproto.server.problems import Problems
from sockproto.server.schema import Configuration
from sockproto.server.structure import structure
from sockproto.services.command.rules import CommandRules, Decision
from sockproto.services.tutorial.dialects import Dialects
from sockproto.services.tutorial.settings import (
    DIALECTS,
    TutorialSettings,
    misplaced,
    missing,
)
from tests.tutorials import FakeCommands

PORTS = {8080, 8000, 8001, 6666, 8081, 8082, 9000, 9999}


class SettingsTests(SynchronousTestCase):
    """Tests of [tutorial]."""

    def read(self, **table: Any) -> TutorialSettings:
        """The settings that a table is read as."""
        return structure({"tutorial": table}, Configuration).tutorial

    def test_defaults(self) -> None:
        """Nothing has to be said but by those dialects that need it."""
        settings = self.read()
        self.assertEqual((settings.gap, settings.encoding), (0.05, "utf-8"))
        self.assertIsNone(settings.secret)
        self.assertIsNone(settings.folder)

    def test_values(self) -> None:
        """Durations and sizes are as everywhere."""
        settings = self.read(gap="100 ms", encoding="gbk", file_size="1 MiB", output=1000)
        self.assertEqual(settings.gap, 0.1)
        self.assertEqual(settings.encoding, "gbk")
        self.assertEqual(settings.file_size, 1 << 20)

    def test_wrong(self) -> None:
        """What cannot be is said, with the key; a secret is not repeated."""
        for table, part in (
            ({"gap": -1}, "gap"),
            ({"gap": "1 h"}, "gap"),
            ({"secret": ""}, "secret"),
            ({"secret": 7}, "secret"),
            ({"folder": ""}, "folder"),
            ({"encoding": "latin-1"}, "encoding"),
            ({"files": -1}, "files"),
            ({"gapp": 1}, "gap"),
        ):
            error = self.assertRaises(Problems, self.read, **table)
            self.assertIn(part, error.lines[0])

    def test_folder(self) -> None:
        """A relative folder begins at the file that names it; a tilde is the home."""
        here = Path("/etc/sockproto")
        for folder, expected in (
            ("files", "/etc/sockproto/files"),
            ("/srv/files", "/srv/files"),
            ("~/files", os.path.expanduser("~/files")),
        ):
            self.assertEqual(TutorialSettings(folder=folder).within(here).folder, expected)
        self.assertIsNone(TutorialSettings().within(here).folder)

    def test_places(self) -> None:
        """The dialects listen on this machine only."""
        for endpoint, local in (
            ("tcp:8080:interface=127.0.0.1", True),
            ("tcp:8080:interface=127.9.9.9", True),
            ("tcp6:8080:interface=\\:\\:1", True),
            ("unix:/run/t.sock", True),
            ("tcp:8080", False),
            ("tcp:8080:interface=0.0.0.0", False),
            ("tcp6:8080", False),
            ("tcp:8080:interface=192.0.2.1", False),
            ("systemd:domain=INET:index=0", False),
        ):
            isLocal = Endpoint.parse(endpoint).is_local
            for service in DIALECTS:
                self.assertEqual(misplaced(service, isLocal) is None, local, endpoint)
            self.assertIsNone(misplaced("echo", isLocal))

    def test_missing(self) -> None:
        """A dialect that needs a secret or a folder says so."""
        full = TutorialSettings(secret="x", folder="/x")
        for service in (*DIALECTS, "echo"):
            self.assertIsNone(missing(service, full))
        bare = {service: missing(service, TutorialSettings()) for service in DIALECTS}
        lacking = {service: text for service, text in bare.items() if text is not None}
        self.assertEqual(
            list(lacking), ["tutorial-upper-hmac", "tutorial-upload-json", "tutorial-download"]
        )
        self.assertIn("secret in [tutorial]", lacking["tutorial-upper-hmac"])

    def test_factories(self) -> None:
        """There is a factory for each dialect, by its name; those of files share a folder."""
        folder = self.mktemp()
        settings = TutorialSettings(secret="x", folder=folder)
        dialects = Dialects(Clock(), settings, FakeCommands(), Limits())
        self.addCleanup(dialects.close)
        factories: list[Any] = [dialects.factory(service, None) for service in DIALECTS]
        self.assertEqual([factory.service for factory in factories], list(DIALECTS))
        self.assertIs(factories[-1].folder, factories[-2].folder)
        self.assertTrue(os.path.isdir(folder))
        self.assertRaises(ValueError, dialects.factory, "echo", None)

    def test_lacking(self) -> None:
        """A factory that lacks what it needs is not made."""
        dialects = Dialects(Clock(), TutorialSettings(), FakeCommands(), Limits())
        for service in DIALECTS[-3:]:
            self.assertRaises(ValueError, dialects.factory, service, None)


class ExampleTests(SynchronousTestCase):
    """Tests of sockproto/examples/tutorials.toml."""

    def setUp(self) -> None:
        text = files("sockproto.examples").joinpath("tutorials.toml").read_text("utf-8")
        self.table = tomllib.loads(text)
        rules = structure({"command": self.table["command"]}, Configuration).commands
        self.rules = CommandRules(rules)

    def decide(self, line: str) -> Decision:
        """What becomes of a command line."""
        return self.rules.decide("tutorial", (), line.split(" "))

    def test_listens(self) -> None:
        """Every dialect is started, on the ports of the tutorials, on this machine."""
        listeners = self.table["listen"]
        self.assertEqual(sorted(one["service"] for one in listeners), sorted(DIALECTS))
        ports = set()
        for one in listeners:
            endpoint = Endpoint.parse(one["endpoint"])
            self.assertTrue(endpoint.is_local)
            ports.add(int(endpoint.arguments["port"]))
        self.assertLessEqual(PORTS, ports)

    def test_settings(self) -> None:
        """Nothing lacks."""
        settings = structure({"tutorial": self.table["tutorial"]}, Configuration).tutorial
        self.assertEqual([missing(service, settings) for service in DIALECTS], [None] * 9)

    def test_limited(self) -> None:
        """Each command is for tutorial alone, has a time-out, and runs in a system folder."""
        for rule in self.rules.rules:
            self.assertEqual(rule.allow, ("tutorial",))
            self.assertIsNotNone(rule.timeout)
            self.assertIn(rule.cwd, ("/", "/usr"))
            self.assertEqual((rule.takes_any, rule.stdin), (False, "none"))

    def test_allowed(self) -> None:
        """What tutorials have their readers try can be run."""
        for line in (
            "ls",
            "ls -l",
            "ls -la /etc /usr/bin",
            "dir",
            "pwd",
            "date",
            "date -u +%Y-%m-%d",
            "df -h",
            "uname -a",
            "whoami",
            "id",
            "ps",
            "ps aux",
            "echo hello 你好 $(x) ; | *",
            "hostname",
            "ifconfig",
            "ipconfig",
            "ip addr",
            "ip a",
            "cat /etc/os-release /proc/meminfo",
            "sleep 3",
        ):
            decision = self.decide(line)
            self.assertTrue(decision.allowed, f"{line}: {decision.message}")

    def test_refused(self) -> None:
        """What shows, changes or occupies what other users should not is refused."""
        for line in (
            "ls /home",
            "ls /root",
            "ls /tmp",
            "ls ~",
            "ls ..",
            "ls /usr/..",
            "ls /usr/../home",
            "ls -R /",
            "ls --help",
            "ls /proc/self/fd",
            "dir /tmp/link/",
            "date -s tomorrow",
            "date -f /home/me/secret",
            "date --file=/home/me/secret",
            "date -r /home/me/secret",
            "date +%9999999Y",
            "df /mnt/hangs",
            "ps e",
            "ps auxe",
            "ps -ef e",
            "hostname mine",
            "ifconfig lo down",
            "ip link set",
            "ip -batch x",
            "ip exec",
            "cat /etc/shadow",
            "cat /proc/self/environ",
            "cat /proc/self/../1/environ",
            "cat -",
            "echo -e x",
            "sleep 61",
            "sleep -1",
            "id root",
            "sh",
            "rm -rf /",
            "/bin/ls",
            "python3",
        ):
            self.assertFalse(self.decide(line).allowed, line)
