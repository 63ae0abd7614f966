"""What a listener of a simple service may be told beyond what every listener is told."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import Attribute, field, frozen

__all__ = ["ClockSettings", "NTPSettings"]


def _a_zone(_instance: Any, _attribute: Attribute[Any], value: str | None) -> None:
    if value is not None:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"there is no time zone {value[:64]!a}: expected a name such as Europe/Zurich"
            ) from None


def _a_stratum(_instance: Any, _attribute: Attribute[Any], value: int | None) -> None:
    if value is not None and not 1 <= value <= 15:
        raise ValueError(f"expected a stratum from 1 to 15, found {value}")


@frozen(kw_only=True)
class ClockSettings:
    """The settings of ``strftime``, ``framed-time`` and ``daytime``.

    :ivar timezone: the zone whose time is told; ``None``: the machine's own.
    """

    timezone: str | None = field(default=None, validator=_a_zone)

    @property
    def zone(self) -> ZoneInfo | None:
        """The zone itself."""
        return None if self.timezone is None else ZoneInfo(self.timezone)


@frozen(kw_only=True)
class NTPSettings:
    """The settings of ``ntp``.

    :ivar local_stratum: what to claim while nothing keeps the machine's clock right; ``None``: that
        it is not synchronised.
    """

    local_stratum: int | None = field(default=None, validator=_a_stratum)
