"""Tests of the shell's lines: what each asks for, where cd leads, and the prompt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli.shell_line import (
    BUILT_IN,
    HELP,
    ChangeFolder,
    Help,
    Leave,
    Nothing,
    Run,
    WorkingFolder,
    WrongLine,
    parse_line,
    prompt,
)


class ParseTests(SynchronousTestCase):
    """Tests of `parse_line`."""

    def test_actions(self) -> None:
        """Each line asks for one thing."""
        for line, action in (
            ("", Nothing()),
            (" \t\n", Nothing()),
            ("# rm -r /\n", Nothing()),
            ("  # x", Nothing()),
            ("ls -l\n", Run(("ls", "-l"))),
            ("echo a#b 'c  d' \"e f\" g\\ h", Run(("echo", "a#b", "c  d", "e f", "g h"))),
            ("echo ''", Run(("echo", ""))),
            (
                "ls *.py | wc > $HOME; cd &",
                Run(("ls", "*.py", "|", "wc", ">", "$HOME;", "cd", "&")),
            ),
            ("env cd", Run(("env", "cd"))),
            ("echo a\\ \n", Run(("echo", "a "))),
            ("cd", ChangeFolder()),
            ("  cd  /usr/lib \n", ChangeFolder("/usr/lib")),
            ("cd 'a b'", ChangeFolder("a b")),
            ("cd -", ChangeFolder("-")),
            ("exit", Leave()),
            ("quit\r\n", Leave()),
            ("exit 3", Leave(3)),
            ("help", Help()),
            ("help me", Help()),
            ("exited", Run(("exited",))),
        ):
            self.assertEqual(parse_line(line), action, line)

    def test_wrong(self) -> None:
        """What cannot be understood is said in a few words."""
        for line, words in (
            ("echo 'a", "no closing quotation"),
            ('echo "a', "no closing quotation"),
            ("echo a\\", "no escaped character"),
            ("cd a b", "cd: expected one folder"),
            ("exit x", "exit: expected a status from 0 to 255"),
            ("quit 256", "quit: expected"),
            ("exit -1", "exit: expected"),
            ("exit 1 2", "exit: expected"),
            ("exit ²", "exit: expected"),
        ):
            self.assertIn(words, str(self.assertRaises(WrongLine, parse_line, line)))

    def test_help(self) -> None:
        """The help names all that is built in, and fits a terminal."""
        for word in BUILT_IN:
            self.assertIn(word, HELP)
        self.assertLessEqual(max(map(len, HELP.splitlines())), 100)

    @given(st.text())
    def test_anything(self, line: str) -> None:
        """No line raises anything else."""
        try:
            parse_line(line)
        except WrongLine as error:
            self.assertTrue(str(error))


class FolderTests(SynchronousTestCase):
    """Tests of `WorkingFolder`."""

    def test_atHome(self) -> None:
        """In the beginning paths are from where the agent runs what names no folder."""
        folder = WorkingFolder()
        for wanted, asked in (
            (None, None),
            ("~", None),
            ("~/", None),
            ("x/y", "x/y"),
            ("../x", "../x"),
            ("/x", "/x"),
            ("~/x", "x"),
            ("~user", "~user"),
        ):
            self.assertEqual(folder.leads_to(wanted), asked)
        self.assertEqual(str(folder), "~")

    def test_elsewhere(self) -> None:
        """Later they are from where one is; the agent says what links and dots come to."""
        folder = WorkingFolder("/usr/lib")
        for wanted, asked in (
            (None, None),
            ("~", None),
            ("x", "/usr/lib/x"),
            ("..", "/usr/lib/.."),
            ("/x", "/x"),
            ("~/x", "x"),
            ("~user", "/usr/lib/~user"),
            ("-x", "/usr/lib/-x"),
        ):
            self.assertEqual(folder.leads_to(wanted), asked)

    def test_back(self) -> None:
        """cd - is the folder before, and there and back again."""
        folder = WorkingFolder()
        self.assertIn("no folder before", str(self.assertRaises(WrongLine, folder.leads_to, "-")))
        folder.moved_to("/usr")
        self.assertEqual(folder.leads_to("-"), None)
        folder.moved_to(None)
        self.assertEqual(folder.leads_to("-"), "/usr")
        folder.moved_to("/usr")
        self.assertEqual((folder.current, folder.leads_to("-")), ("/usr", None))

    def test_nothing(self) -> None:
        """An empty word is no folder."""
        self.assertRaises(WrongLine, WorkingFolder().leads_to, "")

    def test_prompt(self) -> None:
        """The prompt has server and folder, and a status that is not 0; nothing for a terminal."""
        for folder, status, text in (
            (None, 0, "web1:~> "),
            ("/usr", 0, "web1:/usr> "),
            ("/a\n\x1b[2J\udcff", 130, "web1:/a\\n\\x1b[2J\\udcff [130]> "),
        ):
            self.assertEqual(prompt("web1", WorkingFolder(folder), status), text)
