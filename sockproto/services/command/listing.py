"""The built-in command ``commands``: what its caller may run here, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from sockproto.interfaces import ICommand, IInvocation
from sockproto.services.command.parameters import Parameter, placeholders
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules
from sockproto.tables import aligned

__all__ = ["ListingCommand", "described"]


@implementer(ICommand)
class ListingCommand:
    """Lists the rules that allow the caller something, and says nothing of the others.

    :param rules: gives those in force.
    """

    def __init__(self, rules: Callable[[], CommandRules]) -> None:
        self._rules = rules

    async def __call__(self, invocation: IInvocation) -> None:
        """Write the list."""
        who = invocation.principal
        offered = self._rules().offered(who.identity, who.groups, who.origin)
        if "--json" in invocation.argv:
            commands = [described(rule) for rule in offered]
            await invocation.write(json.dumps({"commands": commands}) + "\n")
            return
        rows = [(_shown(rule), rule.summary) for rule in offered]
        await invocation.write(aligned([("COMMAND", "SUMMARY"), *rows]))


def described(rule: CommandRule) -> dict[str, Any]:
    """A rule as those may know it whom it allows something: what to ask for, and what holds then.

    Neither the program nor who else may run it is in there.
    """
    found: dict[str, Any] = {"name": rule.name, "any": rule.takes_any, "summary": rule.summary}
    found["parameters"] = [_described(name, rule.parameters[name]) for name in _order(rule)]
    found["stdin"] = rule.stdin == "stream"
    found["tty"] = rule.tty
    for key in ("timeout", "max_output", "fresh"):
        value = getattr(rule, key)
        if value is not None:
            found[key] = value
    if rule.pass_env:
        found["env"] = list(rule.pass_env)
    return found


def _described(name: str, parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "constraint": parameter.constraint,
        "rest": parameter.rest,
        "required": parameter.default is None and not parameter.rest,
    }
    if parameter.default is not None and not parameter.secret:
        found["default"] = str(parameter.default)
    return found


def _order(rule: CommandRule) -> tuple[str, ...]:
    return () if isinstance(rule.argv, str) else placeholders(rule.argv)


def _shown(rule: CommandRule) -> str:
    """What to type: the name, and the parameters as a manual has them."""
    if rule.takes_any:
        return "PROGRAM [WORD...]"
    words = [rule.label]
    for name in _order(rule):
        parameter = rule.parameters[name]
        shown = f"{name.upper()}..." if parameter.rest else name.upper()
        optional = parameter.rest or parameter.default is not None
        words.append(f"[{shown}]" if optional else shown)
    return " ".join(words)
