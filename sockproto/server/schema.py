"""What a configuration file holds: an attrs class for each table, a field for each key.

A new section is a class here and a field of :class:`Configuration`; a new key is a field. Reading,
unknown keys and the messages for wrong values follow from the types and the validators.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

from attrs import Attribute, evolve, field, frozen

from sockproto.limits import Limits
from sockproto.server.endpoint import Endpoint
from sockproto.server.registry import SERVICES
from sockproto.services.command.audit_socket import FACILITIES
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules
from sockproto.services.tutorial.settings import TutorialSettings

__all__ = ["AuditSettings", "Configuration", "ListenerSettings", "LogSettings", "Source"]

_SERVER_ID = re.compile(r"[A-Za-z0-9._@-]{1,64}", re.ASCII)


def _a_server_id(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not _SERVER_ID.fullmatch(value):
        raise ValueError(f"expected 1 to 64 letters, digits or ._@-, found {value[:80]!a}")


def _a_path(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and (not value or "\0" in value):
        raise ValueError(f"expected the path of a file, found {value[:80]!a}")


def _a_facility(_instance: Any, _attribute: Attribute[Any], value: bool | str) -> None:
    if not isinstance(value, bool) and value not in FACILITIES:
        known = ", ".join(FACILITIES)
        raise ValueError(f"expected true, false, or one of {known}; found {value[:80]!a}")


def _an_endpoint(_instance: Any, _attribute: Attribute[Any], value: str) -> None:
    Endpoint.parse(value)


@frozen
class Source:
    """One file that a configuration was read from.

    :ivar path: where it was found.
    :ivar sha256: the digest of its bytes, in hex: what ``sha256sum`` prints.
    """

    path: Path
    sha256: str


@frozen(kw_only=True)
class LogSettings:
    """``[log]``.

    :ivar level: which of sockproto's own events are left out: those of less importance.
    :ivar json: whether each event, Twisted's too, is one line of JSON (see
        :func:`sockproto.logs.formatAsJSON`), in the file or on the standard output that the options
        of ``twistd`` name, and under ``twist``; with ``--syslog`` or ``--logger`` nothing changes.
    """

    level: Literal["debug", "info", "warn", "error", "critical"] = "info"
    json: bool = False


@frozen(kw_only=True)
class AuditSettings:
    """``[audit]``: where it is written who ran what; nowhere unless this says so.

    :ivar file: a file for it alone, one line of JSON an entry; relative to the configuration file's
        folder.
    :ivar syslog: whether to syslog, or its facility; ``true`` is ``authpriv``.
    :ivar journal: whether to systemd's journal.
    """

    file: str | None = field(default=None, validator=_a_path)
    syslog: bool | str = field(default=False, validator=_a_facility)
    journal: bool = False

    def within(self, folder: Path) -> AuditSettings:
        """The same, with a path that is relative to a folder made absolute."""
        return self if self.file is None else evolve(self, file=str(folder / self.file))


@frozen(kw_only=True)
class ListenerSettings:
    """One ``[[listen]]`` table.

    :ivar service: a name of :data:`sockproto.server.registry.SERVICES`.
    :ivar endpoint: a Twisted endpoint string, or the same for ``udp`` and ``udp6``. The path of a
        Unix socket in a file is relative to that file's folder, as that of a certificate is.
    :ivar auth: whether clients log in first; ``None``: as the service is.
    :ivar tls: ``auto`` (a certificate in memory, with channel binding), the path of a PEM file, or
        ``None``; what holds is :attr:`protection`.
    :ivar allow_plaintext: that logins beyond this machine go without TLS is intended.
    :ivar own: the service's own settings, an instance of its ``settings`` class, where it has one.
    """

    service: str
    endpoint: str = field(validator=_an_endpoint)
    auth: bool | None = None
    tls: str | None = None
    allow_plaintext: bool = False
    own: Any = field(default=None, metadata={"own": True})

    @property
    def authenticates(self) -> bool:
        """Whether a client has to log in."""
        return SERVICES[self.service].authenticates or bool(self.auth)

    def within(self, folder: Path) -> ListenerSettings:
        """The same, with the paths that are relative to a folder made absolute."""
        changes: dict[str, Any] = {}
        endpoint = Endpoint.parse(self.endpoint).within(str(folder))
        if endpoint is not None:
            changes["endpoint"] = endpoint
        if self.tls not in (None, "auto"):
            changes["tls"] = str(folder / str(self.tls))
        return evolve(self, **changes)

    @property
    def protection(self) -> str | None:
        """What TLS there is, as :attr:`tls` has it: a login beyond this machine has it unless
        ``allow_plaintext`` says otherwise."""
        if self.tls is not None or self.allow_plaintext or not self.authenticates or self.is_local:
            return self.tls
        return "auto"

    @property
    def is_datagram(self) -> bool:
        """Whether it is over UDP."""
        return Endpoint.parse(self.endpoint).is_datagram

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return Endpoint.parse(self.endpoint).is_local

    def __str__(self) -> str:
        return f"{self.service}={self.endpoint}"


@frozen(kw_only=True)
class Configuration:
    """All that a server is told, by its files and its command line.

    :ivar include: globs of further files, relative to the file that names them; hidden files and
        folders are not meant by ``*``.
    :ivar server_id: the name that derived keys are bound to; ``None``: the host name.
    :ivar limits: what it spends.
    :ivar log: what it logs.
    :ivar audit: where it is written who ran what.
    :ivar tutorial: what the tutorial dialects are told.
    :ivar listeners: where it listens (``[[listen]]``).
    :ivar commands: who may run what (``[[command]]``).
    :ivar owner_unrestricted: whether ``owner`` may run anything; only where no file was read.
    :ivar sources: the files that were read, in that order.
    :ivar warnings: what is allowed but has to be logged at every start.
    :ivar exposed: the files that others than the server's user and root could have written, a line
        each: a server does not start with such a configuration.
    """

    include: tuple[str, ...] = ()
    server_id: str | None = field(default=None, validator=_a_server_id)
    limits: Limits = field(factory=Limits)
    log: LogSettings = field(factory=LogSettings)
    audit: AuditSettings = field(factory=AuditSettings)
    tutorial: TutorialSettings = field(factory=TutorialSettings)
    listeners: tuple[ListenerSettings, ...] = field(default=(), metadata={"key": "listen"})
    commands: tuple[CommandRule, ...] = field(default=(), metadata={"key": "command"})
    owner_unrestricted: bool = field(default=False, metadata={"key": None})
    sources: tuple[Source, ...] = field(default=(), metadata={"key": None})
    warnings: tuple[str, ...] = field(default=(), metadata={"key": None})
    exposed: tuple[str, ...] = field(default=(), metadata={"key": None})

    @property
    def rules(self) -> CommandRules:
        """The command rules, ready to decide."""
        return CommandRules(self.commands, self.owner_unrestricted)

    @property
    def authenticates(self) -> bool:
        """Whether there is a listener on which clients log in."""
        return any(listener.authenticates for listener in self.listeners)

    @property
    def sha256(self) -> str:
        """A digest of what was read, in hex; empty where no file was.

        Of a single file its own; of several that of ``sha256sum``'s lines for them, in order.
        """
        if len(self.sources) < 2:
            return "".join(source.sha256 for source in self.sources)
        lines = "".join(f"{source.sha256}  {source.path}\n" for source in self.sources)
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
