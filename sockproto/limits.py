"""Every limit of a server, in one frozen class; each default stands beside its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any

from attrs import Attribute, field, frozen

__all__ = ["MAX_DATA", "Bytes", "Limits", "Network", "Seconds", "Unit"]


class Unit(Enum):
    """What a figure is measured in; a configuration may then say ``"5 min"``, ``"1 MiB"``."""

    DURATION = "duration"
    SIZE = "size"


Seconds = Annotated[float, Unit.DURATION]
Bytes = Annotated[int, Unit.SIZE]
Network = IPv4Network | IPv6Network

#: The most payload that a DATA frame carries (docs/protocol.rst).
MAX_DATA = 65_536
#: Around it: the type, the channel and the stream.
_DATA_HEADER = 6

_Validator = Callable[[Any, "Attribute[Any]", Any], None]


def _between(low: float, high: float | None = None) -> _Validator:
    """A validator: ``low`` or more, and at most ``high`` if that is given."""

    def check(_instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if value is None:
            return
        if not value >= low or (high is not None and value > high):
            span = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ValueError(f"{attribute.name} has to be {span}, not {value}")

    return check


def _above_zero(_instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """A validator: more than nothing."""
    if not value > 0:
        raise ValueError(f"{attribute.name} has to be more than 0, not {value}")


def _networks(given: Iterable[Network | str]) -> tuple[Network, ...]:
    """Take networks as objects or as text, so that an embedder can write ``["10.0.0.0/8"]``."""
    return tuple(ip_network(one) if isinstance(one, str) else one for one in given)


@frozen(kw_only=True)
class Limits:
    """What a server spends at most, on whom, and for how long.

    Seconds may be fractions. Every field is a key of ``[limits]`` in the configuration.
    """

    # --- The connection -------------------------------------------------------------------

    #: The largest frame after the login. 128 KiB is what Linux takes as a single argument of a
    #: program, so any argv with one long word fits, and twice the largest DATA frame. The floor is
    #: one whole DATA frame; the ceiling keeps a single peer from owning memory.
    frame: Bytes = field(
        default=128 * 1024, validator=_between(MAX_DATA + _DATA_HEADER, 16 * 1024 * 1024)
    )
    #: From the accept to the end of the login, TLS included. Two round trips and some arithmetic
    #: take far less over a satellite; the design has 10 s.
    login_seconds: Seconds = field(default=10.0, validator=_above_zero)
    #: A connection from which nothing came for this long is closed. The agent's side pings when
    #: half of it is over, so that only peers that are gone run into it; 2 min is under the idle
    #: time of common NAT tables (5 min and more), so pings also keep those open.
    idle_seconds: Seconds = field(default=120.0, validator=_above_zero)
    #: How long a close may take with a peer that does not read before the connection is aborted.
    close_seconds: Seconds = field(default=5.0, validator=_above_zero)
    #: All connections of the server. More than any fleet of pollers opens at once; the cap that
    #: holds is the smaller of this and what the descriptors allow (:meth:`connections_within`).
    connections: int = field(default=4096, validator=_between(1))
    #: Connections of one remote source, logged in or not: one address may have a monitoring host
    #: with many jobs behind it, but not a quarter of the whole server. Local sources are not
    #: counted by it.
    per_source: int = field(default=256, validator=_between(1))

    # --- Commands -------------------------------------------------------------------------

    #: Commands at once in the whole server; one more is refused as ``busy``. 256 leave room for 200
    #: over one connection, at three pipes each under the usual 1,024 descriptors.
    commands: int = field(default=256, validator=_between(1))
    #: Channels at once on one connection: as many as commands, so that one client can use them all.
    channels: int = field(default=256, validator=_between(1, 65_536))
    #: Bytes of output of a command, stdout and stderr together; ``None``: no limit, since credit
    #: already bounds the memory. A rule's ``max_output`` goes before it.
    output: Bytes | None = field(default=None, validator=_between(1))
    #: Bytes of output that are kept for whoever asks for the same, where a rule with ``fresh`` has
    #: no ``max_output``: far more than a check prints. A longer output is the first client's alone.
    fresh_output: Bytes = field(default=1024 * 1024, validator=_between(1))
    #: The same for all rules together; beyond it the oldest results are forgotten.
    fresh_total: Bytes = field(default=64 * 1024 * 1024, validator=_between(0))
    #: After a command's own end, how long its pipes may stay open and silent in the hands of what
    #: it left behind. Longer than a slow last writer needs, short enough that nobody thinks it
    #: hangs.
    drain_seconds: Seconds = field(default=5.0, validator=_between(0))
    #: Between TERM and KILL when a command's tree is ended: time to remove a lock file, not to
    #: argue.
    kill_seconds: Seconds = field(default=1.0, validator=_between(0))
    #: What running commands get when the server is told to stop. With ``kill_seconds`` after it
    #: that is inside the 10 s after which container engines kill, and far inside systemd's 90 s.
    shutdown_seconds: Seconds = field(default=5.0, validator=_between(0))

    # --- Before the login (see sockproto.admission) ------------------------------------------

    #: Unauthenticated connections of remote strangers: from ``start`` on newcomers are dropped
    #: with a chance of ``rate`` percent, which grows to certainty at ``full``. sshd's MaxStartups
    #: 10:30:100.
    unauthenticated_start: int = field(default=10, validator=_between(1))
    unauthenticated_rate: int = field(default=30, validator=_between(0, 100))
    unauthenticated_full: int = field(default=100, validator=_between(1))
    #: Of these, how many one source (an IPv4 address, an IPv6 /64) may hold: less than ``start``,
    #: so that a single source can never cause another's drop.
    unauthenticated_per_source: int = field(default=8, validator=_between(1))
    #: What loopback and Unix sockets share: they are users of this machine, who have better ways to
    #: harm it; 1,024 is the usual number of descriptors.
    unauthenticated_local: int = field(default=1024, validator=_between(1))
    #: Failed logins that a source has free before it is made to wait: a typo, a stale key file.
    free_failures: int = field(default=3, validator=_between(0))
    #: The first wait. It doubles with each further failure up to ``penalty_max_seconds``; sshd has
    #: the same two, 15 s and 10 min. A source has some 400 guesses a day, of 256 bits.
    penalty_seconds: Seconds = field(default=15.0, validator=_between(0))
    penalty_max_seconds: Seconds = field(default=600.0, validator=_between(0))
    #: The time, after a wait, in which half of a source's failures is forgotten.
    penalty_half_life_seconds: Seconds = field(default=600.0, validator=_above_zero)
    #: A source that logged in is known for this long: a poller that comes hourly stays known.
    known_seconds: Seconds = field(default=3600.0, validator=_between(0))
    #: Known and trusted sources get this many times the allowance of strangers.
    known_factor: int = field(default=16, validator=_between(1))
    #: Sources remembered, of each kind; beyond it the oldest is forgotten. At some 300 bytes each,
    #: 5 MB.
    sources: int = field(default=16_384, validator=_between(1))
    #: Networks that are treated like known sources without ever having logged in.
    trusted_sources: tuple[Network, ...] = field(default=(), converter=_networks)

    # --- Datagrams ------------------------------------------------------------------------

    #: Answers that a source may have at once, and then each second. No client of a time or echo
    #: service needs more, and a loop between two servers dies at the burst.
    datagram_burst: int = field(default=20, validator=_between(1))
    datagram_rate: float = field(default=1.0, validator=_above_zero)
    #: Answers a second to all sources together, of which a second's worth may come at once: a few
    #: per cent of a processor, and no more traffic to forged addresses than a small office has by
    #: itself.
    datagram_total: float = field(default=10_000.0, validator=_above_zero)

    def __attrs_post_init__(self) -> None:
        """:raises ValueError: if two limits contradict each other."""
        if self.unauthenticated_full < self.unauthenticated_start:
            raise ValueError(
                "unauthenticated_full has to be at least unauthenticated_start, "
                f"not {self.unauthenticated_full} under {self.unauthenticated_start}"
            )
        if self.penalty_max_seconds < self.penalty_seconds:
            raise ValueError(
                "penalty_max_seconds has to be at least penalty_seconds, "
                f"not {self.penalty_max_seconds} under {self.penalty_seconds}"
            )

    def connections_within(self, descriptors: int) -> int:
        """The cap on connections for a process that may have so many descriptors open.

        Three pipes a command and 64 for listeners, logs and libraries stay free, so that a flood of
        connections cannot keep commands from starting or a log from being opened.

        :param descriptors: the soft ``RLIMIT_NOFILE``.
        """
        reserve = min(3 * self.commands + 64, descriptors // 2)
        return max(1, min(self.connections, descriptors - reserve))
