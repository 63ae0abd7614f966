"""The agent's service ``command``: decides on requests, and starts what answers them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from sockproto.auth.principal import Principal
from sockproto.interfaces import IChannel, IChannelService, IServedChannel
from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.services.command.audit_words import asked_words
from sockproto.services.command.auditing import CommandAudit, Trail
from sockproto.services.command.calls import RunningCall
from sockproto.services.command.counts import Counts, Slot
from sockproto.services.command.fresh import FreshResults, Question
from sockproto.services.command.invocation import PythonCommand
from sockproto.services.command.listing import ListingCommand
from sockproto.services.command.processes import ProcessHost
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules, Decision
from sockproto.services.command.running import RunningCommand
from sockproto.services.command.spawning import Spawning
from sockproto.services.command.status import StatusCommand
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
    :param commands: commands in Python by their names, which rules with ``python`` allow; one that
        is called like a built-in one takes its place.
    :param sessions: gives who is connected, for the built-in ``status``.
    :param audit: is told of everything; nobody is unless given.
    :ivar counts: what runs.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        host: ProcessHost,
        rules: CommandRules,
        limits: Limits,
        audit: CommandAudit | None = None,
        *,
        commands: Mapping[str, PythonCommand] | None = None,
        sessions: Callable[[], Iterable[Principal]] | None = None,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._rules = rules
        self._limits = limits
        self._spawning = Spawning(limits.kill_seconds)
        self._audit = CommandAudit() if audit is None else audit
        self._fresh = FreshResults(reactor, limits)
        self.counts = Counts()
        self._commands: dict[str, PythonCommand] = {
            "commands": ListingCommand(lambda: self._rules),
            "status": StatusCommand(
                reactor, lambda: self._rules, self.counts, self._fresh, sessions
            ),
            **(commands or {}),
        }
        self._warnOfMissing()

    @property
    def running(self) -> int:
        """How many commands have processes, or have been called."""
        return len(self.counts)

    def reconfigure(self, rules: CommandRules, limits: Limits) -> None:
        """Have other rules and limits hold for the commands to come."""
        self._rules = rules
        self._limits = limits
        self._spawning = Spawning(limits.kill_seconds)
        self._fresh.reconfigure(limits)
        self._warnOfMissing()

    def _warnOfMissing(self) -> None:
        for rule in self._rules.rules:
            if rule.python and rule.argv[0] not in self._commands:
                self._log.warn(
                    "[[command]] {rule}: there is no command {name} in Python here",
                    rule=rule.label,
                    name=rule.argv[0],
                )

    def open(self, channel: IChannel, request: Mapping[str, Any]) -> IServedChannel | None:
        """Run a command, or reject the channel.

        :raises InvalidRequest: the request is none.
        """
        asked = CommandRequest.decode(request)
        principal = channel.principal
        decision = self._rules.decide(
            principal.identity, principal.groups, asked.argv, principal.origin
        )
        rule = decision.rule
        if not decision.allowed or rule is None:
            code, message, reason = decision.code, decision.message, decision.reason
            self._reject(channel, asked, rule, code, message, reason)
            return None
        objection = _objection(rule, asked)
        if objection:
            self._reject(channel, asked, rule, "refused", objection)
            return None
        start = partial(self._start, rule, decision, asked)
        if rule.fresh is None or asked.env or asked.cwd is not None:
            return start(channel, asked.timeout, None)
        most = rule.max_output
        question = Question(
            rule, decision.argv, rule.fresh, self._limits.fresh_output if most is None else most
        )
        audited = partial(self._audit.begin, principal, rule, decision)
        return self._fresh.serve(question, channel, asked.timeout, start, audited)

    def _start(
        self,
        rule: CommandRule,
        decision: Decision,
        asked: CommandRequest,
        channel: IChannel,
        timeout: float | None,
        trail: Trail | None,
    ) -> RunningCommand | RunningCall | None:
        """Start what was asked for, unless too much runs already.

        :param timeout: seconds that the client gives it, if it says so.
        :param trail: where the audit has it already.
        """
        busy = self._busy(rule)
        if busy:
            self._reject(channel, asked, rule, "busy", busy, trail=trail)
            return None
        found = self._commands.get(str(rule.argv[0])) if rule.python else None
        if rule.python and found is None:
            message = f"{rule.label} is not a part of this server"
            self._reject(channel, asked, rule, "not-found", message, trail=trail)
            return None
        # Before anything runs, so that nothing can run without it.
        trail = trail or self._audit.begin(channel.principal, rule, decision)
        most = self._limits.output if rule.max_output is None else rule.max_output
        common: dict[str, Any] = {
            "timeout": min(filter(None, (rule.timeout, timeout)), default=None),
            "maxOutput": most,
            "finishAlone": rule.on_disconnect == "finish",
            "slotFree": self.counts.free,
            "trail": trail,
        }
        command: RunningCommand | RunningCall
        try:
            if found is not None:
                command = RunningCall(
                    self._reactor,
                    found,
                    channel,
                    argv=decision.argv,
                    values=decision.values,
                    label=rule.label,
                    stdin=asked.stdin,
                    grace=self._limits.kill_seconds,
                    **common,
                )
            else:
                command = RunningCommand(
                    self._reactor,
                    self._host,
                    self._spawning.spawn(rule, decision.argv, asked, channel.principal),
                    channel,
                    label=_label(rule, decision.argv),
                    drainSeconds=self._limits.drain_seconds,
                    **common,
                )
        except BaseException:
            trail.failed("internal")
            raise
        self.counts.take(command, Slot(rule, channel.principal, self._reactor.seconds()))
        return command

    def _busy(self, rule: CommandRule) -> str:
        """Why nothing can be started for a rule now; empty if something can."""
        if self.running >= self._limits.commands:
            return f"{self.running} commands are running, which is the limit"
        if rule.concurrency is not None and self.counts.of(rule) >= rule.concurrency:
            return f"{rule.label} is running {rule.concurrency} times, which is its limit"
        return ""

    def _reject(
        self,
        channel: IChannel,
        asked: CommandRequest,
        rule: CommandRule | None,
        code: str,
        message: str,
        reason: str = "",
        trail: Trail | None = None,
    ) -> None:
        """Refuse a request.

        :param reason: what the log and the audit have, where the client is not to know it.
        :param trail: where the audit has the request as one that was granted.
        """
        self.counts.refused += 1
        reason = reason or message
        principal = channel.principal
        if trail is None:
            self._audit.denied(principal, asked.argv, rule, self._rules.rules, code, reason)
        else:
            trail.failed(code)
        self._log.warn(
            "{identity} from {address} was refused {word}: {code}: {reason}",
            identity=principal.identity,
            address=principal.address,
            word=_shown(asked_words(asked.argv, rule, self._rules.rules)[0]),
            code=code,
            reason=reason,
        )
        channel.reject(code, message)

    def endAll(self) -> None:
        """End every command that runs, and forget all results."""
        self._fresh.clear()
        self.counts.endAll()

    def whenEmpty(self) -> Deferred[None]:
        """Fires once no command runs."""
        return self.counts.whenEmpty()


def _objection(rule: CommandRule, asked: CommandRequest) -> str:
    """What speaks against a request that the rules allow, if anything does."""
    if asked.terminal is not None and not rule.tty:
        return f"{rule.label} does not run on a terminal"
    if asked.stdin and asked.terminal is None and rule.stdin == "none":
        return f"{rule.label} takes no input"
    if asked.cwd is not None and not rule.takes_any:
        return f"{rule.label} does not let the client choose the working directory"
    for name in asked.env:
        if not rule.passes(os.fsdecode(name)):
            return f"{rule.label} does not let the client set {_shown(name)}"
    return ""


def _label(rule: CommandRule, argv: tuple[bytes, ...]) -> str:
    """What the log calls a command: its rule, and the program where the client chose it; never
    the arguments, which may hold what no log should."""
    return f"{_shown(argv[0])} by {rule.label}" if rule.takes_any else rule.label


def _shown(name: bytes) -> str:
    """A client's word as a log or a message may have it."""
    text = ascii(os.fsdecode(name[:_SHOWN]))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
