"""Tests of the documents: what they show is run, and what they say is so."""

from __future__ import annotations

import ast
import configparser
import http.client
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from pathlib import Path
from typing import Any, ClassVar

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from sockproto import blocking
from sockproto.errors import AgentError
from sockproto.key import Key, new_key
from sockproto.keyring import _FIELDS as KEY_FIELDS
from sockproto.keyring import Keyring
from sockproto.keyring_edit import add_keys
from sockproto.limits import Limits
from sockproto.server.config import read_configuration
from sockproto.server.registry import SERVICES
from sockproto.server.schema import Configuration, ListenerSettings, LogSettings
from sockproto.server.structure import keys_of
from sockproto.wire.frames import FrameDecoder, encode_frame
from sockproto.wire.handshake import Binding, ClientHandshake
from tests.documents import ROOT, Block, Command, blocks, commands, prose, table
from tests.servers import PATIENCE, ServedTestCase, client_environment

DOCUMENTS = ("README.rst", "docs/running.rst", "docs/embedding.rst", "docs/security.rst")

#: What of the programs that are shown is another in the tests: where they listen and connect.
IN_PROGRAMS = (
    ("tcp:127.0.0.1:7100", "{agent}"),
    ("tcp:7100:interface=127.0.0.1", "unix:{folder}/agent.sock"),
    ("tcp:127.0.0.1:7200", "unix:{folder}/login.sock"),
    ("tcp:7200:interface=127.0.0.1", "unix:{folder}/login.sock"),
    ("reactor.run()", "reactor.callWhenRunning(print, 'it serves', flush=True); reactor.run()"),
)

#: Likewise of commands.  What `make serve` does is taken from the Makefile.
IN_COMMANDS = (
    ("tcp:7100:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"),
    ("tcp:7300:interface=127.0.0.1", "unix:{folder}/web.sock"),
    ("/etc/sockproto", "{folder}/etc"),
    ("--connect web1", "--connect {agent} --server-id web1"),
)

#: And of the configuration that docs/running.rst begins with.
IN_CONFIGURATION = (('"tcp:7100" ', '"tcp:0:interface=127.0.0.1"\ntls = "auto"'),)

#: The programs that commands name, as the tests have them.
PROGRAMS = {
    "sockproto": 'exec {python} -m sockproto "$@"',
    "twistd": (
        "exec {python} -c 'import ctypes; ctypes.CDLL(None).prctl(1, 15);"
        'from twisted.scripts.twistd import run; run()\' "$@"'
    ),
    # Another machine is another home.
    "ssh": 'shift; HOME={folder}/there exec "$@"',
    "systemctl": "[ \"$*\" = 'reload sockproto' ] && kill -HUP {server}",
}


def replaced(text: str, substitutions: tuple[tuple[str, str], ...], **values: object) -> str:
    """A text as the tests have it."""
    for shown, meant in substitutions:
        if shown in text:
            text = text.replace(shown, meant.format(**values))
    return text


class Machine:
    """A home, a current folder, and the programs of a document.

    :param agent: where the agent is.
    """

    def __init__(self, agent: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sp-"))
        self.agent = agent
        self.keyring = self.folder / ".config" / "sockproto" / "keyring.toml"
        self._servers: list[subprocess.Popen[str]] = []
        self._bin = self.folder / ".venv" / "bin"
        self._bin.mkdir(parents=True)
        self.provide()

    def provide(self, server: int = 0) -> None:
        """Make the programs; the server's pid is for `systemctl`."""
        for name, script in PROGRAMS.items():
            text = script.format(python=sys.executable, folder=self.folder, server=server)
            (self._bin / name).write_text(f"#!/bin/sh\n{text}\n")
            (self._bin / name).chmod(0o755)

    def start(self, words: list[str], **environment: str) -> subprocess.Popen[str]:
        """Start a program; both its streams are one pipe."""
        path = f"{self._bin}:{os.environ['PATH']}"
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env=client_environment(HOME=str(self.folder), PATH=path, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def serve(self, words: list[str], until: str) -> str:
        """Start a server; all it says until a line matches."""
        server = self.start(words)
        self._servers.append(server)
        said = self.hear(until)
        self.provide(server.pid)
        return said

    def hear(self, until: str) -> str:
        """Wait until the latest server says a line that matches; all it says up to there."""
        server = self._servers[-1]
        assert server.stdout is not None
        said = ""
        # One that says nothing more is ended, and with it the wait.
        watchdog = threading.Timer(PATIENCE, server.kill)
        watchdog.start()
        try:
            for line in server.stdout:
                said += line
                if re.search(until, line):
                    return said
        finally:
            watchdog.cancel()
        raise AssertionError(f"it did not say {until!r}, but:\n{said}")

    def run(self, test: SynchronousTestCase, command: Command) -> None:
        """Run a command, and compare what it prints, in whatever order, with what is shown."""
        line = replaced(command.line, IN_COMMANDS, folder=self.folder, agent=self.agent)
        variables = {"SOCKPROTO_CONNECT": self.agent} if self.agent.startswith("tcp") else {}
        ran = self.start(["sh", "-c", line], **variables)
        output = ran.communicate(timeout=PATIENCE)[0].splitlines()
        where = f"{command.place}: {line}: {output}"
        fails = any(each.startswith("sockproto: ") for each in command.output)
        test.assertEqual(ran.returncode != 0, fails, where)
        if command.output:
            test.assertEqual(sorted(output), sorted(command.output), where)

    def remove(self) -> None:
        """End its servers, and remove it."""
        for server in self._servers:
            server.terminate()
        for server in self._servers:
            server.communicate(timeout=PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)


class MachineCase(SynchronousTestCase):
    """Tests that need a machine."""

    def machine(self, agent: str = "") -> Machine:
        """A machine, until the end of the test."""
        machine = Machine(agent)
        self.addCleanup(machine.remove)
        return machine


def logIn(path: Path, key: Key, service: str) -> socket.socket:
    """Log in to what listens on a Unix socket."""
    assert key.secret is not None
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while True:
        # Twisted logs that it listens before it does.
        try:
            stream.connect(str(path))
            break
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    frames = FrameDecoder(1024)

    def receive() -> bytes:
        while (frame := frames.next_frame()) is None:
            frames.feed(stream.recv(4096))
        return frame

    login = ClientHandshake(key.id, key.secret, service, None, "tester", Binding.NONE)
    stream.sendall(encode_frame(login.receive_hello(receive(), b"")))
    login.receive_reply(receive())
    return stream


class ProgramTests(ServedTestCase, MachineCase):
    """The Python programs that are shown."""

    def runAll(self, document: str) -> Machine:
        """Run the programs of a document: the servers first, then the others all at once."""
        machine = self.machine(self.server.tcp)
        machine.keyring.parent.mkdir(parents=True)
        shutil.copy(self.server.keyring, machine.keyring)
        add_keys(machine.folder / "keyring.toml", [new_key("owner", groups=["staff"])])
        started = []
        shown = blocks(document)
        for number, block in enumerate(shown):
            if block.language != "python":
                continue
            values = {"folder": machine.folder, "agent": machine.agent}
            program = replaced(block.text, IN_PROGRAMS, **values)
            words = [sys.executable, "-c", program]
            if "TestCase" in program:
                (machine.folder / "test_shown.py").write_text(program)
                words = [sys.executable, "-m", "twisted.trial", "test_shown"]
            if "it serves" in program:
                machine.serve(words, "it serves")
            else:
                following = shown[number + 1] if number + 1 < len(shown) else block
                expected = following.text if following.language == "text" else None
                started.append((block, expected, machine.start(words)))
        for block, expected, process in started:
            output = process.communicate(timeout=PATIENCE)[0]
            self.assertEqual(process.returncode, 0, f"{block.place}: {output}")
            if expected is not None:
                self.assertEqual(output, expected, block.place)
        return machine

    def test_readme(self) -> None:
        """Those of README.rst run, and the echo is behind the login."""
        machine = self.runAll("README.rst")
        key = Keyring.load(machine.folder / "keyring.toml")["owner"]
        with logIn(machine.folder / "login.sock", key, "echo") as stream:
            stream.sendall(b"hello")
            self.assertEqual(stream.recv(5, socket.MSG_WAITALL), b"hello")

    def test_embedding(self) -> None:
        """Those of docs/embedding.rst run and print what is shown, and the agent is one."""
        machine = self.runAll("docs/embedding.rst")
        keyring = machine.folder / "keyring.toml"
        with blocking.connect(f"unix:{machine.folder}/agent.sock", keyring) as session:
            self.assertEqual(session.run(["here"]).stdout, b"hello\n")
            self.assertRaises(AgentError, session.run, ["uname"])

    def test_endpointPrefix(self) -> None:
        """The prefix ``hmac:`` puts a program of Twisted's own behind the login."""
        machine = self.machine()
        (shown,) = blocks("docs/embedding.rst", "console")
        (command,) = commands(shown)
        key = new_key("owner")
        add_keys(machine.folder / "keyring.toml", [key])
        (machine.folder / "page").write_text("behind the login")
        line = replaced(command.line, IN_COMMANDS, folder=machine.folder)
        machine.serve(["sh", "-c", f"exec {line}"], "[Ss]tarting factory|Site starting")
        connection = http.client.HTTPConnection("localhost")
        connection.sock = logIn(machine.folder / "web.sock", key, "files")
        connection.request("GET", "/page")
        response = connection.getresponse()
        self.assertEqual((response.status, response.read()), (200, b"behind the login"))
        connection.close()


class CommandTests(MachineCase):
    """The commands that are shown."""

    def test_readme(self) -> None:
        """Those of README.rst do what they say, against what ``make serve`` starts."""
        first, *others = blocks("README.rst", "console")
        self.assertEqual(commands(first), [Command(first.place, "make serve", [])])
        machine = self.machine()
        said = machine.serve(["sh", "-c", serveCommand()], "try: ")
        self.assertIn(f"keyring {machine.keyring}: made, with one key, owner", said)
        port = re.search(r"agent listens on tcp 127\.0\.0\.1:(\d+)", said)
        assert port is not None
        machine.agent = f"tcp:127.0.0.1:{port[1]}"
        for block in others:
            for command in commands(block):
                machine.run(self, command)

    def test_running(self) -> None:
        """Those of docs/running.rst do, one after the other."""
        machine = self.machine()
        (machine.folder / "etc").mkdir()
        configuration = blocks("docs/running.rst", "toml")[0].text
        path = machine.folder / "etc" / "server.toml"
        path.write_text(replaced(configuration, IN_CONFIGURATION))
        path.chmod(0o644)
        for block in blocks("docs/running.rst", "console"):
            for command in commands(block):
                if command.line.startswith("twistd"):
                    line = replaced(command.line, IN_COMMANDS, folder=machine.folder)
                    said = machine.serve(["sh", "-c", f"exec {line}"], "try: ")
                    port = re.search(r"agent listens on tcp (\S+) \(behind the login, TLS\)", said)
                    assert port is not None, said
                    machine.agent = port[1]
                else:
                    machine.run(self, command)
                if command.line.startswith("systemctl"):
                    machine.hear("reloaded the keyring and the configuration")

    def test_unit(self) -> None:
        """The systemd unit starts the server with options that it has."""
        from twisted.scripts._twistd_unix import ServerOptions

        (block,) = blocks("docs/running.rst", "ini")
        unit = configparser.ConfigParser(interpolation=None)
        unit.read_string(block.text)
        program, *words = shlex.split(unit["Service"]["ExecStart"])
        self.assertEqual(os.path.basename(program), "twistd")
        options = ServerOptions()
        options.parseOptions(words)
        self.assertEqual((options["nodaemon"], options.subCommand), (1, "sockproto"))
        self.assertEqual(options.subOptions["config"], "/etc/sockproto/server.toml")
        self.assertEqual(options.subOptions["keyring"], "/etc/sockproto/keyring.toml")
        limits = Limits()
        stopping = limits.shutdown_seconds + 2 * (limits.kill_seconds + limits.close_seconds)
        self.assertLess(stopping + limits.close_seconds, float(unit["Service"]["TimeoutStopSec"]))

    def test_languages(self) -> None:
        """Every block is of a language whose blocks are run or read here."""
        for document in DOCUMENTS:
            for block in blocks(document):
                if block.language == "literal":
                    self.assertRegex(block.text, r"^sockproto: [a-z]+: .+\n$", block.place)
                else:
                    self.assertIn(
                        block.language, ("python", "console", "text", "toml", "ini"), block.place
                    )


def serveCommand() -> str:
    """What ``make serve`` runs after the set-up, on any port."""
    make = shutil.which("make")
    if make is None:
        raise SkipTest("there is no make")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    planned = subprocess.run(
        [make, "--no-print-directory", "-n", "serve"],
        cwd=ROOT, env={**environment, "MAKEFLAGS": ""},
        check=True, capture_output=True, text=True, timeout=PATIENCE,
    ).stdout  # fmt: skip
    set_up, serve = planned.splitlines()
    assert set_up.endswith("tools/set-up"), planned
    return replaced(serve, IN_COMMANDS)


class ConfigurationTests(SynchronousTestCase):
    """The TOML that docs/running.rst shows."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.shown = blocks("docs/running.rst", "toml")

    def read(self, block: Block) -> Configuration | Keyring:
        """Read a block as what it is."""
        path = self.folder / "file.toml"
        path.write_text(block.text)
        path.chmod(0o600)
        return Keyring.load(path) if "[[key]]" in block.text else read_configuration(path)

    def test_read(self) -> None:
        """The real readers take every block."""
        self.assertGreater(len(self.shown), 6)
        for block in self.shown:
            self.read(block)

    def test_limits(self) -> None:
        """The limits are shown with their defaults, all but those that are none."""
        (block,) = (each for each in self.shown if each.text.startswith("[limits]"))
        configuration = self.read(block)
        assert isinstance(configuration, Configuration)
        self.assertEqual(configuration.limits, Limits())
        named = set(tomllib.loads(block.text)["limits"])
        missing = keys_of(Limits).keys() - named
        self.assertEqual({getattr(Limits(), name) for name in missing}, {None})
        for name in missing:
            self.assertIn(f"``{name}``", prose("docs/running.rst"))

    def test_log(self) -> None:
        """And so is the log's table."""
        (block,) = (each for each in self.shown if each.text.startswith("[log]"))
        configuration = self.read(block)
        assert isinstance(configuration, Configuration)
        self.assertEqual(configuration.log, LogSettings())
        self.assertEqual(set(tomllib.loads(block.text)["log"]), set(keys_of(LogSettings)))

    def test_everyKey(self) -> None:
        """Every key of the configuration and of the keyring is there; those of rules are in
        docs/commands.rst."""
        text = (ROOT / "docs" / "running.rst").read_text()
        tables: list[tuple[str, Any]] = [
            ("the top", keys_of(Configuration)),
            ("[[listen]]", keys_of(ListenerSettings)),
            ("[[key]]", KEY_FIELDS),
        ]
        for where, keys in tables:
            for key in keys:
                pattern = rf"^ +(# )?{key} = |\[+(command\.)?{key}\b|``{key}``"
                self.assertTrue(re.search(pattern, text, re.MULTILINE), f"{where}: {key}")

    def test_services(self) -> None:
        """The services, what they are served over and where by default are those of the program."""
        services = [one for one in SERVICES.values() if not one.name.startswith("tutorial-")]
        rows = table("docs/running.rst", "service  ")
        self.assertEqual([row[0].strip("`") for row in rows], [one.name for one in services])
        for (_, over, _, defaults), service in zip(rows, services, strict=True):
            kinds = [("stream", service.stream), ("udp", service.datagram)]
            self.assertEqual(over.split(", "), [kind for kind, served in kinds if served])
            shown = [f"{each.strip('`')}:interface=127.0.0.1" for each in defaults.split()]
            self.assertEqual(shown, list(service.defaults))
            if service.settings is not None:
                for key in keys_of(service.settings):
                    self.assertIn(f"``{key}`` (", prose("docs/running.rst"))

    def test_requiredKeys(self) -> None:
        """What is said to be required is what cannot be left out."""
        text = (ROOT / "docs" / "running.rst").read_text()
        said = set(re.findall(r"^ +(\w+) = .*#.*\brequired", text, re.MULTILINE))
        self.assertEqual(said, {"service", "endpoint", "id"})

    def test_codes(self) -> None:
        """Every code that an agent can answer a request with is in the table."""
        said = {row[0].strip("`") for row in table("docs/running.rst", "CODE")}
        self.assertLessEqual(
            {row[0].strip("`") for row in table("docs/protocol.rst", "code")}, said
        )


#: What docs/security.rst says is protected, and the tests that show it.
CLAIMS: dict[str, tuple[str, ...]] = {
    "A client proves that it holds": (
        "test_auth_server.LoginTests.test_login",
        "test_auth_server.RefusalTests.test_truncated",
        "test_auth_client.LoginTests.test_bothWays",
        "test_auth_client.RefusalTests.test_wrongTag",
        "test_auth_client.RefusalTests.test_mutatedOk",
    ),
    "The secret itself is not sent": ("test_protocol_document.LoginTests.test_secretIsNotSent",),
    "Both proofs cover the whole conversation": (
        "test_handshake.MutationTests.test_hello",
        "test_handshake.MutationTests.test_auth",
        "test_handshake.MutationTests.test_ok",
        "test_handshake.ReflectionTests.test_ownMessages",
        "test_handshake.LoginTests.test_otherService",
        "test_handshake.HostileWireTests.test_noAcceptanceWithoutAPeer",
    ),
    "A refused login looks the same": (
        "test_auth_server.RefusalTests.test_allTheSame",
        "test_handshake.OracleTests.test_sameWork",
    ),
    "No number of failures locks a key": (
        "test_admission.PenaltyTests.test_others",
        "test_admission.KnownTests.test_floodOfStrangers",
    ),
    "There is no certificate to manage": (
        "test_tls.ContextTests.test_automatic",
        "test_tls.ContextTests.test_bindings",
        "test_tls.BoundLoginTests.test_login",
    ),
    "A machine in the middle has two sessions": ("test_tls.BoundLoginTests.test_inTheMiddle",),
    "Nor can it take the client to a listener without TLS": (
        "test_tls.BoundLoginTests.test_toPlaintext",
        "test_tls.BoundLoginTests.test_toPlaintextWithForgedHello",
    ),
    "A listener that logs in, and that other machines can reach": (
        "test_config.ListenerTests.test_open",
        "test_config.ListenerTests.test_isLocalEndpoint",
    ),
    "Without a configuration file the agent listens": (
        "test_config.LoadTests.test_default",
        "test_config.LoadTests.test_openWithoutFile",
        "test_rules.DecideTests.test_owner",
    ),
    "With a configuration file nothing is allowed": (
        "test_config.ReadingTests.test_empty",
        "test_config.LoadTests.test_both",
        "test_rules.DecideTests.test_nothing",
        "test_rules.DecideTests.test_onlyWhatARuleAllows",
    ),
    "No shell sees a client's words": (
        "test_processes.OutcomeTests.test_bytes",
        "test_rules.BindTests.test_hostileWhereAllowed",
        "test_rules.BindTests.test_anyBytes",
    ),
    "A configuration that others could have written": ("test_config.LoadTests.test_writable",),
    "When a command's time is up": (
        "test_session_real.RealCommandsTests.test_timeoutEndsTree",
        "test_session_real.RealCommandsTests.test_cancelEndsTree",
        "test_session_real.RealCommandsTests.test_disconnectEndsTree",
        "test_command_service.CommandServiceTests.test_disconnect",
        "test_running.RunningCommandTests.test_overTheLimit",
        "test_processes.EndTests.test_escapes",
        "test_processes.LifeTests.test_serverDies",
        "test_twistd.EndTests.test_late",
        "test_twistd.EndTests.test_killed",
    ),
    "What a command leaves behind": (
        "test_processes.EndTests.test_leftBehind",
        "test_session_real.RealCommandsTests.test_background",
    ),
    "A frame that is too long": ("test_frames.LimitTests.test_refusedAtTheHeader",),
    "A peer that does not read": (
        "test_session_real.MemoryTests.test_stalledReaders",
        "test_session_real.RealCommandsTests.test_manyAtOnce",
        "test_session.SessionTests.test_inputNotRead",
        "test_session.SessionTests.test_flood",
    ),
    "Of connections that have not logged in": (
        "test_admission.StrangerTests.test_perSource",
        "test_admission.StrangerTests.test_earlyDrop",
    ),
    "After three failures a source waits": ("test_admission.PenaltyTests.test_growth",),
    "Sources that logged in within the hour": (
        "test_admission.KnownTests.test_sixteenfold",
        "test_admission.KnownTests.test_noPenalty",
        "test_admission.KnownTests.test_anHour",
        "test_admission.KnownTests.test_trusted",
        "test_admission.LocalTests.test_shared",
    ),
    "A flood of bad logins": ("test_auth_server.LogTests.test_throttled",),
    "A keyring is refused unless": (
        "test_keyring.FileCheckTests.test_mode",
        "test_keyring.FileCheckTests.test_link",
        "test_keyring.FileCheckTests.test_owner",
        "test_keyring.FileCheckTests.test_rootsOwn",
        "test_keyring.FileCheckTests.test_secretFileChecks",
    ),
    "Neither messages nor the log": (
        "test_auth_server.LogTests.test_noSecrets",
        "test_auth_client.SecretTests.test_noSecrets",
        "test_handshake.MisuseTests.test_nothingSecretShown",
        "test_keyring.KeyTests.test_repr",
        "test_config.WrongTests.test_noSecrets",
    ),
    "Connections of a key that was revoked": (
        "test_auth_server.DropTests.test_reasons",
        "test_auth_server.DropTests.test_expiry",
        "test_server_service.ReloadTests.test_sessions",
        "test_twistd.EndTests.test_hangup",
    ),
    "The secret that is derived for one host": (
        "test_keyring.DerivationTests.test_distinct",
        "test_keyring.DerivationTests.test_boundary",
    ),
}


class ClaimTests(SynchronousTestCase):
    """docs/security.rst."""

    def test_everyClaim(self) -> None:
        """What it says is protected is a claim with tests, and these exist."""
        text = (ROOT / "docs" / "security.rst").read_text()
        protected = text[text.index("What is protected") : text.index("What is not protected")]
        said = [" ".join(item.split()) for item in re.split(r"\n- ", protected)[1:]]
        self.assertEqual(len(said), len(CLAIMS))
        for item, claim in zip(said, CLAIMS, strict=True):
            self.assertTrue(item.startswith(claim), item)
        for tests in CLAIMS.values():
            for test in tests:
                self.assertTrue(callable(namedAny(f"tests.{test}")), test)


class MinimalClientTests(ServedTestCase, SynchronousTestCase):
    """examples/minimal_client.py, against the real server."""

    path: ClassVar[Path] = ROOT / "examples" / "minimal_client.py"

    def run_client(self, *argv: str, keyring: str | None = None) -> tuple[int, bytes, bytes]:
        """Run it; its exit status and both its streams."""
        port = self.server.tcp.rpartition(":")[2]
        ran = subprocess.run(
            [sys.executable, "-I", self.path, port, keyring or self.server.keyring, *argv],
            check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE,
        )  # fmt: skip
        return ran.returncode, ran.stdout, ran.stderr

    def test_plain(self) -> None:
        """It is short, and imports nothing but the standard library."""
        text = self.path.read_text()
        self.assertLess(len(text.splitlines()), 80)
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        self.assertLessEqual(imported, sys.stdlib_module_names)
        self.assertNotIn("from ", text.partition('"""\n')[2].partition("\nport")[0])

    def test_ends(self) -> None:
        """Both streams stay apart, and the exit status is the command's."""
        ran = self.run_client("sh", "-c", "echo out; echo err >&2; exit 3")
        self.assertEqual(ran, (3, b"out\n", b"err\n"))
        self.assertEqual(self.run_client("true"), (0, b"", b""))
        self.assertEqual(self.run_client("sh", "-c", "kill -KILL $$")[0], 255)

    def test_bigOutput(self) -> None:
        """Any amount of output comes through, since it grants credit as it reads."""
        status, out, err = self.run_client(
            "sh", "-c", "head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2"
        )
        self.assertEqual((status, len(out), len(err)), (0, 3000000, 300000))

    def test_refused(self) -> None:
        """A login that the server refuses, and a command that is not there, say so."""
        folder = Path(self.mktemp())
        other = folder / "keyring.toml"
        add_keys(other, [new_key("owner")])
        status, out, err = self.run_client("true", keyring=str(other))
        self.assertEqual((status, out), (1, b""))
        found = re.fullmatch(rb"the login was refused, ref ([0-9a-f]{8})\n", err)
        assert found is not None, err
        self.server.wait_for_log(f"wrong tag .*ref {found[1].decode()}")
        status, out, err = self.run_client("no-such-program")
        self.assertEqual((status, out), (1, b""))
        self.assertIn(b'"code":"not-found"', err)
