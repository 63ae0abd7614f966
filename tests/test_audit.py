"""Tests of the audit of commands: its entries, what it may show, and where it is written."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from attrs import evolve
from click.testing import CliRunner
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.cli.main import program
from sockproto.errors import ConfigurationError
from sockproto.limits import Limits
from sockproto.server.audit import ServerAudit
from sockproto.server.config import read_configuration
from sockproto.server.schema import AuditSettings, Configuration, Source
from sockproto.services.command import audit_socket
from sockproto.services.command.audit import AuditEntry, Audits, IAudit, MemoryAudit, NoAudit
from sockproto.services.command.audit_file import FileAudit
from sockproto.services.command.audit_socket import FACILITIES, JournalAudit, SyslogAudit
from sockproto.services.command.audit_words import asked_words, run_words
from sockproto.services.command.auditing import CommandAudit, Why
from sockproto.services.command.parameters import Parameter
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules
from sockproto.services.command.service import CommandService
from tests.commandfakes import PRINCIPAL, FakeChannel, FakeHost, PollingReactor, openDescriptors

MOMENT = datetime(2026, 11, 21, 8, 8, 9, 123456, timezone(timedelta(hours=1)))
FIELDS = {"identity": "ops", "session": "00", "rule": "disk"}
ENTRY = AuditEntry("start", MOMENT, FIELDS, (b"df", b"-h"))

DISK = CommandRule(name="disk", argv=("df", "-h"), allow=("ops",))
LOGIN = CommandRule(
    name="login",
    argv=("login", "--user={user}", "--password={password}", "{more}"),
    allow=("ops",),
    parameters={
        "user": Parameter(pattern=".*"),
        "password": Parameter(pattern=".*", secret=True),
        "more": Parameter(pattern=".*", rest=True),
    },
)


def shown(rule: CommandRule, *words: str) -> list[str]:
    """What the audit shows of a command that runs."""
    name = () if rule.takes_any else (rule.label,)
    decision = CommandRules((rule,)).decide("ops", (), (*name, *words))
    assert decision.allowed and decision.rule is not None, decision
    return [word.decode() for word in run_words(decision.rule, decision)]


class EntryTests(SynchronousTestCase):
    """An entry as a line."""

    def test_line(self) -> None:
        """One line of JSON, byte for byte, in UTC."""
        self.assertEqual(
            ENTRY.line(),
            b'{"schema":1,"time":"2026-11-21T07:08:09.123456Z","event":"start","identity":"ops",'
            b'"session":"00","rule":"disk","argv":["df","-h"]}\n',
        )
        whole = evolve(ENTRY, time=datetime(2026, 1, 2, tzinfo=UTC))
        self.assertIn(b'"2026-01-02T00:00:00.000000Z"', whole.line())

    def test_lost(self) -> None:
        """How many entries before it are missing stands in it."""
        self.assertEqual(json.loads(ENTRY.line(3))["lost"], 3)
        self.assertNotIn("lost", json.loads(ENTRY.line()))

    def test_hostile(self) -> None:
        """Whatever the bytes of a word are, it is one line, of printable ASCII."""
        words = (b"\n\r\x1b[2J", b'"}\\', "\u2028\u202e".encode(), b"\xff\xfe", b"{0}%s", b"")
        line = evolve(ENTRY, argv=words).line()
        self.assertEqual(line.count(b"\n"), 1)
        self.assertTrue(line[:-1].decode("ascii").isprintable())
        argv = json.loads(line)["argv"]
        self.assertEqual(argv[:3], [word.decode() for word in words[:3]])
        self.assertEqual(argv[3], {"b64": "//4="})

    def test_longest(self) -> None:
        """Where a line may only be so long, words are missing at its end, and it says so."""
        words = tuple(b"w%d" % number for number in range(1000))
        line = evolve(ENTRY, argv=words).line(longest=500)
        self.assertLessEqual(len(line), 500)
        entry = json.loads(line)
        self.assertEqual(entry["argv_words"], 1000)
        self.assertEqual(entry["argv"], [f"w{n}" for n in range(len(entry["argv"]))])
        self.assertTrue(entry["argv"])
        self.assertEqual(
            json.loads(evolve(ENTRY, argv=(b"x" * 999,)).line(longest=500))["argv"], []
        )


class WordTests(SynchronousTestCase):
    """Which words are shown."""

    def test_secret(self) -> None:
        """A secret parameter is masked wherever it stands, the others are not."""
        self.assertEqual(
            shown(LOGIN, "me", "hunter2", "a", "b"),
            ["login", "--user=me", "--password=***", "a", "b"],
        )

    def test_log(self) -> None:
        """The rule's ``log`` names those that are shown; its own words always are."""
        cases: tuple[tuple[Any, list[str]], ...] = (
            ("none", ["login", "--user=***", "--password=***", "***", "***"]),
            (("more",), ["login", "--user=***", "--password=***", "a", "b"]),
            ((), ["login", "--user=***", "--password=***", "***", "***"]),
        )
        for log, expected in cases:
            self.assertEqual(shown(evolve(LOGIN, log=log), "me", "hunter2", "a", "b"), expected)

    def test_any(self) -> None:
        """Of any argv the program alone is shown where nothing is to be."""
        rule = CommandRule(argv="any", allow=("ops",))
        self.assertEqual(shown(rule, "ls", "-l", "/x"), ["ls", "-l", "/x"])
        self.assertEqual(shown(evolve(rule, log="none"), "ls", "-l", "/x"), ["ls", "***", "***"])

    def test_shell(self) -> None:
        """A line of the rule's is shown, one of the client's is a word of the client's."""
        line = evolve(LOGIN, shell=True, argv=("cat", "{user}", "{password}", "{more}"))
        self.assertEqual(
            shown(line, "me", "hunter2", "x"), ["/bin/sh", "-c", "cat", "sh", "me", "***", "x"]
        )
        rule = CommandRule(argv="any", shell=True, allow=("ops",))
        self.assertEqual(shown(rule, "ls", "|", "wc"), ["/bin/sh", "-c", "ls | wc"])
        self.assertEqual(shown(evolve(rule, log="none"), "ls", "x"), ["/bin/sh", "-c", "***"])

    def test_refused(self) -> None:
        """A word that fits nothing may be a secret where there are any."""
        words = (b"logim", b"me", b"hunter2")
        self.assertEqual(asked_words(words, None, (DISK,)), words)
        self.assertEqual(asked_words(words, None, (DISK, LOGIN)), (b"logim", b"***", b"***"))
        self.assertEqual(asked_words(words, LOGIN, (LOGIN,)), (b"logim", b"***", b"***"))
        self.assertEqual(asked_words(words, DISK, (DISK, LOGIN)), words)
        anything = CommandRule(argv="any", allow=("ops",))
        self.assertEqual(asked_words(words, anything, (anything,)), words)
        quiet = evolve(anything, log="none")
        self.assertEqual(asked_words(words, quiet, (quiet,)), (b"logim", b"***", b"***"))
        line = evolve(quiet, shell=True)
        for rule in (line, None):
            self.assertEqual(asked_words((b"mysql -psecret",), rule, (line,)), (b"***",))


class FileTests(SynchronousTestCase):
    """The file."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()

    def open(self) -> FileAudit:
        audit = FileAudit(str(self.path))
        self.addCleanup(audit.close)
        return audit

    def entries(self, path: Path | None = None) -> list[dict[str, Any]]:
        """The lines of the file that are whole."""
        found = []
        for line in (path or self.path).read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                self.torn = line
        return found

    def limited(self, size: int, call: Callable[[], object]) -> None:
        """Do something while files may only have so many bytes, as on a disk that is full."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            call()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)

    def test_interface(self) -> None:
        """All that write are alike."""
        for audit in (self.open(), SyslogAudit(), JournalAudit(), NoAudit(), MemoryAudit()):
            self.assertTrue(verifyObject(IAudit, audit))
            audit.close()
        self.assertTrue(verifyObject(IAudit, Audits([])))

    def test_made(self) -> None:
        """It is made for its owner alone, and what is in it stays."""
        self.open().record(ENTRY)
        self.assertEqual(self.path.stat().st_mode & 0o7777, 0o600)
        self.open().record(ENTRY)
        self.assertEqual(self.path.read_bytes(), ENTRY.line() * 2)

    def test_unfit(self) -> None:
        """What is no file of the server's alone is refused, and left as it is."""
        before = openDescriptors()
        other = Path(self.mktemp())
        other.touch(0o600)
        os.symlink(other.absolute(), self.path)
        self.assertRaisesRegex(ConfigurationError, "found a symbolic link", self.open)
        self.path.unlink()
        os.link(other, self.path)
        self.assertRaisesRegex(ConfigurationError, "found a hard link", self.open)
        self.path.unlink()
        os.mkfifo(self.path)
        self.assertRaisesRegex(ConfigurationError, "expected a regular file", self.open)
        self.path.unlink()
        self.path.touch()
        self.path.chmod(0o620)
        self.assertRaisesRegex(ConfigurationError, "found mode 0620", self.open)
        self.path = self.path / "none"
        self.assertRaisesRegex(ConfigurationError, "cannot be opened: Not a dir", self.open)
        self.assertEqual((openDescriptors(), other.read_bytes()), (before, b""))

    def test_rotated(self) -> None:
        """A file that was moved away, or removed, is made anew with the next entry."""
        before = openDescriptors()
        audit = self.open()
        old = self.path.with_name("old")
        audit.record(ENTRY)
        self.path.rename(old)
        audit.record(evolve(ENTRY, event="end"))
        self.assertEqual([each["event"] for each in self.entries(old)], ["start"])
        self.assertEqual([each["event"] for each in self.entries()], ["end"])
        self.path.unlink()
        audit.record(ENTRY)
        self.assertEqual(len(self.entries()), 1)
        self.path.rename(old)
        audit.reopen()
        self.assertEqual((self.path.read_bytes(), openDescriptors()), (b"", before + 1))

    def test_notReopened(self) -> None:
        """Where nothing can be opened in its place the old file is written, while it is there."""
        audit = self.open()
        old = self.path.with_name("old")
        self.path.rename(old)
        self.path.mkdir()
        audit.record(ENTRY)
        self.assertEqual(len(self.entries(old)), 1)
        self.assertIn("cannot be opened: Is a directory", audit.problem)
        old.unlink()
        audit.record(ENTRY)
        audit.record(ENTRY)
        self.assertEqual(audit.lost, 2)
        self.path.rmdir()
        audit.record(ENTRY)
        self.assertEqual((audit.problem, audit.lost), ("", 0))
        self.assertEqual([each["lost"] for each in self.entries()], [2])

    def test_full(self) -> None:
        """What a full disk does not take is counted; a line that was torn does not spoil the next,
        which says how many are missing."""
        audit = self.open()
        audit.record(ENTRY)
        size = len(ENTRY.line())

        def lose() -> None:
            for _ in range(5):
                audit.record(ENTRY)
            self.assertEqual(audit.lost, 5)
            self.assertIn(str(self.path), audit.problem)

        self.limited(size + 10, lose)
        self.assertEqual(self.path.stat().st_size, size + 10)
        audit.record(ENTRY)
        audit.record(ENTRY)
        self.assertEqual([each.get("lost", 0) for each in self.entries()], [0, 5, 0])
        self.assertEqual(self.torn, ENTRY.line()[:10])
        self.assertEqual((audit.problem, audit.lost), ("", 0))

    def test_everyCut(self) -> None:
        """Wherever a line is torn, all others are whole, and none is counted that is there."""
        line = ENTRY.line()
        for cut in range(len(line) + 1):
            audit = self.open()
            self.limited(cut, lambda audit=audit: audit.record(ENTRY))  # type: ignore[misc]
            there = cut >= len(line) - 1
            self.assertEqual(audit.lost, 0 if there else 1)
            audit.record(ENTRY)
            found = self.entries()
            self.assertEqual([each.get("lost", 0) for each in found], [0, 0] if there else [1])
            audit.close()
            self.path.unlink()

    def test_tornBefore(self) -> None:
        """A line that was torn when the server was killed does not spoil the first of the next."""
        self.path.write_bytes(b'{"schema":1,"ti')
        self.path.chmod(0o600)
        self.open().record(ENTRY)
        self.assertEqual(self.path.read_bytes(), b'{"schema":1,"ti\n' + ENTRY.line())

    def test_several(self) -> None:
        """Lines of several writers of one file never mix, however long they are."""
        audits = [self.open() for _ in range(4)]
        entries = [evolve(ENTRY, argv=(b"%d" % n * 50_000,)) for n in range(len(audits))]

        def write(audit: FileAudit, entry: AuditEntry) -> None:
            for _ in range(50):
                audit.record(entry)

        threads = [
            threading.Thread(target=write, args=each) for each in zip(audits, entries, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = Counter(self.path.read_bytes().splitlines(keepends=True))
        self.assertEqual(found, {entry.line(): 50 for entry in entries})

    def test_device(self) -> None:
        """A disk that takes nothing at all: the count goes on."""
        audit = self.open()
        full = os.open("/dev/full", os.O_WRONLY)
        assert audit._descriptor is not None
        os.dup2(full, audit._descriptor)
        os.close(full)
        for _ in range(3):
            audit.record(ENTRY)
        self.assertEqual(audit.lost, 3)
        self.assertIn("No space left", audit.problem)
        audit.reopen()
        audit.record(ENTRY)
        self.assertEqual([each["lost"] for each in self.entries()], [3])


class SocketTests(SynchronousTestCase):
    """The system's own log."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        # A socket's path has at most 107 characters.
        self.path = os.path.relpath(folder / "log")

    def listen(self) -> socket.socket:
        """Be the system's log."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(self.path)
        listener.setblocking(False)
        return listener

    def test_syslog(self) -> None:
        """A message as the C library would send it, with the facility and the severity."""
        listener = self.listen()
        audit = SyslogAudit("local3", self.path)
        self.addCleanup(audit.close)
        audit.record(ENTRY)
        audit.record(evolve(ENTRY, event="denied"))
        for severity, event in ((5, "start"), (4, "denied")):
            head, _, line = listener.recv(65536).partition(b": ")
            stamp = f"<{19 * 8 + severity}>Nov 21 "
            self.assertTrue(head.decode().startswith(stamp), head)
            self.assertTrue(head.decode().endswith(f" sockproto-audit[{os.getpid()}]"), head)
            self.assertEqual(json.loads(line)["event"], event)
            self.assertNotIn(b"\n", line)
        audit.record(evolve(ENTRY, argv=(b"x" * 60,) * 1000))
        self.assertLess(len(listener.recv(1 << 20)), 8192)

    def test_journal(self) -> None:
        """The journal gets the line, and fields to search by."""
        listener = self.listen()
        audit = JournalAudit(self.path)
        self.addCleanup(audit.close)
        audit.record(ENTRY)
        text = listener.recv(65536).decode()
        fields = dict(line.split("=", 1) for line in text.splitlines())
        self.assertEqual(json.loads(fields.pop("MESSAGE"))["argv"], ["df", "-h"])
        self.assertEqual(
            fields,
            {
                "SYSLOG_IDENTIFIER": "sockproto-audit",
                "PRIORITY": "5",
                "SOCKPROTO_EVENT": "start",
                "SOCKPROTO_IDENTITY": "ops",
                "SOCKPROTO_SESSION": "00",
                "SOCKPROTO_RULE": "disk",
            },
        )

    def test_gone(self) -> None:
        """Nobody is waited for: what cannot be sent is counted; who listens next is told."""
        before = openDescriptors()
        audit = JournalAudit(self.path)
        audit.record(ENTRY)
        self.assertEqual((audit.lost, audit.problem[-25:]), (1, "No such file or directory"))
        first = self.listen()
        audit.record(ENTRY)
        self.assertIn(b'"lost":1', first.recv(65536))
        first.close()
        audit.record(ENTRY)
        self.assertEqual(audit.lost, 1)
        os.unlink(self.path)
        second = self.listen()
        audit.record(ENTRY)
        self.assertIn(b'"lost":1', second.recv(65536))
        # One that was started anew is found at once.
        second.close()
        os.unlink(self.path)
        third = self.listen()
        audit.record(ENTRY)
        self.assertEqual((audit.lost, audit.problem), (0, ""))
        self.assertNotIn(b"lost", third.recv(65536))
        audit.reopen()
        third.close()
        self.assertEqual(openDescriptors(), before)

    def test_full(self) -> None:
        """A log that reads nothing holds nobody up."""
        self.listen()
        audit = SyslogAudit(path=self.path)
        self.addCleanup(audit.close)
        for _ in range(2000):
            audit.record(ENTRY)
        self.assertGreater(audit.lost, 0)
        self.assertIn("temporarily unavailable", audit.problem)


class CommandAuditTests(SynchronousTestCase):
    """What becomes of commands, as entries."""

    def setUp(self) -> None:
        self.memory = MemoryAudit()
        self.clock = Clock()
        self.audit = CommandAudit(self.memory, "c0ffee", lambda: MOMENT, self.clock.seconds)
        self.logged: list[str] = []

        def note(event: Any) -> None:
            self.logged.append(formatEvent(event))

        observe: Any = note
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def begin(self) -> Any:
        decision = CommandRules((DISK,)).decide("ops", (), ("disk",))
        return self.audit.begin(PRINCIPAL, DISK, decision)

    def lines(self) -> list[dict[str, Any]]:
        """The entries, as they are read."""
        return [json.loads(entry.line()) for entry in self.memory.entries]

    def test_whole(self) -> None:
        """A start and an end that belong together, each with all that is known."""
        trail = self.begin()
        common = {
            "schema": 1,
            "time": "2026-11-21T07:08:09.123456Z",
            "number": 1,
            "identity": "ops",
            "key": "test-key",
            "client": "tester@here",
            "address": "192.0.2.7:4711",
            "session": bytes(range(16)).hex(),
            "ref": "cafe0123",
            "rule": "disk",
            "configuration": "c0ffee",
            "argv": ["df", "-h"],
        }
        self.assertEqual(self.lines(), [{**common, "event": "start"}])
        # A reload does not change what it was decided by.
        self.audit.configuration = "other"
        trail.received(3)
        trail.sent(5)
        trail.sent(6)
        self.clock.advance(2.5)
        trail.exited()
        self.clock.advance(60)
        trail.over(exit_status=3)
        trail.over(exit_status=4)
        self.assertEqual(
            self.lines()[1:],
            [
                {
                    **common,
                    "event": "end",
                    "why": "exit",
                    "exit_status": 3,
                    "duration": 2.5,
                    "bytes_in": 3,
                    "bytes_out": 11,
                    "truncated": False,
                }
            ],
        )

    def test_why(self) -> None:
        """The first reason is the one that counts."""
        trail = self.begin()
        trail.because(Why.TIMEOUT)
        trail.because(Why.DISCONNECT)
        trail.over(signal="TERM", truncated=True)
        end = self.lines()[-1]
        self.assertEqual((end["why"], end["signal"], end["truncated"]), ("timeout", "TERM", True))
        self.assertNotIn("exit_status", end)

    def test_denied(self) -> None:
        """A denial says what was asked, and why not."""
        reason = "disk: its deny names the identity"
        self.audit.denied(PRINCIPAL, (b"disk", b"/"), DISK, (DISK,), "refused", reason)
        (entry,) = self.lines()
        said = (entry["event"], entry["code"], entry["reason"], entry["rule"], entry["argv"])
        self.assertEqual(said, ("denied", "refused", reason, "disk", ["disk", "/"]))

    def test_deniedFlood(self) -> None:
        """Who is refused does not fill the disk with what was asked."""
        self.audit.denied(PRINCIPAL, (b"x" * 100_000, b"y"), None, (), "refused", "no")
        (entry,) = self.memory.entries
        self.assertLess(len(entry.line()), 2000)
        self.assertEqual(json.loads(entry.line())["argv_words"], 2)

    def test_closed(self) -> None:
        """At the end of the server nothing is left without an end."""
        trail = self.begin()
        self.audit.close()
        self.assertEqual([each["event"] for each in self.lines()], ["start", "end"])
        self.assertEqual(self.lines()[-1]["why"], "lost")
        trail.over(exit_status=0)
        self.assertEqual(len(self.memory.entries), 2)

    def test_problems(self) -> None:
        """That the audit cannot be written is logged once, and how many it lacks afterwards."""

        class Failing(MemoryAudit):
            def record(self, entry: AuditEntry) -> None:
                if self.problem:
                    self.lost += 1

        failing = Failing()
        self.audit.replace(failing)
        failing.problem = "/x: No space left on device"
        for _ in range(3):
            self.begin()
        self.assertEqual(self.logged, ["the audit: /x: No space left on device"])
        failing.problem = ""
        self.begin()
        self.assertEqual(self.logged[1:], ["the audit is written again; 3 entries were lost"])
        self.audit.replace(self.memory)
        self.assertEqual(self.logged[2:], ["the audit lacks its last 3 entries"])


class ServiceTests(SynchronousTestCase):
    """The service tells the audit of everything."""

    def setUp(self) -> None:
        self.reactor = PollingReactor()
        self.host = FakeHost()
        self.addCleanup(self.host.closeChildren)
        self.memory = MemoryAudit()

    def open(self, *rules: CommandRule, argv: tuple[str, ...] = ("disk",), **request: Any) -> Any:
        """Ask for a command."""
        host: Any = self.host
        limits = Limits(commands=1)
        audit = CommandAudit(self.memory, monotonic=self.reactor.seconds)
        self.service = CommandService(self.reactor, host, CommandRules(rules), limits, audit)
        self.channel = FakeChannel()
        self.request = {"argv": list(argv), **request}
        return self.service.open(self.channel, self.request)

    def told(self) -> list[tuple[str, Any]]:
        """The events, each with why or the code."""
        return [
            (one.event, one.fields.get("why", one.fields.get("code")))
            for one in self.memory.entries
        ]

    def end(self) -> dict[str, Any]:
        """The last entry."""
        entry: dict[str, Any] = json.loads(self.memory.entries[-1].line())
        return entry

    def test_exit(self) -> None:
        """A command from its start, which is told before anything runs, to its end."""
        rule = evolve(DISK, stdin="stream")
        command = self.open(rule, stdin=True)
        run = self.host.runs[0]
        self.assertEqual(self.told(), [("start", None)])
        run.observer.started(1)
        command.dataReceived(b"input")
        os.write(run.childOutput, b"output")
        os.write(run.childError, b"error")
        self.reactor.settle()
        run.exit(3)
        self.reactor.settle()
        self.assertEqual(self.told()[1:], [("end", "exit")])
        end = self.end()
        found = (end["exit_status"], end["bytes_in"], end["bytes_out"], end["truncated"])
        self.assertEqual(found, (3, 5, 11, False))

    def test_duration(self) -> None:
        """What counts is the time of its program, not that of who reads the output."""
        self.open(DISK)
        run = self.host.runs[0]
        run.observer.started(1)
        self.reactor.advance(2)
        run.observer.exited(0, None)
        self.reactor.advance(3)
        run.closeChild()
        run.observer.gone()
        self.reactor.settle()
        self.assertEqual(self.end()["duration"], 2)

    def test_reasons(self) -> None:
        """Each way to be ended has its word."""
        for why, rule, cause in (
            ("timeout", evolve(DISK, timeout=5.0), lambda _: self.reactor.advance(6)),
            ("cancel", DISK, lambda command: command.cancelled()),
            ("disconnect", DISK, lambda command: command.connectionLost()),
            ("shutdown", DISK, lambda _: self.service.endAll()),
        ):
            command = self.open(rule)
            run = self.host.runs[-1]
            run.observer.started(1)
            cause(command)
            self.assertEqual(run.said, ["end"])
            run.exit(None, "TERM")
            self.reactor.settle()
            self.assertEqual(self.told()[-2:], [("start", None), ("end", why)])
            self.assertEqual(self.end()["signal"], "TERM")

    def test_outputLimit(self) -> None:
        """Too much output is such a reason, and the bytes are those that passed."""
        self.open(evolve(DISK, max_output=4))
        run = self.host.runs[0]
        run.observer.started(1)
        os.write(run.childOutput, b"123456")
        self.reactor.settle()
        run.exit(None, "TERM")
        self.reactor.settle()
        end = self.end()
        self.assertEqual(
            (end["why"], end["bytes_out"], end["truncated"]), ("output-limit", 4, True)
        )

    def test_finish(self) -> None:
        """One that goes on without its client ends by itself."""
        command = self.open(evolve(DISK, on_disconnect="finish"))
        run = self.host.runs[0]
        run.observer.started(1)
        command.connectionLost()
        run.exit(0)
        self.reactor.settle()
        self.assertEqual(self.told(), [("start", None), ("end", "exit")])

    def test_notStarted(self) -> None:
        """One that never ran, and one of which nothing more is known."""
        self.open(DISK)
        self.host.runs[0].observer.failed("not-found", "no such program")
        end = self.end()
        self.assertEqual((end["why"], end["code"]), ("not-started", "not-found"))
        self.open(DISK)
        self.host.runs[1].observer.started(1)
        self.host.runs[1].observer.hostLost()
        self.assertEqual((self.end()["why"], self.end()["code"]), ("lost", "lost"))

    def test_shared(self) -> None:
        """Who gets the result of another's run has a start and an end, too, which say so."""
        rule = evolve(DISK, fresh=30.0)
        self.open(rule)
        run = self.host.runs[0]
        run.observer.started(1)
        os.write(run.childOutput, b"output")
        self.reactor.advance(2)
        self.service.open(FakeChannel(), self.request)
        self.reactor.settle()
        run.exit(3)
        self.reactor.settle()
        self.service.open(FakeChannel(), self.request)
        self.reactor.settle()
        self.assertEqual(len(self.host.runs), 1)
        ends = [one.fields for one in self.memory.entries if one.event == "end"]
        found = [(end["why"], end["exit_status"], end["bytes_out"], "age" in end) for end in ends]
        self.assertEqual(
            sorted(found), [("exit", 3, 6, False), ("exit", 3, 6, True), ("exit", 3, 6, True)]
        )
        self.assertEqual({end["number"] for end in ends}, {1, 2, 3})

    def test_sharedTimeout(self) -> None:
        """And so it has where that run's time was up."""
        self.open(evolve(DISK, fresh=30.0, timeout=5.0))
        self.service.open(FakeChannel(), self.request)
        run = self.host.runs[0]
        run.observer.started(1)
        self.reactor.advance(6)
        run.exit(None, "TERM")
        self.reactor.settle()
        self.assertEqual([why for what, why in self.told() if what == "end"], ["timeout"] * 2)

    def test_python(self) -> None:
        """A command in Python is one like others."""
        self.open(DISK, argv=("commands",))
        self.reactor.settle()
        self.assertEqual(self.told(), [("start", None), ("end", "exit")])
        end = self.end()
        self.assertEqual((end["rule"], end["argv"]), ("commands", ["commands"]))
        self.assertEqual(end["bytes_out"], len(self.channel.data[1]))

    def test_mistake(self) -> None:
        """Where starting goes wrong the audit does not wait for an end for ever."""

        def spawn(*_: object) -> None:
            raise ValueError("there is no user nobody-at-all")

        self.patch(self.host, "spawn", spawn)
        self.assertRaises(ValueError, self.open, DISK)
        self.assertEqual(self.told(), [("start", None), ("end", "not-started")])

    def test_denied(self) -> None:
        """Whatever is refused is told, with the reason that the client may not know."""
        self.open(DISK, argv=("other",))
        self.assertEqual(self.told(), [("denied", "unknown")])
        self.assertEqual(self.end()["reason"], "no rule has that name")
        self.open(DISK, stdin=True)
        self.assertEqual(self.told()[1:], [("denied", "refused")])
        self.open(evolve(LOGIN, allow=("root",)), argv=("login", "me", "hunter2"))
        self.assertEqual(self.told()[2:], [("denied", "refused")])
        self.assertEqual(self.end()["argv"], ["login", "***", "***"])
        self.open(DISK)
        self.assertIsNone(self.service.open(FakeChannel(), self.request))
        self.assertEqual(self.told()[3:], [("start", None), ("denied", "busy")])


class ServerAuditTests(SynchronousTestCase):
    """The audit of a configuration."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.audit = ServerAudit()
        self.addCleanup(self.audit.close)

    def configuration(self, **settings: Any) -> Configuration:
        """One with a digest."""
        return Configuration(
            audit=AuditSettings(**settings), sources=(Source(self.path, "c0ffee"),)
        )

    def test_kinds(self) -> None:
        """What is named is written to, and nothing else."""
        for settings, kind in (
            ({}, NoAudit),
            ({"file": str(self.path)}, FileAudit),
            ({"syslog": True}, SyslogAudit),
            ({"syslog": "local0"}, SyslogAudit),
            ({"journal": True}, JournalAudit),
            ({"file": str(self.path), "journal": True}, Audits),
        ):
            configuration = self.configuration(**settings)
            self.audit.prepare(configuration)
            self.audit.use(configuration)
            self.assertIsInstance(self.audit.commands.audit, kind)
        self.assertEqual(self.audit.commands.configuration, "c0ffee")
        self.audit.close()
        self.assertIsInstance(self.audit.commands.audit, NoAudit)

    def test_reload(self) -> None:
        """What stays the same is kept, and the file opened again; what cannot be opened is raised,
        and nothing changes."""
        before = openDescriptors()
        same = self.configuration(file=str(self.path))
        self.audit.prepare(same)
        self.audit.use(same)
        kept = self.audit.commands.audit
        self.path.unlink()
        self.audit.prepare(same)
        self.audit.use(same)
        self.assertIs(self.audit.commands.audit, kept)
        self.assertTrue(self.path.exists())
        bad = self.configuration(file=str(self.path / "x"))
        self.assertRaises(ConfigurationError, self.audit.prepare, bad)
        self.assertIs(self.audit.commands.audit, kept)
        # A reload that fails elsewhere leaves nothing open.
        other = self.configuration(file=str(self.path.with_name("other")))
        self.audit.prepare(other)
        self.audit.prepare(same)
        self.assertEqual(openDescriptors(), before + 1)
        self.audit.close()
        self.assertEqual(openDescriptors(), before)

    def test_owner(self) -> None:
        """Of who is about to be somebody else the file is the other's, so that it can be written
        and rotated then."""
        if os.geteuid() != 0:
            self.skipTest("only root can give a file away")
        FileAudit(str(self.path), (65534, 65534)).close()
        found = self.path.stat()
        self.assertEqual(
            (found.st_uid, found.st_gid, found.st_mode & 0o777), (65534,) * 2 + (0o600,)
        )
        FileAudit(str(self.path), (65534, 65534)).close()
        self.assertRaises(ConfigurationError, FileAudit, str(self.path))

    def test_read(self) -> None:
        """The section of a configuration file; what is wrong with it is said."""
        file = Path(self.mktemp()).absolute()
        file.write_text('[audit]\nfile = "a.json"\nsyslog = "local1"\njournal = true\n')
        self.assertEqual(
            read_configuration(file).audit,
            AuditSettings(file=str(file.parent / "a.json"), syslog="local1", journal=True),
        )
        said = CliRunner().invoke(program, ["check", str(file)]).output
        for where in (f"{file.parent}/a.json", "syslog", "the journal"):
            self.assertIn(f"audit    to {where}\n", said)
        for text, words in (
            ("syslog = 3", "[audit] syslog: expected true, false or text"),
            ('syslog = "auht"', "[audit] syslog: expected true, false, or one of user, daemon"),
            ("file = true", "[audit] file: expected text"),
            ('file = ""', "[audit] file: expected the path of a file"),
            ("jornal = true", "unknown key jornal; did you mean journal?"),
        ):
            file.write_text(f"[audit]\n{text}\n")
            error = self.assertRaises(ConfigurationError, read_configuration, file)
            self.assertIn(words, str(error))

    def test_settings(self) -> None:
        """A facility is one that programs may use."""
        flags: tuple[bool | str, ...] = (True, False)
        for facility in (*flags, *FACILITIES):
            AuditSettings(syslog=facility)
        self.assertRaises(ValueError, AuditSettings, syslog="kern")
        self.assertRaises(ValueError, AuditSettings, file="")
        self.assertIn(audit_socket.DEFAULT_FACILITY, FACILITIES)
        within = AuditSettings(file="a.json").within(Path("/etc/x"))
        self.assertEqual(within.file, "/etc/x/a.json")
