"""The control group that was delegated to this server, if there is one (cgroup v2)."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["delegated_cgroup"]

# What systemd (Delegate=yes) marks the groups with that it leaves to a service.
_MARKS = ("user.delegate", "trusted.delegate")


def delegated_cgroup(proc: str = "/proc/self") -> str | None:
    """The folder of our own control group, where making groups below it is left to us.

    That is so where systemd says it, or where the folder belongs to us, who are not root.

    :param proc: the process's folder in /proc.
    """
    try:
        own = _own_group(Path(proc, "cgroup").read_text())
        mount = _mount(Path(proc, "mountinfo").read_text())
    except OSError:
        return None
    if own in (None, "/") or mount is None:
        return None
    root, point = mount
    assert own is not None
    relative = os.path.relpath(own, root)
    folder = os.path.join(point, relative)
    if relative.startswith("..") or not os.access(folder, os.W_OK):
        return None
    return folder if _is_ours(folder) else None


def _own_group(text: str) -> str | None:
    """The path in the line ``0::PATH`` (cgroups(7))."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line[len("0::") :]
    return None


def _mount(text: str) -> tuple[str, str] | None:
    """The root and the mount point of the cgroup2 file system (proc_pid_mountinfo(5))."""
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("cgroup2 "):
            root, point = fields.split(" ")[3:5]
            return root, point.encode("latin-1").decode("unicode_escape")
    return None


def _is_ours(folder: str) -> bool:
    if os.geteuid() != 0:
        return os.stat(folder).st_uid == os.geteuid()
    for mark in _MARKS:
        try:
            if os.getxattr(folder, mark) == b"1":
                return True
        except OSError:
            continue
    return False
