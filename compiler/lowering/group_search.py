"""How a group runs best: every stripe size, costed by what emitting it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgefusion.compiler.lowering.cost import measure
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import (
    Group,
    Loop,
    Member,
    Scene,
    emit_group,
)
from edgefusion.compiler.lowering.rule import OpContext, Tiling, stripe_sizes
from edgefusion.compiler.lowering.tile_search import limited, lowered_kind
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.network.rows import row_count, rows_per_index
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.program_builder import ProgramBuilder

_FITTING = 3
"""Stripe sizes that are costed, from the largest that fits on: smaller ones only add halo, set-up
and weights that pass again, but begin and end sooner."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A group as it will be emitted, with what it costs."""

    group: Group
    sram_bytes: int
    dma_bytes: int
    time_ps: int
    dma_ps: int


def best_loop(
    ops: Sequence[NetOp],
    scene: Scene,
    loop: Loop,
    schedule: Schedule,
    limit_bytes: int,
) -> Choice | None:
    """The fastest way to run ``ops`` as one loop within ``limit_bytes`` of SRAM; None if there is
    none. ``loop``'s own stripe counts for nothing."""
    machine = limited(scene.machine, limit_bytes)
    scene = replace(scene, machine=machine)
    last = scene.tensors[ops[-1].outputs[0]]
    unit = rows_per_index(last.shape)
    builder = ProgramBuilder("search", machine.name, schedule.name)
    emitter = Emitter(builder, machine, schedule, dry=True)
    fitting: list[tuple[Group, int, int]] = []
    lines = row_count(last) // unit
    granule = min(lines, machine.tensor_granularity_m) if unit == 1 else 1
    found = {True: 0, False: 0}
    for count in stripe_sizes(lines, multiple=granule)[1:]:
        sized = replace(loop, stripe=count * unit)
        options = _options(ops, scene, sized)
        if options is None:
            return None
        # With all weights in SRAM for the whole loop, and with as many as fit beside the stripes.
        for stay in (True, False):
            if found[stay] == _FITTING or (not stay and fitting and fitting[-1][2] == count):
                continue
            group = _fitting(ops, scene, sized, options, emitter, len(fitting), stay=stay)
            if group is not None:
                fitting.append((group, emitter.sram_peak_bytes, count))
                found[stay] += 1
        if min(found.values()) == _FITTING:
            break
    if not fitting:
        return None
    costs = measure(emitter, schedule.slots, machine, schedule, len(fitting))
    choices = [
        Choice(group, sram, int(costs.dma_bytes[i]), int(costs.time_ps[i]), int(costs.dma_ps[i]))
        for i, (group, sram, _) in enumerate(fitting)
    ]
    return min(choices, key=lambda c: (c.time_ps, c.dma_bytes, c.sram_bytes))


def _options(ops: Sequence[NetOp], scene: Scene, loop: Loop) -> list[list[Tiling]] | None:
    """The tilings of each op for stripes of this size; None if one cannot run so."""
    rows, _ = scene.frontier(ops, loop).capacities
    options: list[list[Tiling]] = []
    for op, size in zip(ops, rows, strict=True):
        context = OpContext(op, scene.machine, scene.tensors, scene.views)
        options.append(list(lowered_kind(op).stripe_tilings(context, size)))
        if not options[-1]:
            return None
    return options


def _fitting(
    ops: Sequence[NetOp],
    scene: Scene,
    loop: Loop,
    options: Sequence[Sequence[Tiling]],
    emitter: Emitter,
    number: int,
    *,
    stay: bool,
) -> Group | None:
    """The group with all weights in SRAM for the whole loop, or with as many as fit; emitted, if it
    fits."""
    usable = [
        [t for t in tilings if _weights_stay(t)] if stay else list(tilings) for tilings in options
    ]
    level = [0] * len(ops)
    while True:
        members = tuple(
            Member(op, tilings[at], emitter.schedule.slots, op.name)
            for op, tilings, at in zip(ops, usable, level, strict=True)
        )
        group = Group(members, loop)
        emitter.begin_group()
        emitter.sram_peak_bytes = 0
        try:
            emit_group(emitter, group, scene, [number] * len(ops))
        except DoesNotFitError:
            movable = [i for i, tilings in enumerate(usable) if level[i] + 1 < len(tilings)]
            if not movable:
                return None
            taken = _result_elements if stay else _weight_bytes
            level[max(movable, key=lambda i: taken(members[i], scene))] += 1
            continue
        return group


def _weights_stay(t: Tiling) -> bool:
    return t.get("outer", "") != "rows"


def _result_elements(member: Member, scene: Scene) -> float:
    """Elements of a tile of the member's result."""
    t, width = member.tiling, scene.tensors[member.op.outputs[0]].shape[-1]
    return float(int(t.get("rows", 1)) * int(t.get("columns", 1)) * int(t.get("channels", width)))


def _weight_bytes(member: Member, scene: Scene) -> float:
    """What the member's weights take in SRAM, about."""
    nbytes = sum(
        t.nbytes for name in member.op.inputs if (t := scene.tensors.get(name)) and t.constant
    )
    total = scene.tensors[member.op.outputs[0]].shape[-1]
    part = member.tiling.get("channels", total)
    return nbytes * (1.0 if part == total else 2.0 * int(part) / total)
