"""The agent connection behind the login, on the server."""

from .protocol import AgentFactory

__all__ = ["AgentFactory"]
