"""Tests of finding the control group that was delegated to a server."""

import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from sockproto.server.delegation import delegated_cgroup


class DelegationTests(SynchronousTestCase):
    """Tests of `delegated_cgroup`, with a file system of files that looks like one of groups."""

    def setUp(self) -> None:
        base = os.path.abspath(self.mktemp())
        self.proc, self.mount = f"{base}/proc", f"{base}/group s"
        self.folder = f"{self.mount}/system.slice/agent.service"
        os.makedirs(self.proc)
        os.makedirs(self.folder)
        self.write("/system.slice/agent.service")

    def write(self, group: str, root: str = "/", kind: str = "cgroup2") -> None:
        with open(f"{self.proc}/cgroup", "w") as file:
            file.write(f"4:memory:/else\n0::{group}\n")
        point = self.mount.replace(" ", r"\040")
        with open(f"{self.proc}/mountinfo", "w") as file:
            file.write("20 1 0:1 / /proc rw - proc proc rw\n")
            file.write(f"41 31 0:38 {root} {point} rw,relatime - {kind} none rw\n")

    def found(self, euid: int, mark: bytes | None = None) -> str | None:
        def getxattr(path: str, name: str) -> bytes:
            if mark is None:
                raise OSError
            return mark

        with mock.patch("os.geteuid", lambda: euid), mock.patch("os.getxattr", getxattr):
            return delegated_cgroup(self.proc)

    def test_user(self) -> None:
        """A group that belongs to an ordinary user is theirs to use; another's is not."""
        owner = os.stat(self.folder).st_uid
        if owner == 0:
            os.chown(self.folder, 1, 1)
            owner = 1
        self.assertEqual(self.found(owner), self.folder)
        self.assertIsNone(self.found(owner + 1))

    def test_root(self) -> None:
        """For root, to whom all groups belong, it takes systemd's word."""
        self.assertEqual(self.found(0, b"1"), self.folder)
        self.assertIsNone(self.found(0, b"0"))
        self.assertIsNone(self.found(0))

    def test_partOfTheTree(self) -> None:
        """In a container the mount may show a part of the tree only."""
        os.makedirs(f"{self.mount}/agent.service")
        self.write("/system.slice/agent.service", root="/system.slice")
        self.assertEqual(self.found(0, b"1"), f"{self.mount}/agent.service")
        self.write("/elsewhere", root="/system.slice")
        self.assertIsNone(self.found(0, b"1"))

    def test_none(self) -> None:
        """The root of all groups is nobody's, and there may be no groups of this kind."""
        self.write("/")
        self.assertIsNone(self.found(0, b"1"))
        self.write("/system.slice/agent.service", kind="cgroup")
        self.assertIsNone(self.found(0, b"1"))
        os.remove(f"{self.proc}/cgroup")
        self.assertIsNone(self.found(0, b"1"))
