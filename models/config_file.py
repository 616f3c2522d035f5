"""JSON configurations as save_pretrained writes them, and what their values may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, TypeGuard

from edgefusion.runtime.errors import InputError

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A network's configuration and where it lies; ``values`` are empty where there is no file."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> ConfigFile:
        """Raises InputError for a file that is no JSON object."""
        return cls(path, read_config(path))

    def error(self, key: str, why: str, found: object = _ABSENT) -> InputError:
        """That ``key`` is what it is, or ``found``, and ``why`` that is wrong."""
        value = self.values.get(key) if found is _ABSENT else found
        return InputError(f"{self.path}: {key} is {_shown(value)}; {why}")


def json_object(path: Path, advice: str) -> dict[str, Any]:
    """The JSON object in ``path``. Raises InputError, with ``advice`` where it cannot be read, for
    whatever else there is."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}. {advice}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected an object.")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file. Raises InputError for anything else."""
    if not path.exists():
        return {}
    return json_object(
        path, "Expected a JSON file as save_pretrained writes it. Download it again."
    )


def pair(value: object) -> tuple[int, int] | None:
    """A side, or (height, width), as a pair of positive whole numbers; None for anything else."""
    both = list(value) if isinstance(value, list | tuple) else [value, value]
    sides = [side for side in both if is_count(side)]
    return (sides[0], sides[1]) if len(sides) == len(both) == 2 else None


def is_count(value: object) -> TypeGuard[int]:
    """Whether ``value`` is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether ``value`` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)
