"""From a network to an NPU program: tile search, memory, instructions."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgefusion.compiler.lowering.answers import Learnt
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
from edgefusion.compiler.lowering.held import BANDS, Resident
from edgefusion.compiler.lowering.op_order import with_early_readers
from edgefusion.compiler.lowering.plan import Group, Plan, joined
from edgefusion.compiler.lowering.planner import plan_groups, plan_separately
from edgefusion.compiler.lowering.rule import OpContext
from edgefusion.compiler.lowering.scene import Scene, with_residents
from edgefusion.compiler.lowering.tile_search import Candidate, search
from edgefusion.compiler.lowering.view import Cells, Memory, View
from edgefusion.compiler.memory.dram import DramPlan, plan_dram, unplaced
from edgefusion.compiler.memory.placement import Lifetime
from edgefusion.compiler.memory.sram import Crowded, SramLayout, Uses, lay_out
from edgefusion.compiler.network.network import NetOp, Network
from edgefusion.compiler.network.parts import in_parts
from edgefusion.compiler.network.rows import row_bytes, row_count
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.schedule.dependences import Region
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.compiler.schedule.synchronise import Reservation, synchronise
from edgefusion.runtime.errors import InputError, UnsupportedOpError
from edgefusion.runtime.isa import MAX_RANK, DType, Role, Space
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import (
    BufferRecord,
    Operand,
    Program,
    TensorRecord,
    dense_strides,
)
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.simulator import Timeline, simulate
from edgefusion.runtime.sram_homes import Stripes, slot_of
from edgefusion.runtime.tensor_numbers import PLAIN, ROW_NORMALISED, UNCALIBRATED, Numbers

Progress = Callable[[str], None]

Requests = Sequence[Mapping[str, int]]
"""Of each group, the bytes of its slots of SRAM, by label."""

_STORING = 2
"""Groups after its last reader for which a tensor stays where it is that is stored as well."""


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
        before: list[_Planned] = []
        for part in early:
            found = _planned(part, machine, schedule, said)
            if len(found) > 1:
                programs = [_emitted(part, [each], machine, schedule) for each in found]
                found = [found[programs.index(_fastest(programs, machine))]]
            before += found
        ways = [[*before, each] for each in _planned(last, machine, schedule, said)]
        programs = [_emitted(network, parts, machine, schedule) for parts in ways]
        fastest = _fastest(programs, machine)
        parts = _placed_again(ways[programs.index(fastest)], fastest.program, machine)
        if parts is None:
            return fastest
        return _fastest([fastest, _emitted(network, parts, machine, schedule)], machine)


def _placed_again(
    parts: Sequence[_Planned], program: Program, machine: Machine
) -> list[_Planned] | None:
    """The same plans with buffers where ``program``, which ran them, says that bytes become free
    first; None where there is nothing to place, or no place found."""
    if any(part.layout is None for part in parts):
        return None
    uses = _uses(program, simulate(program, machine))
    found = []
    for part in parts:
        layout = _laid_out(part.plan, part.requests, part.scene, uses)
        if not isinstance(layout, SramLayout):
            return None
        found.append(replace(part, layout=layout))
    return found


def _uses(program: Program, timeline: Timeline) -> Uses:
    """When buffers in SRAM are first and last in use. Of the slots of one, the first takes the
    first turn: that another came first was because of where it lay."""
    slots: dict[str, list[BufferRecord]] = {}
    for b in program.buffers:
        if b.space is Space.SRAM:
            slots.setdefault(slot_of(b.name)[0], []).append(b)
    found = {}
    for own in slots.values():
        own.sort(key=lambda b: slot_of(b.name)[1])
        starts = sorted(int(timeline.start_ps[b.first]) for b in own)
        for b, start in zip(own, starts, strict=True):
            found[b.name] = start, int(timeline.end_ps[b.last])
    return found


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
    network: Network, parts: Sequence[_Planned], machine: Machine, schedule: Schedule
) -> Lowered:
    """The program of ``network``, which ``parts`` compute one after another."""
    planned = joined([part.plan for part in parts])
    moments = _moments(planned)
    last = max(end for _, end in moments.values())
    lasting = {name: last for part in parts[:-1] for name in part.network.outputs}
    never = planned.never_in_dram
    plan = plan_dram(network, machine, schedule, moments, never, lasting)
    builder = ProgramBuilder(network.name, machine.name, schedule.name)
    dram = _tensor_views(builder, plan, never)
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
    reservations = emitter.reservations + _dram_reservations(plan, dram)
    program = synchronise(emitted, emitter.accesses, reservations, machine, schedule, ends[:-1])
    return Lowered(program, plan, planned)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A network with a plan, and where the plan's buffers lie in SRAM (None: stacked, group by
    group), of what they ask for; ``scene`` has all its tensors in DRAM."""

    network: Network
    plan: Plan
    layout: SramLayout | None
    scene: Scene
    requests: Requests = ()

    @property
    def ops(self) -> list[NetOp]:
        """Those that the plan runs."""
        return _with_instructions(self.network)


def _with_instructions(network: Network) -> list[NetOp]:
    return [op for op in network.ops if not op.kind.is_view]


def _moments(plan: Plan) -> dict[str, tuple[int, int]]:
    """The first and the last group of each op."""
    found: dict[str, tuple[int, int]] = {}
    for index, group in enumerate(plan.groups):
        for member in group.members:
            for op in (member.op, *member.absorbed):
                first, _ = found.get(op.name, (index, index))
                found[op.name] = first, index
    return found


def _planned(
    network: Network,
    machine: Machine,
    schedule: Schedule,
    progress: Callable[[int, int], None],
) -> list[_Planned]:
    """Groups and their places in SRAM, in all ways that may be the fastest: planned again, with
    less in SRAM, where they find none."""
    ops = _with_instructions(network)
    scene = unlowered(network, machine, schedule)
    if not schedule.groups:
        return [_Planned(network, plan_separately(ops, scene, schedule), None, scene)]
    never: frozenset[str] = frozenset()
    learnt = Learnt()
    while True:
        plans = plan_groups(
            ops, scene, schedule, alone_never=never, learnt=learnt, progress=progress
        )
        found, crowded = [], []
        for plan in dict.fromkeys(plans):
            requests = [_requests(g, i, plan, scene, schedule) for i, g in enumerate(plan.groups)]
            layout = _laid_out(plan, requests, scene)
            if isinstance(layout, SramLayout):
                found.append(_Planned(network, plan, layout, scene, requests))
            else:
                crowded.append((plan, layout))
        if found:
            return found
        for plan, layout in crowded:
            crowd = [r for r in plan.residencies if r.first <= layout.group <= r.last]
            largest = max(crowd, key=lambda r: scene.tensors[r.root].nbytes)
            never |= {largest.root}


def _laid_out(
    plan: Plan, requests: Requests, scene: Scene, uses: Uses | None = None
) -> SramLayout | Crowded:
    """Where the buffers of a plan lie in SRAM, and what stays there; ``requests`` and ``uses``: see
    ``lay_out``."""
    machine = scene.machine
    # What is stored as well gives way late, where there is room: its stores are often under way
    # when its last reader is done, and who takes its bytes would wait for them.
    final, places = len(plan.groups) - 1, {place[0].root: place for place in plan.places}
    ends = {root: place[-1] for root, place in places.items()}
    late = {root: min(r.last + _STORING, final) for root, r in ends.items() if not r.alone}
    while True:
        lives = [
            Lifetime(
                root, place[0].first, late.get(root, ends[root].last), scene.tensors[root].nbytes
            )
            for root, place in places.items()
        ]
        layout = lay_out(lives, requests, machine.sram_bytes, machine.sram_align_bytes, uses)
        if isinstance(layout, SramLayout):
            addresses = {
                r.root: layout.residents[root] for root, place in places.items() for r in place
            }
            return replace(layout, residents=addresses)
        if not late:
            return layout
        near = min(late, key=lambda root: abs(late[root] - layout.group))
        del late[near]


def _requests(
    group: Group, index: int, plan: Plan, scene: Scene, schedule: Schedule
) -> dict[str, int]:
    """The slots of SRAM that a group asks for."""
    where = {r.root: "sram" for r in plan.residencies if r.first <= index <= r.last}
    emitter = Emitter.of_costs(scene.machine, schedule)
    emitter.begin_group()
    emit_group(emitter, group, with_residents(scene, where), [0] * len(group.members))
    return emitter.requests


def scene_of(
    plan: DramPlan, machine: Machine, views: Mapping[str, View], dram: Mapping[str, View]
) -> Scene:
    """The scene of a network whose tensors lie where ``views`` say."""
    aliases: dict[str, tuple[str, ...]] = {}
    for name, root in plan.roots.items():
        aliases[root] = (*aliases.get(root, (root,)), name)
    return Scene(machine, plan.tensors, views, dram, plan.roots, aliases)


def rebound(program: Program, network: Network, machine: Machine, schedule: Schedule) -> Program:
    """The same instructions of ``network``, with the bounds that they have on ``machine``."""
    parts = _parts(as_planned(network, machine, schedule), schedule)
    return bound_again(
        program, [(_with_instructions(p), unlowered(p, machine, schedule)) for p in parts]
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


def unlowered(network: Network, machine: Machine, schedule: Schedule) -> Scene:
    """All tensors in DRAM, at no address yet."""
    plan = unplaced(network, schedule)
    views = _tensor_views(ProgramBuilder(network.name, machine.name, schedule.name), plan)
    return scene_of(plan, machine, views, views)


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


def _tensor_views(
    builder: ProgramBuilder, plan: DramPlan, elsewhere: Collection[str] = ()
) -> dict[str, View]:
    """Enter all tensors in the program's table; a view of each, sharing state with its root. What
    is ``elsewhere`` has all but bytes there."""
    index = {name: i for i, name in enumerate(plan.tensors)}
    memories: dict[str, Memory] = {}
    views: dict[str, View] = {}
    for name, tensor in plan.tensors.items():
        if len(tensor.shape) > MAX_RANK:
            raise UnsupportedOpError(
                f"tensor {name} has {len(tensor.shape)} dimensions {tensor.shape}; "
                f"the NPU addresses at most {MAX_RANK}"
            )
        address = plan.addresses.get(name, 0)
        scale = index[tensor.scale_tensor] if tensor.scale_tensor else -1
        root = plan.roots.get(name, name)
        gone = root in elsewhere
        builder.tensors.append(
            TensorRecord(
                name,
                tensor.dtype,
                tensor.shape,
                Role.SPILL if gone else tensor.role,
                address,
                0 if gone else tensor.nbytes,
                _numbers(tensor),
                scale,
                tensor.constant,
            )
        )
        if root not in memories:
            memories[root] = _in_dram(plan.tensors[root], plan.addresses.get(root, 0))
        strides = dense_strides(tensor.shape, tensor.dtype)
        operand = Operand(index[name], Space.DRAM, address, tensor.dtype, tensor.shape, strides)
        views[name] = View(operand, memories[root], tensor.role)
    _note_reuse(plan, views)
    return views


def _numbers(tensor: NetTensor) -> Numbers:
    if tensor.dtype is not DType.INT16:
        return PLAIN
    return ROW_NORMALISED if tensor.row_normalised else UNCALIBRATED


def _in_dram(tensor: NetTensor, address: int) -> Memory:
    """What a tensor lies in: where it is computed, in bands of rows, as whoever reads some need not
    wait until the others are stored."""
    rows, nbytes = row_count(tensor), row_bytes(tensor)
    if tensor.constant or rows <= 1:
        return Region(partial=True)
    return Cells.cut(address, nbytes, range(0, rows, -(-rows // BANDS)), nbytes, ())


def _note_reuse(plan: DramPlan, views: Mapping[str, View]) -> None:
    """Tell each arena tensor which ones of an earlier life its bytes belonged to."""
    for name, (first, _) in plan.lifetimes.items():
        begin, end = plan.addresses[name], plan.addresses[name] + plan.tensors[name].nbytes
        for other, (_, last) in plan.lifetimes.items():
            start = plan.addresses[other]
            overlaps = start < end and begin < start + plan.tensors[other].nbytes
            if last < first and overlaps:
                for region in views[name].regions():
                    region.reuses.extend(views[other].regions())


def _dram_reservations(plan: DramPlan, views: Mapping[str, View]) -> list[Reservation]:
    return [
        Reservation(
            name,
            Space.DRAM,
            plan.addresses[name],
            plan.tensors[name].nbytes,
            views[name].regions(),
        )
        for name in plan.lifetimes
    ]
