"""Targets: the files that machines are read from, ``runtime/targets/<name>.toml`` or anywhere.

A target is data: every parameter is a value with its provenance, units are in the key. Unknown and
missing keys are errors, so that a misspelt one cannot be ignored. A file that names a ``base``, a
target that comes with the tool or a file beside it, says only what differs from that one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from edgefusion.runtime.arguments import brief, path_of
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.machine import (
    ENGINE_KEYS,
    Machine,
    machine_from_parameters,
    machine_problems,
)

TARGET_VERSION = 1
_TARGETS = Path(__file__).parent / "targets"
_EDITED = " (edited)"
Status = Literal["published", "secondary", "inferred", "assumed", "calibrated", "set"]
"""``set`` is said of a value that somebody chose in place of a target's own."""
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a parameter's value comes from: one of ``STATUSES``, and a sentence."""

    status: str
    source: str


@dataclass(frozen=True, slots=True)
class Target:
    """A machine with the provenance of each of its parameters, by field name."""

    machine: Machine
    description: str
    provenance: Mapping[str, Provenance]

    def with_values(self, values: Mapping[str, int | float]) -> Target:
        """A copy with other values, by keys as in ``Machine.with_values``, whose provenance says
        that they were set, and in place of what. Its machine has a name of its own.

        Raises UsageError for an unknown name and for a value that no machine can have.
        """
        old = self.machine.flat_parameters()
        changed = {key: value for key, value in values.items() if old.get(key) != value}
        if not changed:
            return self
        name = self.machine.name.removesuffix(_EDITED) + _EDITED
        machine = self.machine.with_values(**{**changed, "name": name})
        provenance = dict(self.provenance)
        for key in changed:
            was = provenance.get(key)
            status = f" ({was.status})" if was else ""
            provenance[key] = Provenance("set", f"in place of {old[key]:.12g}{status}")
        others = ", ".join(key for key, origin in provenance.items() if origin.status == "set")
        description = f"{name.removesuffix(_EDITED)} with other {others}"
        return Target(machine, description, provenance)

    def named(self, name: str) -> Target:
        """The same machine under another name. Raises UsageError for an empty one."""
        if not name.strip():
            raise UsageError("a target's name is empty; expected one that reports can show.")
        return replace(self, machine=self.machine.with_values(name=name))

    def __repr__(self) -> str:
        return f"<Target {self.machine.name} ({self.machine.digest[:16]})>"


def target_of(machine: Machine) -> Target:
    """``machine`` with the provenance of the target that comes with the tool, where it is that one.

    Of another machine nothing is known but its values: it has no provenance.
    """
    for name in list_targets():
        target = load_target(name)
        if target.machine.digest == machine.digest:
            return target
    return Target(machine, "", {})


def target_given(given: str | Path | Target | Machine) -> Target:
    """A target by name or file, or as it is; of a machine alone, ``target_of``.

    Raises UsageError for anything else, and what ``load_target`` raises.
    """
    if isinstance(given, Target):
        return given
    if isinstance(given, Machine):
        return target_of(given)
    if not isinstance(given, str | Path):
        raise UsageError(
            f"target is {brief(given)}; expected the name or the file of one, or a machine."
        )
    return load_target(str(given))


def list_targets() -> tuple[str, ...]:
    """Names of the targets that come with the tool."""
    return tuple(sorted(path.stem for path in _TARGETS.glob("*.toml")))


def target_path(name_or_path: str) -> Path:
    """The file of a target, by name or path; InputError for an unknown name."""
    path = path_of(name_or_path, "target")
    if path.suffix != ".toml":
        path = _TARGETS / f"{name_or_path}.toml"
        if not path.exists():
            raise InputError(
                f"unknown target {name_or_path!r}; known targets are {', '.join(list_targets())}. "
                "Give one of these or the path of a .toml file."
            )
    return path


def load_target(name_or_path: str) -> Target:
    """Read a target by name, or from a ``.toml`` file.

    Raises InputError for an unknown target, a file that is not TOML, a base that leads back to it,
    and unknown, missing or ill-typed keys, each named.
    """
    files = target_files(name_or_path)
    entries: dict[str, _Entry] = {}
    for path in reversed(files):
        entries |= _entries(_read(path), path, entries)
    path, head = files[0], _read(files[0])
    values: dict[str, Any] = {"name": _head(head, "name", path)}
    for key, entry in entries.items():
        table, _, name = key.partition(".")
        if name:
            values.setdefault(table, {})[name] = entry.value
        else:
            values[key] = entry.value
    try:
        machine = machine_from_parameters(values)
    except ValidationError as error:
        raise InputError(f"target file {path}: {machine_problems(error)}") from error
    base = _head(_read(files[1]), "name", files[1]) if len(files) > 1 else ""
    if base == machine.name:
        raise InputError(
            f"target file {path}: its name {base!r} is also that of its base; expected another "
            "one, for reports to tell them apart."
        )
    described = "description" in head or not base
    description = _head(head, "description", path) if described else f"{base} with other values"
    provenance = {key: Provenance(entry.status, entry.source) for key, entry in entries.items()}
    return Target(machine, description, provenance)


def target_files(name_or_path: str) -> tuple[Path, ...]:
    """The file of a target, that of its base, and so on; the last one has no base.

    Raises InputError for a file that is not there or not TOML, and for bases in a circle.
    """
    path = target_path(name_or_path)
    files: list[Path] = []
    while True:
        if any(path.samefile(each) for each in files if path.exists()):
            circle = " -> ".join(str(each) for each in (*files, path))
            raise InputError(f"target file {files[0]}: its base leads back to it: {circle}")
        files.append(path)
        base = _read(path).get("base")
        if base is None:
            return tuple(files)
        if not isinstance(base, str) or not base:
            raise InputError(
                f"target file {path}: expected base = the name of a target ("
                f"{', '.join(list_targets())}) or a .toml file, found {base!r}"
            )
        try:
            path = target_path(str(path.parent / base) if base.endswith(".toml") else base)
        except InputError as error:
            raise InputError(f"target file {path}: base: {error}") from None


_TABLES = ("tensor_rate", "vector_cycles")
_HEAD = ("name", "description", "schema_version", "base")


@checked_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class _Entry:
    """What a target file says of one parameter; the value itself is checked by ``Machine``."""

    value: Any
    status: Status
    source: str = ""


def _read(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"cannot read target file {path}: {error}") from error
    if data.get("schema_version") != TARGET_VERSION:
        raise InputError(
            f"target file {path}: expected schema_version = {TARGET_VERSION}, "
            f"found {data.get('schema_version')!r}"
        )
    return data


def _head(data: Mapping[str, Any], key: str, path: Path) -> str:
    """``name``, which has to be there, or ``description``."""
    text = data.get(key, "" if key == "description" else None)
    if not isinstance(text, str) or (key == "name" and not text.strip()):
        raise InputError(f"target file {path}: expected {key} = a text, found {text!r}")
    return text


def _entries(data: Mapping[str, Any], path: Path, base: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """What a file says. Over a base, a value may stand alone: somebody set it."""
    sections = {key: each for key, each in data.items() if key not in _HEAD}
    flat = _flat(sections, path)
    for key, was in base.items():
        if key in flat and not isinstance(flat[key], dict):
            source = f"in place of {was.value} ({was.status})"
            flat[key] = {"value": flat[key], "status": "set", "source": source}
    for key, entry in flat.items():
        if not isinstance(entry, dict):
            raise InputError(
                f"target file {path}: expected {key} = {{ value = ..., status = ... }}, "
                f"found {entry!r}; a value alone is for a file with a base"
            )
    try:
        return TypeAdapter(dict[str, _Entry]).validate_python(flat)
    except ValidationError as error:
        raise InputError(f"target file {path}: {machine_problems(error)}") from error


def _flat(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the sections of a target file hold, entries of tables under dotted names."""
    known = {each.name for each in fields(Machine)} - {"name", "engines"} | set(ENGINE_KEYS)
    flat: dict[str, Any] = {}
    for section, entries in data.items():
        if not isinstance(entries, dict):
            raise InputError(
                f"target file {path}: expected only sections besides {', '.join(_HEAD)}, "
                f"found {section} = {entries!r}"
            )
        for key, entry in entries.items():
            if key not in known:
                raise InputError(
                    f"target file {path}: unknown key {key!r} in section [{section}]; "
                    f"known keys are {', '.join(sorted(known))}"
                )
            if key in _TABLES and isinstance(entry, dict):
                flat |= {f"{key}.{name}": each for name, each in entry.items()}
            else:
                flat[key] = entry
    return flat
