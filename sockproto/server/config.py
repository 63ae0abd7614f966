"""The configuration of a server: of a file, of ``--listen``, or the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from sockproto.errors import ConfigurationError
from sockproto.server.checks import check, check_listener, check_whole
from sockproto.server.endpoint import Endpoint, is_local_endpoint
from sockproto.server.problems import near
from sockproto.server.reading import read_configuration
from sockproto.server.registry import SERVICES, Service
from sockproto.server.schema import (
    AuditSettings,
    Configuration,
    ListenerSettings,
    LogSettings,
    Source,
)

__all__ = [
    "SERVICES",
    "AuditSettings",
    "Configuration",
    "Endpoint",
    "ListenerSettings",
    "LogSettings",
    "Service",
    "Source",
    "check",
    "default_configuration",
    "is_local_endpoint",
    "load_configuration",
    "parse_listen",
    "read_configuration",
]


def load_configuration(
    path: str | Path | None, listen: Sequence[str] = (), folder: str | Path = "."
) -> Configuration:
    """What a server is to do, from its command line.

    :param path: of ``--config``; ``None``: no file, so ``owner`` may run anything and nobody else
        may.
    :param listen: of each ``--listen``; with any, or with a file, only what these name is listened
        on.
    :param folder: where the command line was given: its Unix sockets are relative to it.
    :raises ConfigurationError: with a line for each thing that is wrong.
    """
    here = Path(folder).absolute()
    listeners = tuple(parse_listen(text).within(here) for text in listen)
    if path is None:
        if not listeners:
            return default_configuration()
        return _without_file(listeners)
    configuration = read_configuration(path)
    if configuration.exposed:
        raise ConfigurationError("\n".join(configuration.exposed))
    if not listeners and not configuration.listeners:
        raise ConfigurationError(
            f"{path}: there is nothing to listen on: expected a [[listen]] table, or --listen"
        )
    errors, warnings = _of_command_line(listeners)
    if errors:
        raise ConfigurationError("\n".join(errors))
    whole = attrs.evolve(
        configuration,
        listeners=configuration.listeners + listeners,
        warnings=(*configuration.warnings, *warnings),
    )
    lacking = check_whole(whole)
    if lacking:
        raise ConfigurationError("\n".join(f"{path}: {line}" for line in lacking))
    return whole


def default_configuration() -> Configuration:
    """Without a file: each service on its default endpoints, and ``owner`` may run anything."""
    return Configuration(
        listeners=tuple(
            ListenerSettings(service=service.name, endpoint=endpoint)
            for service in SERVICES.values()
            for endpoint in service.defaults
        ),
        owner_unrestricted=True,
    )


def parse_listen(text: str) -> ListenerSettings:
    """Read the value of a ``--listen``: ``SERVICE=ENDPOINT``, split at the first ``=``.

    :raises ConfigurationError: if it is not one.
    """
    service, equals, endpoint = text.partition("=")
    if not equals:
        raise ConfigurationError(
            f"--listen {text}: expected SERVICE=ENDPOINT, as in agent=tcp:7100:interface=127.0.0.1"
        )
    if service not in SERVICES:
        known = ", ".join(SERVICES)
        raise ConfigurationError(
            f"--listen {text}: there is no service {service!a}"
            f"{near(service, SERVICES)} (there are: {known})"
        )
    try:
        return ListenerSettings(service=service, endpoint=endpoint)
    except ValueError as error:
        raise ConfigurationError(f"--listen {text}: {error}") from None


def _without_file(listeners: tuple[ListenerSettings, ...]) -> Configuration:
    """The listeners of the command line alone: logins stay on this machine."""
    for listener in listeners:
        if listener.authenticates and not listener.is_local:
            raise ConfigurationError(
                f"--listen {listener}: is reachable from other machines, so a configuration file "
                "(--config) has to say who may run what, in [[command]], and how it is protected, "
                'in [[listen]] with tls = "auto"; without one it has to be bound to loopback or to '
                "a Unix socket (tcp:PORT:interface=127.0.0.1, unix:PATH)"
            )
    errors, warnings = _of_command_line(listeners)
    if errors:
        raise ConfigurationError("\n".join(errors))
    whole = Configuration(listeners=listeners, owner_unrestricted=True, warnings=tuple(warnings))
    lacking = check_whole(whole)
    if lacking:
        raise ConfigurationError("\n".join(_as_option(line) for line in lacking))
    return whole


def _of_command_line(listeners: tuple[ListenerSettings, ...]) -> tuple[list[str], list[str]]:
    """What :func:`check_listener` says of ``--listen``, in the words of the command line."""
    errors: list[str] = []
    warnings: list[str] = []
    for listener in listeners:
        wrong, doubtful = check_listener(listener)
        errors += [_as_option(line) for line in wrong]
        warnings += [_as_option(line) for line in doubtful]
    return errors, warnings


def _as_option(line: str) -> str:
    return line.replace("[[listen]]", "--listen", 1)
