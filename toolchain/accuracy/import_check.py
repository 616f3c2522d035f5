"""Whether a component was understood: its source's outputs against ours, while it is compiled.

The source is run once, on inputs that calibration does not see (``held_out``), before any pass.
Compared with it, on the same inputs in ONNX Runtime:

* the graph after all passes but those that round, which computes the same as the source or was
  not understood (``exact``; where it is cheap, or the other one looks wrong);
* the bundle's graph with its rounded weights (``rounded``), which shows what rounding costs.

A component that was not understood is refused: nothing that it computes could be right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from edgefusion.compiler.bundle.reference import ReferenceVectors
from edgefusion.models.source import Source
from edgefusion.models.text_to_image import Network
from edgefusion.runtime.errors import InputError, NumericGateError
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.agreement import Agreement, agreement, centred_agreement
from edgefusion.toolchain.accuracy.drawn_inputs import zeroed
from edgefusion.toolchain.accuracy.held_out import recorded_inputs
from edgefusion.toolchain.accuracy.report import db
from edgefusion.toolchain.accuracy.source_network import (
    draws_numbers,
    rounds_values,
    source_network,
)
from edgefusion.toolchain.running.float_network import float_network

Array = npt.NDArray[Any]

LEAST_EXACT_DB, LEAST_NARROW_DB = 40.0, 15.0
"""What two computations of one graph in FP32 have at least, however ill-conditioned; and those of
a graph that itself rounds to fewer bits."""
SUSPECT_DB = 30.0
"""Below it rounding alone does not explain the difference unless ``exact`` says so."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The vectors of one component, None for the reason ``remark``; ``narrow`` where the source
    itself computes in less than FP32."""

    vectors: ReferenceVectors | None
    remark: str = ""
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class ExactGraph:
    """The graph of a component after the passes that do not round, on disk: ``made``, or what
    ``make`` makes when it is asked for."""

    made: Path | None
    make: Callable[[], Path]

    def network(self, component: str) -> Network:
        """It, in ONNX Runtime. Raises InputError where that cannot run it."""
        path = self.made or self.make()
        return float_network(path, path.parent, f"the imported graph of {component}")


@dataclass(frozen=True, slots=True)
class ImportCheck:
    """How near a component is to its source, by output; empty where that was not measured, for the
    reason ``remark``."""

    component: str
    exact: Mapping[str, Agreement] = field(default_factory=dict)
    rounded: Mapping[str, Agreement] = field(default_factory=dict)
    remark: str = ""

    def __str__(self) -> str:
        parts = []
        if self.exact:
            parts.append(f"as imported {_worst(self.exact)[1]}")
        if self.rounded:
            parts.append(f"with rounded weights {_worst(self.rounded)[1]}")
        said = ", ".join(parts) or f"not compared with its source: {self.remark}"
        return f"{self.component}: {said}{', against its source' if parts else ''}"

    def to_json(self) -> dict[str, Any]:
        """A row of ``compile --json``: the worst output's decibels, null for no error."""
        return {
            "component": self.component,
            "compared": bool(self.rounded or self.exact),
            "imported_db": db(_worst(self.exact)[1].db) if self.exact else None,
            "rounded_db": db(_worst(self.rounded)[1].db) if self.rounded else None,
            "remark": self.remark,
        }


def record_source(
    source: Source,
    component: str,
    exported: Path,
    timesteps: tuple[float, ...],
    earlier: Mapping[str, ReferenceVectors],
    say: Say,
) -> SourceRecord:
    """Run the source of ``component`` once; ``exported`` is its export, ``timesteps`` are those it
    will have tables for, ``earlier`` the vectors of components before it."""
    model = onnx.load(exported, load_external_data=False)
    if draws_numbers(model):
        return SourceRecord(None, "it draws random numbers")
    say(f"{component}: running the source once, in ONNX Runtime")
    feeds = recorded_inputs(source, component, model, timesteps, earlier)
    try:
        network = source_network(source, exported, say)
        try:
            outputs = network(feeds)
        except InputError:  # whole numbers may mean what nothing in the graph tells
            feeds = zeroed(feeds)
            outputs = network(feeds)
    except InputError as error:
        return SourceRecord(None, str(error))
    path = source.path if source.kind == "onnx" and source.path is not None else exported
    return SourceRecord(ReferenceVectors(feeds, outputs), "", rounds_values(path))


def check_against(vectors: ReferenceVectors, outputs: Mapping[str, Array]) -> dict[str, Agreement]:
    """How near ``outputs`` of anything that ran on the vectors' inputs are to the source's."""
    return _compared(vectors, outputs, centred=False)


def check_import(
    component: str, record: SourceRecord, compiled: Path | None, exact: ExactGraph, say: Say
) -> ImportCheck:
    """Compare; ``compiled`` is the bundle's graph, weights beside it, None where it is left out.

    Raises NumericGateError for a component that was not understood.
    """
    vectors = record.vectors
    if vectors is None:
        return ImportCheck(component, remark=record.remark)
    say(f"{component}: comparing with the source")
    rounded: dict[str, Agreement] = {}
    as_imported: dict[str, Agreement] = {}
    try:
        if compiled is not None:
            network = float_network(compiled, compiled.parent, f"the compiled graph of {component}")
            rounded = check_against(vectors, network(vectors.inputs))
        costly = bool(rounded) and _worst(rounded)[1].db < SUSPECT_DB
        if exact.made is not None or costly or compiled is None:
            found = exact.network(component)(vectors.inputs)
            as_imported = _compared(vectors, found, centred=True)
    except InputError as error:
        return ImportCheck(component, remark=str(error))
    _require_understood(component, record, as_imported)
    check = ImportCheck(component, as_imported, rounded)
    if costly:
        say(
            f"warning: {check}: rounding weights costs that much, and verification will miss its "
            f"gate of {SUSPECT_DB:g} dB. Give the component precision fp16 in a recipe"
        )
    return check


def _require_understood(
    component: str, record: SourceRecord, found: Mapping[str, Agreement]
) -> None:
    if not found:
        return
    name, worst = _worst(found)
    least = LEAST_NARROW_DB if record.narrow else LEAST_EXACT_DB
    wrong = worst.db < least if worst.equal is None else worst.equal < 0.9
    if worst.comparable and wrong:
        raise NumericGateError(
            f"{component}: after the passes, before anything is rounded, the output {name} has "
            f"{worst} against the source in ONNX Runtime; expected at least {least:g} dB, as both "
            "compute the same network. The graph was not understood: this is a defect of this "
            "tool, and nothing was written. Please report it with the model; --dump-ir shows the "
            "graph after every pass."
        )


def _compared(
    vectors: ReferenceVectors, outputs: Mapping[str, Array], *, centred: bool
) -> dict[str, Agreement]:
    measure = centred_agreement if centred else agreement
    missing = Agreement(-inf, remark="the output is missing")
    return {
        name: measure(value, outputs[name]) if name in outputs else missing
        for name, value in vectors.outputs.items()
    }


def _worst(found: Mapping[str, Agreement]) -> tuple[str, Agreement]:
    return min(found.items(), key=lambda item: item[1].db)
