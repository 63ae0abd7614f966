"""The login ``sockproto-auth-v1``: both sides as machines without I/O.

The messages are in :mod:`~sockproto.wire.handshake_messages`.  Their tags prove knowledge of the
shared secret over the whole transcript, and over the TLS exporter value (RFC 9266) where the
connection is TLS::

    PRK   = HKDF-Extract-SHA256(salt = Ns || Nc, IKM = secret)                    (RFC 5869)
    T1    = SHA256("sockproto-auth-v1\\0" || lp32(HELLO) || lp32(AUTH0) || lp32(cb_data))
    tag_c = HMAC-SHA256(HKDF-Expand(PRK, "sockproto-auth-v1 client" || T1, 32), T1)
    T2    = SHA256(T1 || tag_c || lp32(OK0))
    tag_s = HMAC-SHA256(HKDF-Expand(PRK, "sockproto-auth-v1 server" || T1, 32), T2)

AUTH0 and OK0 are the messages without their tags; ``lp32`` is four length bytes, big-endian.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from enum import Enum

from attrs import frozen

from sockproto.errors import LocalProtocolError, RemoteProtocolError
from sockproto.wire.handshake_messages import FAIL, Auth, Hello, Ok, checked_id, lp32, reference

__all__ = [
    "MIN_SECRET",
    "Binding",
    "ClientHandshake",
    "Login",
    "LoginRefused",
    "Refusal",
    "ServerHandshake",
]

#: A secret shorter than this is refused by everything that reads or makes keys.
MIN_SECRET = 16

_LABEL = b"sockproto-auth-v1"
_SUITE_HMAC_SHA256 = 0x01
_NONCE = 32
_SESSION_ID = 16
_EXPORTER_LENGTH = 32
# What the computation runs on for a key that does not exist, so that it takes as long.
_DUMMY_SECRET = bytes(32)


class Binding(Enum):
    """What ties a login to its connection; the value is its bit in ``cb_mask`` and its ``cb``."""

    NONE = 0x01
    TLS_EXPORTER = 0x02


class LoginRefused(RemoteProtocolError):
    """The server answered FAIL."""


@frozen
class Login:
    """A login that both sides have proven.

    :ivar key_id: the key that was used.
    :ivar client_id: the client's own word for itself: for logs, never for rules.
    :ivar service: the name of the service logged in to.
    :ivar server_id: the server's name for itself.
    :ivar session_id: 16 random bytes of the server's.
    :ivar ref: what both sides print, so that a login can be found in the other's log.
    :ivar binding: what the login is tied to.
    """

    key_id: str
    client_id: str
    service: str
    server_id: str
    session_id: bytes
    ref: str
    binding: Binding


@frozen
class Refusal:
    """Why a server refused a login: for its own log, never for the peer.

    :ivar reason: a short phrase.
    :ivar key_id: the key id that was claimed, when the message could be read that far.
    :ivar client_id: likewise.
    """

    reason: str
    key_id: str | None = None
    client_id: str | None = None


class _Proof:
    """The tags of one login, from what both sides have seen of it."""

    def __init__(
        self, secret: bytes, hello: bytes, nonces: bytes, auth0: bytes, cb_data: bytes
    ) -> None:
        self._prk = _hmac(nonces, secret)
        self._t1 = hashlib.sha256(
            _LABEL + b"\0" + lp32(hello) + lp32(auth0) + lp32(cb_data)
        ).digest()
        self.client_tag = _hmac(self._expand(b" client"), self._t1)

    def server_tag(self, ok0: bytes) -> bytes:
        t2 = hashlib.sha256(self._t1 + self.client_tag + lp32(ok0)).digest()
        return _hmac(self._expand(b" server"), t2)

    def _expand(self, side: bytes) -> bytes:
        # HKDF-Expand to 32 bytes is a single block (RFC 5869, section 2.3).
        return _hmac(self._prk, _LABEL + side + self._t1 + b"\x01")


class _State(Enum):
    FRESH = "fresh"
    AUTH_SENT = "auth sent"
    DONE = "done"


class ServerHandshake:
    """The server's side of one login.

    Send :attr:`hello`; give the client's one message to :meth:`receive_auth`; send what it says.

    :param service: the name of the listener's service.
    :param server_id: this server's name.
    :param binding: TLS_EXPORTER on a connection that is TLS, and only there.
    :param random: the source of random bytes.
    """

    def __init__(
        self,
        service: str,
        server_id: str,
        binding: Binding,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._random = random
        self._state = _State.FRESH
        self._binding = binding
        self._hello = Hello(
            suites=bytes((_SUITE_HMAC_SHA256,)),
            cb_mask=binding.value,
            service=checked_id(service, "service name"),
            server_id=checked_id(server_id, "server id"),
            nonce=random(_NONCE),
        )
        self.hello = self._hello.encode()
        self.ref = reference(self.hello)

    def receive_auth(
        self, message: bytes, cb_data: bytes, secret_of: Callable[[str], bytes | None]
    ) -> tuple[bytes, Login | Refusal]:
        """Judge the client's message: one attempt a connection.

        :param message: the payload of the first frame that came.
        :param cb_data: the TLS exporter value, or nothing for a login without binding.
        :param secret_of: gives the secret of a key id, ``None`` for one that may not log in.
        :return: the message to send, OK or FAIL, and the login or why there is none.
        """
        if self._state is not _State.FRESH:
            raise LocalProtocolError("a login is judged once")
        _check_cb_data(self._binding, cb_data)
        self._state = _State.DONE
        try:
            auth = Auth.decode(message)
        except RemoteProtocolError as error:
            return FAIL, Refusal(str(error))
        secret = secret_of(auth.key_id)
        hello = self._hello
        proof = _Proof(
            _DUMMY_SECRET if secret is None else secret,
            self.hello,
            hello.nonce + auth.nonce,
            auth.encode_untagged(),
            cb_data,
        )
        right = hmac.compare_digest(proof.client_tag, auth.tag)
        reason = None
        if auth.suite != _SUITE_HMAC_SHA256:
            reason = "a suite that was not offered"
        elif auth.cb != hello.cb_mask:
            reason = "a channel binding that was not offered"
        elif hmac.compare_digest(auth.nonce, hello.nonce):
            reason = "the server's own nonce came back"
        elif secret is None:
            reason = "no such key"
        elif not right:
            reason = "wrong tag"
        if reason is not None:
            return FAIL, Refusal(reason, auth.key_id, auth.client_id)
        session_id = self._random(_SESSION_ID)
        ok0 = Ok(b"", session_id).encode_untagged()
        login = Login(
            key_id=auth.key_id,
            client_id=auth.client_id,
            service=hello.service,
            server_id=hello.server_id,
            session_id=session_id,
            ref=self.ref,
            binding=self._binding,
        )
        return ok0 + proof.server_tag(ok0), login


class ClientHandshake:
    """The client's side of one login.

    Give the server's first message to :meth:`receive_hello` and send what it returns; give the
    second to :meth:`receive_reply`.  Nothing of the server's is to be believed before that
    returns, and nothing sent.

    :param key_id: the key to log in with.
    :param secret: its secret for the server expected.
    :param service: the service wanted; a HELLO that names another is refused.
    :param server_id: the server expected, or ``None`` to accept any that holds the secret.
    :param client_id: this client's word for itself, for the server's log.
    :param binding: TLS_EXPORTER exactly when the client itself made the connection TLS.
    :param random: the source of random bytes.
    :ivar ref: the reference of this login, once HELLO has come.
    """

    def __init__(
        self,
        key_id: str,
        secret: bytes,
        service: str,
        server_id: str | None,
        client_id: str,
        binding: Binding,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if len(secret) < MIN_SECRET:
            raise LocalProtocolError(f"a secret has at least {MIN_SECRET} bytes")
        self._key_id = checked_id(key_id, "key id")
        self._client_id = checked_id(client_id, "client id")
        self._secret = secret
        self._service = service
        self._server_id = server_id
        self._binding = binding
        self._random = random
        self._state = _State.FRESH
        self.ref: str | None = None

    def receive_hello(self, message: bytes, cb_data: bytes) -> bytes:
        """Check the server's HELLO.

        :param cb_data: the TLS exporter value, or nothing for a login without binding.
        :return: AUTH, to be sent.
        :raises RemoteProtocolError: the server is not one to log in to; nothing is to be sent.
        """
        if self._state is not _State.FRESH:
            raise LocalProtocolError("HELLO has already come")
        _check_cb_data(self._binding, cb_data)
        self._state = _State.DONE
        self.ref = reference(message)
        hello = Hello.decode(message)
        if _SUITE_HMAC_SHA256 not in hello.suites:
            raise RemoteProtocolError("the server offers no suite that this client knows")
        if not hello.cb_mask & self._binding.value:
            raise RemoteProtocolError(
                "the server does not bind its logins to TLS: it may be a machine in the middle"
                if self._binding is Binding.TLS_EXPORTER
                else "the server wants TLS"
            )
        if hello.service != self._service:
            raise RemoteProtocolError(
                f"the service there is {hello.service!r}, not {self._service!r}"
            )
        if self._server_id is not None and hello.server_id != self._server_id:
            raise RemoteProtocolError(
                f"the server there is {hello.server_id!r}, not {self._server_id!r}"
            )
        auth = Auth(
            _SUITE_HMAC_SHA256,
            self._binding.value,
            self._key_id,
            self._client_id,
            self._random(_NONCE),
        )
        auth0 = auth.encode_untagged()
        self._hello = hello
        self._proof = _Proof(self._secret, message, hello.nonce + auth.nonce, auth0, cb_data)
        self._state = _State.AUTH_SENT
        return auth0 + self._proof.client_tag

    def receive_reply(self, message: bytes) -> Login:
        """Check the server's answer.

        :raises LoginRefused: it is FAIL.
        :raises RemoteProtocolError: it is neither, or does not prove that the server has the
            secret.
        """
        if self._state is not _State.AUTH_SENT:
            raise LocalProtocolError("no AUTH has been sent that this could answer")
        self._state = _State.DONE
        if message == FAIL:
            raise LoginRefused("the server refused the login", "login")
        ok = Ok.decode(message)
        if not hmac.compare_digest(self._proof.server_tag(ok.encode_untagged()), ok.tag):
            raise RemoteProtocolError("the server did not prove that it holds the secret")
        assert self.ref is not None
        return Login(
            key_id=self._key_id,
            client_id=self._client_id,
            service=self._hello.service,
            server_id=self._hello.server_id,
            session_id=ok.session_id,
            ref=self.ref,
            binding=self._binding,
        )


def _check_cb_data(binding: Binding, cb_data: bytes) -> None:
    """Nothing logs in with a binding that binds to nothing."""
    expected = _EXPORTER_LENGTH if binding is Binding.TLS_EXPORTER else 0
    if len(cb_data) != expected:
        raise LocalProtocolError(
            f"{len(cb_data)} bytes of channel binding: {binding.name} has {expected}"
        )


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
