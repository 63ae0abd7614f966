"""The environment that commands get: a small base, and who asked."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from sockproto.auth.principal import Principal

__all__ = ["asking_environment", "base_environment", "home_folder"]

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What every command gets: who the server's user is, and where programs are.

    :param environ: the server's own environment, from which PATH and LANG are taken.
    """
    user = _user()
    name = user.pw_name if user is not None else str(os.geteuid())
    return {
        "PATH": environ.get("PATH") or _DEFAULT_PATH,
        "HOME": home_folder(environ),
        "USER": name,
        "LOGNAME": name,
        "SHELL": (user.pw_shell if user is not None else "") or "/bin/sh",
        "LANG": environ.get("LANG") or "C.UTF-8",
    }


def home_folder(environ: Mapping[str, str] = os.environ) -> str:
    """The home of the server's user; ``/`` where there is none."""
    user = _user()
    home = environ.get("HOME") or (user.pw_dir if user is not None else "/")
    return home if os.path.isdir(home) else "/"


def asking_environment(principal: Principal, command: str) -> dict[str, str]:
    """Who asked, for the command to read.

    :param principal: whose login it is.
    :param command: what the rule is called.
    """
    return {
        "SOCKPROTO_IDENTITY": principal.identity,
        "SOCKPROTO_CLIENT": principal.login.client_id,
        "SOCKPROTO_SESSION": principal.login.session_id.hex(),
        "SOCKPROTO_COMMAND": command,
        "REMOTE_USER": principal.identity,
        "REMOTE_ADDR": principal.host or "",
    }


def _user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        return None
