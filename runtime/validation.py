"""Data that a user or a file gives, checked against a dataclass; what is wrong, as a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from edgefusion.runtime.errors import InputError

T = TypeVar("T")
Whole = Annotated[int, Field(strict=True, ge=0)]
"""A whole number; neither text nor a truth value stands for one."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Timestep = Whole | Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
"""One of a denoiser: whole, or between two of its training."""
_SHOWN_PROBLEMS = 5
_SHOWN_CHARACTERS = 60
_EXPECTED = "Input should be "
_PLAIN = {
    "dataclass_type": "a table of keys and values",
    "dict_type": "a table of keys and values",
    "mapping_type": "a table of keys and values",
    "tuple_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
}
"""Where pydantic speaks of Python's types."""


class Strict:
    """Base of dataclasses to which unknown keys are errors, so that a misspelt one is noticed."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", use_attribute_docstrings=True
    )


def validated(kind: type[T], values: object, what: str, advice: str = "") -> T:
    """An instance of the dataclass ``kind`` from plain values, as JSON and TOML give them.

    Raises InputError that begins with ``what`` and ends with ``advice``: each key with its path,
    what was expected there and what was found.
    """
    try:
        found: T = _adapter(kind).validate_python(values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise InputError(f"{what}: {problems(kind, error)}. {advice}".rstrip()) from error
    return found


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Kept, for making one takes longer than using it."""
    return TypeAdapter(kind)


def problems(kind: type[Any], error: ValidationError) -> str:
    """What a ``kind`` was refused for, as clauses."""
    found = error.errors(include_url=False)
    clauses = [_problem(kind, each) for each in found[:_SHOWN_PROBLEMS]]
    if len(found) > _SHOWN_PROBLEMS:
        clauses.append(f"and {len(found) - _SHOWN_PROBLEMS} more")
    return "; ".join(clauses)


def _problem(kind: type[Any], error: Any) -> str:
    place = [str(part) for part in error["loc"] if part != "[key]"]
    name = ".".join(place)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _keys(kind, place[:-1])
        close = get_close_matches(place[-1], known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"unknown key {name} ({hint})"
    if error["type"] in ("missing", "missing_argument"):
        return f"{name} is missing"
    text: str = error["msg"]
    expected = _PLAIN.get(error["type"], text.removeprefix(_EXPECTED))
    if error["loc"][-1:] == ("[key]",):
        return f"unknown key {name} (expected {expected})"
    reason = f"expected {expected}" if expected != text else f"{text[0].lower()}{text[1:]}"
    return f"{name or 'it'} is {_short(error['input'])}, {reason}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _keys(kind: Any, place: Sequence[str]) -> list[str]:
    """Names of the fields at ``place`` below the dataclass ``kind``."""
    for name in place:
        if is_dataclass(kind):
            kind = get_type_hints(kind)[name]
        else:  # an entry of a tuple or a mapping
            kind = next(each for each in get_args(kind)[::-1] if is_dataclass(each))
    return [each.name for each in fields(kind)]
