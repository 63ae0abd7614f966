"""Tests of the attribution of processes to commands, on made-up tables."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from sockproto.services.command.tree import Process, Tree, parse_stat
from sockproto.services.command.tree_scan import (
    mark_of,
    new_mark,
    read_process,
    read_table,
    send_signal,
    wear_mark,
)

HOST = 50
OUR_MARK = 2**62 + 7
THEIR_MARK = 2**62 + 8


def table(*processes: Process) -> dict[int, Process]:
    """A table of the host, started at tick 10, and of what is given."""
    return {each.pid: each for each in (Process(HOST, 1, HOST, 10), *processes)}


class ParseTests(SynchronousTestCase):
    """Reading ``/proc/PID/stat``."""

    def test_name(self) -> None:
        """A process name may hold spaces, parentheses and newlines."""
        tail = b" S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"
        for name in (b"sh", b"a) S 1 2 3 (b", b") (", b"a\nb", b""):
            self.assertEqual(
                parse_stat(b"42 (" + name + b")" + tail), Process(42, 7, 9, 12345, "S")
            )

    def test_cutShort(self) -> None:
        """What a process leaves that ends while it is read is an error, not a wrong process."""
        for data in (b"", b"42", b"42 (sh", b"42 (sh) S 7 8"):
            self.assertRaises(ValueError, parse_stat, data)

    def test_self(self) -> None:
        """This very process is read as it is."""
        process = read_process(os.getpid())
        assert process is not None
        self.assertEqual(
            (process.pid, process.parent, process.session),
            (os.getpid(), os.getppid(), os.getsid(0)),
        )
        self.assertTrue(process.alive)
        self.assertEqual(read_table()[process.pid].start, process.start)


class TreeTests(SynchronousTestCase):
    """:class:`Tree` for a leader 100 that started at tick 1000."""

    def setUp(self) -> None:
        self.tree = Tree(100, 1000, OUR_MARK)
        self.leader = Process(100, HOST, 100, 1000)
        self.marks: dict[int, int | None] = {}
        self.asked: list[int] = []

    def pids(self, *processes: Process, leaders: tuple[int, ...] = (100,), group=frozenset()):
        """The members of the tree in a table, by pid."""

        def markOf(pid: int) -> int | None:
            self.asked.append(pid)
            return self.marks.get(pid)

        found = self.tree.members(table(*processes), HOST, leaders, markOf, group)
        return sorted(process.pid for process in found)

    def test_ancestry(self) -> None:
        """Descendants of the leader belong to it whatever their sessions; strangers do not."""
        self.assertEqual(
            self.pids(
                self.leader,
                Process(101, 100, 100, 1001),
                Process(102, 101, 102, 1002),
                Process(103, 1, 103, 1003),
                Process(104, 103, 103, 1003),
            ),
            [100, 101, 102],
        )
        self.assertEqual(self.asked, [])

    def test_zombies(self) -> None:
        """A zombie is not counted as living, but its session still is the tree's."""
        zombie = self.leader._replace(state="Z")
        self.assertEqual(self.pids(zombie, Process(101, HOST, 100, 1001)), [101])
        self.assertEqual(self.pids(zombie, Process(101, HOST, 100, 1001, "Z")), [])

    def test_sessionOfMember(self) -> None:
        """An orphan in the session of a process of the tree belongs to the tree."""
        self.assertEqual(
            self.pids(
                self.leader,
                Process(102, 100, 102, 1002),
                Process(103, HOST, 102, 1003),
                Process(104, HOST, 104, 1003),
            ),
            [100, 102, 103],
        )

    def test_sessionOfOrphan(self) -> None:
        """Sessions that are known only through another orphan count, in whichever order."""
        self.marks[150] = OUR_MARK
        self.assertEqual(
            self.pids(
                self.leader,
                Process(110, HOST, 149, 1003),
                Process(150, HOST, 149, 1002),
            ),
            [100, 110, 150],
        )

    def test_mark(self) -> None:
        """An orphan with the tree's mark belongs to it, with all that descends from it."""
        self.marks = {110: OUR_MARK, 120: THEIR_MARK}
        self.assertEqual(
            self.pids(
                self.leader,
                Process(110, HOST, 110, 1002),
                Process(111, 110, 111, 1003),
                Process(120, HOST, 120, 1002),
                Process(121, 120, 120, 1003),
            ),
            [100, 110, 111],
        )

    def test_group(self) -> None:
        """An orphan in the command's control group belongs to it without any mark."""
        orphan = Process(110, HOST, 110, 1002)
        self.assertEqual(self.pids(self.leader, orphan, group=frozenset([110])), [100, 110])

    def test_otherLeader(self) -> None:
        """Another running command is never part of the tree, even if it wears the same mark."""
        self.marks[110] = OUR_MARK
        self.tree.alone_from(0)
        self.assertEqual(
            self.pids(self.leader, Process(110, HOST, 110, 1002), leaders=(100, 110)), [100]
        )

    def test_older(self) -> None:
        """What started before the leader does not belong to it, whatever speaks for it."""
        self.marks[110] = OUR_MARK
        self.tree.alone_from(0)
        self.assertEqual(
            self.pids(
                self.leader,
                Process(110, HOST, 110, 999),
                Process(111, HOST, 100, 999),
                Process(112, 100, 100, 999),
                group=frozenset([110]),
            ),
            [100],
        )

    def test_remembered(self) -> None:
        """A process found once stays found without its parents; another of its pid is not."""
        inner = Process(102, 101, 102, 1002)
        self.assertEqual(
            self.pids(self.leader, Process(101, 100, 101, 1001), inner), [100, 101, 102]
        )
        self.assertEqual(self.pids(self.leader, inner._replace(parent=HOST)), [100, 102])
        self.assertEqual(
            self.pids(self.leader, Process(102, HOST, 105, 1500)), [100], "another process by now"
        )

    def test_alone(self) -> None:
        """An orphan without a mark is the tree's if no other command can have started it."""
        self.tree.alone_from(0)
        self.assertEqual(self.pids(self.leader, Process(110, HOST, 110, 1002)), [100, 110])

    def test_notAlone(self) -> None:
        """An orphan without a mark that started while another command ran is left alone."""
        for start, expected in (
            (1099, [100, 110]),
            (1100, [100]),
            (1200, [100]),
            (1201, [100, 110]),
        ):
            self.tree = Tree(100, 1000, OUR_MARK)
            self.tree.alone_from(0)
            self.tree.alone_until(1100)
            self.tree.alone_from(1200)
            self.assertEqual(
                self.pids(self.leader, Process(110, HOST, 110, start)), expected, str(start)
            )

    def test_aloneBesideDaemons(self) -> None:
        """An unmarked orphan is spared where an earlier command's daemon may be its parent."""
        orphan = Process(110, HOST, 110, 1002)
        self.tree.alone_from(0)
        self.assertEqual(self.pids(self.leader, orphan, Process(60, HOST, 60, 500)), [100])
        self.marks[60] = THEIR_MARK
        self.assertEqual(self.pids(self.leader, orphan, Process(60, HOST, 60, 500)), [100])

    def test_windowsAreBounded(self) -> None:
        """However often other commands come and go, only the latest times alone are kept."""
        for tick in range(1000, 3000, 2):
            self.tree.alone_from(tick)
            self.tree.alone_until(tick + 2)
        self.assertTrue(self.tree.was_alone_at(2999))
        self.assertFalse(self.tree.was_alone_at(1001))


class MarkTests(SynchronousTestCase):
    """The marks of real processes."""

    def markIn(self, *command: str, wear: int | None = None, env: dict[str, str] | None = None):
        """The mark that a process shows once it has printed a line."""
        limits = resource.getrlimit(resource.RLIMIT_RTTIME)
        if wear is not None and not wear_mark(wear):
            self.skipTest("a limit on real-time processor time is set here")
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
            )
        finally:
            resource.setrlimit(resource.RLIMIT_RTTIME, limits)
        with child:
            assert child.stdout is not None
            assert child.stdin is not None
            pid = int(child.stdout.readline())
            found = mark_of(pid)
            child.stdin.close()
        return found

    def test_limit(self) -> None:
        """The limit survives a cleared environment and a new session."""
        mark = new_mark()
        self.assertEqual(
            self.markIn(
                *("env", "-i", "setsid", "-w", "/bin/sh", "-c", "echo $$; read line"), wear=mark
            ),
            mark,
        )

    def test_environment(self) -> None:
        """Where there is no limit, the environment is read."""
        mark = new_mark()
        env = {"PATH": os.environ["PATH"], "SOCKPROTO_RUN": str(mark)}
        self.assertEqual(self.markIn("sh", "-c", "echo $$; read l", env=env), mark)

    def test_none(self) -> None:
        """No mark, a broken one, and a process that is not there all say so."""
        env = {"PATH": os.environ["PATH"], "SOCKPROTO_RUN": "x"}
        self.assertIsNone(self.markIn("sh", "-c", "echo $$; read l", env=env))
        self.assertIsNone(mark_of(2**22 + 1))

    def test_range(self) -> None:
        """Marks are told from any limit that means something, and fit where limits are kept."""
        for _ in range(1000):
            self.assertTrue(2**62 <= new_mark() < 2**63 - 1)

    def test_signalNeedsSameStart(self) -> None:
        """A process that has the pid but not the start time is not signalled."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            process = read_process(child.pid)
            assert process is not None
            self.assertTrue(send_signal(process._replace(start=process.start - 1), 9))
            self.assertIsNone(child.poll())
            self.assertTrue(send_signal(process, 9))
            self.assertEqual(child.wait(), -9)
        self.assertTrue(send_signal(process, 9), "gone is as good as signalled")
