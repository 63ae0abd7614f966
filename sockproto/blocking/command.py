"""A command that runs on an agent, on plain sockets."""

from __future__ import annotations

import signal as signals
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sockproto.errors import AgentError
from sockproto.output_credit import OutputCredit
from sockproto.result import DEFAULT_MAX_OUTPUT, Collected, Output, Result, ended_without_status
from sockproto.wire.client_channels import ClientChannels
from sockproto.wire.commands import CommandResult
from sockproto.wire.messages import Stream
from sockproto.wire.terminal import encode_window

if TYPE_CHECKING:
    from sockproto.blocking.session import Session

__all__ = ["Command"]


class Command:
    """A running command, from :meth:`Session.start <sockproto.blocking.Session.start>`.

    Read its output piece by piece (``for piece in command``), or all of it with its end
    (``command.wait()``).  What is not read holds the command back: nothing is kept beyond a window
    of a MiB.
    """

    def __init__(
        self, session: Session, machine: ClientChannels, channel: int, takes_input: bool
    ) -> None:
        self._session = session
        self._machine = machine
        self._channel = channel
        self._credit = OutputCredit()
        self._pieces: deque[Output] = deque()
        self._takes_input = takes_input
        self._input_over = False
        self._unwanted = False
        self._started = False
        self._end: CommandResult | None = None
        self._error: AgentError | None = None

    # For those who use it

    def __iter__(self) -> Iterator[Output]:
        while (piece := self.read()) is not None:
            yield piece

    def read(self) -> Output | None:
        """The next piece of output; ``None`` once there is no more.

        :raises AgentError: the command came to an end without a status.
        """
        while not self._pieces and not self.ended:
            self._session.pump()
        return self.take()

    def take(self) -> Output | None:
        """As :meth:`read`, but without waiting: ``None`` where nothing has come yet, too.

        :raises AgentError: the command came to an end without a status.
        """
        if not self._pieces:
            if self._error is not None:
                raise self._error
            return None
        piece = self._pieces.popleft()
        amount = self._credit.consumed(piece.stream, len(piece.data))
        if amount and self._machine.is_open(self._channel):
            self._session.send(self._machine.send_credit(self._channel, piece.stream, amount))
        return piece

    def wait(self, max_output: int = DEFAULT_MAX_OUTPUT) -> Result:
        """Read what is left of the output, and wait for the end.

        :param max_output: bytes of each stream to keep; the rest is dropped, and the result
            ``truncated``.
        :raises AgentError: the command came to an end without a status.
        """
        return self.communicate(None, max_output)

    def communicate(
        self, input: bytes | None = None, max_output: int = DEFAULT_MAX_OUTPUT
    ) -> Result:
        """Send all of the input while reading the output, and wait for the end.

        :param input: what the command reads, and then the end of its input; ``None``: neither.
        :param max_output: as for :meth:`wait`.
        :raises AgentError: the command came to an end without a status.
        """
        collected = Collected(max_output)
        unsent = memoryview(input or b"")
        while True:
            if input is not None:
                unsent = unsent[self.write_some(unsent) :]
                if not unsent:
                    self.end_input()
                    input = None
            while (piece := self.take()) is not None:
                collected.add(piece)
            if self.ended:
                assert self._end is not None
                return collected.result(self._end)
            self._session.pump()

    def write(self, data: bytes) -> None:
        """Send input to the command, and wait until it is sent.

        A command that waits for its output to be read takes no input: where both are large, use
        :meth:`communicate`.  Input that the command does not want any longer is dropped.

        :raises ValueError: it was started without input, or its input has been ended.
        """
        unsent = memoryview(data)
        while (unsent := unsent[self.write_some(unsent) :]) or (
            self._session.sending and not self.ended
        ):
            self._session.pump()

    def write_some(self, data: bytes | memoryview) -> int:
        """Send as much of some input as may be sent now.

        :return: how many bytes that is; all of them where the command wants none any longer.
        :raises ValueError: as for :meth:`write`.
        """
        if not self._takes_input:
            raise ValueError("the command was started without input: stdin=True is missing")
        if self._input_over:
            raise ValueError("the command's input has been ended")
        sent = 0
        while sent < len(data) and not (self._unwanted or self.ended):
            room = self.writable
            if not room:
                return sent
            piece = bytes(data[sent : sent + room])
            header = self._machine.send_data(self._channel, Stream.IN, len(piece))
            self._session.send(header, piece)
            sent += len(piece)
        return len(data)

    @property
    def writable(self) -> int:
        """How many bytes of input may be sent at once, now."""
        return self._machine.sendable(self._channel, Stream.IN)

    def end_input(self) -> None:
        """There is no more input."""
        if self._takes_input and not self._input_over:
            self._input_over = True
            if self._machine.is_open(self._channel):
                self._session.send(self._machine.send_end(self._channel, Stream.IN))

    def stop_output(self, stream: int) -> None:
        """Want no more of a stream: the command is told as by a closed pipe."""
        if self._machine.is_open(self._channel):
            self._session.send(self._machine.send_stop(self._channel, stream))

    def signal(self, name: str | int | signals.Signals) -> None:
        """Send a signal to the command.

        :param name: such as ``"TERM"``, ``"SIGTERM"`` or ``signal.SIGTERM``.
        """
        if not isinstance(name, str):
            name = signals.Signals(name).name
        if self._machine.is_open(self._channel):
            body = {"signal": name.removeprefix("SIG")}
            self._session.send(self._machine.send_control(self._channel, body))

    def resize(self, rows: int, columns: int) -> None:
        """Tell of a new size of the terminal that it runs on.

        :raises ValueError: it is no size.
        """
        body = encode_window(rows, columns)
        if self._machine.is_open(self._channel):
            self._session.send(self._machine.send_control(self._channel, body))

    def cancel(self) -> None:
        """End the command and all that it has started; what it still writes is dropped."""
        self._unwanted = True
        self._pieces.clear()
        self._session.send(self._machine.cancel(self._channel))

    def wait_until_started(self) -> None:
        """Wait until it runs.

        :raises AgentError: it was refused or is not there.
        """
        while not self._started and not self.ended:
            self._session.pump()
        if self._error is not None:
            raise self._error

    @property
    def ended(self) -> bool:
        """Whether nothing more will come; there may be output that came before, to be read."""
        return self._end is not None or self._error is not None

    # For the session

    def accepted(self) -> None:
        """It runs."""
        self._started = True

    def output_received(self, stream: int, data: bytes) -> None:
        """A piece of output."""
        self._pieces.append(Output(stream, data))

    def input_stopped(self) -> None:
        """The command reads no more."""
        self._unwanted = True

    def closed(self, end: CommandResult) -> None:
        """It has ended."""
        if end.code is None:
            self._end = end
        else:
            self._error = ended_without_status(end)

    def failed(self, error: AgentError) -> None:
        """It has not been started, or nothing more is known of it."""
        self._error = error
