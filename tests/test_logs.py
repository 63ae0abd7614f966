"""Tests for :mod:`sockproto.logs`: what may stand in a log, and in which form."""

from __future__ import annotations

import io
import json

from twisted.logger import ILogObserver, LogEvent, LogLevel, capturedLogs, formatEvent
from twisted.logger import Logger as TwistedLogger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sockproto import logs
from sockproto.logs import Logger, OwnEvents, Whole, cleaned, formatAsJSON, jsonFileObserver


class Speaker:
    """Something that logs."""

    _log = Logger()

    def say(self, **fields: object) -> None:
        """One event."""
        self._log.info("it said {what}", **fields)


class CleanedTests(SynchronousTestCase):
    """What becomes of a field."""

    def test_unprintable(self) -> None:
        """Nothing is left that moves a cursor, begins a line or turns the direction of text."""
        for nasty, shown in (
            ("a\r\nb", r"a\r\nb"),
            ("\x1b[2J", r"\x1b[2J"),
            ("\x9b1m", r"\x9b1m"),
            ("\u2028\u202e", r"\u2028\u202e"),
            ("\ud800", r"\ud800"),
            (b"\xff\n", r"\xff\n"),
            ("{0}ü", "{0}ü"),
        ):
            self.assertEqual(cleaned(nasty), shown)

    def test_cut(self) -> None:
        """At most 256 characters of a field are logged, escapes included."""
        self.assertEqual(cleaned("x" * 256), "x" * 256)
        self.assertEqual(cleaned("x" * 257), "x" * 256 + "...")
        self.assertEqual(cleaned("\n" * 200), r"\n" * 128 + "...")

    def test_whole(self) -> None:
        """Text of the server's own is escaped as well, but not cut."""
        self.assertEqual(cleaned(Whole("\n" + "x" * 300)), r"\n" + "x" * 300)

    def test_others(self) -> None:
        """Numbers stay numbers; any other object is logged as its text."""
        for value in (None, True, 3, 2.5):
            self.assertIs(cleaned(value), value)
        self.assertEqual(cleaned(["\n"]), r"['\n']")
        self.assertEqual(cleaned(ValueError("a\nb")), r"a\nb")


class EventTests(SynchronousTestCase):
    """What the loggers of sockproto tell."""

    def test_fields(self) -> None:
        """The fields of an event are cleaned before any observer sees it."""
        with capturedLogs() as captured:
            Speaker().say(what="a\n{what}")
        (event,) = captured
        self.assertEqual(formatEvent(event), r"it said a\n{what}")
        self.assertEqual(event["log_namespace"], f"{__name__}.Speaker")

    def test_level(self) -> None:
        """What is below the level goes nowhere; other people's events are not ours to drop."""
        seen: list[LogEvent] = []

        @implementer(ILogObserver)
        def observer(event: LogEvent) -> None:
            seen.append(event)

        events = OwnEvents(observer)
        log = Logger("sockproto.x", observer=events)
        log.debug("a")
        events.level = LogLevel.warn
        log.info("b")
        log.warn("c")
        self.assertEqual([event["log_format"] for event in seen], ["a", "c"])
        self.patch(logs.EVENTS, "level", LogLevel.critical)
        with capturedLogs() as captured:
            Speaker().say(what=1)
            TwistedLogger("other").info("theirs")
        self.assertEqual([event["log_namespace"] for event in captured], ["other"])

    def test_failure(self) -> None:
        """An exception is logged with its traceback."""
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            Speaker._log.failure("oh")
        (failure,) = self.flushLoggedErrors(ZeroDivisionError)
        self.assertIsInstance(failure, Failure)


class JSONTests(SynchronousTestCase):
    """One line of JSON for each event."""

    def test_event(self) -> None:
        """An event's time, level, origin, text and fields."""
        line = formatAsJSON(
            {
                "log_time": 1_000_000_000.25,
                "log_level": LogLevel.warn,
                "log_namespace": "sockproto.x.Y",
                "log_format": "{count} of {who}",
                "count": 3,
                "who": "a\nü",
            }
        )
        assert line is not None
        self.assertTrue(line.isascii() and line.endswith("}\n") and line.count("\n") == 1)
        self.assertEqual(
            json.loads(line),
            {
                "time": "2001-09-09T01:46:40.250000+00:00",
                "level": "warn",
                "logger": "sockproto.x.Y",
                "message": "3 of a\nü",
                "fields": {"count": 3, "who": r"a\nü"},
            },
        )

    def test_others(self) -> None:
        """Twisted's own events have their text alone, and an exception its traceback."""
        line = formatAsJSON({"log_namespace": "twisted", "log_format": "x", "thing": object()})
        assert line is not None
        self.assertNotIn("fields", json.loads(line))
        failure = Failure(ZeroDivisionError("a\nb"))
        line = formatAsJSON({"log_format": "", "log_failure": failure})
        assert line is not None
        self.assertIn("ZeroDivisionError", json.loads(line)["traceback"])
        self.assertEqual(line.count("\n"), 1)

    def test_nothing(self) -> None:
        """An event that says nothing is no line."""
        file = io.StringIO()
        observer = jsonFileObserver(file)
        observer({"log_format": ""})
        observer({"log_format": "x"})
        self.assertEqual(json.loads(file.getvalue())["message"], "x")
