"""Tests for :mod:`sockproto.cli.keys`."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from sockproto.cli import keys
from sockproto.cli.main import program
from sockproto.key import Key, derive_secret, new_key
from sockproto.keyring import Keyring
from sockproto.keyring_edit import add_keys, key_table, moment_text

DAY = timedelta(days=1)


class KeysCase(SynchronousTestCase):
    """Runs the program on a keyring of its own."""

    def setUp(self) -> None:
        """Name a keyring that is not there yet."""
        self.folder = Path(self.mktemp()).absolute()
        self.path = self.folder / "keyring.toml"
        # Whatever goes wrong, no test gets at the keyring of the user who runs it.
        self.patch(os, "environ", os.environ | {"XDG_CONFIG_HOME": str(self.folder / "config")})

    def run_(self, *args: str, input: str | None = None, path: Path | None = None) -> Result:
        """Run ``sockproto keys`` with arguments."""
        return CliRunner().invoke(
            program, ["keys", "--keyring", str(path or self.path), *args], input=input
        )

    def good(self, *args: str, input: str | None = None, path: Path | None = None) -> str:
        """Run it to success, in silence on stderr.

        :return: what it wrote to stdout.
        """
        result = self.run_(*args, input=input, path=path)
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        return result.stdout

    def bad(self, status: int, *args: str, input: str | None = None) -> str:
        """Run it to failure, with nothing on stdout and one line on stderr.

        :return: that line.
        """
        result = self.run_(*args, input=input)
        self.assertEqual((result.exit_code, result.stdout), (status, ""), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        return result.stderr.rstrip("\n")

    def keyring(self) -> Keyring:
        """The keyring as it is now."""
        return Keyring.load(self.path)


class NewTests(KeysCase):
    """``keys new``."""

    def test_first(self) -> None:
        """The keyring is made with the key, and the line names the file but not the secret."""
        self.assertEqual(self.good("new", "owner"), f"{self.path}: made key 'owner'\n")
        key = self.keyring()["owner"]
        assert key.secret is not None
        self.assertEqual(key, Key("owner", secret=key.secret))
        self.assertEqual(len(key.secret), 32)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)

    def test_options(self) -> None:
        """All the options end up in the key."""
        self.good(
            *("new", "ops-1", "--master", "--identity", "ops", "--group", "g1", "--group", "g2"),
            *("--host", "web*", "--not-before", "2026-01-01", "--not-after", "2026-12-31"),
        )
        key = self.keyring()["ops-1"]
        expected = Key(
            "ops-1",
            identity="ops",
            master=key.master,
            groups=("g1", "g2"),
            hosts=("web*",),
            not_before=datetime(2026, 1, 1, tzinfo=UTC),
            not_after=datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC),
        )
        self.assertEqual(key, expected)

    def test_identityBefore(self) -> None:
        """--identity before the subcommand counts as well; the environment's does not."""
        runner = CliRunner(env={"SOCKPROTO_IDENTITY": "env", "SOCKPROTO_KEYRING": str(self.path)})
        for args in (["--identity", "ops", "keys", "new", "k1"], ["keys", "new", "k2"]):
            self.assertEqual(runner.invoke(program, args).exit_code, 0)
        self.assertEqual([key.identity for key in self.keyring().values()], ["ops", "k2"])

    def test_times(self) -> None:
        """Times have an offset, or are days from now; anything else is wrong usage."""
        self.good("new", "a", "--not-after", "2026-12-31T12:00:00+02:00")
        self.assertEqual(self.keyring()["a"].not_after, datetime(2026, 12, 31, 10, tzinfo=UTC))
        before = datetime.now(UTC).replace(microsecond=0)
        self.good("new", "b", "--not-after", "90d")
        end = self.keyring()["b"].not_after
        assert end is not None
        self.assertTrue(before + 90 * DAY <= end <= datetime.now(UTC) + 90 * DAY)
        for text in ("soon", "", "2026-12-31T12:00:00", "2026-13-01", "0d", "90", "99999999d"):
            self.assertIn("2026-12-31", self.bad(2, "new", "c", "--not-after", text))

    def test_again(self) -> None:
        """A key that is there stays as it is: an error, or with --if-missing a success."""
        self.good("new", "k1")
        before = self.path.read_bytes()
        line = self.bad(1, "new", "k1")
        self.assertEqual(
            line,
            f"sockproto: keyring: {self.path}: "
            "there is a key 'k1' already (--if-missing allows that)",
        )
        self.assertIn("is there already (valid)", self.good("new", "k1", "--if-missing"))
        self.good("revoke", "k1")
        self.assertIn("is there already (revoked)", self.good("new", "k1", "--if-missing"))
        self.assertEqual(before.count(b"[[key]]"), self.path.read_bytes().count(b"[[key]]"))

    def test_wrongUsage(self) -> None:
        """What no key can have is wrong usage, and makes no keyring."""
        for args in (
            ["new"],
            ["new", "a b"],
            ["new", "k1", "--group", "a/b"],
            ["new", "k1", "--identity", ""],
            ["new", "k1", "--host", ""],
            ["new", "k1", "--not-before", "2026-02-01", "--not-after", "2026-01-01"],
            ["new", "k1", "extra"],
            ["new", "k1", "--secret", "x"],
        ):
            self.assertIn("(see sockproto keys new --help)", self.bad(2, *args))
        self.assertFalse(self.path.exists())

    def test_unfit(self) -> None:
        """A keyring that cannot be used is a failure."""
        self.good("new", "k1")
        self.path.chmod(0o644)
        self.assertIn("expected mode 0600", self.bad(1, "new", "k2"))
        self.assertIn("expected mode 0600", self.bad(1, "new", "k1", "--if-missing"))


class ListTests(KeysCase):
    """``keys list``."""

    def test_table(self) -> None:
        """An aligned table with the state of each key and no secret."""
        now = datetime.now(UTC).replace(microsecond=0)
        made = [
            new_key("valid-one", identity="ops", groups=["g1", "g2"], hosts=["web*"]),
            new_key("old", not_after=now - DAY),
            new_key("to-come", master=True, not_before=now + DAY),
            Key("gone", secret=b"x" * 16, revoked=True),
        ]
        add_keys(self.path, made)
        end = moment_text(now - DAY)
        self.assertEqual(
            self.good("list").splitlines(),
            [
                "ID         IDENTITY  KIND    STATE          NOT AFTER             GROUPS  HOSTS",
                "valid-one  ops       secret  valid          -                     g1,g2   web*",
                f"old        old       secret  expired        {end}  -       -",
                "to-come    to-come   master  not yet valid  -                     -       -",
                "gone       gone      secret  revoked        -                     -       -",
            ],
        )

    def test_missing(self) -> None:
        """Without a keyring there is nothing to list, which is a failure that names the file."""
        line = self.bad(1, "list")
        self.assertTrue(line.startswith(f"sockproto: keyring: {self.path}: no such keyring"), line)


class ShowTests(KeysCase):
    """``keys show``."""

    def test_hidden(self) -> None:
        """The key's table, without its secret."""
        key = new_key("k1", identity="ops", groups=["g"])
        add_keys(self.path, [key])
        self.assertEqual(
            self.good("show", "k1"),
            '# valid\n[[key]]\nid = "k1"\nidentity = "ops"\n'
            '# secret: 32 bytes, not shown\ngroups = ["g"]\n',
        )

    def test_secret(self) -> None:
        """With --secret, what another keyring can import."""
        key = new_key("k1", identity="ops", hosts=["web*"])
        add_keys(self.path, [key])
        shown = self.good("show", "k1", "--secret")
        other = self.folder / "other.toml"
        self.good("import", "-", input=shown, path=other)
        self.assertEqual(Keyring.load(other)["k1"], key)

    def test_warning(self) -> None:
        """A secret that goes to a terminal comes with a warning on stderr."""
        add_keys(self.path, [new_key("k1"), new_key("m", master=True)])
        self.patch(keys, "_is_on_screen", lambda: True)
        for args in (("show", "k1", "--secret"), ("derive", "m", "--for", "web1")):
            result = self.run_(*args)
            self.assertEqual(result.exit_code, 0)
            self.assertTrue(result.stderr.startswith("sockproto: warning: a secret follows"))
            self.assertNotIn("warning", result.stdout)
        self.good("show", "k1")

    def test_unknown(self) -> None:
        """A key that is not there is a failure that names the file."""
        add_keys(self.path, [new_key("k1")])
        for args in (("show", "k2"), ("revoke", "k2"), ("derive", "k2", "--for", "web1")):
            line = self.bad(1, *args)
            self.assertEqual(line, f"sockproto: keyring: {self.path}: no key with the id 'k2'")


class DeriveTests(KeysCase):
    """``keys derive``."""

    def test_table(self) -> None:
        """The table for a host has its own secret, identity, groups and times, not the master."""
        end = datetime(2126, 1, 1, tzinfo=UTC)
        key = new_key("m", master=True, identity="ops", groups=["g"], hosts=["web*"], not_after=end)
        add_keys(self.path, [key])
        assert key.master is not None
        host = self.folder / "host.toml"
        self.good("import", "-", input=self.good("derive", "m", "--for", "web1"), path=host)
        secret = derive_secret(key.master, "m", "web1")
        self.assertEqual(
            list(Keyring.load(host).values()),
            [Key("m", identity="ops", secret=secret, groups=("g",), not_after=end)],
        )

    def test_refused(self) -> None:
        """Nothing is derived from what is no master, or is no longer valid."""
        add_keys(
            self.path,
            [
                new_key("plain"),
                new_key("old", master=True, not_after=datetime.now(UTC) - DAY),
                Key("gone", master=b"x" * 16, revoked=True),
            ],
        )
        for key_id, why in (("plain", "no master"), ("old", "is expired"), ("gone", "is revoked")):
            line = self.bad(1, "derive", key_id, "--for", "web1")
            self.assertIn(f"{self.path}: key {key_id!r}", line)
            self.assertIn(why, line)

    def test_wrongUsage(self) -> None:
        """The host has to be named, by an id."""
        add_keys(self.path, [new_key("m", master=True)])
        self.assertIn("--for", self.bad(2, "derive", "m"))
        self.assertIn("--for", self.bad(2, "derive", "m", "--for", "web 1"))

    def test_otherHost(self) -> None:
        """A host that the client would not use the key for is worth a warning."""
        add_keys(self.path, [new_key("m", master=True, hosts=["web*"])])
        result = self.run_("derive", "m", "--for", "db1")
        self.assertEqual(result.exit_code, 0)
        self.assertIn("its hosts are web*", result.stderr)


class ImportTests(KeysCase):
    """``keys import``."""

    def test_file(self) -> None:
        """Keys of a file are added, and those that are there already left alone, each told."""
        first, second = new_key("k1"), new_key("k2")
        add_keys(self.path, [first])
        source = self.folder / "source.toml"
        source.write_text(key_table(first) + key_table(second))
        self.assertEqual(
            self.good("import", str(source)),
            f"{self.path}: there is already key 'k1'\n{self.path}: added key 'k2'\n",
        )
        before = self.path.read_bytes()
        self.good("import", str(source))
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(list(self.keyring().values()), [first, second])

    def test_conflict(self) -> None:
        """Another key under an id that is taken is refused, and nothing is added."""
        key = new_key("k1")
        add_keys(self.path, [key])
        before = self.path.read_bytes()
        line = self.bad(1, "import", "-", input=key_table(new_key("k0")) + key_table(new_key("k1")))
        self.assertIn(f"{self.path}: there is another key 'k1' already, with another secret", line)
        self.assertEqual(self.path.read_bytes(), before)

    def test_refused(self) -> None:
        """What has no keys to import is a failure that names where it came from."""
        self.assertIn("stdin: expected a [[key]] table", self.bad(1, "import", "-", input=""))
        self.assertIn("stdin: expected TOML", self.bad(1, "import", "-", input="<html>"))
        text = '[[key]]\nid = "k1"\nsecret_file = "/etc/shadow"\n'
        self.assertIn("secret_file: expected the secret", self.bad(1, "import", "-", input=text))
        missing = str(self.folder / "missing")
        self.assertIn(f"{missing}: cannot be read", self.bad(1, "import", missing))
        hidden = '[[key]]\nid = "k1"\n# secret: 32 bytes, not shown\n'
        self.assertIn("expected one of secret", self.bad(1, "import", "-", input=hidden))
        self.assertFalse(self.path.exists())

    def test_tooLong(self) -> None:
        """No more is read than a keyring may have."""
        self.patch(keys, "MAX_SIZE", 10)
        self.assertIn("at most 10 bytes", self.bad(1, "import", "-", input="#" * 11))


class RevokeTests(KeysCase):
    """``keys revoke``."""

    def test_revoke(self) -> None:
        """The key is marked, the others are not, and once more changes nothing."""
        add_keys(self.path, [new_key("k1"), new_key("k2")])
        self.assertEqual(self.good("revoke", "k1"), f"{self.path}: key 'k1' is revoked\n")
        self.assertEqual([key.revoked for key in self.keyring().values()], [True, False])
        self.assertEqual(self.good("revoke", "k1"), f"{self.path}: key 'k1' was revoked already\n")
