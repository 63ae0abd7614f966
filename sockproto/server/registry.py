"""The services that a listener can have: the one table that a new service is added to."""

from __future__ import annotations

from types import MappingProxyType

from attrs import frozen

from sockproto.services.settings import ClockSettings, NTPSettings
from sockproto.services.tutorial.settings import DIALECTS

__all__ = ["SERVICES", "Service"]


@frozen(kw_only=True)
class Service:
    """What the configuration has to know of a service.

    :ivar name: as in ``service = "agent"`` and ``--listen agent=...``.
    :ivar stream: whether it can be served over streams.
    :ivar datagram: whether it can be served over UDP.
    :ivar authenticates: whether it always logs in, whatever ``auth`` says.
    :ivar defaults: its endpoints where neither a configuration nor ``--listen`` names any.
    :ivar settings: an attrs class whose fields are keys of the service's own in ``[[listen]]``;
        the listener then has them as ``own``. ``None``: it has none.
    """

    name: str
    stream: bool = True
    datagram: bool = False
    authenticates: bool = False
    defaults: tuple[str, ...] = ()
    settings: type | None = None


SERVICES = MappingProxyType(
    {
        service.name: service
        for service in (
            Service(
                name="agent",
                authenticates=True,
                defaults=("tcp:7100:interface=127.0.0.1",),
            ),
            Service(
                name="echo",
                datagram=True,
                defaults=("tcp:7007:interface=127.0.0.1", "udp:7007:interface=127.0.0.1"),
            ),
            Service(name="upper", datagram=True),
            Service(name="framed-echo"),
            Service(
                name="strftime",
                stream=False,
                datagram=True,
                defaults=("udp:7113:interface=127.0.0.1",),
                settings=ClockSettings,
            ),
            Service(name="framed-time", settings=ClockSettings),
            Service(
                name="daytime",
                datagram=True,
                defaults=("tcp:7013:interface=127.0.0.1", "udp:7013:interface=127.0.0.1"),
                settings=ClockSettings,
            ),
            Service(
                name="time",
                datagram=True,
                defaults=("tcp:7037:interface=127.0.0.1", "udp:7037:interface=127.0.0.1"),
            ),
            Service(
                name="ntp",
                stream=False,
                datagram=True,
                defaults=("udp:7123:interface=127.0.0.1",),
                settings=NTPSettings,
            ),
            *(Service(name=name) for name in DIALECTS),
        )
    }
)
