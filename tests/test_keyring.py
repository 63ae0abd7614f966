"""Tests for :mod:`sockproto.key`, :mod:`sockproto.keyring` and the modules that read its file."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import KeyringError
from sockproto.key import Key, _hkdf, derive_secret, is_id, new_key
from sockproto.keyring import Keyring, KeyringMissing
from sockproto.keyring_edit import key_table
from sockproto.keyring_file import KeyringFile, default_path
from sockproto.private_file import MAX_SIZE, read_private

VECTORS = Path(__file__).resolve().parent / "vectors" / "handshake.json"
SECRET = bytes(range(32))
TEXT = base64.b64encode(SECRET).decode("ascii")
OTHER = base64.b64encode(b"another secret of ours").decode("ascii")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)

ids = st.from_regex(r"[A-Za-z0-9._@-]{1,64}", fullmatch=True)
moments = st.none() | st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11)), timezone(timedelta(hours=2))])
)
globs = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)


@st.composite
def someKeys(draw: st.DrawFn) -> Key:
    """Any key there can be."""
    secret = draw(st.binary(min_size=16, max_size=64))
    master = draw(st.booleans())
    begin, end = draw(moments), draw(moments)
    if begin is not None and end is not None and end < begin:
        begin, end = end, begin
    return Key(
        draw(ids),
        identity=draw(ids),
        secret=None if master else secret,
        master=secret if master else None,
        groups=draw(st.lists(ids, max_size=3)),
        hosts=draw(st.lists(globs, max_size=3)),
        not_before=begin,
        not_after=end,
        revoked=draw(st.booleans()),
    )


def table(**fields: str) -> str:
    """A ``[[key]]`` table with an id and a secret, changed or extended; values are TOML."""
    fields = {"id": '"k1"', "secret": f'"{TEXT}"'} | fields
    return "[[key]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items() if value)


class FileCase(SynchronousTestCase):
    """Tests with a folder for keyrings."""

    def setUp(self) -> None:
        """Make the folder."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.path = self.folder / "keyring.toml"

    def write(self, text: str | bytes, mode: int = 0o600, name: str = "keyring.toml") -> Path:
        """Write a file in the folder."""
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        path.chmod(mode)
        return path

    def assertWrong(self, *expected: str) -> KeyringError:
        """The keyring is refused with a message that begins with its path and has all the words."""
        error = self.assertRaises(KeyringError, Keyring.load, self.path)
        self.assertTrue(str(error).startswith(f"{self.path}: "), error)
        for words in expected:
            self.assertIn(words, str(error))
        return error


class KeyTests(SynchronousTestCase):
    """One key."""

    def test_defaults(self) -> None:
        """A key speaks for its own id, everywhere and always, unless it says otherwise."""
        key = Key("k1", secret=SECRET)
        self.assertEqual(key.identity, "k1")
        self.assertEqual((key.groups, key.hosts), ((), ()))
        self.assertIsNone(key.problem(NOW))
        self.assertTrue(key.fits_host("anything"))

    def test_repr(self) -> None:
        """Neither a secret nor a master shows in a representation."""
        for key in (Key("k1", secret=b"s" * 20), Key("k1", master=b"s" * 20)):
            self.assertNotIn("sss", repr(key))
            self.assertNotIn("sss", repr(Keyring([key])))

    def test_refused(self) -> None:
        """Unfit values are refused with the name of the field."""
        late, early = NOW + DAY, NOW
        wrong: dict[str, dict[str, Any]] = {
            "id": {"id": "no spaces"},
            "identity": {"identity": ""},
            "groups": {"groups": ["a/b"]},
            "hosts": {"hosts": ["ä"]},
            "secret": {"secret": b"x" * 15},
            "master": {"secret": None, "master": b"x" * 15},
            "expected one of": {"secret": None},
            "expected one of secret": {"master": SECRET},
            "not_before": {"not_before": datetime(2026, 1, 1)},
            "not_after": {"not_after": datetime(2026, 1, 1)},
            "not_after: expected no time before": {"not_before": late, "not_after": early},
            "several texts": {"groups": "abc"},
        }
        for name, fields in wrong.items():
            error = self.assertRaises(
                KeyringError, lambda given: Key(**given), {"id": "k1", "secret": SECRET} | fields
            )
            self.assertIn(name, str(error))
            self.assertNotIn("xxx", str(error))

    def test_shortest(self) -> None:
        """A secret of 16 bytes will do."""
        self.assertEqual(Key("k1", secret=b"x" * 16).secret, b"x" * 16)

    def test_ids(self) -> None:
        """Ids have 1 to 64 characters of a few kinds; a line end at the end is none of them."""
        for good in ("a", "A-z_0.9@x", "x" * 64):
            self.assertTrue(is_id(good), good)
        for bad in ("", "x" * 65, "a b", "a\n", "é", "a/b", None, 3):
            self.assertFalse(is_id(bad), bad)

    def test_problem(self) -> None:
        """A key is valid from not_before to not_after, both included, unless it is revoked."""
        key = Key("k1", secret=SECRET, not_before=NOW, not_after=NOW + DAY)
        tick = timedelta(microseconds=1)
        self.assertEqual(key.problem(NOW - tick), "not yet valid")
        self.assertIsNone(key.problem(NOW))
        self.assertIsNone(key.problem(NOW + DAY))
        self.assertEqual(key.problem(NOW + DAY + tick), "expired")
        for now in (NOW - DAY, NOW, NOW + 3 * DAY):
            self.assertEqual(evolve(key, revoked=True).problem(now), "revoked")

    @given(key=someKeys())
    def test_anyProblem(self, key: Key) -> None:
        """Whatever its times are, a key has one of three problems or none."""
        self.assertIn(key.problem(NOW), {None, "revoked", "expired", "not yet valid"})

    def test_hosts(self) -> None:
        """Hosts are globs over the whole name, in any case of letters."""
        key = Key("k1", secret=SECRET, hosts=["web*", "DB1"])
        for name in ("web", "web1.example", "WEB2", "db1"):
            self.assertTrue(key.fits_host(name), name)
        for name in ("", "aweb1", "db10", "db1.example"):
            self.assertFalse(key.fits_host(name), name)

    def test_newKey(self) -> None:
        """A new key has 32 random bytes, as its secret or as its master."""
        first, second = new_key("k1"), new_key("k1")
        assert first.secret is not None
        self.assertEqual(len(first.secret), 32)
        self.assertNotEqual(first.secret, second.secret)
        master = new_key("k1", master=True, identity="ops", random=lambda n: b"r" * n)
        self.assertEqual((master.secret, master.master), (None, b"r" * 32))
        self.assertEqual(master.identity, "ops")


class DerivationTests(SynchronousTestCase):
    """A key of its own for each host."""

    def test_vector(self) -> None:
        """The known answer."""
        known = json.loads(VECTORS.read_text())["derivation"]
        master, secret = bytes.fromhex(known["master"]), bytes.fromhex(known["secret"])
        self.assertEqual(derive_secret(master, known["key_id"], known["server_id"]), secret)
        key = Key(known["key_id"], master=master)
        self.assertEqual(key.secret_for(known["server_id"]), secret)

    def test_rfc5869(self) -> None:
        """The first block of RFC 5869's test case A.1."""
        found = _hkdf(b"\x0b" * 22, bytes(range(13)), bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"))
        self.assertEqual(
            found.hex(), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        )

    @given(ids, ids, ids, ids)
    def test_distinct(self, key1: str, server1: str, key2: str, server2: str) -> None:
        """Two pairs of ids never share a secret, however their letters are divided."""
        same = derive_secret(SECRET, key1, server1) == derive_secret(SECRET, key2, server2)
        self.assertEqual(same, (key1, server1) == (key2, server2))

    def test_boundary(self) -> None:
        """The lengths are part of what is derived from."""
        self.assertNotEqual(derive_secret(SECRET, "ab", "c"), derive_secret(SECRET, "a", "bc"))

    def test_noServer(self) -> None:
        """A master has no secret for a server without an id; a secret is the same everywhere."""
        master = Key("k1", master=SECRET)
        self.assertIn("--server-id", str(self.assertRaises(KeyringError, master.secret_for, None)))
        self.assertRaises(KeyringError, master.secret_for, "not an id")
        plain = Key("k1", secret=SECRET)
        self.assertEqual(plain.secret_for(None), SECRET)
        self.assertEqual(plain.secret_for("srv1"), SECRET)


class LoadTests(FileCase):
    """Reading a keyring."""

    def test_whole(self) -> None:
        """Every field is read, and the order of the file kept."""
        self.write(
            table(id='"z"')
            + table(
                id='"a"',
                identity='"ops"',
                secret="",
                master=f'"{TEXT}"',
                groups='["g1", "g2"]',
                hosts='["web*"]',
                not_before="2026-01-01T00:00:00Z",
                not_after="2026-12-31T23:59:59+02:00",
                revoked="true",
            )
        )
        keyring = Keyring.load(self.path)
        self.assertEqual(list(keyring), ["z", "a"])
        self.assertEqual(keyring["z"], Key("z", secret=SECRET))
        self.assertEqual(
            keyring["a"],
            Key(
                "a",
                identity="ops",
                master=SECRET,
                groups=("g1", "g2"),
                hosts=("web*",),
                not_before=datetime(2026, 1, 1, tzinfo=UTC),
                not_after=datetime(2026, 12, 31, 21, 59, 59, tzinfo=UTC),
                revoked=True,
            ),
        )
        self.assertIsNone(keyring.get("nobody"))

    def test_empty(self) -> None:
        """A keyring may have no keys."""
        self.write("# nothing yet\n")
        self.assertEqual(len(Keyring.load(self.path)), 0)

    def test_wrongFields(self) -> None:
        """What is wrong with a key is told with its number, id and field and what is expected."""
        for fields, expected in (
            ({"grups": '["a"]'}, ["unknown field 'grups'", "did you mean 'groups'?"]),
            ({"id": '"no spaces"'}, ["id: expected 1 to 64"]),
            ({"id": "7"}, ["id: expected text"]),
            ({"id": ""}, ["expected an id"]),
            ({"secret": ""}, ["expected one of secret, secret_file and master"]),
            ({"master": f'"{TEXT}"'}, ["expected one of"]),
            ({"secret_file": '"x"'}, ["expected one of"]),
            ({"secret": '"c2hvcnQ="'}, ["secret: expected at least 16 bytes, found 5"]),
            ({"secret": f'"{TEXT[:-1]}!"'}, ["secret: expected base64"]),
            ({"secret": f'"{TEXT}é"'}, ["secret: expected base64"]),
            ({"secret": "12"}, ["secret: expected text"]),
            ({"groups": '"a"'}, ["groups: expected an array"]),
            ({"hosts": "[1]"}, ["hosts: expected an array"]),
            ({"hosts": '["a\\nb"]'}, ["hosts: expected host names"]),
            ({"revoked": '"yes"'}, ["revoked: expected true or false"]),
            ({"not_after": "2026-01-01"}, ["not_after: expected a date and time with an offset"]),
            ({"not_after": "2026-01-01T00:00:00"}, ["not_after", "2026-12-31T23:59:59Z"]),
        ):
            self.write(table(id='"fine"') + table(**fields))
            named = "key 2" if "id" in fields else "key 2 ('k1')"
            error = self.assertWrong(named, *expected)
            self.assertNotIn(TEXT[:-1], str(error))

    def test_wrongDocument(self) -> None:
        """A file that is no keyring is refused with what was expected."""
        for text, expected in (
            (b"\xff\xfe", "UTF-8"),
            ("[[key]\n", "expected TOML"),
            ("[key]\nid = 'a'\n", "expected tables, each headed [[key]]"),
            ("key = 3\n", "expected tables"),
            ("[[keys]]\n", "unknown name 'keys'"),
            ("[limits]\n", "unknown name 'limits'"),
            ("a = " + "[" * 100_000, "expected TOML"),
            ("a = " + "9" * 10_000, "expected TOML"),
        ):
            self.write(text)
            self.assertWrong(expected)

    def test_duplicate(self) -> None:
        """Two keys with one id are refused with their numbers."""
        self.write(table() + table(id='"k2"') + table())
        self.assertWrong("key 3 ('k1'): the id is that of key 1")

    @given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
    def test_anything(self, content: bytes) -> None:
        """Of any bytes at all, the result is a keyring or a KeyringError."""
        try:
            Keyring.parse(content, "it")
        except KeyringError as error:
            self.assertTrue(str(error).startswith("it: "))

    @given(st.lists(someKeys(), max_size=4, unique_by=lambda key: key.id))
    def test_roundTrip(self, keys: list[Key]) -> None:
        """Keys written as tables are read as they were."""
        text = "".join(map(key_table, keys))
        self.assertEqual(list(Keyring.parse(text.encode(), "it").values()), keys)

    @given(someKeys())
    def test_hiddenSecret(self, key: Key) -> None:
        """A table without the secret has nothing of it."""
        secret = key.secret or key.master or b""
        text = key_table(key, with_secret=False)
        self.assertNotIn(base64.b64encode(secret).decode(), text)
        self.assertRaises(KeyringError, Keyring.parse, text.encode(), "it")


class FileCheckTests(FileCase):
    """What a keyring's file has to be."""

    def test_missing(self) -> None:
        """A keyring that is not there is an error of its own class, which tells how to make one."""
        error = self.assertRaises(KeyringMissing, Keyring.load, self.path)
        self.assertIn(f"{self.path}: no such keyring", str(error))
        self.assertIn("keys new", str(error))

    def test_mode(self) -> None:
        """Any permission for group or others is refused; read-only for the owner is not."""
        self.write(table())
        for bit in (0o040, 0o020, 0o010, 0o004, 0o002, 0o001):
            self.path.chmod(0o600 | bit)
            self.assertWrong("expected mode 0600", f"found {0o600 | bit:04o}")
        self.path.chmod(0o400)
        self.assertEqual(list(Keyring.load(self.path)), ["k1"])

    def test_link(self) -> None:
        """A symbolic link is refused, even to a good keyring; a folder on the way may be one."""
        self.write(table(), name="real.toml")
        self.path.symlink_to("real.toml")
        self.assertWrong("symbolic link")
        (self.folder / "way").symlink_to(".")
        self.assertEqual(list(Keyring.load(self.folder / "way" / "real.toml")), ["k1"])

    def test_notRegular(self) -> None:
        """A folder and a FIFO are refused, the latter without waiting for a writer."""
        self.path.mkdir()
        self.assertWrong("expected a regular file")
        self.path.rmdir()
        os.mkfifo(self.path, 0o600)
        self.assertWrong("expected a regular file")

    def test_owner(self) -> None:
        """Another user's file is refused, naming both users."""
        self.write(table())
        me = os.geteuid()
        if me == 0:
            os.chown(self.path, 12345, -1)
            self.assertWrong("expected root as its owner, found user 12345")
            self.assertEqual(list(Keyring.load(self.path, euid=lambda: 12345)), ["k1"])
        error = self.assertRaises(KeyringError, Keyring.load, self.path, euid=lambda: 54321)
        self.assertIn(
            f"expected user 54321 or root as its owner, found user {me or 12345}", str(error)
        )

    def test_rootsOwn(self) -> None:
        """Root's file is accepted whoever reads it."""
        if os.geteuid() != 0:
            self.skipTest("only root can make a file of root's")
        self.write(table())
        self.assertEqual(list(Keyring.load(self.path, euid=lambda: 54321)), ["k1"])

    def test_size(self) -> None:
        """A file over the limit is refused, and no more than that of it is read."""
        self.write("#" * (MAX_SIZE + 1))
        self.assertWrong(f"at most {MAX_SIZE} bytes")
        self.write(b"12345")
        self.assertEqual(read_private(str(self.path), max_size=5), b"12345")
        self.assertRaises(KeyringError, read_private, str(self.path), max_size=4)

    def test_oddPath(self) -> None:
        """A path that cannot be one is a KeyringError too."""
        self.assertRaises(KeyringError, Keyring.load, "a\0b")
        self.write(table())
        self.assertRaises(KeyringError, Keyring.load, self.path / "below")

    def test_secretFile(self) -> None:
        """A secret may lie in a file of its own, relative to the keyring's folder."""
        self.write(TEXT + "\n", name="secret")
        self.write(table(secret="", secret_file='"secret"'))
        self.assertEqual(Keyring.load(self.path)["k1"].secret, SECRET)
        absolute = self.folder / "secret"
        self.write(table(secret="", secret_file=f'"{absolute}"'))
        self.assertEqual(Keyring.load(self.path)["k1"].secret, SECRET)

    def test_secretFileChecks(self) -> None:
        """A secret's file is checked as the keyring is, and told from it in messages."""
        self.write(table(secret="", secret_file='"secret"'))
        secret = self.folder / "secret"
        error = self.assertWrong("key 1 ('k1'): secret_file: ", str(secret), "no such file")
        self.assertFalse(isinstance(error, KeyringMissing))
        self.write(TEXT, name="secret", mode=0o644)
        self.assertWrong("secret_file", "expected mode 0600")
        self.write(b"\xff" * 40, name="secret")
        self.assertWrong("secret_file: expected base64")
        secret.unlink()
        self.write(TEXT, name="real")
        secret.symlink_to("real")
        self.assertWrong("secret_file", "symbolic link")


class NewestTests(SynchronousTestCase):
    """Which key ``--identity`` takes."""

    def key(self, key_id: str, **fields: Any) -> Key:
        """A key of the identity ``ops``."""
        return Key(key_id, **({"identity": "ops", "secret": SECRET} | fields))

    def choose(self, *keys: Key, host: str | None = None) -> str:
        """The id of the key taken."""
        return Keyring(keys).newest("ops", host, NOW).id

    def test_byTime(self) -> None:
        """The latest not_before wins, wherever it stands; none is older than any."""
        old, new = self.key("old", not_before=NOW - 2 * DAY), self.key("new", not_before=NOW - DAY)
        for keys in ((old, new), (new, old), (old, new, self.key("timeless"))):
            self.assertEqual(self.choose(*keys), "new")

    def test_byPlace(self) -> None:
        """Of keys of one age, the one that stands last wins."""
        self.assertEqual(self.choose(self.key("a"), self.key("b")), "b")
        self.assertEqual(self.choose(self.key("b"), self.key("a")), "a")

    def test_validOnly(self) -> None:
        """Revoked, expired and future keys are passed over."""
        self.assertEqual(
            self.choose(
                self.key("good"),
                self.key("revoked", revoked=True),
                self.key("expired", not_before=NOW - 2 * DAY, not_after=NOW - DAY),
                self.key("future", not_before=NOW + DAY),
                self.key("other", identity="other"),
            ),
            "good",
        )

    def test_host(self) -> None:
        """Only keys for the host count; without a host all do."""
        keys = (self.key("web", hosts=["web*"]), self.key("db", hosts=["db*"]))
        self.assertEqual(self.choose(*keys, host="web1"), "web")
        self.assertEqual(self.choose(*keys), "db")

    def test_errors(self) -> None:
        """The errors tell apart: no such identity, none for the host, none valid."""
        keyring = Keyring(
            [
                self.key("a", hosts=["web*"], revoked=True),
                self.key("b", hosts=["web*"], not_after=NOW - DAY),
            ],
            "the-file",
        )

        def message(identity: str, host: str | None) -> str:
            return str(self.assertRaises(KeyringError, keyring.newest, identity, host, NOW))

        self.assertEqual(
            message("opps", None), "the-file: no key of the identity 'opps': did you mean 'ops'?"
        )
        self.assertEqual(
            message("zzz", None), "the-file: no key of the identity 'zzz': there is 'ops'"
        )
        self.assertEqual(
            message("ops", "db1"),
            "the-file: no key of the identity 'ops' is for the host 'db1' (a: web*; b: web*)",
        )
        self.assertEqual(
            message("ops", "web1"),
            "the-file: no key of the identity 'ops' for the host 'web1' is valid now "
            "(a: revoked; b: expired)",
        )
        error = self.assertRaises(KeyringError, Keyring().newest, "owner")
        self.assertIn("it has no keys", str(error))

    def test_clock(self) -> None:
        """Without a time it is now."""
        soon = datetime.now(UTC) + DAY
        self.assertEqual(Keyring([self.key("a", not_after=soon)]).newest("ops").id, "a")
        self.assertRaises(KeyringError, Keyring([self.key("a", not_before=soon)]).newest, "ops")


class KeyringFileTests(FileCase):
    """A keyring that follows its file."""

    def test_cached(self) -> None:
        """An unchanged file is not read again."""
        self.write(table())
        file = KeyringFile(self.path)
        self.assertIs(file.current(), file.current())
        self.assertIsNone(file.error)

    def test_changed(self) -> None:
        """A changed file is read at the next call: written in place, or another in its place."""
        self.write(table())
        file = KeyringFile(self.path)
        self.assertEqual(list(file.current()), ["k1"])
        self.write(table() + table(id='"k2"'))
        self.assertEqual(list(file.current()), ["k1", "k2"])
        self.write(table(id='"k3"'), name="next").rename(self.path)
        self.assertEqual(list(file.current()), ["k3"])

    def test_bad(self) -> None:
        """A file that cannot be used leaves the keyring as it was, with the error, until it can."""
        self.write(table())
        file = KeyringFile(self.path)
        good = file.current()
        for spoil in (
            lambda: self.write("[[key]]\n"),
            lambda: self.write(table(), mode=0o644),
            self.path.unlink,
        ):
            spoil()
            self.assertIs(file.current(), good)
            error = file.error
            assert error is not None
            self.assertIn(str(self.path), str(error))
            self.assertIs(file.current(), good)
            self.assertIs(file.error, error)  # nor is a bad file read again and again
        self.write(table(id='"k2"'))
        self.assertEqual(list(file.current()), ["k2"])
        self.assertIsNone(file.error)

    def test_chmod(self) -> None:
        """A mode that is put right makes the file good again, though nothing in it has changed."""
        self.write(table(), mode=0o644)
        file = KeyringFile(self.path)
        self.assertRaises(KeyringError, file.current)
        self.path.chmod(0o600)
        self.assertEqual(list(file.current()), ["k1"])

    def test_neverGood(self) -> None:
        """Without a last good one, the error is raised, until the file can be used."""
        file = KeyringFile(self.path)
        for _ in range(2):
            self.assertRaises(KeyringMissing, file.current)
        self.write(table())
        self.assertEqual(list(file.current()), ["k1"])

    def test_reload(self) -> None:
        """Reloading reads the file now and raises, yet keeps the last good one."""
        self.write(table())
        file = KeyringFile(self.path)
        good = file.reload()
        self.assertIsNot(file.reload(), good)
        good = file.current()
        self.write("[[key]]\n")
        error = self.assertRaises(KeyringError, file.reload)
        self.assertIs(file.error, error)
        self.assertIs(file.current(), good)

    def test_secretFile(self) -> None:
        """A secret's own file is followed too, also one that was missing."""
        self.write(table(secret="", secret_file='"secret"'))
        file = KeyringFile(self.path)
        self.assertRaises(KeyringError, file.current)
        self.write(TEXT, name="secret")
        self.assertEqual(file.current()["k1"].secret, SECRET)
        self.write(OTHER, name="secret")
        self.assertEqual(file.current()["k1"].secret, b"another secret of ours")


class DefaultPathTests(SynchronousTestCase):
    """Where a user's own keyring is."""

    def test_paths(self) -> None:
        """The XDG folder if it is absolute, else .config in the home folder."""
        home = {"HOME": "/home/u"}
        self.assertEqual(default_path(home), "/home/u/.config/sockproto/keyring.toml")
        for folder in ("", "relative"):
            found = default_path(home | {"XDG_CONFIG_HOME": folder})
            self.assertEqual(found, "/home/u/.config/sockproto/keyring.toml")
        found = default_path(home | {"XDG_CONFIG_HOME": "/x"})
        self.assertEqual(found, "/x/sockproto/keyring.toml")

    def test_noHome(self) -> None:
        """Without HOME the password database says where home is."""
        import pwd

        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            self.assertRaises(KeyringError, default_path, {})
        else:
            self.assertEqual(default_path({}), f"{home}/.config/sockproto/keyring.toml")
