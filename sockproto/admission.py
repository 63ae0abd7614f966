"""Who may begin a login: limits on connections that have not logged in yet, without any I/O.

Remote strangers share a few slots, are dropped early and at random when these fill up (sshd's
MaxStartups), and wait longer after each failed login. Sources that logged in lately, or are
trusted, have slots of their own that no flood of strangers can take, more of them, and never wait.
Local sources share a plain allowance. Nothing here looks at keys: guessing at one never locks its
owner out.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from attrs import define, field, frozen

from sockproto.limits import Limits

__all__ = ["Admission", "Kind", "Source", "Ticket"]

#: An IPv6 customer has a /64 at least, and can use any address in it.
_INTERFACE_BITS = 64


@frozen
class Source:
    """Where a connection comes from, as far as limits tell sources apart.

    :ivar name: the IPv4 address, or the IPv6 /64, or ``local``.
    :ivar address: the address itself; ``None`` for what has none.
    """

    name: str
    address: IPv4Address | IPv6Address | None = field(default=None, eq=False)

    @classmethod
    def of(cls, host: str | None) -> Source:
        """The source of a peer.

        :param host: the peer's IP address; ``None`` for a Unix socket. Text that is no address (a
            transport of somebody's own) is a remote source by that name.
        """
        if host is None:
            return LOCAL
        try:
            address = ip_address(host)
        except ValueError:
            return cls(host[:256])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_loopback:
            return LOCAL
        if isinstance(address, IPv6Address):
            # From the number, which drops a link's scope ("%eth0") as well.
            prefix = IPv6Address(int(address) >> _INTERFACE_BITS << _INTERFACE_BITS)
            return cls(f"{prefix}/{_INTERFACE_BITS}", address)
        return cls(str(address), address)

    @property
    def is_local(self) -> bool:
        """Whether this is a user of this machine: loopback or a Unix socket."""
        return self is LOCAL


#: The one source that every local peer is.
LOCAL = Source("local")


class Kind(Enum):
    """How a source is treated; the connections of each kind are counted apart."""

    LOCAL = "local"
    KNOWN = "known"
    STRANGER = "stranger"


@define
class _Record:
    """The failures of one source.

    :ivar score: the failures; once the wait is over, half of it is forgotten every half-life.
    :ivar until: no admission before this.
    """

    score: float
    until: float


@define
class _Pool:
    """The connections of one kind that are not logged in."""

    total: int = 0
    by_source: Counter[str] = field(factory=Counter)


class Ticket:
    """One connection's place among those that have not logged in.

    Every ticket has to end: :meth:`ended` when the connection is gone, whatever happened before.
    """

    __slots__ = ("_admission", "_held", "_judged", "kind", "source")

    def __init__(self, admission: Admission, source: Source, kind: Kind) -> None:
        self.source = source
        self.kind = kind
        self._admission = admission
        self._held = True
        self._judged = False

    def succeeded(self) -> None:
        """The peer has logged in: its place is free again, and its source is known from now on."""
        if not self._judged:
            self._judged = True
            self._admission._remember(self.source)
        self.ended()

    def failed(self) -> None:
        """The peer's login was refused, or its time ran out. Its place is free once it is gone."""
        if not self._judged:
            self._judged = True
            self._admission._punish(self.source)

    def ended(self) -> None:
        """The connection is gone; may be called again."""
        if self._held:
            self._held = False
            self._admission._release(self)


class Admission:
    """Decides for each new connection whether it may begin a login.

    :param limits: the figures.
    :param clock: seconds from some start, never going back (``reactor.seconds``).
    :param random: a number from 0 up to, not including, 1 (``random.random``).
    :ivar refusal: why the latest :meth:`admit` gave ``None``, for the log.
    """

    def __init__(
        self, limits: Limits, clock: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self.refusal = ""
        self._limits = limits
        self._clock = clock
        self._random = random
        self._pools = {kind: _Pool() for kind in Kind}
        # Both in the order of the latest event, so that the oldest is the first to be forgotten.
        self._failures: OrderedDict[str, _Record] = OrderedDict()
        self._known: OrderedDict[str, float] = OrderedDict()

    def admit(self, host: str | None) -> Ticket | None:
        """Take a place for a new connection.

        :param host: the peer's IP address, ``None`` for a Unix socket.
        :return: its ticket, or ``None``: close it at once, without a word; :attr:`refusal` says
            why.
        """
        source = Source.of(host)
        kind = self.kind_of(source)
        self.refusal = self._objection(source, kind)
        if self.refusal:
            return None
        pool = self._pools[kind]
        pool.total += 1
        pool.by_source[source.name] += 1
        return Ticket(self, source, kind)

    def reconfigure(self, limits: Limits) -> None:
        """Take other figures from now on; tickets, failures and known sources stay."""
        self._limits = limits

    def kind_of(self, source: Source) -> Kind:
        """How this source is treated now."""
        if source.is_local:
            return Kind.LOCAL
        address = source.address
        if address is not None and any(address in net for net in self._limits.trusted_sources):
            return Kind.KNOWN
        seen = self._known.get(source.name)
        if seen is not None and self._clock() - seen < self._limits.known_seconds:
            return Kind.KNOWN
        return Kind.STRANGER

    def unauthenticated(self, kind: Kind) -> int:
        """How many connections of this kind have not logged in."""
        return self._pools[kind].total

    def waits(self, source: Source) -> float:
        """The seconds until this source's penalty is over; 0 if it has none."""
        record = self._failures.get(source.name)
        if record is None or self.kind_of(source) is not Kind.STRANGER:
            return 0.0
        return max(0.0, record.until - self._clock())

    def _objection(self, source: Source, kind: Kind) -> str:
        """Why this connection is refused; empty if it is not."""
        limits, pool = self._limits, self._pools[kind]
        if kind is Kind.LOCAL:
            if pool.total < limits.unauthenticated_local:
                return ""
            return f"{pool.total} local connections have not logged in"
        factor = limits.known_factor if kind is Kind.KNOWN else 1
        if (wait := self.waits(source)) > 0:
            return f"{source.name} failed to log in and has to wait {wait:.0f} s more"
        if (mine := pool.by_source[source.name]) >= limits.unauthenticated_per_source * factor:
            return f"{mine} connections of {source.name} have not logged in"
        if self._random() * 100 < self._drop_percent(pool.total, factor):
            return f"{pool.total} connections ({kind.value}) have not logged in"
        return ""

    def _drop_percent(self, total: int, factor: int) -> float:
        """The chance of a random drop: none below ``start``, ``rate`` there, 100 at ``full``."""
        start = self._limits.unauthenticated_start * factor
        full = self._limits.unauthenticated_full * factor
        rate = self._limits.unauthenticated_rate
        if total >= full:
            return 100
        if total < start:
            return 0
        return rate + (100 - rate) * (total - start) / (full - start)

    def _remember(self, source: Source) -> None:
        """Note a login; what this source got wrong before is forgiven."""
        if source.is_local:
            return
        self._failures.pop(source.name, None)
        self._known[source.name] = self._clock()
        self._known.move_to_end(source.name)
        while len(self._known) > self._limits.sources:
            self._known.popitem(last=False)

    def _punish(self, source: Source) -> None:
        """Note a failure; each one beyond the free ones doubles how long the source waits."""
        if self.kind_of(source) is not Kind.STRANGER:
            return
        limits, now = self._limits, self._clock()
        record = self._failures.get(source.name)
        if record is None:
            record = self._failures[source.name] = _Record(0.0, now)
        # Not while it waits: else a guesser who never rests would pay less than one who does.
        rested = max(0.0, now - record.until)
        record.score = 1 + record.score * 0.5 ** (rested / limits.penalty_half_life_seconds)
        beyond = record.score - limits.free_failures
        wait = 0.0
        if beyond > 0:
            # The exponent is bounded, since a float is not: 2.0 ** 1024 is an error.
            wait = min(
                limits.penalty_seconds * 2 ** min(beyond - 1, 64), limits.penalty_max_seconds
            )
        record.until = max(record.until, now + wait)
        self._failures.move_to_end(source.name)
        while len(self._failures) > limits.sources:
            self._failures.popitem(last=False)

    def _release(self, ticket: Ticket) -> None:
        """Give a ticket's place back to the pool it was taken from."""
        pool = self._pools[ticket.kind]
        pool.total -= 1
        pool.by_source[ticket.source.name] -= 1
        if not pool.by_source[ticket.source.name]:
            del pool.by_source[ticket.source.name]
