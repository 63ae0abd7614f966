"""``sockproto check``: what is wrong with a configuration, or which of its rules decides."""

from __future__ import annotations

import shlex
from ipaddress import ip_address
from typing import TYPE_CHECKING

import click

from sockproto.cli.command import command, one_line, warn
from sockproto.cli.options import ConnectionOptions
from sockproto.errors import ConfigurationError

if TYPE_CHECKING:
    from sockproto.server.config import Configuration, ListenerSettings
    from sockproto.services.command.rules import Decision

__all__ = ["check"]


@command(
    "check",
    local=True,
    examples=[
        ("sockproto check server.toml", "what is wrong with it, or what it sets up"),
        (
            "sockproto check server.toml --as ops -- disk /var",
            "which rule decides on that request, and why; nothing is run",
        ),
        (
            "sockproto check server.toml --as ops --from 10.1.2.3 -- disk /var",
            "the same, as if it came from there",
        ),
    ],
)
@click.argument("file", type=str)
@click.option("--as", "requester", metavar="IDENTITY", help="Whose request to decide on.")
@click.option(
    "--group",
    "groups",
    metavar="NAME",
    multiple=True,
    help="A group of IDENTITY's key, besides those in --keyring; repeatable.",
)
@click.option(
    "--from",
    "origin",
    metavar="ADDRESS",
    help="Where the request comes from: an IP address, or unix.",
)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
def check(
    options: ConnectionOptions,
    file: str,
    requester: str | None,
    groups: tuple[str, ...],
    origin: str | None,
    argv: tuple[str, ...],
) -> int:
    """Read a server's configuration FILE and say what is wrong with it, or what it sets up.

    With --as IDENTITY -- ARGV..., say which rule decides on that request, and why; nothing is run.
    A rule that has a "from" needs --from ADDRESS, or it refuses.
    The exit status is 1 if the configuration cannot be used, or the request is refused. A file
    that others can write is a warning here, while a server does not start with it.
    """
    # The one subcommand that reads what a server reads: the others start without cattrs.
    from sockproto.server.config import read_configuration

    if (requester is None) != (not argv):
        raise click.UsageError("--as IDENTITY and -- ARGV... go together")
    for option, given in (("--group", groups), ("--from", origin)):
        if given and requester is None:
            raise click.UsageError(f"{option} goes with --as IDENTITY")
    if origin is not None and origin != "unix":
        try:
            ip_address(origin)
        except ValueError:
            raise click.BadParameter(
                f"expected an IP address or unix, found {origin!r}", param_hint="--from"
            ) from None
    try:
        configuration = read_configuration(file)
        if requester is None:
            _check_certificates(configuration)
    except ConfigurationError as error:
        for line in str(error).split("\n"):
            click.echo(one_line(line), err=True)
        return 1
    if requester is None:
        _summarise(file, configuration)
        return 0
    decision = configuration.rules.decide(
        requester, {*groups, *_keyring_groups(options, requester)}, argv, origin
    )
    _tell(decision)
    return 0 if decision.allowed else 1


def _check_certificates(configuration: Configuration) -> None:
    """:raises ConfigurationError: a certificate that a server would need cannot be used."""
    files = {listener.tls for listener in configuration.listeners} - {None, "auto"}
    if files:
        from sockproto.tls import context_from_file

        for name in sorted(map(str, files)):
            context_from_file(name)


def _keyring_groups(options: ConnectionOptions, identity: str) -> set[str]:
    """The groups that a keyring named on the command line gives an identity.

    :raises KeyringError: it cannot be used.
    """
    if "keyring" not in options.given:
        return set()
    keys = options.load_keyring().values()
    return {group for key in keys if key.identity == identity for group in key.groups}


def _summarise(file: str, configuration: Configuration) -> None:
    """Print what a configuration sets up."""
    from sockproto.services.command.accounts import account_problems

    for warning in (*configuration.exposed, *configuration.warnings):
        warn(warning)
    for problem in account_problems(configuration.commands):
        warn(f"{problem}; a server that you start here does not start")
    click.echo(f"{one_line(file)}: can be used (sha256 {configuration.sha256})")
    for source in configuration.sources[1:]:
        click.echo(f"includes {source.path}")
    for listener in configuration.listeners:
        click.echo(f"listen   {listener.service} on {listener.endpoint}: {_protection(listener)}")
    if not configuration.listeners:
        click.echo("listen   nowhere, unless --listen says where")
    audit = configuration.audit
    if audit.file is not None:
        click.echo(f"audit    to {one_line(audit.file)}")
    if audit.syslog:
        click.echo("audit    to syslog")
    if audit.journal:
        click.echo("audit    to the journal")
    for rule in configuration.commands:
        argv = "any argv" if isinstance(rule.argv, str) else shlex.join(rule.argv)
        denied = f", but not {', '.join(rule.deny)}" if rule.deny else ""
        click.echo(
            f"command  {rule.label}: {argv}; for {', '.join(rule.allow) or 'nobody'}{denied}"
        )
    if not configuration.commands:
        click.echo("command  none, so nobody may run anything")


def _protection(listener: ListenerSettings) -> str:
    """How a listener is protected, in a few words."""
    login = "login" if listener.authenticates else "no login"
    if listener.protection == "auto":
        return f"{login}, TLS with a certificate made at start"
    if listener.protection is not None:
        return f"{login}, TLS with {listener.protection}"
    return f"{login}, no TLS, {'this machine only' if listener.is_local else 'open to the network'}"


def _tell(decision: Decision) -> None:
    """Print a decision, the reason of its rule, and what the client is told or what would run."""
    if decision.allowed:
        words = [word.decode("utf-8", "backslashreplace") for word in decision.argv]
        click.echo(f"allowed: {decision.reason}")
        click.echo(f"runs: {one_line(shlex.join(words))}")
    else:
        click.echo(f"{decision.code}: {decision.reason}")
        click.echo(f"the client is told: {decision.message}")
