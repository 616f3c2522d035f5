"""The record that every report is made from: a bundle's programs, timed on a machine.

What a terminal, JSON, CSV, HTML, Markdown, a trace or a comparison says is a view of a ``Profile``,
so that no two of them can disagree. Figures of a component are of one evaluation; those whose names
begin with ``image`` are of all evaluations of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from edgefusion.runtime.arguments import names_of
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.latency import ComponentLatency, OpLatency, PipelineLatency
from edgefusion.runtime.ledger import Ledger, View, traffic_ledger
from edgefusion.runtime.measurement import component_latency
from edgefusion.runtime.pipeline_roles import network_of
from edgefusion.runtime.program import Program
from edgefusion.runtime.program_parts import runs_of
from edgefusion.runtime.progress import Say, silent
from edgefusion.runtime.simulator import Timeline, simulate
from edgefusion.toolchain.profiling.scenario import Scenario, program_for, scenario_of

if TYPE_CHECKING:
    import pandas as pd

    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.compiler.bundle.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ComponentProfile:
    """One evaluation of a component, or of what of it runs once a prompt, and how many
    ``evaluations`` an image takes."""

    program: Program
    timeline: Timeline
    latency: ComponentLatency
    ledger: Ledger
    evaluations: int

    @property
    def name(self) -> str:
        """The component's name."""
        return self.latency.name

    def __repr__(self) -> str:
        return (
            f"<ComponentProfile {self.name}: {self.latency.latency_ms:,.3f} ms, "
            f"{self.evaluations} evaluations, {len(self.latency.ops)} ops>"
        )


@dataclass(frozen=True, slots=True)
class OpProfile:
    """An op of a component: its latency, its multiply-accumulates, its DRAM bytes by cause (of one
    evaluation; only causes that it has), and its ``share`` of the image's latency, 0 to 1."""

    component: str
    evaluations: int
    latency: OpLatency
    macs: int
    bytes_by_cause: Mapping[str, int]
    share: float

    @property
    def name(self) -> str:
        """The op's name, unique in its component."""
        return self.latency.name

    @property
    def module(self) -> str:
        """Where the op comes from in the checkpoint, or its own name where that is not known."""
        return self.latency.scope or self.latency.name

    @property
    def path(self) -> str:
        """The module below its component, as in ``unet.down_blocks.0.attentions.0``."""
        return f"{self.component}.{self.module}"

    @property
    def image_ps(self) -> int:
        """Latency of all evaluations of an image."""
        return self.evaluations * self.latency.latency_ps

    @property
    def dram_bytes(self) -> int:
        """DRAM bytes of one evaluation, both directions."""
        return self.latency.dram_read_bytes + self.latency.dram_write_bytes

    @property
    def limited_by(self) -> EngineKind:
        """The engine that is busy longest for it."""
        return max(self.latency.busy_ps, key=self.latency.busy_ps.__getitem__)

    def __repr__(self) -> str:
        return (
            f"<OpProfile {self.path} ({self.latency.kind}): {100 * self.share:.1f} % of an image, "
            f"limited by {self.limited_by.name.lower()}>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """A bundle, timed. ``label`` names it in reports, ``scenario`` says on what it was timed."""

    label: str
    manifest: Manifest
    scenario: Scenario
    components: tuple[ComponentProfile, ...]

    @cached_property
    def latency(self) -> PipelineLatency:
        """Latency by component and op."""
        return PipelineLatency(tuple((c.latency, c.evaluations) for c in self.components))

    @cached_property
    def traffic(self) -> tuple[tuple[Ledger, int], ...]:
        """Each component's ledger of DRAM bytes, and its evaluations."""
        return tuple((c.ledger, c.evaluations) for c in self.components)

    @cached_property
    def ops(self) -> tuple[OpProfile, ...]:
        """All ops, in the order of the pipeline and its programs."""
        total = self.latency.total_ps
        return tuple(op for component in self.components for op in _ops(component, total))

    @property
    def dram_bytes(self) -> int:
        """DRAM bytes of all evaluations of an image, both directions."""
        return sum(
            c.evaluations * (c.latency.dram_read_bytes + c.latency.dram_write_bytes)
            for c in self.components
        )

    @property
    def sram_used_bytes(self) -> int:
        """The most SRAM that an instruction of any component needs."""
        return max((c.program.sram_bytes for c in self.components), default=0)

    def costliest(self) -> list[OpProfile]:
        """All ops, those first that take most of an image."""
        return sorted(self.ops, key=lambda op: -op.image_ps)

    def component(self, name: str) -> ComponentProfile:
        """The component called ``name``; UsageError if the bundle has none, or it was left out."""
        for each in self.components:
            if each.name == name:
                return each
        self.manifest.component(network_of(name))
        raise UsageError(f"component {name} was not timed here.")

    def components_frame(self) -> pd.DataFrame:
        """A row for each component; columns as in ``frames.COLUMNS``."""
        from edgefusion.toolchain.profiling.frames import components_frame

        return components_frame(self)

    def ops_frame(self) -> pd.DataFrame:
        """A row for each op, in the order of the pipeline and its programs."""
        from edgefusion.toolchain.profiling.frames import ops_frame

        return ops_frame(self)

    def traffic_frame(self, by: View = "cause") -> pd.DataFrame:
        """A row for each component and ``cause`` (``op``, ``tensor``, ``direction``) of traffic."""
        from edgefusion.toolchain.profiling.frames import traffic_frame

        return traffic_frame(self, by)

    def timeline_frame(self, components: str | Sequence[str] | None = None) -> pd.DataFrame:
        """A row for each instruction of ``components`` (all when left out), with its times."""
        from edgefusion.toolchain.profiling.frames import timeline_frame

        return timeline_frame(self, self._chosen(components))

    def transfers_frame(self, components: str | Sequence[str] | None = None) -> pd.DataFrame:
        """A row for each DMA transfer of ``components`` (all when left out), with its cause."""
        from edgefusion.toolchain.profiling.frames import transfers_frame

        return transfers_frame(self, self._chosen(components))

    def _chosen(self, components: str | Sequence[str] | None) -> tuple[str, ...]:
        if components is None:
            return tuple(each.name for each in self.components)
        return names_of(components, "components")

    def _repr_html_(self) -> str:
        """What a notebook shows: the components, and what was timed."""
        shown = ["component", "evaluations", "latency_ms", "image_latency_ms", "share_percent"]
        table = self.components_frame()[shown]
        about = escape(repr(self).strip("<>"))
        html: str = table.to_html(index=False, border=0, float_format="{:,.3f}".format)
        return f"<p>{about}</p>{html}"

    def __repr__(self) -> str:
        parts = ", ".join(f"{c.name} {c.latency.latency_ms:,.3f} ms" for c in self.components)
        return (
            f"<Profile of {self.label}: {self.latency.total_ms:,.3f} ms, "
            f"{self.scenario.schedule} on {self.scenario.machine.name} ({parts})>"
        )


def profile_bundle(
    bundle: Bundle,
    scenario: Scenario | None = None,
    *,
    components: str | Sequence[str] | None = None,
    verify: bool = True,
    progress: Say = silent,
) -> Profile:
    """Time ``components`` of a bundle (all when left out), on what it was compiled for or in
    another ``scenario``. Raises UsageError for a component that it has not, and what lowering and
    simulating raise."""
    chosen = scenario or scenario_of(bundle)
    names = bundle.components if components is None else names_of(components, "components")
    if not names:
        raise UsageError(f"components is empty; expected some of {', '.join(bundle.components)}.")
    for name in names:
        bundle.manifest.component(name)
    profiles = []
    for name in (name for name in bundle.components if name in names):
        progress(f"simulating {name}")
        program = program_for(bundle, name, chosen, verify=verify, progress=progress)
        passes = bundle.manifest.deployment.passes
        runs = runs_of(program, chosen.evaluations(bundle, name), passes)
        profiles += [profile_program(part, chosen, count) for part, count in runs]
    return Profile(bundle.path.name, bundle.manifest, chosen, tuple(profiles))


def profile_program(program: Program, scenario: Scenario, evaluations: int) -> ComponentProfile:
    """Time one program."""
    machine = scenario.machine
    timeline = simulate(program, machine)
    latency = component_latency(program, machine, timeline)
    ledger = traffic_ledger(program, machine, timeline)
    return ComponentProfile(program, timeline, latency, ledger, evaluations)


def _ops(component: ComponentProfile, image_ps: int) -> list[OpProfile]:
    causes = component.ledger.bytes_by_two("op", "cause")
    return [
        OpProfile(
            component.name,
            component.evaluations,
            latency,
            record.macs,
            causes.get(record.name, {}),
            component.evaluations * latency.latency_ps / image_ps if image_ps else 0.0,
        )
        for record, latency in zip(component.program.ops, component.latency.ops, strict=True)
    ]
