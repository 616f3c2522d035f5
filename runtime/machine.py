"""The machine that a program is compiled for and simulated on, read from a target file.

A target is data (``runtime/targets/<name>.toml``): every parameter is a value with its provenance,
units are in the key. Unknown and missing keys are errors, so that a misspelt one cannot be ignored.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.isa import VECTOR_FUNCTIONS

TARGET_VERSION = 1
_TARGETS = Path(__file__).parent / "targets"
TENSOR_RATES = ("w8a8", "w8a16", "a16a16", "fp16")
"""Operand type pairs that the tensor engine multiplies; a machine states the rate of each."""
STATUSES = ("published", "secondary", "inferred", "assumed", "calibrated")
_TABLES = {"tensor_rate": TENSOR_RATES, "vector_cycles": VECTOR_FUNCTIONS}
_MAY_BE_ZERO = frozenset(
    ("dma_setup_ns", "tensor_fill_cycles", "vector_startup_cycles", "host_call_ns", "semaphore_ns")
)


@dataclass(frozen=True, slots=True)
class Machine:
    """Parameters of one NPU. Field names carry their units; see the target file for provenance.

    Tensor rates are fractions of ``tensor_macs_per_cycle`` for a pair of operand types
    (``TENSOR_RATES``); vector costs are lane-cycles per element for a function class of
    ``isa.VECTOR_FUNCTIONS``.
    """

    name: str
    clock_hz: float
    sram_bytes: int
    sram_align_bytes: int
    dram_bytes: int
    dma_engines: int
    dma_bandwidth_bytes_per_s: float
    dma_setup_ns: float
    dma_burst_bytes: int
    tensor_engines: int
    tensor_macs_per_cycle: int
    tensor_utilisation: float
    tensor_granularity_m: int
    tensor_granularity_n: int
    tensor_granularity_k: int
    tensor_feed_elements_per_cycle: float
    tensor_drain_elements_per_cycle: float
    tensor_fill_cycles: float
    tensor_rate: Mapping[str, float]
    vector_engines: int
    vector_lanes: int
    vector_startup_cycles: float
    vector_cycles: Mapping[str, float]
    host_call_ns: float
    host_bandwidth_bytes_per_s: float
    semaphore_ns: float

    @property
    def digest(self) -> str:
        """sha256 of the parameters: two machines with one digest give the same numbers."""
        text = json.dumps(asdict(self), sort_keys=True, default=dict)
        return hashlib.sha256(text.encode()).hexdigest()

    def with_values(self, **values: Any) -> Machine:
        """A copy with other values; dotted names (``vector_cycles.softmax``) reach into tables.

        Raises UsageError for an unknown name.
        """
        flat: dict[str, Any] = {}
        for key, value in values.items():
            table, _, entry = key.replace("__", ".").partition(".")
            if table not in {f.name for f in fields(self)} or (
                entry and (table not in _TABLES or entry not in getattr(self, table))
            ):
                raise UsageError(f"unknown machine parameter {key!r} for target {self.name}")
            if entry:
                flat[table] = {**flat.get(table, getattr(self, table)), entry: value}
            else:
                flat[table] = value
        return replace(self, **flat)


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


def _target_from_toml(data: dict[str, Any], path: Path) -> Target:
    head = {key: data.pop(key, None) for key in ("name", "description", "schema_version")}
    if head["schema_version"] != TARGET_VERSION:
        raise InputError(
            f"target file {path}: expected schema_version = {TARGET_VERSION}, "
            f"found {head['schema_version']!r}"
        )
    known = {f.name for f in fields(Machine)} - {"name"}
    values: dict[str, Any] = {}
    provenance: dict[str, Provenance] = {}
    for section, entries in data.items():
        if not isinstance(entries, dict):
            raise InputError(
                f"target file {path}: expected only sections besides name, description and "
                f"schema_version, found {section} = {entries!r}"
            )
        for key, entry in entries.items():
            if key in _TABLES and isinstance(entry, dict):
                values[key] = {k: _number(v, f"{key}.{k}", path) for k, v in entry.items()}
                for k, v in entry.items():
                    provenance[f"{key}.{k}"] = _provenance(v, f"{key}.{k}", path)
            elif key in known:
                values[key] = _number(entry, key, path)
                provenance[key] = _provenance(entry, key, path)
            else:
                raise InputError(
                    f"target file {path}: unknown key {key!r} in section [{section}]; "
                    f"known keys are {', '.join(sorted(known))}"
                )
    missing = sorted(known - values.keys())
    if missing:
        raise InputError(f"target file {path}: missing {', '.join(missing)}")
    for table, names in _TABLES.items():
        wrong = set(values[table]) ^ set(names)
        if wrong:
            raise InputError(
                f"target file {path}: {table} must name exactly {', '.join(names)}; "
                f"wrong or missing: {', '.join(sorted(wrong))}"
            )
    integers = {f.name for f in fields(Machine) if f.type in ("int", int)}
    for key in integers:
        if values[key] != int(values[key]):
            raise InputError(
                f"target file {path}: {key} must be a whole number, found {values[key]}"
            )
        values[key] = int(values[key])
    return Target(
        Machine(name=str(head["name"]), **values), str(head["description"] or ""), provenance
    )


def _number(entry: Any, key: str, path: Path) -> float:
    value = entry.get("value") if isinstance(entry, dict) else None
    may_be_zero = key in _MAY_BE_ZERO or key.startswith("vector_cycles.")
    least = "a number 'value' >= 0" if may_be_zero else "a number 'value' > 0"
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value < 0
        or (value == 0 and not may_be_zero)
    ):
        raise InputError(f"target file {path}: {key} must be a table with {least}, found {entry!r}")
    return value


def _provenance(entry: dict[str, Any], key: str, path: Path) -> Provenance:
    extra = set(entry) - {"value", "status", "source"}
    if extra or entry.get("status") not in STATUSES:
        raise InputError(
            f"target file {path}: {key} needs 'value', 'status' (one of {', '.join(STATUSES)}) and "
            f"'source', found {entry!r}"
        )
    return Provenance(str(entry["status"]), str(entry.get("source", "")))
