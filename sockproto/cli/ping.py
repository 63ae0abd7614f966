"""``sockproto ping``: whether an agent answers, and how fast."""

from __future__ import annotations

import click

from sockproto.cli.command import command
from sockproto.cli.options import ConnectionOptions

__all__ = ["ping"]

# As long as a connection may take: an agent that needs more is no good for work either.
_SECONDS = 10.0


@command(
    "ping",
    examples=[
        ("sockproto ping", "the agent of this machine"),
        ("sockproto ping --connect web1 --count 3", "another, three times"),
    ],
)
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True, help="Times to ask."
)
def ping(options: ConnectionOptions, count: int) -> None:
    """Log in, ask whether the agent is there, and print how long it took.

    The exit status is 0 if it answered, and 255 if it did not."""
    with options.connect() as session:
        for _ in range(count):
            milliseconds = session.ping(_SECONDS) * 1000
            click.echo(f"{session.login.server_id}: {milliseconds:.2f} ms")
