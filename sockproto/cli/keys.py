"""``sockproto keys``: make, list, show, deploy and revoke the keys of a keyring."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from attrs import evolve

from sockproto.cli.command import Group, command, warn
from sockproto.cli.options import ConnectionOptions
from sockproto.cli.parameters import IdType, MomentType
from sockproto.errors import KeyringError
from sockproto.key import Key, new_key
from sockproto.keyring import Keyring
from sockproto.keyring_edit import add_keys, key_table, moment_text, revoke_key
from sockproto.private_file import MAX_SIZE

__all__ = ["keys"]


keys = Group(
    "keys",
    local=True,
    help="""Make, list, show, deploy and revoke keys.

    A key is an id and a secret, for an identity; the agent's rules speak of the identity. Agent
    and client each have a keyring, a file of keys with mode 0600: the agent of those it accepts,
    the client of those it logs in with. A client may hold a master, from which each host gets a
    secret of its own.""",
    examples=[
        ("sockproto keys new owner --if-missing", "the first key on a machine"),
        (
            "sockproto keys derive ops --for web1 | ssh web1 sockproto keys import -",
            "give a host its own secret of a master",
        ),
    ],
)


@command(
    "new",
    parent=keys,
    local=True,
    examples=[
        ("sockproto keys new owner --if-missing", "make it unless it is there"),
        (
            "sockproto keys new ops-2026b --identity ops --master --not-after 2027-01-31",
            "a master, for a fleet of hosts, that ends by itself",
        ),
    ],
)
@click.argument("key_id", metavar="ID", type=IdType())
@click.option("--if-missing", is_flag=True, help="Do nothing if the keyring has the id.")
@click.option("--master", is_flag=True, help="Make a master, from which hosts get secrets.")
@click.option("--identity", type=IdType(), metavar="ID", help="Whom it speaks for.  [default: ID]")
@click.option(
    "--group", "groups", multiple=True, type=IdType(), metavar="GROUP", help="A group of it."
)
@click.option("--host", "hosts", multiple=True, metavar="GLOB", help="Where a client uses it.")
@click.option("--not-before", type=MomentType(end=False), metavar="TIME", help="When it begins.")
@click.option("--not-after", type=MomentType(end=True), metavar="TIME", help="When it ends.")
def new(
    options: ConnectionOptions,
    key_id: str,
    if_missing: bool,
    master: bool,
    identity: str | None,
    groups: Sequence[str],
    hosts: Sequence[str],
    not_before: datetime | None,
    not_after: datetime | None,
) -> int | None:
    """Make a key with a random secret, and the keyring if there is none.

    --group and --host may be repeated. TIME is a date (UTC; the whole day), a time with its offset,
    or days from now (90d).
    """
    if identity is None and "identity" in options.given:
        identity = options.identity  # it stood before the subcommand
    path = options.keyring_path
    try:
        key = new_key(
            key_id,
            master=master,
            identity=identity,
            groups=groups,
            hosts=hosts,
            not_before=not_before,
            not_after=not_after,
        )
    except KeyringError as error:
        raise click.UsageError(str(error)) from None
    if key_id in (present := _present(path)):
        if not if_missing:
            raise KeyringError(
                f"{path}: there is a key {key_id!r} already (--if-missing allows that)"
            )
        click.echo(f"{path}: key {key_id!r} is there already ({_state(present[key_id])})")
        return 0
    added = add_keys(path, [key], keep_existing=if_missing)
    click.echo(f"{path}: {'made' if added else 'there is already'} key {key_id!r}")
    return 0


@command(
    "list",
    parent=keys,
    local=True,
    examples=[("sockproto keys list --keyring /etc/sockproto/keyring.toml", "an agent's keys")],
)
def list_keys(options: ConnectionOptions) -> int | None:
    """List the keys and their states; never their secrets."""
    rows = [("ID", "IDENTITY", "KIND", "STATE", "NOT AFTER", "GROUPS", "HOSTS")]
    for key in options.load_keyring().values():
        rows.append(
            (
                key.id,
                key.identity,
                "secret" if key.master is None else "master",
                _state(key),
                "-" if key.not_after is None else moment_text(key.not_after),
                ",".join(key.groups) or "-",
                ",".join(key.hosts) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
    return 0


@command(
    "show",
    parent=keys,
    local=True,
    examples=[
        ("sockproto keys show ops", "all about it but its secret"),
        (
            "sockproto keys show ops --secret | ssh web1 sockproto keys import -",
            "copy it to another machine",
        ),
    ],
)
@click.argument("key_id", metavar="ID", type=IdType())
@click.option("--secret", is_flag=True, help="With the secret, to take it to another machine.")
def show(options: ConnectionOptions, key_id: str, secret: bool) -> int | None:
    """Show a key as it stands in the keyring, without its secret."""
    key = _key(options, key_id)
    if secret:
        _warn_of_secret()
    click.echo(f"# {_state(key)}\n{key_table(key, with_secret=secret)}", nl=False)
    return 0


@command(
    "derive",
    parent=keys,
    local=True,
    examples=[
        (
            "sockproto keys derive ops --for web1 | ssh web1 sockproto keys import -",
            "web1 can check logins with `ops` then, and log in nowhere else with what it has",
        ),
    ],
)
@click.argument("key_id", metavar="ID", type=IdType())
@click.option(
    "--for", "server_id", required=True, type=IdType(), metavar="HOST", help="The server's id."
)
def derive(options: ConnectionOptions, key_id: str, server_id: str) -> int | None:
    """Print the table to deploy on a host: a master's key with the secret for that host alone.

    HOST is the server's id: its host name, unless its configuration has a server_id.
    """
    key = _key(options, key_id)
    if key.master is None:
        raise KeyringError(
            f"{options.keyring_path}: key {key_id!r} is no master: nothing can be derived from it"
        )
    problem = key.problem(datetime.now(UTC))
    if problem in ("revoked", "expired"):
        raise KeyringError(f"{options.keyring_path}: key {key_id!r} is {problem}")
    if not key.fits_host(server_id):
        warn(f"key {key_id!r} is not used for {server_id}: its hosts are {', '.join(key.hosts)}")
    _warn_of_secret()
    # A host checks logins with it: where the client uses it is not the host's business.
    deployed = evolve(key, secret=key.secret_for(server_id), master=None, hosts=())
    click.echo(f"# for the server {server_id} alone\n{key_table(deployed)}", nl=False)
    return 0


@command(
    "import",
    parent=keys,
    local=True,
    examples=[
        ("sockproto keys import key.toml", "add the keys in a file"),
        ("ssh admin sockproto keys derive ops --for web1 | sockproto keys import -", "from a pipe"),
    ],
)
@click.argument("file", metavar="FILE")
def import_keys(options: ConnectionOptions, file: str) -> int | None:
    """Add the keys in FILE (- is stdin), as `derive` and `show --secret` print them: all or none.

    A key that is there already in the same words is left alone; one that is there in others is an
    error.
    """
    name, content = _content_of(file)
    found = Keyring.parse(content, name)
    if not found:
        raise KeyringError(f"{name}: expected a [[key]] table, found none")
    path = options.keyring_path
    added = {key.id for key in add_keys(path, found.values())}
    for key_id in found:
        click.echo(f"{path}: {'added' if key_id in added else 'there is already'} key {key_id!r}")
    return 0


@command(
    "revoke",
    parent=keys,
    local=True,
    examples=[("sockproto keys revoke ops-2026a", "no login with it from now on")],
)
@click.argument("key_id", metavar="ID", type=IdType())
def revoke(options: ConnectionOptions, key_id: str) -> int | None:
    """Mark a key as revoked; the rest of the file stays as it is.

    An agent notices it at the next login. What is connected with the key ends when the agent
    rereads its keyring (SIGHUP).
    """
    path = options.keyring_path
    done = revoke_key(path, key_id)
    click.echo(f"{path}: key {key_id!r} {'is revoked' if done else 'was revoked already'}")
    return 0


def _present(path: str) -> Keyring:
    """The keyring at a path, empty if there is none."""
    return Keyring.load(path) if os.path.lexists(path) else Keyring()


def _key(options: ConnectionOptions, key_id: str) -> Key:
    """A key by its id."""
    keyring = options.load_keyring()
    if key_id not in keyring:
        raise KeyringError(f"{options.keyring_path}: no key with the id {key_id!r}")
    return keyring[key_id]


def _state(key: Key) -> str:
    """Whether a key can be used now, in a word or two."""
    return key.problem(datetime.now(UTC)) or "valid"


def _content_of(file: str) -> tuple[str, bytes]:
    """The name for messages and the content of a file, or of stdin."""
    try:
        if file == "-":
            name = "stdin"
            content: bytes = sys.stdin.buffer.read(MAX_SIZE + 1)
        else:
            name = file
            with open(file, "rb") as source:
                content = source.read(MAX_SIZE + 1)
    except OSError as error:
        raise KeyringError(f"{file}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_SIZE:
        raise KeyringError(f"{name}: expected at most {MAX_SIZE} bytes")
    return name, content


def _warn_of_secret() -> None:
    """Say so if a secret is about to be on a screen."""
    if _is_on_screen():
        warn("a secret follows: it is on this screen now, and in what scrolls back")


def _is_on_screen() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()
