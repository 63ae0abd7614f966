"""Reads configuration files: TOML, what they include, their digests, all errors together."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import attrs

from sockproto.errors import ConfigurationError
from sockproto.server.checks import check
from sockproto.server.problems import Problems
from sockproto.server.schema import Configuration, Source
from sockproto.server.structure import keys_of, structure

__all__ = ["read_configuration"]

#: A configuration of people is kilobytes; this keeps a device or a log file from being read whole.
_MAX_FILE = 16 * 1024 * 1024
#: Files in all, included ones too.
_MAX_FILES = 1000

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read_configuration(path: str | Path) -> Configuration:
    """Read a configuration file and the files that it includes, and check the whole.

    :raises ConfigurationError: with a line for each thing that is wrong, which begins with the
        file. Nothing of such a configuration is to be used.
    """
    reading = _Reading()
    reading.file(Path(path).absolute(), ())
    configuration = reading.merged()
    if reading.errors:
        raise ConfigurationError("\n".join(reading.errors))
    return configuration


class _Reading:
    """The files read so far.

    :ivar errors: what is wrong with them, a line each.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._sources: list[Source] = []
        self._warnings: list[str] = []
        self._exposed: list[str] = []
        self._parts: list[tuple[Path, dict[str, Any], Configuration]] = []

    def file(self, path: Path, within: tuple[Path, ...]) -> None:
        """Read one file, then what it includes.

        :param within: the files that include it, the outermost first.
        """
        real = path.resolve()
        if real in within:
            chain = " -> ".join(str(one) for one in (*within[within.index(real) :], real))
            self.errors.append(f"{within[-1]}: include goes round in a circle: {chain}")
            return
        if any(source.path.resolve() == real for source in self._sources):
            self.errors.append(f"{within[-1]}: include: {path} is included already")
            return
        if len(self._sources) >= _MAX_FILES:
            self.errors.append(f"{path}: more than {_MAX_FILES} files are included")
            return
        table = self._table(path, within)
        if table is None:
            return
        try:
            part = structure(table, Configuration)
        except Problems as problems:
            self.errors += [f"{path}: {line}" for line in problems.lines]
            return
        errors, warnings = check(part)
        self.errors += [f"{path}: {line}" for line in errors]
        self._warnings += [f"{path}: {line}" for line in warnings]
        listeners = tuple(one.within(path.parent) for one in part.listeners)
        tutorial = part.tutorial.within(path.parent)
        audit = part.audit.within(path.parent)
        whole = attrs.evolve(part, listeners=listeners, tutorial=tutorial, audit=audit)
        self._parts.append((path, table, whole))
        for pattern in part.include:
            for found in self._included(path, pattern):
                self.file(found, (*within, real))

    def merged(self) -> Configuration:
        """All files as one: arrays are joined, anything else may stand in one file only.

        What does not go together is noted among the errors.
        """
        values: dict[str, Any] = {}
        origin: dict[str, Path] = {}
        for path, table, part in self._parts:
            for key, attribute in keys_of(Configuration).items():
                value = getattr(part, attribute.name)
                if key not in table:
                    continue
                if isinstance(value, tuple):
                    values[attribute.name] = values.get(attribute.name, ()) + value
                elif key in origin:
                    self.errors.append(f"{path}: {key} is in {origin[key]} already")
                else:
                    values[attribute.name], origin[key] = value, path
        self._compare_names()
        return Configuration(
            **values,
            sources=tuple(self._sources),
            warnings=tuple(self._warnings),
            exposed=tuple(self._exposed),
        )

    def _compare_names(self) -> None:
        """Note the names of commands that several files use; :func:`check` looked inside each."""
        owners: dict[str, Path] = {}
        for path, _, part in self._parts:
            for name in dict.fromkeys(rule.name for rule in part.commands):
                if name is None:
                    continue
                if name in owners:
                    self.errors.append(
                        f'{path}: [[command]] "{name}": {owners[name]} has one of that name '
                        "already; names have to be unique"
                    )
                owners.setdefault(name, path)

    def _table(self, path: Path, within: tuple[Path, ...]) -> dict[str, Any] | None:
        """The TOML of one file; ``None``, with an error noted, if there is none to be had."""
        try:
            with path.open("rb") as stream:
                data = stream.read(_MAX_FILE + 1)
                found = os.fstat(stream.fileno())
        except OSError as error:
            by = f" (included by {within[-1]})" if within else ""
            self.errors.append(f"{path}: cannot be read: {error.strerror}{by}")
            return None
        self._permissions(path, found)
        self._sources.append(Source(path, hashlib.sha256(data).hexdigest()))
        if len(data) > _MAX_FILE:
            self.errors.append(f"{path}: is over {_MAX_FILE} bytes, which is no configuration")
            return None
        try:
            return tomllib.loads(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            self.errors.append(f"{path}: line {line}: is not UTF-8")
        except tomllib.TOMLDecodeError as error:
            self.errors.append(f"{path}: {_syntax(error, data)}")
        except RecursionError:
            self.errors.append(f"{path}: is nested too deeply")
        return None

    def _permissions(self, path: Path, found: os.stat_result) -> None:
        """Note who else could have written a file, and so allowed themselves anything.

        A group may write for an ordinary user, whose group is often their own, but not for root.
        """
        mode, euid = stat.S_IMODE(found.st_mode), os.geteuid()
        if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and euid == 0):
            who = "everybody" if mode & stat.S_IWOTH else f"group {found.st_gid}"
            self._exposed.append(
                f"{path}: expected that only its owner can write it, found mode {mode:04o}: "
                f"{who} could allow themselves anything (chmod go-w {path})"
            )
        if found.st_uid not in (euid, 0):
            self._warnings.append(
                f"{path}: belongs to user {found.st_uid}, who can allow themselves anything by it"
            )

    def _included(self, path: Path, pattern: str) -> list[Path]:
        """The files that one ``include`` pattern names, in the order of their names."""
        if not glob.has_magic(pattern):
            return [path.parent / pattern]
        root = path.parent
        return [root / name for name in sorted(glob.glob(pattern, root_dir=root))]


def _syntax(error: tomllib.TOMLDecodeError, data: bytes) -> str:
    """A TOML syntax error with its line and column in front."""
    text = str(error)
    match = _POSITION.search(text)
    if match is None:
        return text
    if match[1] is None:
        line = data.count(b"\n") + 1
        column = len(data) - data.rfind(b"\n")
    else:
        line, column = int(match[1]), int(match[2])
    what = text[: match.start()]
    return f"line {line}, column {column}: {what[:1].lower()}{what[1:]}"
