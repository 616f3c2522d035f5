"""What is counted once for many uses: a tiling for all copies of buffers, an op for all groups."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from edgefusion.compiler.lowering.cost import Tally
from edgefusion.compiler.lowering.dram_views import unlowered
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import emit_group
from edgefusion.compiler.lowering.lower import as_planned, context_of, lower
from edgefusion.compiler.lowering.plan import Group
from edgefusion.compiler.lowering.rule import Tiling
from edgefusion.compiler.lowering.scene import Scene, with_residents
from edgefusion.compiler.lowering.tile_search import lowered_kind
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.target import load_target
from tests.group_cases import CASES, KIB
from tests.lowering_cases import all_cases

MACHINE = load_target("exynos2400").machine
PIPELINED = schedule_named("pipelined")
ENDLESS = MACHINE.with_values(sram_bytes=1 << 40)


def numbers(tally: Tally) -> list[list[int]]:
    counts = (tally.dma_bytes, *tally.busy_ps, *tally.instructions)
    return [np.asarray(each).tolist() for each in counts]


@pytest.mark.parametrize("case", all_cases())
def test_copies_of_buffers_change_no_work_and_take_sram_in_proportion(case: str) -> None:
    network = all_cases()[case]
    for op in network.ops:
        context = context_of(network, op, ENDLESS, PIPELINED)
        kind = lowered_kind(op)
        tilings: dict[object, Tiling] = {}
        for t in chain(kind.tilings(context), kind.fallback(context)):
            tilings.setdefault(t.family, t)
        for t in list(tilings.values())[::3]:
            emitted = []
            for slots in (1, 3):
                e = Emitter.of_costs(ENDLESS, PIPELINED)
                e.begin(0, op.name, slots)
                kind.emit(e, context, t)
                fixed = e.sram_peak_bytes - slots * e.streamed_bytes
                emitted.append((numbers(Tally.of(e, ENDLESS, 1)), fixed, e.streamed_bytes))
            assert emitted[0] == emitted[1], t


@pytest.mark.parametrize("case", sorted(set(CASES) - {"convs"}))
def test_ops_emitted_by_themselves_add_up_to_their_group(case: str) -> None:
    kib = 160 if case == "heavy tail" else 20
    machine = MACHINE.with_values(sram_bytes=kib * KIB, dma_bandwidth_bytes_per_s=2e9)
    network = as_planned(CASES[case](), machine, PIPELINED)
    plan = lower(CASES[case](), machine, PIPELINED).plan
    loops = [(at, group) for at, group in enumerate(plan.groups) if group.loop.stripe]
    assert loops, "choose another machine"
    for at, group in loops:
        stay = [r.root for r in plan.residencies if r.first <= at <= r.last]
        scene = unlowered(network, machine, PIPELINED)
        scene = with_residents(scene, dict.fromkeys(stay, "sram"))
        rolls = dict.fromkeys(group.loop.rolling | group.loop.shared, "sram")
        alone = with_residents(scene, rolls)
        total = Tally.nothing(1)
        for only in range(len(group.members)):
            total += tally(group, alone, only)
        assert numbers(total) == numbers(tally(group, scene)), group


def tally(group: Group, scene: Scene, only: int | None = None) -> Tally:
    """What engines do for a group, or for one of its members."""
    e = Emitter.of_costs(scene.machine, PIPELINED)
    e.begin_group()
    emit_group(e, group, scene, [0] * len(group.members), only)
    return Tally.of(e, scene.machine, 1)
