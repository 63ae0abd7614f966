"""What the command service runs at the moment, and how much of it there has been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from sockproto.auth.principal import Principal
from sockproto.services.command.rule import CommandRule

__all__ = ["Counts", "Slot", "Work"]


class Work(Protocol):
    """Something that runs, and takes a slot."""

    def end(self) -> None:
        """End it."""


@frozen(eq=False)
class Slot:
    """What runs, for whom.

    :ivar rule: the rule that allows it.
    :ivar principal: who asked for it.
    :ivar since: when, by the reactor's clock.
    """

    rule: CommandRule
    principal: Principal
    since: float


class Counts:
    """The slots that are taken, in all and of each rule.

    :ivar started: how many were taken so far.
    :ivar refused: how many requests were refused.
    """

    def __init__(self) -> None:
        self._slots: dict[Work, Slot] = {}
        # Rules are known by their names, which a reload leaves; those without one by themselves.
        self._perRule: Counter[str | CommandRule] = Counter()
        self._empty: list[Deferred[None]] = []
        self.started = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots.values()))

    def of(self, rule: CommandRule) -> int:
        """How many slots a rule has taken."""
        return self._perRule[_key(rule)]

    def take(self, work: Work, slot: Slot) -> None:
        """Count what has begun."""
        self._slots[work] = slot
        self._perRule[_key(slot.rule)] += 1
        self.started += 1

    def free(self, work: Work) -> None:
        """It is through, if it was counted at all."""
        slot = self._slots.pop(work, None)
        if slot is None:
            return
        key = _key(slot.rule)
        self._perRule[key] -= 1
        if not self._perRule[key]:
            del self._perRule[key]
        if not self._slots:
            waiting, self._empty = self._empty, []
            for deferred in waiting:
                deferred.callback(None)

    def endAll(self) -> None:
        """End everything."""
        for work in list(self._slots):
            work.end()

    def whenEmpty(self) -> Deferred[None]:
        """Fires once nothing runs."""
        deferred: Deferred[None] = Deferred()
        if self._slots:
            self._empty.append(deferred)
        else:
            deferred.callback(None)
        return deferred


def _key(rule: CommandRule) -> str | CommandRule:
    """What a rule's commands are counted under."""
    return rule if rule.name is None else rule.name
