"""Latency records: the one source of terminal tables, JSON and HTML.

``runtime.measurement`` makes them from a program and its timeline. Everything is kept in integer
picoseconds, so that ops add up to their component and components to the pipeline exactly;
properties and JSON give milliseconds.

**Latency of an op**: every picosecond of a component belongs to one op: that of the instruction
that comes first in the program among those running, or, while nothing runs, that of the next to
start (``stall_ps`` counts these). What an op does in the shadow of an earlier one costs no latency.

**Bounds**: an op's bound is its busiest engine's least time, with its operands where they are: what
lies in SRAM need not be moved. Engines overlap between ops, so the bound of a group, and of the
component (``bound_ps``: with its groups as they were chosen), is the largest, over engines, of the
sum of the ops' bounds on it; the plain sum, ``serial_bound_ps``, holds only where ops run one after
another. ``fused_bound_ps`` holds for every choice of groups: weights, inputs and outputs once over
the bus, all work once. The ratio beside a bound takes the larger of the latency and the busiest
engine's time, which can never be below the bound.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.pipeline_roles import denoiser_of, makes_images

LATENCY_SCHEMA_VERSION = 1
PS_PER_MS = 10**9


class _Bounded:
    """What is measured beside a bound."""

    __slots__ = ()
    latency_ps: int
    busiest_ps: int
    bound_ps: int

    @property
    def reached_ps(self) -> int:
        """What stands against the bound: the latency, or the busiest engine where that is more."""
        return max(self.latency_ps, self.busiest_ps)

    @property
    def ratio(self) -> float | None:
        """``reached_ps`` over the bound, or None where there is none."""
        return self.reached_ps / self.bound_ps if self.bound_ps else None


@dataclass(frozen=True, slots=True)
class OpLatency(_Bounded):
    """One op of one evaluation of a component. ``busy_ps`` are sums over the engines of a kind;
    ``busiest_ps`` is the largest of them, each spread over the engines of its kind (of DMA
    channels, at least their time on the bus that they share)."""

    name: str
    kind: str
    origin: tuple[str, ...]
    scope: str
    tile: str
    instructions: int
    latency_ps: int
    stall_ps: int
    busy_ps: Mapping[EngineKind, int]
    busiest_ps: int
    dram_read_bytes: int
    dram_write_bytes: int
    bound_ps: int

    def to_json(self) -> dict[str, Any]:
        """The record with units in its keys."""
        return {
            "name": self.name,
            "kind": self.kind,
            "origin": list(self.origin),
            "scope": self.scope,
            "tile": self.tile,
            "instructions": self.instructions,
            **_milliseconds(self, "latency", "stall", "bound"),
            **_busy_milliseconds(self.busy_ps),
            "dram_read_bytes": self.dram_read_bytes,
            "dram_write_bytes": self.dram_write_bytes,
            "ratio": self.ratio,
        }

    def __repr__(self) -> str:
        return (
            f"<OpLatency {self.name} ({self.kind}): {self.latency_ps / PS_PER_MS:,.3f} ms, "
            f"bound {self.bound_ps / PS_PER_MS:,.3f} ms>"
        )


@dataclass(frozen=True, slots=True)
class GroupLatency(_Bounded):
    """One fusion group of a component; figures as those of its ops, the names of which are ``ops``.
    ``stripe`` counts the rows of a step, 0 where an op runs by itself."""

    index: int
    ops: tuple[str, ...]
    stripe: int
    instructions: int
    latency_ps: int
    busiest_ps: int
    dram_read_bytes: int
    dram_write_bytes: int
    bound_ps: int

    def to_json(self) -> dict[str, Any]:
        """The record with units in its keys."""
        return {
            "group": self.index,
            "ops": list(self.ops),
            "stripe_rows": self.stripe,
            "instructions": self.instructions,
            **_milliseconds(self, "latency", "bound"),
            "dram_read_bytes": self.dram_read_bytes,
            "dram_write_bytes": self.dram_write_bytes,
            "ratio": self.ratio,
        }

    def __repr__(self) -> str:
        return (
            f"<GroupLatency {self.index}: {self.latency_ps / PS_PER_MS:,.3f} ms, "
            f"bound {self.bound_ps / PS_PER_MS:,.3f} ms, {len(self.ops)} ops>"
        )


@dataclass(frozen=True, slots=True)
class ComponentLatency:
    """One evaluation of a component. ``stalls_ps`` maps each reason to the time that engines waited
    for it, all engines together; ``idle_ps`` is their time after their last instruction."""

    name: str
    target: str
    schedule: str
    instructions: int
    latency_ps: int
    bound_ps: int
    fused_bound_ps: int
    serial_bound_ps: int
    busy_ps: Mapping[EngineKind, int]
    stalls_ps: tuple[tuple[str, int], ...]
    idle_ps: int
    dram_read_bytes: int
    dram_write_bytes: int
    ops: tuple[OpLatency, ...]
    groups: tuple[GroupLatency, ...] = ()

    @property
    def latency_ms(self) -> float:
        """Milliseconds from the first instruction's start to the last one's end."""
        return self.latency_ps / PS_PER_MS

    @property
    def bound_ms(self) -> float:
        """Milliseconds that no schedule of these groups can beat."""
        return self.bound_ps / PS_PER_MS

    @property
    def fused_bound_ms(self) -> float:
        """Milliseconds that no schedule of any groups can beat."""
        return self.fused_bound_ps / PS_PER_MS

    def to_json(self) -> dict[str, Any]:
        """The record without its ops, units in its keys."""
        return {
            "target": self.target,
            "schedule": self.schedule,
            "instructions": self.instructions,
            **_milliseconds(self, "latency", "bound", "fused_bound", "serial_bound"),
            **_busy_milliseconds(self.busy_ps),
            "stalls_ms": {reason: ps / PS_PER_MS for reason, ps in self.stalls_ps},
            "idle_ms": self.idle_ps / PS_PER_MS,
            "dram_read_bytes": self.dram_read_bytes,
            "dram_write_bytes": self.dram_write_bytes,
        }

    def __repr__(self) -> str:
        return (
            f"<ComponentLatency {self.name}: {self.latency_ms:,.3f} ms, "
            f"bound {self.bound_ms:,.3f} ms, {len(self.ops)} ops, "
            f"{self.schedule} on {self.target}>"
        )


@dataclass(frozen=True, slots=True)
class PipelineLatency:
    """Each component with the number of its evaluations (the U-Net's follow from the steps)."""

    components: tuple[tuple[ComponentLatency, int], ...]

    @property
    def total_ps(self) -> int:
        """Picoseconds of all evaluations, one after another."""
        return sum(component.latency_ps * count for component, count in self.components)

    @property
    def bound_ps(self) -> int:
        """Picoseconds of all evaluations' bounds."""
        return sum(component.bound_ps * count for component, count in self.components)

    @property
    def fused_bound_ps(self) -> int:
        """Picoseconds of all evaluations' bounds over all groups."""
        return sum(component.fused_bound_ps * count for component, count in self.components)

    @property
    def total_ms(self) -> float:
        """Milliseconds of all evaluations, one after another."""
        return self.total_ps / PS_PER_MS

    def to_json(self) -> dict[str, Any]:
        """``pipeline``, ``components`` by name (figures of one evaluation), ``ops``
        and ``groups``."""
        return {
            "schema_version": LATENCY_SCHEMA_VERSION,
            "pipeline": _milliseconds(self, "total", "bound", "fused_bound"),
            "components": {
                c.name: {"evaluations": count, **c.to_json()} for c, count in self.components
            },
            "ops": [
                {"component": c.name, **op.to_json()} for c, _ in self.components for op in c.ops
            ],
            "groups": [
                {"component": c.name, **group.to_json()}
                for c, _ in self.components
                for group in c.groups
            ],
        }

    def __repr__(self) -> str:
        parts = ", ".join(f"{n} x {c.name} {c.latency_ms:,.3f} ms" for c, n in self.components)
        return f"<PipelineLatency: {self.total_ms:,.3f} ms ({parts})>"


def total_label(components: Collection[str]) -> str:
    """What the sum over all evaluations of ``components`` is of: an image needs a denoiser."""
    names = " and ".join(components)
    if denoiser_of(components):
        return "one image" if makes_images(components) else f"one image, {names} alone"
    return f"one evaluation of {names}"


def _milliseconds(
    record: OpLatency | GroupLatency | ComponentLatency | PipelineLatency, *names: str
) -> dict[str, float]:
    """``<name>_ms`` of each ``<name>_ps`` attribute."""
    return {f"{name}_ms": getattr(record, f"{name}_ps") / PS_PER_MS for name in names}


def _busy_milliseconds(busy_ps: Mapping[EngineKind, int]) -> dict[str, float]:
    """``<kind>_busy_ms`` of each kind of engine."""
    return {f"{kind.name.lower()}_busy_ms": ps / PS_PER_MS for kind, ps in busy_ps.items()}
