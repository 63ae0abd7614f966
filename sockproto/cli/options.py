"""The common options: which agent, and as whom; before the subcommand or after it."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve, frozen

from sockproto.keyring import Keyring
from sockproto.keyring_file import default_path
from sockproto.target import DEFAULT_WHERE

if TYPE_CHECKING:
    from sockproto.blocking import Session

__all__ = ["CommonOption", "ConnectionOptions", "common_options", "options_of"]

_VARIABLES = MappingProxyType(
    {
        "where": "SOCKPROTO_CONNECT",
        "keyring": "SOCKPROTO_KEYRING",
        "identity": "SOCKPROTO_IDENTITY",
    }
)
# The names of the common options' parameters begin with it, so that a subcommand can have its own
# parameter of such a name.
_PREFIX = "common_"


@frozen(kw_only=True)
class ConnectionOptions:
    """The common options: which agent, and as whom.

    :ivar where: ``--connect``, not looked at yet.
    :ivar keyring: ``--keyring``, or ``None``; mostly :attr:`keyring_path` is wanted.
    :ivar identity: ``--identity``, or ``None``.
    :ivar server_id: ``--server-id``, or ``None``.
    :ivar plaintext: ``--plaintext``.
    :ivar given: the names of those above that stood on the command line itself.
    """

    where: str = DEFAULT_WHERE
    keyring: str | None = None
    identity: str | None = None
    server_id: str | None = None
    plaintext: bool = False
    given: frozenset[str] = frozenset()

    @property
    def keyring_path(self) -> str:
        """The keyring named, else the user's own.

        :raises KeyringError: none is named, and the user has no home.
        """
        return default_path(os.environ) if self.keyring is None else self.keyring

    def connect(self) -> Session:
        """Connect to the agent, and log in.

        :raises AgentError: there is no agent, or it does not let us in.
        :raises KeyringError: there is no fitting key.
        """
        from sockproto.blocking import connect

        return connect(
            self.where,
            self.keyring,
            identity=self.identity,
            server_id=self.server_id,
            plaintext=self.plaintext,
        )

    def members(self) -> tuple[str, ...] | None:
        """The hosts of the group that is to be connected to; ``None`` if it is no group.

        :raises ConfigurationError: the client's configuration cannot be used.
        """
        from sockproto.hosts import known_hosts

        return known_hosts(self.where, os.environ).members(self.where)

    def load_keyring(self) -> Keyring:
        """Read the keyring.

        :raises KeyringError: it cannot be used.
        """
        return Keyring.load(self.keyring_path)


class CommonOption(click.Option):
    """One of the common options: not passed to the function, but kept in the outermost context."""


def common_options(local: bool) -> list[CommonOption]:
    """The common options, new ones each time; a local command takes them all but lists only one."""

    def option(name: str, switch: str, *, help: str, **more: Any) -> CommonOption:
        return CommonOption(
            [f"--{switch}", _PREFIX + name],
            help=help,
            expose_value=False,
            callback=_record,
            hidden=local and name != "keyring",
            **more,
        )

    return [
        option(
            "where",
            "connect",
            metavar="WHERE",
            help="The agent: tcp:HOST:PORT, unix:PATH, HOST[:PORT] for TLS, or the name of a host "
            f"in the configuration.  [env: SOCKPROTO_CONNECT; default: {DEFAULT_WHERE}]",
        ),
        option(
            "keyring",
            "keyring",
            metavar="FILE",
            help="The keys.  [env: SOCKPROTO_KEYRING; default: ~/.config/sockproto/keyring.toml]",
        ),
        option(
            "identity",
            "identity",
            metavar="ID",
            help="Whose key to log in with.  [env: SOCKPROTO_IDENTITY; default: owner]",
        ),
        option(
            "server_id",
            "server-id",
            metavar="ID",
            help="The server expected; any other is refused.",
        ),
        option(
            "plaintext",
            "plaintext",
            is_flag=True,
            help="Allow tcp: beyond this machine, where all can read and change what is sent.",
        ),
    ]


def _record(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep what a common option says; contexts are entered in the order of the command line."""
    if value is None or value is False:
        return
    if value == "":
        raise click.BadParameter("expected something, found nothing", ctx, param)
    assert param.name is not None
    name = param.name.removeprefix(_PREFIX)
    options = options_of(ctx)
    ctx.find_root().obj = evolve(options, given=options.given | {name}, **{name: value})


def options_of(ctx: click.Context) -> ConnectionOptions:
    """The common options as the environment, and the command line so far, have them."""
    root = ctx.find_root()
    if not isinstance(root.obj, ConnectionOptions):
        found: dict[str, Any] = {name: os.environ.get(each) for name, each in _VARIABLES.items()}
        root.obj = ConnectionOptions(**{name: text for name, text in found.items() if text})
    options: ConnectionOptions = root.obj
    return options
