"""The client's side of the login: an endpoint that connects only once both sides are proven."""

from __future__ import annotations

from enum import Enum
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from sockproto.auth.principal import Principal
from sockproto.auth.transport import (
    AuthenticatedTransport,
    abort,
    binding_data,
    binding_of,
    describe,
    host_of,
)
from sockproto.credentials import Credentials
from sockproto.errors import LoginFailed, RemoteProtocolError, SockprotoError
from sockproto.wire.frames import FrameDecoder, encode_frame
from sockproto.wire.handshake import Binding, ClientHandshake, Login
from sockproto.wire.handshake_messages import MAX_MESSAGE

__all__ = ["AuthenticatingEndpoint", "ClientLogin"]


class _State(Enum):
    HELLO_EXPECTED = "HELLO expected"
    ANSWER_EXPECTED = "answer expected"
    INSIDE = "inside"
    FAILED = "failed"


_LOGGING_IN = frozenset({_State.HELLO_EXPECTED, _State.ANSWER_EXPECTED})


class ClientLogin(Protocol):
    """One connection: first the login, then whatever the inner protocol speaks::

    -> HELLO   AUTH ->   -> OK    inner protocol
                         -> FAIL  end
    """

    transport: Any

    def __init__(self, factory: _ClientLoginFactory, address: IAddress) -> None:
        self._factory = factory
        self.address = address
        self._state = _State.HELLO_EXPECTED
        self._frames = FrameDecoder(MAX_MESSAGE)
        self._handshake: ClientHandshake | None = None
        self._inner: IProtocol | None = None
        self._timer: IDelayedCall | None = None

    def logPrefix(self) -> str:
        """The inner protocol's, once there is one."""
        return type(self if self._inner is None else self._inner).__name__

    def connectionMade(self) -> None:
        """The server speaks first."""
        factory = self._factory
        self._binding = binding_of(self.transport)
        if factory.connected.called:
            self.fail(LoginFailed("nobody waits for this connection any longer"))
        elif factory.credentials.tls and self._binding is not Binding.TLS_EXPORTER:
            # Whether TLS is used is the client's own decision, and it was to use it.
            self.fail(LoginFailed("the connection is not TLS"))
        else:
            try:
                self._handshake = factory.credentials.handshake(self._binding)
            except SockprotoError as error:
                self.fail(error)
                return
            self._timer = factory.clock.callLater(factory.timeout, self._outOfTime)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the login, or of the inner protocol."""
        if self._state is _State.INSIDE:
            if self._inner is not None:
                self._inner.dataReceived(data)
        elif self._state is not _State.FAILED:
            self._frames.feed(data)
            try:
                while self._state in _LOGGING_IN:
                    message = self._frames.next_frame()
                    if message is None:
                        return
                    self._take(message)
            except RemoteProtocolError as error:
                self._loginFailed(str(error))

    def _take(self, message: bytes) -> None:
        assert self._handshake is not None
        if self._state is _State.HELLO_EXPECTED:
            binding_bytes = binding_data(self.transport, self._binding)
            if binding_bytes is None:
                raise RemoteProtocolError("the server's TLS version has no channel binding")
            answer = self._handshake.receive_hello(message, binding_bytes)
            self._state = _State.ANSWER_EXPECTED
            self.transport.write(encode_frame(answer))
        else:
            self._enter(self._handshake.receive_reply(message))

    def _enter(self, login: Login) -> None:
        """Both sides are proven: build what is behind the login."""
        self._cancelTimer()
        self._state = _State.INSIDE
        rest = self._frames.unread
        del self._frames
        principal = Principal(
            login.server_id, (), login, host_of(self.address), describe(self.address)
        )
        try:
            inner = self._factory.wrappedFactory.buildProtocol(self.address)
            if inner is None:
                raise NoProtocol
            if IHalfCloseableProtocol.providedBy(inner):
                alsoProvides(self, IHalfCloseableProtocol)
            self._inner = inner
            inner.makeConnection(
                cast(ITransport, AuthenticatedTransport(self.transport, principal))
            )
        except Exception:
            self.fail(Failure())
            return
        self._factory.succeed(inner)
        if rest and not getattr(self.transport, "disconnecting", False):
            self.dataReceived(rest)

    def _outOfTime(self) -> None:
        self._loginFailed(f"no login within {self._factory.timeout:g} s")

    def _loginFailed(self, reason: str) -> None:
        self.fail(LoginFailed(reason, None if self._handshake is None else self._handshake.ref))

    def fail(self, reason: Exception | Failure) -> None:
        """Report that there will be no connection, and end this one."""
        self._state = _State.FAILED
        self._cancelTimer()
        if self.connected:
            abort(self.transport)
        self._factory.fail(reason)

    def _cancelTimer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def readConnectionLost(self) -> None:
        """The server sends no more (only where the inner protocol wants to know)."""
        IHalfCloseableProtocol(self._inner).readConnectionLost()

    def writeConnectionLost(self) -> None:
        """The server takes no more (likewise)."""
        IHalfCloseableProtocol(self._inner).writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the inner protocol, or report that there will be no connection."""
        self.connected = 0
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connectionLost(reason)
            return
        if self._state in _LOGGING_IN:
            self._loginFailed(f"the connection ended during the login: {reason.getErrorMessage()}")


class _ClientLoginFactory(Factory):
    """Builds the one :class:`ClientLogin` of a connection attempt."""

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        wrappedFactory: IProtocolFactory,
        credentials: Credentials,
        timeout: float,
        connected: Deferred[IProtocol],
    ) -> None:
        self.clock = clock
        self.wrappedFactory = wrappedFactory
        self.credentials = credentials
        self.timeout = timeout
        self.connected = connected
        self._login: ClientLogin | None = None

    def doStart(self) -> None:
        """As for any factory; the wrapped one hears it as well."""
        self.wrappedFactory.doStart()
        super().doStart()

    def doStop(self) -> None:
        """As for any factory; the wrapped one hears it as well."""
        self.wrappedFactory.doStop()
        super().doStop()

    def buildProtocol(self, addr: IAddress | None) -> ClientLogin:
        """A protocol that begins with the login."""
        assert addr is not None
        self._login = ClientLogin(self, addr)
        return self._login

    def giveUp(self) -> None:
        """End the connection, if there is one: nobody waits for it any longer."""
        if self._login is not None and self._login.transport is not None:
            self._login.fail(ConnectingCancelledError(self._login.address))

    def succeed(self, inner: IProtocol) -> None:
        """Hand the inner protocol over, unless it has given the attempt up itself."""
        if not self.connected.called:
            self.connected.callback(inner)

    def fail(self, reason: Exception | Failure) -> None:
        """Report a failure, unless the attempt was given up or has succeeded."""
        if not self.connected.called:
            self.connected.errback(reason)


@implementer(IStreamClientEndpoint)
class AuthenticatingEndpoint:
    """Connects through another endpoint, and only once the login has succeeded both ways.

    The protocol's transport provides :class:`~sockproto.interfaces.IAuthenticatedTransport`; the
    Deferred of :meth:`connect` fails with :class:`~sockproto.errors.LoginFailed` where the login
    does.

    :param clock: the reactor, for the deadline.
    :param endpoint: where to connect to.
    :param credentials: with which key, to which service of which server.
    :param timeout: seconds that the login may take, TLS included.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        credentials: Credentials,
        timeout: float = 10.0,
    ) -> None:
        self._clock = clock
        self._endpoint = endpoint
        self._credentials = credentials
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect and log in.

        :return: fires with the protocol that ``protocolFactory`` built behind the login.  To cancel
            it ends the attempt at any stage, with what Twisted's own endpoints fail with then.
        """

        def giveUp(_connected: Deferred[IProtocol]) -> None:
            attempt.cancel()  # has an effect as long as there is no connection
            factory.giveUp()

        connected: Deferred[IProtocol] = Deferred(giveUp)
        factory = _ClientLoginFactory(
            self._clock, protocolFactory, self._credentials, self._timeout, connected
        )
        attempt = self._endpoint.connect(factory)
        attempt.addErrback(factory.fail)
        return connected
