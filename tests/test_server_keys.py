"""Tests for :mod:`sockproto.server.keys`: a keyring that is followed, and its errors told once."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import KeyringError
from sockproto.keyring import new_key
from sockproto.keyring_edit import add_keys, create_keyring
from sockproto.server.keys import ServerKeys


class ServerKeysTests(SynchronousTestCase):
    """The keys of a server."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "keyring.toml"
        self.keys = ServerKeys(self.path)

    def write(self, text: str) -> None:
        """Replace the keyring; a new inode each time, so that no clock matters."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        os.replace(new, self.path)

    def test_made(self) -> None:
        """A missing keyring is made with the key owner, for its owner's eyes alone."""
        self.keys.open(create=True)
        self.assertTrue(self.keys.made)
        self.assertEqual(list(self.keys.current()), ["owner"])
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        again = ServerKeys(self.path)
        again.open(create=True)
        self.assertFalse(again.made)
        self.assertEqual(again.get("owner"), self.keys.get("owner"))

    def test_madeByAnother(self) -> None:
        """Of two servers that start at once, the second takes what the first has made."""
        from sockproto.server import keys

        def tooLate(path: Path) -> object:
            create_keyring(path)
            return create_keyring(path)

        self.patch(keys, "create_keyring", tooLate)
        self.keys.open(create=True)
        self.assertFalse(self.keys.made)
        self.assertEqual(list(self.keys.current()), ["owner"])

    def test_missing(self) -> None:
        """Where none is to be made, a missing keyring is an error, and none is made."""
        error = self.assertRaises(KeyringError, self.keys.open, create=False)
        self.assertIn(str(self.path), str(error))
        self.assertFalse(self.path.exists())

    def test_broken(self) -> None:
        """One that is there but cannot be used is an error, and is not replaced."""
        self.path.parent.mkdir()
        self.write("x")
        self.assertRaises(KeyringError, self.keys.open, create=True)
        self.assertEqual(self.path.read_text(), "x")

    def test_followed(self) -> None:
        """A key that is added is there at the next login."""
        self.keys.open(create=True)
        self.assertIsNone(self.keys.get("ops"))
        add_keys(self.path, [new_key("ops")])
        self.assertIsNotNone(self.keys.get("ops"))

    def test_toldOnce(self) -> None:
        """What is wrong with a changed keyring is logged once, and so is its end."""
        self.keys.open(create=True)
        good = self.path.read_text()
        with capturedLogs() as captured:
            for _ in range(3):
                self.write("[[key]]\nid = 'x'\n")
                self.assertIsNotNone(self.keys.get("owner"))
                self.keys.get("nobody")
            self.write(good)
            self.keys.get("owner")
            self.keys.get("owner")
        self.assertEqual([event["log_level"].name for event in captured], ["error", "info"])
        self.assertIn("key 1 ('x')", formatEvent(captured[0]))
        self.assertIn("can be read again", formatEvent(captured[1]))

    def test_gone(self) -> None:
        """A keyring that is gone leaves its keys in force, and is told of once."""
        self.keys.open(create=True)
        self.path.unlink()
        with capturedLogs() as captured:
            for _ in range(3):
                self.assertIsNotNone(self.keys.get("owner"))
        self.assertEqual(len(captured), 1)

    def test_remind(self) -> None:
        """A reminder is for as long as something is wrong."""
        self.keys.open(create=True)
        good = self.path.read_text()
        self.write("x")
        self.assertRaises(KeyringError, self.keys.reload)
        with capturedLogs() as captured:
            self.keys.remind()
            self.keys.remind()
            self.keys.get("owner")
        self.assertEqual(len(captured), 2)
        self.write(good)
        self.keys.reload()
        with capturedLogs() as captured:
            self.keys.remind()
            self.keys.get("owner")
        self.assertEqual(captured, [])
