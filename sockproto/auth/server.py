"""The server's side of the login: a factory around any factory."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Protocol as TypingProtocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from ..admission import Admission, Ticket
from ..connections import ConnectionCap
from ..errors import FrameTooLong
from ..interfaces import IDroppable
from ..key import Key
from ..limits import Limits
from ..wire.frames import FrameDecoder, encode_frame
from ..wire.handshake import MAX_MESSAGE, Login, Refusal, ServerHandshake
from .principal import Principal
from .throttle import LogThrottle
from .transport import AuthenticatedTransport, binding_data, binding_of, describe, host_of

__all__ = ["AuthenticatingFactory", "KeySource"]


class KeySource(TypingProtocol):
    """Where a server looks keys up: a keyring, or a file that holds one."""

    def get(self, key_id: str) -> Key | None:
        """The key of that id, valid or not; ``None`` if there is none."""


class _State(Enum):
    WAITING = "waiting"
    INSIDE = "inside"
    CLOSING = "closing"


class ServerLogin(Protocol):
    """One connection: first the login, then whatever the inner protocol speaks::

        HELLO ->   <- AUTH   OK ->   inner protocol
                             FAIL -> end

    Nothing of the inner protocol exists before OK has been sent.
    """

    _log = Logger()
    factory: AuthenticatingFactory

    def __init__(self, factory: AuthenticatingFactory, address: IAddress) -> None:
        self.factory = factory
        self._address = address
        self._peer = describe(address)
        self._state = _State.WAITING
        self._frames = FrameDecoder(MAX_MESSAGE)
        self._inner: IProtocol | None = None
        self._ticket: Ticket | None = None
        self._timer: IDelayedCall | None = None
        self._reason: str | None = None
        self._counted = False
        self.key: Key | None = None

    def logPrefix(self) -> str:
        """The inner protocol's, once there is one."""
        return type(self if self._inner is None else self._inner).__name__

    def connectionMade(self) -> None:
        """Ask for a place among those that log in, and send HELLO."""
        factory, transport = self.factory, self.transport
        assert transport is not None
        host = host_of(self._address)
        refusal = None if factory.cap is None else factory.cap.admit(host)
        if refusal is None:
            self._counted = factory.cap is not None
            self._ticket = factory.admission.admit(host)
            refusal = factory.admission.refusal
        if self._ticket is None:
            self._refuse(refusal)
            transport.abortConnection()
            return
        factory.connections.add(self)
        self._binding = binding_of(transport)
        self._handshake = ServerHandshake(factory.service, factory.serverId, self._binding)
        self._timer = factory.clock.callLater(factory.limits.login_seconds, self._outOfTime)
        transport.write(encode_frame(self._handshake.hello))

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the login, or of the inner protocol."""
        if self._inner is not None:
            self._inner.dataReceived(data)
        elif self._state is _State.WAITING:
            self._frames.feed(data)
            try:
                message = self._frames.next_frame()
            except FrameTooLong as error:
                self._refuse(str(error), failed=True)
                self.transport.abortConnection()
                return
            if message is not None:
                self._judge(message)

    def _judge(self, message: bytes) -> None:
        if self._frames.pending:
            # A client has nothing to say before OK: whoever does is not to be believed either.
            self._refuse("more bytes behind AUTH", failed=True)
            self.transport.abortConnection()
            return
        binding_bytes = binding_data(self.transport, self._binding)
        if binding_bytes is None:
            self._refuse("a TLS version without channel binding", failed=True)
            self.transport.abortConnection()
            return
        found: list[Key] = []
        answer, outcome = self._handshake.receive_auth(
            message, binding_bytes, lambda key_id: self._secretOf(key_id, found)
        )
        self.transport.write(encode_frame(answer))
        if isinstance(outcome, Refusal):
            self._refuse(self._reason or outcome.reason, outcome, failed=True)
            self.transport.loseConnection()
            return
        self._enter(outcome, found[0])

    def _secretOf(self, key_id: str, found: list[Key]) -> bytes | None:
        key = self.factory.keys.get(key_id)
        if key is None:
            return None
        problem = key.problem(self.factory.now())
        if problem is not None:
            self._reason = problem
            return None
        found.append(key)
        return key.secret_for(self.factory.serverId)

    def _enter(self, login: Login, key: Key) -> None:
        """The login is over: build what is behind it."""
        assert self._ticket is not None
        self._ticket.succeeded()
        self._cancelTimer()
        self._state = _State.INSIDE
        self.key = key
        del self._frames, self._handshake
        principal = Principal(key.identity, key.groups, login, host_of(self._address), self._peer)
        self._log.info(
            "login to {service} as {identity} with key {key} from {peer}"
            " (client {client}, ref {ref})",
            service=login.service,
            identity=key.identity,
            key=login.key_id,
            peer=self._peer,
            client=login.client_id,
            ref=login.ref,
        )
        inner = self.factory.wrappedFactory.buildProtocol(self._address)
        if inner is None:
            self._state = _State.CLOSING
            self.transport.loseConnection()
            return
        if IHalfCloseableProtocol.providedBy(inner):
            alsoProvides(self, IHalfCloseableProtocol)
        self._inner = inner
        inner.makeConnection(AuthenticatedTransport(self.transport, principal))

    def _refuse(self, reason: str, refusal: Refusal | None = None, *, failed: bool = False) -> None:
        """Log a login that came to nothing, and see that the connection ends."""
        self._state = _State.CLOSING
        if failed and self._ticket is not None:
            self._ticket.failed()
        self.factory.refused(
            self._peer,
            host_of(self._address),
            reason,
            getattr(self._handshake, "ref", None) if self._ticket is not None else None,
            refusal,
        )
        self._cancelTimer()
        self._timer = self.factory.clock.callLater(
            self.factory.limits.close_seconds, self.transport.abortConnection
        )

    def _outOfTime(self) -> None:
        self._timer = None
        self._refuse("no login in time", failed=True)
        self.transport.abortConnection()

    def _cancelTimer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def drop(self, problem: str) -> None:
        """End a connection whose key is not valid any longer."""
        self._log.warn(
            "the connection of {key} from {peer} is ended: {problem}",
            key=self.key.id if self.key is not None else None,
            peer=self._peer,
            problem=problem,
        )
        if IDroppable.providedBy(self._inner):
            self._inner.drop("revoked", f"the key is not valid any longer: {problem}")
        else:
            self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """The peer sends no more (only where the inner protocol wants to know)."""
        IHalfCloseableProtocol(self._inner).readConnectionLost()

    def writeConnectionLost(self) -> None:
        """The peer takes no more (likewise)."""
        IHalfCloseableProtocol(self._inner).writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the inner protocol, or give the place back."""
        self.factory.connections.discard(self)
        if self._counted:
            assert self.factory.cap is not None
            self.factory.cap.release(host_of(self._address))
        inner, self._inner = self._inner, None
        if inner is not None:
            self._state = _State.CLOSING
            inner.connectionLost(reason)
            return
        if self._state is _State.WAITING:
            self._refuse(
                "the connection ended before the login"
                if reason.check(ConnectionDone)
                else f"the connection was lost before the login: {reason.getErrorMessage()}"
            )
        self._cancelTimer()
        if self._ticket is not None:
            self._ticket.ended()


class AuthenticatingFactory(Factory):
    """Puts a Twisted factory behind the login ``sockproto-auth-v1``.

    The inner protocol is built only once the client has proven that it holds a key; its transport
    provides :class:`~sockproto.interfaces.IAuthenticatedTransport`, whose ``principal`` says who it
    is.  Under TLS (``ssl:`` endpoints, :class:`~twisted.protocols.tls.TLSMemoryBIOFactory`) logins are
    bound to the TLS session, and only such are taken.

    :param clock: the reactor, for the deadline.
    :param wrappedFactory: what to serve to those who log in.
    :param keys: where keys are looked up, at each login.
    :param service: the name of the service; a client logs in to a service by name.
    :param serverId: this server's name, to which derived keys are tied.
    :param limits: the login's deadline among them.
    :param admission: who may begin a login; listeners of one server share one.
    :param cap: how many connections there may be; listeners of one server share one.
    :param now: tells the time for the validity of keys.
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
        self.service = service
        self.serverId = serverId
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

    def buildProtocol(self, addr: IAddress) -> ServerLogin:
        """A protocol that begins with the login."""
        return ServerLogin(self, addr)

    def dropInvalid(self) -> None:
        """End the connections whose keys are not valid any longer, or not what they were."""
        for login in list(self.connections):
            if login.key is not None:
                key = self.keys.get(login.key.id)
                problem = "removed" if key is None else key.problem(self.now())
                if problem is None and key != login.key:
                    problem = "replaced"
                if problem is not None:
                    login.drop(problem)

    def abortAll(self) -> None:
        """End every connection at once."""
        for login in list(self.connections):
            login.transport.abortConnection()

    def refused(
        self, peer: str, host: str | None, reason: str, ref: str | None, refusal: Refusal | None
    ) -> None:
        """Log a refused login: one line, and not without end for one source."""
        suppressed = self._throttle.admit(host or "local")
        if suppressed is None:
            return
        self._log.warn(
            "login to {service} refused: {reason} (from {peer}, key {key}, client {client},"
            " ref {ref}{more})",
            service=self.service,
            reason=reason,
            peer=peer,
            key=refusal.key_id if refusal else None,
            client=refusal.client_id if refusal else None,
            ref=ref,
            more=f"; {suppressed} more like this were not logged" if suppressed else "",
        )
