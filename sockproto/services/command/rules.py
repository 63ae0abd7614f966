"""Who may run what: finds the rule for an identity and its words, and the argv."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

from attrs import field, frozen

from sockproto.services.command.rule import CommandRule, Unfit

__all__ = ["OWNER_RULE", "CommandRules", "Decision"]

#: What ``owner`` may do where no configuration file says anything: who can read that key is this
#: Unix user already.
OWNER_RULE = CommandRule(
    argv="any",
    summary="Any program (there is no configuration file)",
    allow=("owner",),
    stdin="stream",
    pass_env=("*",),
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


class CommandRules:
    """The rules in force. Nothing is allowed that none of them allows.

    The rule that has the first word as its name is asked first, then, together, the rules with
    ``argv = "any"``. Of either the denials are looked at before the permissions.

    :param rules: in the order of the configuration; their names are unique.
    :param owner_unrestricted: whether :data:`OWNER_RULE` holds too; for servers without a
        configuration.
    """

    def __init__(self, rules: Iterable[CommandRule], owner_unrestricted: bool = False) -> None:
        self.rules = (*rules, OWNER_RULE) if owner_unrestricted else tuple(rules)
        self._named = {
            rule.name: rule for rule in self.rules if rule.name is not None and not rule.takes_any
        }
        self._any = tuple(rule for rule in self.rules if rule.takes_any)

    def listed(self, identity: str, groups: Collection[str] = ()) -> tuple[CommandRule, ...]:
        """The rules that allow this identity something, in order."""
        return tuple(rule for rule in self.rules if rule.admits(identity, groups))

    def decide(
        self, identity: str, groups: Collection[str], words: Sequence[bytes | str]
    ) -> Decision:
        """Decide on a request.

        :param identity: whose login it is, from the keyring.
        :param groups: the groups of that key.
        :param words: what the client asks for: the name of a rule and its parameters, or an argv.
            Text stands for its UTF-8 bytes, with lone bytes as ``os.fsdecode`` writes them.
        """
        argv = tuple(_encode(word) for word in words)
        if not argv or not argv[0]:
            return self._refuse(None, "there is no command", "no first word")
        name = argv[0].decode("utf-8", "surrogateescape")
        named = self._named.get(name)
        if named is not None:
            if named.denies(identity, groups):
                return self._forbid(named, identity, groups, name, "its deny names the identity")
            if named.allows(identity, groups):
                return self._bind(named, name, argv[1:])
        for rule in self._any:
            if rule.denies(identity, groups):
                return self._forbid(rule, identity, groups, name, "its deny names the identity")
        for rule in self._any:
            if rule.allows(identity, groups):
                return self._take(rule, argv)
        if named is not None:
            return self._forbid(
                named, identity, groups, name, "its allow does not name the identity"
            )
        return self._forbid(None, identity, groups, name, "no rule has that name")

    def _take(self, rule: CommandRule, argv: tuple[bytes, ...]) -> Decision:
        """Let a rule for any argv that allows the identity take this one."""
        if any(b"\0" in word for word in argv):
            message = "a word holds a NUL byte, which no argument can"
            return self._refuse(rule, message, "a word holds a NUL byte")
        reason = f"{rule.label} allows the identity"
        return Decision(True, rule, argv, message=rule.label, reason=reason)

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

    def _forbid(
        self,
        rule: CommandRule | None,
        identity: str,
        groups: Collection[str],
        name: str,
        reason: str,
    ) -> Decision:
        """Refuse; only who may run something learns whether a name is unknown or forbidden."""
        listed = self.listed(identity, groups)
        if rule is None and listed:
            names = [one.name for one in listed if one.name is not None]
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            message = f"there is no command {_shown(name)}{hint}"
            return Decision(False, None, (), "unknown", message, reason)
        return self._refuse(rule, f"{_shown(name)} is not allowed", reason)

    def _refuse(self, rule: CommandRule | None, message: str, reason: str) -> Decision:
        """A refusal, with the rule that decided."""
        label = f"{rule.label}: " if rule is not None else ""
        return Decision(False, rule, (), "refused", message, label + reason)


def _encode(word: bytes | str) -> bytes:
    """The bytes of a word."""
    return word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")


def _shown(name: str) -> str:
    """A name from the client as a message may have it: escaped and short."""
    return ascii(name if len(name) <= 64 else name[:64] + "...")
