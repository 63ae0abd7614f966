"""Tests of the source itself: who may import whom, and the habits that a reader relies on."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "names", "logs", "tables", "throttle"),
    ("limits", "interfaces", "private_file"),
    ("wire",),
    ("key", "result", "target", "timeclient", "tls", "admission", "output_credit", "outbox"),
    ("keyring", "connections", "datagrams"),
    ("keyring_file", "keyring_edit"),
    ("hosts",),
    ("credentials",),
    ("framing",),
    ("auth",),
    ("session", "memory"),
    ("services", "client", "reactor"),
    ("server", "blocking"),
    ("tap", "cli", "testing"),
    ("__main__", "examples"),
)
"""The parts of sockproto from the bottom up: each may import itself and what stands above it here.

The package's own ``__init__`` re-exports all of them and stands over the last.  A new part is
written down here first.
"""

SIDES: dict[str, tuple[str, ...]] = {
    "client": ("auth.server", "admission", "services", "server", "session"),
    "blocking": ("auth", "framing", "admission", "services", "server", "session"),
    "cli": ("auth", "framing", "admission", "session", "tap"),
    "services": ("client", "blocking"),
    "server": ("client", "blocking"),
    "tap": ("client", "blocking", "cli"),
}
"""What the client's parts and the server's may not import of each other."""

HEAVY = {"twisted", "zope", "cattrs", "OpenSSL", "cryptography", "tomlkit"}
"""What the client program must not import before it needs it: it is started thousands of times."""

LONGEST = 330
"""Lines of a module; one that needs more has two roles."""


@frozen
class Import:
    """One name that a module imports.

    :ivar name: absolute, with dots.
    :ivar line: where.
    :ivar atStart: whether the module's own import does it, rather than a call of a function.
    """

    name: str
    line: int
    atStart: bool


def nodes(tree: ast.AST, atStart: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Walk a module, telling what is run at its import; what is for type checkers only is not."""
    for node in ast.iter_child_nodes(tree):
        deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        )
        yield node, atStart
        yield from nodes(node, atStart and not deferred)


def importsOf(module: str, isPackage: bool, source: str) -> list[Import]:
    """List what a module imports.

    :param module: its name, with dots.
    :param isPackage: whether the source is that of its ``__init__.py``.
    :param source: its text.
    """
    found = []
    for node, atStart in nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, atStart) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")
            base = above[: len(above) - node.level + isPackage] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            # The name may itself be a module.
            found += [Import(f"{start}.{alias.name}", node.lineno, atStart) for alias in node.names]
    return found


def within(name: str, part: str) -> bool:
    """Tell whether a dotted name is a part, or in it."""
    return f"{name}.".startswith(f"{part}.")


def modules(package: str) -> Iterator[tuple[str, Path, list[Import]]]:
    """Give each module of a package with its path and what it imports."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        isPackage = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if isPackage else parts)
        yield name, path, importsOf(name, isPackage, path.read_text())


class ImportTests(SynchronousTestCase):
    """Who may import whom."""

    def expectNone(self, wrong: list[str]) -> None:
        """Fail with all that is wrong, a line for each."""
        if wrong:
            self.fail("\n".join(["", *wrong]))

    def test_downwards(self) -> None:
        """Every part of sockproto imports only itself and parts below it."""
        level = {part: number for number, layer in enumerate(LAYERS) for part in layer}
        wrong = []
        for module, path, imports in modules("sockproto"):
            if module == "sockproto":
                continue
            own = module.split(".")[1]
            if own not in level:
                wrong.append(f"{path}: {own} has no place in LAYERS")
                continue
            for each in imports:
                if not within(each.name, "sockproto"):
                    continue
                other = each.name.split(".")[1]
                # A part that is not known is a name of the package itself, which re-exports all.
                if other != own and level.get(other, len(LAYERS)) >= level[own]:
                    wrong.append(f"{path}:{each.line}: {own} may not import {each.name}")
        self.expectNone(wrong)

    def test_sides(self) -> None:
        """The client's side and the server's do not import each other.

        The one exception is ``sockproto check``, which reads a server's configuration.
        """
        wrong = []
        for module, path, imports in modules("sockproto"):
            for own, others in SIDES.items():
                if within(module, f"sockproto.{own}"):
                    wrong += [
                        f"{path}:{each.line}: {own} may not import {each.name}"
                        for each in imports
                        for other in others
                        if within(each.name, f"sockproto.{other}")
                    ]
            if within(module, "sockproto.cli") and module != "sockproto.cli.check":
                wrong += [
                    f"{path}:{each.line}: only cli.check may import {each.name}"
                    for each in imports
                    for other in ("services", "server")
                    if within(each.name, f"sockproto.{other}")
                ]
        self.expectNone(wrong)

    def test_wireIsPure(self) -> None:
        """The machines without I/O know the standard library, attrs and the errors alone."""
        allowed = {*sys.stdlib_module_names, "attr", "attrs"}
        self.expectNone(
            [
                f"{path}:{each.line}: {each.name}"
                for _, path, imports in modules("sockproto/wire")
                for each in imports
                if each.name.split(".")[0] not in allowed
                and not within(each.name, "sockproto.wire")
                and not within(each.name, "sockproto.errors")
            ]
        )

    def test_noReactor(self) -> None:
        """No module's import imports the reactor, which would choose it for the program."""
        self.expectNone(
            [
                f"{path}:{each.line}: {each.name}"
                for package in ("sockproto", "twisted/plugins")
                for _, path, imports in modules(package)
                for each in imports
                if each.atStart and within(each.name, "twisted.internet.reactor")
            ]
        )

    def test_clientProgramIsLight(self) -> None:
        """The client program imports nothing heavy before it is known to be needed."""
        self.expectNone(
            [
                f"{path}:{each.line}: {each.name}"
                for package in ("sockproto/cli", "sockproto/blocking")
                for _, path, imports in modules(package)
                for each in imports
                if each.atStart and each.name.split(".")[0] in HEAVY
            ]
        )

    def test_finder(self) -> None:
        """These tests see absolute, relative and deferred imports for what they are."""
        source = (
            "import a.b\n"
            "from .. import c\n"
            "from .d import e\n"
            "if TYPE_CHECKING:\n"
            "    import f\n"
            "def g():\n"
            "    from twisted.internet import reactor\n"
        )
        self.assertEqual(
            importsOf("sockproto.x.y", False, source),
            [
                Import("a.b", 1, True),
                Import("sockproto.c", 2, True),
                Import("sockproto.x.d.e", 3, True),
                Import("f", 5, False),
                Import("twisted.internet.reactor", 7, False),
            ],
        )
        self.assertEqual(
            importsOf("sockproto.x", True, "from .. import c\nfrom . import d\n"),
            [Import("sockproto.c", 1, True), Import("sockproto.x.d", 2, True)],
        )


class HabitTests(SynchronousTestCase):
    """What a reader may rely on."""

    def test_length(self) -> None:
        """No module is longer than one role needs."""
        lengths = {
            str(path): len(path.read_text().splitlines()) for _, path, _ in modules("sockproto")
        }
        self.assertEqual({path: n for path, n in lengths.items() if n > LONGEST}, {})

    def test_synchronousTestsAreSynchronous(self) -> None:
        """No test of a SynchronousTestCase is a coroutine: it would pass without having run."""
        wrong = []
        for _, path, _ in modules("tests"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and any(
                    "SynchronousTestCase" in ast.dump(base) for base in node.bases
                ):
                    wrong += [
                        f"{path}:{each.lineno}: {node.name}.{each.name}"
                        for each in node.body
                        if isinstance(each, ast.AsyncFunctionDef)
                    ]
        self.assertEqual(wrong, [])
