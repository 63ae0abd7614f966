"""Tests of the packaging, as far as they are cheap; tools/check_packaging.py installs it."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import IPlugin, getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = ROOT / "twisted" / "plugins"

LOADED_BY_THE_PLUGIN = """
import importlib.util, sys
import twisted.application.service, twisted.internet.interfaces, twisted.plugin
specification = importlib.util.spec_from_file_location("plugin", sys.argv[1])
specification.loader.exec_module(importlib.util.module_from_spec(specification))
print(*sorted(name for name in sys.modules if name.split(".")[0] == "sockproto"
              or name == "twisted.internet.reactor"))
"""


class MetadataTests(SynchronousTestCase):
    """setup.cfg says what is there."""

    def setUp(self) -> None:
        """Read setup.cfg."""
        self.setup = configparser.ConfigParser()
        self.setup.read(ROOT / "setup.cfg")

    def test_packages(self) -> None:
        """Every folder with a module or a data file in it is listed, and no other."""
        folders = {
            path.parent.relative_to(ROOT)
            for path in (ROOT / "sockproto").rglob("*")
            if path.suffix in {".py", ".toml"}
        }
        listed = self.setup["options"]["packages"].split()
        self.assertEqual(
            sorted(listed),
            sorted({".".join(folder.parts) for folder in folders} | {"twisted.plugins"}),
        )

    def test_versionHasChanges(self) -> None:
        """The newest heading of CHANGES.rst is the version that setup.cfg names."""
        headings = re.findall(r"^(\d\S*).*\n-+$", (ROOT / "CHANGES.rst").read_text(), re.MULTILINE)
        self.assertEqual(headings[0], self.setup["metadata"]["version"])

    def test_typed(self) -> None:
        """The package says that it carries its types."""
        self.assertTrue((ROOT / "sockproto" / "py.typed").is_file())


class PluginTests(SynchronousTestCase):
    """Twisted finds the plugins, and pays nothing for those it does not use."""

    def test_noPackage(self) -> None:
        """``twisted/plugins`` stays Twisted's own package: no __init__.py of ours shadows it."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_serviceMaker(self) -> None:
        """``twistd`` and ``twist`` have one subcommand ``sockproto``."""
        found = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "sockproto"]
        self.assertEqual(len(found), 1)
        verifyObject(IPlugin, found[0])
        assert isinstance(found[0], ServiceMaker)
        self.assertEqual(found[0].module, "sockproto.tap")

    def test_endpointPrefix(self) -> None:
        """Server endpoint strings have the prefix ``hmac:``."""
        found = [
            plugin
            for plugin in getPlugins(IStreamServerEndpointStringParser)
            if plugin.prefix == "hmac"
        ]
        self.assertEqual(len(found), 1)
        verifyObject(IPlugin, found[0])
        verifyObject(IStreamServerEndpointStringParser, found[0])

    def test_lazy(self) -> None:
        """Loading the plugin file imports no reactor, or ``twistd --reactor`` would break.

        Nor does it import anything of sockproto, which every Twisted program would pay for.
        """
        done = subprocess.run(
            [sys.executable, "-c", LOADED_BY_THE_PLUGIN, PLUGINS / "sockproto_plugin.py"],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
        )
        self.assertEqual((done.stdout.strip(), done.stderr), ("", ""))
