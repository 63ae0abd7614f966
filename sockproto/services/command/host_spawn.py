"""Spawning one command, and saying what went wrong in the words of the agent's error codes."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Mapping, Sequence

__all__ = ["SpawnFailed", "spawn"]

_SHOWN = 200

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
) -> int:
    """Start a program in a session of its own.

    :return: its pid, which nobody but the caller waits for.
    :raises SpawnFailed: it could not be started.
    """
    if not argv or not argv[0]:
        raise SpawnFailed("not-found", "no program is named")
    try:
        # No preexec_fn and no user: so this is one vfork and exec, with no Python in the child.
        child = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            close_fds=True,
            start_new_session=True,
            restore_signals=True,
        )
    except OSError as error:
        raise _explain(error, argv[0], env, cwd) from error
    except ValueError as error:
        raise SpawnFailed("protocol", f"cannot be passed to a program: {error}") from error
    # Else the object would wait for the pid itself when it is deleted, and take the exit status.
    child.returncode = 0
    return child.pid


def _explain(error: OSError, program: str, env: Mapping[str, str], cwd: str) -> SpawnFailed:
    number = error.errno or 0
    reason = os.strerror(number)
    # Popen names the folder if the child did not get as far as exec.
    if error.filename == cwd and not (program == cwd and os.access(cwd, os.X_OK)):
        return SpawnFailed("bad-cwd", f"cannot work in the folder {_show(cwd)}: {reason}")
    if number == errno.ENOENT and _exists(program, env, cwd):
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
