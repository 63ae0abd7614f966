"""Who may run what: finds the rule for an identity and its words, and the argv."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

from attrs import field, frozen

from sockproto.services.command.parameters import Parameter
from sockproto.services.command.rule import CommandRule, Unfit

__all__ = ["BUILT_IN_RULES", "OWNER_RULE", "CommandRules", "Decision"]

#: What ``owner`` may do where no configuration file says anything: who can read that key is this
#: Unix user already.
OWNER_RULE = CommandRule(
    argv="any",
    summary="Any program (there is no configuration file)",
    allow=("owner",),
    stdin="stream",
    tty=True,
    # As for the Unix user themselves.
    new_privileges=True,
    pass_env=("*",),
)


@frozen(kw_only=True, cache_hash=True)
class _OpenRule(CommandRule):
    """A rule that allows everybody who is not denied."""

    def allows(self, identity: str, groups: Collection[str]) -> bool:
        """It allows everybody."""
        return True


def _built_in(name: str, summary: str) -> CommandRule:
    return _OpenRule(
        name=name,
        python=True,
        argv=(name, "{options}"),
        summary=summary,
        # The clients of the tutorial services, who have not logged in.
        deny=("tutorial",),
        timeout=30,
        parameters={"options": Parameter(choices=("--json",), rest=True)},
    )


#: What everybody may run who may log in, unless a rule of the same name says otherwise.
BUILT_IN_RULES = (
    _built_in("commands", "The commands that you may run"),
    _built_in("status", "What the server is doing"),
)


@frozen
class Decision:
    """What came of a request.

    :ivar allowed: whether it may run.
    :ivar rule: the rule that decided; ``None`` if none did.
    :ivar argv: what to execute, without a shell; empty unless allowed.
    :ivar code: ``refused`` or ``unknown``; empty if allowed.
    :ivar message: why, fit to be sent to the client; if allowed, what the rule is called.
    :ivar reason: why, for the log, the audit and ``sockproto check``: never for the client.
    :ivar values: the words that each parameter got, for the audit.
    """

    allowed: bool
    rule: CommandRule | None = None
    argv: tuple[bytes, ...] = ()
    code: str = ""
    message: str = ""
    reason: str = ""
    values: dict[str, tuple[bytes, ...]] = field(factory=dict, hash=False)


@frozen
class _Asker:
    """Who wants something, and from where."""

    identity: str
    groups: Collection[str]
    origin: str | None


class CommandRules:
    """The rules in force. Nothing is allowed that none of them allows.

    The rule that has the first word as its name is asked first, then, together, the rules with
    ``argv = "any"``. Of either the denials are looked at before the permissions. A rule that allows
    an identity, but not from where its client is, refuses; of several for any argv one is enough.

    :param rules: in the order of the configuration; their names are unique.
    :param owner_unrestricted: whether :data:`OWNER_RULE` holds too; for servers without a
        configuration.
    """

    def __init__(self, rules: Iterable[CommandRule], owner_unrestricted: bool = False) -> None:
        self.rules = (*rules, OWNER_RULE) if owner_unrestricted else tuple(rules)
        self._named = {
            rule.name: rule
            for rule in (*BUILT_IN_RULES, *self.rules)
            if rule.name is not None and not rule.takes_any
        }
        self._any = tuple(rule for rule in self.rules if rule.takes_any)

    def listed(
        self, identity: str, groups: Collection[str] = (), origin: str | None = None
    ) -> tuple[CommandRule, ...]:
        """The rules that allow this identity something from there, in order, but for the built-in
        ones."""
        return tuple(rule for rule in self.rules if rule.admits(identity, groups, origin))

    def offered(
        self, identity: str, groups: Collection[str] = (), origin: str | None = None
    ) -> tuple[CommandRule, ...]:
        """All that this identity may run from there: the rules, then the built-in ones that no
        rule takes the place of."""
        standing = (rule for rule in BUILT_IN_RULES if rule is self._named.get(rule.label))
        own = (rule for rule in standing if rule.admits(identity, groups, origin))
        return (*self.listed(identity, groups, origin), *own)

    def unrestricted(
        self, identity: str, groups: Collection[str] = (), origin: str | None = None
    ) -> bool:
        """Whether this identity may run any program from there."""
        return not any(rule.denies(identity, groups) for rule in self._any) and any(
            rule.admits(identity, groups, origin) for rule in self._any
        )

    def decide(
        self,
        identity: str,
        groups: Collection[str],
        words: Sequence[bytes | str],
        origin: str | None = None,
    ) -> Decision:
        """Decide on a request.

        :param identity: whose login it is, from the keyring.
        :param groups: the groups of that key.
        :param words: what the client asks for: the name of a rule and its parameters, or an argv.
            Text stands for its UTF-8 bytes, with lone bytes as ``os.fsdecode`` writes them.
        :param origin: where the client is: an IP address, or ``unix``; ``None``: not known, and
            then a rule that has a ``from`` does not allow it.
        """
        argv = tuple(_encode(word) for word in words)
        if not argv or not argv[0]:
            return self._refuse(None, "there is no command", "no first word")
        name = argv[0].decode("utf-8", "surrogateescape")
        asker = _Asker(identity, groups, origin)
        named = self._named.get(name)
        if named is not None:
            if named.denies(identity, groups):
                return self._forbid(named, asker, name, "its deny names the identity")
            if named.allows(identity, groups):
                if not named.admits_from(origin):
                    return self._forbid(named, asker, name, _elsewhere(origin))
                return self._bind(named, name, argv[1:])
        for rule in self._any:
            if rule.denies(identity, groups):
                return self._forbid(rule, asker, name, "its deny names the identity")
        allowing = [rule for rule in self._any if rule.allows(identity, groups)]
        for rule in allowing:
            if rule.admits_from(origin):
                return self._take(rule, argv)
        if allowing:
            return self._forbid(allowing[0], asker, name, _elsewhere(origin))
        if named is not None:
            return self._forbid(named, asker, name, "its allow does not name the identity")
        return self._forbid(None, asker, name, "no rule has that name")

    def _take(self, rule: CommandRule, argv: tuple[bytes, ...]) -> Decision:
        """Let a rule for any argv that allows the identity take this one."""
        if any(b"\0" in word for word in argv):
            message = "a word holds a NUL byte, which no argument can"
            return self._refuse(rule, message, "a word holds a NUL byte")
        reason = f"{rule.label} allows the identity"
        return Decision(True, rule, rule.take(argv), message=rule.label, reason=reason)

    def _bind(self, rule: CommandRule, name: str, words: tuple[bytes, ...]) -> Decision:
        """Let a named rule that allows the identity take the words."""
        try:
            argv, values = rule.bind(words)
        except Unfit as error:
            return self._refuse(rule, f"{name}: {error}", "the words do not fit its parameters")
        return Decision(
            True,
            rule,
            argv,
            message=rule.label,
            reason=f"{rule.label} allows the identity",
            values=values,
        )

    def _forbid(self, rule: CommandRule | None, asker: _Asker, name: str, reason: str) -> Decision:
        """Refuse; only who may run something, and list it, learns whether a name is unknown or
        forbidden."""
        who = (asker.identity, asker.groups, asker.origin)
        listing = self._named["commands"]
        may_list = listing in BUILT_IN_RULES or listing.admits(*who)
        if rule is None and may_list and self.listed(*who):
            names = [one.name for one in self.offered(*who) if one.name is not None]
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            message = f"there is no command {_shown(name)}{hint}"
            return Decision(False, None, (), "unknown", message, reason)
        return self._refuse(rule, f"{_shown(name)} is not allowed", reason)

    def _refuse(self, rule: CommandRule | None, message: str, reason: str) -> Decision:
        """A refusal, with the rule that decided."""
        label = f"{rule.label}: " if rule is not None else ""
        return Decision(False, rule, (), "refused", message, label + reason)


def _elsewhere(origin: str | None) -> str:
    """Why a client's address speaks against it."""
    found = "an address that is not known" if origin is None else origin
    return f"its from does not admit {found}"


def _encode(word: bytes | str) -> bytes:
    """The bytes of a word."""
    return word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")


def _shown(name: str) -> str:
    """A name from the client as a message may have it: escaped and short."""
    return ascii(name if len(name) <= 64 else name[:64] + "...")
