"""The server as the whole of a process: what ``twistd`` and ``twist`` run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from twisted.application.service import IServiceCollection
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogLevel
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from sockproto.errors import ConfigurationError
from sockproto.keyring_file import default_path
from sockproto.logs import EVENTS, Logger, Whole, jsonFileObserver
from sockproto.server.keys import ServerKeys
from sockproto.server.privileges import home_of
from sockproto.server.schema import Configuration
from sockproto.server.service import Server
from sockproto.server.trial_command import trial_command

__all__ = ["Program", "StartFailed", "logObserver"]


class StartFailed(Exception, SystemExit):
    """The server cannot be started, as the log says; the exit status is 1.

    An exception for ``twistd``, which then removes its pid file and tells the process that waits
    for its daemon; an exit for the interpreter, which prints no traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = 1


class Program(Server):
    """A :class:`Server` to which the process belongs: its signals, its log, its end.

    SIGHUP reloads; a second SIGTERM or SIGINT changes nothing.  (Neither is taken outside the main
    thread, where Python has no signals.)

    :param observer: what the log of the application is to go to; ``None``: what its options say.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        keys: ServerKeys,
        reread: Callable[[], Configuration] | None = None,
        owner: tuple[int, int] | None = None,
        observer: ILogObserver | None = None,
    ) -> None:
        super().__init__(reactor, configuration, keys, reread, owner)
        self._owner = owner
        self._observer = observer
        self._hangup: Any = None

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Become part of an application, and say where its log goes."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    # Start

    def privilegedStartService(self) -> None:
        """Listen, or end the program."""
        self._setLevel()
        with self._orExit():
            super().privilegedStartService()

    def startService(self) -> None:
        """Serve, or end the program; and say how to try it."""
        self._setLevel()
        with self._orExit():
            if os.getuid() != os.geteuid():
                # The commands could become root again.
                raise ConfigurationError(
                    f"expected one user, found uid {os.getuid()} and euid {os.geteuid()}: "
                    "twistd's --uid is to be given without --euid"
                )
            if self._owner is not None:
                os.environ["HOME"] = home_of(self._owner[0])
            super().startService()
        self._watchHangup()
        if self.keys.needed:
            self._sayHowToLogIn()

    def _sayHowToLogIn(self) -> None:
        made = ": made, with one key, owner" if self.keys.made else ""
        self._log.info("keyring {path}{made}", path=Whole(self.keys.path), made=made)
        self._log.info(
            "{line}",
            line=Whole(
                trial_command(
                    self.configuration,
                    self.listeners.addresses,
                    self.keys.current(),
                    str(self.keys.path),
                    default_path(os.environ),
                )
            ),
        )

    @contextmanager
    def _orExit(self) -> Iterator[None]:
        try:
            yield
        except ConfigurationError as error:
            self._exit(str(error))
        except OSError as error:
            self._exit(f"the process that runs commands cannot be started: {error}")

    def _exit(self, reason: str) -> NoReturn:
        self._log.critical("{reason}", reason=Whole(reason))
        raise StartFailed(reason) from None

    def listenersFailed(self, failure: Failure) -> None:
        """Without its listeners the program is of no use."""
        super().listenersFailed(failure)
        self._reactor.stop()

    def _setLevel(self) -> None:
        EVENTS.level = LogLevel.lookupByName(self.configuration.log.level)

    # Signals

    def reload(self) -> bool:
        """As any server, and the level of the log with it."""
        done = super().reload()
        if done:
            self._setLevel()
        return done

    def _watchHangup(self) -> None:
        if _inMainThread():
            self._hangup = signal.signal(
                signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._hungUp)
            )

    def _hungUp(self) -> None:
        if self.running:
            self.reload()

    def stopService(self) -> Deferred[None]:
        """Drain; whoever asks again is told that it is under way."""
        if _inMainThread() and self._hangup is not None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(
                    number, lambda *_: self._reactor.callFromThread(self._alreadyStopping)
                )
        stopping: Deferred[None] = super().stopService()
        return stopping.addBoth(self._stopped)

    def _stopped(self, result: Any) -> Any:
        if self._hangup is not None:
            signal.signal(signal.SIGHUP, self._hangup)
            self._hangup = None
        return result

    def _alreadyStopping(self) -> None:
        self._log.info("stopping already")


def logObserver(reactor: Any, options: Mapping[str, Any]) -> ILogObserver | None:
    """JSON lines to where ``twistd`` would have its log go.

    :param options: ``twistd``'s own.
    :return: ``None`` where the log is not a file: with ``--syslog`` or ``--logger`` it stays as it
        is.
    :raises OSError: the file cannot be opened.
    """
    name = options.get("logfile")
    if options.get("syslog") or options.get("logger") or "logfile" not in options:
        return None
    if name == "-" or (options.get("nodaemon") and not name):
        # A daemon has none; twistd says so.
        return jsonFileObserver(sys.stdout) if options.get("nodaemon") else None
    file = LogFile.fromFullPath(name or "twistd.log")
    if _inMainThread() and signal.getsignal(signal.SIGUSR1) in (None, signal.SIG_DFL):
        # As twistd does with its own.
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))
    return jsonFileObserver(file)


def _inMainThread() -> bool:
    return threading.current_thread() is threading.main_thread()
