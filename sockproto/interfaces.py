"""The interfaces between the parts of a server, each of which has more than one implementation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.interfaces import ITransport
from zope.interface import Attribute, Interface

__all__ = [
    "IAuthenticatedTransport",
    "IChannel",
    "IChannelService",
    "ICommand",
    "IDroppable",
    "IInvocation",
    "IRunObserver",
    "IServedChannel",
]


class IAuthenticatedTransport(ITransport):
    """The transport of a protocol behind the login."""

    principal = Attribute("Who logged in: a :class:`~sockproto.auth.principal.Principal`.")


class IDroppable(Interface):
    """A protocol behind the login that can say why its connection is ended."""

    def drop(code: str, message: str) -> None:
        """End the connection now, and everything that runs on it."""


class IChannelService(Interface):
    """What an OPEN can ask for by name, such as ``command``."""

    def open(channel: IChannel, request: Mapping[str, Any]) -> IServedChannel | None:
        """Take up a channel.

        :param channel: the channel, on which ``accept`` or ``reject`` is to be called, now or
            later.
        :param request: the JSON object of OPEN, not looked at yet.
        :return: who hears what comes on it, or ``None`` if it has been rejected.
        :raises InvalidRequest: the request is no such thing: the channel is rejected.
        """


class IServedChannel(Interface):
    """The server's end of a channel: hears what the client sends on it."""

    def dataReceived(data: bytes) -> None:
        """Bytes of stream 0, within the credit that was granted."""

    def endReceived() -> None:
        """The client sends no more on stream 0."""

    def stopReceived(stream: int) -> None:
        """The client wants no more of a stream."""

    def creditReceived(stream: int) -> None:
        """More may be sent on a stream."""

    def controlReceived(body: Mapping[str, Any]) -> None:
        """A CONTROL message came."""

    def cancelled() -> None:
        """The client cancelled: end soon, and call the channel's ``close``."""

    def connectionLost() -> None:
        """The connection is gone, and the channel with it: end, there is nobody to tell."""


class IChannel(Interface):
    """A channel as its service sees it: what can be said to the client."""

    principal = Attribute("Who opened it.")
    free = Attribute("Whether DATA may be written now, without waiting for a turn.")

    def accept(reply: Mapping[str, Any]) -> None:
        """ACCEPT."""

    def reject(code: str, message: str) -> None:
        """REJECT: the channel is over."""

    def ready(turn: Callable[[], bool]) -> None:
        """Have a turn called when it is this channel's turn to write, which may be at once.

        :param turn: writes at most one DATA frame; returns whether to have another turn.
        """

    def withdraw(turn: Callable[[], bool]) -> None:
        """Have a turn called no longer."""

    def sendable(stream: int) -> int:
        """How many bytes may be written on a stream at once, now."""

    def write(stream: int, data: bytes) -> None:
        """DATA: 1 to ``sendable`` bytes."""

    def end(stream: int) -> None:
        """END: there is no more of a stream."""

    def consumed(count: int) -> None:
        """So many bytes of stream 0 have been passed on: more credit may be due for them."""

    def stop() -> None:
        """STOP: no more of stream 0 is wanted."""

    def control(body: Mapping[str, Any]) -> None:
        """CONTROL."""

    def close(result: Mapping[str, Any]) -> None:
        """CLOSE with the result: the channel is over."""

    def fail(code: str, message: str) -> None:
        """REJECT or CLOSE, whichever is due: the channel is over without a result."""


class IRunObserver(Interface):
    """Hears what becomes of a command that a host process runs."""

    def started(pid: int) -> None:
        """The program runs."""

    def failed(code: str, message: str) -> None:
        """Nothing was started; the code is one of docs/protocol.rst."""

    def exited(exit_status: int | None, signal: str | None) -> None:
        """The command's leader has ended: with a status, or by a signal (without ``SIG``)."""

    def gone() -> None:
        """No process is left of the tree, or those that are were left behind and are left alone."""

    def hostLost() -> None:
        """The host process has died, and nothing more is known of the command."""


class ICommand(Interface):
    """A command in Python: a coroutine function will do, or one that returns a Deferred."""

    def __call__(invocation: IInvocation) -> Awaitable[int | None]:
        """Run once.

        It is ended by cancelling what it waits for: when its time is up, it has written too much,
        or the client has cancelled or is gone.

        :return: the exit status, 0 to 255; ``None`` is 0.
        :raises CommandFailed: with a message for stderr, and the exit status.
        """


class IInvocation(Interface):
    """One call of a command in Python: who asks for what, its input and its output."""

    principal = Attribute("Who asks: a :class:`~sockproto.auth.principal.Principal`.")
    rule = Attribute("The name of the rule that allows it.")
    argv = Attribute("The rule's argv with the client's words in it: a tuple of strings.")
    values = Attribute("The words that each parameter got: a dict of tuples of strings.")
    stdin = Attribute(
        "The input: ``await stdin.read()`` gives what has come, and nothing at the end; "
        "``async for piece in stdin`` reads all of it."
    )
    cancelled = Attribute("Whether it is to end.")

    def value(name: str) -> str:
        """The one word of a parameter.

        :raises KeyError: the rule has no such parameter.
        :raises ValueError: it got more than one word, or none, as one with ``rest`` may.
        """

    def write(data: str | bytes) -> Awaitable[None]:
        """Write to stdout; text as UTF-8.

        :return: to be waited for: fires once it is sent, and fails with a
            :class:`BrokenPipeError` if the client wants no more of the stream.
        """

    def write_error(data: str | bytes) -> Awaitable[None]:
        """The same for stderr."""
