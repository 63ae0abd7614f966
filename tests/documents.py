"""The documents as the tests read them: their programs, their commands, their test vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

__all__ = ["ROOT", "Block", "Command", "blocks", "commands", "prose", "table", "vectors"]

ROOT = Path(__file__).resolve().parent.parent

_DIRECTIVE = re.compile(r"\.\. code-block:: (\w+)$")
_VECTOR = re.compile(
    r"^\*\*([a-z0-9-]+)\*\*(?:, from the (client|server))?[^:]*(?:\n[^\n]*)?::\n\n"
    r"((?: {4}[0-9a-f ]+\n)+)",
    re.MULTILINE,
)


@frozen
class Block:
    """A block of code, or of anything else that is shown as it is.

    :ivar place: the document and the line, for messages.
    :ivar language: ``python``, ``console``, ``toml`` ...; ``literal`` for what ``::`` begins.
    :ivar text: without its indentation.
    """

    place: str
    language: str
    text: str


@frozen
class Command:
    """A command of a console, and the lines that are shown below it."""

    place: str
    line: str
    output: list[str]


def blocks(name: str, language: str = "") -> list[Block]:
    """The blocks of a document, in order.

    :param name: its path in the checkout.
    :param language: only those in this language.
    """
    return [each for each in _blocks(name) if language in ("", each.language)]


def _blocks(name: str) -> Iterator[Block]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        directive = _DIRECTIVE.match(line)
        if directive is None and not line.endswith("::"):
            continue
        start = number
        while number < len(lines) and (not lines[number] or lines[number].startswith("    ")):
            number += 1
        body = "\n".join(each[4:] for each in lines[start:number]).strip("\n") + "\n"
        yield Block(f"{name}:{start + 1}", directive[1] if directive else "literal", body)


def commands(block: Block) -> list[Command]:
    """The commands of a console: a line after ``$``, then what it prints."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(block.place, line[2:], []))
        else:
            found[-1].output.append(line)
    return found


def vectors(name: str) -> dict[str, tuple[str, bytes]]:
    """The test vectors of a document: who sends each, and its bytes."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = [(each[1], each[2] or "", bytes.fromhex(each[3])) for each in _VECTOR.finditer(text)]
    return {vector: (sender, data) for vector, sender, data in found}


def table(name: str, heading: str) -> list[list[str]]:
    """The rows of the table whose first column has a heading; further lines of a row are left out.

    Columns are told apart as the table's own border tells them.
    """
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    start = next(
        number
        for number, line in enumerate(lines)
        if line.startswith("==") and " " in line and lines[number + 1].startswith(heading)
    )
    spans = [each.span() for each in re.finditer("=+", lines[start])]
    rows = []
    for line in lines[start + 3 :]:
        if line.startswith("=="):
            break
        if not line.startswith(" "):
            ends = [first for first, _ in spans[1:]] + [len(line)]
            rows.append([line[at:end].strip() for (at, _), end in zip(spans, ends, strict=True)])
    return rows


def prose(name: str) -> str:
    """A document's text with single spaces, so that sentences can be looked for."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())
