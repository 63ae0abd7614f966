"""Tests of the server as people start it: real processes of ``twistd`` and ``twist``."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

from sockproto.keyring_edit import create_keyring, revoke_key
from tests.servers import ended
from tests.twistd_process import ProcessTestCase, Started

UNIX = "agent=unix:s"
NOBODY = 65534
ANY = '[[command]]\nargv = "any"\nallow = ["owner"]\nstdin = "stream"\n'
LISTEN = '[[listen]]\nservice = "agent"\nendpoint = "unix:s"\n'


def children(pid: int) -> list[int]:
    """The pids of a process's children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class StartTests(ProcessTestCase):
    """How it starts."""

    def test_lines(self) -> None:
        """Each listener, the keyring and the command to try are a line each, and it works."""
        (self.folder / "elsewhere").mkdir()
        server = self.serve(
            "--listen", UNIX, "--listen", "agent=tcp:0:interface=127.0.0.1",
            "--keyring", "k/keyring.toml", before=("--rundir", "elsewhere"),
        )  # fmt: skip
        keyring = self.folder / "k" / "keyring.toml"
        said = [line.split("] ", 1)[1] for line in server.lines]
        self.assertEqual(said[2], f"agent listens on unix:{self.folder}/s (behind the login)")
        self.assertRegex(said[3], r"^agent listens on tcp 127\.0\.0\.1:[1-9]\d* \(behind")
        self.assertEqual(said[4], f"keyring {keyring}: made, with one key, owner")
        self.assertEqual(len(said), 6, server.output)
        self.assertEqual(stat.S_IMODE((self.folder / "s").stat().st_mode), 0o600)
        words = shlex.split(server.until("try: "))
        at = words.index("run")
        self.assertEqual(
            words[at:],
            shlex.split(f"run --connect unix:{self.folder}/s --keyring {keyring} -- uname -a"),
        )
        status, output = self.run_client(*words[at:])
        self.assertEqual((status, output), (0, subprocess.check_output(["uname", "-a"]).decode()))
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertFalse((self.folder / "s").exists())
        self.assertNotIn("Traceback", server.output)
        self.assertNotIn("Factory", server.output)

    def test_wrong(self) -> None:
        """What cannot be used: a line each on stderr, and status 1."""
        wrong = self.configure("serverid = 'x'\n[limits]\nframe = -1\n")
        started = [
            self.start("twistd", "-n", "sockproto", "--config", wrong),
            self.start("twistd", "-n", "sockproto", "--listen", "agnet=unix:s"),
            self.start("twist", "sockproto", "--keyring", "/dev/null"),
        ]
        self.assertEqual([one.wait() for one in started], [1, 1, 1])
        first, second, third = started
        self.assertEqual(len(first.lines), 2, first.output)
        for line in first.lines:
            self.assertTrue(line.startswith(f"sockproto: {wrong}: "), line)
        self.assertIn("did you mean server_id?", first.output)
        self.assertEqual(len(second.lines), 1, second.output)
        self.assertIn("sockproto: --listen agnet=unix:s: there is no service", second.output)
        self.assertEqual(third.lines, ["sockproto: /dev/null: expected a regular file"])

    def test_noKeyring(self) -> None:
        """With a configuration a missing keyring is not made."""
        config = self.configure(LISTEN)
        server = self.start("twistd", "-n", "sockproto", "--config", config)
        self.assertEqual(server.wait(), 1)
        self.assertEqual(len(server.lines), 1, server.output)
        self.assertIn("keyring.toml: no such keyring", server.output)
        self.assertFalse((self.folder / ".config").exists())

    def test_bind(self) -> None:
        """A listener that cannot be had: one line, no other stays, no pid file, status 1."""
        argv = ("sockproto", "--listen", UNIX, "--listen", "agent=unix:none/s")
        for program, before in (("twistd", ("-n",)), ("twist", ())):
            server = self.start(program, *before, *argv)
            self.assertEqual(server.wait(), 1)
            told = [line for line in server.lines if "cannot listen" in line]
            self.assertEqual(len(told), 1, server.output)
            self.assertTrue(
                told[0].endswith(
                    "cannot listen on agent=unix:address="
                    f"{self.folder}/none/s: No such file or directory"
                ),
                told,
            )
            self.assertNotIn("Traceback", server.output)
        self.assertEqual([one.name for one in self.folder.iterdir()], [".config"])

    def test_reactors(self) -> None:
        """It works on each reactor, and as a plugin of twist."""
        servers = {
            name: self.start("twistd", "-n", "--pidfile=", f"--reactor={name}", "sockproto",
                             "--listen", f"agent=unix:{name}")
            for name in ("select", "poll", "epoll", "asyncio")
        }  # fmt: skip
        servers["twist"] = self.start(
            "twist", "--log-format=text", "sockproto", "--listen", "agent=unix:twist"
        )
        for name, server in servers.items():
            server.until("try: ")
            where = ("--connect", f"unix:{self.folder}/{name}")
            self.assertEqual(self.run_client("run", *where, "--", "echo", name), (0, f"{name}\n"))
            server.process.terminate()
        for name, server in servers.items():
            self.assertIn(server.wait(), (0, -signal.SIGTERM), name)
            self.assertNotIn("Traceback", server.output)

    def test_daemon(self) -> None:
        """A daemon has its pid file, and its log as JSON where that is said; SIGTERM ends it."""
        config = self.configure(f"[log]\njson = true\n{LISTEN}{ANY}")
        create_keyring(self.folder / "k.toml")
        argv = ("--logfile=log", "--pidfile=pid", "sockproto", "--config", config)
        daemon = self.start("twistd", *argv, "--keyring", "k.toml")
        self.assertEqual((daemon.wait(), daemon.output), (0, ""))
        pid = int((self.folder / "pid").read_text())
        self.addCleanup(kill, pid)
        self.assertEqual(
            self.run_client("ping", "--connect", f"unix:{self.folder}/s", "--keyring", "k.toml")[0],
            0,
        )
        again = self.start(
            "twistd", "--logfile=log2", "--pidfile=pid2", *argv[2:], "--keyring", "k.toml"
        )
        self.assertEqual(again.wait(), 1)
        self.assertIn("StartFailed: cannot listen on agent=unix:", again.output)
        self.assertFalse((self.folder / "pid2").exists())
        os.kill(pid, signal.SIGTERM)
        self.assertTrue(ended(pid))
        log = [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]
        self.assertIn("starting up", log[0]["message"])
        self.assertIn(
            {"service": "agent", "where": f"unix:{self.folder}/s", "how": " (behind the login)"},
            [event.get("fields") for event in log],
        )
        self.assertFalse((self.folder / "pid").exists())


class OtherUserTests(ProcessTestCase):
    """Started by root, it may become somebody else."""

    if os.geteuid() != 0:
        skip = "only root can become somebody else"

    def setUp(self) -> None:
        super().setUp()
        os.chown(self.folder, NOBODY, NOBODY)
        try:
            subprocess.run(
                [sys.executable, "-c", ""], user=NOBODY, group=NOBODY, extra_groups=[], check=True
            )
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("this interpreter is for root alone")

    def test_uid(self) -> None:
        """Keyring, socket and commands are that user's, and a reload works as the start did."""
        server = self.start(
            *("twistd", "-n", "--pidfile=", f"--uid={NOBODY}", "sockproto"),
            *("--listen", UNIX, "--keyring", "k/keyring.toml"),
        )
        server.until("try: ")
        for path in ("k", "k/keyring.toml", "s"):
            self.assertEqual((self.folder / path).stat().st_uid, NOBODY, path)
        where = ("--connect", f"unix:{self.folder}/s", "--keyring", "k/keyring.toml")
        # Now only the client can read it: the server goes on with what it has.
        os.chown(self.folder / "k" / "keyring.toml", 0, 0)
        script = "id -u; grep Groups /proc/self/status; echo $HOME"
        status, output = self.run_client("run", *where, "--", "sh", "-c", script)
        self.assertEqual(status, 0, output)
        uid, groups, home = output.splitlines()
        self.assertEqual(uid, str(NOBODY))
        self.assertNotIn("0", groups.split()[1:])
        self.assertNotEqual(home, str(self.folder))
        server.until("the keyring cannot be read, and the one before stays in force: ")
        os.chown(self.folder / "k" / "keyring.toml", NOBODY, NOBODY)
        server.process.send_signal(signal.SIGHUP)
        server.until("reloaded")
        server.stop()
        self.assertFalse((self.folder / "s").exists())
        self.assertNotIn("Traceback", server.output)

    def test_readable(self) -> None:
        """A keyring that the user cannot read is an error at the start, not at the first reload."""
        create_keyring(self.folder / "k.toml")
        server = self.start(
            *("twistd", "-n", f"--uid={NOBODY}", "sockproto", "--listen", UNIX),
            *("--keyring", "k.toml"),
        )
        self.assertEqual(server.wait(), 1)
        self.assertEqual(len(server.lines), 1, server.output)
        self.assertIn("k.toml: cannot be opened: Permission denied", server.output)

    def test_euid(self) -> None:
        """With --euid commands could become root again: it does not start."""
        server = self.start(
            *("twistd", "-n", "--pidfile=", f"--uid={NOBODY}", "--euid", "sockproto"),
            *("--listen", UNIX, "--keyring", "k.toml"),
        )
        self.assertEqual(server.wait(), 1)
        self.assertIn(f"expected one user, found uid 0 and euid {NOBODY}", server.output)
        self.assertNotIn("Traceback", server.output)


class EndTests(ProcessTestCase):
    """How it ends, with what runs."""

    def setUp(self) -> None:
        super().setUp()
        create_keyring(self.folder / "k.toml")
        self.where = ("--connect", f"unix:{self.folder}/s", "--keyring", "k.toml")

    def serving(self, limits: str = "") -> Started:
        """A server with any command."""
        config = self.configure(f"[limits]\n{limits}\n{LISTEN}{ANY}")
        return self.serve("--config", config, "--keyring", "k.toml")

    def running(self, script: str) -> Started:
        """A client with a command that says ``up`` and its pid."""
        return self.start("sockproto", "run", "--stdin", *self.where, "--", "sh", "-c", script)

    def test_drain(self) -> None:
        """SIGTERM, and more of them: what runs may finish, then it ends with its whole tree."""
        server = self.serving("shutdown_seconds = 30")
        (host,) = children(server.process.pid)
        finishing = self.running("echo up $$; read x; echo $x; exit 3")
        finishing.until("up ")
        server.process.terminate()
        server.until("1 commands are running; they have 30 s")
        for number in (signal.SIGTERM, signal.SIGINT):
            server.process.send_signal(number)
            server.until("stopping already")
            server.output = ""
        self.assertEqual(self.run_client("ping", *self.where)[0], 255)
        assert finishing.process.stdin is not None
        finishing.process.stdin.write(b"last words\n")
        finishing.process.stdin.flush()
        self.assertEqual(finishing.wait(), 3)
        self.assertIn("last words", finishing.output)
        self.assertEqual(server.wait(), -signal.SIGTERM)
        self.assertTrue(ended(host))
        self.assertNotIn("Traceback", server.output)

    def test_late(self) -> None:
        """What does not finish in its grace is ended, whole trees, on SIGINT as on SIGTERM."""
        server = self.serving("shutdown_seconds = 0.1\nkill_seconds = 0.1")
        (host,) = children(server.process.pid)
        script = "trap '' TERM; setsid sh -c 'echo up $$; exec sleep 1000'"
        late = self.running(script)
        sleeping = int(late.until("up "))
        self.assertEqual(server.stop(signal.SIGINT), -signal.SIGINT)
        self.assertTrue(ended(sleeping))
        self.assertTrue(ended(host))
        self.assertIn(late.wait(), (137, 255))
        self.assertNotIn("Traceback", server.output)

    def test_killed(self) -> None:
        """Killed outright it leaves no process behind, and the next one takes its socket over."""
        server = self.serving()
        (host,) = children(server.process.pid)
        command = self.running("setsid sh -c 'echo up $$; exec sleep 1000'")
        sleeping = int(command.until("up "))
        server.kill()
        self.assertTrue(ended(sleeping))
        self.assertTrue(ended(host))
        self.assertEqual(command.wait(), 255)
        self.assertTrue((self.folder / "s").exists())
        self.serving()
        self.assertEqual(self.run_client("ping", *self.where)[0], 0)

    def test_hangup(self) -> None:
        """SIGHUP puts other rules in force, and ends the sessions of a key that is revoked."""
        server = self.serving()
        self.configure("[[command\n")
        server.process.send_signal(signal.SIGHUP)
        server.until("not reloaded, what was before stays in force: ")
        self.configure(f'{LISTEN}[[command]]\nname = "one"\nargv = ["echo"]\nallow = ["owner"]\n')
        server.process.send_signal(signal.SIGHUP)
        server.until("reloaded the keyring")
        status, output = self.run_client("run", *self.where, "--", "sh")
        self.assertEqual((status, output[:20]), (255, "sockproto: unknown: "))
        self.configure(LISTEN + ANY)
        server.output = ""
        server.process.send_signal(signal.SIGHUP)
        server.until("reloaded the keyring")
        command = self.running("echo up $$; exec sleep 1000")
        sleeping = int(command.until("up "))
        revoke_key(self.folder / "k.toml", "owner")
        server.process.send_signal(signal.SIGHUP)
        self.assertEqual(command.wait(), 255)
        self.assertTrue(ended(sleeping))
        self.assertTrue(re.search("revoked", command.output), command.output)


def kill(pid: int) -> None:
    """End a daemon that a test has not."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
