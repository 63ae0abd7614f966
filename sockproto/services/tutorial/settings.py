"""``[tutorial]``: what the tutorial dialects are told, and what their listeners may not be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from attrs import Attribute, evolve, field, frozen

from sockproto.limits import Bytes, Seconds

__all__ = ["DIALECTS", "TutorialSettings", "misplaced", "missing"]

#: The services, by their names in ``[[listen]]``.
DIALECTS = (
    "tutorial-command-int32",
    "tutorial-command-length",
    "tutorial-command-ready",
    "tutorial-message-ready",
    "tutorial-message-int32",
    "tutorial-upper-int32",
    "tutorial-upper-hmac",
    "tutorial-upload-json",
    "tutorial-download",
)

_NEEDED = {
    "tutorial-upper-hmac": "secret",
    "tutorial-upload-json": "folder",
    "tutorial-download": "folder",
}

#: An int32 is the largest length that the dialects can say.
_MAX_INT32 = 2**31 - 1


def _a_secret(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not value:
        raise ValueError("secret is empty")


def _a_folder(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and (not value or "\0" in value):
        raise ValueError(f"folder: expected a path, found {value[:80]!a}")


def _at_home(path: str | None) -> str | None:
    """A path in which ``~`` is what it stands for."""
    return None if path is None else os.path.expanduser(path)


def _from(low: float, high: float) -> Any:
    def check(_instance: Any, attribute: Attribute[Any], value: float) -> None:
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} has to be from {low:g} to {high:g}, not {value:g}")

    return check


@frozen(kw_only=True)
class TutorialSettings:
    """``[tutorial]``.

    :ivar secret: what ``tutorial-upper-hmac`` shares with its clients; of no use anywhere else.
    :ivar folder: what is uploaded to and downloaded from, and nothing else; it belongs to the
        server's user. ``~`` is their home; a relative path begins at the folder of the file that
        names it. It is made if it is missing.
    :ivar gap: seconds between a length that stands alone and the output that it announces.
    :ivar encoding: of commands' output.
    """

    secret: str | None = field(default=None, validator=_a_secret, repr=False)
    folder: str | None = field(default=None, converter=_at_home, validator=_a_folder)
    #: Longer than a client on the same machine takes from one recv to the next; nobody notices it.
    gap: Seconds = field(default=0.05, validator=_from(0, 10))
    encoding: Literal["utf-8", "gbk"] = "utf-8"
    #: Bytes of a command's output, each of stdout and stderr: its length goes ahead of it, so all
    #: of it is in memory first.
    output: Bytes = field(default=1024 * 1024, validator=_from(1, 64 * 1024 * 1024))
    #: Bytes of one uploaded file: what a tutorial sends is a picture or a short video.
    file_size: Bytes = field(default=64 * 1024 * 1024, validator=_from(0, _MAX_INT32))
    #: Bytes, and number, of all files in the folder; an upload that would go beyond is refused.
    folder_size: Bytes = field(default=1024 * 1024 * 1024, validator=_from(0, 2**60))
    files: int = field(default=1000, validator=_from(0, 100_000))

    def within(self, folder: Path) -> TutorialSettings:
        """The same, with a path that is relative to a folder made absolute."""
        if self.folder is None:
            return self
        return evolve(self, folder=os.path.join(folder, self.folder))


def misplaced(service: str, is_local: bool) -> str | None:
    """What is wrong with where a service listens.

    :param service: one that is no dialect is at its place anywhere.
    :param is_local: whether only this machine can reach it.
    """
    if service not in DIALECTS or is_local:
        return None
    return (
        f"{service} is for this machine only: expected an address of 127.0.0.0/8, ::1 or a Unix "
        "socket, as in tcp:8080:interface=127.0.0.1"
    )


def missing(service: str, settings: TutorialSettings) -> str | None:
    """What a dialect lacks to be served: to be asked of a whole configuration.

    :param service: one that is no dialect lacks nothing.
    """
    needed = _NEEDED.get(service)
    if needed is None or getattr(settings, needed) is not None:
        return None
    return f"{service} needs {needed} in [tutorial]"
