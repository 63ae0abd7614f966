"""Spawning one command, and saying what went wrong in the words of the agent's error codes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import stat
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["SpawnFailed", "elevating", "spawn"]

_SHOWN = 200
_nothing = contextlib.nullcontext()

_CODES = {
    errno.ENOENT: ("not-found", "no such program: {program}"),
    errno.ENOTDIR: ("not-found", "no such program: {program}"),
    errno.ELOOP: ("not-found", "no such program: {program}: {reason}"),
    errno.ENAMETOOLONG: ("not-found", "no such program: {program}: {reason}"),
    errno.ENOEXEC: (
        "not-executable",
        "not a program: {program} (a script needs a #! line that names its interpreter)",
    ),
    errno.E2BIG: ("too-long", "the arguments and the environment are longer than the system takes"),
    errno.EAGAIN: ("busy", "the system has no room for another process: {reason}"),
    errno.ENOMEM: ("busy", "the system has no room for another process: {reason}"),
    errno.EMFILE: ("busy", "no descriptor is free: {reason}"),
    errno.ENFILE: ("busy", "no descriptor is free: {reason}"),
}


class SpawnFailed(Exception):
    """No process was started.

    :ivar code: the agent's error code.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    stdin: int,
    stdout: int,
    stderr: int,
    *,
    terminal: bool = False,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] | None = None,
    umask: int = -1,
    nice: int | None = None,
    limits: Sequence[Sequence[int]] = (),
) -> int:
    """Start a program in a session of its own.

    Without ``terminal``, ``nice`` and ``limits`` there is no Python between the fork and the exec;
    without those, ``uid``, ``gid`` and ``groups`` that fork is a vfork.

    :param terminal: whether ``stdin`` is a terminal that is to control the session.
    :param uid: whom it runs as; ``None`` here and below: as the host does.
    :param gid: with which group.
    :param groups: with which further groups.
    :param umask: which permissions its files do not get.
    :param nice: its nice value.
    :param limits: its resource limits: each one's number, the soft and the hard one; where the
        host's own are less, those hold.
    :return: its pid, which nobody but the caller waits for.
    :raises SpawnFailed: it could not be started.
    """
    if not argv or not argv[0]:
        raise SpawnFailed("not-found", "no program is named")
    switches = uid is not None or gid is not None or groups is not None
    try:
        if terminal and uid is not None:
            os.fchown(stdin, uid, -1)  # to open it again by its name
        entering = _inside(cwd, uid, gid, groups) if switches else _nothing
        with entering, _nothing if nice is None else _lowered(nice):
            child = subprocess.Popen(
                argv,
                env=env,
                cwd=None if switches else cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                close_fds=True,
                start_new_session=True,
                restore_signals=True,
                user=uid,
                group=gid,
                extra_groups=groups,
                umask=umask,
                preexec_fn=_preparation(terminal, nice, limits),  # noqa: PLW1509 (one thread)
            )
    except OSError as error:
        raise _explain(error, argv[0], env, cwd) from error
    except ValueError as error:
        raise SpawnFailed("protocol", f"cannot be passed to a program: {error}") from error
    except subprocess.SubprocessError as error:
        raise SpawnFailed("internal", "its terminal, nice value or limits cannot be set") from error
    # Else the object would wait for the pid itself when it is deleted, and take the exit status.
    child.returncode = 0
    return child.pid


def elevating(argv: Sequence[str], env: Mapping[str, str], cwd: str, uid: int | None) -> str | None:
    """Find whether a program lives by rights that its file gives it, above those of the caller.

    :param uid: whom it is to run as; ``None``: as the host does.
    :return: its path, or ``None``.
    """
    if not argv or not argv[0]:
        return None
    program = argv[0]
    folders = [""] if "/" in program else os.get_exec_path(env)
    for folder in folders:
        path = os.path.join(cwd, folder, program)
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            continue
        if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o111:
            continue
        runner = os.geteuid() if uid is None else uid
        return path if found.st_mode & stat.S_ISUID and found.st_uid != runner else None
    return None


def _preparation(
    terminal: bool, nice: int | None, limits: Sequence[Sequence[int]]
) -> Callable[[], None] | None:
    """What the child is to do between the fork and the exec, if there is something."""
    if not terminal and nice is None and not limits:
        return None
    clamped = [(number, _clamped(number, soft, hard)) for number, soft, hard in limits]

    def prepare() -> None:
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if nice is not None and os.getpriority(os.PRIO_PROCESS, 0) != nice:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        for number, pair in clamped:
            resource.setrlimit(number, pair)

    return prepare


def _clamped(number: int, soft: int, hard: int) -> tuple[int, int]:
    """A limit that is not above the present one."""
    most = resource.getrlimit(number)[1]
    return (soft, hard) if most == resource.RLIM_INFINITY else (min(soft, most), min(hard, most))


@contextlib.contextmanager
def _lowered(nice: int) -> Iterator[None]:
    """Have the next child begin with a lower nice value, which it may not have the right to take
    itself any longer.

    :raises OSError: neither has this process.
    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if nice >= own:
        yield
        return
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, own)


@contextlib.contextmanager
def _inside(
    cwd: str, uid: int | None, gid: int | None, groups: Sequence[int] | None
) -> Iterator[None]:
    """Be in a folder, entered by the rights of another user.

    The child would enter it before it becomes that user; and who may choose the folder could so
    reach what lies in one that is closed to them.

    :raises OSError: the folder cannot be entered.
    """
    before = os.geteuid(), os.getegid(), os.getgroups()
    try:
        if groups is not None:
            os.setgroups(groups)
        if gid is not None:
            os.setegid(gid)
        if uid is not None:
            os.seteuid(uid)
        os.chdir(cwd)
    finally:
        if uid is not None:
            os.seteuid(before[0])
        if gid is not None:
            os.setegid(before[1])
        if groups is not None:
            os.setgroups(before[2])
    try:
        yield
    finally:
        os.chdir("/")


def _explain(error: OSError, program: str, env: Mapping[str, str], cwd: str) -> SpawnFailed:
    number = error.errno or 0
    reason = os.strerror(number)
    # Popen names the folder if the child did not get as far as exec.
    if error.filename == cwd and not (program == cwd and os.access(cwd, os.X_OK)):
        return SpawnFailed("bad-cwd", f"cannot work in the folder {_show(cwd)}: {reason}")
    there = _exists(program, env, cwd)
    if number == errno.EACCES and "/" not in program and not there:
        number = errno.ENOENT  # a folder of PATH is closed to its user
    if number == errno.ENOENT and there:
        # For a script exec speaks of its interpreter.
        code, text = "not-executable", "{program} names an interpreter that does not exist"
    else:
        code, text = _CODES.get(number, ("not-executable", "cannot execute {program}: {reason}"))
    return SpawnFailed(code, text.format(program=_show(program), reason=reason))


def _exists(program: str, env: Mapping[str, str], cwd: str) -> bool:
    folders = [cwd] if "/" in program else [os.path.join(cwd, f) for f in os.get_exec_path(env)]
    return any(os.path.exists(os.path.join(folder, program)) for folder in folders)


def _show(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
