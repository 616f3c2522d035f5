"""The machine that a program is compiled for and simulated on, read from a target file.

A target is data (``runtime/targets/<name>.toml``): every parameter is a value with its provenance,
units are in the key. Unknown and missing keys are errors, so that a misspelt one cannot be ignored,
and values are checked however they come in: a ``Machine`` that exists is one that can work.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass as checked_dataclass

from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.isa import VECTOR_FUNCTIONS, EngineKind

TARGET_VERSION = 1
_TARGETS = Path(__file__).parent / "targets"
TENSOR_RATES = ("w8a8", "w8a16", "a16a16", "fp16")
"""Operand type pairs that the tensor engine multiplies; a machine states the rate of each."""
Status = Literal["published", "secondary", "inferred", "assumed", "calibrated"]
STATUSES: tuple[str, ...] = get_args(Status)
ENGINE_KEYS: Mapping[str, EngineKind] = {
    f"{kind.name.lower()}_engines": kind for kind in EngineKind if kind is not EngineKind.HOST
}
"""The key under which a target says how many engines of a kind it has; it has one host."""


def _finite_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _exactly(keys: Collection[Any], names: Collection[str]) -> AfterValidator:
    """Checks that a table has all ``keys`` and no others; users know them as ``names``."""

    def check(table: Mapping[Any, Any]) -> Mapping[Any, Any]:
        wrong = set(table) ^ set(keys)
        if wrong:
            raise ValueError(
                f"must name exactly {', '.join(names)}; "
                f"wrong or missing: {', '.join(sorted(map(str, wrong)))}"
            )
        return table

    return AfterValidator(check)


_Finite = BeforeValidator(_finite_number)
Count = Annotated[int, Field(gt=0, le=1 << 60), _Finite]
"""Beyond its limit, sums of addresses and of elements would leave 64 bits."""
Units = Annotated[int, Field(gt=0, le=255), _Finite]
"""An instruction names its unit in one byte."""
Positive = Annotated[int | float, Field(gt=0), _Finite]
NotNegative = Annotated[int | float, Field(ge=0), _Finite]


@checked_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Machine:
    """Parameters of one NPU. Field names carry their units; see the target file for provenance.

    ``engines`` says how many there are of each kind. Tensor rates are fractions of
    ``tensor_macs_per_cycle`` for a pair of operand types (``TENSOR_RATES``); vector costs are
    lane-cycles per element for a function class of ``isa.VECTOR_FUNCTIONS``.

    Raises pydantic's ValidationError for values that no machine can have.
    """

    name: str
    clock_hz: Positive
    sram_bytes: Count
    sram_align_bytes: Count
    dram_bytes: Count
    engines: Annotated[Mapping[EngineKind, Units], _exactly(EngineKind, ENGINE_KEYS)]
    dma_bandwidth_bytes_per_s: Positive
    dma_setup_ns: NotNegative
    dma_burst_bytes: Count
    tensor_macs_per_cycle: Count
    tensor_utilisation: Positive
    tensor_granularity_m: Count
    tensor_granularity_n: Count
    tensor_granularity_k: Count
    tensor_feed_elements_per_cycle: Positive
    tensor_drain_elements_per_cycle: Positive
    tensor_fill_cycles: NotNegative
    tensor_rate: Annotated[Mapping[str, Positive], _exactly(TENSOR_RATES, TENSOR_RATES)]
    vector_lanes: Count
    vector_startup_cycles: NotNegative
    vector_cycles: Annotated[
        Mapping[str, NotNegative], _exactly(VECTOR_FUNCTIONS, VECTOR_FUNCTIONS)
    ]
    host_call_ns: NotNegative
    host_bandwidth_bytes_per_s: Positive
    host_macs_per_s: Positive
    semaphore_ns: NotNegative

    def parameters(self) -> dict[str, Any]:
        """All values, by the keys of a target file; tables are dictionaries of their own."""
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "engines":
                found |= {key: value[kind] for key, kind in ENGINE_KEYS.items()}
            else:
                found[each.name] = dict(value) if isinstance(value, Mapping) else value
        return found

    @property
    def digest(self) -> str:
        """sha256 of the parameters: two machines with one digest give the same numbers."""
        return hashlib.sha256(json.dumps(self.parameters(), sort_keys=True).encode()).hexdigest()

    def with_values(self, **values: Any) -> Machine:
        """A copy with other values, by the keys of a target file; dotted names
        (``vector_cycles.softmax``) reach into tables.

        Raises UsageError for an unknown name and for a value that no machine can have.
        """
        changed = self.parameters()
        for key, value in values.items():
            name, _, entry = key.replace("__", ".").partition(".")
            table = changed if not entry else changed.get(name)
            if not isinstance(table, dict) or (entry or name) not in table:
                raise UsageError(f"unknown machine parameter {key!r} for target {self.name}")
            table[entry or name] = value
        try:
            return machine_from_parameters(changed)
        except ValidationError as error:
            raise UsageError(f"target {self.name}: {_problems(error)}") from error


def machine_from_parameters(parameters: Mapping[str, Any]) -> Machine:
    """The machine with these ``Machine.parameters()``.

    Raises pydantic's ValidationError for unknown, missing and impossible ones.
    """
    values = dict(parameters)
    engines: dict[EngineKind, Any] = {EngineKind.HOST: 1}
    engines |= {kind: values.pop(key) for key, kind in ENGINE_KEYS.items() if key in values}
    return Machine(**values, engines=engines)


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


def list_targets() -> tuple[str, ...]:
    """Names of the targets that come with the tool."""
    return tuple(sorted(path.stem for path in _TARGETS.glob("*.toml")))


def target_path(name_or_path: str) -> Path:
    """The file of a target, by name or path; InputError for an unknown name."""
    path = Path(name_or_path)
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

    Raises InputError for an unknown target, a file that is not TOML, and unknown, missing or
    ill-typed keys, each named.
    """
    path = target_path(name_or_path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read target file {path}: {error}") from error
    return _target_from_toml(data, path)


_TABLES = ("tensor_rate", "vector_cycles")


@checked_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class _Entry:
    """What a target file says of one parameter; the value itself is checked by ``Machine``."""

    value: Any
    status: Status
    source: str = ""


def _target_from_toml(data: dict[str, Any], path: Path) -> Target:
    head = {key: data.pop(key, None) for key in ("name", "description", "schema_version")}
    if head["schema_version"] != TARGET_VERSION:
        raise InputError(
            f"target file {path}: expected schema_version = {TARGET_VERSION}, "
            f"found {head['schema_version']!r}"
        )
    try:
        entries = TypeAdapter(dict[str, _Entry]).validate_python(_flat(data, path))
        values: dict[str, Any] = {"name": str(head["name"])}
        for key, entry in entries.items():
            table, _, name = key.partition(".")
            if name:
                values.setdefault(table, {})[name] = entry.value
            else:
                values[key] = entry.value
        machine = machine_from_parameters(values)
    except ValidationError as error:
        raise InputError(f"target file {path}: {_problems(error)}") from error
    provenance = {key: Provenance(entry.status, entry.source) for key, entry in entries.items()}
    return Target(machine, str(head["description"] or ""), provenance)


def _flat(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the sections of a target file hold, entries of tables under dotted names."""
    known = {each.name for each in fields(Machine)} - {"name", "engines"} | set(ENGINE_KEYS)
    flat: dict[str, Any] = {}
    for section, entries in data.items():
        if not isinstance(entries, dict):
            raise InputError(
                f"target file {path}: expected only sections besides name, description and "
                f"schema_version, found {section} = {entries!r}"
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


def _problems(error: ValidationError) -> str:
    """What is wrong with which key, what was expected and what found."""
    found = []
    for each in error.errors():
        key = ".".join(map(str, each["loc"]))
        if each["loc"][0] == "engines" and len(each["loc"]) > 1:
            key = f"{EngineKind(int(each['loc'][1])).name.lower()}_engines"
        if each["type"] == "missing":
            found.append(f"missing {key}")
        elif each["type"] == "unexpected_keyword_argument":
            found.append(f"unknown key {key!r}")
        else:
            message = each["msg"].removeprefix("Input ").removeprefix("Value error, ")
            found.append(f"{key} {message}, found {each['input']!r}")
    return "; ".join(found)
