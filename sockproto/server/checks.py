"""What a configuration must not say, although each of its values by itself is fine."""

from __future__ import annotations

from collections import Counter

from sockproto.server.endpoint import Endpoint
from sockproto.server.registry import SERVICES
from sockproto.server.schema import Configuration, ListenerSettings
from sockproto.services.tutorial.settings import misplaced, missing

__all__ = ["check", "check_listener", "check_whole"]


def check(configuration: Configuration) -> tuple[list[str], list[str]]:
    """Look over a whole configuration.

    :return: what is wrong, and what is allowed but has to be logged at every start; a line each.
    """
    errors: list[str] = []
    warnings: list[str] = []
    for listener in configuration.listeners:
        wrong, doubtful = check_listener(listener)
        errors += wrong
        warnings += doubtful
    names = Counter(rule.name for rule in configuration.commands if rule.name is not None)
    errors += [
        f'[[command]] "{name}": there are {count} of that name; names have to be unique'
        for name, count in names.items()
        if count > 1
    ]
    warnings += [
        f"[[command]] {rule.label}: allow is empty, so nobody may run it"
        for rule in configuration.commands
        if not rule.allow
    ]
    return errors, warnings


def check_listener(listener: ListenerSettings) -> tuple[list[str], list[str]]:
    """Look over one listener.

    :return: what is wrong, and what has to be logged at every start.
    """
    where = f"[[listen]] {listener}"
    service = SERVICES.get(listener.service)
    if service is None:
        return [f"{where}: there is no service {listener.service!a}"], []
    endpoint = Endpoint.parse(listener.endpoint)
    errors: list[str] = []
    if endpoint.is_datagram:
        if not service.datagram:
            errors.append(f"{where}: {service.name} is not served over UDP")
        if listener.tls is not None:
            errors.append(f"{where}: tls is for streams, and UDP has none")
        if listener.auth:
            errors.append(f"{where}: auth is for streams, and UDP has none")
    elif not service.stream:
        errors.append(f"{where}: {service.name} is served over UDP only (udp:PORT)")
    if service.authenticates and listener.auth is False:
        errors.append(f"{where}: {service.name} always logs in; auth = false is not possible")
    wrong = misplaced(listener.service, endpoint.is_local)
    if wrong is not None:
        errors.append(f"{where}: {wrong}")
    if errors or not listener.authenticates or endpoint.is_local or listener.protection:
        return errors, []
    return [], [
        f"{where}: logs in without TLS beyond this machine (allow_plaintext = true); "
        "everything after the login can be read and changed on the way"
    ]


def check_whole(configuration: Configuration) -> list[str]:
    """Look for what may stand in any of several files but has to stand in one.

    :return: what is missing, a line each.
    """
    lacking = (
        (listener, missing(listener.service, configuration.tutorial))
        for listener in configuration.listeners
    )
    return [f"[[listen]] {listener}: {text}" for listener, text in lacking if text is not None]
