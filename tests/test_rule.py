"""Tests of a rule's own keys: where clients come from, shells, secrets, limits, accounts."""

from __future__ import annotations

import os
import pwd
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import ConfigurationError
from sockproto.server.config import read_configuration
from sockproto.services.command import accounts
from sockproto.services.command.accounts import Account, account_of, account_problems
from sockproto.services.command.parameters import Parameter
from sockproto.services.command.resource_limits import ResourceLimits
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules

TEXT = Parameter(pattern=r"[\s\S]*", leading_dash=True)

#: What a shell, a format, a path or a careless join of words would make something else of.
HOSTILE = (
    b"; reboot",
    b"$(reboot)",
    b"`reboot`",
    b"${IFS}",
    b"a && b || c",
    b"| tee /etc/passwd",
    b"> /etc/passwd",
    b"< /etc/passwd",
    b"a & b",
    b"'; reboot; '",
    b'"; reboot; "',
    b"\\",
    b"\\'",
    b"a\\ b",
    b"*",
    b"?[a-z]~",
    b"{a,b}",
    b"{word}",
    b"{{word}}",
    b"%s%n",
    b"%(word)s",
    b"$1",
    b"$0",
    b"$@",
    b"!!",
    b"#",
    b"--",
    b"-rf",
    b"--help",
    b"-",
    b"",
    b" ",
    b"  two  spaces  ",
    b"\t",
    b"\r",
    b"\x1b[31m",
    b"\x7f",
    b"\xff\xfe",
    b"\xc3\xbc",
    b"\xe2\x80\xae",
    b"../../etc/passwd",
    b"x" * 4000,
)


def named(*argv: str, **changes: Any) -> CommandRule:
    """A rule called ``c`` that ops may run."""
    return CommandRule(**{"name": "c", "argv": argv or ("true",), "allow": ("ops",), **changes})


class OriginTests(SynchronousTestCase):
    """``from``."""

    def allowed(self, origin: str | None, *rules: CommandRule, words: tuple[str, ...] = ("c",)):
        """Whether a client there may run something."""
        return CommandRules(rules).decide("ops", (), words, origin).allowed

    def test_networks(self) -> None:
        """A client in one of the networks is let in, any other refused; so is one behind a Unix
        socket, and one whose address is not known."""
        rule = named(origins=("10.0.0.0/8", "2001:db8::/32", "192.0.2.7"))
        for origin in ("10.1.2.3", "2001:db8::1", "192.0.2.7", "::ffff:10.9.9.9"):
            self.assertTrue(self.allowed(origin, rule), origin)
        for origin in ("11.0.0.1", "2001:db9::1", "192.0.2.8", "::ffff:11.0.0.1", "::1", "unix"):
            self.assertFalse(self.allowed(origin, rule), origin)
        self.assertFalse(self.allowed(None, rule))

    def test_unix(self) -> None:
        """``unix`` is a Unix socket, and no address."""
        rule = named(origins=("unix",))
        self.assertTrue(self.allowed("unix", rule))
        self.assertFalse(self.allowed("127.0.0.1", rule))
        self.assertFalse(self.allowed(None, rule))

    def test_anywhere(self) -> None:
        """Without ``from`` it does not matter."""
        for origin in ("unix", "fe80::1%eth0", None):
            self.assertTrue(self.allowed(origin, named()))

    def test_scope(self) -> None:
        """An address with a scope is matched by the address."""
        self.assertTrue(self.allowed("fe80::1%eth0", named(origins=("fe80::/10",))))

    def test_refusesForGood(self) -> None:
        """A named rule that would allow the identity from elsewhere leaves nothing to another."""
        free = CommandRule(argv="any", allow=("ops",))
        self.assertFalse(self.allowed("192.0.2.1", named(origins=("10.0.0.0/8",)), free))

    def test_oneOfSeveral(self) -> None:
        """Of the rules for any argv one that fits is enough."""
        inner = CommandRule(argv="any", allow=("ops",), origins=("10.0.0.0/8",))
        local = CommandRule(argv="any", allow=("ops",), origins=("unix",))
        self.assertTrue(self.allowed("unix", inner, local, words=("id",)))
        self.assertTrue(self.allowed("10.0.0.1", inner, local, words=("id",)))
        self.assertFalse(self.allowed("192.0.2.1", inner, local, words=("id",)))

    def test_reason(self) -> None:
        """The log is told the reason, and the client is not."""
        rules = CommandRules([named(origins=("10.0.0.0/8",))])
        decision = rules.decide("ops", (), ["c"], "192.0.2.1")
        self.assertEqual(decision.reason, "c: its from does not admit 192.0.2.1")
        self.assertEqual(decision.message, "'c' is not allowed")
        self.assertEqual(rules.listed("ops", (), "192.0.2.1"), ())
        self.assertEqual(len(rules.listed("ops", (), "10.0.0.1")), 1)

    def test_denyFirst(self) -> None:
        """``deny`` holds wherever the client is."""
        rule = named(origins=("10.0.0.0/8",), deny=("ops",))
        decision = CommandRules([rule]).decide("ops", (), ["c"], "192.0.2.1")
        self.assertIn("deny", decision.reason)


class ShellTests(SynchronousTestCase):
    """``shell = true``."""

    def test_any(self) -> None:
        """With any argv the client's words are a line, joined as ssh does it."""
        rules = CommandRules([CommandRule(argv="any", allow=("ops",), shell=True)])
        self.assertEqual(
            rules.decide("ops", (), ["ls *.log", "|", "wc -l"]).argv,
            (b"/bin/sh", b"-c", b"ls *.log | wc -l"),
        )
        self.assertFalse(rules.decide("ops", (), ["ls", "a\0b"]).allowed)

    def test_named(self) -> None:
        """A rule's own line has its parameters as ``$1`` and so on, and never in it."""
        rule = named('du -s -- "$1" | cut -f1', "{path}", shell=True, parameters={"path": TEXT})
        self.assertEqual(
            rule.bind([b"$(reboot)"])[0],
            (b"/bin/sh", b"-c", b'du -s -- "$1" | cut -f1', b"sh", b"$(reboot)"),
        )

    def test_wrong(self) -> None:
        """A placeholder in the line, and anything but parameters behind it, are errors."""
        for argv in (("ls {path}",), ("ls", "-l"), ("ls", "-l{path}")):
            parameters = {"path": TEXT} if "{path}" in "".join(argv) else {}
            self.assertRaises(ValueError, named, *argv, shell=True, parameters=parameters)


class ShownTests(SynchronousTestCase):
    """``log`` and ``secret``."""

    def rule(self, **changes: Any) -> CommandRule:
        return named(
            *("x", "{path}", "{token}"),
            parameters={"path": TEXT, "token": Parameter(pattern="[a-f0-9]{8}", secret=True)},
            **changes,
        )

    def test_log(self) -> None:
        """All, none, or those named; a secret never."""
        self.assertTrue(self.rule().shows("path"))
        self.assertFalse(self.rule().shows("token"))
        self.assertFalse(self.rule(log="none").shows("path"))
        self.assertTrue(self.rule(log=("path",)).shows("path"))
        self.assertFalse(self.rule(log=()).shows("path"))

    def test_wrong(self) -> None:
        """A parameter that is not there, or secret, cannot be named."""
        self.assertRaises(ValueError, self.rule, log=("nope",))
        self.assertRaises(ValueError, self.rule, log=("token",))

    def test_secretConstraint(self) -> None:
        """What a secret has to be is not told either."""
        decision = CommandRules([self.rule()]).decide("ops", (), ["c", "/", "guess"])
        self.assertEqual(decision.message, "c: token has to be what the rule expects")


class ConfigurationTests(SynchronousTestCase):
    """The keys in a file."""

    def read(self, keys: str) -> CommandRule:
        """A rule with some keys."""
        path = Path(self.mktemp())
        path.write_text(f'[[command]]\nname = "c"\nargv = ["true"]\nallow = ["ops"]\n{keys}\n')
        path.chmod(0o600)
        (rule,) = read_configuration(path).commands
        return rule

    def test_keys(self) -> None:
        """Each key as the documents have it."""
        rule = self.read(
            """
            from = ["10.0.0.0/8", "unix", "2001:db8::1"]
            user = "nobody"
            group = "daemon"
            groups = ["daemon", "12"]
            cwd = "/srv"
            umask = "022"
            nice = 10
            limits = { cpu = "2 min", address_space = "1 GiB", user_processes = 512, files = 64,
                       file_size = "5 MB", core = 0 }
            new_privileges = true
            shell = true
            tty = true
            log = "none"
        """.replace(",\n                       ", ", ")
        )
        self.assertEqual(
            [str(one) for one in rule.origins], ["10.0.0.0/8", "unix", "2001:db8::1/128"]
        )
        self.assertEqual(
            (rule.user, rule.group, rule.groups, rule.cwd, rule.umask, rule.nice),
            ("nobody", "daemon", ("daemon", "12"), "/srv", "022", 10),
        )
        self.assertEqual(
            rule.limits.table,
            (
                (resource.RLIMIT_CPU, 120, 121),
                (resource.RLIMIT_AS, 2**30, 2**30),
                (resource.RLIMIT_NPROC, 512, 512),
                (resource.RLIMIT_NOFILE, 64, 64),
                (resource.RLIMIT_FSIZE, 5_000_000, 5_000_000),
                (resource.RLIMIT_CORE, 0, 0),
            ),
        )
        self.assertEqual(
            (rule.new_privileges, rule.shell, rule.tty, rule.log), (True,) * 3 + ("none",)
        )

    def test_usual(self) -> None:
        """Without them nothing is set, no program gains rights, and there is no terminal."""
        rule = self.read("")
        self.assertEqual(rule.limits, ResourceLimits())
        self.assertEqual((rule.origins, rule.limits.table, rule.log), ((), (), "all"))
        self.assertFalse(rule.new_privileges or rule.shell or rule.tty)

    def test_wrong(self) -> None:
        """What cannot be is an error that names the key."""
        for keys, words in (
            ('from = ["10.0.0.1/8"]', "the network is 10.0.0.0/8"),
            ('from = ["here"]', 'or "unix"'),
            ("from = 5", "expected an array"),
            ('user = ""', "name of a user"),
            ("user = 0", "expected text"),
            ('group = "a b"', "name of a group"),
            ('groups = ["-x"]', "names of groups"),
            ("umask = 22", "expected text"),
            ('umask = "028"', "octal"),
            ('umask = "02222"', "octal"),
            ("nice = 20", "from -20 to 19"),
            ("nice = 1.5", "whole number"),
            ("limits = { cpu = 0 }", "at least 1"),
            ("limits = { files = 3 }", "at least 4"),
            ("limits = { memory = 5 }", "unknown key memory"),
            ('limits = "1 GiB"', "expected a table"),
            ('new_privileges = "no"', "true or false"),
            ('shell = "bash"', "true or false"),
            ('log = "some"', "an array of parameters"),
            ('log = ["path"]', "no parameter"),
            ('cwd = "srv"', "absolute"),
        ):
            message = str(self.assertRaises(ConfigurationError, self.read, keys))
            self.assertIn(words, message)
            self.assertIn(keys.split(" ", maxsplit=1)[0], message)


class AccountTests(SynchronousTestCase):
    """Users and groups."""

    def test_none(self) -> None:
        """A rule that says nothing of it changes nothing."""
        self.assertIsNone(account_of(named()))

    def test_user(self) -> None:
        """A user brings a group, groups, a home and a shell; what is named goes before."""
        root = pwd.getpwuid(0)
        account = account_of(named(user=root.pw_name))
        assert account is not None
        self.assertEqual((account.uid, account.gid), (0, root.pw_gid))
        self.assertEqual((account.name, account.home), (root.pw_name, root.pw_dir))
        account = account_of(named(user="0", group="12345", groups=("1", "2")))
        assert account is not None
        self.assertEqual((account.uid, account.gid, account.groups), (0, 12345, (1, 2)))

    def test_number(self) -> None:
        """A number without an entry is a user with the group of the same number, and no home."""
        self.assertEqual(
            account_of(named(user="987654")),
            Account(987654, 987654, (987654,), "987654", "/", "/bin/sh"),
        )

    def test_problems(self) -> None:
        """An unknown user or group is a problem anywhere, another one where users cannot be
        switched."""
        lines = account_problems([named(user="no-such-user"), named(groups=("no-such-group",))])
        self.assertIn("there is no user 'no-such-user'", lines[0])
        self.assertIn("there is no group 'no-such-group'", lines[1])
        own = str(os.geteuid()), str(os.getegid())
        self.patch(accounts, "_has", lambda capability: False)
        rules = [
            named(user="987654"),
            named(group="987654"),
            named(nice=-20),
            named(user=own[0], group=own[1]),
            named(nice=19),
        ]
        lines = account_problems(rules)
        self.assertEqual(len(lines), 3, lines)
        self.assertIn("runs as another user", lines[0])
        self.assertIn("nice -20", lines[2])
        self.patch(accounts, "_has", lambda capability: True)
        self.assertEqual(account_problems(rules), [])


class HostileTests(SynchronousTestCase):
    """The corpus, against a program that records the bytes of its arguments."""

    def recorded(self, argv: tuple[bytes, ...]) -> list[bytes]:
        """What a recorder that stands in an argv in the place of ``RECORD`` was given."""
        script = (
            "import os, sys; sys.stdout.buffer.write("
            "b'\\0'.join(map(os.fsencode, sys.argv[1:])) + b'\\0')"
        )
        recorder = (sys.executable.encode(), b"-I", b"-S", b"-c", script.encode())
        whole = tuple(
            part for word in argv for part in (recorder if word == b"RECORD" else (word,))
        )
        return subprocess.check_output(whole, cwd="/").split(b"\0")[:-1]

    def test_rest(self) -> None:
        """All of them as the rest of the words: each arrives as one argument, byte for byte."""
        rest = Parameter(pattern=r"[\s\S]*", leading_dash=True, rest=True)
        rule = named("RECORD", "{words}", parameters={"words": rest})
        argv, values = rule.bind(HOSTILE)
        self.assertEqual(self.recorded(argv), list(HOSTILE))
        self.assertEqual(values["words"], HOSTILE)

    def test_shell(self) -> None:
        """To a shell's line they come as ``"$@"``, and nothing of them is a part of it."""
        rest = Parameter(pattern=r"[\s\S]*", leading_dash=True, rest=True)
        rule = named("""printf '%s\\0' "$@\"""", "{words}", shell=True, parameters={"words": rest})
        argv, _values = rule.bind(HOSTILE)
        self.assertEqual(subprocess.check_output(argv, cwd="/").split(b"\0")[:-1], list(HOSTILE))

    def test_inWords(self) -> None:
        """Inside a word of the rule they stay inside it."""
        count = len(HOSTILE)
        names = [f"w{n}" for n in range(count)]
        rule = named(
            "RECORD",
            *(f"--{name}={{{name}}}" for name in names),
            parameters=dict.fromkeys(names, TEXT),
        )
        argv, _values = rule.bind(HOSTILE)
        self.assertEqual(
            self.recorded(argv),
            [f"--{name}=".encode() + word for name, word in zip(names, HOSTILE, strict=True)],
        )

    def test_never(self) -> None:
        """NUL and newline fit no parameter, whatever its pattern."""
        rule = named("x", "{word}", parameters={"word": TEXT})
        for word in (b"a\nb", b"a\n", b"\n", b"a\0b", b"\0"):
            self.assertFalse(CommandRules([rule]).decide("ops", (), [b"c", word]).allowed)
