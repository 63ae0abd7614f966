"""Which processes belong to a command: attribution over a table of processes, without any I/O.

A command's tree is what descends from its *leader*, the process the host spawned.  Ancestry alone
loses every process whose parent has died: as a subreaper the host becomes its parent.  Such an
*orphan* is attributed by the strongest evidence there is:

1. it is one that an earlier scan found in the tree (pid and start time);
2. its session is the leader's, or one that a process of the tree is in (a session can be entered
   by fork and left by ``setsid``, but never joined, so all of a session comes from one tree);
3. it is in the command's control group, where it has one;
4. it carries a *mark*: a number of the command's own, in its real-time limit or its environment
   (:mod:`sockproto.services.command.tree_scan` says how and why);
5. it carries no mark at all, but started while this was the only command running.

Nothing that started before the leader ever belongs to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

__all__ = ["Process", "Tree", "parse_stat"]

_DEAD = frozenset("ZXx")
_WINDOWS = (
    32  # times alone that are remembered; older ones are forgotten, which only spares orphans
)


class Process(NamedTuple):
    """What ``/proc/PID/stat`` says of a process.

    :ivar start: clock ticks between boot and its start; with ``pid`` it identifies a process, since
        a pid alone is used again.
    """

    pid: int
    parent: int
    session: int
    start: int
    state: str = "S"

    @property
    def alive(self) -> bool:
        """Whether it is more than an exit status that waits for its parent."""
        return self.state not in _DEAD


def parse_stat(data: bytes) -> Process:
    """Read the contents of a ``/proc/PID/stat`` (proc(5)).

    :raises ValueError: they are cut short, as when the process ends meanwhile.
    """
    # The name stands in parentheses and may itself hold parentheses and spaces.
    pid, _, rest = data.partition(b" (")
    fields = rest[rest.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        raise ValueError("a stat line that is cut short")
    return Process(
        int(pid), int(fields[1]), int(fields[3]), int(fields[19]), fields[0].decode("ascii")
    )


class Tree:
    """A command's tree, as far as it is known.

    :param leader: the leader's pid, which is also its session.
    :param start: the leader's start time in clock ticks.
    :param mark: the number that its processes inherit.
    """

    def __init__(self, leader: int, start: int, mark: int) -> None:
        self.leader = leader
        self.start = start
        self.mark = mark
        self._known: dict[int, int] = {}
        self._alone: list[tuple[int, int | None]] = []

    def alone_from(self, tick: int) -> None:
        """Note that from here on no other command runs; ``tick`` itself does not count."""
        if not self._alone or self._alone[-1][1] is not None:
            self._alone.append((tick, None))
            del self._alone[:-_WINDOWS]

    def alone_until(self, tick: int) -> None:
        """Note that another command starts at ``tick``."""
        if self._alone and self._alone[-1][1] is None:
            self._alone[-1] = (self._alone[-1][0], tick)

    def was_alone_at(self, tick: int) -> bool:
        """Whether this was the only command running at ``tick``."""
        return any(
            after < tick and (before is None or tick < before) for after, before in self._alone
        )

    def members(
        self,
        table: Mapping[int, Process],
        host: int,
        leaders: Iterable[int],
        mark_of: Callable[[int], int | None],
        group: frozenset[int] = frozenset(),
    ) -> list[Process]:
        """Find the living processes of the tree and remember them.

        :param table: the processes of the machine, by pid.
        :param host: the pid of the subreaper.
        :param leaders: the pids of the leaders of all running commands.
        :param mark_of: reads the mark of an orphan; asked only where nothing stronger decides.
        :param group: the pids in the command's control group.
        """
        others = set(leaders) - {self.leader}
        children: dict[int, list[Process]] = {}
        for process in table.values():
            children.setdefault(process.parent, []).append(process)
        found: dict[int, Process] = {}
        # Only of this scan: the number of a session that has ended can be another's by the next.
        # The leader's cannot, since the leader is not reaped yet.
        sessions = {self.leader}

        def take(root: Process) -> None:
            pending = [root]
            while pending:
                process = pending.pop()
                # A child that started before the leader cannot be: its entry is of another moment.
                if process.pid in found or process.start < self.start:
                    continue
                found[process.pid] = process
                sessions.add(process.session)
                pending.extend(children.get(process.pid, ()))

        if self.leader in table:
            take(table[self.leader])
        orphans = [
            process
            for process in children.get(host, ())
            if process.alive and process.pid != self.leader and process.pid not in others
        ]
        marks: dict[int, int | None] = {}

        def belongs(orphan: Process) -> bool:
            if orphan.start < self.start:
                return False
            if self._known.get(orphan.pid) == orphan.start or orphan.session in sessions:
                return True
            if orphan.pid in group:
                return True
            if orphan.pid not in marks:
                marks[orphan.pid] = mark_of(orphan.pid)
            return marks[orphan.pid] == self.mark

        # Each orphan found may bring in sessions that others are in, so until nothing changes.
        while True:
            taken = [orphan for orphan in orphans if belongs(orphan)]
            if not taken:
                break
            for orphan in taken:
                take(orphan)
            orphans = [orphan for orphan in orphans if orphan.pid not in found]
        # What is left are processes that finished commands left behind, and maybe an orphan of this
        # one with no mark.  If any of them could be the former, none is taken for the latter: a
        # stray process is better than a killed daemon.
        if orphans and all(
            marks.get(orphan.pid, 0) is None and self.was_alone_at(orphan.start)
            for orphan in orphans
        ):
            for orphan in orphans:
                take(orphan)
        self._known = {process.pid: process.start for process in found.values()}
        return [process for process in found.values() if process.alive]
