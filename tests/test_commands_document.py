"""Tests of docs/commands.rst: its rules are rules, and no key is left out."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sockproto import hosts
from sockproto.server.config import read_configuration
from sockproto.server.schema import AuditSettings
from sockproto.server.structure import keys_of
from sockproto.services.command.auditing import Why
from sockproto.services.command.parameters import Parameter
from sockproto.services.command.resource_limits import ResourceLimits
from sockproto.services.command.rule import CommandRule
from tests.documents import ROOT, blocks, prose

DOCUMENT = "docs/commands.rst"


class CommandsDocumentTests(SynchronousTestCase):
    """docs/commands.rst."""

    def test_read(self) -> None:
        """The real readers take every block."""
        shown = blocks(DOCUMENT, "toml")
        self.assertGreater(len(shown), 9)
        clients = 0
        for number, block in enumerate(shown):
            path = Path(f"{self.mktemp()}-{number}").absolute()
            path.write_text(block.text)
            path.chmod(0o600)
            if "[hosts." in block.text:
                clients += 1
                self.patch(hosts, "SYSTEM_PATH", str(path))
                found = hosts.known_hosts("web", {"XDG_CONFIG_HOME": "/no/such"})
                self.assertEqual(found.members("web"), ("web1", "web2"))
            else:
                read_configuration(path)
        self.assertEqual(clients, 1)

    def test_everyKey(self) -> None:
        """Every key of a rule, of its parameters and limits, and of the audit is there."""
        text = prose(DOCUMENT)
        for kind in (CommandRule, Parameter, ResourceLimits, AuditSettings):
            for key in keys_of(kind):
                self.assertRegex(text, rf"``{key}``|\b{key} = ", f"{kind.__name__}: {key}")
        for why in Why:
            self.assertIn(f"``{why}``", text)

    def test_noOther(self) -> None:
        """The tables of keys name nothing that is no key."""
        text = (ROOT / DOCUMENT).read_text()
        start, middle, end = (
            text.index(each)
            for each in (
                "The keys of a rule",
                "``[command.parameters.NAME]``",
                "What a command finds",
            )
        )
        for part, kind in ((text[start:middle], CommandRule), (text[middle:end], Parameter)):
            rows = re.findall(r"^   \* - (``.*)$", part, re.MULTILINE)
            named = {key.strip("` ") for row in rows for key in row.split(",")}
            self.assertLessEqual(named, set(keys_of(kind)))
