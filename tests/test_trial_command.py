"""Tests for :mod:`sockproto.server.trial_command`: the line that says how to try a new server."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from datetime import UTC, datetime
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from sockproto.key import Key
from sockproto.keyring import Keyring
from sockproto.server import trial_command as module
from sockproto.server.config import Configuration, ListenerSettings
from sockproto.server.trial_command import trial_command
from sockproto.services.command.rule import CommandRule
from sockproto.target import Target

DEFAULT = "/home/x/.config/sockproto/keyring.toml"


def key(key_id: str, **fields: Any) -> Key:
    """A key."""
    return Key(id=key_id, secret=bytes(32), **fields)


class TrialCommandTests(SynchronousTestCase):
    """What it says."""

    def setUp(self) -> None:
        self.patch(module, "_program", lambda: ["sockproto"])

    def line(
        self,
        address: Any,
        *keys: Key,
        tls: str | None = None,
        path: str = DEFAULT,
        rules: tuple[CommandRule, ...] | None = None,
    ) -> str:
        """The line for one listener."""
        settings = ListenerSettings(service="agent", endpoint="unix:/x", tls=tls)
        configuration = Configuration(owner_unrestricted=rules is None, commands=rules or ())
        keyring = Keyring(keys or (key("owner"),))
        return trial_command(configuration, [(settings, address)], keyring, path, DEFAULT)

    def test_default(self) -> None:
        """Options are named only where they are not the client's defaults."""
        self.assertEqual(
            self.line(IPv4Address("TCP", "127.0.0.1", 7100)), "try: sockproto run -- uname -a"
        )
        self.assertEqual(
            self.line(IPv4Address("TCP", "127.0.0.1", 7101), path="/k y"),
            "try: sockproto run --connect tcp:127.0.0.1:7101 --keyring '/k y' -- uname -a",
        )

    def test_where(self) -> None:
        """Each kind of listener is written as the client reads it, and reached from here."""
        for address, tls, where in (
            (UNIXAddress("/run/a b"), None, Target(path="/run/a b")),
            (IPv4Address("TCP", "0.0.0.0", 7100), "auto", Target("127.0.0.1", 7100, tls=True)),
            (IPv6Address("TCP", "::", 1), "auto", Target("::1", 1, tls=True)),
            (IPv6Address("TCP", "::1", 1), None, Target("::1", 1)),
            (IPv4Address("TCP", "192.0.2.1", 7100), "a", Target("192.0.2.1", 7100, tls=True)),
        ):
            words = shlex.split(self.line(address, tls=tls))
            self.assertEqual(Target.parse(words[words.index("--connect") + 1]), where)

    def test_nowhere(self) -> None:
        """Where there is no agent, or no key, it says that instead."""
        self.assertEqual(
            trial_command(Configuration(), [], Keyring(), "", DEFAULT),
            "there is no agent listening to try",
        )
        line = self.line(UNIXAddress("/s"), key("owner", revoked=True))
        self.assertIn("no key that is valid now", line)

    def test_identity(self) -> None:
        """The key is one that may log in and run it: owner's, else another's, by name."""
        rule = CommandRule(name="uname", argv=("uname", "-a"), allow=("group:all",))
        here = IPv4Address("TCP", "127.0.0.1", 7100)
        past = datetime(2000, 1, 1, tzinfo=UTC)
        keys = (key("old", groups=("all",), not_after=past), key("a", groups=("all",)))
        free = CommandRule(argv="any", allow=("group:all",))
        self.assertEqual(
            self.line(here, key("owner"), *keys, rules=(free,)),
            "try: sockproto run --identity a -- uname -a",
        )
        self.assertEqual(self.line(here, *keys, rules=()), "try: sockproto ping --identity a")
        self.assertEqual(self.line(here, *keys, key("owner"), rules=(rule,)), "try: sockproto ping")


class ProgramTests(SynchronousTestCase):
    """How the client is started."""

    def test_program(self) -> None:
        """By the path of the server's own program, by its name where that is enough, or by -m."""
        folder = self.mktemp()
        os.mkdir(folder)
        beside = f"{folder}/sockproto"
        with open(beside, "w"):
            pass
        os.chmod(beside, 0o755)
        for argv0, found, expected in (
            (f"{folder}/twistd", None, [beside]),
            (f"{folder}/twistd", "/bin/sh", [beside]),
            (f"{folder}/twistd", beside, ["sockproto"]),
            ("/nowhere/twistd", "/bin/x", ["sockproto"]),
            ("-c", None, [sys.executable, "-m", "sockproto"]),
        ):
            self.patch(sys, "argv", [argv0])
            self.patch(shutil, "which", lambda _, found=found: found)
            self.assertEqual(module._program(), expected)
