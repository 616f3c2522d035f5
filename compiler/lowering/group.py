"""Groups: consecutive ops that run as one loop over stripes, with what lies between them in SRAM.

The loop walks along the rows of the last member's result. At each step every member computes the
rows that are needed by then and not there yet: those before run ahead by the halo that windows
need. A tensor between members *rolls*: its stripes lie in SRAM, and each keeps the rows that are
still needed of the one before. A group of one op in one step is that op by itself.

Where a tensor lies is the group's affair, not the ops': rules bring operands from wherever they are
(``lowering.emitter``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.held import BANDS, Rolling, part
from edgefusion.compiler.lowering.plan import Group, Loop
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext, Stage
from edgefusion.compiler.lowering.scene import Frontier, Scene, Step
from edgefusion.compiler.lowering.view import Overlay, View
from edgefusion.compiler.memory.placement import aligned
from edgefusion.compiler.network.network import NetOp, operands
from edgefusion.compiler.network.rows import (
    can_roll,
    row_bytes,
    row_count,
)
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.network.window import Span

_EDGE_STEPS = 3
"""Steps at either end of a loop that may differ from those between: the first fills the halo, the
last find the rows exhausted."""


def emit_group(
    e: Emitter,
    group: Group,
    scene: Scene,
    numbers: Sequence[int],
    only: int | None = None,
    steps: Iterable[tuple[int, int, Step]] | None = None,
) -> None:
    """Emit a group, or ``only`` what one of its members does in the loop: then what it finds in
    SRAM has to lie there in the ``scene``. ``numbers`` are the members' ops in the program. Of the
    loop a dry emitter may see some ``steps`` alone, each with how many it stands for and the sweep
    that it is of.

    Raises DoesNotFitError where its buffers exceed SRAM.
    """
    ops = [member.op for member in group.members]
    loop = group.loop
    if only is None and len(ops) == 1 and not (loop.rolling or loop.shared):
        (member,) = group.members
        e.turn_to(numbers[0], member.record, member.slots)
        context = OpContext(member.op, scene.machine, scene.tensors, scene.views)
        _kind(member.op).emit(e, context, member.tiling)
        _store_whole(e, member.op, scene, loop)
        return
    frontier = scene.frontier(ops, replace(loop, single=frozenset()))
    _, held = frontier.capacities
    views = Overlay(scene.views)
    rolling = {}
    single = {scene.root(ops[index].outputs[0]) for index in loop.single}
    chosen = range(len(ops)) if only is None else [only]
    owner = owners(ops, scene)

    def turn_to(index: int) -> None:
        member = group.members[index]
        e.turn_to(numbers[index], member.record, member.slots)

    for root, rows in held.items():
        if owner[root] not in chosen:
            continue
        turn_to(owner[root])
        slots = 1 if root in single else e.schedule.slots
        prototype = scene.views[root]
        label = "in" if root in loop.shared else "out"
        rolling[root] = Rolling.reserve(
            e, f"{label}.{root}", prototype, rows, row_bytes(scene.tensors[root]), slots
        )
        rolling[root].advance(0, 0)
        for name in (root, *(name for name, place in frontier.over.items() if place == root)):
            _update(views, scene, name, rolling[root])
    stages: dict[int, Stage] = {}
    for index in chosen:
        turn_to(index)
        member = group.members[index]
        context = OpContext(member.op, scene.machine, scene.tensors, views)
        stages[index] = _kind(member.op).stage(e, context, member.tiling)
    for sweep, step in turns(e, frontier) if steps is None else _standing_for(e, steps):
        begun: set[str] = set()
        for index, stage in stages.items():
            member, span = group.members[index], step.spans[index]
            turn_to(index)
            e.repeats = sweep > 0
            for root in map(scene.root, operands(member.op)):
                if root in loop.shared and owner[root] == index:
                    _advance(rolling[root], step.stripes[root])
                    _update(views, scene, root, rolling[root])
                    _load(e, scene.dram[root], rolling[root], step.stripes[root][1])
            output = scene.root(member.op.outputs[0])
            place = frontier.over.get(output, output)
            if place in rolling:
                if place not in begun:
                    turn_to(owner[place])
                    _advance(rolling[place], step.stripes[place])
                    turn_to(index)
                    begun.add(place)
                _update(views, scene, output, rolling[place])
            if index == len(ops) - 1:
                stage.sweep = sweep
                e.repeats = False  # it makes other channels, of operands that belong to them
            if span.size:
                stage.run(span)
            if output in loop.kept and span.size:
                ends = span.start, span.stop
                e.store(part(scene.dram[output], *ends), part(views[output], *ends))
    e.repeats = False
    for index, stage in stages.items():
        turn_to(index)
        stage.finish()


def turns(e: Emitter, frontier: Frontier) -> Iterator[tuple[int, Step]]:
    """The steps of a loop with the number of the sweep that they are of; of those alike, a dry
    emitter sees few (``Emitter.tiles``)."""
    loop = frontier.loop
    for sweep in range(loop.sweeps):
        for tile in e.tiles(frontier.total, loop.stripe, edges=_EDGE_STEPS, period=frontier.period):
            yield sweep, frontier.step(tile.start, tile.start + tile.size)


def representative_steps(frontier: Frontier) -> list[tuple[int, Step]]:
    """The first step of a sweep, those that repeat themselves, and a shorter last one; each with
    how many it stands for."""
    stripe, period = frontier.loop.stripe, frontier.period
    whole, rest = divmod(frontier.total, stripe)
    found = [(1, frontier.step(0, stripe))] if whole else []
    middle = max(1, (whole - period) // 2)
    for index in range(middle, min(middle + period, whole)):
        count = len(range(index, middle + whole - 1, period))
        found.append((count, frontier.step(index * stripe, (index + 1) * stripe)))
    if rest:
        found.append((1, frontier.step(whole * stripe, frontier.total)))
    return found


def _standing_for(e: Emitter, steps: Iterable[tuple[int, int, Step]]) -> Iterator[tuple[int, Step]]:
    for e.weight, sweep, step in steps:
        yield sweep, step
    e.weight = 1


def _store_whole(e: Emitter, op: NetOp, scene: Scene, loop: Loop) -> None:
    """Store a result that stays in SRAM as well, in as many parts as it has cells."""
    root = scene.root(op.outputs[0])
    if root in loop.kept:
        total = row_count(scene.tensors[root])
        for r in e.tiles(total, -(-total // BANDS)):
            ends = r.start, r.start + r.size
            e.store(part(scene.dram[root], *ends), part(scene.views[root], *ends))


def stripe_bytes(root: str, rows: int, scene: Scene, slots: int) -> int:
    """What so many slots for stripes of up to ``rows`` of a tensor take."""
    nbytes = rows * row_bytes(scene.tensors[root])
    return aligned(nbytes, scene.machine.sram_align_bytes) * slots


def tile_of(group: Group, tensor: NetTensor) -> tuple[int, int]:
    """Rows and bytes of a row of the tiles that a group's result is written in."""
    values = dict(group.members[-1].tiling.values)
    total, width = row_count(tensor), tensor.shape[-1] if tensor.shape else 1
    rows = int(values.get("lines", values.get("rows", values.get("queries", total))))
    if "columns" in values:
        rows *= int(values["columns"])
    channels = int(values.get("channels", width))
    return min(rows, total), min(channels, width) * tensor.dtype.nbytes


def owners(ops: Sequence[NetOp], scene: Scene) -> dict[str, int]:
    """Which op of a group makes each tensor, or reads it first."""
    found: dict[str, int] = {}
    for index, op in enumerate(ops):
        for name in (*operands(op), *op.outputs):
            found.setdefault(scene.root(name), index)
    return found


def _advance(rolling: Rolling, stripe: tuple[int, Span]) -> None:
    first, fresh = stripe
    if fresh.size:
        rolling.advance(first, fresh.start)


def _load(e: Emitter, source: View, rolling: Rolling, fresh: Span) -> None:
    if fresh.size:
        whole = rolling.view(source)
        e.load(part(whole, fresh.start, fresh.stop), part(source, fresh.start, fresh.stop))


def _update(views: dict[str, View], scene: Scene, root: str, rolling: Rolling) -> None:
    """Where ``root`` is found: in the present stripe of what is, or will be, in its place."""
    tensor = scene.dram[root].operand.tensor
    for name in scene.names(root):
        views[name] = rolling.view(scene.views[name], tensor)


def _kind(op: NetOp) -> LoweredKind:
    assert isinstance(op.kind, LoweredKind)
    return op.kind


def may_join(ops: Sequence[NetOp], scene: Scene) -> bool:
    """Whether ops can run as one loop: all roll, none needs whole what another makes by stripes,
    and each has something to do with one before."""
    return not why_apart(ops, scene)


def why_apart(ops: Sequence[NetOp], scene: Scene) -> str:
    """Why ops cannot run as one loop, in words; '' where they can."""
    tensors = scene.tensors
    for op in ops:
        if not op.kind.on_npu:
            return "one of them runs on the host"
        if not can_roll(op, tensors):
            return f"{op.kind.name} cannot run in stripes of rows"
    made: set[str] = set()
    sums: set[str] = set()
    seen: set[str] = set()
    for index, op in enumerate(ops):
        total = row_count(tensors[op.outputs[0]])
        needed = scene.rows_needed(op, Span(0, total))
        joined = index == 0
        for name in operands(op):
            root = scene.root(name)
            if root in sums and name not in needed:
                return "statistics are complete only after the loop"
            if root in made:
                if name not in needed:
                    return f"{op.kind.name} needs an operand whole"
                if tensors[name].shape[-1] != tensors[root].shape[-1]:
                    return f"{op.kind.name} reads an operand in other rows"
                joined = True
            joined |= root in seen and name in needed
            if name in needed and not tensors[name].constant:
                seen.add(root)
        if not joined:
            return f"{op.kind.name} reads nothing of the group"
        made |= {scene.root(name) for name in op.outputs}
        sums |= {step.operand for step in op.epilogue if step.is_statistics}
        made |= sums
    return ""
