"""From a network to an NPU program: tile search, memory, instructions."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgefusion.compiler.lowering.dram_views import (
    dram_reservations,
    scene_of,
    tensor_views,
    unlowered,
)
from edgefusion.compiler.lowering.early_statistics import with_early_statistics
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import emit_group, tile_of
from edgefusion.compiler.lowering.group_records import (
    PlannedPart,
    bound_again,
    joined_as,
    remember,
    stripes_of,
)
from edgefusion.compiler.lowering.held import Resident
from edgefusion.compiler.lowering.op_order import with_early_readers
from edgefusion.compiler.lowering.placing import Planned, placed_again, planned, with_instructions
from edgefusion.compiler.lowering.plan import Plan, joined
from edgefusion.compiler.lowering.rule import OpContext
from edgefusion.compiler.lowering.tile_search import Candidate, search
from edgefusion.compiler.memory.dram import DramPlan, plan_dram
from edgefusion.compiler.network.network import NetOp, Network
from edgefusion.compiler.network.parts import in_parts
from edgefusion.compiler.network.rows import row_bytes, row_count
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.compiler.schedule.synchronise import synchronise
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.sram_homes import Stripes

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program, how its DRAM was laid out, and how its ops were grouped."""

    program: Program
    dram: DramPlan
    plan: Plan


def lower(
    network: Network, machine: Machine, schedule: Schedule, progress: Progress | None = None
) -> Lowered:
    """Compile ``network`` for ``machine``.

    Raises UnsupportedOpError for an op kind without a rule, DoesNotFitError when no tiling of an op
    fits SRAM or the tensors exceed the DRAM address space, InputError for a network without ops.
    """
    if not network.ops:
        raise InputError(f"{network.name}: the graph has no ops to compile")
    network = as_planned(network, machine, schedule)

    def said(index: int, count: int) -> None:
        if progress is not None and index % 25 == 0:
            progress(f"lowering {network.name}: op {index} of {count}")

    with _without_collector():
        *early, last = _parts(network, schedule)
        before: list[Planned] = []
        for part in early:
            found = planned(part, machine, schedule, said)
            if len(found) > 1:
                programs = [_emitted(part, [each], machine, schedule) for each in found]
                found = [found[programs.index(_fastest(programs, machine))]]
            before += found
        ways = [[*before, each] for each in planned(last, machine, schedule, said)]
        programs = [_emitted(network, parts, machine, schedule) for parts in ways]
        fastest = _fastest(programs, machine)
        parts = placed_again(ways[programs.index(fastest)], fastest.program, machine)
        if parts is None:
            return fastest
        return _fastest([fastest, _emitted(network, parts, machine, schedule)], machine)


def _parts(network: Network, schedule: Schedule) -> tuple[Network, ...]:
    """The networks that are planned by themselves, and run one after another."""
    return in_parts(network) if schedule.groups and schedule.groups.once else (network,)


def _fastest(programs: Sequence[Lowered], machine: Machine) -> Lowered:
    if len(programs) == 1:
        return programs[0]
    return min(programs, key=lambda lowered: simulate(lowered.program, machine).total_ps)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Python's collector of cycles rests: for millions of tuples it would go through all objects
    again and again, and find some tens of megabytes."""
    works = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if works:
            gc.enable()


def _emitted(
    network: Network, parts: Sequence[Planned], machine: Machine, schedule: Schedule
) -> Lowered:
    """The program of ``network``, which ``parts`` compute one after another."""
    whole = joined([part.plan for part in parts])
    moments = _moments(whole)
    last = max(end for _, end in moments.values())
    lasting = {name: last for part in parts[:-1] for name in part.network.outputs}
    never = whole.never_in_dram
    plan = plan_dram(network, machine, schedule, moments, never, lasting)
    builder = ProgramBuilder(network.name, machine.name, schedule.name)
    dram = tensor_views(builder, plan, never)
    emitter = Emitter(builder, machine, schedule, dry=False)
    views = dict(dram)
    scene = scene_of(plan, machine, views, dram)
    remember(builder, [PlannedPart(part.ops, part.plan, part.scene) for part in parts])
    ends: list[int] = []
    first = 0
    held: dict[str, Resident] = {}
    for part in parts:
        for index, group in enumerate(part.plan.groups):
            emitter.begin_group(part.layout.buffers[index] if part.layout else None)
            for r in part.plan.residencies:
                if r.first == index:
                    assert part.layout is not None
                    tensor = plan.tensors[r.root]
                    emitter.turn_to(first, group.members[-1].record, schedule.slots)
                    number = dram[r.root].operand.tensor
                    if r.over:
                        held[r.root] = replace(held[r.over], tensor=number)
                    else:
                        held[r.root] = Resident.reserve(
                            emitter,
                            r.root,
                            number,
                            part.layout.residents[r.root],
                            row_count(tensor),
                            row_bytes(tensor),
                            tile_of(group, tensor),
                        )
                    for name in scene.names(r.root):
                        views[name] = held[r.root].view(dram[name])
            emit_group(emitter, group, scene, range(first, first + len(group.members)))
            first += len(group.members)
            for r in part.plan.residencies:
                if r.last == index:
                    for name in scene.names(r.root):
                        views[name] = dram[name]
        ends.append(len(builder))
    if builder.once is not None:
        builder.once = replace(builder.once, instructions=ends[0])
    layouts = [part.layout.peak_bytes for part in parts if part.layout]
    sram_bytes = max(layouts, default=emitter.sram_peak_bytes)
    emitted = builder.build(sram_bytes=sram_bytes, dram_bytes=plan.total_bytes)
    reservations = emitter.reservations + dram_reservations(plan, dram)
    program = synchronise(emitted, emitter.accesses, reservations, machine, schedule, ends[:-1])
    return Lowered(program, plan, whole)


def _moments(plan: Plan) -> dict[str, tuple[int, int]]:
    """The first and the last group of each op."""
    found: dict[str, tuple[int, int]] = {}
    for index, group in enumerate(plan.groups):
        for member in group.members:
            for op in (member.op, *member.absorbed):
                first, _ = found.get(op.name, (index, index))
                found[op.name] = first, index
    return found


def rebound(program: Program, network: Network, machine: Machine, schedule: Schedule) -> Program:
    """The same instructions of ``network``, with the bounds that they have on ``machine``."""
    parts = _parts(as_planned(network, machine, schedule), schedule)
    return bound_again(
        program, [(with_instructions(p), unlowered(p, machine, schedule)) for p in parts]
    )


def stripes(
    program: Program, network: Network, machine: Machine, schedule: Schedule
) -> dict[tuple[int, int], Stripes]:
    """By group and tensor of the ``program`` of ``network``, the stripes of what rolls."""
    network = as_planned(network, machine, schedule)
    return stripes_of(program, network.ops, unlowered(network, machine, schedule))


def as_planned(network: Network, machine: Machine, schedule: Schedule) -> Network:
    """The network whose ops are planned."""
    if not schedule.groups:
        return network
    return with_early_readers(with_early_statistics(network, machine.sram_bytes))


def candidates_of(
    network: Network, op_name: str, machine: Machine, schedule: Schedule, kind: str = ""
) -> list[Candidate]:
    """All tilings of one op, for inspection; of another ``kind`` than its own, as one with the op
    that reads its result. Raises InputError for an unknown op."""
    op = next((op for op in network.ops if op.name == op_name), None)
    if op is None or op.kind.is_view:
        raise InputError(f"{network.name} has no op {op_name!r} with instructions of its own")
    if kind and kind != op.kind.name:
        op, _ = joined_as(op, kind, network.ops)
    return search(context_of(network, op, machine, schedule), schedule)


def context_of(network: Network, op: NetOp, machine: Machine, schedule: Schedule) -> OpContext:
    """One op of ``network`` as its lowering rule sees it."""
    scene = unlowered(network, machine, schedule)
    return OpContext(op, machine, scene.tensors, scene.views)
