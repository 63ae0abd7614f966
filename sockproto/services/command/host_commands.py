"""The commands that a host process runs: their spawning, reaping and ending."""

from __future__ import annotations

import contextlib
import json
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sockproto.services.command.cgroup import CommandGroups
from sockproto.services.command.host_ending import Ending, Phase
from sockproto.services.command.host_signals import signal_name, signal_number
from sockproto.services.command.host_spawn import SpawnFailed, elevating, spawn
from sockproto.services.command.tree import Tree
from sockproto.services.command.tree_scan import (
    MARK_VARIABLE,
    child_pids,
    clock_ticks,
    mark_of,
    read_process,
    read_table,
    send_signal,
    wear_mark,
)

__all__ = ["Commands"]

_DEATHS_A_TURN = 256
_SHORTEST_SCAN_PAUSE = 0.002
_DEBUGGER_PAUSE = 0.1


class Run:
    """One command: the leader's pid and what is known of its tree."""

    def __init__(self, number: int, leader: int, mark: int, grace: float, grouped: bool) -> None:
        self.number = number
        self.leader = leader
        self.grace = grace
        self.grouped = grouped
        # The leader is not reaped before its run is over, so its start can be read when needed.
        self.tree = Tree(leader, 0, mark)
        self.ending: Ending | None = None
        self.exited = False
        self.stuck = False


class Commands:
    """All commands of one host.

    :param report: takes the events, as keyword arguments.
    :param groups: where commands get control groups, if anywhere.
    :param new_privileges: whether a program may get more rights than this process by its file.
    :ivar more_to_reap: whether :meth:`reap` has stopped early, and wants to be called again.
    """

    def __init__(
        self,
        report: Callable[..., None],
        groups: CommandGroups | None,
        new_privileges: bool = True,
    ) -> None:
        self.more_to_reap = False
        self._report = report
        self._groups = groups
        self._new_privileges = new_privileges
        self._pid = os.getpid()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._runs: dict[int, Run] = {}
        self._leaders: dict[int, Run] = {}
        self._last_end = 0
        self._last_scan = 0.0
        self._scan_pause = _SHORTEST_SCAN_PAUSE

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def due(self) -> float | None:
        """When :meth:`advance` has something to do, on the monotonic clock."""
        return min((run.ending.due for run in self._runs.values() if run.ending), default=None)

    @property
    def longest_grace(self) -> float:
        """The longest time between TERM and KILL of any command."""
        return max((run.grace for run in self._runs.values()), default=0.0)

    def spawn(self, request: dict[str, Any], descriptors: list[int]) -> None:
        """Start a command.

        :param request: the server's message.
        :param descriptors: what came with it; those that are used up are removed.
        """
        number = request["run"]
        mark = request["mark"]
        tick = clock_ticks()
        try:
            if len(descriptors) != request["descriptors"]:
                raise SpawnFailed("busy", "the host process has no descriptor free")
            if request["large"]:
                with open(descriptors.pop(), "rb") as file:
                    request.update(json.load(file))
            env = dict(request["env"])
            env[MARK_VARIABLE] = str(mark)
            argv, cwd, conditions = request["argv"], request["cwd"], request["conditions"]
            if not self._new_privileges:
                _refuse_elevating(argv, env, cwd, conditions.get("uid"))
            terminal = request["terminal"]
            *stdin, stdout, stderr = 3 * descriptors if terminal else descriptors
            wear_mark(mark)
            with self._inside_group(number) as grouped:
                leader = spawn(
                    argv,
                    env,
                    cwd,
                    stdin[0] if stdin else self._null,
                    stdout,
                    stderr,
                    terminal=terminal,
                    **conditions,
                )
        except SpawnFailed as error:
            self._report(event="failed", run=number, code=error.code, message=str(error))
            return
        except Exception as error:
            traceback.print_exc()
            message = f"the host process could not start it: {type(error).__name__}"
            self._report(event="failed", run=number, code="internal", message=message)
            return
        run = Run(number, leader, mark, request["grace"], grouped)
        if not self._runs:
            run.tree.alone_from(self._last_end)
        elif len(self._runs) == 1:
            next(iter(self._runs.values())).tree.alone_until(tick)
        self._runs[number] = self._leaders[leader] = run
        self._report(event="started", run=number, pid=leader)

    @contextlib.contextmanager
    def _inside_group(self, number: int) -> Iterator[bool]:
        grouped = False
        if self._groups is not None:
            # Without its group a command can still be ended, only not so surely.
            with contextlib.suppress(OSError):
                self._groups.enter(number)
                grouped = True
        try:
            yield grouped
        except BaseException:
            self._leave_group(grouped)
            if self._groups is not None and grouped:
                self._groups.remove(number)
            raise
        self._leave_group(grouped)

    def _leave_group(self, grouped: bool) -> None:
        if self._groups is not None and grouped:
            self._groups.leave()

    def signal(self, number: int, name: str) -> None:
        """Signal the process group of a command's leader."""
        run = self._runs.get(number)
        if run is not None:
            # The leader is not reaped yet, so the group cannot be anybody else's.
            with contextlib.suppress(OSError):
                os.killpg(run.leader, signal_number(name))

    def end(self, number: int) -> None:
        """Begin to end a command's tree, unless it has ended while that was on its way."""
        run = self._runs.get(number)
        if run is not None and run.ending is None:
            leader = read_process(run.leader)
            run.tree.start = leader.start if leader is not None else 0
            run.ending = Ending(run.grace, time.monotonic())

    def end_all(self) -> None:
        """Begin to end all commands."""
        for number in list(self._runs):
            self.end(number)

    def _over(self, run: Run) -> None:
        """Forget a run whose leader is reaped."""
        del self._runs[run.number]
        del self._leaders[run.leader]
        self._last_end = clock_ticks()
        if len(self._runs) == 1:
            next(iter(self._runs.values())).tree.alone_from(self._last_end)
        if self._groups is not None and run.grouped:
            self._groups.remove(run.number)

    def reap(self) -> None:
        """Take note of every child that has ended, and reap all but the leaders that are held."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        adopted = False
        children: Iterable[int] = ()
        self.more_to_reap = False
        for _ in range(_DEATHS_A_TURN):
            try:
                status = os.waitid(os.P_ALL, 0, flags)
            except ChildProcessError:
                break
            if status is None:
                break
            run = self._leaders.get(status.si_pid)
            if run is not None and run.exited:
                # A held leader is what the kernel would show again and again.
                children = child_pids()
                break
            adopted |= self._child_ended(status)
        else:
            self.more_to_reap = True
        for pid in children:
            run = self._leaders.get(pid)
            if run is None or not run.exited:
                with contextlib.suppress(ChildProcessError):
                    if (status := os.waitid(os.P_PID, pid, flags)) is not None:
                        adopted |= self._child_ended(status)
        if adopted and self._groups is not None:
            self._groups.sweep()
        # Something of any tree may have ended.  In a storm of deaths the scans keep a distance.
        when = max(time.monotonic(), self._last_scan + self._scan_pause)
        for run in self._runs.values():
            if run.ending is not None:
                run.ending.hurry(when)

    def _child_ended(self, status: os.waitid_result) -> bool:
        """Take note of one child's end.

        :return: whether it was an adopted one.
        """
        run = self._leaders.get(status.si_pid)
        if run is None:
            os.waitid(os.P_PID, status.si_pid, os.WEXITED)
            return True
        run.exited = True
        event: dict[str, object] = {"event": "exited", "run": run.number}
        if status.si_code == os.CLD_EXITED:
            event["exit_status"] = status.si_status
        else:
            event["signal"] = signal_name(status.si_status)
        if run.ending is None:
            # It ended by itself: what it leaves behind is meant to stay.
            os.waitid(os.P_PID, run.leader, os.WEXITED)
            event["gone"] = True
            self._over(run)
        # Else it is held as a zombie: as long as it is there, its pid, and so the session and
        # process group of its tree, cannot be used again.
        self._report(**event)
        return False

    def advance(self) -> None:
        """Take the trees that are being ended a step further; they share one scan."""
        now = time.monotonic()
        due = [run for run in self._runs.values() if run.ending and run.ending.due <= now]
        if not due:
            return
        table = read_table()
        self._last_scan = time.monotonic()
        self._scan_pause = max(0.002, 4 * (self._last_scan - now))
        for run in due:
            ending = run.ending
            if ending is None:
                continue
            group = frozenset[int]()
            if self._groups is not None and run.grouped:
                group = self._groups.pids(run.number)
            members = run.tree.members(table, self._pid, self._leaders, mark_of, group)
            for number, process in ending.step(members, now):
                send_signal(process, number)
            if self._groups is not None and run.grouped and ending.phase is Phase.KILL:
                self._groups.kill(run.number)
            if ending.stuck and not run.stuck:
                run.stuck = True
                pids = [process.pid for process in members[:20]]
                self._report(event="stuck", run=run.number, pids=pids)
            if ending.phase is Phase.GONE:
                self._gone(run, ending)

    def _gone(self, run: Run, ending: Ending) -> None:
        if not run.exited:
            # Its end came after the last look.
            status = os.waitid(os.P_PID, run.leader, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if status is None:  # a debugger has not let go of it yet
                ending.due = time.monotonic() + _DEBUGGER_PAUSE
                return
            self._child_ended(status)
        os.waitid(os.P_PID, run.leader, os.WEXITED)
        self._over(run)
        self._report(event="gone", run=run.number)
        # Reaping by list may have overlooked one while the leader was held.
        self.reap()


def _refuse_elevating(argv: list[str], env: dict[str, str], cwd: str, uid: int | None) -> None:
    """:raises SpawnFailed: the program could not work without the rights that it would not get."""
    path = elevating(argv, env, cwd, uid)
    if path is not None:
        raise SpawnFailed(
            "not-executable",
            f"{path!a} needs the rights of its owner (set-user-ID), which its rule does not let it "
            "have: that takes new_privileges = true",
        )
