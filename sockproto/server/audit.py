"""The audit as a server's configuration has it: opened before anything runs, kept over a reload."""

from __future__ import annotations

from sockproto.logs import Logger, Whole
from sockproto.server.schema import AuditSettings, Configuration
from sockproto.services.command.audit import Audits, IAudit, NoAudit
from sockproto.services.command.audit_file import FileAudit
from sockproto.services.command.audit_socket import DEFAULT_FACILITY, JournalAudit, SyslogAudit
from sockproto.services.command.auditing import CommandAudit

__all__ = ["ServerAudit"]


class ServerAudit:
    """Where the entries of a server's commands go.

    :param owner: the user and the group that the server will become, if it will.
    :ivar commands: makes the entries.
    """

    _log = Logger()

    def __init__(self, owner: tuple[int, int] | None = None) -> None:
        self.commands = CommandAudit()
        self._owner = owner
        self._settings = AuditSettings()
        self._prepared: IAudit | None = None

    def prepare(self, configuration: Configuration) -> None:
        """Open what a configuration names, to be used from :meth:`use` on.

        :raises ConfigurationError: it cannot be opened; what was before stays in use.
        """
        self._forget()
        if configuration.audit != self._settings:
            self._prepared = self._opened(configuration.audit)

    def use(self, configuration: Configuration) -> None:
        """Have the configuration that was prepared hold from now on."""
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            self.commands.audit.reopen()
        else:
            self.commands.replace(prepared)
        self.commands.configuration = configuration.sha256
        self._settings = configuration.audit

    def remind(self) -> None:
        """Log what is wrong, if anything is."""
        if self.commands.audit.problem:
            self._log.error("the audit: {problem}", problem=Whole(self.commands.audit.problem))

    def close(self) -> None:
        """Write no more; :meth:`prepare` opens it again."""
        self._forget()
        self.commands.close()
        self._settings = AuditSettings()

    def _forget(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.close()

    def _opened(self, settings: AuditSettings) -> IAudit:
        audits: list[IAudit] = []
        if settings.file is not None:
            audits.append(FileAudit(settings.file, self._owner))
        if settings.syslog is not False:
            facility = DEFAULT_FACILITY if settings.syslog is True else settings.syslog
            audits.append(SyslogAudit(facility))
        if settings.journal:
            audits.append(JournalAudit())
        if not audits:
            return NoAudit()
        return audits[0] if len(audits) == 1 else Audits(audits)
