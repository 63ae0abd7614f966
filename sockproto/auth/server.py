"""The server's side of the login: a factory around any factory."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol as TypingProtocol

from twisted.internet.interfaces import (
    IAddress,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from sockproto.admission import Admission, Source
from sockproto.auth.server_login import ServerLogin
from sockproto.auth.transport import abort
from sockproto.connections import ConnectionCap
from sockproto.key import Key
from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.throttle import LogThrottle
from sockproto.wire.handshake import Refusal
from sockproto.wire.handshake_messages import checked_id

__all__ = ["AuthenticatingFactory", "KeySource"]


class KeySource(TypingProtocol):
    """Where a server looks keys up: a keyring, or a file that holds one."""

    def get(self, key_id: str) -> Key | None:
        """The key of that id, valid or not; ``None`` if there is none."""


class AuthenticatingFactory(Factory):
    """Puts a Twisted factory behind the login ``sockproto-auth-v1``.

    The inner protocol is built only once the client has proven that it holds a key; its transport
    provides :class:`~sockproto.interfaces.IAuthenticatedTransport`, whose ``principal`` says who it
    is.  Under TLS (``ssl:`` endpoints, :class:`~twisted.protocols.tls.TLSMemoryBIOFactory`) logins
    are bound to the TLS session, and only such are taken.

    :param clock: the reactor, for the deadline.
    :param wrappedFactory: what to serve to those who log in.
    :param keys: where keys are looked up, at each login.
    :param service: the name of the service; a client logs in to a service by name.
    :param serverId: this server's name, to which derived keys are tied.
    :param limits: the login's deadline among them.
    :param admission: who may begin a login; listeners of one server share one.
    :param cap: how many connections there may be; listeners of one server share one.
    :param now: tells the time for the validity of keys.
    :raises LocalProtocolError: ``service`` or ``serverId`` cannot be sent.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wrappedFactory: IProtocolFactory,
        keys: KeySource,
        service: str,
        serverId: str,
        limits: Limits | None = None,
        admission: Admission | None = None,
        cap: ConnectionCap | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.clock = clock
        self.wrappedFactory = wrappedFactory
        self.keys = keys
        self.service = checked_id(service, "service name")
        self.serverId = checked_id(serverId, "server id")
        self.limits = Limits() if limits is None else limits
        self.admission = (
            Admission(self.limits, clock.seconds, random.random) if admission is None else admission
        )
        self.cap = cap
        self.now = now
        self.connections: set[ServerLogin] = set()
        self._throttle = LogThrottle(clock.seconds)

    def doStart(self) -> None:
        """As for any factory; the wrapped one hears it as well."""
        self.wrappedFactory.doStart()
        super().doStart()

    def doStop(self) -> None:
        """As for any factory; the wrapped one hears it as well."""
        self.wrappedFactory.doStop()
        super().doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """A protocol that begins with the login."""
        assert addr is not None
        return ServerLogin(self, addr)

    def reconfigure(self, limits: Limits) -> None:
        """Have other limits hold for the logins to come; what is shared is told by its owner."""
        self.limits = limits

    def dropInvalid(self) -> None:
        """End the connections whose keys are not valid any longer, or mean something else now.

        A key may get other dates without harm to those who use it.
        """
        for login in list(self.connections):
            if login.key is None:
                continue
            try:
                problem = self._problemOf(login.key)
                if problem is not None:
                    login.drop(problem)
            except Exception:
                # One that cannot be judged or ended is no reason to let the others live on.
                self._log.failure("checking the key {key} failed", key=login.key.id)

    def _problemOf(self, used: Key) -> str | None:
        """Why a connection that logged in with a key cannot go on."""
        key = self.keys.get(used.id)
        if key is None:
            return "removed"
        same = (
            key.identity == used.identity
            and key.groups == used.groups
            and key.secret_for(self.serverId) == used.secret_for(self.serverId)
        )
        return key.problem(self.now()) or (None if same else "replaced")

    def abortAll(self) -> None:
        """End every connection at once."""
        for login in list(self.connections):
            abort(login.transport)

    def refused(
        self,
        peer: str,
        host: str | None,
        reason: str,
        ref: str | None,
        refusal: Refusal | None,
        failure: Failure | None,
    ) -> None:
        """Log a refused login: one line, and not without end for one source.

        :param failure: the error of this side's that is the reason, if it is one.
        """
        suppressed = self._throttle.admit(Source.of(host).name)
        if suppressed is None:
            return
        self._log.emit(
            LogLevel.warn if failure is None else LogLevel.error,
            "login to {service} refused: {reason} (from {peer}, key {key}, client {client},"
            " ref {ref}{more})",
            service=self.service,
            reason=reason,
            peer=peer,
            key=refusal.key_id if refusal else None,
            client=refusal.client_id if refusal else None,
            ref=ref,
            more=f"; {suppressed} more like this were not logged" if suppressed else "",
            **({} if failure is None else {"log_failure": failure}),
        )
