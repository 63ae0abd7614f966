"""Values of options as click checks them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from sockproto.key import is_id

__all__ = ["IdType", "MomentType"]

_DAYS = re.compile(r"([1-9][0-9]{0,4})d")


class IdType(click.ParamType[str]):
    """What can be a key's id, an identity, a group or a server's id."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it."""
        if not is_id(value):
            self.fail("expected 1 to 64 of the characters A-Z a-z 0-9 . _ @ -", param, ctx)
        return str(value)


class MomentType(click.ParamType[datetime]):
    """A point in time: a date (UTC), a date and time with an offset, or days from now.

    :param end: whether a date means its last second, rather than its first.
    """

    name = "time"

    def __init__(self, end: bool) -> None:
        self._end = end

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read it."""
        if isinstance(value, datetime):
            return value
        days = _DAYS.fullmatch(value)
        if days is not None:
            return datetime.now(UTC).replace(microsecond=0) + timedelta(days=int(days[1]))
        try:
            moment = datetime.fromisoformat(value)
            if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
                last = {"hour": 23, "minute": 59, "second": 59} if self._end else {}
                return moment.replace(tzinfo=UTC, **last)
        except ValueError:
            moment = None
        if moment is None or moment.utcoffset() is None:
            self.fail(
                "expected a date such as 2026-12-31 (UTC), a time with its offset such as "
                "2026-12-31T12:00:00Z, or days from now such as 90d",
                param,
                ctx,
            )
        return moment
