"""Tests of docs/from-tutorials.rst and its Chinese form: all that they show is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from sockproto.limits import Limits
from sockproto.server.config import read_configuration
from sockproto.server.endpoint import Endpoint
from sockproto.server.registry import SERVICES
from sockproto.server.structure import keys_of
from sockproto.services.tutorial.settings import DIALECTS, TutorialSettings
from tests.documents import ROOT, Block, blocks, commands, prose, table
from tests.servers import PATIENCE
from tests.test_documents import Machine, MachineCase

ENGLISH = "docs/from-tutorials.rst"
CHINESE = "docs/from-tutorials.zh.rst"
EXAMPLE = Path("sockproto", "examples", "tutorials.toml")

#: What `make` is asked for, in the order of the page.
TUTORIALS, SERVE = ["tutorials"], ["serve", "SERVE="]

#: The commands that ask a service at its own port, and which one that is.
ASKING = {
    "sockproto echo --udp": ("udp", 7007),
    "sockproto echo": ("tcp", 7007),
    "sockproto time --protocol daytime": ("tcp", 7013),
    "sockproto time": ("udp", 7113),
}

#: What the tutorials' server has to say of the clients that get no answer.
LOGGED = (
    r"tutorial-message-int32: \S+ hello",
    r"tutorial-message-int32: \S+ 你好",
    r"tutorial-message-int32: \S+ bye",
    r"tutorial-message-ready: \S+ recorded 记录",
    r"stored hello\.txt, 11000 bytes",
    r"speaks HTTP",
)

Ports = dict[tuple[str, int], int]


def usual_ports() -> dict[tuple[str, str], int]:
    """The ports that the page speaks of, by service and by ``tcp`` or ``udp``."""
    listeners = [
        (service.name, endpoint) for service in SERVICES.values() for endpoint in service.defaults
    ]
    example = tomllib.loads((ROOT / EXAMPLE).read_text(encoding="utf-8"))
    listeners += [(one["service"], one["endpoint"]) for one in example["listen"]]
    parsed = [(service, Endpoint.parse(endpoint)) for service, endpoint in listeners]
    return {(service, each.kind): int(each.arguments["port"]) for service, each in parsed}


def planned(*goals: str) -> list[str]:
    """What ``make`` would run, the set-up left out."""
    make = shutil.which("make")
    if make is None:
        raise SkipTest("there is no make")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    lines = subprocess.run(
        [make, "--no-print-directory", "-n", *goals],
        cwd=ROOT, env={**environment, "MAKEFLAGS": ""},
        check=True, capture_output=True, text=True, timeout=PATIENCE,
    ).stdout.splitlines()  # fmt: skip
    assert lines[0].endswith("tools/set-up"), lines
    return lines[1:]


class ShownTests(MachineCase):
    """The programs and the commands."""

    def test_all(self) -> None:
        """Each does what the page shows, against what it has one start."""
        machine = self.machine()
        ports = {**self.serve(machine), **self.serveTutorials(machine)}
        machine.agent = f"tcp:127.0.0.1:{ports['tcp', 7100]}"
        started = []
        for block, expected in self.programs():
            process = machine.start([sys.executable, "-c", placed(block, ports)])
            started.append((block, expected, process))
            if "file_name" in block.text and "sendall" in block.text:
                # What comes next may ask for the file.
                process.wait(PATIENCE)
                self.hear(machine, r"stored hello\.txt")
        for block in blocks(ENGLISH, "console")[2:]:
            for command in commands(block):
                line = re.sub("|".join(ASKING), lambda match: asked(match[0], ports), command.line)
                machine.run(self, evolve(command, line=line))
        for block, expected, process in started:
            output = process.communicate(timeout=PATIENCE)[0]
            self.assertEqual(process.returncode, 0, f"{block.place}: {output}")
            self.assertRegex(output, expected, block.place)
        for line in LOGGED:
            self.hear(machine, line)

    def programs(self) -> list[tuple[Block, str]]:
        """The programs of the page, and a pattern of what each prints."""
        shown = blocks(ENGLISH)
        found = []
        for block, following in zip(shown, [*shown[1:], shown[0]], strict=True):
            if block.language == "python":
                printed = re.escape(following.text) if following.language == "text" else ""
                if "%Y" in block.text:
                    printed = r"\d{4}年\d\d月\d\d日\n\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n"
                found.append((block, rf"\A{printed}\Z"))
        return found

    def serve(self, machine: Machine) -> Ports:
        """Start what the second command of the page starts, but on any ports."""
        self.assertEqual(goals(1), SERVE)
        (command,) = planned(*SERVE)
        words = ["sh", "-c", f'{command} "$@"', "sh"]
        self.assertTrue(command.rstrip().endswith("sockproto"), command)
        for (service, kind), port in usual_ports().items():
            if service not in DIALECTS:
                endpoint = f"{service}={kind}:{port}:interface=127.0.0.1"
                words += ["--listen", endpoint.replace(f":{port}:", ":0:")]
        return real_ports(machine.serve(words, "try: "))

    def serveTutorials(self, machine: Machine) -> Ports:
        """Likewise the first."""
        self.assertEqual(goals(0), TUTORIALS)
        text = (ROOT / EXAMPLE).read_text(encoding="utf-8")
        there = machine.folder / EXAMPLE
        there.parent.mkdir(parents=True)
        there.write_text(re.sub(r'"tcp:\d+:', '"tcp:0:', text), encoding="utf-8")
        last = re.findall(r"^service = \"(.+)\"", text, re.MULTILINE)[-1]
        script = "\n".join(planned(*TUTORIALS))
        self.log = machine.serve(["sh", "-c", script], f"{last} listens on")
        return real_ports(self.log)

    def hear(self, machine: Machine, pattern: str) -> None:
        """Wait until the tutorials' server has said something, unless it has already."""
        if not re.search(pattern, self.log):
            self.log += machine.hear(pattern)


def goals(number: int) -> list[str]:
    """What a command of the page gives to ``make``."""
    (command,) = commands(blocks(ENGLISH, "console")[number])
    make, *words = command.line.split()
    assert make == "make", command
    return words


def real_ports(log: str) -> Ports:
    """The ports that a server has got for those that the page speaks of."""
    usual = usual_ports()
    found = re.findall(r"(\S+) listens on (tcp|udp) 127\.0\.0\.1:(\d+)", log)
    return {(kind, usual[service, kind]): int(port) for service, kind, port in found}


def placed(block: Block, ports: Ports) -> str:
    """A program with the real ports."""
    kind = "udp" if "SOCK_DGRAM" in block.text else "tcp"
    return re.sub(
        r'(127\.0\.0\.1(?::|", ))([1-9]\d*)',
        lambda match: f"{match[1]}{ports[kind, int(match[2])]}",
        block.text,
    )


def asked(words: str, ports: Ports) -> str:
    """The first words of a command that asks a service, with its real port."""
    return f"{words} --to 127.0.0.1:{ports[ASKING[words]]}"


class PageTests(SynchronousTestCase):
    """What the two pages say, in two languages."""

    def test_sameBlocks(self) -> None:
        """The same is shown in both, byte by byte and in the same order."""
        english, chinese = (
            [(block.language, block.text) for block in blocks(page)] for page in (ENGLISH, CHINESE)
        )
        self.assertEqual(english, chinese)
        self.assertGreater(len(english), 40)
        self.assertLessEqual(
            {language for language, _ in english}, {"python", "console", "text", "toml"}
        )

    def test_sameSections(self) -> None:
        """Both have as many sections, with as many points in each."""
        english, chinese = (
            (ROOT / page).read_text(encoding="utf-8") for page in (ENGLISH, CHINESE)
        )
        for mark in (r"^=+$", r"^- ", r"<\S+\.rst>`_"):
            ours, theirs = (
                len(re.findall(mark, text, re.MULTILINE)) for text in (english, chinese)
            )
            self.assertEqual(ours, theirs, mark)

    def test_services(self) -> None:
        """Both name all dialects, with the ports of tutorials.toml."""
        usual = usual_ports()
        served = {(name, str(port)) for (name, _), port in usual.items() if name in DIALECTS}
        self.assertEqual({name for name, _ in served}, set(DIALECTS))
        for page in (ENGLISH, CHINESE):
            rows = table(page, "service ")
            self.assertEqual({(row[0].strip("`"), row[1]) for row in rows}, served, page)

    def test_sysctls(self) -> None:
        """Both speak of the same sysctls."""
        english, chinese = (
            [row[0] for row in table(page, "``net.ipv4")] for page in (ENGLISH, CHINESE)
        )
        self.assertEqual(english, chinese)
        self.assertEqual(len(english), 5)

    def test_configurations(self) -> None:
        """The server takes the configurations, and the limits are the usual ones."""
        shown = blocks(ENGLISH, "toml")
        self.assertEqual(len(shown), 3)
        for block in shown:
            path = Path(self.mktemp())
            path.write_text(block.text)
            path.chmod(0o600)
            self.assertEqual(read_configuration(path).limits, Limits(), block.place)

    def test_settings(self) -> None:
        """docs/running.rst has all keys of ``[tutorial]``, with their defaults."""
        (block,) = (
            each
            for each in blocks("docs/running.rst", "toml")
            if each.text.startswith("[tutorial]")
        )
        shown: dict[str, Any] = tomllib.loads(block.text)["tutorial"]
        self.assertEqual(set(shown), set(keys_of(TutorialSettings)))
        path = Path(self.mktemp())
        path.write_text(block.text)
        path.chmod(0o600)
        tutorial = read_configuration(path).tutorial
        usual = TutorialSettings(secret=tutorial.secret, folder=tutorial.folder)
        self.assertEqual(tutorial, usual)

    def test_reachable(self) -> None:
        """README.rst leads to both."""
        for page in (ENGLISH, CHINESE):
            self.assertIn(f"<{page}>`_", prose("README.rst"))
