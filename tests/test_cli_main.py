"""Tests for :mod:`sockproto.cli.main` and what subcommands are made of."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import click
from attrs import evolve
from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli.command import Failure, Group, command, one_line, warn
from sockproto.cli.main import SUBCOMMANDS, Program, Subcommand, program
from sockproto.cli.options import ConnectionOptions
from sockproto.errors import (
    AgentError,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    KeyringError,
    LoginFailed,
    Refused,
)

ROOT = Path(__file__).resolve().parent.parent

heard: list[tuple[Any, ...]] = []
"""What the subcommands below were called with."""
raised: list[BaseException] = []
"""What they raise."""


@command("say", examples=[("sockproto say hello", "says it")])
@click.argument("words", nargs=-1)
@click.option("--loud", is_flag=True, help="Say it loudly.")
@click.option("--status", type=int)
def say(
    options: ConnectionOptions, words: tuple[str, ...], loud: bool, status: int | None
) -> int | None:
    """Say something."""
    heard.append((options, words, loud))
    if raised:
        raise raised[0]
    return status


@command("run", passes_status=True, interspersed=False)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--timeout", type=float)
def run(options: ConnectionOptions, argv: tuple[str, ...], timeout: float | None) -> int | None:
    """Run something."""
    heard.append((options, argv, timeout))
    if raised:
        raise raised[0]
    return 3


things = Group("things", local=True, help="Things.")


@command("look", parent=things, local=True)
@click.option("--identity")
def look(options: ConnectionOptions, identity: str | None) -> int | None:
    """Look at things."""
    heard.append((options, identity))
    if raised:
        raise raised[0]
    return None


TABLE = {
    name: Subcommand(f"{__name__}:{name}", f"About {name}.") for name in ("say", "run", "things")
} | {"broken": Subcommand("sockproto.no_such_module:nothing", "Not to be imported.")}


class ProgramCase(SynchronousTestCase):
    """Runs a program with the subcommands above."""

    def setUp(self) -> None:
        """Forget what was heard before."""
        heard.clear()
        raised.clear()
        self.program = Program("sockproto", table=TABLE, help="A program.")

    def run_(self, *args: str, **env: str) -> Result:
        """Run the program with arguments, and no variables of its own but those given."""
        unset = dict.fromkeys(
            ("SOCKPROTO_CONNECT", "SOCKPROTO_KEYRING", "SOCKPROTO_IDENTITY"), None
        )
        return CliRunner().invoke(self.program, args, env=unset | env)

    def optionsOf(self, *args: str, **env: str) -> ConnectionOptions:
        """The common options that a subcommand got."""
        result = self.run_(*args, **env)
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        options = heard.pop()[0]
        assert isinstance(options, ConnectionOptions)
        return options

    def assertFails(self, status: int, line: str, *args: str) -> None:
        """The program ends with a status and exactly one line on stderr."""
        result = self.run_(*args)
        self.assertEqual((result.exit_code, result.stderr), (status, f"{line}\n"))


class OptionsTests(ProgramCase):
    """The common options."""

    def test_defaults(self) -> None:
        """Without any: the agent of this machine, as its owner."""
        self.assertEqual(
            self.optionsOf("say"),
            ConnectionOptions(
                where="tcp:127.0.0.1:7100",
                keyring=None,
                identity=None,
                server_id=None,
                plaintext=False,
            ),
        )

    def test_places(self) -> None:
        """They may stand before the subcommand or after it."""
        args = [
            "--connect",
            "web1",
            "--keyring=k",
            "--identity",
            "ops",
            "--server-id",
            "w",
            "--plaintext",
        ]
        expected = ConnectionOptions(
            where="web1",
            keyring="k",
            identity="ops",
            server_id="w",
            plaintext=True,
            given=frozenset({"where", "keyring", "identity", "server_id", "plaintext"}),
        )
        self.assertEqual(self.optionsOf(*args, "say", "hello"), expected)
        self.assertEqual(self.optionsOf("say", *args, "hello"), expected)
        self.assertEqual(self.optionsOf("say", "hello", *args), expected)
        self.assertEqual(self.optionsOf(*args[:3], "say", *args[3:]), expected)
        rest = evolve(expected, identity=None, given=expected.given - {"identity"})
        without = args[:3] + args[5:]
        self.assertEqual(self.optionsOf("things", *without, "look"), rest)
        self.assertEqual(self.optionsOf("things", "look", *without), rest)

    def test_later(self) -> None:
        """Of several the last counts."""
        args = ("--connect", "a", "say", "--connect", "b", "--connect", "c")
        self.assertEqual(self.optionsOf(*args).where, "c")
        nested = ("--keyring", "a", "things", "--keyring", "b", "look")
        self.assertEqual(self.optionsOf(*nested, "--keyring", "c").keyring, "c")
        self.assertEqual(self.optionsOf(*nested).keyring, "b")

    def test_environment(self) -> None:
        """The environment counts where the command line, in whatever place, says nothing."""
        env = {"SOCKPROTO_CONNECT": "e", "SOCKPROTO_KEYRING": "k", "SOCKPROTO_IDENTITY": "i"}
        options = self.optionsOf("say", **env)
        self.assertEqual((options.where, options.keyring, options.identity), ("e", "k", "i"))
        self.assertEqual(options.given, frozenset())
        for args in (("--connect", "c", "say"), ("say", "--connect", "c")):
            options = self.optionsOf(*args, **env)
            self.assertEqual((options.where, options.keyring), ("c", "k"))
        self.assertEqual(self.optionsOf("say", SOCKPROTO_CONNECT="").where, "tcp:127.0.0.1:7100")

    def test_own(self) -> None:
        """A subcommand's own option of the same name is its own."""
        self.run_("--identity", "a", "things", "look", "--identity", "b")
        options, identity = heard[0]
        self.assertEqual((options.identity, identity), ("a", "b"))

    def test_empty(self) -> None:
        """An option with nothing, as from a variable that is not set, is wrong usage."""
        self.assertFails(
            2,
            "sockproto: usage: Invalid value for '--keyring': expected something, found nothing "
            "(see sockproto say --help)",
            *("say", "--keyring", ""),
        )

    def test_keyringPath(self) -> None:
        """The keyring is the one named, else the user's own."""
        self.assertEqual(ConnectionOptions(keyring="k").keyring_path, "k")
        self.patch(os, "environ", {"XDG_CONFIG_HOME": "/x"})
        self.assertEqual(ConnectionOptions().keyring_path, "/x/sockproto/keyring.toml")

    def test_fresh(self) -> None:
        """One run's options are not the next one's."""
        self.optionsOf("say", "--connect", "c")
        self.assertEqual(self.optionsOf("say"), ConnectionOptions())


class EndTests(ProgramCase):
    """Exit statuses, and what stands on stderr."""

    def test_status(self) -> None:
        """A subcommand's result is the exit status, none is 0."""
        self.assertEqual(self.run_("say").exit_code, 0)
        self.assertEqual(self.run_("say", "--status", "7").exit_code, 7)
        self.assertEqual(self.run_("run", "x").exit_code, 3)

    def test_failures(self) -> None:
        """Each exception is one line with its code; its kind and the subcommand give the status."""
        for error, code, statuses in (
            (ConnectFailed("what"), "connect", (255, 255, 255)),
            (LoginFailed("what"), "login", (255, 255, 255)),
            (ConnectionLost("what"), "lost", (255, 255, 255)),
            (Refused("what"), "refused", (1, 255, 1)),
            (AgentError("what", "not-found"), "not-found", (1, 255, 1)),
            (KeyringError("what"), "login", (255, 255, None)),
            (KeyringError("what"), "keyring", (None, None, 1)),
            (ConfigurationError("what"), "configuration", (255, 255, 1)),
            (Failure("odd", "what", 9), "odd", (9, 9, 9)),
            (PermissionError(errno.EACCES, "what"), "system", (255, 255, 1)),
        ):
            raised[:] = [error]
            for args, status in zip(
                (["say"], ["run", "x"], ["things", "look"]), statuses, strict=True
            ):
                if status is not None:
                    what = "[Errno 13] what" if code == "system" else "what"
                    self.assertFails(status, f"sockproto: {code}: {what}", *args)

    def test_oneLine(self) -> None:
        """What would be a second line, or a terminal's command, is escaped."""
        raised.append(Refused("a\nb\x1b[2Jc\udcff é"))
        self.assertFails(1, r"sockproto: refused: a\nb\x1b[2Jc\udcff é", "say")
        self.assertEqual(one_line("\x7f\u202e\t"), r"\x7f\u202e\t")

    def test_usage(self) -> None:
        """Wrong usage is 2 with a pointer to help; for `run` 255, as there is no status to pass."""
        self.assertFails(
            2,
            "sockproto: usage: No such option '--nope' (see sockproto say --help)",
            "say",
            "--nope",
        )
        self.assertFails(
            255,
            "sockproto: usage: No such option '--nope' (see sockproto run --help)",
            *("run", "--nope", "x"),
        )
        self.assertFails(
            2, "sockproto: usage: No such option '--nope' (see sockproto --help)", "--nope", "run"
        )
        result = self.run_("run")
        self.assertEqual(result.exit_code, 255)
        self.assertIn("Missing argument", result.stderr)

    def test_nearest(self) -> None:
        """A misspelt subcommand is wrong usage, with the nearest one or all."""
        see = "(see sockproto --help)"
        self.assertFails(
            2, f"sockproto: usage: no subcommand 'rnu': did you mean 'run'? {see}", "rnu"
        )
        self.assertFails(
            2,
            f"sockproto: usage: no subcommand 'zzz': there are say, run, things, broken {see}",
            "zzz",
        )

    def test_interrupted(self) -> None:
        """Ctrl-C ends with 130, without a traceback."""
        raised.append(KeyboardInterrupt())
        result = self.run_("say")
        self.assertEqual((result.exit_code, result.stderr.strip()), (130, ""))

    def test_bug(self) -> None:
        """A bug has a traceback, a last line that says what it is, and 255."""
        raised.append(ZeroDivisionError("a bug"))
        result = self.run_("say")
        self.assertEqual(result.exit_code, 255)
        lines = result.stderr.splitlines()
        self.assertTrue(lines[0].startswith("Traceback"))
        self.assertEqual(lines[-1], "sockproto: internal: ZeroDivisionError: a bug")

    def test_readerGone(self) -> None:
        """A reader of stdout that has gone ends the program in silence."""
        raised.append(BrokenPipeError())
        result = self.run_("say")
        self.assertEqual((result.exit_code, result.stderr), (141, ""))

    def test_warn(self) -> None:
        """A warning is one line on stderr too."""

        @click.command()
        def warning() -> None:
            warn("a\nb")

        result = CliRunner().invoke(warning)
        self.assertEqual((result.stdout, result.stderr), ("", "sockproto: warning: a\\nb\n"))


class ArgvTests(ProgramCase):
    """A subcommand whose arguments are another program's."""

    def test_interspersed(self) -> None:
        """Without interspersed options, all after the first argument is left alone."""
        for args, argv, timeout in (
            (["ls", "-l"], ("ls", "-l"), None),
            (["--timeout", "3", "--", "ls", "-l"], ("ls", "-l"), 3.0),
            (["--timeout", "3", "ls", "--timeout", "4"], ("ls", "--timeout", "4"), 3.0),
            (["ls", "--", "-l"], ("ls", "--", "-l"), None),
            (["--", "ls", "--help"], ("ls", "--help"), None),
            (["ls", "--connect", "x"], ("ls", "--connect", "x"), None),
        ):
            self.assertEqual(self.run_("run", *args).exit_code, 3)
            self.assertEqual(heard.pop()[1:], (argv, timeout))

    def test_interspersedElsewhere(self) -> None:
        """Other subcommands take their options anywhere."""
        self.run_("say", "a", "--loud", "b")
        self.assertEqual(heard.pop()[1:], (("a", "b"), True))


class HelpTests(ProgramCase):
    """``--help``."""

    def test_program(self) -> None:
        """The program lists its subcommands in order, without importing one."""
        result = self.run_("--help")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        places = [result.stdout.index(f"About {name}.") for name in list(TABLE)[:-1]]
        self.assertEqual(places, sorted(places))
        self.assertEqual(self.run_("-h").stdout, self.run_("--help").stdout)

    def test_nothing(self) -> None:
        """Without arguments the help is on stderr, and the status that of wrong usage."""
        result = self.run_()
        self.assertEqual((result.exit_code, result.stdout), (2, ""))
        self.assertIn("About run.", result.stderr)

    def test_subcommand(self) -> None:
        """A subcommand's help has its own options, the common ones and the examples."""
        text = self.run_("say", "--help").stdout
        for words in (
            "--loud",
            "--connect WHERE",
            "--identity ID",
            "  sockproto say hello\n      says it\n",
        ):
            self.assertIn(words, text)

    def test_local(self) -> None:
        """What talks to no agent lists only the keyring of the common options."""
        text = self.run_("things", "look", "--help").stdout
        self.assertIn("--keyring FILE", text)
        self.assertNotIn("--connect", text)

    def test_all(self) -> None:
        """Every subcommand of the real program that there is has examples, and no colour."""
        for args in (
            ["keys"],
            *(["keys", name] for name in ("new", "list", "show", "derive", "import", "revoke")),
        ):
            result = CliRunner().invoke(program, [*args, "--help"])
            self.assertEqual(result.exit_code, 0)
            self.assertIn("Examples:\n  sockproto keys ", result.stdout)
            self.assertNotIn("\x1b", result.stdout)

    def test_table(self) -> None:
        """The real program's table has these, and the version is an option."""
        self.assertLessEqual({"run", "ping", "keys"}, set(SUBCOMMANDS))
        self.assertEqual(SUBCOMMANDS["run"].target, "sockproto.cli.run:run")
        result = CliRunner().invoke(program, ["--version"])
        self.assertEqual(result.exit_code, 0)
        self.assertTrue(result.stdout.startswith("sockproto "))


class ProcessTests(SynchronousTestCase):
    """The program as a process."""

    def setUp(self) -> None:
        """An environment that finds the package from anywhere, and a keyring."""
        self.path = Path(self.mktemp()).absolute() / "keyring.toml"
        self.env = os.environ | {
            "XDG_CONFIG_HOME": str(self.path.parent),
            "PYTHONPATH": str(ROOT),
            "SOCKPROTO_KEYRING": str(self.path),
        }

    def python(
        self, *args: str, stdout: int | IO[str] = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        """Run Python to its end."""
        return subprocess.run(
            [sys.executable, *args],
            env=self.env,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    def test_module(self) -> None:
        """``python -m sockproto`` is the program."""
        made = self.python("-m", "sockproto", "keys", "new", "owner")
        self.assertEqual(
            (made.returncode, made.stdout, made.stderr), (0, f"{self.path}: made key 'owner'\n", "")
        )
        again = self.python("-m", "sockproto", "keys", "new", "owner")
        self.assertEqual((again.returncode, again.stdout), (1, ""))
        self.assertTrue(again.stderr.startswith(f"sockproto: keyring: {self.path}: "))

    def test_readerGone(self) -> None:
        """A closed pipe on stdout is silence and 141, also for what is written at the very end."""
        self.python("-m", "sockproto", "keys", "new", "owner")
        for args in (["keys", "list"], ["keys", "show", "owner"]):
            reader, writer = os.pipe()
            os.close(reader)
            result = self.python("-m", "sockproto", *args, stdout=writer)
            os.close(writer)
            self.assertEqual((result.returncode, result.stderr), (141, ""))

    def test_fullDisk(self) -> None:
        """Output that cannot be written is a failure, in one line."""
        if not os.path.exists("/dev/full"):
            self.skipTest("there is no /dev/full here")
        self.python("-m", "sockproto", "keys", "new", "owner")
        with open("/dev/full", "w") as full:
            result = self.python("-m", "sockproto", "keys", "list", stdout=full)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "sockproto: system: [Errno 28] No space left on device\n")

    def test_interrupted(self) -> None:
        """SIGINT ends it with 130 and without a traceback."""
        code = (
            "import sys\n"
            "from sockproto.cli.command import command\n"
            "from sockproto.cli.main import Program, Subcommand\n"
            "@command('wait')\n"
            "def wait(options):\n"
            "    print('ready', flush=True)\n"
            "    sys.stdin.read()\n"
            "table = {'wait': Subcommand('__main__:wait', '')}\n"
            "Program('sockproto', table=table).main(['wait'])\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "ready\n")
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
        self.assertEqual((process.returncode, stderr.strip()), (130, ""))

    def test_imports(self) -> None:
        """The program's start imports nothing heavy, and no subcommand but the one that is used."""
        code = (
            "import sys; before = set(sys.modules)\n"
            "import sockproto.cli.main, sockproto.keyring\n"
            "print(*sorted(set(sys.modules) - before))"
        )
        result = self.python("-c", code)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        names = result.stdout.split()
        self.assertIn("sockproto.keyring", names)
        heavy = {"twisted", "zope", "cattrs", "tomlkit", "OpenSSL", "cryptography"}
        self.assertEqual([name for name in names if name.partition(".")[0] in heavy], [])
        subcommands = {each.target.partition(":")[0] for each in SUBCOMMANDS.values()}
        self.assertEqual(subcommands & set(names), set())
        self.assertNotIn("sockproto.keyring_edit", names)
