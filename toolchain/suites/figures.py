"""The figures of a profile that a baseline keeps: whole numbers, picoseconds and bytes.

They are the record's own (``toolchain.profiling``), under names such as ``pipeline.latency_ps`` and
``unet.busy_ps.dma``. Those of a component are of one evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from edgefusion.runtime.cost import COST_MODEL_VERSION
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.ledger import CAUSES
from edgefusion.runtime.pipeline_roles import ROLES
from edgefusion.runtime.simulator import STALL_REASONS
from edgefusion.toolchain.profiling.profile import ComponentProfile, OpProfile, Profile

PIPELINE = "pipeline"
_OF_PIPELINE = ("latency_ps", "bound_ps", "dram_bytes")
_OF_COMPONENT = (
    "evaluations",
    "latency_ps",
    "bound_ps",
    "instructions",
    "sram_bytes",
    "dram_read_bytes",
    "dram_write_bytes",
)
_PARTS: tuple[str, ...] = tuple(ROLES)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was timed, and on what. ``parameters`` are the machine's, tables under dotted keys."""

    tool_version: str
    cost_model_version: int
    target: str
    target_digest: str
    schedule: str
    steps: int
    source: str
    source_digest: str
    parameters: Mapping[str, int | float]


@dataclass(frozen=True, slots=True)
class OpFigures:
    """One op of one evaluation, and the tile it was lowered with."""

    latency_ps: int
    dram_bytes: int
    tile: str


@dataclass(frozen=True, slots=True)
class Figures:
    """``metrics`` by part (``pipeline``, then each component) and name; ``ops`` by component and by
    module and kind, numbered where several are alike."""

    conditions: Conditions
    metrics: Mapping[str, Mapping[str, int]]
    ops: Mapping[str, Mapping[str, OpFigures]]

    @property
    def latency_ps(self) -> int:
        """Latency of an image."""
        return self.metrics[PIPELINE]["latency_ps"]

    @property
    def dram_bytes(self) -> int:
        """DRAM bytes of an image."""
        return self.metrics[PIPELINE]["dram_bytes"]

    def flat(self) -> dict[str, int]:
        """All metrics as ``part.name``."""
        return {
            f"{part}.{name}": value
            for part, metrics in self.metrics.items()
            for name, value in metrics.items()
        }


def figures_of(profile: Profile) -> Figures:
    """What a baseline keeps of ``profile``."""
    moved = {c.name: c.ledger.bytes_by_cause() for c in profile.components}
    of_image = {
        cause: sum(c.evaluations * moved[c.name][cause] for c in profile.components)
        for cause in CAUSES[1:]
    }
    metrics: dict[str, dict[str, int]] = {
        PIPELINE: {
            "latency_ps": profile.latency.total_ps,
            "bound_ps": profile.latency.bound_ps,
            "dram_bytes": profile.dram_bytes,
            **_dotted("dram_bytes_by_cause", of_image),
        }
    }
    for component in profile.components:
        metrics[component.name] = _component(component, moved[component.name])
    ops: dict[str, dict[str, OpFigures]] = {component.name: {} for component in profile.components}
    for op in profile.ops:
        rows = ops[op.component]
        rows[_key(op, rows)] = OpFigures(op.latency.latency_ps, op.dram_bytes, op.latency.tile)
    return Figures(_conditions(profile), metrics, ops)


def _component(component: ComponentProfile, by_cause: Mapping[str, int]) -> dict[str, int]:
    latency = component.latency
    busy = {kind.name.lower(): ps for kind, ps in latency.busy_ps.items()}
    return {
        "evaluations": component.evaluations,
        "latency_ps": latency.latency_ps,
        "bound_ps": latency.bound_ps,
        "instructions": latency.instructions,
        "sram_bytes": component.program.sram_bytes,
        "dram_read_bytes": latency.dram_read_bytes,
        "dram_write_bytes": latency.dram_write_bytes,
        **_dotted("busy_ps", busy),
        **_dotted("stall_ps", dict(latency.stalls_ps)),
        **_dotted("dram_bytes_by_cause", by_cause),
    }


def metric_names() -> list[str]:
    """All metrics that any figures can have, as ``Figures.flat`` names them."""
    engines = [f"busy_ps.{kind.name.lower()}" for kind in EngineKind]
    stalls = [f"stall_ps.{reason}" for reason in STALL_REASONS]
    causes = [f"dram_bytes_by_cause.{cause}" for cause in CAUSES[1:]]
    pipeline = [*_OF_PIPELINE, *causes]
    component = [*_OF_COMPONENT, *engines, *stalls, *causes]
    return [f"{PIPELINE}.{name}" for name in pipeline] + [
        f"{part}.{name}" for part in _PARTS for name in component
    ]


def _conditions(profile: Profile) -> Conditions:
    scenario, source = profile.scenario, profile.manifest.source
    return Conditions(
        version("edgefusion"),
        COST_MODEL_VERSION,
        scenario.machine.name,
        scenario.machine.digest,
        scenario.schedule,
        scenario.steps,
        source.name,
        source.digest,
        scenario.machine.flat_parameters(),
    )


def _dotted(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.{key}": value for key, value in values.items()}


def _key(op: OpProfile, taken: Mapping[str, OpFigures]) -> str:
    """Module and kind, which survive an exporter that names nodes otherwise."""
    key = f"{op.module} {op.latency.kind}"
    number, found = 1, key
    while found in taken:
        number += 1
        found = f"{key} #{number}"
    return found
