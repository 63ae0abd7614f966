"""The agent's service ``command``: decides on requests, and keeps count of what runs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from sockproto.interfaces import IChannel, IChannelService
from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.services.command.auditing import CommandAudit
from sockproto.services.command.processes import ProcessHost
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules
from sockproto.services.command.running import RunningCommand
from sockproto.services.command.spawning import Spawning
from sockproto.wire.commands import CommandRequest

__all__ = ["CommandService"]

# Characters of a client's word in a log or a message.
_SHOWN = 128


@implementer(IChannelService)
class CommandService:
    """Runs commands for those whom the rules allow them.

    :param reactor: for pipes and timers.
    :param host: what spawns them.
    :param rules: who may run what; may be replaced while commands run.
    :param limits: how many at once, and what holds where a rule says nothing.
    :param audit: is told of everything; nobody is unless given.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        host: ProcessHost,
        rules: CommandRules,
        limits: Limits,
        audit: CommandAudit | None = None,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._rules = rules
        self._limits = limits
        self._spawning = Spawning(limits.kill_seconds)
        self._audit = CommandAudit() if audit is None else audit
        # Rules are known by their names, which a reload leaves; those without one by themselves.
        self._running: dict[RunningCommand, str | CommandRule] = {}
        self._perRule: Counter[str | CommandRule] = Counter()
        self._empty: list[Deferred[None]] = []

    @property
    def running(self) -> int:
        """How many commands have processes."""
        return len(self._running)

    def reconfigure(self, rules: CommandRules, limits: Limits) -> None:
        """Have other rules and limits hold for the commands to come."""
        self._rules = rules
        self._limits = limits
        self._spawning = Spawning(limits.kill_seconds)

    def open(self, channel: IChannel, request: Mapping[str, Any]) -> RunningCommand | None:
        """Run a command, or reject the channel.

        :raises InvalidRequest: the request is none.
        """
        asked = CommandRequest.decode(request)
        principal = channel.principal
        decision = self._rules.decide(
            principal.identity, principal.groups, asked.argv, principal.origin
        )
        rule = decision.rule
        code, message = decision.code, decision.message
        if decision.allowed:
            assert rule is not None
            code, message = self._objection(rule, asked)
        if code or rule is None:
            reason = message if decision.allowed else decision.reason
            self._audit.denied(principal, asked.argv, rule, self._rules.rules, code, reason)
            self._log.warn(
                "{identity} from {address} was refused {word}: {code}: {reason}",
                identity=principal.identity,
                address=principal.address,
                word=_shown(asked.argv[0]),
                code=code,
                reason=reason,
            )
            channel.reject(code, message)
            return None
        command = RunningCommand(
            self._reactor,
            self._host,
            self._spawning.spawn(rule, decision.argv, asked, principal),
            channel,
            label=_label(rule, decision.argv),
            timeout=min(filter(None, (rule.timeout, asked.timeout)), default=None),
            maxOutput=self._limits.output if rule.max_output is None else rule.max_output,
            drainSeconds=self._limits.drain_seconds,
            finishAlone=rule.on_disconnect == "finish",
            slotFree=self._slotFree,
            trail=self._audit.begin(principal, rule, decision),
        )
        self._running[command] = _key(rule)
        self._perRule[_key(rule)] += 1
        return command

    def _objection(self, rule: CommandRule, asked: CommandRequest) -> tuple[str, str]:
        """What speaks against a request that the rules allow: a code and a message, or nothing."""
        if len(self._running) >= self._limits.commands:
            return "busy", f"{len(self._running)} commands are running, which is the limit"
        if rule.concurrency is not None and self._perRule[_key(rule)] >= rule.concurrency:
            return "busy", f"{rule.label} is running {rule.concurrency} times, which is its limit"
        if asked.terminal is not None and not rule.tty:
            return "refused", f"{rule.label} does not run on a terminal"
        if asked.stdin and asked.terminal is None and rule.stdin == "none":
            return "refused", f"{rule.label} takes no input"
        if asked.cwd is not None and not rule.takes_any:
            return "refused", f"{rule.label} does not let the client choose the working directory"
        for name in asked.env:
            if not rule.passes(os.fsdecode(name)):
                return "refused", f"{rule.label} does not let the client set {_shown(name)}"
        return "", ""

    def _slotFree(self, command: RunningCommand) -> None:
        key = self._running.pop(command, None)
        if key is None:
            return
        self._perRule[key] -= 1
        if not self._perRule[key]:
            del self._perRule[key]
        if not self._running:
            waiting, self._empty = self._empty, []
            for deferred in waiting:
                deferred.callback(None)

    def endAll(self) -> None:
        """End every command that runs."""
        for command in list(self._running):
            command.end()

    def whenEmpty(self) -> Deferred[None]:
        """Fires once no command runs."""
        deferred: Deferred[None] = Deferred()
        if self._running:
            self._empty.append(deferred)
        else:
            deferred.callback(None)
        return deferred


def _key(rule: CommandRule) -> str | CommandRule:
    """What a rule's commands are counted under."""
    return rule if rule.name is None else rule.name


def _label(rule: CommandRule, argv: tuple[bytes, ...]) -> str:
    """What the log calls a command: its rule, and the program where the client chose it; never
    the arguments, which may hold what no log should."""
    return f"{_shown(argv[0])} by {rule.label}" if rule.takes_any else rule.label


def _shown(name: bytes) -> str:
    """A client's word as a log or a message may have it."""
    text = ascii(os.fsdecode(name[:_SHOWN]))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
