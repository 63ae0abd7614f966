"""The client for Twisted programs."""

from sockproto.client.command import Command
from sockproto.client.connecting import connect
from sockproto.client.session import Session

__all__ = ["Command", "Session", "connect"]
