"""The login in front of any Twisted factory or endpoint."""

from .client import AuthenticatingEndpoint
from .principal import Principal
from .server import AuthenticatingFactory

__all__ = ["AuthenticatingEndpoint", "AuthenticatingFactory", "Principal"]
