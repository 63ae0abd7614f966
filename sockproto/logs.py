"""sockproto's own log events: filtered by level and safe to read, they go where Twisted's go.

What a peer sent may stand in a field of an event, never in its format; here every field loses what
could move a terminal's cursor or begin another line.  All loggers of sockproto are made by
:class:`Logger`, so an observer of Twisted's, ``twistd``'s log among them, sees only such events.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    globalLogPublisher,
)
from twisted.logger import Logger as TwistedLogger
from zope.interface import implementer

__all__ = ["EVENTS", "Logger", "OwnEvents", "Whole", "cleaned", "formatAsJSON", "jsonFileObserver"]

#: Characters of a field; what is longer is cut.
LONGEST_FIELD = 256


class Whole(str):
    """Text of the server's own, such as a path from its configuration, that is not to be cut."""

    __slots__ = ()


def cleaned(value: object) -> object:
    """A field's value as it may be logged.

    :return: a number, a truth value or ``None`` as it is; anything else as text without unprintable
        characters, of at most 256 characters and a sign that some were cut.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    cut = not isinstance(value, Whole) and len(text) > LONGEST_FIELD
    if cut:
        text = text[:LONGEST_FIELD]
    if not text.isprintable():
        text = "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode("ascii")
            for one in text
        )
        cut = cut or (not isinstance(value, Whole) and len(text) > LONGEST_FIELD)
    return f"{text[:LONGEST_FIELD]}..." if cut else text


@implementer(ILogObserver)
class OwnEvents:
    """What every logger of sockproto tells its events.

    :param observer: who is told the rest, its fields cleaned.
    :ivar level: what is less important is dropped; all passes unless a program says otherwise.
    """

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer
        self.level = LogLevel.debug

    def __call__(self, event: LogEvent) -> None:
        """Pass an event on, or drop it."""
        if event["log_level"] < self.level:
            return
        for name, value in event.items():
            if not name.startswith("log_"):
                event[name] = cleaned(value)
        self._observer(event)


#: Of this process: the level is a setting of the program, not of one server in it.
EVENTS = OwnEvents(globalLogPublisher)


class Logger(TwistedLogger):
    """A logger of sockproto's, to be made as a class attribute."""

    def __init__(
        self,
        namespace: str | None = None,
        source: object = None,
        observer: ILogObserver | None = None,
    ) -> None:
        super().__init__(namespace or "sockproto", source, observer or EVENTS)


def formatAsJSON(event: LogEvent) -> str | None:
    """An event as one line of JSON, in ASCII::

        {"time": "2026-11-21T07:08:09.123456+00:00", "level": "info", "logger": "sockproto....",
         "message": "...", "fields": {...}, "traceback": "..."}

    ``fields`` is there for sockproto's own events, ``traceback`` for those with an exception.

    :return: ``None`` for an event that says nothing.
    """
    message = formatEvent(event)
    failure = event.get("log_failure")
    if not message and failure is None:
        return None
    namespace = event.get("log_namespace", "-")
    level = event.get("log_level")
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(event.get("log_time", 0), UTC).isoformat(),
        "level": "info" if level is None else level.name,
        "logger": namespace,
        "message": message,
    }
    if namespace.split(".")[0] == "sockproto":
        line["fields"] = {
            name: cleaned(value) for name, value in event.items() if not name.startswith("log_")
        }
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line) + "\n"


def jsonFileObserver(file: TextIO) -> FileLogObserver:
    """An observer that writes each event to a file by :func:`formatAsJSON`."""
    return FileLogObserver(file, formatAsJSON)
