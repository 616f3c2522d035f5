"""Fields of a manifest's JSON, checked as they are read."""

from __future__ import annotations

from typing import Any, TypeVar

from edgefusion.runtime.errors import InputError

Wanted = TypeVar("Wanted", int, str, list[Any])


def field_value(entry: dict[str, Any], key: str, kind: type[Wanted]) -> Wanted:
    """``entry[key]``, which must be a ``kind``; InputError if it is something else or missing."""
    value = entry.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(
            f"the bundle's manifest is damaged: expected {key} to be of type {kind.__name__}, "
            f"found {value!r}. Compile the model again."
        )
    return value


def json_object(value: object, what: str) -> dict[str, Any]:
    """``value``, which must be an object; InputError, saying ``what`` it should have been."""
    if not isinstance(value, dict):
        raise InputError(
            f"the bundle's manifest is damaged: expected {what} to be an object, found "
            f"{type(value).__name__}. Compile the model again."
        )
    return value


def field_objects(entry: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    """``entry[key]``, an object of objects, as pairs."""
    return [(name, json_object(v, name)) for name, v in json_object(entry.get(key), key).items()]
