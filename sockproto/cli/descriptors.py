"""The standard streams as descriptors: what is carried byte by byte goes past Python's files."""

from __future__ import annotations

import os

__all__ = ["STDERR", "STDIN", "STDOUT", "claim_standard_streams"]

STDIN, STDOUT, STDERR = 0, 1, 2


def claim_standard_streams() -> None:
    """See that 0, 1 and 2 are taken: else the connection would be one of them, and output go there.

    Where the caller has closed one, nothing comes from there and what goes there is lost.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(descriptor)
