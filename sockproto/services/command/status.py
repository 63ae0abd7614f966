"""The built-in command ``status``: what the server is doing, as far as its caller may know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from sockproto.auth.principal import Principal
from sockproto.interfaces import ICommand, IInvocation
from sockproto.services.command.counts import Counts
from sockproto.services.command.fresh import FreshResults
from sockproto.services.command.rules import CommandRules
from sockproto.tables import aligned, duration

__all__ = ["StatusCommand"]


@implementer(ICommand)
class StatusCommand:
    """Tells callers of their own sessions and commands, and of all to whom a rule gives ``--all``
    as a word of ``argv``, or any program.

    :param clock: the reactor.
    :param rules: gives those in force.
    :param counts: what runs, and how much there was.
    :param fresh: which results were shared.
    :param sessions: gives who is connected, if that is known.
    """

    def __init__(
        self,
        clock: IReactorTime,
        rules: Callable[[], CommandRules],
        counts: Counts,
        fresh: FreshResults,
        sessions: Callable[[], Iterable[Principal]] | None,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._counts = counts
        self._fresh = fresh
        self._sessions = sessions
        self._begun = clock.seconds()

    async def __call__(self, invocation: IInvocation) -> None:
        """Write it."""
        who = invocation.principal
        everything = "--all" in invocation.argv or self._rules().unrestricted(
            who.identity, who.groups, who.origin
        )
        found = self._found(who, everything)
        as_json = "--json" in invocation.argv
        await invocation.write(json.dumps(found) + "\n" if as_json else _text(found))

    def _found(self, who: Principal, everything: bool) -> dict[str, Any]:
        """What the caller may know."""
        now = self._clock.seconds()
        found: dict[str, Any] = {
            "server_id": who.login.server_id,
            "version": _version(),
            "uptime": round(now - self._begun, 3),
            "scope": "all" if everything else who.identity,
        }
        if self._sessions is not None:
            sessions = [each for each in self._sessions() if _visible(each, who, everything)]
            found["sessions"] = [
                {
                    "identity": each.identity,
                    "address": each.address,
                    "session": each.login.session_id.hex(),
                }
                for each in sessions
            ]
        found["running"] = [
            {
                "command": slot.rule.label,
                "identity": slot.principal.identity,
                "address": slot.principal.address,
                "seconds": round(now - slot.since, 3),
            }
            for slot in self._counts
            if _visible(slot.principal, who, everything)
        ]
        if everything:
            found["started"] = self._counts.started
            found["refused"] = self._counts.refused
            found["shared"] = self._fresh.shared
        return found


def _visible(principal: Principal, who: Principal, everything: bool) -> bool:
    return everything or principal.identity == who.identity


def _version() -> str | None:
    try:
        return metadata.version("sockproto")
    except metadata.PackageNotFoundError:
        return None


def _text(found: dict[str, Any]) -> str:
    """The same for people."""
    whose = "" if found["scope"] == "all" else f" of {found['scope']}"
    server = f"{found['server_id']}, sockproto {found['version'] or '(not installed)'}"
    rows = [("server", server), ("up", duration(found["uptime"]))]
    if "sessions" in found:
        rows.append(("sessions" + whose, str(len(found["sessions"]))))
    rows.append(("running" + whose, str(len(found["running"]))))
    rows += [(name, str(found[name])) for name in ("started", "refused", "shared") if name in found]
    text = aligned(rows)
    if not found["running"]:
        return text
    running = [
        (each["command"], each["identity"], each["address"], duration(each["seconds"]))
        for each in found["running"]
    ]
    return f"{text}\n{aligned([('COMMAND', 'IDENTITY', 'ADDRESS', 'FOR'), *running])}"
