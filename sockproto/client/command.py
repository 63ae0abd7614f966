"""A command that runs on an agent, for Twisted programs."""

from __future__ import annotations

import signal as signals
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from sockproto.errors import AgentError, ConnectionLost
from sockproto.output_credit import OutputCredit
from sockproto.result import DEFAULT_MAX_OUTPUT, Collected, Output, Result, ended_without_status
from sockproto.wire.commands import CommandResult
from sockproto.wire.terminal import encode_window

if TYPE_CHECKING:
    from sockproto.client.protocol import SessionProtocol

__all__ = ["Command"]


class Command:
    """A running command, from :meth:`Session.start <sockproto.client.session.Session.start>`.

    Read its output piece by piece (``async for piece in command``), or all of it with its end
    (``await command.wait()``).  What is not read holds the command back: nothing is kept beyond a
    window of a MiB.
    """

    def __init__(self, protocol: SessionProtocol, takesInput: bool) -> None:
        self._protocol = protocol
        self._takesInput = takesInput
        self._channel = 0
        self._credit = OutputCredit()
        self._pieces: deque[Output] = deque()
        self._readers: deque[Deferred[None]] = deque()
        self._unsent: deque[tuple[bytes, Deferred[None]]] = deque()
        self._inputOver = False
        self._endSent = False
        self._unwanted = False
        self._accepted: Deferred[Command] = Deferred(lambda _: self.cancel())
        self._end: CommandResult | None = None
        self._error: AgentError | None = None

    # For those who use it

    def __aiter__(self) -> AsyncIterator[Output]:
        return self._output()

    async def _output(self) -> AsyncIterator[Output]:
        while (piece := await self.read()) is not None:
            yield piece

    async def read(self) -> Output | None:
        """The next piece of output; ``None`` once there is no more.

        :raises AgentError: the command came to an end without a status.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._end is not None:
                return None
            waiter: Deferred[None] = Deferred()
            self._readers.append(waiter)
            await waiter
        piece = self._pieces.popleft()
        amount = self._credit.consumed(piece.stream, len(piece.data))
        if amount:
            self._protocol.grant(self._channel, piece.stream, amount)
        return piece

    async def wait(self, max_output: int = DEFAULT_MAX_OUTPUT) -> Result:
        """Read what is left of the output, and wait for the end.

        :param max_output: bytes of each stream to keep; the rest is dropped, and the result
            ``truncated``.
        :raises AgentError: the command came to an end without a status.
        """
        collected = Collected(max_output)
        while (piece := await self.read()) is not None:
            collected.add(piece)
        assert self._end is not None
        return collected.result(self._end)

    def write(self, data: bytes) -> Deferred[None]:
        """Send input to the command.

        :return: fires once it has been sent: wait for it before sending more, so that what the
            command does not read is not piled up here.  Input that the command does not want any
            longer counts as sent.
        :raises ValueError: it was started without input, or its input has been ended.
        """
        if not self._takesInput:
            raise ValueError("the command was started without input: stdin=True is missing")
        if self._inputOver:
            raise ValueError("the command's input has been ended")
        sent: Deferred[None] = Deferred()
        self._unsent.append((bytes(data), sent))
        self._send()
        return sent

    def end_input(self) -> None:
        """There is no more input."""
        if self._takesInput and not self._inputOver:
            self._inputOver = True
            self._send()

    def signal(self, name: str | int | signals.Signals) -> None:
        """Send a signal to the command.

        :param name: such as ``"TERM"``, ``"SIGTERM"`` or ``signal.SIGTERM``.
        """
        if not isinstance(name, str):
            name = signals.Signals(name).name
        self._protocol.control(self._channel, {"signal": name.removeprefix("SIG")})

    def resize(self, rows: int, columns: int) -> None:
        """Tell of a new size of the terminal that it runs on.

        :raises ValueError: it is no size.
        """
        self._protocol.control(self._channel, encode_window(rows, columns))

    def cancel(self) -> None:
        """End the command and all that it has started; what it still writes is dropped."""
        self._pieces.clear()
        self._protocol.cancel(self._channel)
        self._dropInput()

    @property
    def _ended(self) -> bool:
        return self._end is not None or self._error is not None

    # For the session's protocol

    def opened(self, channel: int) -> None:
        """It has been asked for."""
        self._channel = channel

    def accepted(self) -> None:
        """It runs."""
        self._accepted.callback(self)

    def outputReceived(self, stream: int, data: bytes) -> None:
        """A piece of output."""
        self._pieces.append(Output(stream, data))
        self._wake()

    def creditReceived(self) -> None:
        """More input may be sent."""
        self._send()

    def inputStopped(self) -> None:
        """The command reads no more."""
        self._dropInput()

    def closed(self, end: CommandResult) -> None:
        """It has ended."""
        if end.code is None:
            self._end = end
        else:
            self._error = ended_without_status(end)
        self._over()

    def failed(self, error: AgentError) -> None:
        """It has not been started, or nothing more is known of it."""
        self._error = error
        self._over()

    def _over(self) -> None:
        self._dropInput()
        if not self._accepted.called:
            self._accepted.errback(
                self._error or ConnectionLost("the command was cancelled", "cancelled")
            )
        self._wake()

    def _send(self) -> None:
        """Send what credit allows of the input, and its end behind it.

        Whoever waited for a piece may go on writing, or end the input, from within the callback.
        """
        while self._unsent:
            data, sent = self._unsent[0]
            if not (self._unwanted or self._ended):
                count = self._protocol.sendInput(self._channel, data)
                if count < len(data):
                    self._unsent[0] = (data[count:], sent)
                    return
            self._unsent.popleft()
            if not sent.called:
                sent.callback(None)
        if self._inputOver and not self._endSent:
            self._endSent = True
            self._protocol.endInput(self._channel)

    def _dropInput(self) -> None:
        self._unwanted = True
        self._send()

    def _wake(self) -> None:
        readers, self._readers = self._readers, deque()
        for reader in readers:
            if not reader.called:
                reader.callback(None)
