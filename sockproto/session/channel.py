"""One channel of a session, as the service that serves it sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from sockproto.interfaces import IChannel, IServedChannel
from sockproto.session.input_credit import InputWindow
from sockproto.wire.messages import Stream

if TYPE_CHECKING:
    from sockproto.session.protocol import AgentProtocol

__all__ = ["ServerChannel"]

# Characters of a message to a client: well inside of the smallest frame that one may ask for.
_MAX_MESSAGE = 256


@implementer(IChannel)
class ServerChannel:
    """One channel, as the service that serves it sees it."""

    def __init__(self, session: AgentProtocol, channelId: int) -> None:
        self._session = session
        self._machine = session.machine
        self._window = InputWindow(session.inputPool, session.machine.settings.credit)
        self.id = channelId
        self.principal = session.principal
        self.served: IServedChannel | None = None

    def accept(self, reply: Mapping[str, Any]) -> None:
        """ACCEPT; nothing where the client has cancelled meanwhile."""
        self._session.reply(self._machine.accept(self.id, reply))

    def reject(self, code: str, message: str) -> None:
        """REJECT: the channel is over."""
        self._session.reply(self._machine.reject(self.id, code, message[:_MAX_MESSAGE]))
        self._over()

    @property
    def free(self) -> bool:
        """Whether DATA may be written now, without waiting for a turn."""
        return self._session.turns.free

    def ready(self, turn: Callable[[], bool]) -> None:
        """Have a turn called when it is this channel's turn to write; now, if nobody waits."""
        self._session.turns.ready(turn, self._failed)

    def withdraw(self, turn: Callable[[], bool]) -> None:
        """Have a turn called no longer."""
        self._session.turns.withdraw(turn)

    def sendable(self, stream: int) -> int:
        """How many bytes may be written on a stream at once, now."""
        return self._machine.sendable(self.id, stream)

    def write(self, stream: int, data: bytes) -> None:
        """DATA: 1 to :meth:`sendable` bytes; to be called in a turn."""
        header = self._machine.send_data(self.id, stream, len(data))
        self._session.transport.writeSequence((header, data))

    def end(self, stream: int) -> None:
        """END: there is no more of a stream."""
        if self._machine.is_open(self.id):
            self._session.reply(self._machine.send_end(self.id, stream))

    def consumed(self, count: int) -> None:
        """So many bytes of stream 0 have been passed on: grant more where it is worth a frame."""
        if self._machine.is_open(self.id):
            amount = self._window.consumed(count, self._machine.receivable(self.id, Stream.IN))
            if amount:
                self._session.reply(self._machine.send_credit(self.id, Stream.IN, amount))

    def stop(self) -> None:
        """STOP: no more of stream 0 is wanted."""
        if self._machine.is_open(self.id):
            self._session.reply(self._machine.send_stop(self.id, Stream.IN))
            self._window.release()

    def control(self, body: Mapping[str, Any]) -> None:
        """CONTROL."""
        if self._machine.is_open(self.id):
            self._session.reply(self._machine.send_control(self.id, body))

    def close(self, result: Mapping[str, Any]) -> None:
        """CLOSE with the result: the channel is over."""
        self._session.reply(self._machine.close(self.id, result))
        self._over()

    def fail(self, code: str, message: str) -> None:
        """REJECT or CLOSE, whichever is due: the channel is over without a result."""
        self._session.reply(self._machine.fail(self.id, code, message[:_MAX_MESSAGE]))
        self._over()

    def received(self, count: int) -> None:
        """Count bytes of stream 0 that have come and are not passed on yet."""
        self._window.received(count)

    def inputEnded(self) -> None:
        """The client sends no more of stream 0."""
        self._window.end()

    def _failed(self) -> None:
        self._session.channelFailed(self)

    def _over(self) -> None:
        self._window.release()
        self._session.channelOver(self.id)
