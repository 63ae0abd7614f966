"""What a single command may use of the machine: the resource limits of a rule."""

from __future__ import annotations

import math
import resource

from attrs import field, frozen

from sockproto.limits import Bytes, Seconds
from sockproto.services.command.rule_values import between

__all__ = ["ResourceLimits"]


@frozen(kw_only=True)
class ResourceLimits:
    """The table ``limits`` of a rule (setrlimit(2)); what is ``None`` stays as the server has it.

    A limit here never raises one: the smaller of it and the server's own holds.

    :ivar cpu: seconds of processor time of each process, in whole ones; then XCPU ends it, and a
        second later KILL.
    :ivar address_space: bytes of memory that a process may map.
    :ivar user_processes: processes and threads of its user, all together, those of other commands
        too.
    :ivar files: descriptors of a process.
    :ivar file_size: bytes of any file that it writes.
    :ivar core: bytes of a core dump.
    """

    cpu: Seconds | None = field(default=None, validator=between(1))
    address_space: Bytes | None = field(default=None, validator=between(1))
    user_processes: int | None = field(default=None, validator=between(0))
    # Three are the standard streams, and one is what a program's libraries are loaded by.
    files: int | None = field(default=None, validator=between(4))
    file_size: Bytes | None = field(default=None, validator=between(0))
    core: Bytes | None = field(default=None, validator=between(0))

    @property
    def table(self) -> tuple[tuple[int, int, int], ...]:
        """The limits that are set: the resource's number, the soft and the hard limit."""
        found = []
        for number, value, more in (
            (resource.RLIMIT_CPU, None if self.cpu is None else math.ceil(self.cpu), 1),
            (resource.RLIMIT_AS, self.address_space, 0),
            (resource.RLIMIT_NPROC, self.user_processes, 0),
            (resource.RLIMIT_NOFILE, self.files, 0),
            (resource.RLIMIT_FSIZE, self.file_size, 0),
            (resource.RLIMIT_CORE, self.core, 0),
        ):
            if value is not None:
                found.append((number, value, value + more))
        return tuple(found)
