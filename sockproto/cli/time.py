"""``sockproto time``: the time as a server tells it."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable
from datetime import UTC, datetime
from types import MappingProxyType

import click

from sockproto.blocking.asking import DatagramClient, told
from sockproto.cli.command import ConnectionOptions, Failure, command
from sockproto.cli.service_options import Asked, judged, printable, service_options
from sockproto.errors import ConnectFailed, RemoteProtocolError
from sockproto.timeclient import NTPQuery, NTPSample, best_sample
from sockproto.wire.timestamps import from_rfc868

__all__ = ["time"]

_PORTS = MappingProxyType({"strftime": 7113, "daytime": 7013, "time": 7037, "ntp": 7123})
_DATAGRAMS_ONLY = frozenset({"strftime", "ntp"})
# What the server of sockproto answers; others may do more.
_LONGEST_FORMAT = 64
_LONGEST_DATAGRAM = 65_507
# A line for people; more is something else.
_LONGEST_DAYTIME = 1024
# Between two samples: ntpdate's own pace.
_PAUSE = 0.2


@command(
    "time",
    keyless=True,
    examples=[
        ("sockproto time", "the time of this machine's server, by its strftime service"),
        ("sockproto time '%Y %m %d'", "in a form of your own"),
        ("sockproto time --protocol daytime --to [::1]", "as RFC 867 has it, over IPv6"),
        ("sockproto time --protocol time --udp --to web1:37", "as RFC 868 has it, by a datagram"),
        ("sockproto time --protocol ntp --to pool.ntp.org:123", "how wrong our clock is"),
    ],
)
@click.argument("format", required=False)
@click.option(
    "--protocol",
    type=click.Choice(list(_PORTS)),
    default="strftime",
    show_default=True,
    help="Which service to ask, at port "
    + ", ".join(f"{port} ({name})" for name, port in _PORTS.items())
    + " unless --to names another; the first and the last by datagrams only.",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 8),
    default=4,
    show_default=True,
    help="How often to ask by ntp; the answer that was fastest counts.",
)
@service_options
def time(
    _options: ConnectionOptions,
    format: str | None,
    protocol: str,
    samples: int,
    to: str | None,
    udp: bool | None,
    timeout: float,
    tries: int,
) -> None:
    """Ask a server for the time, and print it.

    FORMAT is for the strftime service, which writes the directives of C and POSIX in it, such as
    %Y, and leaves all else as it is. By ntp the line is that of `ntpdate -q`: the offset, in
    seconds, is what to add to our clock.

    The exit status is 0; 1 if the answer is wrong, or if an NTP server says that its clock is not
    synchronised; 255 if nothing answers."""
    if format is not None and protocol != "strftime":
        raise click.UsageError(f"FORMAT is for the strftime service: {protocol} has a form already")
    if udp is False and protocol in _DATAGRAMS_ONLY:
        raise click.UsageError(f"{protocol} is asked by datagrams: --tcp does not go with it")
    usual = protocol in _DATAGRAMS_ONLY
    asked = Asked.of(to, _PORTS[protocol], udp, usual, timeout, tries)
    if usual and not asked.udp:
        raise click.UsageError(f"{protocol} is asked by datagrams, and a Unix socket is a stream")
    with judged(asked.target):
        if protocol == "ntp":
            _ask_ntp(asked, samples)
        elif protocol == "strftime":
            click.echo(printable(_ask_strftime(asked, format or "")))
        elif protocol == "daytime":
            click.echo(printable(_daytime(_tell(asked, _is_line))))
        else:
            moment = from_rfc868(_tell(asked, lambda data: len(data) >= 4), clock.time())
            local = datetime.fromtimestamp(moment, UTC).astimezone()
            click.echo(local.isoformat(" "))


def _ask_strftime(asked: Asked, format: str) -> str:
    """What the format becomes."""
    question = os.fsencode(format)
    if len(question) > _LONGEST_DATAGRAM:
        raise click.UsageError(f"FORMAT is too long: expected up to {_LONGEST_DATAGRAM} bytes")
    try:
        with DatagramClient(asked.target, asked.timeout, asked.tries) as client:
            return client.ask(lambda: question, _text)
    except ConnectFailed as error:
        if len(question) <= _LONGEST_FORMAT:
            raise
        raise ConnectFailed(
            f"{error} (FORMAT has {len(question)} bytes: more than {_LONGEST_FORMAT} get none)"
        ) from None


def _text(answer: bytes) -> str:
    try:
        return answer.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError("the answer is not UTF-8") from None


def _tell(asked: Asked, enough: Callable[[bytes], bool]) -> bytes:
    """What a service says that tells everybody the same."""
    if not asked.udp:
        return told(asked.target, asked.timeout, enough)
    with DatagramClient(asked.target, asked.timeout, asked.tries) as client:
        return client.ask(lambda: b"", lambda answer: answer)


def _is_line(data: bytes) -> bool:
    """Whether a line has come to its end; some begin with an empty one."""
    return b"\n" in data.lstrip() or len(data) > _LONGEST_DAYTIME


def _daytime(answer: bytes) -> str:
    """The line that people read (RFC 867)."""
    text = answer.decode("utf-8", "backslashreplace").strip().replace("\r\n", "\n")
    if not text or len(answer) > _LONGEST_DAYTIME:
        raise RemoteProtocolError("that is no line with the time (RFC 867)")
    return text


def _ask_ntp(asked: Asked, samples: int) -> None:
    """Print the best of some samples.

    :raises Failure: the server's time is nothing to go by.
    """
    with DatagramClient(asked.target, asked.timeout, asked.tries) as client:
        best = best_sample(_sample(client, samples))
        click.echo(best.line(client.address))
    if best.problem is not None:
        raise Failure("unsynchronised", f"{asked.target}: {best.problem}")


def _sample(client: DatagramClient, samples: int) -> list[NTPSample]:
    """Ask until there are enough samples, or the server has said that it is of no use."""
    found: list[NTPSample] = []
    while len(found) < samples:
        if found:
            clock.sleep(_PAUSE)
        query = NTPQuery()
        try:
            sample = client.ask(query.question, query.sample)
        except ConnectFailed:
            if found:
                break  # it answers less often than we ask
            raise
        if sample.problem is not None:
            # Where it has answered before, it only wants fewer questions.
            return found if found and sample.refused else [sample]
        found.append(sample)
    return found
