"""Settings from a TOML or YAML file and ``key=value`` overrides; and back into a file.

Nothing is ignored: an unknown key, a value of the wrong kind and one out of range are errors that
name the key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.validation import problems

T = TypeVar("T")
RESOLVED = "config.yaml"
"""Where a run keeps the settings that it has."""


def load_settings(kind: type[T], file: Path | None, overrides: Sequence[str] = ()) -> T:
    """The settings of ``file`` (.toml, .yaml or .yml; None for none), then the overrides.

    An override is ``section.key=value``, its value read as YAML. Raises InputError for a file that
    cannot be read, UsageError for settings that are not understood, naming key and place.
    """
    values = _read(file) if file else {}
    for override in overrides:
        _apply(values, override)
    return validated(kind, values, str(file or "the command line"))


def validated(kind: type[T], values: Any, where: str) -> T:
    """An instance of the settings dataclass ``kind`` from plain values."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise UsageError(f"settings of {where}: {problems(kind, error)}.") from error


def save_settings(settings: Any, path: Path) -> None:
    """Every value, defaults included, as YAML that ``load_settings`` reads back."""
    path.write_text(yaml.safe_dump(_plain(asdict(settings)), sort_keys=False), encoding="utf-8")


def differences(before: Any, after: Any, prefix: str = "") -> list[str]:
    """Keys with their two values, of two settings of one kind."""
    found = []
    for each in fields(before):
        old, new = getattr(before, each.name), getattr(after, each.name)
        if is_dataclass(old) and type(old) is type(new):
            found += differences(old, new, f"{prefix}{each.name}.")
        elif old != new:
            found.append(f"{prefix}{each.name} was {old!r}, now {new!r}")
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".toml":
            return tomllib.loads(text)
        if file.suffix in (".yaml", ".yml"):
            values = yaml.safe_load(text)
            if isinstance(values, dict) or values is None:
                return values or {}
            raise InputError(f"{file} holds a {type(values).__name__}; expected keys and values.")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the settings in {file} cannot be read: {reason}") from error
    raise UsageError(f"--config {file}: expected a .toml, .yaml or .yml file.")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name:
        raise UsageError(f"--set {override}: expected key=value, as in --set run.steps=100.")
    table: Any = values
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {override}: {section} is a value, not a section.")
    try:
        table[name] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {override}: the value is no YAML: {error}") from error


def _plain(value: Any) -> Any:
    """Tuples as lists: YAML has no other."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
