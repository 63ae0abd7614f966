"""Tests for :mod:`sockproto.server.config`: reading, checking, listening where."""

from __future__ import annotations

import hashlib
import os
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import ConfigurationError
from sockproto.limits import Limits, Seconds
from sockproto.server import checks, config, problems, registry, schema, structure
from sockproto.server.config import (
    Configuration,
    ListenerSettings,
    default_configuration,
    is_local_endpoint,
    load_configuration,
    parse_listen,
    read_configuration,
)
from sockproto.server.endpoint import Endpoint, _split
from sockproto.services.command.parameters import Parameter
from sockproto.services.command.rule import CommandRule

LOCAL = 'service = "agent"\nendpoint = "tcp:0:interface=127.0.0.1"\n'


@attrs.frozen(kw_only=True)
class Sample:
    """A section that somebody adds."""

    gap: Seconds = 0.05
    folder: str


@attrs.frozen(kw_only=True)
class Larger:
    """A configuration with that section."""

    sample: Sample | None = None


@attrs.frozen(kw_only=True)
class Own:
    """The settings of a service that somebody adds."""

    timezone: str = "local"


class FileTestCase(SynchronousTestCase):
    """Tests with files in a folder of their own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def write(self, name: str, text: str | bytes) -> Path:
        """A file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def read(self, text: str | bytes) -> Configuration:
        """A configuration of one file."""
        return read_configuration(self.write("server.toml", text))

    def wrong(self, text: str | bytes) -> list[str]:
        """The lines for a configuration that cannot be used, without the file in front."""
        path = self.write("server.toml", text)
        error = self.assertRaises(ConfigurationError, read_configuration, path)
        lines = str(error).split("\n")
        for line in lines:
            self.assertTrue(line.startswith(f"{path}: "), line)
        return [line.removeprefix(f"{path}: ") for line in lines]


class ReadingTests(FileTestCase):
    """What a file says."""

    def test_everything(self) -> None:
        """All the sections of a file become attrs classes."""
        read = self.read("""
            server_id = "web1"
            [limits]
            frame = "1 MiB"
            idle_seconds = "5 min"
            login_seconds = 3
            output = "10 MB"
            trusted_sources = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]
            datagram_rate = 2.5
            [log]
            level = "debug"
            json = true
            [[listen]]
            service = "agent"
            endpoint = "tcp:7100"
            tls = "auto"
            [[listen]]
            service = "agent"
            endpoint = "unix:/run/agent.sock"
            [[command]]
            name = "disk"
            argv = ["df", "-h", "{path}"]
            summary = "Free space"
            allow = ["ops", "group:monitoring"]
            deny = ["mallory"]
            timeout = "1.5 min"
            max_output = "1 MiB"
            stdin = "stream"
            concurrency = 4
            cwd = "/tmp"
            env = { LANG = "C" }
            pass_env = ["TZ"]
            on_disconnect = "finish"
            [command.parameters.path]
            pattern = "/.*"
            default = "/"
            [[command]]
            argv = "any"
            allow = ["root"]
            """)
        self.assertEqual(read.server_id, "web1")
        self.assertEqual(
            read.limits,
            Limits(
                frame=1_048_576,
                idle_seconds=300,
                login_seconds=3,
                output=10_000_000,
                trusted_sources=(
                    ip_network("10.0.0.0/8"),
                    ip_network("2001:db8::/32"),
                    ip_network("192.0.2.7/32"),
                ),
                datagram_rate=2.5,
            ),
        )
        self.assertEqual((read.log.level, read.log.json), ("debug", True))
        self.assertEqual(
            read.listeners,
            (
                ListenerSettings(service="agent", endpoint="tcp:7100", tls="auto"),
                ListenerSettings(service="agent", endpoint="unix:/run/agent.sock"),
            ),
        )
        disk, free = read.commands
        self.assertEqual(
            disk,
            CommandRule(
                name="disk",
                argv=("df", "-h", "{path}"),
                summary="Free space",
                allow=("ops", "group:monitoring"),
                deny=("mallory",),
                timeout=90.0,
                max_output=1_048_576,
                stdin="stream",
                concurrency=4,
                cwd="/tmp",
                env={"LANG": "C"},
                pass_env=("TZ",),
                on_disconnect="finish",
                parameters={"path": Parameter(pattern="/.*", default="/")},
            ),
        )
        self.assertEqual(disk.parameters["path"].default, "/")
        self.assertEqual((free.name, free.argv), (None, "any"))
        self.assertEqual(read.warnings, ())
        self.assertFalse(read.owner_unrestricted)
        self.assertTrue(read.rules.decide("ops", (), ["disk"]).allowed)

    def test_empty(self) -> None:
        """An empty file is the defaults, and allows nothing, not even to owner."""
        read = self.read("")
        self.assertEqual((read.limits, read.commands, read.listeners), (Limits(), (), ()))
        self.assertFalse(read.rules.decide("owner", (), ["true"]).allowed)

    def test_digest(self) -> None:
        """The digest of a single file is that of its bytes."""
        text = "server_id = 'a'\n# and a comment\n"
        read = self.read(text)
        self.assertEqual(read.sha256, hashlib.sha256(text.encode()).hexdigest())
        self.assertEqual([source.sha256 for source in read.sources], [read.sha256])
        self.assertEqual(default_configuration().sha256, "")

    def test_tlsPath(self) -> None:
        """The path of a certificate is relative to the file that names it."""
        self.write("conf.d/a.toml", f'[[listen]]\n{LOCAL}tls = "cert.pem"\n')
        read = self.read(f'include = ["conf.d/*"]\n[[listen]]\n{LOCAL}tls = "/etc/x.pem"\n')
        self.assertEqual(
            [one.tls for one in read.listeners],
            ["/etc/x.pem", str(self.folder / "conf.d/cert.pem")],
        )

    def test_newSection(self) -> None:
        """A new section is an attrs class and a field: keys, units and messages follow from it."""
        read = structure.structure({"sample": {"gap": "50 ms", "folder": "x"}}, Larger)
        self.assertEqual(read, Larger(sample=Sample(gap=0.05, folder="x")))
        wrong = self.assertRaises(
            problems.Problems, structure.structure, {"sample": {"gab": 1}}, Larger
        )
        self.assertEqual(
            wrong.lines,
            ["[sample]: unknown key gab; did you mean gap?", "[sample]: folder is required"],
        )

    def test_ownSettings(self) -> None:
        """A service's own keys in [[listen]] go to the class that its registry entry names."""
        services = MappingProxyType(
            {
                "clock": registry.Service(name="clock", datagram=True, settings=Own),
                "agent": registry.SERVICES["agent"],
            }
        )
        for module in (structure, checks, config, schema):
            self.patch(module, "SERVICES", services)
        clock = '[[listen]]\nservice = "clock"\nendpoint = "udp:7113"\n'
        self.assertEqual(self.read(clock).listeners[0].own, Own())
        read = self.read(clock + 'timezone = "UTC"\n')
        self.assertEqual(read.listeners[0].own, Own(timezone="UTC"))
        self.assertEqual(
            self.wrong(clock + "timezone = 1\n"),
            ['[[listen]] "clock" timezone: expected text, found the number 1'],
        )
        self.assertEqual(
            self.wrong(f'[[listen]]\n{LOCAL}timezone = "UTC"\n'),
            ['[[listen]] "agent": unknown key timezone'],
        )
        for extra, fragment in (('tls = "auto"', "tls is for streams"), ("auth = true", "auth is")):
            (line,) = self.wrong(clock + extra)
            self.assertIn(fragment, line)


class WrongTests(FileTestCase):
    """What is wrong is told with its place, what was expected, and what was found."""

    def test_places(self) -> None:
        """One line for each thing, with the table by its name and the nearest known key."""
        for text, expected in (
            ("server_idd = 1", "unknown key server_idd; did you mean server_id?"),
            ("[limit]\nframe = 1", "unknown key limit; did you mean limits?"),
            ("[limits]\ncomands = 1", "[limits]: unknown key comands; did you mean commands?"),
            ('"a b\\n" = 1', 'unknown key "a b\\n"'),
            ("limits = 1", "limits: expected a table, found the number 1"),
            ("[[limits]]", "limits: expected a table, found an array"),
            ("[listen]", "[listen]: expected an array of tables ([[...]]), found a table"),
            ('include = "x"', "include: expected an array, found text"),
            ("include = [1]", "include[0]: expected text, found the number 1"),
            (
                "[limits]\ncommands = 1.0",
                "[limits] commands: expected a whole number, found a fraction",
            ),
            ("[limits]\ncommands = true", "[limits] commands: expected a whole number, found true"),
            ("[limits]\ncommands = 0", "[limits] commands: commands has to be at least 1, not 0"),
            (
                "[limits]\nunauthenticated_full = 5",
                "[limits]: unauthenticated_full has to be at least unauthenticated_start, "
                "not 5 under 10",
            ),
            (
                '[limits]\ntrusted_sources = ["10.0.0.1/8"]',
                "[limits] trusted_sources[0]: 10.0.0.1/8 is an address inside a network; "
                "the network is 10.0.0.0/8",
            ),
            ("[log]\njson = 1", "[log] json: expected true or false, found the number 1"),
            (
                '[[command]]\nname = "disk"\nargv = ["df"]\ntiemout = 3',
                '[[command]] "disk": unknown key tiemout; did you mean timeout?',
            ),
            (
                '[[command]]\nname = "disk"\nargv = ["df"]\nstdin = "strem"',
                '[[command]] "disk" stdin: expected "none" or "stream", found \'strem\'; '
                "did you mean stream?",
            ),
            (
                '[[command]]\nname = "disk"\nargv = ["df", 3]',
                '[[command]] "disk" argv[1]: expected text, found the number 3',
            ),
            (
                '[[command]]\nname = "disk"\nargv = "df -h"',
                '[[command]] "disk" argv: expected an array of words or "any", found text',
            ),
            ('[[command]]\nname = "disk"', '[[command]] "disk": argv is required'),
            (
                '[[command]]\nargv = ["df"]',
                '[[command]] 1: name is required (only argv = "any" can do without)',
            ),
            (
                '[[command]]\nname = "a"\nargv = ["x"]\nenv = { A = 1 }',
                '[[command]] "a" env.A: expected text, found the number 1',
            ),
            (
                '[[command]]\nname = "a"\nargv = ["x", "{p}"]\nparameters.p.patern = "x"',
                '[[command]] "a" parameters.p: unknown key patern; did you mean pattern?',
            ),
            (
                f"[[listen]]\n{LOCAL.replace('agent', 'agnet')}",
                "[[listen]] \"agnet\": service: there is no 'agnet'; did you mean agent?",
            ),
            ('[[listen]]\nservice = "agent"', '[[listen]] "agent": endpoint is required'),
            (
                f"[[listen]]\n{LOCAL}tls = false",
                '[[listen]] "agent" tls: expected text, found false',
            ),
        ):
            self.assertIn(expected, self.wrong(text))

    def test_together(self) -> None:
        """All the errors of all the files are told together."""
        self.write("b.toml", "[log]\nlevel = 1\n")
        path = self.write(
            "server.toml",
            'include = ["b.toml"]\n[limits]\ncommands = 0\nchannels = 0\n',
        )
        error = self.assertRaises(ConfigurationError, read_configuration, path)
        self.assertEqual(len(str(error).split("\n")), 2)
        path.write_text('include = ["b.toml", "c.toml"]\n')
        error = self.assertRaises(ConfigurationError, read_configuration, path)
        self.assertIn(f"{self.folder / 'b.toml'}: [log] level: expected", str(error))
        self.assertIn(f"{self.folder / 'c.toml'}: cannot be read: No such file", str(error))

    def test_noSecrets(self) -> None:
        """Text in the wrong place is not repeated: it may be a password."""
        for text in ("limits = 'hunter2'", "[[command]]\nname='a'\nargv=['a']\nenv='hunter2'"):
            self.assertNotIn("hunter2", "".join(self.wrong(text)))

    def test_syntax(self) -> None:
        """An error of TOML has its line and column."""
        (line,) = self.wrong("server_id = 'a'\n[limits\n")
        self.assertTrue(line.startswith("line 2, column 8: expected ']'"), line)
        (line,) = self.wrong('server_id = "')
        self.assertTrue(line.startswith("line 1, column 14: "), line)
        (line,) = self.wrong("a = 1\na = 2\n")
        self.assertTrue(line.startswith("line 2, column 6: cannot overwrite"), line)
        self.assertEqual(self.wrong(b"a = 1\nb = '\xff'\n"), ["line 2: is not UTF-8"])
        self.assertEqual(self.wrong("a = " + "[" * 100_000), ["is nested too deeply"])

    def test_unreadable(self) -> None:
        """A file that is not there, or is a folder, is an error and no empty configuration."""
        for path in (self.folder / "none.toml", self.folder):
            error = self.assertRaises(ConfigurationError, load_configuration, path)
            self.assertIn(f"{path}: cannot be read: ", str(error))

    def test_names(self) -> None:
        """Names of commands are unique in a file."""
        rule = '[[command]]\nname = "a"\nargv = ["x"]\nallow = ["b"]\n'
        self.assertEqual(
            self.wrong(rule * 3),
            ['[[command]] "a": there are 3 of that name; names have to be unique'],
        )

    @settings(deadline=None)
    @given(st.binary(max_size=60))
    def test_anyBytes(self, data: bytes) -> None:
        """Whatever a file holds: a configuration, or one kind of error."""
        self.folder.mkdir(exist_ok=True)
        try:
            self.read(data)
        except ConfigurationError as error:
            self.assertIn("server.toml: ", str(error))

    @settings(deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["limits", "listen", "command", "log", "name", "argv", "service"]
                    )
                    | st.text(max_size=3),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        )
    )
    def test_anyTable(self, table: object) -> None:
        """Whatever the tables are: an object, or lines that say what is wrong."""
        try:
            structure.structure(table, Configuration)
        except problems.Problems as wrong:
            self.assertTrue(wrong.lines)
            for line in wrong.lines:
                self.assertNotIn("\n", line)


class IncludeTests(FileTestCase):
    """Files that include others."""

    RULE = '[[command]]\nname = "{}"\nargv = ["x"]\nallow = ["a"]\n'

    def test_order(self) -> None:
        """Globs are relative to the including file; its own rules first, then files by name."""
        self.write("conf.d/b.toml", self.RULE.format("b"))
        self.write("conf.d/a.toml", 'include = ["more/*.toml"]\n' + self.RULE.format("a"))
        self.write("conf.d/more/c.toml", self.RULE.format("c"))
        self.write("conf.d/.hidden.toml", "wrong")
        read = self.read('include = ["conf.d/*.toml", "none/*.toml"]\n' + self.RULE.format("z"))
        self.assertEqual([rule.name for rule in read.commands], ["z", "a", "c", "b"])
        self.assertEqual(
            [str(source.path.relative_to(self.folder)) for source in read.sources],
            ["server.toml", "conf.d/a.toml", "conf.d/more/c.toml", "conf.d/b.toml"],
        )
        lines = "".join(f"{source.sha256}  {source.path}\n" for source in read.sources)
        self.assertEqual(read.sha256, hashlib.sha256(lines.encode()).hexdigest())

    def test_folderNames(self) -> None:
        """A folder whose name has glob characters is no pattern."""
        path = self.write("we[i]rd*/server.toml", 'include = ["c/*.toml"]\n')
        self.write("we[i]rd*/c/a.toml", self.RULE.format("a"))
        self.assertEqual(len(read_configuration(path).commands), 1)

    def test_namesAcrossFiles(self) -> None:
        """Names are unique across files, and the error names both."""
        a = self.write("a.toml", self.RULE.format("x"))
        path = self.write("server.toml", 'include = ["a.toml"]\n' + self.RULE.format("x"))
        error = self.assertRaises(ConfigurationError, read_configuration, path)
        self.assertEqual(
            str(error),
            f'{a}: [[command]] "x": {path} has one of that name already; names have to be unique',
        )

    def test_circle(self) -> None:
        """Files that include each other, or themselves, are refused."""
        path = self.write("a.toml", 'include = ["b.toml"]\n')
        self.write("b.toml", 'include = ["a.toml"]\n')
        error = self.assertRaises(ConfigurationError, read_configuration, path)
        self.assertIn("include goes round in a circle", str(error))
        path.write_text('include = ["a.toml"]\n')
        error = self.assertRaises(ConfigurationError, read_configuration, path)
        self.assertIn(f"{path}: include goes round", str(error))

    def test_twice(self) -> None:
        """A file included twice, also by another name of it, is refused."""
        self.write("a.toml", self.RULE.format("x"))
        os.symlink("a.toml", self.folder / "b.toml")
        (line,) = self.wrong('include = ["a.toml", "b.toml"]\n')
        self.assertIn("b.toml is included already", line)

    def test_single(self) -> None:
        """A section that is no array stands in one file only."""
        a = self.write("a.toml", "[log]\njson = true\n")
        read = self.read('include = ["a.toml"]\nserver_id = "x"\n')
        self.assertEqual((read.log.json, read.server_id), (True, "x"))
        path = self.write("server.toml", 'include = ["a.toml"]\n[log]\n')
        error = self.assertRaises(ConfigurationError, read_configuration, path)
        self.assertEqual(str(error), f"{a}: log is in {path} already")

    def test_missing(self) -> None:
        """A file named without a pattern has to be there; the error says who wanted it."""
        path = self.write("server.toml", 'include = ["none.toml"]\n')
        error = self.assertRaises(ConfigurationError, read_configuration, path)
        self.assertIn(
            f"none.toml: cannot be read: No such file or directory (included by {path})", str(error)
        )


class ListenerTests(FileTestCase):
    """Where it may listen, and how."""

    def listen(self, endpoint: str, *extra: str) -> str:
        """A [[listen]] table of the agent."""
        return "\n".join(("[[listen]]", 'service = "agent"', f"endpoint = '{endpoint}'", *extra))

    def test_local(self) -> None:
        """On this machine the agent has no TLS unless the file says so."""
        for endpoint in ("tcp:7100:interface=127.0.0.1", r"tcp6:7100:interface=\:\:1", "unix:/s"):
            read = self.read(self.listen(endpoint))
            self.assertIsNone(read.listeners[0].protection)
            self.assertEqual(read.warnings, ())
            read = self.read(self.listen(endpoint, 'tls = "auto"'))
            self.assertEqual(read.listeners[0].protection, "auto")
            self.assertEqual(read.warnings, ())

    def test_open(self) -> None:
        """Beyond it, it has TLS unless the file says that plaintext is meant: then a warning."""
        for endpoint in (
            "tcp:7100",
            "tcp6:7100",
            "tcp:7100:interface=192.0.2.1",
            "systemd:index=0",
        ):
            for extra in ((), ('tls = "auto"',)):
                read = self.read(self.listen(endpoint, *extra))
                self.assertEqual(read.listeners[0].protection, "auto")
                self.assertEqual(read.warnings, ())
            read = self.read(self.listen(endpoint, "allow_plaintext = true"))
            self.assertIsNone(read.listeners[0].protection)
            (warning,) = read.warnings
            self.assertIn("without TLS beyond this machine", warning)
        read = self.read(self.listen("tcp:7100", 'tls = "auto"', "allow_plaintext = true"))
        self.assertEqual(read.warnings, ())

    def test_agent(self) -> None:
        """The agent always logs in, and not over UDP."""
        (line,) = self.wrong(self.listen("unix:/s", "auth = false"))
        self.assertIn("always logs in", line)
        (line,) = self.wrong(self.listen("udp:7100:interface=127.0.0.1"))
        self.assertIn("agent is not served over UDP", line)
        self.assertTrue(self.read(self.listen("unix:/s")).listeners[0].authenticates)

    def test_endpoints(self) -> None:
        """Endpoint strings that cannot be are refused with what was expected."""
        for endpoint, fragment in (
            ("", "expected an endpoint such as"),
            ("tpc:7100", "did you mean tcp?"),
            ("tcp:", "expected a port from 0 to 65535, found none"),
            ("tcp:http", "found 'http'"),
            ("tcp:65536", "found '65536'"),
            ("tcp:-1", "found '-1'"),
            ("tcp:7100:interface=::1:interface=::", "'interface' is given twice"),
            ("tcp:7100:0.0.0.0:interface=127.0.0.1", "interface is given twice"),
            ("tcp6:7100:interface=::1", r"(the colons of an address are written \:)"),
            ("unix:", "expected a path"),
            ("ssl:7100", 'tls = "auto"'),
            ("hmac:hmac_service=x:tcp:1", "auth = true"),
            ("tcp:7100:interfce=127.0.0.1", "'interfce'; did you mean interface?"),
            ("tcp:7100:q=1", "(there are: port, interface, backlog)"),
            (r"tcp6:7100:\:\:1", "backlog: expected a whole number"),
            ("unix:/s:mode=rw", "mode: expected an octal mode such as 660, found 'rw'"),
            ("tcp:7100:backlog=-1", "backlog: expected"),
            ("tcp:7100\\", "after the last backslash"),
        ):
            (line,) = self.wrong(self.listen(endpoint))
            self.assertIn(fragment, line)

    def test_isLocalEndpoint(self) -> None:
        """Local is what is bound to loopback or is a Unix socket, said by name or by position."""
        for endpoint, local in (
            ("tcp:7100", False),
            ("tcp:7100:interface=", False),
            ("tcp:7100:interface=127.0.0.1", True),
            ("tcp:port=7100:interface=127.0.0.1", True),
            ("tcp:7100:127.0.0.1", True),
            ("tcp:7100:127.0.0.1:50", True),
            ("tcp:7100:interface=127.9.9.9", True),
            ("tcp:7100:interface=localhost", True),
            ("tcp:7100:interface=localhost.example", False),
            ("tcp:7100:interface=0.0.0.0", False),
            ("tcp:7100:interface=10.0.0.1", False),
            (r"tcp:7100:interface=\:\:1", True),
            (r"tcp:7100:interface=\:\:ffff\:127.0.0.1", True),
            ("tcp6:7100", False),
            (r"tcp6:7100:interface=\:\:", False),
            (r"tcp6:7100:50:\:\:1", True),
            ("udp:7007", False),
            ("udp:7007:interface=127.0.0.1", True),
            ("udp6:7007", False),
            ("unix:/run/x", True),
            ("unix:address=/run/x:mode=600", True),
            ("systemd:domain=INET:index=0", False),
            ("haproxy:tcp:7100:interface=127.0.0.1", False),
            ("onion:80", False),
        ):
            self.assertIs(is_local_endpoint(endpoint), local, endpoint)

    @settings(deadline=None)
    @given(st.text(alphabet="tcp6:=\\.17interface", max_size=40))
    def test_asTwisted(self, description: str) -> None:
        """Endpoint strings are split as Twisted splits them, or refused."""
        try:
            mine = _split(description)
        except ValueError:
            return
        self.assertEqual(mine, endpoints._parse(description))

    @settings(deadline=None)
    @given(st.text(max_size=40))
    def test_anyEndpoint(self, description: str) -> None:
        """Whatever the string: an endpoint or a ValueError."""
        try:
            Endpoint.parse(description)
        except ValueError as error:
            self.assertNotIn("\n", str(error))


class LoadTests(FileTestCase):
    """--config and --listen."""

    def test_default(self) -> None:
        """Without either: the usual services on loopback, and owner may run anything."""
        loaded = load_configuration(None)
        self.assertEqual(
            [str(each).removesuffix(":interface=127.0.0.1") for each in loaded.listeners],
            [
                "agent=tcp:7100",
                "echo=tcp:7007",
                "echo=udp:7007",
                "strftime=udp:7113",
                "daytime=tcp:7013",
                "daytime=udp:7013",
                "time=tcp:7037",
                "time=udp:7037",
                "ntp=udp:7123",
            ],
        )
        self.assertTrue(all(each.is_local for each in loaded.listeners))
        self.assertTrue(loaded.owner_unrestricted)
        self.assertTrue(loaded.rules.decide("owner", (), ["true"]).allowed)

    def test_listen(self) -> None:
        """With --listen exactly those, split at the first =."""
        loaded = load_configuration(
            None, ["agent=tcp:0:interface=127.0.0.1", "agent=unix:/s:mode=600"]
        )
        self.assertEqual(
            [(x.service, x.endpoint) for x in loaded.listeners],
            [("agent", "tcp:0:interface=127.0.0.1"), ("agent", "unix:/s:mode=600")],
        )
        self.assertTrue(loaded.owner_unrestricted)

    def test_openWithoutFile(self) -> None:
        """Without a file the agent stays on this machine: nothing says who may run what."""
        for endpoint in ("tcp:7100", "tcp:0:interface=0.0.0.0", "tcp6:7100"):
            error = self.assertRaises(
                ConfigurationError, load_configuration, None, [f"agent={endpoint}"]
            )
            self.assertIn("--config", str(error))
            self.assertIn("who may run what", str(error))

    def test_both(self) -> None:
        """With a file: what the file and --listen name, and owner has no freedom of their own."""
        path = self.write("server.toml", f"[[listen]]\n{LOCAL}")
        loaded = load_configuration(path, ["agent=unix:/s"])
        self.assertEqual(
            [x.endpoint for x in loaded.listeners], ["tcp:0:interface=127.0.0.1", "unix:/s"]
        )
        self.assertFalse(loaded.owner_unrestricted)
        open_one = load_configuration(path, ["agent=tcp:0"]).listeners[1]
        self.assertEqual((open_one.is_local, open_one.protection), (False, "auto"))

    def test_socketPaths(self) -> None:
        """A Unix socket's path is relative to its file, or to where the command line was given."""
        self.write("conf.d/a.toml", '[[listen]]\nservice = "agent"\nendpoint = "unix:a:mode=660"\n')
        path = self.write("server.toml", f'include = ["conf.d/*"]\n[[listen]]\n{LOCAL}')
        loaded = load_configuration(path, ["agent=unix:x\\:y", "agent=unix:/z"], self.folder)
        self.assertEqual(
            [x.endpoint for x in loaded.listeners[1:]],
            [
                f"unix:address={self.folder}/conf.d/a:mode=660",
                f"unix:address={self.folder}/x\\:y",
                "unix:/z",
            ],
        )
        self.assertEqual(
            Endpoint.parse(loaded.listeners[2].endpoint).arguments["address"],
            f"{self.folder}/x:y",
        )

    def test_writable(self) -> None:
        """A server takes no configuration that others could have written; as root, no group's."""
        path = self.write("server.toml", f'include = ["a.toml"]\n[[listen]]\n{LOCAL}')
        part = self.write("a.toml", "")
        for mode, euid, refused in (
            (0o644, 0, False),
            (0o664, 0, True),
            (0o664, 1000, False),
            (0o646, 1000, True),
        ):
            part.chmod(mode)
            self.patch(os, "geteuid", lambda euid=euid: euid)
            self.assertEqual(len(read_configuration(path).exposed), refused)
            if refused:
                error = self.assertRaises(ConfigurationError, load_configuration, path)
                self.assertIn(f"{part}: expected that only its owner can write it", str(error))
            else:
                load_configuration(path)

    def test_belongs(self) -> None:
        """A configuration of some other user's is told at every start."""
        path = self.write("server.toml", f"[[listen]]\n{LOCAL}")
        path.chmod(0o644)
        self.patch(os, "geteuid", lambda: os.stat(path).st_uid)
        self.assertEqual(load_configuration(path).warnings, ())
        if os.stat(path).st_uid == 0:
            os.chown(path, 65534, -1)
            self.patch(os, "geteuid", lambda: 0)
        else:
            self.patch(os, "geteuid", lambda: 65533)
        (warning,) = load_configuration(path).warnings
        self.assertIn("belongs to user", warning)

    def test_nowhere(self) -> None:
        """A file that names no listener needs --listen."""
        path = self.write("server.toml", "")
        error = self.assertRaises(ConfigurationError, load_configuration, path)
        self.assertIn("nothing to listen on", str(error))
        self.assertEqual(len(load_configuration(path, ["agent=unix:/s"]).listeners), 1)

    def test_wrongListen(self) -> None:
        """A --listen that is none says what was expected."""
        for text, fragment in (
            ("tcp:7100", "expected SERVICE=ENDPOINT"),
            ("agnet=unix:/s", "did you mean agent?"),
            ("=unix:/s", "there is no service ''"),
            ("agent=", "expected an endpoint such as"),
            ("agent=tpc:1", "did you mean tcp?"),
            ("agent=udp:1:interface=127.0.0.1", "not served over UDP"),
        ):
            error = self.assertRaises(ConfigurationError, load_configuration, None, [text])
            self.assertTrue(str(error).startswith(f"--listen {text}: "), str(error))
            self.assertIn(fragment, str(error))

    def test_split(self) -> None:
        """Only the first = parts the service from the endpoint."""
        self.assertEqual(
            parse_listen("agent=tcp:port=1:interface=127.0.0.1").endpoint,
            "tcp:port=1:interface=127.0.0.1",
        )
