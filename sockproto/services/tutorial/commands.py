"""The dialects that run a command: ``tutorial-command-int32``, ``-length`` and ``-ready``."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sockproto.connections import ConnectionCap
from sockproto.interfaces import IChannelService
from sockproto.limits import Limits
from sockproto.services.tutorial.dialect import DialectFactory, DialectProtocol
from sockproto.services.tutorial.reading import MAX_READ, OneRead, Word, pack_int32
from sockproto.services.tutorial.running import CollectingChannel, Output, principal_of
from sockproto.services.tutorial.settings import TutorialSettings

__all__ = ["CommandInt32Factory", "CommandLengthFactory", "CommandReadyFactory"]


class CommandProtocol(DialectProtocol):
    """What the three have in common::

        client: a command line, in one send of at most 1024 bytes
        server: an answer, as the dialect has it

    and so on.  Why there is no output, in one line, is the output too.
    """

    factory: CommandFactory
    holds = MAX_READ + 1
    #: Whether what the command wrote to stderr stands for what it wrote to stdout.
    prefersErrors = True
    _channel: CollectingChannel | None = None

    def begin(self) -> None:
        """Expect a command."""
        self.expect(OneRead(), self._commandReceived)

    def _commandReceived(self, line: bytes) -> None:
        factory = self.factory
        self._channel = CollectingChannel(
            factory.clock,
            principal_of(factory.service, self.address),
            factory.settings.output,
            self._ended,
        )
        self._channel.run(factory.commands, line)

    def _ended(self, output: Output) -> None:
        self._channel = None
        if output.message is not None:
            text = output.message
        else:
            chosen = (self.prefersErrors and output.stderr) or output.stdout
            text = chosen.decode("utf-8", "replace")
        self.answer(text.encode(self.factory.settings.encoding, "replace"))

    def answer(self, output: bytes) -> None:
        """Send the output, in the client's encoding; then expect the next command."""
        raise TypeError("a dialect has to say how it answers")

    def gone(self) -> None:
        """End what runs for nobody."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.lose()


class CommandFactory(DialectFactory):
    """Builds the connections of a dialect that runs commands.

    :param clock: the reactor.
    :param settings: ``[tutorial]``.
    :param commands: the service that runs them, with its rules: the identity is ``tutorial``.
    :param limits: the idle time among them.
    :param cap: how many connections there may be.
    """

    protocol = CommandProtocol

    def __init__(
        self,
        clock: IReactorTime,
        settings: TutorialSettings,
        commands: IChannelService,
        limits: Limits | None = None,
        cap: ConnectionCap | None = None,
    ) -> None:
        super().__init__(clock, limits, cap)
        self.settings = settings
        self.commands = commands


class CommandInt32Protocol(CommandProtocol):
    """::

    client: a command line
    server: int32 length, then so many bytes: stderr if there was any, else stdout
    """

    def answer(self, output: bytes) -> None:
        """Send it behind its length."""
        self.transport.write(pack_int32(len(output)) + output)
        self.begin()


class CommandInt32Factory(CommandFactory):
    """``tutorial-command-int32``."""

    protocol = CommandInt32Protocol
    service = "tutorial-command-int32"


class CommandLengthProtocol(CommandProtocol):
    """::

        client: a command line
        server: the length in decimal digits, in a segment of its own
        server: after a gap, so many bytes: stdout

    The client reads the length with one ``recv(1024)``: it must not get anything else by that.
    """

    prefersErrors = False
    _gap: IDelayedCall | None = None

    #: Sent where there is no output (sic).
    EMPTY = b"cmd hs no output..."

    def answer(self, output: bytes) -> None:
        """Send its length, and later itself."""
        output = output or self.EMPTY
        self.transport.write(b"%d" % len(output))
        self._gap = self.factory.clock.callLater(self.factory.settings.gap, self._send, output)

    def _send(self, output: bytes) -> None:
        self._gap = None
        self.transport.write(output)
        self.begin()

    def gone(self) -> None:
        """There is nobody to send it to."""
        super().gone()
        gap, self._gap = self._gap, None
        if gap is not None:
            gap.cancel()


class CommandLengthFactory(CommandFactory):
    """``tutorial-command-length``."""

    protocol = CommandLengthProtocol
    service = "tutorial-command-length"


class CommandReadyProtocol(CommandProtocol):
    """::

    client: a command line
    server: the length in decimal digits
    client: recv_ready
    server: so many bytes: stderr if there was any, else stdout
    """

    def answer(self, output: bytes) -> None:
        """Send its length, and itself once the client is ready."""
        self.transport.write(b"%d" % len(output))
        self.expect(Word(b"recv_ready"), lambda _: self._send(output))

    def _send(self, output: bytes) -> None:
        if output:
            self.transport.write(output)
        self.begin()


class CommandReadyFactory(CommandFactory):
    """``tutorial-command-ready``."""

    protocol = CommandReadyProtocol
    service = "tutorial-command-ready"
