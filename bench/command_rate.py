"""The rate of ``true`` over one connection, beside that of the same argv spawned locally.

Run as ``python bench/command_rate.py``: it starts a server of its own, takes the two in turn, and
prints medians of commands per second for 1 and 8 in flight.
"""

from __future__ import annotations

import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from sockproto import Session, connect, new_key
from sockproto.keyring_edit import add_keys

ROUNDS = 5
RUNS = 400
CONFIGURATION = """\
[[listen]]
service = "agent"
endpoint = "tcp:0:interface=127.0.0.1"

[[command]]
name = "true"
argv = ["/bin/true"]
allow = ["owner"]
"""


def spawn_locally(in_flight: int) -> float:
    """Commands a second, by the standard library."""
    began = time.perf_counter()
    started = ended = 0
    running: dict[int, subprocess.Popen[bytes]] = {}
    poll = select.poll()
    while ended < RUNS:
        while started < RUNS and len(running) < in_flight:
            child = subprocess.Popen(
                ["/bin/true"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            descriptor = os.pidfd_open(child.pid)
            poll.register(descriptor, select.POLLIN)
            running[descriptor] = child
            started += 1
        for descriptor, _ in poll.poll():
            poll.unregister(descriptor)
            os.close(descriptor)
            running.pop(descriptor).wait()
            ended += 1
    return RUNS / (time.perf_counter() - began)


async def ask(session: Session, in_flight: int) -> float:
    """Commands a second, over the connection."""
    left = RUNS

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            result = await session.run(["true"])
            assert result.exit_status == 0, result

    began = time.perf_counter()
    await gatherResults([Deferred.fromCoroutine(worker()) for _ in range(in_flight)])
    return RUNS / (time.perf_counter() - began)


async def measure(reactor: object, port: int, key: str) -> None:
    """Take them in turn, and print."""
    async with await connect(reactor, f"tcp:127.0.0.1:{port}", key) as session:
        await ask(session, 8)
        for in_flight in (1, 8):
            local, asked = [], []
            for _ in range(ROUNDS):
                local.append(spawn_locally(in_flight))
                asked.append(await ask(session, in_flight))
            ours, theirs = statistics.median(asked), statistics.median(local)
            print(
                f"{in_flight} in flight: {ours:.0f}/s over the connection, {theirs:.0f}/s locally,"
                f" ratio {ours / theirs:.2f}"
            )


def main() -> None:
    """Start a server, measure, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        keyring, configuration = Path(folder, "keyring.toml"), Path(folder, "server.toml")
        add_keys(keyring, [new_key("owner")])
        configuration.write_text(CONFIGURATION)
        configuration.chmod(0o600)
        twistd = Path(sys.executable).with_name("twistd")
        argv = [str(twistd), "-n", "--pidfile=", "sockproto", "--config", str(configuration)]
        server = subprocess.Popen(
            [*argv, "--keyring", str(keyring)], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if found := re.search(r"agent listens on tcp 127\.0\.0\.1:(\d+)", line):
                    break
            else:
                raise SystemExit("the server did not start")
            subprocess.Popen(["cat"], stdin=server.stdout, stdout=subprocess.DEVNULL)
            try:
                react(measure, [int(found[1]), str(keyring)])
            except SystemExit as end:
                if end.code:
                    raise
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
