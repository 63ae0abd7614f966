"""One run of a program for several clients that ask for the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from sockproto.auth.principal import Principal
from sockproto.interfaces import IChannel
from sockproto.services.command.running import RunningCommand
from sockproto.wire.commands import CommandResult
from sockproto.wire.messages import MAX_DATA, Stream

if TYPE_CHECKING:
    from sockproto.services.command.sharer import Sharer

__all__ = ["SharedRun"]

# What may wait for a client once its run is its own.
_WINDOW = 256 * 1024
_STREAMS = (Stream.OUT, Stream.ERR)


class _State(Enum):
    RECORDING = "it runs, and others may join it"
    ALONE = "it runs, for the client that began it: there is too much output to keep"
    LEFT = "it is being ended, as its last client wanted, or for want of one"
    KEPT = "it has a result that can be shared"
    SPENT = "it has ended, and there was too much output to keep"
    OVER = "it has come to something else"


@implementer(IChannel)
class SharedRun:
    """The channel of a program that runs for several clients: it keeps what the program says.

    The client that began it gets the output as it comes; those who join get all of it at its
    end, since if it becomes too long to be kept they have to have a run of their own.

    :param clock: the reactor.
    :param principal: who began it.
    :param bound: bytes of output to keep.
    :param mayKeep: whether there is room for so many bytes more; then they are counted.
    :param changed: told when it has another state, or a client less.
    :ivar begun: when it was asked for, by the clock.
    :ivar size: bytes that it has kept.
    :ivar sharers: the clients that have not got all of it.
    """

    free = True

    def __init__(
        self,
        clock: IReactorTime,
        principal: Principal,
        bound: int,
        mayKeep: Callable[[int], bool],
        changed: Callable[[SharedRun], None],
    ) -> None:
        self.principal = principal
        self.begun = clock.seconds()
        self.size = 0
        self.sharers: list[Sharer] = []
        self._clock = clock
        self._bound = bound
        self._mayKeep = mayKeep
        self._changed = changed
        self._command: RunningCommand | None = None
        self._live: Sharer | None = None
        self._pieces: list[tuple[int, bytes]] = []
        self._result: CommandResult | None = None
        self._state = _State.RECORDING

    @property
    def isShared(self) -> bool:
        """Whether another client can have what this comes to, or has come to."""
        return self._state in (_State.RECORDING, _State.KEPT)

    @property
    def isKept(self) -> bool:
        """Whether it has a result that can be shared."""
        return self._state is _State.KEPT

    @property
    def isTooLong(self) -> bool:
        """Whether it has turned out to have too much output."""
        return self._state in (_State.ALONE, _State.SPENT)

    @property
    def age(self) -> float:
        """Seconds since it was asked for, to the millisecond."""
        return round(self._clock.seconds() - self.begun, 3)

    def begin(self, sharer: Sharer, command: RunningCommand) -> None:
        """It runs: for a client, as a command."""
        self._live = sharer
        self._command = command

    def join(self, sharer: Sharer) -> None:
        """Another client wants the same; it gets it now if it is there."""
        self.sharers.append(sharer)
        if self._result is not None:
            sharer.replay(self._pieces, self._result, self.age)

    def leave(self, sharer: Sharer) -> None:
        """A client has all of it, or is gone."""
        if sharer is self._live:
            self._live = None
        if sharer in self.sharers:
            self.sharers.remove(sharer)
        self._changed(self)

    def giveUp(self, sharer: Sharer, how: Callable[[RunningCommand], None]) -> bool:
        """A client wants it ended: so it is, if there is no other that waits for it.

        :param how: ends the command, which then has a result for this client.
        :return: whether it is ended.
        """
        if self._command is None or self.sharers != [sharer]:
            return False
        if self._state is _State.RECORDING:
            self._state = _State.LEFT
            self._changed(self)
        how(self._command)
        return True

    # What its command says, as to any channel

    def accept(self, reply: Mapping[str, Any]) -> None:
        """It runs."""
        if self._live is not None:
            self._live.accept()

    def reject(self, code: str, message: str) -> None:
        """Nothing was started."""
        self.fail(code, message)

    def ready(self, turn: Callable[[], bool]) -> None:
        """It is always the command's turn."""
        while turn():
            pass

    def withdraw(self, turn: Callable[[], bool]) -> None:
        """There are no turns to wait for."""

    def sendable(self, stream: int) -> int:
        """As much as is kept, and later as the one client reads."""
        if self._state is not _State.ALONE:
            return MAX_DATA
        if self._live is None or self._live.wantsNoMore(stream):
            return 0  # as it is about to be told
        return max(0, min(MAX_DATA, _WINDOW - self._live.waiting))

    def write(self, stream: int, data: bytes) -> None:
        """Keep output, and pass it on."""
        if self._state is _State.RECORDING:
            if self.size + len(data) <= self._bound and self._mayKeep(len(data)):
                self.size += len(data)
                self._pieces.append((stream, data))
            else:
                self._state = _State.ALONE
                # The command is in the middle of something.
                self._clock.callLater(0, self._part)
        if self._live is not None:
            self._live.put(stream, data)

    def _part(self) -> None:
        """Go on for the client that began it alone; the others have runs of their own."""
        self._pieces = []
        self._changed(self)
        for sharer in list(self.sharers):
            if sharer is not self._live:
                self.sharers.remove(sharer)
                sharer.goAlone()
        command = self._command
        if command is None or self._result is not None:
            return
        if self._live is None:
            command.connectionLost()
            return
        for stream in _STREAMS:
            if self._live.wantsNoMore(stream):
                command.stopReceived(stream)

    def drained(self, sharer: Sharer) -> None:
        """A client has read all that waited for it."""
        if self._state is _State.ALONE and sharer is self._live and self._command is not None:
            for stream in _STREAMS:
                self._command.creditReceived(stream)

    def stopped(self, sharer: Sharer, stream: int) -> None:
        """A client wants no more of a stream: the command is told if it runs for no other."""
        if self._state is _State.ALONE and sharer is self._live and self._command is not None:
            self._command.stopReceived(stream)

    def end(self, stream: int) -> None:
        """No more of a stream will come: clients are told at the end."""

    def consumed(self, count: int) -> None:
        """It has no input."""

    def stop(self) -> None:
        """It has no input."""

    def control(self, body: Mapping[str, Any]) -> None:
        """Nothing is said that is not the same for all."""

    def close(self, result: Mapping[str, Any]) -> None:
        """It has ended."""
        self._result = end = CommandResult.decode(result)
        clean = end.exit_status is not None and not (end.timed_out or end.truncated)
        if self._state is _State.ALONE:
            self._state = _State.SPENT
        else:
            recorded = self._state is _State.RECORDING
            self._state = _State.KEPT if recorded and clean else _State.OVER
        self._command = None
        for sharer in list(self.sharers):
            if sharer is self._live:
                sharer.finish(end)
            elif self._state is not _State.SPENT:  # those are about to go alone
                sharer.replay(self._pieces, end, self.age)
        self._changed(self)

    def fail(self, code: str, message: str) -> None:
        """It has come to nothing, and so it has for all who wait for it."""
        self._state = _State.OVER
        self._live = self._command = None
        for sharer in list(self.sharers):
            sharer.fail(code, message)
        self._changed(self)
