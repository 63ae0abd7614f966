"""Which words of a command the audit may show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sockproto.services.command.parameters import substitute
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import Decision

__all__ = ["MASK", "asked_words", "run_words"]

#: Stands for a word that is not shown, whatever its length was.
MASK = b"***"


def run_words(rule: CommandRule, decision: Decision) -> tuple[bytes, ...]:
    """The argv of a command that runs: what of it the client chose, as the rule's ``log`` has it.

    :param rule: the rule that allows it.
    :param decision: what came of asking for it.
    """
    argv = decision.argv
    if isinstance(rule.argv, str):
        if rule.log == "all":
            return argv
        # The program is no parameter, unless all of it is a line for a shell.
        kept = 2 if rule.shell else 1
        return argv[:kept] + (MASK,) * (len(argv) - kept)
    values = {
        name: words if rule.shows(name) else (MASK,) * len(words)
        for name, words in decision.values.items()
    }
    # The program is never a parameter; before it stands a shell, where the rule says so.
    shown = substitute(rule.argv[1:], values)
    return argv[: len(argv) - len(shown)] + shown


def asked_words(
    words: Sequence[bytes], rule: CommandRule | None, rules: Iterable[CommandRule]
) -> tuple[bytes, ...]:
    """The words of a request that came to nothing.

    Nobody knows what the client meant a word to be that fits no rule: it may be a password in the
    wrong place, or behind a name with a letter wrong. Where there is a rule with something to hide
    such words are masked, but for the first; and that too where it may be a whole line for a shell.

    :param words: all that the client sent.
    :param rule: the rule that it was meant for, if that is known.
    :param rules: all there are.
    """
    hiding = [
        each for each in (rules if rule is None or rule.takes_any else (rule,)) if _hides(each)
    ]
    if any(each.takes_any and each.shell for each in hiding):
        return (MASK,) * len(words)
    if hiding:
        return (*words[:1], *(MASK,) * (len(words) - 1))
    return tuple(words)


def _hides(rule: CommandRule) -> bool:
    """Whether a rule has words that the audit may not show."""
    if isinstance(rule.argv, str):
        return rule.log != "all"
    return any(not rule.shows(name) for name in rule.parameters)
