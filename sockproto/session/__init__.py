"""The agent connection behind the login, on the server."""

from sockproto.session.factory import AgentFactory

__all__ = ["AgentFactory"]
