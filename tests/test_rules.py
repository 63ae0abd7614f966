"""Tests for :mod:`sockproto.services.command.rules` and what a rule is made of."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.services.command.parameters import Parameter, placeholders, substitute
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import OWNER_RULE, CommandRules

PATH = Parameter(pattern="/[A-Za-z0-9_./-]*")

HOSTILE = (
    "/var; reboot",
    "/var\nreboot",
    "/var\n",
    "\n/var",
    "/var\0",
    "$(reboot)",
    "/$(reboot)",
    "/`reboot`",
    "/var|reboot",
    "/var&",
    "/var > /etc/passwd",
    "/'",
    '/"',
    "/*",
    "/var\\",
    "/{path}",
    "-rf",
    "--",
    "",
    "/ü",
    "/\udcff",
)


def disk(**changes: Any) -> CommandRule:
    """The rule of the examples."""
    settings: dict[str, Any] = {
        "name": "disk",
        "argv": ("df", "-h", "{path}"),
        "allow": ("ops", "group:monitoring"),
        "parameters": {"path": PATH},
    }
    return CommandRule(**{**settings, **changes})


def anything(**changes: Any) -> CommandRule:
    """A rule for whoever may run any argv."""
    return CommandRule(**{"argv": "any", "allow": ("root",), **changes})


class DecideTests(SynchronousTestCase):
    """Who may run what."""

    def test_nothing(self) -> None:
        """Without rules nothing is allowed to anybody, owner included."""
        for identity in ("owner", "root", ""):
            decision = CommandRules(()).decide(identity, (), ["true"])
            self.assertFalse(decision.allowed)
            self.assertEqual((decision.code, decision.argv), ("refused", ()))

    def test_owner(self) -> None:
        """Without a configuration owner runs any argv, and no other identity runs one."""
        rules = CommandRules((), owner_unrestricted=True)
        decision = rules.decide("owner", (), ["sh", "-c", "a\nb", b"\xff"])
        self.assertTrue(decision.allowed)
        self.assertEqual(decision.argv, (b"sh", b"-c", b"a\nb", b"\xff"))
        self.assertIs(decision.rule, OWNER_RULE)
        for identity in ("tutorial", "Owner", "owner2", "group:owner"):
            self.assertFalse(rules.decide(identity, ("owner",), ["true"]).allowed)

    def test_named(self) -> None:
        """A named rule makes its own argv of the words."""
        rules = CommandRules([disk()])
        decision = rules.decide("ops", (), ["disk", "/var"])
        self.assertTrue(decision.allowed)
        self.assertEqual(decision.argv, (b"df", b"-h", b"/var"))
        self.assertEqual(decision.rule, disk())
        self.assertEqual(decision.values, {"path": (b"/var",)})

    def test_group(self) -> None:
        """group:NAME means the groups of the key, not an identity of that name."""
        rules = CommandRules([disk()])
        self.assertTrue(rules.decide("nagios", ("monitoring",), ["disk", "/"]).allowed)
        self.assertFalse(rules.decide("monitoring", (), ["disk", "/"]).allowed)
        self.assertFalse(rules.decide("nagios", ("ops",), ["disk", "/"]).allowed)

    def test_denyBeforeAllow(self) -> None:
        """Who is denied stays out, although a group of theirs is allowed."""
        rules = CommandRules([disk(deny=("nagios",))])
        self.assertFalse(rules.decide("nagios", ("monitoring",), ["disk", "/"]).allowed)
        self.assertTrue(rules.decide("icinga", ("monitoring",), ["disk", "/"]).allowed)
        rules = CommandRules([disk(deny=("group:monitoring",))])
        self.assertFalse(rules.decide("ops", ("monitoring",), ["disk", "/"]).allowed)

    def test_namedBeforeAny(self) -> None:
        """A named rule takes its name even from identities that may run any argv."""
        rules = CommandRules([anything(allow=("ops",)), disk()])
        self.assertEqual(rules.decide("ops", (), ["disk", "/"]).argv, (b"df", b"-h", b"/"))
        self.assertEqual(rules.decide("ops", (), ["disk", "-x"]).code, "refused")
        self.assertEqual(rules.decide("ops", (), ["df", "-x"]).argv, (b"df", b"-x"))

    def test_namedDenialIsFinal(self) -> None:
        """A rule that denies an identity its name does so whatever else the identity may run."""
        rules = CommandRules([disk(deny=("root",)), anything()])
        self.assertFalse(rules.decide("root", (), ["disk", "/"]).allowed)

    def test_anyWhereNamedIsSilent(self) -> None:
        """Where the named rule says nothing of an identity, a rule for any argv may."""
        rules = CommandRules([disk(), anything()])
        decision = rules.decide("root", (), ["disk", "/"])
        self.assertEqual(decision.argv, (b"disk", b"/"))

    def test_anyDenial(self) -> None:
        """Of the rules for any argv every denial counts, and none of them for named rules."""
        rules = CommandRules(
            [
                disk(allow=("group:staff",)),
                anything(allow=("group:staff",)),
                anything(allow=(), deny=("intern",)),
            ]
        )
        self.assertFalse(rules.decide("intern", ("staff",), ["id"]).allowed)
        self.assertTrue(rules.decide("intern", ("staff",), ["disk", "/"]).allowed)
        self.assertTrue(rules.decide("boss", ("staff",), ["id"]).allowed)

    def test_labelIsNoName(self) -> None:
        """The name of a rule for any argv is only a label."""
        rules = CommandRules([anything(name="shell")])
        self.assertEqual(rules.decide("root", (), ["shell", "-l"]).argv, (b"shell", b"-l"))

    def test_unknown(self) -> None:
        """Who may run something learns that a name is unknown, with the nearest of their own."""
        rules = CommandRules([disk(), disk(name="disc", allow=("root",))])
        decision = rules.decide("ops", (), ["disl"])
        self.assertEqual(decision.code, "unknown")
        self.assertIn("did you mean disk?", decision.message)
        self.assertEqual(rules.decide("ops", (), ["disc", "/"]).code, "refused")

    def test_strangersLearnNothing(self) -> None:
        """Who may run nothing gets the same words for a forbidden name and for an unknown one."""
        rules = CommandRules([disk(), anything(deny=("spy",))])
        told = set()
        for name in ("disk", "nope"):
            for identity in ("nobody", "spy"):
                decision = rules.decide(identity, (), [name, "/"])
                told.add((decision.code, decision.message.replace(name, "NAME")))
        self.assertEqual(told, {("refused", "'NAME' is not allowed")})

    def test_messagesAreEscaped(self) -> None:
        """What a client calls its command comes back escaped and short."""
        rules = CommandRules([disk()])
        for identity in ("ops", "nobody"):
            message = rules.decide(identity, (), ["\x1b[2J\r\n{}" + "x" * 9999]).message
            self.assertTrue(message.isprintable() and message.isascii(), message)
            self.assertLess(len(message), 200)

    def test_noCommand(self) -> None:
        """No words, an empty first word and a NUL are refused, for owner too."""
        rules = CommandRules((), owner_unrestricted=True)
        for words in ([], [""], [b""], ["a\0"], ["a", "b\0c"]):
            self.assertEqual(rules.decide("owner", (), words).code, "refused")

    def test_listed(self) -> None:
        """The rules that an identity may use, in order."""
        rules = CommandRules([disk(), disk(name="b", allow=()), anything(allow=("ops",))])
        self.assertEqual([r.label for r in rules.listed("ops")], ["disk", 'argv = "any"'])
        self.assertEqual(rules.listed("nobody", ("x",)), ())
        denied = CommandRules([disk(deny=("ops",))])
        self.assertEqual(denied.listed("ops"), ())
        self.assertEqual(denied.decide("ops", (), ["nope"]).code, "refused")

    @settings(deadline=None)
    @given(
        st.lists(
            st.builds(
                lambda name, allow, deny, free: (
                    anything(allow=tuple(allow), deny=tuple(deny))
                    if free
                    else CommandRule(name=name, argv=("x",), allow=tuple(allow), deny=tuple(deny))
                ),
                st.sampled_from("abc"),
                st.lists(st.sampled_from(["u", "v", "group:g"]), max_size=2),
                st.lists(st.sampled_from(["u", "v", "group:g"]), max_size=2),
                st.booleans(),
            ),
            max_size=4,
        ),
        st.sampled_from("uvw"),
        st.lists(st.just("g"), max_size=1),
        st.lists(st.sampled_from(["a", "b", "d"]), max_size=2),
    )
    def test_onlyWhatARuleAllows(
        self, rules: list[CommandRule], identity: str, groups: list[str], words: list[str]
    ) -> None:
        """Whatever the rules: what is allowed, the deciding rule allows and does not deny."""
        decision = CommandRules(rules).decide(identity, groups, words)
        if decision.allowed:
            assert decision.rule is not None
            self.assertTrue(decision.rule.admits(identity, groups, None))
            self.assertTrue(decision.rule.takes_any or decision.rule.name == words[0])
            self.assertTrue(decision.argv)
        else:
            self.assertIn(decision.code, ("refused", "unknown"))
            self.assertEqual(decision.argv, ())
            self.assertTrue(decision.message)


class BindTests(SynchronousTestCase):
    """Words become an argv."""

    def refusal(self, rule: CommandRule, *words: str) -> str:
        """The message for words that do not fit."""
        decision = CommandRules([rule]).decide("ops", (), [rule.name or "", *words])
        self.assertEqual((decision.allowed, decision.code), (False, "refused"))
        self.assertEqual(decision.rule, rule)
        return decision.message

    def argv(self, rule: CommandRule, *words: str) -> tuple[bytes, ...]:
        """The argv for words that fit."""
        decision = CommandRules([rule]).decide("ops", (), [rule.name or "", *words])
        self.assertTrue(decision.allowed, decision.message)
        return decision.argv

    def test_fixed(self) -> None:
        """A rule without placeholders takes no words."""
        rule = CommandRule(name="up", argv=("uptime", "-p"), allow=("ops",))
        self.assertEqual(self.argv(rule), (b"uptime", b"-p"))
        self.assertEqual(self.refusal(rule, "x"), "up: takes no words, not 1")

    def test_count(self) -> None:
        """Too few words name the parameter that is missing, too many are refused."""
        self.assertIn("path is missing", self.refusal(disk()))
        self.assertEqual(self.refusal(disk(), "/", "/"), "disk: takes 1 word, not 2")

    def test_hostile(self) -> None:
        """Values that a shell or an option parser would misread never pass nor are repeated."""
        for value in HOSTILE:
            message = self.refusal(disk(), value)
            self.assertTrue(message.startswith("disk: path "), message)
            if len(value) > 3:
                self.assertNotIn(value, message)

    def test_hostileWhereAllowed(self) -> None:
        """A pattern that allows everything still makes one word of it, and no newline or NUL."""
        rule = disk(parameters={"path": Parameter(pattern=r"[\s\S]*", leading_dash=True)})
        for value in HOSTILE:
            if "\n" in value or "\0" in value:
                self.refusal(rule, value)
            else:
                raw = value.encode("utf-8", "surrogateescape")
                self.assertEqual(self.argv(rule, value), (b"df", b"-h", raw))

    def test_order(self) -> None:
        """Words bind in the order of first appearance; a placeholder may come again."""
        word = Parameter(pattern="[a-z]+")
        rule = CommandRule(
            name="c",
            argv=("x", "--to={b}", "{a}", "{b}-{a}", "{{a}}", "{}", "{print $1}"),
            allow=("ops",),
            parameters={"a": word, "b": word},
        )
        self.assertEqual(
            self.argv(rule, "one", "two"),
            (b"x", b"--to=one", b"two", b"one-two", b"{a}", b"{}", b"{print $1}"),
        )

    def test_noSecondRound(self) -> None:
        """A value that looks like a placeholder is not filled in."""
        rule = CommandRule(
            name="c",
            argv=("x", "{a}{b}", "{a}"),
            allow=("ops",),
            parameters={"a": Parameter(pattern=".*"), "b": Parameter(pattern=".*")},
        )
        self.assertEqual(self.argv(rule, "{b}", "{a}"), (b"x", b"{b}{a}", b"{b}"))

    def test_choices(self) -> None:
        """Only the choices, and one that begins with a dash since it is declared."""
        rule = disk(parameters={"path": Parameter(choices=("-h", "start"))})
        self.assertEqual(self.argv(rule, "-h")[2], b"-h")
        self.assertEqual(self.refusal(rule, "star"), "disk: path has to be one of -h, start")

    def test_integer(self) -> None:
        """Decimal digits within the range; a minus only where the range goes below 0."""
        rule = disk(parameters={"path": Parameter(type="integer", max=10)})
        self.assertEqual(self.argv(rule, "10")[2], b"10")
        for value in ("11", "-1", "-0", "1.0", "1e1", "0x1", "", "+1", " 1", "\u0661", "9" * 5000):
            self.assertIn(
                "an integer from 0 to 10",
                self.refusal(rule, value)
                + (" an integer from 0 to 10" if len(value) > 4096 else ""),
            )
        rule = disk(parameters={"path": Parameter(type="integer", min=-5)})
        self.assertEqual(self.argv(rule, "-5")[2], b"-5")
        self.assertIn("an integer of -5 or more", self.refusal(rule, "-6"))

    def test_whole(self) -> None:
        """A pattern matches the whole value, its digits and letters are ASCII."""
        rule = disk(parameters={"path": Parameter(pattern=r"a|ab\d")})
        self.assertEqual(self.argv(rule, "ab1")[2], b"ab1")
        for value in ("ab", "aa", "xa", "ab\u0661"):
            self.refusal(rule, value)

    def test_default(self) -> None:
        """A parameter with a default may be left out at the end."""
        rule = disk(parameters={"path": attrs.evolve(PATH, default="/srv")})
        self.assertEqual(self.argv(rule), (b"df", b"-h", b"/srv"))
        self.assertEqual(self.argv(rule, "/"), (b"df", b"-h", b"/"))

    def test_rest(self) -> None:
        """rest takes all remaining words, each by the pattern, also none."""
        rule = disk(parameters={"path": attrs.evolve(PATH, rest=True)})
        self.assertEqual(self.argv(rule), (b"df", b"-h"))
        self.assertEqual(self.argv(rule, "/a", "/b"), (b"df", b"-h", b"/a", b"/b"))
        self.refusal(rule, "/a", "-x")

    def test_long(self) -> None:
        """A value longer than any path is refused before a pattern sees it."""
        self.assertEqual(len(self.argv(disk(), "/" * 4096)[2]), 4096)
        self.assertIn("longer than 4096", self.refusal(disk(), "/" * 4097))

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=40), max_size=4))
    def test_anyBytes(self, words: list[bytes]) -> None:
        """Whatever the words are, what runs has exactly the words of the rule and one value."""
        decision = CommandRules([disk()]).decide("ops", (), [b"disk", *words])
        if decision.allowed:
            self.assertEqual(decision.argv, (b"df", b"-h", *words))
            self.assertRegex(words[0], rb"\A/[A-Za-z0-9_./-]*\Z")

    @settings(deadline=None)
    @given(st.text(alphabet="{}ab-", max_size=30))
    def test_templates(self, word: str) -> None:
        """Filling in every placeholder with its own text changes nothing."""
        values = {name: (f"{{{name}}}".encode(),) for name in placeholders([word])}
        filled = b"".join(substitute([word], values)).decode()
        if "{{" not in word:
            self.assertEqual(filled, word)


class RuleTests(SynchronousTestCase):
    """Rules that contradict themselves are refused."""

    def wrong(self, fragment: str, **changes: Any) -> None:
        """The rule is refused with these words."""
        error = self.assertRaises(ValueError, disk, **changes)
        self.assertIn(fragment, str(error))

    def test_argv(self) -> None:
        """An argv has a program, which no client chooses, and words without NUL."""
        self.wrong("at least the program", argv=())
        self.wrong("at least the program", argv=("", "x"))
        self.wrong("NUL", argv=("df", "a\0"))
        self.wrong("the program cannot be a parameter", argv=("{path}",))
        self.wrong('or "any"', argv="df")

    def test_placeholders(self) -> None:
        """A placeholder has a parameter, and a parameter a placeholder."""
        self.wrong("there is no [command.parameters.path]", parameters={})
        self.wrong("argv has no {file}", parameters={"path": PATH, "file": PATH})
        self.wrong("no meaning", argv="any")

    def test_names(self) -> None:
        """Names, identities, variables and paths have a form."""
        for name in ("", "-x", "a b", "a/b", "x" * 65, "a\n", ".x", "ü"):
            self.wrong("expected a name", name=name)
        self.wrong("name is required", name=None)
        for who in ("", "a b", "group:", "*", "group:a:b", "a\n"):
            self.wrong("expected identities", allow=(who,))
            self.wrong("expected identities", deny=(who,))
        self.wrong("absolute path", cwd="tmp")
        self.wrong("names of variables", env={"A=B": "x"})
        self.wrong("NUL", env={"A": "x\0"})
        self.wrong("names of variables", pass_env=("A=B",))
        self.wrong("timeout has to be more than 0", timeout=0)
        self.wrong("concurrency has to be more than 0", concurrency=0)

    def test_restAndDefaults(self) -> None:
        """Optional parameters come last, and rest after all of them as a whole word."""
        two = {"argv": ("x", "{a}", "{b}")}
        optional = Parameter(pattern="x", default="x")
        plain = Parameter(pattern="x")
        rest = Parameter(pattern="x", rest=True)
        self.wrong("b needs a default", **two, parameters={"a": optional, "b": plain})
        self.wrong("rest is for the last", **two, parameters={"a": rest, "b": plain})
        self.wrong("a whole word", argv=("x", "--a={a}"), parameters={"a": rest})
        disk(**two, parameters={"a": optional, "b": rest})

    def test_parameters(self) -> None:
        """A parameter is of exactly one kind, and its default fits it."""
        for fragment, table in (
            ("exactly one", {}),
            ("exactly one", {"pattern": "x", "choices": ("x",)}),
            ("no regular expression", {"pattern": "("}),
            ("no regular expression", {"pattern": "(?u)x"}),
            ("at least one", {"choices": ()}),
            ('type = "integer" only', {"pattern": "x", "min": 1}),
            ("under min", {"type": "integer", "min": 2, "max": 1}),
            ("under min", {"type": "integer", "max": -1}),
            ("default has to be", {"pattern": "x", "default": "y"}),
            ("default must not begin", {"pattern": ".*", "default": "-y"}),
            ("default has no meaning", {"pattern": "x", "default": "x", "rest": True}),
        ):
            error = self.assertRaises(ValueError, Parameter, **table)
            self.assertIn(fragment, str(error))

    def test_passes(self) -> None:
        """A client sets the variables that pass_env names, by pattern, and no others."""
        rule = disk(pass_env=("TZ", "LC_*"))
        for name, expected in (
            ("TZ", True),
            ("LC_ALL", True),
            ("LC_", True),
            ("LD_PRELOAD", False),
            ("TZX", False),
            ("tz", False),
            ("LC_=x", False),
            ("LC_\0", False),
            ("LC_\n", False),
        ):
            self.assertIs(rule.passes(name), expected, name)
        self.assertFalse(disk().passes("TZ"))
        self.assertTrue(OWNER_RULE.passes("LD_PRELOAD"))
        for name in ("SOCKPROTO_IDENTITY", "REMOTE_USER", "SSH_ORIGINAL_COMMAND"):
            # Who asked is not for a client to say.
            self.assertFalse(OWNER_RULE.passes(name))
