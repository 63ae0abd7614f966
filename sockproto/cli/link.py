"""A session with an agent that is made anew when it is lost."""

from __future__ import annotations

import time
from collections.abc import Callable

from sockproto.blocking import Command, Session
from sockproto.errors import AgentError, ConnectFailed, ConnectionLost
from sockproto.wire.commands import CommandRequest

__all__ = ["Link"]

# Seconds to wait before each further try: as long, all together, as a server takes to start anew.
_PAUSES = (0.5, 1.0, 2.0, 4.0)
# A connection that was quiet for so many seconds may be gone without anybody having been told (by
# a router that forgot it); one that answers within so many is there.
_QUIET = 30.0
_PATIENCE = 5.0


class Link:
    """Keeps a session; nothing is ever asked twice of the agent.

    :param connect: makes a session.
    :param say: tells the user about a loss.
    :param clock: seconds from some start.
    :param sleep: waits for seconds.
    :ivar server_id: the agent's id.
    :raises AgentError: the first session could not be made: that is tried once.
    """

    def __init__(
        self,
        connect: Callable[[], Session],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connect = connect
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._session: Session | None = None
        self._keep(connect())

    def _keep(self, session: Session) -> Session:
        self._session = session
        self.server_id = session.login.server_id
        self.heard()
        return session

    def heard(self) -> None:
        """The agent has just said something."""
        self._heard = self._clock()

    def doubt(self) -> None:
        """The agent may be gone: it is asked before the next command."""
        self._heard = self._clock() - _QUIET

    def ask(self, request: CommandRequest) -> tuple[Session, Command]:
        """Ask for a command, over a new connection where the last one is gone.

        A loss that shows only afterwards is told by the command: it may have run.

        :raises AgentError: no connection could be made.
        """
        session = self._living()
        try:
            return session, session.ask(request)
        except AgentError as error:
            if error.code == "too-long":
                raise
            # It was never sent: the agent is going away.
            self._drop(error)
        session = self._living()
        return session, session.ask(request)

    def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _living(self) -> Session:
        """A session that is there, as far as one can know."""
        if self._session is not None:
            try:
                self._session.pump(0)
                if self._clock() - self._heard >= _QUIET:
                    self._session.ping(_PATIENCE)
                    self.heard()
            except AgentError as error:
                self._drop(error)
        if self._session is not None:
            return self._session
        session = self._keep(self._again())
        self._say(f"connected again to {self.server_id}")
        return session

    def _drop(self, error: AgentError) -> None:
        self.close()
        self._say(f"{error.code}: {error}: connecting again")

    def _again(self) -> Session:
        """A new session, after some tries."""
        for pause in _PAUSES:
            try:
                return self._connect()
            except (ConnectFailed, ConnectionLost):
                self._sleep(pause)
        return self._connect()
