"""The audit in the system's own log: by syslog's socket, or by the journal's."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from zope.interface import implementer

from sockproto.services.command.audit import AuditEntry, IAudit

__all__ = ["DEFAULT_FACILITY", "FACILITIES", "JOURNAL", "SYSLOG", "JournalAudit", "SyslogAudit"]

SYSLOG = "/dev/log"
JOURNAL = "/run/systemd/journal/socket"

#: The facilities of RFC 5424 (6.2.1) that are for programs, by the names that syslog.conf has.
FACILITIES: Mapping[str, int] = MappingProxyType(
    {"user": 1, "daemon": 3, "auth": 4, "authpriv": 10, **{f"local{n}": 16 + n for n in range(8)}}
)
#: Where sudo and sshd say who did what, and what only root can read.
DEFAULT_FACILITY = "authpriv"
_WARNING, _NOTICE = 4, 5
_NAME = "sockproto-audit"
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
# What rsyslog and the journal take as one message unless they are told otherwise: 8 KiB, 48 KiB.
_LONGEST_SYSLOG = 8000
_LONGEST_JOURNAL = 48 * 1024


class _DatagramAudit:
    """Sends each entry as one datagram, which is never waited for.

    :param path: of the socket.
    :param datagram: makes one of an entry.
    :ivar problem: why the last entry could not be sent.
    :ivar lost: how many could not be sent since.
    """

    def __init__(self, path: str, datagram: Callable[[AuditEntry], bytes]) -> None:
        self._path = path
        self._datagram = datagram
        self._socket: socket.socket | None = None
        self.problem = ""
        self.lost = 0

    def record(self, entry: AuditEntry) -> None:
        """Send an entry."""
        datagram = self._datagram(entry)
        try:
            try:
                self._send(datagram)
            except ConnectionError:
                # Whoever listened there has been started anew.
                self.close()
                self._send(datagram)
        except OSError as error:
            self.lost += 1
            self.problem = f"{self._path}: {error.strerror}"
            if not isinstance(error, BlockingIOError):
                self.close()
        else:
            self.lost = 0
            self.problem = ""

    def _send(self, datagram: bytes) -> None:
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                made.connect(self._path)
            except OSError:
                made.close()
                raise
            self._socket = made
        self._socket.send(datagram)

    def reopen(self) -> None:
        """Connect again with the next entry."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        made, self._socket = self._socket, None
        if made is not None:
            made.close()


@implementer(IAudit)
class SyslogAudit(_DatagramAudit):
    """Entries as syslog messages, denials as warnings and all else as notices.

    :param facility: one of :data:`FACILITIES`.
    :param path: of the socket.
    """

    def __init__(self, facility: str = DEFAULT_FACILITY, path: str = SYSLOG) -> None:
        super().__init__(path, self._message)
        self._facility = FACILITIES[facility]

    def _message(self, entry: AuditEntry) -> bytes:
        # RFC 3164, as the C library's syslog() writes it: the time is local, its month English.
        local: datetime = entry.time.astimezone()
        stamp = f"{_MONTHS[local.month - 1]} {local.day:2} {local:%H:%M:%S}"
        head = f"<{self._facility * 8 + _severity(entry)}>{stamp} {_NAME}[{os.getpid()}]: "
        return head.encode() + entry.line(self.lost, _LONGEST_SYSLOG).rstrip(b"\n")


@implementer(IAudit)
class JournalAudit(_DatagramAudit):
    """Entries in the journal's native protocol, with fields of their own to search by, such as
    ``journalctl SOCKPROTO_IDENTITY=ops``.

    :param path: of the socket.
    """

    def __init__(self, path: str = JOURNAL) -> None:
        super().__init__(path, self._message)

    def _message(self, entry: AuditEntry) -> bytes:
        # No value has a line end in it, so each can be written as NAME=VALUE.
        fields = {
            "SYSLOG_IDENTIFIER": _NAME,
            "PRIORITY": _severity(entry),
            "SOCKPROTO_EVENT": entry.event,
            "SOCKPROTO_IDENTITY": entry.fields["identity"],
            "SOCKPROTO_SESSION": entry.fields["session"],
            "SOCKPROTO_RULE": entry.fields["rule"] or "",
        }
        head = "".join(f"{name}={value}\n" for name, value in fields.items())
        return head.encode() + b"MESSAGE=" + entry.line(self.lost, _LONGEST_JOURNAL)


def _severity(entry: AuditEntry) -> int:
    return _WARNING if entry.event == "denied" else _NOTICE
