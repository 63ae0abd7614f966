"""Tests of the control groups of commands, where there is a cgroup v2 that can be written."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sockproto.services.command.cgroup import CommandGroups
from sockproto.services.command.processes import ProcessHost
from tests.test_processes import HostedTestCase, withWord


def makeGroup() -> Path | None:
    """Make a group of this test's own, if that is possible here."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].split("\n")[0]
            group = Path(folder, own, f"sockproto-test-{secrets.token_hex(4)}")
            try:
                group.mkdir()
                # Its use is to move into it, which can be forbidden where making it is not.
                descriptor = os.open(group / "cgroup.procs", os.O_WRONLY)
                os.close(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    group.rmdir()
                continue
            if (group / "cgroup.kill").exists():
                return group
            group.rmdir()
    return None


class GroupedTests(HostedTestCase):
    """Commands in control groups of their own."""

    # Sheds what it inherits: environment, session, ancestry and limit.
    ESCAPE = (
        "env -i setsid prlimit --rttime=unlimited:unlimited "
        "/bin/sh -c '(/bin/sleep $0 <&- >&- 2>&- &)' $1; "
    )

    def makeHost(self) -> ProcessHost:
        group = makeGroup()
        if group is None:
            self.skipTest("there is no cgroup v2 folder to write to")
        self.group = group
        self.addCleanup(self.removeGroup)
        return ProcessHost(self.reactor, cgroup=str(self.group))

    async def removeGroup(self) -> None:
        """Remove the group once the host is gone."""
        await self.until(self.removed, 2, "the group cannot be removed")

    def removed(self) -> bool:
        """Try to remove the group with all that a test has left in it."""
        with contextlib.suppress(OSError):
            for folder, _, _ in os.walk(self.group, topdown=False):
                os.rmdir(folder)
        return not self.group.exists()

    def groups(self) -> set[str]:
        """The groups of commands that exist."""
        return {path.name for path in self.group.iterdir() if ".run-" in path.name}

    async def test_ownGroup(self) -> None:
        """A command is born into its group, which is removed after its end, also if it fails."""
        command = self.spawn("cat", "/proc/self/cgroup")
        output = await command.stdout.ended
        self.assertRegex(output.decode(), rf"(?m)^0::.*{self.group.name}/host-\d+\.run-1$")
        await command.over
        self.assertEqual(await self.spawn("nope").over, [("failed", "not-found")])
        self.assertEqual(self.groups(), set())

    async def test_kill(self) -> None:
        """A process that has shed every mark is ended by its group, while others live on."""
        other = self.spawn("sleep", "1000")
        command = self.shell(self.ESCAPE * 3 + "echo; sleep $1", grace=0.1)
        await command.stdout.lines(1)
        await self.until(lambda: len(withWord(self.word)) == 5, 5, "not started")
        command.run.end()
        self.assertEqual((await command.over)[-1], ("gone",))
        self.assertEqual(withWord(self.word), [])
        self.assertEqual(other.events, [("started",)])

    async def test_leftBehind(self) -> None:
        """The group of what a command leaves behind stays as long as that does."""
        command = self.shell("setsid sleep $1 <&- >&- 2>&- & echo")
        await command.over
        await self.until(lambda: len(withWord(self.word)) == 1, 5, "not started")
        self.assertEqual(len(self.groups()), 1)
        os.kill(withWord(self.word)[0], 9)
        await self.until(lambda: self.groups() == set(), 2, "the group stays")

    async def test_nested(self) -> None:
        """Groups that a command makes below its own are killed and removed with it."""
        command = self.shell(
            "d=$(echo $GROUP/*.run-1); mkdir $d/inner; echo $$ > $d/inner/cgroup.procs; "
            "trap '' TERM; echo; sleep $1; sleep $1",
            env={"PATH": "/usr/bin:/bin", "GROUP": str(self.group)},
        )
        await command.stdout.lines(1)
        command.run.end()
        self.assertEqual((await command.over)[-2:], [("exited", None, "KILL"), ("gone",)])
        self.assertEqual(withWord(self.word), [])
        self.assertEqual(self.groups(), set())

    async def test_stop(self) -> None:
        """When the host stops nothing of its groups is left."""
        command = self.shell(self.ESCAPE + "echo; sleep $1")
        await command.stdout.lines(1)
        await self.host.stop()
        self.assertEqual(withWord(self.word), [])
        self.assertEqual([path for path in self.group.iterdir() if path.is_dir()], [])


class UnusableTests(HostedTestCase):
    """Folders that are no groups."""

    def makeHost(self) -> ProcessHost:
        return ProcessHost(self.reactor, cgroup="/nope")

    async def test_withoutGroups(self) -> None:
        """With a folder that cannot be used commands run without groups, and the log says so."""
        events = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.assertEqual((await self.spawn("true").over)[-1], ("gone",))
        self.assertIn("'/nope'", " ".join(str(event.get("complaint")) for event in events))


class RefusedTests(SynchronousTestCase):
    """What :class:`CommandGroups` refuses."""

    def test_noCgroup(self) -> None:
        """A folder of another kind is refused, and nothing is left in it."""
        folder = Path(self.mktemp())
        folder.mkdir()
        self.assertRaises(OSError, CommandGroups, str(folder))
        self.assertEqual(list(folder.iterdir()), [])
