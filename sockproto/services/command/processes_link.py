"""One host process and the socket to it: requests out, events in."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto.interfaces import IRunObserver
from sockproto.logs import Logger
from sockproto.services.command.host import LARGEST_MESSAGE, host_command
from sockproto.services.command.host_signals import signal_number
from sockproto.services.command.processes_spawn import Spawn
from sockproto.services.command.processes_sweep import sweep
from sockproto.services.command.tree_scan import new_mark

__all__ = ["HostLink", "Run"]

_MOST_WAITING = 1024  # requests for a host that does not read, before further ones are refused
_EVENTS_A_TURN = 64
# The system grants each user 64 MiB of pipes; beyond that a new pipe holds no more than a page or
# two.
_LARGE_PIPES = 32
_REAP_PAUSE = 0.005
_LONGEST_REAP_PAUSE = 0.25


@define(eq=False)
class Run:
    """A command that was asked for, and may have been started.

    The descriptors are this side's ends of the pipes: non-blocking, and the caller's to close,
    whatever becomes of the command.  They are ``None`` where there is no such pipe.  Of a terminal
    both ``stdin`` and ``stdout`` are the master.

    :ivar pid: the leader's pid, once started.
    :ivar mark: the number that its processes inherit.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    pid: int | None = field(default=None, init=False)
    mark: int = field(default=0, repr=False)
    _number: int = field(default=0, alias="number")
    _link: HostLink | None = field(default=None, alias="link", repr=False)
    _ending: bool = field(default=False, init=False)

    def signal(self, name: str) -> None:
        """Send a signal to the command's process group; nothing happens if it has ended.

        :param name: ``TERM``, ``INT``, ``RTMIN+1`` ...
        :raises ValueError: there is no such signal.
        """
        signal_number(name)
        if self._link is not None:
            self._link.request(
                {"op": "signal", "run": self._number, "signal": name}, droppable=True
            )

    def end(self) -> None:
        """End the command's whole tree: TERM, its grace, KILL.  Only the first call counts."""
        if self._link is not None and not self._ending:
            self._ending = True
            self._link.request({"op": "end", "run": self._number})


@frozen
class _Request:
    """A message for the host that is not sent yet."""

    body: bytes
    descriptors: tuple[int, ...] = ()
    run: Run | None = None

    def drop(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


@implementer(IReadDescriptor, IWriteDescriptor)
class HostLink:
    """One host process and the socket to it."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        cgroup: str | None,
        new_privileges: bool,
        lost: Callable[[HostLink], None],
    ) -> None:
        self._reactor = reactor
        self._lost = lost
        self._runs: dict[int, tuple[Run, IRunObserver]] = {}
        self._waiting: deque[_Request] = deque()
        self._last = 0
        self._grace = 0.0
        self._closed = False
        self._writing = False
        self._finished: Deferred[None] = Deferred()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    host_command(theirs.fileno(), cgroup, new_privileges),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except BaseException:
                self._socket.close()
                raise
        reactor.addReader(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    # Requests.

    def spawn(self, spec: Spawn, observer: IRunObserver) -> Run:
        if len(self._waiting) >= _MOST_WAITING:
            raise BlockingIOError(errno.EAGAIN, "the host process is not keeping up")
        ours, theirs = spec.make_ends(large=len(self._runs) < _LARGE_PIPES)
        self._last += 1
        mark = new_mark()
        try:
            body, descriptors = spec.encode(self._last, mark, theirs)
        except OSError:
            for descriptor in (*ours, *theirs):
                if descriptor is not None:
                    os.close(descriptor)
            raise
        run = Run(*ours, mark=mark, number=self._last, link=self)
        self._grace = max(self._grace, spec.grace)
        self._runs[self._last] = (run, observer)
        self._put(_Request(body, descriptors, run))
        return run

    def request(self, message: Mapping[str, object], droppable: bool = False) -> None:
        if self._closed or (droppable and len(self._waiting) >= _MOST_WAITING):
            return
        self._put(_Request(json.dumps(message).encode("ascii")))

    def close(self) -> Deferred[None]:
        """Let the host end everything and exit; requests that wait are dropped.

        :return: fires when it has exited.
        """
        if not self._closed:
            self._closed = True
            while self._waiting:
                request = self._waiting.popleft()
                request.drop()
                if request.run is not None:
                    self._failed(request.run, "shutdown", "the server is shutting down")
            # Its end of the socket stays, for the last events.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        waiter: Deferred[None] = Deferred()
        self._finished.addCallback(lambda _: waiter.callback(None))
        return waiter

    def _put(self, request: _Request) -> None:
        self._waiting.append(request)
        if not self._writing:
            self.doWrite()

    def doWrite(self) -> None:
        while self._waiting:
            request = self._waiting[0]
            ancillary = []
            if request.descriptors:
                rights = array("i", request.descriptors)
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            try:
                self._socket.sendmsg([request.body], ancillary, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                if not self._writing:
                    self._writing = True
                    self._reactor.addWriter(self)
                return
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
                    break  # the reader finds out the same and tells everybody
                # Too many descriptors in flight, no memory: this request's misfortune alone.
                if request.run is not None:
                    self._reactor.callLater(0, self._failed, request.run, "busy", str(error))
            request.drop()
            self._waiting.popleft()
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)

    # Events.

    def doRead(self) -> Any:
        for _ in range(_EVENTS_A_TURN):
            try:
                data = self._socket.recv(2 * LARGEST_MESSAGE)
            except BlockingIOError:
                return None
            except OSError:
                return CONNECTION_LOST
            if not data:
                return CONNECTION_LOST
            for event in json.loads(data)["events"]:
                self._heard(event)
        return None

    def _heard(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "ready":
            for complaint in event["complaints"]:
                self._log.warn("the host process: {complaint}", complaint=complaint)
            return
        run, observer = self._runs[event["run"]]
        if kind == "started":
            run.pid = event["pid"]
            self._tell(observer.started, run.pid)
        elif kind == "failed":
            self._failed(run, event["code"], event["message"])
        elif kind == "exited":
            over = event.get("gone", False)
            if over:
                self._forget(run)
            self._tell(observer.exited, event.get("exit_status"), event.get("signal"))
            if over:
                self._tell(observer.gone)
        elif kind == "gone":
            self._forget(run)
            self._tell(observer.gone)
        elif kind == "stuck":
            self._log.warn("processes {pids} cannot be killed so far", pids=event["pids"])

    def _failed(self, run: Run, code: str, message: str) -> None:
        found = self._runs.get(run._number)
        if found is not None:
            self._forget(run)
            self._tell(found[1].failed, code, message)

    def _forget(self, run: Run) -> None:
        del self._runs[run._number]
        run._link = None

    def _tell(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception:
            self._log.failure("an observer of a command failed")

    # The end.

    def connectionLost(self, reason: Failure) -> None:
        if self._socket.fileno() < 0:
            return
        expected = self._closed
        self._closed = True
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._socket.close()
        while self._waiting:
            self._waiting.popleft().drop()
        self._lost(self)
        if not expected:
            self._log.error("the host process {pid} is gone", pid=self.pid)
        runs, self._runs = self._runs, {}
        for run, observer in runs.values():
            run._link = None
            self._tell(observer.hostLost)
        self._reap(_REAP_PAUSE, {run.mark for run, _ in runs.values()})

    def _reap(self, pause: float, marks: set[int]) -> None:
        # Its end of the socket is closed, so it is about to exit, or has.
        if self._process.poll() is None:
            later = min(2 * pause, _LONGEST_REAP_PAUSE)
            self._reactor.callLater(pause, self._reap, later, marks)
        else:
            # Not before: it wears the mark of its last command itself.
            sweep(self._reactor, marks, self._grace).chainDeferred(self._finished)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "ProcessHost"
