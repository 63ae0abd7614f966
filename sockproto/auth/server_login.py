"""The server's side of the login on one connection."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from sockproto.admission import Ticket
from sockproto.auth.principal import Principal
from sockproto.auth.transport import (
    AuthenticatedTransport,
    binding_data,
    binding_of,
    describe,
    host_of,
)
from sockproto.errors import FrameTooLong
from sockproto.interfaces import IDroppable
from sockproto.key import Key
from sockproto.wire.frames import FrameDecoder, encode_frame
from sockproto.wire.handshake import Login, Refusal, ServerHandshake
from sockproto.wire.handshake_messages import MAX_MESSAGE

if TYPE_CHECKING:
    from sockproto.auth.server import AuthenticatingFactory

__all__ = ["ServerLogin"]


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
    transport: Any

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
        inner.makeConnection(cast(ITransport, AuthenticatedTransport(self.transport, principal)))

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
        inner: Any = self._inner
        if IDroppable.providedBy(inner):
            inner.drop("revoked", f"the key is not valid any longer: {problem}")
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
