"""NTP's packet (RFC 5905, section 7.3), as server and client write and read it."""

from __future__ import annotations

from struct import Struct

__all__ = [
    "LEAP_UNSYNCHRONISED",
    "LENGTH",
    "MAX_STRATUM",
    "MODE_CLIENT",
    "MODE_SERVER",
    "PACKET",
    "VERSIONS",
]

#: The fields: leap, version and mode; stratum; poll; precision; root delay and root dispersion, in
#: seconds of 16 bits and 16 of fraction; reference id; and the timestamps of reference, origin,
#: receipt and transmission.
PACKET = Struct(">BBbbII4sQQQQ")
#: The length of a packet without extensions.
LENGTH = PACKET.size
#: The versions that have this packet.
VERSIONS = range(1, 5)

MODE_CLIENT, MODE_SERVER = 3, 4

#: The leap indicator of a clock that is not synchronised.
LEAP_UNSYNCHRONISED = 3
#: The highest stratum of a clock that is; 0 is "unspecified", and a kiss of death.
MAX_STRATUM = 15
