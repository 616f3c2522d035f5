"""What would make an image faster: the same bundle with more of each thing, timed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.latency import PS_PER_MS
from edgefusion.runtime.pipeline_roles import denoiser_of
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.profiling.pipeline import denoiser_runs
from edgefusion.toolchain.profiling.profile import OpProfile, Profile, profile_bundle
from edgefusion.toolchain.profiling.scenario import Scenario, scenario_of

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the machine that is tried, as ``--set`` takes it."""

    label: str
    settings: tuple[str, ...]


CHANGES = (
    Change("DRAM bandwidth × 1.25", ("dma_bandwidth=1.25x",)),
    Change("DRAM bandwidth × 2", ("dma_bandwidth=2x",)),
    Change(
        "tensor engine × 2 (MACs, ports)",
        (
            "tensor_macs_per_cycle=2x",
            "tensor_feed_bytes_per_cycle=2x",
            "tensor_load_bytes_per_cycle=2x",
            "tensor_drain_bytes_per_cycle=2x",
        ),
    ),
    Change("vector lanes × 2", ("vector_lanes=2x",)),
    Change("SRAM × 2, lowered again", ("sram_bytes=2x",)),
)


def what_ifs(
    bundle: Bundle, profile: Profile, count: int, progress: Say = silent
) -> list[dict[str, Any]]:
    """A row a change, on top of the profile's own scenario: what an image takes and saves then, and
    so do its ``count`` costliest ops, in their order (a change that tiles anew keeps their names).
    """
    top = profile.costliest()[:count]
    rows = []
    for label, scenario in _scenarios(bundle, profile.scenario):
        progress(f"what if: {label}")
        names = [component.name for component in profile.components]
        tried = profile_bundle(bundle, scenario, components=names, verify=False, progress=progress)
        rows.append(_row(label, profile, tried, top))
    return rows


def _scenarios(bundle: Bundle, base: Scenario) -> Iterator[tuple[str, Scenario]]:
    for change in CHANGES:
        yield (
            change.label,
            scenario_of(
                bundle,
                settings=change.settings,
                target=base.target,
                schedule=base.schedule,
                steps=_steps(bundle, base.steps),
                lower_again=base.lower_again,
            ),
        )
    if _can_spare_a_step(bundle, base):
        yield (
            f"one step fewer ({base.steps - 1})",
            scenario_of(
                bundle,
                target=base.target,
                schedule=base.schedule,
                steps=base.steps - 1,
                lower_again=base.lower_again,
            ),
        )


def _can_spare_a_step(bundle: Bundle, base: Scenario) -> bool:
    if _steps(bundle, base.steps) is None or base.steps == 1:
        return False
    try:
        denoiser_runs(bundle, base.steps - 1)
    except UsageError:
        return False
    return True


def _steps(bundle: Bundle, steps: int) -> int | None:
    """None for a bundle without a denoiser, which takes no steps."""
    return steps if denoiser_of(bundle.components) else None


def _row(label: str, base: Profile, tried: Profile, top: list[OpProfile]) -> dict[str, Any]:
    before, after = base.latency.total_ps, tried.latency.total_ps
    ops = {(op.component, op.latency.name): op for op in tried.ops}
    return {
        "change": label,
        "values": dict(tried.scenario.changes),
        "total_ms": after / PS_PER_MS,
        "saved_ms": (before - after) / PS_PER_MS,
        "saved_percent": 100 * (before - after) / before if before else 0.0,
        "image_bytes": tried.dram_bytes,
        "components_ms": {
            c.name: c.latency.latency_ps * c.evaluations / PS_PER_MS for c in tried.components
        },
        "ops_ms": [
            ops[op.component, op.latency.name].image_ps / PS_PER_MS
            if (op.component, op.latency.name) in ops
            else None
            for op in top
        ],
    }
