"""``python -m sockproto``: the client program."""

from __future__ import annotations

from sockproto.cli.main import main

if __name__ == "__main__":
    main()
