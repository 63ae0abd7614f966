"""Tests for ``sockproto run`` on a group of hosts, as a program and against a real server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli.group import PrefixedLines
from tests.servers import PATIENCE, ServedTestCase, client

# Something that ends on its own before it could keep anybody.
_LONG = ("sh", "-c", "echo $$; exec sleep 50")


class LineTests(SynchronousTestCase):
    """How the output of a host is told apart from others'."""

    def test_lines(self) -> None:
        """Each line begins with the name, however the bytes come; the last needs no end."""
        text = b"one\n\ntwo\nthree"
        for size in range(1, len(text) + 1):
            lines = PrefixedLines("a")
            said = b"".join(lines.add(text[at : at + size]) for at in range(0, len(text), size))
            self.assertEqual(said, b"a: one\na: \na: two\n")
            self.assertEqual((lines.end(), lines.end()), (b"a: three\n", b""))

    def test_bound(self) -> None:
        """A line without an end is told in pieces, and not kept."""
        lines = PrefixedLines("a")
        said = b"".join(lines.add(b"x" * 1000) for _ in range(1000)) + lines.end()
        self.assertEqual(said.replace(b"a: ", b"").replace(b"\n", b""), b"x" * 1_000_000)
        self.assertEqual(said.count(b"\n"), 16)


class GroupTests(ServedTestCase, SynchronousTestCase):
    """A group whose hosts are the same server by several ways, and some that are none."""

    def setUp(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="sp-"))
        self.addCleanup(shutil.rmtree, self.home)
        folder = self.home / "sockproto"
        folder.mkdir()
        (folder / "client.toml").write_text(
            f'[hosts.one]\nconnect = "{self.server.tcp}"\n'
            f'[hosts.two]\nconnect = "{self.server.unix}"\n'
            f'[hosts.three]\nconnect = "{self.server.tls}"\nserver_id = "here"\n'
            f'[hosts.other]\nconnect = "{self.server.unix}"\nserver_id = "elsewhere"\n'
            f'[hosts.guest]\nconnect = "{self.server.unix}"\nidentity = "guest"\n'
            '[hosts.none]\nconnect = "unix:/no/such/socket"\n'
            '[groups]\nall = ["one", "two", "three"]\nsome = ["one", "other", "none", "guest"]\n'
            'pair = ["one", "two"]\n'
        )

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start the client in that home."""
        home = {"XDG_CONFIG_HOME": str(self.home)}
        return client(*argv, server=self.server, environment=home)

    def finish(self, process: subprocess.Popen[bytes]) -> tuple[int, list[str], list[str]]:
        """Its status, and the lines of its output and of its errors, in order."""
        with process:
            try:
                output, errors = process.communicate(timeout=PATIENCE)
            except BaseException:
                process.kill()
                raise
        return (
            process.returncode,
            sorted(output.decode().splitlines()),
            sorted(errors.decode().splitlines()),
        )

    def run_(self, *argv: str) -> tuple[int, list[str], list[str]]:
        return self.finish(self.start("run", *argv))

    def test_everywhere(self) -> None:
        """It runs on each host; their lines, of both streams, have their names in front."""
        outcome = self.run_(
            "--connect", "all", "--", "sh", "-c", "printf 'a\\nb'; echo c >&2; exit 3"
        )
        names = ("one", "three", "two")
        output = [f"{name}: {word}" for name in names for word in "ab"]
        self.assertEqual(outcome, (3, output, [f"{name}: c" for name in names]))

    def test_some(self) -> None:
        """A host where it comes to nothing has a line that says why; the highest status counts."""
        status, output, errors = self.run_("--connect", "some", "--", "echo", "hi")
        self.assertEqual((status, output), (255, ["one: hi"]))
        self.assertEqual(len(errors), 3, errors)
        self.assertTrue(errors[0].startswith("sockproto: guest: unknown: "), errors)
        self.assertTrue(errors[1].startswith("sockproto: none: connect: "), errors)
        self.assertTrue(errors[2].startswith("sockproto: other: login: "), errors)

    def test_timeout(self) -> None:
        """Each host has the time that is given; what was said before is there."""
        command = ("--timeout", "0.3", "--", *_LONG)
        status, output, errors = self.run_("--connect", "pair", *command)
        self.assertEqual((status, len(output)), (255, 2))
        self.assertTrue(all("longer than 0.3 s" in line for line in errors), errors)

    def test_sameHost(self) -> None:
        """A host by its name is as any: nothing stands in front of its lines."""
        self.assertEqual(self.run_("--connect", "one", "--", "echo", "hi"), (0, ["hi"], []))
        self.assertEqual(self.run_("--connect", "two", "--", "echo", "ho"), (0, ["ho"], []))
        status, _, errors = self.run_("--connect", "other", "--", "true")
        self.assertEqual(status, 255)
        self.assertIn("login", errors[0])

    def test_interrupt(self) -> None:
        """Ctrl-C ends the command on every host, and waits until it is gone."""
        process = self.start("run", "--connect", "pair", "--", *_LONG)
        assert process.stdout is not None
        pids = [int(process.stdout.readline().split(b": ")[1]) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(process)[0], 130)
        self.assertEqual([pid for pid in pids if os.path.exists(f"/proc/{pid}")], [])

    def test_nobodyReads(self) -> None:
        """Where nobody reads the output any longer the commands are ended."""
        process = self.start("run", "--connect", "pair", "--", "yes")
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 141)
        process.stderr.close()

    def test_forOne(self) -> None:
        """What is for one host is wrong usage with a group."""
        status, _, errors = self.run_("--connect", "all", "--stdin", "--", "true")
        self.assertEqual((status, len(errors)), (255, 1))
        self.assertIn("--stdin is for one host, and all is a group", errors[0])
        # Which for Nagios is said as everything is.
        status, output, errors = self.run_("--connect", "all", "--nagios", "--", "true")
        self.assertEqual((status, errors), (3, []))
        self.assertIn("UNKNOWN - usage: --nagios is for one host, and all is a group", str(output))
        status, _, errors = self.finish(self.start("ping", "--connect", "all"))
        self.assertNotEqual(status, 0)
        self.assertIn("all is a group of 3 hosts", errors[0])

    def test_wrongConfiguration(self) -> None:
        """A configuration that cannot be used is said to be the reason."""
        (self.home / "sockproto" / "client.toml").write_text("[hosts.a]\nconect = 1\n")
        status, _, errors = self.run_("--connect", "a", "--", "true")
        self.assertEqual(status, 255)
        self.assertIn("sockproto: configuration: ", errors[0])
        self.assertIn("did you mean connect?", errors[0])
