"""Keeps the audit of commands: who ran what under which rule, how it ended, and what was denied."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sockproto.auth.principal import Principal
from sockproto.logs import Logger, Whole
from sockproto.services.command.audit import AuditEntry, IAudit, NoAudit
from sockproto.services.command.audit_words import asked_words, run_words
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import Decision

__all__ = ["CommandAudit", "Trail", "Why"]

# Bytes of words that a denied request brings into the audit: who is refused does not fill a disk.
_MOST_DENIED = 1024


class Why(StrEnum):
    """Why a command has ended."""

    EXIT = "exit"  #: by itself, or by a signal that somebody sent
    TIMEOUT = "timeout"  #: its time was up
    CANCEL = "cancel"  #: its client wanted it ended
    DISCONNECT = "disconnect"  #: its client was lost
    OUTPUT_LIMIT = "output-limit"  #: it wrote more than it may
    SHUTDOWN = "shutdown"  #: the server was to end
    LOST = "lost"  #: the process that ran it died, and nothing more is known of it
    NOT_STARTED = "not-started"  #: it has never run; the code says why


class CommandAudit:
    """Makes the entries, all of which hold who it was, under which configuration.

    :param audit: who takes them; nobody unless given.
    :param configuration: the digest of the configuration in force.
    :param now: the time of day.
    :param monotonic: seconds, for durations.
    :ivar audit: who takes the entries.
    :ivar configuration: the digest of the configuration that decides from now on.
    """

    _log = Logger()

    def __init__(
        self,
        audit: IAudit | None = None,
        configuration: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.audit: IAudit = NoAudit() if audit is None else audit
        self.configuration = configuration
        self._now = now
        self._monotonic = monotonic
        self._count = 0
        self._open: dict[Trail, None] = {}
        self._problem = ""

    def denied(
        self,
        principal: Principal,
        words: tuple[bytes, ...],
        rule: CommandRule | None,
        rules: Iterable[CommandRule],
        code: str,
        reason: str,
    ) -> None:
        """A request came to nothing.

        :param words: what the client sent.
        :param rule: the rule that decided, if one did.
        :param rules: all rules.
        :param code: what the client is told.
        :param reason: why, which it may not be told.
        """
        shown, fields = asked_words(words, rule, rules), self._fields(principal, rule)
        fields |= {"code": code, "reason": reason}
        if sum(map(len, shown)) > _MOST_DENIED:
            shown, fields = _cut(shown), {**fields, "argv_words": len(shown)}
        self._record(AuditEntry("denied", self._now(), fields, shown))

    def begin(self, principal: Principal, rule: CommandRule, decision: Decision) -> Trail:
        """A command is about to be started.

        :return: hears what becomes of it.
        """
        self._count += 1
        fields = {"number": self._count, **self._fields(principal, rule)}
        trail = Trail(self, fields, run_words(rule, decision), self._monotonic)
        self._open[trail] = None
        self._record(AuditEntry("start", self._now(), fields, trail.argv))
        return trail

    def over(self, trail: Trail, fields: dict[str, Any]) -> None:
        """A command has ended; for its trail to call."""
        self._open.pop(trail, None)
        self._record(AuditEntry("end", self._now(), {**trail.fields, **fields}, trail.argv))

    def replace(self, audit: IAudit) -> None:
        """Have another take the entries from now on; the one so far is closed."""
        if self.audit.lost:
            self._log.error("the audit lacks its last {count} entries", count=self.audit.lost)
        self.audit.close()
        self.audit, self._problem = audit, ""

    def close(self) -> None:
        """Tell of the commands of which nothing more will be known, and write no more."""
        for trail in list(self._open):
            trail.because(Why.LOST)
            trail.over()
        self.replace(NoAudit())

    def _record(self, entry: AuditEntry) -> None:
        """Have an entry written; say so when that stops being possible, and when it is again."""
        lost = self.audit.lost
        self.audit.record(entry)
        problem = self.audit.problem
        if problem == self._problem:
            return
        self._problem = problem
        if problem:
            self._log.error("the audit: {problem}", problem=Whole(problem))
        else:
            self._log.warn("the audit is written again; {count} entries were lost", count=lost)

    def _fields(self, principal: Principal, rule: CommandRule | None) -> dict[str, Any]:
        login = principal.login
        return {
            "identity": principal.identity,
            "key": login.key_id,
            "client": login.client_id,
            "address": principal.address,
            "session": login.session_id.hex(),
            "ref": login.ref,
            "rule": None if rule is None else rule.label,
            "configuration": self.configuration,
        }


class Trail:
    """What the audit hears of one command, from its start to its end.

    :param audit: whose entries these are.
    :param fields: of the start, which the end has again.
    :param argv: the words that it may show.
    :param monotonic: seconds.
    """

    def __init__(
        self,
        audit: CommandAudit,
        fields: dict[str, Any],
        argv: tuple[bytes, ...],
        monotonic: Callable[[], float],
    ) -> None:
        self._audit = audit
        self.fields = fields
        self.argv = argv
        self._monotonic = monotonic
        self._began = monotonic()
        self._took: float | None = None
        self._why: Why | None = None
        self._received = 0
        self._sent = 0
        self._over = False

    @classmethod
    def unheard(cls) -> Trail:
        """One that leads nowhere, where there is no audit."""
        return cls(CommandAudit(), {}, (), time.monotonic)

    def because(self, why: Why) -> None:
        """Why it is about to end; the first reason is the one that counts."""
        if self._why is None:
            self._why = why

    def received(self, count: int) -> None:
        """So many bytes of input came for it."""
        self._received += count

    def sent(self, count: int) -> None:
        """So many bytes of its output went to the client."""
        self._sent += count

    def exited(self) -> None:
        """It has ended; what it wrote may be on its way still."""
        if self._took is None:
            self._took = self._monotonic() - self._began

    def failed(self, code: str) -> None:
        """Nothing has been started after all."""
        self.because(Why.NOT_STARTED)
        self.over(code=code)

    def over(
        self,
        exit_status: int | None = None,
        signal: str | None = None,
        truncated: bool = False,
        code: str | None = None,
        age: float | None = None,
    ) -> None:
        """Nothing more will happen; what is said after that is not heard.

        :param exit_status: the one it ended with.
        :param signal: the one that ended it.
        :param truncated: whether it wrote more than it may.
        :param code: why there is neither.
        :param age: how many seconds old the result is, where it was another request's.
        """
        if self._over:
            return
        self._over = True
        self.exited()
        assert self._took is not None
        fields: dict[str, Any] = {}
        if code is not None:
            fields["code"] = code
        elif signal is not None:
            fields["signal"] = signal
        elif exit_status is not None:
            fields["exit_status"] = exit_status
        if age is not None:
            fields["age"] = age
        self._audit.over(
            self,
            {
                "why": self._why or Why.EXIT,
                **fields,
                "duration": round(self._took, 6),
                "bytes_in": self._received,
                "bytes_out": self._sent,
                "truncated": truncated,
            },
        )


def _cut(words: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """As much of some words, from the first, as a denied request may bring."""
    kept: list[bytes] = []
    left = _MOST_DENIED
    for word in words:
        if left <= 0:
            break
        kept.append(word[:left])
        left -= len(word)
    return tuple(kept)
