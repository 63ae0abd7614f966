"""The name by which a server knows itself."""

from __future__ import annotations

import re
import socket

__all__ = ["default_server_id"]


def default_server_id() -> str:
    """The host's name, as far as ids can spell it; ``localhost`` where it has none."""
    name = re.sub(r"[^A-Za-z0-9._@-]", "-", socket.gethostname())[:64]
    return name or "localhost"
