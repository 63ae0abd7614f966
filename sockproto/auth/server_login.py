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
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from sockproto.admission import Ticket
from sockproto.auth.principal import Principal
from sockproto.auth.transport import (
    AuthenticatedTransport,
    abort,
    binding_data,
    binding_of,
    describe,
    host_of,
    more_waits,
)
from sockproto.errors import FrameTooLong, KeyringError
from sockproto.interfaces import IDroppable
from sockproto.key import Key
from sockproto.logs import Logger
from sockproto.wire.frames import FrameDecoder, encode_frame
from sockproto.wire.handshake import Login, Refusal, ServerHandshake
from sockproto.wire.handshake_messages import FAIL, MAX_MESSAGE

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
        self._handshake: ServerHandshake | None = None
        self._inner: IProtocol | None = None
        self._ticket: Ticket | None = None
        self._timer: IDelayedCall | None = None
        self._counted = False
        # Why a key cannot be used: for the log, where the handshake knows no more than that.
        self._problem: str | None = None
        self._failure: Failure | None = None
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
            abort(transport)
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
                abort(self.transport)
                return
            if message is not None:
                self._judge(message)

    def _judge(self, message: bytes) -> None:
        """Take the client's one message for what it is."""
        assert self._handshake is not None
        if self._frames.pending or more_waits(self.transport, self._binding):
            # A client has nothing to say before OK: whoever does is not to be believed either.
            self._refuse("more bytes behind AUTH", failed=True)
            abort(self.transport)
            return
        binding_bytes = binding_data(self.transport, self._binding)
        answer: bytes
        outcome: Login | Refusal
        if binding_bytes is None:
            answer, outcome = FAIL, Refusal("a TLS version without channel binding")
        else:
            answer, outcome = self._handshake.receive_auth(message, binding_bytes, self._secretOf)
        self.transport.write(encode_frame(answer))
        if isinstance(outcome, Refusal):
            self._refuse(self._problem or outcome.reason, outcome, failed=True)
            self.transport.loseConnection()
        else:
            self._enter(outcome)

    def _secretOf(self, key_id: str) -> bytes | None:
        """The secret of a key that may log in now; ``None`` for any other."""
        factory = self.factory
        try:
            key = factory.keys.get(key_id)
            if key is None:
                return None
            self._problem = key.problem(factory.now())
            if self._problem is not None:
                return None
            self.key = key
            return key.secret_for(factory.serverId)
        except KeyringError as error:
            self._problem = str(error)
        except Exception:
            self._problem = "the key could not be looked up"
            self._failure = Failure()
        return None

    def _enter(self, login: Login) -> None:
        """The login is over: build what is behind it."""
        key = self.key
        assert self._ticket is not None
        assert key is not None
        self._ticket.succeeded()
        self._cancelTimer()
        self._state = _State.INSIDE
        self._handshake = None
        del self._frames
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
        try:
            inner = self.factory.wrappedFactory.buildProtocol(self._address)
        except Exception:
            self._log.failure("no protocol for the login {ref}", ref=login.ref)
            inner = None
        if inner is None:
            self._state = _State.CLOSING
            self._abortLater()
            self.transport.loseConnection()
            return
        if IHalfCloseableProtocol.providedBy(inner):
            alsoProvides(self, IHalfCloseableProtocol)
        self._inner = inner
        inner.makeConnection(cast(ITransport, AuthenticatedTransport(self.transport, principal)))

    def _refuse(self, reason: str, refusal: Refusal | None = None, *, failed: bool = False) -> None:
        """Log a login that came to nothing, and see that the connection ends."""
        self._state = _State.CLOSING
        self._frames.unread = b""  # else a read's worth would wait for the garbage collector
        if failed and self._ticket is not None:
            self._ticket.failed()
        self.key = None
        self.factory.refused(
            self._peer,
            host_of(self._address),
            reason,
            None if self._handshake is None else self._handshake.ref,
            refusal,
            self._failure,
        )
        self._cancelTimer()
        self._abortLater()

    def _abortLater(self) -> None:
        """Have a close that gets stuck come to an end."""
        self._timer = self.factory.clock.callLater(
            self.factory.limits.close_seconds, abort, self.transport
        )

    def _outOfTime(self) -> None:
        self._timer = None
        self._refuse("no login in time", failed=True)
        abort(self.transport)

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
            abort(self.transport)

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
