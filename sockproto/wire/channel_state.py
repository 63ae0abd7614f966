"""One channel of an agent connection: where it is between its OPEN and its end, and its credit.

The table of steps is the same on both sides: what one sends the other receives.  Where a cancel
crosses what the server sends, both still come to the same state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import define

__all__ = ["STEPS", "Channel", "ChannelState", "Flow", "Step"]


class ChannelState(Enum):
    """Where a channel is; the value is the word for it in errors."""

    OPENING = "not accepted yet"
    OPEN = "open"
    WITHDRAWN = "cancelled before ACCEPT"
    CANCELLED = "cancelled"
    OVER = "over"


class Step(Enum):
    """What moves a channel on; CLOSE is the server's, CANCEL the client's."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    CLOSE = "CLOSE"
    CANCEL = "cancel"


#: The steps that each state allows, and where they lead.
STEPS: Mapping[ChannelState, Mapping[Step, ChannelState]] = {
    ChannelState.OPENING: {
        Step.ACCEPT: ChannelState.OPEN,
        Step.REJECT: ChannelState.OVER,
        Step.CANCEL: ChannelState.WITHDRAWN,
    },
    ChannelState.OPEN: {
        Step.CLOSE: ChannelState.OVER,
        Step.CANCEL: ChannelState.CANCELLED,
    },
    ChannelState.WITHDRAWN: {
        Step.ACCEPT: ChannelState.CANCELLED,
        Step.REJECT: ChannelState.OVER,
        Step.CLOSE: ChannelState.OVER,
    },
    ChannelState.CANCELLED: {Step.CLOSE: ChannelState.OVER},
    ChannelState.OVER: {},
}

_CANCELLED = frozenset({ChannelState.WITHDRAWN, ChannelState.CANCELLED})


@define
class Flow:
    """One stream of a channel.

    :ivar credit: how many bytes its sender may still send, as far as this side knows.
    :ivar ended: its sender sends no more.
    :ivar stopped: its receiver wants no more.
    """

    credit: int
    ended: bool = False
    stopped: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing on it matters to anybody any longer."""
        return self.ended or self.stopped


@define
class Channel:
    """The state of one channel.

    :ivar incoming: the streams that the peer sends on, by number.
    :ivar outgoing: the streams that we send on.
    """

    id: int
    incoming: Mapping[int, Flow]
    outgoing: Mapping[int, Flow]
    state: ChannelState = ChannelState.OPENING

    @property
    def cancelled(self) -> bool:
        """Whether only its end is of interest."""
        return self.state in _CANCELLED

    def advance(self, step: Step) -> bool:
        """Take a step, if it may be taken now; whether it was."""
        following = STEPS[self.state].get(step)
        if following is None:
            return False
        self.state = following
        return True
