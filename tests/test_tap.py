"""Tests for :mod:`sockproto.tap`: the options of ``twistd sockproto``, and what they make."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import FileLogObserver
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.errors import ConfigurationError, KeyringError
from sockproto.keyring_edit import create_keyring
from sockproto.logs import formatAsJSON
from sockproto.server.program import Program, logObserver
from sockproto.tap import Options, makeProgram, makeService

LISTEN = '[[listen]]\nservice = "agent"\nendpoint = "unix:s"\n'


class TapTestCase(SynchronousTestCase):
    """Tests in a folder of their own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.folder)
        self.patch(os, "environ", {"HOME": str(self.folder)})
        self.stderr = io.StringIO()

    def options(self, *argv: str) -> Options:
        """Parsed options."""
        options = Options()
        options.parseOptions(list(argv))
        return options

    def program(self, *argv: str) -> Program:
        """What they make."""
        made = makeProgram(self.options(*argv), MemoryReactorClock())
        assert isinstance(made, Program)
        return made

    def configure(self, text: str = LISTEN) -> None:
        """A configuration and a keyring."""
        config = self.folder / "c.toml"
        config.write_text(text)
        config.chmod(0o644)
        create_keyring(self.folder / "k.toml")


class MakeTests(TapTestCase):
    """What the options make."""

    def test_default(self) -> None:
        """Without options: the defaults, and the user's own keyring, which is made."""
        made = self.program()
        verifyObject(IService, made)
        self.assertTrue(made.configuration.owner_unrestricted)
        self.assertEqual(made.keys.path, self.folder / ".config/sockproto/keyring.toml")
        self.assertTrue(made.keys.made)
        self.assertEqual(made.name, "sockproto")

    def test_keyring(self) -> None:
        """--keyring goes before SOCKPROTO_KEYRING, and that before the user's own."""
        os.environ["SOCKPROTO_KEYRING"] = "e.toml"
        self.assertEqual(self.program().keys.path, self.folder / "e.toml")
        self.assertEqual(self.program("--keyring", "o.toml").keys.path, self.folder / "o.toml")

    def test_paths(self) -> None:
        """Relative paths are meant as seen from where it was started, at a reload too."""
        self.configure()
        made = self.program("--config", "c.toml", "--keyring", "k.toml", "--listen", "agent=unix:t")
        (self.folder / "sub").mkdir()
        os.chdir("sub")
        self.assertEqual(
            [str(one) for one in made.configuration.listeners],
            [f"agent=unix:address={self.folder}/{name}" for name in "st"],
        )
        self.assertTrue(made.reload())
        self.assertEqual(made.configuration.listeners, made._started.listeners)

    def test_errors(self) -> None:
        """An embedder gets exceptions; twistd a line each on stderr, and status 1."""
        self.configure("x = 1\ny = 2\n")
        wrong = ("--config", "c.toml", "--keyring", "k.toml")
        self.assertRaises(ConfigurationError, self.program, *wrong)
        self.configure_again()
        self.assertRaises(KeyringError, self.program, "--config", "c.toml", "--keyring", "none")
        self.assertFalse((self.folder / "none").exists())
        (self.folder / "c.toml").write_text("x = 1\ny = 2\n")
        self.patch(sys, "stderr", self.stderr)
        ending = self.assertRaises(SystemExit, makeService, self.options(*wrong), object())
        self.assertEqual(ending.code, 1)
        self.assertEqual(
            self.stderr.getvalue(),
            "".join(f"sockproto: {self.folder}/c.toml: unknown key {key}\n" for key in "xy"),
        )

    def configure_again(self) -> None:
        """A configuration that is right."""
        (self.folder / "c.toml").write_text(LISTEN)

    def test_usage(self) -> None:
        """An option that there is not is a matter of usage; --version is known."""
        self.assertRaises(usage.UsageError, self.options, "--lisen", "x")
        self.assertRaises(usage.UsageError, self.options, "stray")
        self.patch(sys, "stdout", self.stderr)
        self.assertRaises(SystemExit, self.options, "--version")
        self.assertTrue(self.stderr.getvalue().startswith("sockproto "))


class LogTests(TapTestCase):
    """json = true: the log of twistd and twist in JSON lines, where their options say."""

    def observer(self, **options: Any) -> Any:
        """What logObserver makes of twistd's options."""
        return logObserver(MemoryReactorClock(), {"logfile": None, "nodaemon": False, **options})

    def test_destination(self) -> None:
        """The log file of twistd's options, its default, or standard output in the foreground."""
        handler = signal.getsignal(signal.SIGUSR1)
        self.addCleanup(signal.signal, signal.SIGUSR1, handler)
        self.patch(sys, "stdout", self.stderr)
        self.observer(nodaemon=True)({"log_format": "one"})
        self.observer(logfile="-", nodaemon=True)({"log_format": "two"})
        self.assertEqual(self.stderr.getvalue().count("\n"), 2)
        for name, expected in ((None, "twistd.log"), ("sub", "sub")):
            observer = self.observer(logfile=name)
            observer({"log_format": "three"})
            self.assertIn('"three"', (self.folder / expected).read_text())
            observer._outFile.close()

    def test_none(self) -> None:
        """Other destinations stay as they are."""
        for options in ({"syslog": True}, {"logger": len}, {"logfile": "-"}):
            self.assertIsNone(self.observer(**options))
        self.assertIsNone(logObserver(MemoryReactorClock(), {}))

    def test_unwritable(self) -> None:
        """A log file that cannot be had is an error of the configuration."""
        self.configure(f"[log]\njson = true\n{LISTEN}")
        options = self.options("--config", "c.toml", "--keyring", "k.toml")
        options.parent = {"logfile": "none/log", "nodaemon": True}  # type: ignore[assignment]
        error = self.assertRaises(ConfigurationError, makeProgram, options, MemoryReactorClock())
        self.assertEqual(str(error), "--logfile none/log: No such file or directory")

    def test_twist(self) -> None:
        """Under twist it takes the place of the form that its log would have."""
        self.configure(f"[log]\njson = true\n{LISTEN}")
        options = self.options("--config", "c.toml", "--keyring", "k.toml")
        above: dict[str, Any] = {"fileLogObserverFactory": None}
        options.parent = above  # type: ignore[assignment]
        makeProgram(options, MemoryReactorClock())
        observer = above["fileLogObserverFactory"](io.StringIO())
        self.assertIsInstance(observer, FileLogObserver)
        self.assertIs(observer.formatEvent, formatAsJSON)
