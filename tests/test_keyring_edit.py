"""Tests for :mod:`sockproto.keyring_edit`."""

from __future__ import annotations

import errno
import os
import stat
import threading

from attrs import evolve

from sockproto.errors import KeyringError
from sockproto.key import new_key
from sockproto.keyring import Keyring, KeyringMissing
from sockproto.keyring_edit import add_keys, create_keyring, revoke_key

from .test_keyring import NOW, TEXT, FileCase, table


class EditTests(FileCase):
    """Making and changing a keyring's file."""

    def leftovers(self) -> list[str]:
        """What is in the folder besides the keyring."""
        return [name for name in os.listdir(self.folder) if name != self.path.name]

    def test_create(self) -> None:
        """A keyring is made with its folders and one key, for its owner alone under any umask."""
        path = self.folder / "a" / "b" / "keyring.toml"
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        keyring = create_keyring(path)
        self.assertEqual(list(keyring), ["owner"])
        self.assertEqual(Keyring.load(path), keyring)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        for folder in (path.parent, path.parent.parent):
            self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        self.assertEqual(os.listdir(path.parent), ["keyring.toml"])

    def test_createOver(self) -> None:
        """Nothing that is there is written over, a dangling link included."""
        self.write(table())
        before = self.path.read_bytes()
        error = self.assertRaises(KeyringError, create_keyring, self.path)
        self.assertIn(f"{self.path}: there is something already", str(error))
        self.assertEqual(self.path.read_bytes(), before)
        self.path.unlink()
        self.path.symlink_to("nowhere")
        self.assertRaises(KeyringError, create_keyring, self.path)
        self.assertRaises(KeyringError, add_keys, self.path, [new_key("k1")])
        self.assertEqual(self.leftovers(), [])

    def test_createFails(self) -> None:
        """A place where nothing can be written is an error with the path."""
        self.write("")
        path = self.path / "below" / "keyring.toml"
        error = self.assertRaises(KeyringError, create_keyring, path)
        self.assertTrue(str(error).startswith(f"{path}: cannot be written: "))

    def test_add(self) -> None:
        """Keys are added at the end, and what is there stays byte for byte."""
        text = f"# ours\n{table()}# the end, without a line end"
        self.write(text)
        keys = [new_key("k2", groups=["g"]), new_key("k3", master=True, not_after=NOW)]
        self.assertEqual(add_keys(self.path, keys), keys)
        self.assertTrue(self.path.read_text().startswith(text + "\n\n[[key]]\n"))
        self.assertEqual(list(Keyring.load(self.path).values())[1:], keys)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(self.leftovers(), [])

    def test_addToNothing(self) -> None:
        """A missing keyring is made with the keys, and an empty one filled."""
        key = new_key("k1")
        self.assertEqual(add_keys(self.path, [key]), [key])
        self.assertEqual(list(Keyring.load(self.path).values()), [key])
        self.write("")
        add_keys(self.path, [key])
        self.assertEqual(list(Keyring.load(self.path).values()), [key])

    def test_addAgain(self) -> None:
        """The same key again changes nothing; another under its id is refused, all or none."""
        key = new_key("k1")
        add_keys(self.path, [key])
        before = self.path.read_bytes()
        self.assertEqual(add_keys(self.path, [key]), [])
        for other, names in (
            (new_key("k1"), "secret"),
            (evolve(key, groups=("g",)), "groups"),
            (evolve(key, revoked=True), "revoked"),
        ):
            error = self.assertRaises(KeyringError, add_keys, self.path, [new_key("k2"), other])
            self.assertIn(f"another key 'k1' already, with another {names}", str(error))
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(add_keys(self.path, [new_key("k1")], keep_existing=True), [])
        self.assertEqual(self.path.read_bytes(), before)

    def test_revokedStays(self) -> None:
        """A revoked key does not come back by adding it once more."""
        key = new_key("k1")
        add_keys(self.path, [key])
        revoke_key(self.path, "k1")
        self.assertRaises(KeyringError, add_keys, self.path, [key])
        self.assertTrue(Keyring.load(self.path)["k1"].revoked)

    def test_revoke(self) -> None:
        """One line is added to the key's own table, and the rest stays as it is."""
        first, second = table(id='"a"   # the first'), table(id='"b"')
        text = f"# ours\n\n{first}\n# about b\n\n{second}# the end\n"
        self.write(text)
        self.assertTrue(revoke_key(self.path, "a"))
        self.assertEqual(self.path.read_text(), text.replace(first, f"{first}revoked = true\n"))
        self.assertFalse(revoke_key(self.path, "a"))
        self.assertTrue(revoke_key(self.path, "b"))
        self.assertEqual([key.revoked for key in Keyring.load(self.path).values()], [True, True])
        self.assertIn("# the end", self.path.read_text())
        self.assertEqual(self.leftovers(), [])

    def test_unset(self) -> None:
        """A field that says false is changed where it stands."""
        text = table(revoked="false # not yet") + table(id='"b"')
        self.write(text)
        self.assertTrue(revoke_key(self.path, "k1"))
        self.assertEqual(self.path.read_text(), text.replace("false", "true"))

    def test_revokeSecretFile(self) -> None:
        """A secret in a file of its own stays there."""
        self.write(TEXT, name="secret")
        text = table(secret="", secret_file='"secret"')
        self.write(text)
        self.assertTrue(revoke_key(self.path, "k1"))
        self.assertEqual(self.path.read_text(), f"{text}revoked = true\n")

    def test_revokeNobody(self) -> None:
        """A key that is not there cannot be revoked, nor one in a keyring that is not."""
        self.assertRaises(KeyringMissing, revoke_key, self.path, "k1")
        self.write(table())
        error = self.assertRaises(KeyringError, revoke_key, self.path, "k2")
        self.assertEqual(str(error), f"{self.path}: no key with the id 'k2'")

    def test_inline(self) -> None:
        """A keyring written as one array can be read; editing it is refused, and harmless."""
        text = f'key = [{{id = "k1", secret = "{TEXT}"}}]\n'
        self.write(text)
        self.assertEqual(list(Keyring.load(self.path)), ["k1"])
        for edit in (
            lambda: add_keys(self.path, [new_key("k2")]),
            lambda: revoke_key(self.path, "k1"),
        ):
            self.assertIn("[[key]] tables", str(self.assertRaises(KeyringError, edit)))
        self.assertEqual(self.path.read_text(), text)
        self.assertEqual(self.leftovers(), [])

    def test_checkedFirst(self) -> None:
        """An editor wants the same of the file as a reader."""
        self.write(table(), mode=0o644)
        self.assertRaises(KeyringError, add_keys, self.path, [new_key("k2")])
        self.assertRaises(KeyringError, revoke_key, self.path, "k1")

    def test_readOnly(self) -> None:
        """A keyring that may be read but not written is an error that says so."""
        self.write(table(), mode=0o400)
        real = os.open

        def openReadOnly(path: str, flags: int, *more: int) -> int:
            if flags & os.O_RDWR:  # as it is for anyone but root
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(path, flags, *more)

        self.patch(os, "open", openReadOnly)
        error = self.assertRaises(KeyringError, revoke_key, self.path, "k1")
        self.assertEqual(str(error), f"{self.path}: cannot be changed: Permission denied")

    def test_interrupted(self) -> None:
        """Whatever step fails, the keyring is as it was and nothing lies beside it."""
        self.write(table())
        before = self.path.read_bytes()

        def fail(*_args: object, **_more: object) -> None:
            raise OSError(28, "No space left on device")

        for step in ("rename", "fsync", "fchmod"):
            patch = self.patch(os, step, fail)
            error = self.assertRaises(KeyringError, add_keys, self.path, [new_key("k2")])
            patch.restore()
            self.assertEqual(str(error), f"{self.path}: cannot be written: No space left on device")
            self.assertEqual(self.path.read_bytes(), before, step)
            self.assertEqual(self.leftovers(), [], step)

    def test_together(self) -> None:
        """Editors at the same time, on a keyring that is not there at first, lose no key."""
        start = threading.Barrier(8)
        errors: list[BaseException] = []

        def edit(number: int) -> None:
            try:
                start.wait(10)
                for turn in range(4):
                    add_keys(self.path, [new_key(f"k{number}-{turn}")])
                revoke_key(self.path, f"k{number}-0")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=edit, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(errors, [])
        keyring = Keyring.load(self.path)
        self.assertEqual(set(keyring), {f"k{n}-{turn}" for n in range(8) for turn in range(4)})
        self.assertEqual(
            {key.id for key in keyring.values() if key.revoked}, {f"k{n}-0" for n in range(8)}
        )
        self.assertEqual(self.leftovers(), [])
