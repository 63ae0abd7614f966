"""The environment that commands get: a small base, and who asked."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence

from sockproto.auth.principal import Principal
from sockproto.services.command.accounts import Account

__all__ = ["asking_environment", "base_environment", "home_folder", "shared_environment"]

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The system takes no longer variable than 128 KiB, and all of them count with the arguments.
_LONGEST_LINE = 32 * 1024


def base_environment(
    environ: Mapping[str, str] = os.environ, account: Account | None = None
) -> dict[str, str]:
    """What every command gets: who its user is, and where programs are.

    :param environ: the server's own environment, from which PATH and LANG are taken.
    :param account: whom it runs as; ``None``: the server's user.
    """
    user = _user()
    if account is not None and account.uid is not None:
        name, shell = account.name, account.shell
    else:
        name = user.pw_name if user is not None else str(os.geteuid())
        shell = user.pw_shell if user is not None else ""
    return {
        "PATH": environ.get("PATH") or _DEFAULT_PATH,
        "HOME": home_folder(environ, account),
        "USER": name,
        "LOGNAME": name,
        "SHELL": shell or "/bin/sh",
        "LANG": environ.get("LANG") or "C.UTF-8",
    }


def home_folder(environ: Mapping[str, str] = os.environ, account: Account | None = None) -> str:
    """The home of a command's user; ``/`` where there is none."""
    if account is not None and account.uid is not None:
        home = account.home
    else:
        user = _user()
        home = environ.get("HOME") or (user.pw_dir if user is not None else "/")
    return home if os.path.isdir(home) else "/"


def asking_environment(
    principal: Principal, command: str, words: Sequence[bytes] = ()
) -> dict[str, str]:
    """Who asked for what, for the command to read.

    :param principal: whose login it is.
    :param command: what the rule is called.
    :param words: what the client sent, where the rule made its own argv of it: the name and the
        parameters.
    """
    environment = {
        "SOCKPROTO_IDENTITY": principal.identity,
        "SOCKPROTO_CLIENT": principal.login.client_id,
        "SOCKPROTO_SESSION": principal.login.session_id.hex(),
        "SOCKPROTO_COMMAND": command,
        "REMOTE_USER": principal.identity,
        "REMOTE_ADDR": principal.host or "",
        # As RFC 3875 has it where no name is looked up: that would take time, and can be forged.
        "REMOTE_HOST": principal.host or "localhost",
    }
    if words:
        # In a script written for remctl or for a forced command of ssh these say what was asked.
        environment["REMCTL_COMMAND"] = os.fsdecode(words[0])
        line = b" ".join(words)
        if len(line) <= _LONGEST_LINE:
            environment["SSH_ORIGINAL_COMMAND"] = os.fsdecode(line)
    return environment


def shared_environment(command: str) -> dict[str, str]:
    """What stands in the place of who asked, where others are to have the same result.

    :param command: what the rule is called.
    """
    return {"SOCKPROTO_COMMAND": command}


def _user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        return None
