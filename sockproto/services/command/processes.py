"""Commands as processes, for Twisted: the server's side of the host processes.

The program that this runs in is left as it is: it becomes no subreaper, waits for no process but
the one it has started itself, and its SIGCHLD is not touched.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from sockproto.interfaces import IRunObserver
from sockproto.services.command.processes_link import HostLink, Run
from sockproto.services.command.processes_spawn import Spawn

__all__ = ["ProcessHost", "Run", "Spawn"]


class ProcessHost:
    """Runs commands through host processes, which it starts when they are needed and not there.

    :param reactor: any reactor that can watch descriptors.
    :param cgroup: a writable cgroup v2 folder that was delegated to this server, if there is one.
    """

    def __init__(self, reactor: Any, *, cgroup: str | None = None) -> None:
        self._reactor = reactor
        self._cgroup = cgroup
        self._links: dict[bool, HostLink] = {}
        self._leaving: list[HostLink] = []
        self._stopping = False

    @property
    def pids(self) -> list[int]:
        """The host processes that there are."""
        return [link.pid for link in self._links.values()]

    def start(self, new_privileges: bool = False) -> None:
        """Start a host process, so that the first command need not wait for it.

        :param new_privileges: for which commands; those without and with them have each their own.
        :raises OSError: it cannot be started.
        """
        self._stopping = False
        self._connected(new_privileges)

    def stop(self) -> Deferred[None]:
        """End all commands with all their trees, and the host processes.

        :return: fires when they have exited.
        """
        self._stopping = True
        for link in list(self._links.values()):
            self._leave(link)
        closing = [link.close() for link in self._leaving]
        return DeferredList(closing).addCallback(lambda _: None)

    def spawn(self, spec: Spawn, observer: IRunObserver) -> Run:
        """Ask for a command.

        :param observer: hears what becomes of it, never before this method has returned.
        :return: the run; where there was no room for it, one without pipes that fails at once.
        """
        if self._stopping:
            return self._refuse(observer, "shutdown", "the server is shutting down")
        try:
            return self._connected(spec.new_privileges).spawn(spec, observer)
        except OSError as error:
            return self._refuse(observer, "busy", f"no command can be started: {error.strerror}")

    def _refuse(self, observer: IRunObserver, code: str, message: str) -> Run:
        self._reactor.callLater(0, observer.failed, code, message)
        return Run()

    def _connected(self, new_privileges: bool) -> HostLink:
        link = self._links.get(new_privileges)
        if link is None:
            link = HostLink(self._reactor, self._cgroup, new_privileges, self._leave)
            self._links[new_privileges] = link
        return link

    def _leave(self, link: HostLink) -> None:
        for kind, one in list(self._links.items()):
            if one is link:
                del self._links[kind]
                self._leaving.append(link)
                link.close().addCallback(lambda _: self._leaving.remove(link))
