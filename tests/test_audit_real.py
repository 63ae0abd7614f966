"""Tests of the audit of a real server: its file through rotations, a full disk, and a kill."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sockproto import blocking
from sockproto.errors import AgentError
from tests.servers import PATIENCE, AgentServer

_CONFIGURATION = """\
server_id = "here"

[audit]
file = "audit.json"

[[listen]]
service = "agent"
endpoint = "tcp:0:interface=127.0.0.1"

[[listen]]
service = "agent"
endpoint = "unix:{folder}/agent.sock"

[[listen]]
service = "agent"
endpoint = "tcp:0:interface=127.0.0.1"
tls = "auto"

[[command]]
name = "say"
shell = true
argv = ["cat; echo", "{word}", "{secret}"]
allow = ["owner"]
stdin = "stream"
parameters.word.pattern = ".*"
parameters.secret = { pattern = "hunter.*", secret = true }

[[command]]
name = "wait"
argv = ["sleep", "1000"]
allow = ["owner"]
timeout = "300 ms"
"""


class RealAuditTests(SynchronousTestCase):
    """A server with an audit, and a client."""

    def setUp(self) -> None:
        self.server = AgentServer(_CONFIGURATION)
        self.addCleanup(self.server.stop)
        self.path = Path(self.server.folder, "audit.json")
        # Behind it SIGHUP is a reload.
        self.server.wait_for_log("keyring /")

    def connect(self, **options: Any) -> blocking.Session:
        """Log in."""
        session = blocking.connect(**self.server.connection(self.server.unix), **options)
        self.addCleanup(session.close)
        return session

    def entries(self, count: int, path: Path | None = None) -> list[dict[str, Any]]:
        """The entries, once there are so many."""
        deadline = time.monotonic() + PATIENCE
        while True:
            lines = (path or self.path).read_bytes().splitlines()
            if len(lines) >= count or time.monotonic() > deadline:
                self.assertEqual(len(lines), count)
                return [json.loads(line) for line in lines]
            time.sleep(0.01)

    def test_everything(self) -> None:
        """Commands and denials are there with all that is known of them, and no secret is."""
        self.assertEqual(self.path.stat().st_mode & 0o7777, 0o600)
        session = self.connect()
        result = session.run(["say", "a\nb".replace("\n", "\u2028"), "hunter2"], input=b"12345")
        self.assertEqual(result.exit_status, 0)
        self.assertTrue(session.run(["wait"]).timed_out)
        self.assertRaises(AgentError, session.run, ["sya", "x", "hunter2"])
        self.assertRaises(AgentError, session.run, ["say", "x", "not\nthat", "hunter2"])
        said = self.entries(6)
        self.assertEqual(
            [(one["event"], one["rule"], one.get("why", one.get("code"))) for one in said],
            [
                ("start", "say", None),
                ("end", "say", "exit"),
                ("start", "wait", None),
                ("end", "wait", "timeout"),
                ("denied", None, "unknown"),
                ("denied", "say", "refused"),
            ],
        )
        start, end = said[:2]
        self.assertEqual(start["argv"], ["/bin/sh", "-c", "cat; echo", "sh", "a\u2028b", "***"])
        self.assertEqual(start["session"], session.login.session_id.hex())
        self.assertEqual((start["ref"], start["identity"]), (session.login.ref, "owner"))
        self.assertRegex(start["configuration"], "^[0-9a-f]{64}$")
        self.assertRegex(start["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual((end["bytes_in"], end["bytes_out"]), (5, len(result.stdout)))
        self.assertEqual((end["number"], end["exit_status"]), (start["number"], 0))
        self.assertGreater(said[3]["duration"], 0.29)
        self.assertNotIn(b"hunter", self.path.read_bytes())

    def test_rotated(self) -> None:
        """A rotation loses nothing, with SIGHUP or without."""
        session = self.connect()
        session.run(["say", "1", "hunter"])
        for number, hangup in enumerate((False, True)):
            old = self.path.with_name(f"audit.{number}")
            self.entries(2)
            self.path.rename(old)
            if hangup:
                self.server.send_signal(signal.SIGHUP)
                self.server.wait_for_log("reloaded the keyring")
                self.assertTrue(self.path.exists())
            session.run(["say", "1", "hunter"])
            self.entries(2)
            self.entries(2, old)

    def test_fullDisk(self) -> None:
        """A disk that is full stops no command; what is missing is counted, and said."""
        session = self.connect()
        session.run(["say", "1", "hunter"])
        size = sum(len(json.dumps(one)) for one in self.entries(2))
        self.assertGreater(size, 0)
        # The server's files may not become longer; other processes' may.
        resource.prlimit(
            self.server.pid, resource.RLIMIT_FSIZE, (self.path.stat().st_size + 20, -1)
        )
        for _ in range(5):
            self.assertEqual(session.run(["say", "1", "hunter"]).exit_status, 0)
        self.server.wait_for_log("the audit: .*audit.json: ")
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (-1, -1))
        session.run(["say", "1", "hunter"])
        self.server.wait_for_log("the audit is written again; 10 entries were lost")
        lines = self.path.read_bytes().splitlines()
        self.assertEqual(len(lines), 5)
        del lines[2]  # which was torn
        self.assertEqual([json.loads(line).get("lost", 0) for line in lines], [0, 0, 10, 0])

    def test_killed(self) -> None:
        """What a server that is killed has begun is there; the next goes on in the same file."""
        session = self.connect()
        session.start(["say", "1", "hunter"], stdin=True)
        self.server.kill()
        self.assertEqual([one["event"] for one in self.entries(1)], ["start"])

    def test_stopped(self) -> None:
        """What runs when the server is told to stop has its end there, too."""
        config = Path(self.server.folder, "server.toml")
        text = config.read_text().replace("300 ms", "1 h") + "\n[limits]\nshutdown_seconds = 0\n"
        config.write_text(text)
        self.server.send_signal(signal.SIGHUP)
        self.server.wait_for_log("reloaded the keyring")
        session = self.connect()
        session.start(["wait"])
        self.server.send_signal(signal.SIGTERM)
        _, end = self.entries(2)
        self.assertEqual((end["event"], end["why"], end["signal"]), ("end", "shutdown", "TERM"))

    def test_reload(self) -> None:
        """A reload that cannot have its audit changes nothing, and says so."""
        config = Path(self.server.folder, "server.toml")
        good = config.read_text()
        config.write_text(good.replace("audit.json", "none/audit.json"))
        self.server.send_signal(signal.SIGHUP)
        log = self.server.wait_for_log("not reloaded, .*none/audit.json: cannot be opened")
        self.assertIsNone(re.search("reloaded the keyring", log))
        session = self.connect()
        session.run(["say", "1", "hunter"])
        before = self.entries(2)[0]["configuration"]
        config.write_text(good.replace("audit.json", "other.json"))
        self.server.send_signal(signal.SIGHUP)
        self.server.wait_for_log("reloaded the keyring")
        session.run(["say", "1", "hunter"])
        other = self.path.with_name("other.json")
        self.assertNotEqual(self.entries(2, other)[0]["configuration"], before)
        self.entries(2)
        self.assertEqual(os.stat(other).st_mode & 0o7777, 0o600)
