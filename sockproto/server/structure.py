"""Turns the tables of a TOML file into attrs classes, by cattrs; nothing is converted silently."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Any, Literal, TypeVar, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    BaseValidationError,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from sockproto.limits import Bytes, Network, Seconds
from sockproto.server.problems import Problems, key_text, lines, near
from sockproto.server.registry import SERVICES
from sockproto.server.schema import ListenerSettings
from sockproto.server.units import kind_of, parse_duration, parse_size
from sockproto.services.command.rule_values import Origin

__all__ = ["keys_of", "structure"]

T = TypeVar("T")


def keys_of(cls: type) -> dict[str, attrs.Attribute[Any]]:
    """The keys that the table of an attrs class may have, with the fields that they fill."""
    keys = {}
    for attribute in attrs.fields(attrs.resolve_types(cls, include_extras=True)):
        key = attribute.metadata.get("key", attribute.name)
        if key is not None and attribute.init and not attribute.metadata.get("own"):
            keys[key] = attribute
    return keys


def structure(table: object, cls: type[T]) -> T:
    """Make an object of a table.

    :param cls: an attrs class.
    :raises Problems: with everything that is wrong.
    """
    try:
        return _CONVERTER.structure(table, cls)
    except ClassValidationError as error:
        raise Problems(list(lines(error, table))) from None
    except ValueError as error:
        raise Problems([str(error)]) from None


# --- Values -----------------------------------------------------------------------------------


def _exactly(kind: type, name: str) -> Callable[[object, Any], Any]:
    """A hook that takes values of one type and converts nothing: TOML has types of its own."""

    def hook(value: object, _type: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {name}, found {kind_of(value)}")
        return value

    return hook


def _number(value: object, _type: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"expected a number, found {kind_of(value)}")
    return float(value)  # type: ignore[arg-type]


def _literal(value: object, kind: Any) -> Any:
    choices = get_args(kind)
    if not isinstance(value, str) or value not in choices:
        found = ascii(value[:40]) if isinstance(value, str) else kind_of(value)
        expected = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"expected {expected}, found {found}{near(value, list(choices))}")
    return value


def _network(value: object, _type: Any) -> IPv4Network | IPv6Network:
    if not isinstance(value, str):
        raise ValueError(f'expected a network such as "10.0.0.0/8", found {kind_of(value)}')
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        meant = ip_interface(value).network
    except ValueError:
        raise ValueError(f'expected a network such as "10.0.0.0/8", found {value[:60]!a}') from None
    raise ValueError(f"{value} is an address inside a network; the network is {meant}")


def _origin(value: object, _type: Any) -> IPv4Network | IPv6Network | str:
    if value == "unix":
        return "unix"
    try:
        return _network(value, _type)
    except ValueError as error:
        raise ValueError(f'{error} (or "unix")') from None


def _shown(value: object, _type: Any) -> tuple[str, ...] | str:
    if isinstance(value, list):
        return _CONVERTER.structure(value, tuple[str, ...])
    if value in ("all", "none"):
        return str(value)
    found = ascii(value[:40]) if isinstance(value, str) else kind_of(value)
    raise ValueError(f'expected "all", "none" or an array of parameters, found {found}')


def _argv(value: object, _type: Any) -> tuple[str, ...] | str:
    if isinstance(value, list):
        return _CONVERTER.structure(value, tuple[str, ...])
    if value == "any":
        return "any"
    raise ValueError(f'expected an array of words or "any", found {kind_of(value)}')


def _flag_or_text(value: object, _type: Any) -> bool | str:
    if not isinstance(value, bool | str):
        raise ValueError(f"expected true, false or text, found {kind_of(value)}")
    return value


def _text_or_integer(value: object, _type: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"expected text or a whole number, found {kind_of(value)}")
    return value


# --- Tables -----------------------------------------------------------------------------------


def _array(kind: Any, converter: Converter) -> Callable[[object, Any], Any]:
    """The hook of a tuple type: cattrs would also take text and tables for one."""
    element = get_args(kind)[0]
    is_table = attrs.has(element)

    def hook(value: object, _type: Any) -> Any:
        if not isinstance(value, list):
            expected = "an array of tables ([[...]])" if is_table else "an array"
            raise ValueError(f"expected {expected}, found {kind_of(value)}")
        return tuple(converter.structure(value, list[element]))  # type: ignore[valid-type]

    return hook


def _mapping(kind: Any, converter: Converter) -> Callable[[object, Any], Any]:
    """The hook of a dict type: tables only."""
    element = get_args(kind)[1]

    def hook(value: object, _type: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"expected a table, found {kind_of(value)}")
        result, errors = {}, []
        for key, one in value.items():
            try:
                result[key] = converter.structure(one, element)
            except (ValueError, BaseValidationError) as error:
                errors.append(_noted(error, key))
        if errors:
            raise IterableValidationError("while reading a table", errors, dict)
        return result

    return hook


def _noted(error: Exception, key: str) -> Exception:
    """An error that remembers in which key of a table it arose."""
    error.add_note(IterableValidationNote(f"key {key}", key, None))
    return error


def _table(cls: type, converter: Converter) -> Callable[[object, Any], Any]:
    """The hook of an attrs class: each key by its type and validator, unknown keys are errors."""
    keys = keys_of(cls)
    hooks: dict[str, Any] = {
        attribute.name: override(rename=key, struct_hook=_checked(attribute, converter))
        for key, attribute in keys.items()
    }
    for attribute in attrs.fields(cls):
        hooks.setdefault(attribute.name, override(omit=True))
    known_part: Callable[[Any, Any], Any] = make_dict_structure_fn(cls, converter, **hooks)

    def hook(value: object, _type: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"expected a table, found {kind_of(value)}")
        errors: list[Exception] = [
            ValueError(f"unknown key {key_text(key)}{near(key, list(keys))}")
            for key in value
            if key not in keys
        ]
        try:
            result = known_part(value, cls)
        except ClassValidationError as error:
            errors.extend(error.exceptions)
        if errors:
            raise ClassValidationError("while reading a table", errors, cls)
        return result

    return hook


def _checked(attribute: attrs.Attribute[Any], converter: Converter) -> Callable[[Any, Any], Any]:
    """Structures one field and runs its validator, so that every bad field of a table is told, not
    only the first that the constructor trips over.
    """

    def hook(value: Any, _type: Any) -> Any:
        result = converter.structure(value, attribute.type)  # type: ignore[arg-type]
        if attribute.validator is not None:
            attribute.validator(None, attribute, result)
        return result

    return hook


def _listener(cls: type, converter: Converter) -> Callable[[object, Any], Any]:
    """The hook of ``[[listen]]``: the keys of the service's own go to the class that it names."""
    common = _table(cls, converter)

    def hook(value: object, _type: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"expected a table, found {kind_of(value)}")
        name = value.get("service")
        service = SERVICES.get(name) if isinstance(name, str) else None
        errors: list[Exception] = []
        own: object = None
        if service is not None and service.settings is not None:
            theirs = keys_of(service.settings)
            mine = {key: value[key] for key in value if key in theirs}
            value = {key: value[key] for key in value if key not in theirs}
            try:
                own = converter.structure(mine, service.settings)
            except ClassValidationError as error:
                errors.append(error)
        elif isinstance(name, str) and service is None:
            errors.append(
                ValueError(f"service: there is no {name[:40]!a}{near(name, list(SERVICES))}")
            )
        try:
            result = common(value, cls)
        except ClassValidationError as error:
            errors.extend(error.exceptions)
        if errors:
            raise ClassValidationError("while reading a table", errors, cls)
        return attrs.evolve(result, own=own)

    return hook


def _has_origin(origin: object) -> Callable[[Any], bool]:
    """A predicate for types such as ``tuple[str, ...]``."""
    return lambda kind: get_origin(kind) is origin


def _converter() -> Converter:
    """The converter, with a hook for each type that a schema uses."""
    converter = Converter(detailed_validation=True)
    converter.register_structure_hook(str, _exactly(str, "text"))
    converter.register_structure_hook(bool, _exactly(bool, "true or false"))
    converter.register_structure_hook(int, _exactly(int, "a whole number"))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Network, _network)
    converter.register_structure_hook(Origin, _origin)
    converter.register_structure_hook(tuple[str, ...] | Literal["any"], _argv)
    converter.register_structure_hook(tuple[str, ...] | Literal["all", "none"], _shown)
    converter.register_structure_hook(bool | str, _flag_or_text)
    converter.register_structure_hook(str | int | None, _text_or_integer)
    converter.register_structure_hook_func(
        lambda kind: kind == Seconds, lambda value, _: parse_duration(value)
    )
    converter.register_structure_hook_func(
        lambda kind: kind == Bytes, lambda value, _: parse_size(value)
    )
    converter.register_structure_hook_func(_has_origin(Literal), _literal)
    converter.register_structure_hook_factory(
        _has_origin(tuple), lambda kind: _array(kind, converter)
    )
    converter.register_structure_hook_factory(
        _has_origin(dict), lambda kind: _mapping(kind, converter)
    )
    converter.register_structure_hook_factory(attrs.has, lambda kind: _table(kind, converter))
    converter.register_structure_hook_factory(
        lambda kind: kind is ListenerSettings, lambda kind: _listener(kind, converter)
    )
    return converter


_CONVERTER = _converter()
