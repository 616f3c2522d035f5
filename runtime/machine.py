"""The machine that a program is compiled for and simulated on.

Values are checked however they come in: a ``Machine`` that exists is one that can work. Targets,
the files that machines are read from, are in ``runtime.target``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.isa import VECTOR_FUNCTIONS, EngineKind

TENSOR_RATES = ("w8a8", "w8a16", "a16a16", "fp16")
"""Operand type pairs that the tensor engine multiplies; a machine states the rate of each."""
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
    tensor_feed_bytes_per_cycle: Positive
    tensor_load_bytes_per_cycle: Positive
    tensor_drain_bytes_per_cycle: Positive
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

    def flat_parameters(self) -> dict[str, int | float]:
        """All values but the name, those in tables by dotted names (``vector_cycles.softmax``)."""
        flat: dict[str, int | float] = {}
        for key, value in self.parameters().items():
            if isinstance(value, dict):
                flat |= {f"{key}.{entry}": each for entry, each in value.items()}
            elif key != "name":
                flat[key] = value
        return flat

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
            raise UsageError(f"target {self.name}: {machine_problems(error)}") from error

    def __repr__(self) -> str:
        return f"<Machine {self.name} ({self.digest[:16]})>"


def machine_from_parameters(parameters: Mapping[str, Any]) -> Machine:
    """The machine with these ``Machine.parameters()``.

    Raises pydantic's ValidationError for unknown, missing and impossible ones.
    """
    values = dict(parameters)
    engines: dict[EngineKind, Any] = {EngineKind.HOST: 1}
    engines |= {kind: values.pop(key) for key, kind in ENGINE_KEYS.items() if key in values}
    return Machine(**values, engines=engines)


def machine_problems(error: ValidationError) -> str:
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
