"""Tests of what commands run as: each is what the child reads of itself."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from sockproto.interfaces import IRunObserver
from sockproto.services.command.accounts import may_switch
from sockproto.services.command.conditions import Conditions
from sockproto.services.command.environment import base_environment
from sockproto.services.command.processes import ProcessHost, Run, Spawn
from sockproto.services.command.resource_limits import ResourceLimits
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.spawning import Spawning
from sockproto.services.command.tree_scan import mark_of
from sockproto.wire.commands import CommandRequest
from tests.commandfakes import PRINCIPAL

#: Of a shell and its like, since another user may not get at the Python that runs the tests.
REPORT = (
    "/bin/sh",
    "-c",
    """
cat /proc/self/status /proc/self/limits
echo Umask: $(umask)
echo Nice: $(nice)
echo Folder: $(pwd)
echo Home: $HOME $USER
echo Descriptors: $(ls /proc/self/fd)
""",
)


@implementer(IRunObserver)
class Listener:
    """Waits for a command's end."""

    def __init__(self) -> None:
        self.over: Deferred[tuple[Any, ...]] = Deferred()
        self.pid = 0

    def started(self, pid: int) -> None:
        self.pid = pid

    def failed(self, code: str, message: str) -> None:
        self.over.callback(("failed", code, message))

    def exited(self, exit_status: int | None, signal: str | None) -> None:
        self.over.callback(("exited", exit_status, signal))

    def gone(self) -> None:
        pass

    def hostLost(self) -> None:
        self.over.callback(("lost",))


class RealTestCase(TestCase):
    """A process host, and commands whose output is small enough for a pipe."""

    timeout = 60

    def setUp(self) -> None:
        self.host = ProcessHost(reactor)
        self.addCleanup(self.host.stop)

    async def end(self, spec: Spawn) -> tuple[tuple[Any, ...], str]:
        """Run something; its end and its output."""
        listener = Listener()
        run: Run = self.host.spawn(spec, listener)
        try:
            how = await listener.over
            return how, _read(run.stdout)
        finally:
            for descriptor in (run.stdin, run.stdout, run.stderr):
                if descriptor is not None:
                    os.close(descriptor)

    async def report(self, new_privileges: bool = False, **conditions: Any) -> dict[str, str]:
        """What a child reads of itself."""
        spec = Spawn(
            argv=REPORT,
            env=base_environment(),
            cwd="/",
            conditions=Conditions(**conditions),
            new_privileges=new_privileges,
        )
        how, output = await self.end(spec)
        self.assertEqual(how, ("exited", 0, None), output)
        return _parse(output)


def _read(descriptor: int | None) -> str:
    assert descriptor is not None
    data = b""
    while piece := os.read(descriptor, 65536):
        data += piece
    return data.decode()


def _parse(output: str) -> dict[str, str]:
    found = {}
    for line in output.splitlines():
        if line.startswith("Max "):
            found[line[:25].strip()] = " ".join(line[25:].split()[:2])
        else:
            name, _, value = line.partition(":")
            found[name] = " ".join(value.split())
    return found


class AnyUserTests(RealTestCase):
    """What takes no privilege."""

    async def test_plain(self) -> None:
        """A command without conditions is as the server is, but cannot gain rights, and holds no
        descriptor besides its streams."""
        found = await self.report()
        self.assertEqual(found["NoNewPrivs"], "1")
        self.assertEqual(found["CapAmb"], "0" * 16)
        self.assertEqual(found["Uid"].split()[0], str(os.geteuid()))
        # The fourth is the listing's own.
        self.assertEqual(len(found["Descriptors"].split()), 4, found["Descriptors"])

    async def test_newPrivileges(self) -> None:
        """With new_privileges a program may gain rights; both kinds run beside each other."""
        self.assertEqual((await self.report(new_privileges=True))["NoNewPrivs"], "0")
        self.assertEqual((await self.report())["NoNewPrivs"], "1")
        self.assertEqual(len(self.host.pids), 2)

    async def test_umask(self) -> None:
        """The umask is the rule's, and the next command's its own."""
        self.assertEqual((await self.report(umask=0o027))["Umask"], "0027")
        own = os.umask(0o077)
        os.umask(own)
        self.assertEqual(int((await self.report())["Umask"], 8), own)

    async def test_nice(self) -> None:
        """The nice value is the rule's, and the host keeps its own."""
        own = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertEqual((await self.report(nice=min(own + 5, 19)))["Nice"], str(min(own + 5, 19)))
        self.assertEqual((await self.report())["Nice"], str(own))

    async def test_limits(self) -> None:
        """Each resource limit, soft and hard; and none of them for the next command."""
        limits = ResourceLimits(
            cpu=10, address_space=2**30, user_processes=4000, files=64, file_size=10**6, core=0
        )
        found = await self.report(limits=limits.table)
        self.assertEqual(
            [
                found[f"Max {name}"]
                for name in ("cpu time", "address space", "processes", "open files", "file size")
            ],
            ["10 11", "1073741824 1073741824", "4000 4000", "64 64", "1000000 1000000"],
        )
        self.assertEqual(found["Max core file size"], "0 0")
        after = await self.report()
        self.assertEqual(after["Max cpu time"], "unlimited unlimited")

    async def test_neverRaised(self) -> None:
        """A limit over the server's own leaves that as it is."""
        before = (await self.report())["Max open files"]
        most = before.split()[1]
        found = await self.report(limits=ResourceLimits(files=2**40).table)
        self.assertEqual(found["Max open files"], f"{most} {most}")

    async def test_cpu(self) -> None:
        """A command that has used up its processor time ends by XCPU."""
        spec = Spawn(
            argv=("sh", "-c", "while :; do :; done"),
            env=base_environment(),
            cwd="/",
            conditions=Conditions(limits=ResourceLimits(cpu=1).table),
        )
        self.assertEqual((await self.end(spec))[0], ("exited", None, "XCPU"))

    async def test_setuid(self) -> None:
        """A program that lives by its owner's rights is not started without them, and the message
        says what it takes; where the rule lets it have them, it is."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        program = folder / "elevate"
        program.write_bytes(Path("/bin/true").read_bytes())
        if os.geteuid() == 0:
            os.chown(program, 65534, 65534)
        elif program.stat().st_uid == os.geteuid():
            # Nobody can give a file away; so it is ours, which is no gain.
            program.chmod(0o4755)
            spec = Spawn(argv=(str(program),), env={}, cwd="/")
            self.assertEqual((await self.end(spec))[0], ("exited", 0, None))
            return
        program.chmod(0o4755)
        self.assertTrue(program.stat().st_mode & stat.S_ISUID)
        for argv in ((str(program),), ("elevate",), ("./elevate",)):
            settings: dict[str, Any] = {
                "argv": argv,
                "env": {"PATH": f"/nope:{folder}"},
                "cwd": str(folder),
            }
            kind, code, message = (await self.end(Spawn(**settings)))[0]
            self.assertEqual((kind, code), ("failed", "not-executable"))
            self.assertIn("new_privileges = true", message)
            how, _ = await self.end(Spawn(**settings, new_privileges=True))
            self.assertEqual(how, ("exited", 0, None))

    async def test_hostLost(self) -> None:
        """When the host is killed, what it ran is ended with all that it started: by the mark,
        for its parents are gone."""
        spec = Spawn(
            argv=("sh", "-c", "setsid sh -c 'env -i sleep 600 & sleep 600' & sleep 600"),
            env=base_environment(),
            cwd="/",
            grace=0.1,
        )
        listener = Listener()
        run = self.host.spawn(spec, listener)
        assert run.stdout is not None
        assert run.stderr is not None
        self.addCleanup(os.close, run.stdout)
        self.addCleanup(os.close, run.stderr)
        await _until(lambda: len(_marked(run.mark)) >= 5)
        (pid,) = self.host.pids
        os.kill(pid, 9)
        self.assertEqual(await listener.over, ("lost",))
        await self.host.stop()
        self.assertEqual(_marked(run.mark), [])


def _marked(mark: int) -> list[int]:
    """The living processes that carry a mark, but for hosts."""
    return [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and mark_of(int(name)) == mark and not _dead(name)
    ]


def _dead(pid: str) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


async def _until(condition: Any) -> None:
    while not condition():
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.02, pause.callback, None)
        await pause


class OtherUserTests(RealTestCase):
    """What takes a server that root starts."""

    def setUp(self) -> None:
        if not may_switch():
            self.skipTest("only root can become another user")
        super().setUp()
        self.nobody = pwd.getpwnam("nobody")

    async def test_user(self) -> None:
        """User, group and groups are set for good: real, effective and saved."""
        uid, gid = self.nobody.pw_uid, self.nobody.pw_gid
        for new_privileges in (False, True):
            found = await self.report(new_privileges, uid=uid, gid=gid, groups=(gid, 12345))
            self.assertEqual(found["Uid"], " ".join([str(uid)] * 4))
            self.assertEqual(found["Gid"], " ".join([str(gid)] * 4))
            self.assertEqual(set(found["Groups"].split()), {str(gid), "12345"})
            self.assertEqual(
                [found[f"Cap{kind}"] for kind in ("Eff", "Prm", "Amb")], ["0" * 16] * 3
            )
        own = await self.report()
        self.assertEqual(own["Uid"].split()[0], str(os.geteuid()))

    async def test_group(self) -> None:
        """A group alone, and no groups at all."""
        found = await self.report(gid=12345, groups=())
        self.assertEqual((found["Gid"], found["Groups"]), ("12345 12345 12345 12345", ""))
        self.assertEqual(found["Uid"].split()[0], str(os.geteuid()))

    async def test_rule(self) -> None:
        """A rule's keys all together, with the home, the environment and a lower nice value."""
        rule = CommandRule(
            name="c",
            argv=REPORT,
            allow=("ops",),
            user="nobody",
            umask="077",
            nice=-3,
            limits=ResourceLimits(files=99),
        )
        argv, _ = rule.bind([])
        asked = CommandRequest((b"c",))
        how, output = await self.end(Spawning(1.0).spawn(rule, argv, asked, PRINCIPAL))
        self.assertEqual(how, ("exited", 0, None), output)
        found = _parse(output)
        home = self.nobody.pw_dir if os.path.isdir(self.nobody.pw_dir) else "/"
        self.assertEqual(
            [found[name] for name in ("Umask", "Nice", "Folder", "Home", "Max open files")],
            ["0077", "-3", home, f"{home} nobody", "99 99"],
        )
        self.assertEqual(found["Uid"].split()[0], str(self.nobody.pw_uid))

    async def test_folder(self) -> None:
        """The folder is entered by the rights of the command's user, not by the server's."""
        folder = Path(self.mktemp()).absolute()
        (folder / "open").mkdir(parents=True)
        folder.chmod(0o700)
        spec = Spawn(
            argv=("pwd",),
            env=base_environment(),
            cwd=str(folder / "open"),
            conditions=Conditions(uid=self.nobody.pw_uid, gid=self.nobody.pw_gid, groups=()),
        )
        kind, code, _message = (await self.end(spec))[0]
        self.assertEqual((kind, code), ("failed", "bad-cwd"))
        self.assertEqual((await self.report())["Folder"], "/")

    async def test_closedPath(self) -> None:
        """A folder of PATH that is closed to the user does not make a missing program another."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(mode=0o700)
        spec = Spawn(
            argv=("no-such-program",),
            env={"PATH": f"{folder}:/bin"},
            cwd="/",
            conditions=Conditions(uid=self.nobody.pw_uid, gid=self.nobody.pw_gid, groups=()),
        )
        self.assertEqual((await self.end(spec))[0][:2], ("failed", "not-found"))
