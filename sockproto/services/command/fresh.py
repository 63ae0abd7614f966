"""The results that are fresh enough for whoever asks for the same: ``fresh`` in a rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sockproto.interfaces import IChannel, IServedChannel
from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.services.command.auditing import Trail
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.running import RunningCommand
from sockproto.services.command.sharer import Sharer, Start
from sockproto.services.command.sharing import SharedRun

__all__ = ["FreshResults", "Question"]


@frozen
class Question:
    """What has the same answer whoever asks: a rule, as it is in force, and an argv.

    :ivar fresh: seconds that an answer holds.
    :ivar bound: bytes of output that are kept for others.
    """

    rule: CommandRule
    argv: tuple[bytes, ...]
    fresh: float = field(eq=False)
    bound: int = field(eq=False)


class FreshResults:
    """Lets requests that ask for the same share one run, and its result while it is fresh.

    A run that has too much output is its first client's alone; while it would be fresh, whoever
    else asks the same has a run of their own. What is kept in all is bounded: the oldest results
    make room.

    :param clock: the reactor.
    :param limits: how much is kept.
    :ivar shared: how many requests were answered without a run of their own, or wait for that.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self._clock = clock
        self._runs: dict[Question, SharedRun] = {}
        self._timers: dict[SharedRun, IDelayedCall] = {}
        self._counted: set[SharedRun] = set()
        self._kept = 0
        self.shared = 0
        self.reconfigure(limits)

    def reconfigure(self, limits: Limits) -> None:
        """Have other limits hold from now on."""
        self._most = limits.fresh_total

    def serve(
        self,
        question: Question,
        channel: IChannel,
        timeout: float | None,
        start: Start,
        audited: Callable[[], Trail],
    ) -> IServedChannel | None:
        """Answer a request.

        :param timeout: seconds that the client gives it, if it says so.
        :param start: starts a run for a channel, with a client's time-out and perhaps what the
            audit has of it already; gives ``None`` if it has rejected the channel.
        :param audited: tells the audit of a request that has no run of its own.
        :return: who serves the channel; ``None`` if it has been rejected.
        """
        known = self._runs.get(question)
        if known is not None and not known.isShared:
            return start(channel, timeout, None)
        if known is not None:
            self.shared += 1
            self._log.info(
                "{identity} from {address} shares {rule}, asked for {age} s ago",
                identity=channel.principal.identity,
                address=channel.principal.address,
                rule=question.rule.label,
                age=known.age,
            )
            sharer = Sharer(self._clock, known, channel, timeout, start, audited())
            known.join(sharer)
            return sharer
        run = SharedRun(
            self._clock,
            channel.principal,
            question.bound,
            self._mayKeep,
            partial(self._changed, question),
        )
        sharer = Sharer(self._clock, run, channel, timeout, start)
        run.join(sharer)
        try:
            command = start(run, None, None)
        except BaseException:
            sharer.connectionLost()
            raise
        if command is None:
            return None
        assert isinstance(command, RunningCommand)
        run.begin(sharer, command)
        self._runs[question] = run
        self._counted.add(run)
        return sharer

    def clear(self) -> None:
        """Forget all results."""
        for question, run in list(self._runs.items()):
            self._forget(question, run)

    def _mayKeep(self, count: int) -> bool:
        """Make room for more output, at the cost of the oldest results."""
        for question, run in list(self._runs.items()):
            if self._kept + count <= self._most:
                break
            if run.isKept:
                self._forget(question, run)
        if self._kept + count > self._most:
            return False
        self._kept += count
        return True

    def _changed(self, question: Question, run: SharedRun) -> None:
        """A run has another state, or a client less."""
        if self._runs.get(question) is run and run not in self._timers:
            left = question.fresh - run.age
            if left > 0 and (run.isKept or run.isTooLong):
                self._timers[run] = self._clock.callLater(left, self._forget, question, run)
            elif run.isKept or run.isTooLong or not run.isShared:
                del self._runs[question]
        self._settle(question, run)

    def _forget(self, question: Question, run: SharedRun) -> None:
        timer = self._timers.pop(run, None)
        if timer is not None and timer.active():
            timer.cancel()
        if self._runs.get(question) is run:
            del self._runs[question]
        self._settle(question, run)

    def _settle(self, question: Question, run: SharedRun) -> None:
        """Count a run's output no longer, once nobody can get it or is getting it."""
        if run in self._counted and not run.sharers and self._runs.get(question) is not run:
            self._counted.discard(run)
            self._kept -= run.size
