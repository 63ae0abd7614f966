"""``sockproto commands``: what may be run on the agent's machine, and what one command takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from sockproto.cli.command import NO_STATUS, Failure, command, one_line
from sockproto.cli.options import ConnectionOptions
from sockproto.errors import AgentError
from sockproto.tables import aligned, duration

if TYPE_CHECKING:
    from sockproto.blocking import Session

__all__ = ["commands", "show_command"]

# As long as a connection may take: the agent makes the list of what it has in memory.
_SECONDS = 10.0


@command(
    "commands",
    examples=[
        ("sockproto commands", "what the agent of this machine lets us run"),
        ("sockproto commands --connect web1 --identity ops --json", "another's, for a program"),
    ],
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, with all that is known of them.")
def commands(options: ConnectionOptions, as_json: bool) -> None:
    """List the commands that the agent lets us run, with their parameters.

    `sockproto run --help-command NAME` says more of one."""
    with options.connect() as session:
        found = _offered(session)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = [(_name(each), _parameters(each), _text(each, "summary")) for each in found]
    click.echo(aligned([("COMMAND", "PARAMETERS", "SUMMARY"), *rows]), nl=False)


def show_command(options: ConnectionOptions, name: str) -> None:
    """Print what one command is for and what it takes.

    :raises Failure: it is none of those that we may run.
    """
    with options.connect() as session:
        found = _offered(session)
    one = next((each for each in found if each.get("name") == name), None)
    if one is None:
        from difflib import get_close_matches

        names = [_name(each) for each in found if not each.get("any")]
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Failure("unknown", f"there is no command {name!r} that we may run{hint}", NO_STATUS)
    click.echo("\n".join(_described(one)))


def _offered(session: Session) -> list[dict[str, Any]]:
    """What the agent lets us run, as it says.

    :raises AgentError: it does not say.
    """
    result = session.run(["commands", "--json"], timeout=_SECONDS)
    if not result.ok:
        what = result.stderr.decode("utf-8", "replace").strip() or "its list came to nothing"
        raise AgentError(f"the agent's list of commands: {what}", "internal")
    try:
        found = json.loads(result.stdout)["commands"]
        if all(isinstance(each, dict) for each in found):
            return list(found)
    except (ValueError, KeyError, TypeError):
        pass
    raise AgentError("the agent's list of commands is none", "protocol")


def _text(table: dict[str, Any], key: str) -> str:
    """A text of the agent's as a terminal may have it."""
    value = table.get(key)
    return one_line(value) if isinstance(value, str) else ""


def _name(found: dict[str, Any]) -> str:
    return "PROGRAM" if found.get("any") is True else _text(found, "name")


def _each(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of a command."""
    parameters = found.get("parameters")
    return [each for each in parameters or () if isinstance(each, dict)]


def _parameters(found: dict[str, Any]) -> str:
    """The parameters as a manual has them: ``FOLDER [LEVEL] [NAME...]``."""
    if found.get("any") is True:
        return "[WORD...]"
    words = []
    for each in _each(found):
        shown = _text(each, "name").upper() + ("..." if each.get("rest") is True else "")
        words.append(shown if each.get("required") is True else f"[{shown}]")
    return " ".join(words)


def _described(found: dict[str, Any]) -> list[str]:
    """One command, in lines."""
    lines = [f"{_name(found)} {_parameters(found)}".rstrip()]
    summary = _text(found, "summary")
    if summary:
        lines += ["", f"  {summary}"]
    rows = []
    for each in _each(found):
        default = _text(each, "default")
        more = f" (default: {default})" if default else ""
        rows.append((f"  {_text(each, 'name').upper()}", _text(each, "constraint") + more))
    if rows:
        lines += ["", *aligned(rows).splitlines()]
    notes = list(_notes(found))
    return [*lines, "", *(f"  {note}" for note in notes)] if notes else lines


def _notes(found: dict[str, Any]) -> list[str]:
    """What else is worth knowing before it is run."""
    notes = []
    if found.get("stdin") is True:
        notes.append("It reads input: run --stdin.")
    if found.get("tty") is True:
        notes.append("It may run on a terminal: run --tty.")
    environment = [each for each in found.get("env") or () if isinstance(each, str)]
    if environment:
        notes.append(f"Variables that may be set: {one_line(' '.join(environment))}.")
    timeout, fresh, most = (_number(found, key) for key in ("timeout", "fresh", "max_output"))
    if timeout is not None:
        notes.append(f"It is ended after {duration(timeout)}.")
    if most is not None:
        notes.append(f"It is ended once it has written {most:.0f} bytes.")
    if fresh is not None:
        notes.append(f"Its result may be one of the last {duration(fresh)}.")
    return notes


def _number(found: dict[str, Any], key: str) -> float | None:
    value = found.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
