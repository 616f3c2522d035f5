"""Why the costliest ops are tiled as they are: the tiling taken, the runner-up, why that lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgefusion.compiler.lowering.lower import candidates_of
from edgefusion.compiler.lowering.tile_search import Candidate
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.groups import STATISTICS
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.profiling.profile import OpProfile, Profile
from edgefusion.toolchain.profiling.scenario import lowers_again
from edgefusion.toolchain.reporting.tile_choices import why_lost

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.compiler.network.network import Network

_NOT_COSTED = "not costed"
_GROUPED = "it runs with others, or on tensors in SRAM; alone, another would win"


def costliest_tilings(
    bundle: Bundle, profile: Profile, count: int, progress: Say = silent
) -> list[dict[str, Any]]:
    """A row for each of the ``count`` costliest ops, searched again on the bundle's network; ops
    that are alike are searched once, and are one row that says how ``many`` they are."""
    scenario = profile.scenario
    machine = scenario.machine if lowers_again(scenario, bundle.manifest) else bundle.machine
    schedule = schedule_named(scenario.schedule)
    networks: dict[str, Network] = {}
    rows = []
    for alike in _alike(profile.costliest())[:count]:
        op = alike[0]
        progress(f"tilings of {op.path}")
        if op.component not in networks:
            networks[op.component] = bundle.network(op.component)
        name = op.latency.name.removesuffix(STATISTICS)
        found = candidates_of(networks[op.component], name, machine, schedule)
        rows.append(_row(alike, found, machine.sram_bytes))
    return rows


def _alike(ops: Sequence[OpProfile]) -> list[list[OpProfile]]:
    """Ops of one kind, tiling, work and time in groups, in the order of their first."""
    groups: dict[tuple[Any, ...], list[OpProfile]] = {}
    for op in ops:
        latency = op.latency
        key = (op.component, latency.kind, latency.tile, op.macs, op.dram_bytes, latency.bound_ps)
        groups.setdefault(key, []).append(op)
    return list(groups.values())


def _row(alike: list[OpProfile], found: list[Candidate], sram_bytes: int) -> dict[str, Any]:
    op = alike[0]
    costed = [candidate for candidate in found if not candidate.rejected]
    too_large = [c for c in found if c.rejected and not c.rejected.startswith(_NOT_COSTED)]
    taken = next((c for c in costed if str(c.tiling) == op.latency.tile), None)
    rest = [c for c in costed if c is not taken]
    alone_best = taken is None or taken is costed[0]
    if not alone_best:
        rest = []  # costs are those of an op alone, from DRAM to DRAM
    return {
        "component": op.component,
        "name": op.latency.name,
        "path": op.path,
        "many": len(alike),
        "share_percent": 100 * sum(each.share for each in alike),
        "considered": len(found),
        "do_not_fit": len(too_large),
        "sram_limit_bytes": sram_bytes,
        "taken": _candidate(taken) if taken else {"tiling": op.latency.tile},
        "runner_up": _candidate(rest[0]) if rest else None,
        "why": _why(taken, rest[0] if rest else None, bool(too_large)) if alone_best else _GROUPED,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "tiling": str(candidate.tiling),
        "slots": candidate.slots,
        "sram_bytes": candidate.sram_bytes,
        "dma_bytes": candidate.dma_bytes,
        "instructions": candidate.instructions,
        "time_ms": candidate.time_ps / 1e9,
    }


def _why(taken: Candidate | None, runner_up: Candidate | None, some_too_large: bool) -> str:
    """What decided, where something did."""
    if taken is None:
        return "the program was made by another search"
    if runner_up is None:
        return "no other fits SRAM" if some_too_large else "there is no other"
    return why_lost(taken, runner_up)
