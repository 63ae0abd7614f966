"""TLS as the agent uses it: contexts without certificates to manage, and the channel binding.

Trust comes from the login (:mod:`sockproto.wire.handshake`), whose tags cover the exporter value of
the very TLS session that it goes through; so neither side looks at the other's certificate.  This
is the only module that imports pyOpenSSL, since the standard library's ``ssl`` has no exporter; it
is imported only where a connection is TLS.
"""

from __future__ import annotations

import datetime
import os
import socket
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from sockproto.errors import ConfigurationError

__all__ = [
    "automatic_context",
    "channel_binding",
    "client_context",
    "context_from_file",
    "more_waits",
]

_EXPORTER_LABEL = b"EXPORTER-Channel-Binding"
_EXPORTER_LENGTH = 32
_TLS_1_3 = "TLSv1.3"


def automatic_context() -> SSL.Context:
    """A server's context with a self-signed certificate made now, which exists in memory alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sockproto")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, SHA256())
    )
    context = _server_context()
    context.use_privatekey(key)
    context.use_certificate(certificate)
    return context


def context_from_file(path: str | os.PathLike[str]) -> SSL.Context:
    """A server's context from a PEM file that holds a private key and a certificate chain.

    :raises ConfigurationError: the file cannot be used.
    """
    context = _server_context()
    name = os.fspath(path)
    try:
        # Not by OpenSSL's own reader: of an encrypted key that would ask at the terminal.
        with open(name, "rb") as file:
            context.use_privatekey(_private_key(file.read()))
        context.use_certificate_chain_file(name)
        context.check_privatekey()
    except (OSError, ValueError, SSL.Error) as error:
        raise ConfigurationError(
            f"{name}: expected a PEM file with a private key and its certificate: {_reason(error)}"
        ) from None
    return context


def client_context() -> SSL.Context:
    """A client's context, which accepts any certificate: the login is what proves the server."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_NONE)
    return context


def channel_binding(connection: SSL.Connection) -> bytes | None:
    """The ``tls-exporter`` value of a connection (RFC 9266), 32 bytes.

    :return: ``None`` below TLS 1.3, where the value is not safe to rely on without conditions that
        cannot be checked from here (RFC 9266, section 3).
    :raises SSL.Error: the TLS handshake is not over: ask once the peer's first bytes have come.
    """
    if connection.get_protocol_version_name() != _TLS_1_3:
        return None
    return bytes(connection.export_keying_material(_EXPORTER_LABEL, _EXPORTER_LENGTH, b""))


def more_waits(connection: SSL.Connection) -> bool:
    """Whether the peer has sent more than was read, in the record at hand or one behind it."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except (SSL.WantReadError, SSL.ZeroReturnError):
        return False
    except SSL.Error:
        pass  # whatever it is, it is not nothing
    return True


def _server_context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def _private_key(content: bytes) -> Any:
    """The private key in a PEM file."""
    try:
        return load_pem_private_key(content, None)
    except TypeError:
        raise ValueError("the key has a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no private key that can be used") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, SSL.Error):
        # OpenSSL's errors are tuples of library, function and reason.
        return "; ".join(entry[-1] for entry in error.args[0] if entry[-1]) or "no certificate"
    return str(error)
