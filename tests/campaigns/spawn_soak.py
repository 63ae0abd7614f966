"""Ten thousand runs through the host process: the rate, and that nothing is left of them.

``python -m tests.campaigns.spawn_soak [RUNS]`` first measures :class:`subprocess.Popen` in this
process, then the same through the host, eight in flight each; it exits with 1 if there are zombies
or more descriptors than before, or if a run went wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react
from zope.interface import implementer

from sockproto.interfaces import IRunObserver
from sockproto.services.command.processes import ProcessHost, Spawn
from tests.test_processes import children, descriptors

IN_FLIGHT = 8
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@implementer(IRunObserver)
class Observer:
    """Waits for the end of one run."""

    def __init__(self) -> None:
        self.over: Deferred[bool] = Deferred()
        self._good = False

    def started(self, pid: int) -> None:
        """Nothing depends on it."""

    def failed(self, code: str, message: str) -> None:
        self.over.callback(False)

    def exited(self, exit_status: int | None, signal: str | None) -> None:
        self._good = exit_status == 0

    def gone(self) -> None:
        self.over.callback(self._good)

    def hostLost(self) -> None:
        self.over.callback(False)


def local(runs: int) -> float:
    """The rate of Popen in this process, a second."""
    running: dict[int, subprocess.Popen[bytes]] = {}
    begun = time.perf_counter()
    for _ in range(runs):
        if len(running) == IN_FLIGHT:
            finish(running)
        child = subprocess.Popen(
            ["true"],
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        running[child.pid] = child
    while running:
        finish(running)
    return runs / (time.perf_counter() - begun)


def finish(running: dict[int, subprocess.Popen[bytes]]) -> None:
    """Wait for one of the children, and close its pipes."""
    pid, status = os.waitpid(-1, 0)
    child = running.pop(pid)
    child.returncode = os.waitstatus_to_exitcode(status)
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


async def hosted(host: ProcessHost, runs: int) -> tuple[float, int]:
    """The rate through the host, a second, and how many runs were not right."""
    spec = Spawn(argv=("true",), env=ENVIRONMENT, cwd="/")
    left = runs
    bad = 0

    async def worker() -> None:
        nonlocal left, bad
        while left:
            left -= 1
            observer = Observer()
            run = host.spawn(spec, observer)
            bad += not await observer.over
            for descriptor in (run.stdout, run.stderr):
                if descriptor is not None:
                    os.close(descriptor)

    begun = time.perf_counter()
    await DeferredList([Deferred.fromCoroutine(worker()) for _ in range(IN_FLIGHT)])
    return runs / (time.perf_counter() - begun), bad


def memory(pid: int) -> int:
    """The resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


async def campaign(reactor: Any, runs: int) -> None:
    """Measure, and judge."""
    host = ProcessHost(reactor)
    host.start()
    await hosted(host, 200)
    (pid,) = host.pids
    own = os.getpid()
    before = descriptors(own), descriptors(pid)
    print(f"descriptors {before}, host {memory(pid)} KiB, this process {memory(own)} KiB")
    total = 0
    while total < runs:
        part = min(2000, runs - total)
        there = local(part)
        rate, bad = await hosted(host, part)
        total += part
        rates = f"Popen {there:.0f}/s, host {rate:.0f}/s, {rate / there:.2f}"
        print(f"{total:6} runs: {rates}, {bad} bad")
        if bad:
            raise SystemExit(1)
    after = descriptors(own), descriptors(pid)
    zombies = children(pid)
    print(f"descriptors {after}, host {memory(pid)} KiB, this process {memory(own)} KiB")
    print(f"children of the host: {zombies}")
    await host.stop()
    if after != before or zombies:
        raise SystemExit(1)


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    react(lambda reactor: Deferred.fromCoroutine(campaign(reactor, number)), [])
