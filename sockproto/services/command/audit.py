"""Entries of the audit of commands by value, each one line of JSON, and who takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen
from zope.interface import Attribute, Interface, implementer

from sockproto.wire.messages import encode_bytes

__all__ = ["SCHEMA", "AuditEntry", "Audits", "IAudit", "MemoryAudit", "NoAudit"]

#: The version of the entries: a field may be added, but none changes its meaning in a version.
SCHEMA = 1


@frozen
class AuditEntry:
    """One thing that happened, told once and whole.

    :ivar event: ``start``, ``end`` or ``denied``.
    :ivar time: when, with its offset.
    :ivar fields: what is known of it, for JSON, with nothing secret in it; docs/commands.rst
        describes them.
    :ivar argv: the words, those that nobody may see masked already.
    """

    event: str
    time: datetime
    fields: Mapping[str, Any] = field(hash=False)
    argv: tuple[bytes, ...] = ()

    def line(self, lost: int = 0, longest: int | None = None) -> bytes:
        """The entry as a line of JSON, in ASCII, whatever is in its words.

        :param lost: how many entries before it could not be written.
        :param longest: bytes that the line may have; then words are left out at the end of the
            argv, and ``argv_words`` says how many there were.
        """
        words = list(self.argv)
        line = self._line(lost, words)
        while longest is not None and len(line) > longest and words:
            # A word may be longer than all the rest: half of them at a time soon leaves none.
            del words[len(words) // 2 :]
            line = self._line(lost, words)
        return line

    def _line(self, lost: int, words: Sequence[bytes]) -> bytes:
        entry: dict[str, Any] = {
            "schema": SCHEMA,
            "time": self.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "event": self.event,
        }
        if lost:
            entry["lost"] = lost
        entry.update(self.fields)
        entry["argv"] = [encode_bytes(word) for word in words]
        if len(words) < len(self.argv):
            entry["argv_words"] = len(self.argv)
        return json.dumps(entry, separators=(",", ":")).encode("ascii") + b"\n"


class IAudit(Interface):
    """Takes entries, and never keeps the caller waiting or fails."""

    problem = Attribute("What is wrong with it now, for people; empty while nothing is.")
    lost = Attribute("How many entries could not be written since the last one that could.")

    def record(entry: AuditEntry) -> None:
        """Write an entry, or count it as lost; the next one that is written says how many were."""

    def reopen() -> None:
        """Begin anew with what may have been put in the place of the old file or socket."""

    def close() -> None:
        """Write no more."""


@implementer(IAudit)
class NoAudit:
    """Writes nothing, as nothing is asked for."""

    problem = ""
    lost = 0

    def record(self, entry: AuditEntry) -> None:
        """Nothing."""

    def reopen(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@implementer(IAudit)
class MemoryAudit:
    """Keeps entries, for tests and for programs that have their own ways with them.

    :ivar entries: all so far.
    """

    problem = ""
    lost = 0

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def record(self, entry: AuditEntry) -> None:
        """Keep it."""
        self.entries.append(entry)

    def reopen(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@implementer(IAudit)
class Audits:
    """Several at once, none of which another's trouble keeps from writing.

    :param audits: who are told, in this order.
    """

    def __init__(self, audits: Sequence[IAudit]) -> None:
        self._audits = tuple(audits)

    @property
    def problem(self) -> str:
        """What is wrong with any of them."""
        return "; ".join(audit.problem for audit in self._audits if audit.problem)

    @property
    def lost(self) -> int:
        """How many entries one of them or another could not write."""
        return max((audit.lost for audit in self._audits), default=0)

    def record(self, entry: AuditEntry) -> None:
        """Tell them all."""
        for audit in self._audits:
            audit.record(entry)

    def reopen(self) -> None:
        """Tell them all."""
        for audit in self._audits:
            audit.reopen()

    def close(self) -> None:
        """Tell them all."""
        for audit in self._audits:
            audit.close()
