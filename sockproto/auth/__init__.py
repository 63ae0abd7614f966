"""The login in front of any Twisted factory or endpoint."""

from sockproto.auth.client import AuthenticatingEndpoint
from sockproto.auth.principal import Principal
from sockproto.auth.server import AuthenticatingFactory

__all__ = ["AuthenticatingEndpoint", "AuthenticatingFactory", "Principal"]
