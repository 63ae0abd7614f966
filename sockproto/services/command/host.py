"""The host process: spawns commands for the server, reaps them and ends their trees.

The server starts it by :func:`main` and speaks with it over a SEQPACKET socket, one JSON object a
message (a large one comes in a memory file instead):

- to the host: ``spawn`` (with the child's ends of its pipes as descriptors), ``signal``, ``end``;
- from the host: ``events``, a list: ``ready``, and for each run ``started`` or ``failed``,
  ``exited``, ``gone``, and ``stuck`` if a process cannot be killed.

There are two of them where rules need that: no-new-privs holds for a process and all that it
starts, for ever, so commands with ``new_privileges`` have a host of their own.

It is a process of its own, and single-threaded, because it has to be a *subreaper*: whatever a
command leaves orphaned becomes its child, and so can be found and reaped.  A program that embeds
sockproto could not be one without adopting, and stealing the exit status of, other code's children.

Nothing here blocks but the poll at the top of the loop.  When the server's end of the socket
closes, the server process ends, or SIGTERM comes, all trees are ended and then the host exits.
What commands that had already ended left behind is left alone, then and always.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import select
import socket
import sys
import time
from collections import deque
from itertools import islice
from pathlib import Path

from sockproto.services.command.cgroup import CommandGroups
from sockproto.services.command.host_commands import Commands
from sockproto.services.command.host_signals import install_signals

__all__ = ["LARGEST_MESSAGE", "Host", "host_command", "main"]

# Below what a socket buffer of the default size takes in one piece.
LARGEST_MESSAGE = 32 * 1024
_MOST_DESCRIPTORS = 4
_MESSAGES_A_TURN = 16
_EVENTS_A_MESSAGE = 16
_MOST_UNSENT = 4096  # events for a server that does not read, before its requests are left unread
_LAST_WAIT = 10.0  # how long the host outlives the server for the sake of what cannot be killed
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_FREE, _BOUND = "new-privileges", "no-new-privileges"


class Host:
    """The event loop.

    :param control: the socket to the server.
    :param server: the server's pid.
    :param groups: where commands get control groups, if anywhere.
    :param new_privileges: whether commands may get more rights than this process has.
    """

    def __init__(
        self,
        control: socket.socket,
        server: int,
        groups: CommandGroups | None = None,
        new_privileges: bool = True,
    ) -> None:
        self._control = control
        self._groups = groups
        self._commands = Commands(self._report, groups, new_privileges)
        self._wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._terminations = install_signals(wake_write)
        self._unsent: deque[dict[str, object]] = deque()
        self._exit_at: float | None = None
        self._server = server
        self._server_process = -1
        # The socket alone would not tell if the server had forked, and the fork lived on with it.
        with contextlib.suppress(OSError, AttributeError):
            self._server_process = os.pidfd_open(server)

    def run(self, complaints: list[str]) -> None:
        """Work until there is nothing left to do.

        :param complaints: what is not as it should be, for the server's log.
        """
        self._report(event="ready", complaints=complaints)
        while self._exit_at is None or (self._commands and time.monotonic() < self._exit_at):
            self._turn()
        self._flush()
        if self._groups is not None:
            self._groups.close()

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        working = self._exit_at is None
        if working or self._unsent:
            # Hang-up is reported in any case; and if nothing is read, requests wait in the socket.
            reading = select.POLLIN if working and len(self._unsent) < _MOST_UNSENT else 0
            writing = select.POLLOUT if self._unsent else 0
            poll.register(self._control, reading | writing)
        if working and self._server_process >= 0:
            poll.register(self._server_process, select.POLLIN)
        ready = dict(poll.poll(self._patience()))
        if self._wake in ready or self._commands.more_to_reap:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            if self._terminations:
                self._wind_up()
            self._commands.reap()
        if ready.get(self._server_process) or os.getppid() != self._server:
            self._wind_up()
        control = ready.get(self._control.fileno(), 0)
        if control & (select.POLLHUP | select.POLLERR):
            self._unsent.clear()
            self._wind_up()
        if control & select.POLLIN and self._exit_at is None:
            self._receive()
        self._commands.advance()
        self._flush()

    def _patience(self) -> int:
        """Give the milliseconds that the poll may take; -1 is for ever."""
        if self._commands.more_to_reap:
            return 0
        times = [when for when in (self._commands.due, self._exit_at) if when is not None]
        if not times:
            return -1
        return max(0, int((min(times) - time.monotonic()) * 1000 + 0.999))

    def _wind_up(self) -> None:
        if self._exit_at is None:
            self._exit_at = time.monotonic() + self._commands.longest_grace + _LAST_WAIT
            self._commands.end_all()

    def _receive(self) -> None:
        for _ in range(_MESSAGES_A_TURN):
            try:
                data, descriptors = _receive_message(self._control)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._wind_up()
                return
            try:
                self._obey(data, descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _obey(self, data: bytes, descriptors: list[int]) -> None:
        request = json.loads(data)
        if request["op"] == "spawn":
            self._commands.spawn(request, descriptors)
        elif request["op"] == "end":
            self._commands.end(request["run"])
        elif request["op"] == "signal":
            self._commands.signal(request["run"], request["signal"])

    def _report(self, **event: object) -> None:
        """Keep an event for the end of the turn: to wake the server for each one costs more."""
        self._unsent.append(event)

    def _flush(self) -> None:
        while self._unsent:
            some = list(islice(self._unsent, _EVENTS_A_MESSAGE))
            data = json.dumps({"events": some}).encode("ascii")
            try:
                self._control.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:  # nobody is there to hear it
                self._unsent.clear()
                self._wind_up()
                return
            for _ in some:
                self._unsent.popleft()


def host_command(descriptor: int, cgroup: str | None, new_privileges: bool) -> list[str]:
    """Give the command that a server starts its host process with.

    :param descriptor: the number of the host's end of the socket.
    :param new_privileges: whether its commands may get more rights than it has.
    :param cgroup: a delegated cgroup v2 folder.
    """
    folder = str(Path(__file__).resolve().parents[3])
    program = (
        f"import sys; sys.path.append({folder!r}); "
        "from sockproto.services.command.host import main; main()"
    )
    # Both sides have to agree about which bytes a string stands for.
    encoding = ["-X", "utf8"] if sys.getfilesystemencoding() == "utf-8" else []
    command = [sys.executable, "-I", "-S", *encoding, "-c", program]
    command += [str(descriptor), str(os.getpid()), _FREE if new_privileges else _BOUND]
    return command if cgroup is None else [*command, cgroup]


def main() -> None:
    """Run as the host process.

    The arguments: the socket's number, the server's pid, whether commands may get new privileges,
    and a cgroup.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    control.setblocking(False)
    server = int(sys.argv[2])
    os.chdir("/")  # no file system is kept from being unmounted
    groups = None
    complaints = []
    if len(sys.argv) > 4:
        try:
            groups = CommandGroups(sys.argv[4])
        except OSError as error:
            complaints.append(f"commands get no control groups: {error}")
    if not _prctl(_PR_SET_CHILD_SUBREAPER, 1):
        complaints.append("it cannot adopt orphans, and may lose some")
    # A capability that a service manager gives the server, to listen or to switch users, would
    # else pass to every command, whoever it runs as.
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    new_privileges = sys.argv[3] == _FREE
    if not new_privileges and not _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        sys.exit("no-new-privs cannot be set: no command is run that should have it")
    Host(control, server, groups, new_privileges).run(complaints)


def _prctl(option: int, argument: int) -> bool:
    """Set something of this process that its children inherit."""
    try:
        zero = ctypes.c_ulong(0)
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        return bool(prctl(option, ctypes.c_ulong(argument), zero, zero, zero) == 0)
    except (OSError, AttributeError):
        return False


def _receive_message(control: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    room = socket.CMSG_SPACE(_MOST_DESCRIPTORS * descriptors.itemsize)
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    data, ancillary, _, _ = control.recvmsg(LARGEST_MESSAGE + 1, room, flags)
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(body[: len(body) - len(body) % descriptors.itemsize])
    return data, list(descriptors)
