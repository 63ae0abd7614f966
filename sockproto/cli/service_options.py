"""What the subcommands that ask the simple services share: where, how, and how long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from attrs import frozen

from sockproto.cli.command import Failure
from sockproto.errors import ConfigurationError, RemoteProtocolError
from sockproto.target import Target

__all__ = ["Asked", "judged", "printable", "service_options"]

_LOCAL = "127.0.0.1"


@frozen
class Asked:
    """Where a service is, and how to speak to it.

    :ivar target: its address.
    :ivar udp: by datagrams rather than by a stream.
    :ivar timeout: seconds to wait for an answer.
    :ivar tries: how often to send a datagram within that time.
    """

    target: Target
    udp: bool
    timeout: float
    tries: int

    @classmethod
    def of(
        cls,
        to: str | None,
        port: int,
        udp: bool | None,
        usual: bool,
        timeout: float,
        tries: int,
    ) -> Asked:
        """What the options say.

        :param port: the service's own.
        :param usual: whether it is asked by datagrams where nothing is said.
        :raises UsageError: the address is none, or does not fit.
        """
        if math.isnan(timeout):
            raise click.BadParameter("expected seconds", param_hint="--timeout")
        try:
            target = Target.of_service(_LOCAL if to is None else to, port)
        except ConfigurationError as error:
            raise click.BadParameter(str(error), param_hint="--to") from None
        if target.path and udp:
            raise click.UsageError("a Unix socket is a stream: --udp does not go with it")
        return cls(target, (usual and not target.path) if udp is None else udp, timeout, tries)


def service_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a subcommand ``--to``, ``--udp`` and ``--tcp``, ``--timeout`` and ``--tries``."""
    for option in (
        click.option(
            "--tries",
            type=click.IntRange(1, 100),
            default=3,
            show_default=True,
            help="How often to send a datagram within the time-out.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(0, 3600, min_open=True),
            default=3.0,
            show_default=True,
            metavar="S",
            help="Seconds to wait for an answer.",
        ),
        click.option("--udp/--tcp", default=None, help="How to ask."),
        click.option(
            "--to",
            metavar="HOST[:PORT]",
            help="The service; [ADDRESS]:PORT for IPv6, unix:PATH for a Unix socket. "
            "[default: this machine, the service's own port]",
        ),
    ):
        function = option(function)
    return function


@contextmanager
def judged(target: Target) -> Iterator[None]:
    """A wrong answer is a failure with a line of its own, and status 1."""
    try:
        yield
    except RemoteProtocolError as error:
        raise Failure("answer", f"{target}: {error}") from None


def printable(text: str) -> str:
    """A text with everything escaped that a terminal would obey, but for line ends and tabs."""
    return "".join(
        char
        if char.isprintable() or char in "\n\t"
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
