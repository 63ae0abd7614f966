"""Tests of the lines that the shell keeps."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli.history import History, history_path


class PathTests(SynchronousTestCase):
    """Tests of `history_path`."""

    def test_xdg(self) -> None:
        """It is in the folder for state; what is not absolute does not count."""
        for environ, path in (
            ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/sockproto/shell_history"),
            ({"XDG_STATE_HOME": "s", "HOME": "/h"}, "/h/.local/state/sockproto/shell_history"),
            ({"HOME": "/h"}, "/h/.local/state/sockproto/shell_history"),
            ({"HOME": ""}, None),
            ({}, None),
        ):
            self.assertEqual(history_path(environ), path)


class HistoryTests(SynchronousTestCase):
    """Tests of `History`."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state" / "history"

    def test_kept(self) -> None:
        """Lines are there the next time, bytes that are not UTF-8 too."""
        history = History(str(self.path))
        self.assertEqual(history.load(), [])
        for line in ("ls", "é\udcff\n", "pwd"):
            self.assertTrue(history.add(line))
        self.assertEqual(History(str(self.path)).load(), ["ls", "é\udcff", "pwd"])

    def test_private(self) -> None:
        """Only the owner reads the file and enters its folder, even if that was otherwise."""
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        History(str(self.path)).load()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        self.path.chmod(0o644)
        History(str(self.path)).load()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_notKept(self) -> None:
        """What begins with a space is not, nor nothing, nor the same once more."""
        history = History(str(self.path))
        history.load()
        self.assertEqual(
            [history.add(line) for line in ("ls", "ls", " secret", "\tsecret", "", "  ", "a\nb")],
            [True, False, False, False, False, False, False],
        )
        self.assertEqual(self.path.read_text(), "ls\n")
        again = History(str(self.path))
        again.load()
        self.assertFalse(again.add("ls"))
        self.assertTrue(again.add("pwd"))

    def test_most(self) -> None:
        """The last lines are kept, and the file does not grow for ever."""
        history = History(str(self.path), most=3)
        history.load()
        for line in "abcde":
            history.add(line)
        self.assertEqual(History(str(self.path), most=3).load(), ["c", "d", "e"])
        self.assertEqual(self.path.read_text(), "a\nb\nc\nd\ne\n")
        history.add("f")
        self.assertEqual(History(str(self.path), most=3).load(), ["d", "e", "f"])
        self.assertEqual(self.path.read_text(), "d\ne\nf\n")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual([each.name for each in self.path.parent.iterdir()], ["history"])

    def test_nowhere(self) -> None:
        """Without a file nothing is kept, and nothing fails."""
        history = History(None)
        self.assertEqual(history.load(), [])
        self.assertTrue(history.add("ls"))

    def test_unusable(self) -> None:
        """A link, a folder or a FIFO is an error, once; the lines count all the same."""
        self.path.parent.mkdir(parents=True)
        places = [self.path.with_name(name) for name in ("link", "folder", "fifo")]
        places[0].symlink_to(self.path)
        places[1].mkdir()
        os.mkfifo(places[2])
        for place in places:
            history = History(str(place))
            self.assertRaises(OSError, history.load)
            self.assertTrue(history.add("ls"))
            history = History(str(place))
            self.assertRaises(OSError, history.add, "ls")
            self.assertTrue(history.add("pwd"))
        self.assertFalse(self.path.exists())
