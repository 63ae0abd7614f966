"""A command that is to be started, and the message with which the host process is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from sockproto.services.command.conditions import Conditions
from sockproto.services.command.host import LARGEST_MESSAGE
from sockproto.services.command.processes_pipes import (
    Ends,
    make_pipes,
    make_terminal,
    memory_file,
)
from sockproto.wire.terminal import Terminal

__all__ = ["Spawn"]


@frozen(kw_only=True)
class Spawn:
    """What to run.

    Strings are as :func:`os.fsdecode` gives them, so any bytes can be had.

    :ivar argv: the program, looked up in ``env``'s PATH unless it holds a slash, and its arguments.
    :ivar env: the whole environment.
    :ivar cwd: the working directory.
    :ivar stdin: whether there is a pipe to its standard input; else that is /dev/null.
    :ivar grace: the seconds between TERM and KILL when it is ended.
    :ivar conditions: whom it runs as, and with what of the machine.
    :ivar new_privileges: whether its program may get more rights by its file, as sudo does.
    :ivar terminal: the terminal that it runs on, if it is to be one: then that is its input too.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: str
    stdin: bool = False
    grace: float = 1.0
    conditions: Conditions = field(factory=Conditions)
    new_privileges: bool = False
    terminal: Terminal | None = None

    def make_ends(self, large: bool) -> tuple[Ends, tuple[int, ...]]:
        """Make its pipes, or its terminal.

        :param large: enlarge the pipe for standard output.
        :return: this side's ends, and the child's.
        """
        if self.terminal is None:
            return make_pipes(self.stdin, large)
        return make_terminal(self.terminal.rows, self.terminal.columns)

    def encode(
        self, run: int, mark: int, descriptors: tuple[int, ...]
    ) -> tuple[bytes, tuple[int, ...]]:
        """Make the message.

        :param run: what it is called there.
        :param mark: the number that its processes inherit.
        :param descriptors: the child's ends.
        :return: the message, and the descriptors that go with it.
        :raises OSError: there is no room for it.
        """
        large: dict[str, Any] = {"argv": self.argv, "env": dict(self.env), "cwd": self.cwd}
        head = {
            "op": "spawn",
            "run": run,
            "mark": mark,
            "grace": self.grace,
            "conditions": self.conditions.encode(),
            "terminal": self.terminal is not None,
            "large": False,
        }
        body = json.dumps({**head, **large, "descriptors": len(descriptors)}).encode("ascii")
        if len(body) > LARGEST_MESSAGE:
            descriptors = (*descriptors, memory_file(json.dumps(large).encode("ascii")))
            head["large"] = True
            body = json.dumps({**head, "descriptors": len(descriptors)}).encode("ascii")
        return body, descriptors
