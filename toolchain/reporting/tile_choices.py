"""Which tiling an op of a bundle took, which came second, and why that one lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgefusion.compiler.lowering.lower import candidates_of
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.groups import STATISTICS
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.profiling.scenario import Scenario, lowers_again, scenario_of
from edgefusion.toolchain.reporting.selection import select_one_name

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.compiler.bundle.manifest import Manifest
    from edgefusion.compiler.lowering.tile_search import Candidate
    from edgefusion.compiler.network.network import Network
    from edgefusion.runtime.program import OpRecord, Program

_US = 1e6


@dataclass(frozen=True, slots=True)
class BundleOp:
    """An op of a bundle's program, to be chosen by name."""

    component: str
    record: OpRecord
    is_apart: bool = True
    """Whether it runs alone, from DRAM to DRAM, as tilings are compared here."""

    @property
    def name(self) -> str:
        """Unique in its component."""
        return self.record.name

    @property
    def module(self) -> str:
        """Where it comes from in the checkpoint, or its name."""
        return self.record.scope or self.record.name


def bundle_ops(bundle: Bundle, components: Iterable[str]) -> tuple[BundleOp, ...]:
    """The ops of ``components``, in the order of the pipeline and its programs."""
    programs = {name: bundle.program(name, verify=False) for name in components}
    return tuple(
        BundleOp(name, record, _is_apart(program, record))
        for name, program in programs.items()
        for record in program.ops
    )


def _is_apart(program: Program, record: OpRecord) -> bool:
    members = sum(other.group == record.group for other in program.ops)
    stays = any(r.first <= record.group <= r.last for r in program.residents)
    return members == 1 and not stays


def tile_choices(
    bundle: Bundle,
    text: str,
    components: Sequence[str],
    scenario: Scenario | None = None,
    progress: Say = silent,
) -> list[dict[str, Any]]:
    """Search again for the ops that ``text`` means in ``components``, on the bundle's machine and
    schedule or in another ``scenario``: a record each, with a row a tiling under ``candidates``.

    Costs are None where a tiling was rejected, SRAM too where it was not tried; times are of one
    run of the op alone. Raises UsageError for a text that means none, or that names ops of two
    components, and UnsupportedOpError for an op that is no program of tiles.
    """
    chosen = scenario or scenario_of(bundle)
    ops = select_one_name(bundle_ops(bundle, components), text)
    networks = {name: bundle.network(name) for name in dict.fromkeys(op.component for op in ops)}
    found = []
    for number, op in enumerate(ops, start=1):
        progress(f"searching tilings of {op.component}.{op.name}, op {number} of {len(ops)}")
        found.append(_tile_choice(networks[op.component], op, chosen, bundle.manifest))
    return found


def _tile_choice(
    network: Network, op: BundleOp, scenario: Scenario, manifest: Manifest
) -> dict[str, Any]:
    schedule = schedule_named(scenario.schedule)
    name = op.name.removesuffix(STATISTICS)
    # What the program does as one, a schedule without groups does not.
    kind = op.record.kind if schedule.groups else ""
    candidates = candidates_of(network, name, scenario.machine, schedule, kind)
    costed = [candidate for candidate in candidates if not candidate.rejected]
    if lowers_again(scenario, manifest):
        taken = costed[0] if costed else None
    else:  # the program's own; it was made by another search where that is no longer found
        taken = next((c for c in costed if str(c.tiling) == op.record.tile), None)
    best = taken or candidates[0]
    # In a group, other tilings win than alone.
    second = next((each for each in costed if each is not best and op.is_apart), None)
    return {
        "component": op.component,
        "op": op.name,
        "module": op.module,
        "kind": op.record.kind,
        "is_apart": op.is_apart,
        "schedule": schedule.name,
        "sram_limit_bytes": scenario.machine.sram_bytes,
        "taken": str(taken.tiling) if taken else op.record.tile,
        "runner_up": str(second.tiling) if second else None,
        "lost_because": why_lost(best, second) if second else None,
        "candidates": [_row(rank, c, best, op.name) for rank, c in enumerate(candidates, start=1)],
    }


def why_lost(best: Candidate, other: Candidate) -> str:
    """How ``other`` differs, in the order in which the search compares."""
    more = other.time_ps - best.time_ps
    if more:
        word = "slower" if more > 0 else "faster"
        share = f" ({100 * abs(more) / best.time_ps:.2f} %)" if best.time_ps else ""
        parts = [f"{abs(more) / _US:,.3f} µs{share} {word}"]
    else:
        parts = ["as fast"]
    for name, unit in (
        ("dma_bytes", "DMA bytes"),
        ("instructions", "instructions"),
        ("sram_bytes", "bytes of SRAM"),
    ):
        difference = getattr(other, name) - getattr(best, name)
        if difference:
            parts.append(f"{difference:+,} {unit}")
    return ", ".join(parts)


def _row(rank: int, candidate: Candidate, best: Candidate, name: str) -> dict[str, Any]:
    costed = not candidate.rejected
    return {
        "rank": rank,
        "tiling": str(candidate.tiling),
        "slots": candidate.slots,
        "sram_bytes": candidate.sram_bytes or None,
        "dma_bytes": candidate.dma_bytes if costed else None,
        "instructions": candidate.instructions if costed else None,
        "time_ps": candidate.time_ps if costed else None,
        "time_us": candidate.time_ps / _US if costed else None,
        "slower_percent": (
            100 * (candidate.time_ps / best.time_ps - 1) if costed and best.time_ps else None
        ),
        "rejected": candidate.rejected.removeprefix(f"{name}: "),
    }
