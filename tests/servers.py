"""A real server for tests: ``twistd -n sockproto`` in a process of its own, and its client program.

The server has its own home, and ends with the tests' process whatever becomes of that.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sockproto.key import new_key
from sockproto.keyring_edit import add_keys, create_keyring

__all__ = ["AgentServer", "ServedTestCase", "client", "client_environment", "ended"]

ROOT = str(Path(__file__).resolve().parent.parent)

#: What anything here may take before it counts as failed; no test waits for it to pass.
PATIENCE = 60.0

# PR_SET_PDEATHSIG is 1, SIGTERM 15: the kernel ends the server when the tests' process is gone.
_TWISTD = (
    "import ctypes; ctypes.CDLL(None).prctl(1, 15);from twisted.scripts.twistd import run; run()"
)

_CONFIGURATION = """\
server_id = "here"

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
argv = "any"
allow = ["owner"]
stdin = "stream"
tty = true
pass_env = ["*"]

[[command]]
name = "some"
argv = ["yes"]
allow = ["owner", "guest"]
max_output = 100000
"""


class AgentServer:
    """A server that listens on TCP, on a Unix socket and on TCP under TLS.

    :param configuration: other than the usual; ``{folder}`` is the server's own.
    :ivar folder: a folder of its own, its home.
    :ivar keyring: the path of the keyring, with a key ``owner``, and one ``guest`` whom the usual
        configuration allows nothing but the command ``some``.
    :ivar tcp: where to connect, as the client's WHERE.
    :ivar unix: the same, for the Unix socket.
    :ivar tls: the same, for TLS.
    """

    def __init__(self, configuration: str = _CONFIGURATION) -> None:
        self.folder = tempfile.mkdtemp(prefix="sp-")
        self.keyring = os.path.join(self.folder, "keyring.toml")
        self.log = ""
        try:
            create_keyring(self.keyring)
            add_keys(self.keyring, [new_key("guest")])
            config = Path(self.folder, "server.toml")
            config.write_text(configuration.replace("{folder}", self.folder))
            self._process = self._start(str(config))
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        try:
            self._read_until("agent listens on .*TLS")
        except BaseException:
            self.stop()
            raise
        ports = re.findall(r"agent listens on tcp 127\.0\.0\.1:(\d+)(.*)", self.log)
        self.tcp = next(f"tcp:127.0.0.1:{port}" for port, how in ports if "TLS" not in how)
        self.tls = next(f"127.0.0.1:{port}" for port, how in ports if "TLS" in how)
        self.unix = f"unix:{self.folder}/agent.sock"

    def _start(self, config: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _TWISTD, "-n", "--pidfile=", "sockproto"),
                *("--config", config, "--keyring", self.keyring),
            ],
            cwd=self.folder,
            env=client_environment(HOME=self.folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        # What nobody reads must not stop the server: room for thousands of lines.
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 2**20)
        os.set_blocking(process.stdout.fileno(), False)
        return process

    @property
    def pid(self) -> int:
        """Of the server."""
        return self._process.pid

    def _read_until(self, pattern: str) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.log):
            select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = stdout.read()
            if not data:
                raise AssertionError(f"the server did not say {pattern!r}, but:\n{self.log}")
            self.log += data.decode("utf-8", "replace")

    def wait_for_log(self, pattern: str) -> str:
        """Wait until the log has a line; return the log so far."""
        self._read_until(pattern)
        return self.log

    def connection(self, where: str | None = None) -> dict[str, Any]:
        """The arguments of ``connect`` for this server."""
        return {"where": where or self.tcp, "key": self.keyring, "timeout": PATIENCE}

    def send_signal(self, number: int) -> None:
        """Send the server a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the server: it has no time to say anything."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """End the server, and remove its folder."""
        assert self._process.stdout is not None
        with self._process.stdout:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE / 2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)


class ServedTestCase:
    """To be mixed into a TestCase: one server for all the tests of the class.

    It starts with the first of them, and ends when another class begins or the process ends: trial
    knows no ``setUpClass``.

    :ivar server: the server.
    :ivar rules: what its configuration has behind the usual.
    """

    rules = ""

    @property
    def server(self) -> AgentServer:
        """The server of this class."""
        owner, server = _shared.get(None, (None, None))
        if owner is not type(self) or server is None:
            _stop_shared()
            server = AgentServer(_CONFIGURATION + self.rules)
            _shared[None] = (type(self), server)
        return server


_shared: dict[None, tuple[type, AgentServer]] = {}


@atexit.register
def _stop_shared() -> None:
    for _, server in _shared.values():
        server.stop()
    _shared.clear()


def client_environment(**more: str) -> dict[str, str]:
    """The environment of a process that is to find this checkout, and nothing of its user's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SOCKPROTO_", "XDG_", "PYTHON"))
    }
    return {**kept, "PYTHONPATH": ROOT, **more}


def client(
    *argv: str,
    server: AgentServer | None = None,
    where: str | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start the client program.

    :param argv: its command line.
    :param server: the server that its environment names.
    :param where: which of its listeners; TCP unless given.
    :param options: for ``Popen``; all three streams are pipes or nothing unless given.
    """
    variables = client_environment(**(environment or {}))
    if server is not None:
        variables["SOCKPROTO_CONNECT"] = where or server.tcp
        variables["SOCKPROTO_KEYRING"] = server.keyring
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-m", "sockproto", *argv], env=variables, **options)


def ended(pid: int) -> bool:
    """Wait until a process of somebody else's is gone; whether it is."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], PATIENCE)[0])
    finally:
        os.close(descriptor)
