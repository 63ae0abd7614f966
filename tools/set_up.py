"""Make .venv with the project in it, editable, and the extras named as arguments.

Run it with the Python that the environment is to have, as tools/set-up does.  What it made is noted
in .venv itself, by content: a changed setup.cfg installs again, an unfinished, moved or broken
environment is made anew, and otherwise nothing is done.  Nothing is written outside the checkout.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
NOTE = ENVIRONMENT / "set-up.json"
DECIDING = ("setup.cfg", "setup.py", "pyproject.toml")


def wanted() -> dict[str, Any]:
    """Say what an environment that fits this checkout was made from."""
    digest = hashlib.sha256()
    for name in DECIDING:
        digest.update((ROOT / name).read_bytes() + b"\0")
    return {"root": str(ROOT), "files": digest.hexdigest()}


def noted() -> dict[str, Any]:
    """Read what the environment was made from; empty if it is not there, unfinished or broken."""
    python = ENVIRONMENT / "bin" / "python"
    try:
        note = json.loads(NOTE.read_text())
        subprocess.run([python, "-c", ""], check=True, capture_output=True)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return {}
    return note if isinstance(note, dict) else {}


def run(command: Sequence[str | Path], environ: Mapping[str, str]) -> None:
    """Run a program and show what it says only if it fails.

    :raises subprocess.CalledProcessError: it did.
    """
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr, flush=True)
        done.check_returncode()


def setUp(extras: Set[str]) -> None:
    """Bring the environment to where it has the project and these extras.

    :raises subprocess.CalledProcessError: a step failed, and has said why.
    """
    want, have = wanted(), noted()
    if have.get("root") != want["root"]:
        print(f"set-up: making .venv with Python {sys.version.split()[0]}", flush=True)
        # With --clear whatever an interrupted run left behind is gone first.
        run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], os.environ)
        have = {}
    installed = set(have.get("extras", []))
    if have.get("files") == want["files"] and extras <= installed:
        return
    extras = extras | installed
    what = f".[{','.join(sorted(extras))}]" if extras else "."
    print(f"set-up: installing {what} and what it needs", flush=True)
    # fmt: off
    command: list[str | Path] = [
        ENVIRONMENT / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check",
        "--no-input", "--cache-dir", ENVIRONMENT / "pip-cache",
        "install", "--no-warn-script-location", "--editable", what,
    ]
    # fmt: on
    environ = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    for name in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"):
        environ.pop(name, None)
    NOTE.unlink(missing_ok=True)
    run(command, environ)
    part = NOTE.with_suffix(".part")
    part.write_text(json.dumps({**want, "extras": sorted(extras)}))
    part.replace(NOTE)


def main() -> int:
    """Set up while no other run does."""
    with Path(__file__).open() as lock:  # any open file of the checkout can carry the lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: waiting for another run to finish", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            setUp(set(sys.argv[1:]))
        except subprocess.CalledProcessError:
            print("set-up: failed; what went wrong stands above", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
