"""Tests of the environment that commands get."""

from __future__ import annotations

import os
import pwd

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from sockproto.services.command import environment
from sockproto.services.command.accounts import Account
from sockproto.services.command.environment import (
    asking_environment,
    base_environment,
    home_folder,
)
from tests.commandfakes import PRINCIPAL


class EnvironmentTests(SynchronousTestCase):
    """What every command gets, and who asked."""

    def test_base(self) -> None:
        """The server's PATH and LANG, and who its user is; nothing else of its environment."""
        user = pwd.getpwuid(os.geteuid())
        found = base_environment({"PATH": "/opt/bin:/bin", "LANG": "de_DE", "SECRET": "x"})
        self.assertEqual((found["PATH"], found["LANG"]), ("/opt/bin:/bin", "de_DE"))
        self.assertEqual((found["USER"], found["LOGNAME"]), (user.pw_name, user.pw_name))
        self.assertEqual(set(found), {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG"})
        self.assertTrue(found["SHELL"].startswith("/"))

    def test_missing(self) -> None:
        """Where the server has none, or an empty one (which would mean the working directory), the
        usual PATH is given."""
        for environ in ({}, {"PATH": "", "LANG": ""}):
            found = base_environment(environ)
            self.assertIn("/usr/bin:", found["PATH"])
            self.assertEqual(found["LANG"], "C.UTF-8")

    def test_home(self) -> None:
        """HOME if it is a folder, else the user's from the system, else the root."""
        folder = self.mktemp()
        os.mkdir(folder)
        self.assertEqual(home_folder({"HOME": folder}), folder)
        self.assertEqual(home_folder({"HOME": folder + "/none"}), "/")
        self.assertTrue(os.path.isdir(home_folder({})))

    def test_noSuchUser(self) -> None:
        """A user without an entry, as in some containers, still has an environment."""
        self.patch(environment, "_user", lambda: None)
        found = base_environment({})
        self.assertEqual(
            (found["USER"], found["HOME"], found["SHELL"]), (str(os.geteuid()), "/", "/bin/sh")
        )

    def test_asking(self) -> None:
        """A command can read who asked, from where, and by which rule."""
        self.assertEqual(
            asking_environment(PRINCIPAL, "disk", [b"disk", b"/my files", b"\xff"]),
            {
                "SOCKPROTO_IDENTITY": "ops",
                "SOCKPROTO_CLIENT": "tester@here",
                "SOCKPROTO_SESSION": bytes(range(16)).hex(),
                "SOCKPROTO_COMMAND": "disk",
                "REMOTE_USER": "ops",
                "REMOTE_ADDR": "192.0.2.7",
                "REMOTE_HOST": "192.0.2.7",
                "REMCTL_COMMAND": "disk",
                "SSH_ORIGINAL_COMMAND": "disk /my files \udcff",
            },
        )
        unix = asking_environment(evolve(PRINCIPAL, host=None), "disk")
        self.assertEqual((unix["REMOTE_ADDR"], unix["REMOTE_HOST"]), ("", "localhost"))

    def test_longLine(self) -> None:
        """A line that would count much against the room for arguments is left out."""
        found = asking_environment(PRINCIPAL, "any", [b"echo", b"x" * 100_000])
        self.assertEqual(found["REMCTL_COMMAND"], "echo")
        self.assertNotIn("SSH_ORIGINAL_COMMAND", found)

    def test_account(self) -> None:
        """HOME, USER, LOGNAME and SHELL are those of the rule's user; a home that is not there is
        the root."""
        account = Account(4711, 4711, (), "ops", "/nope", "/bin/dash")
        found = base_environment({"PATH": "/bin", "HOME": "/root"}, account)
        self.assertEqual(
            [found[name] for name in ("HOME", "USER", "LOGNAME", "SHELL", "PATH")],
            ["/", "ops", "ops", "/bin/dash", "/bin"],
        )
        self.assertEqual(home_folder({}, evolve(account, home="/tmp")), "/tmp")
        own = evolve(account, uid=None)
        self.assertEqual(base_environment({}, own), base_environment({}))
