"""Groups: consecutive ops that run as one loop over stripes, with what lies between them in SRAM.

The loop walks along the rows of the last member's result. At each step every member computes the
rows that are needed by then and not there yet: those before run ahead by the halo that windows
need. A tensor between members *rolls*: its stripes lie in SRAM, and each keeps the rows that are
still needed of the one before. A group of one op in one step is that op by itself.

Where a tensor lies is the group's affair, not the ops': rules bring operands from wherever they are
(``lowering.emitter``).
"""

from __future__ import annotations

from collections.abc import Sequence

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.held import BANDS, Rolling, part
from edgefusion.compiler.lowering.plan import Group, Loop, Member
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext, Stage
from edgefusion.compiler.lowering.scene import Overlay, Scene, Step
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.memory.placement import aligned
from edgefusion.compiler.network.network import NetOp, operands
from edgefusion.compiler.network.rows import (
    can_roll,
    row_bytes,
    row_count,
)
from edgefusion.compiler.network.window import Span

_EDGE_STEPS = 3
"""Steps at either end of a loop that may differ from those between: the first fills the halo, the
last find the rows exhausted."""


def emit_group(e: Emitter, group: Group, scene: Scene, numbers: Sequence[int]) -> None:
    """Emit a group. ``numbers`` are its members' ops in the program.

    Raises DoesNotFitError where its buffers exceed SRAM.
    """
    ops = [member.op for member in group.members]
    loop = group.loop
    if len(ops) == 1 and not (loop.rolling or loop.shared):
        (member,) = group.members
        e.turn_to(numbers[0], member.record, member.slots)
        context = OpContext(member.op, scene.machine, scene.tensors, scene.views)
        _kind(member.op).emit(e, context, member.tiling)
        _store_whole(e, member.op, scene, loop)
        return
    frontier = scene.frontier(ops, loop)
    _, held = frontier.capacities
    views = Overlay(scene.views)
    rolling = {}
    made_by = makers(group, scene)
    for root, rows in held.items():
        member = made_by[root]
        e.turn_to(numbers[group.members.index(member)], member.record, member.slots)
        slots = e.schedule.slots
        prototype = scene.views[root]
        label = "in" if root in loop.shared else "out"
        rolling[root] = Rolling.reserve(
            e, f"{label}.{root}", prototype, rows, row_bytes(scene.tensors[root]), slots
        )
        rolling[root].advance(0, 0)
        _update(views, scene, root, rolling[root])
    stages: list[Stage] = []
    for number, member in zip(numbers, group.members, strict=True):
        e.turn_to(number, member.record, member.slots)
        context = OpContext(member.op, scene.machine, scene.tensors, views)
        stages.append(_kind(member.op).stage(e, context, member.tiling))
    for tile in e.tiles(frontier.total, loop.stripe, edges=_EDGE_STEPS, period=frontier.period):
        step = frontier.step(tile.start, tile.start + tile.size)
        for number, member, stage, span in zip(
            numbers, group.members, stages, step.spans, strict=True
        ):
            e.turn_to(number, member.record, member.slots)
            for name in operands(member.op):
                root = scene.root(name)
                if root in loop.shared and made_by[root] is member:
                    _advance(views, scene, root, rolling[root], step)
                    _load(e, scene.views[root], rolling[root], step.stripes[root][1])
            root = scene.root(member.op.outputs[0])
            if root in rolling:
                _advance(views, scene, root, rolling[root], step)
            if span.size:
                stage.run(span)
            if root in loop.kept and span.size:
                ends = span.start, span.stop
                e.store(part(scene.dram[root], *ends), part(views[root], *ends))
    for number, member, stage in zip(numbers, group.members, stages, strict=True):
        e.turn_to(number, member.record, member.slots)
        stage.finish()


def _store_whole(e: Emitter, op: NetOp, scene: Scene, loop: Loop) -> None:
    """Store a result that stays in SRAM as well, in as many parts as it has cells."""
    root = scene.root(op.outputs[0])
    if root in loop.kept:
        total = row_count(scene.tensors[root])
        for r in e.tiles(total, -(-total // BANDS)):
            ends = r.start, r.start + r.size
            e.store(part(scene.dram[root], *ends), part(scene.views[root], *ends))


def stripe_bytes(root: str, rows: int, scene: Scene, e: Emitter) -> int:
    """What stripes of up to ``rows`` of a tensor take, all copies."""
    nbytes = rows * row_bytes(scene.tensors[root])
    return aligned(nbytes, e.machine.sram_align_bytes) * e.schedule.slots


def makers(group: Group, scene: Scene) -> dict[str, Member]:
    """Who makes each tensor, or reads it first."""
    found: dict[str, Member] = {}
    for member in group.members:
        for name in (*operands(member.op), *member.op.outputs):
            found.setdefault(scene.root(name), member)
    return found


def _advance(views: dict[str, View], scene: Scene, root: str, rolling: Rolling, step: Step) -> None:
    first, fresh = step.stripes[root]
    if fresh.size:
        rolling.advance(first, fresh.start)
        _update(views, scene, root, rolling)


def _update(views: dict[str, View], scene: Scene, root: str, rolling: Rolling) -> None:
    for name in scene.names(root):
        views[name] = rolling.view(scene.views[name])


def _load(e: Emitter, source: View, rolling: Rolling, fresh: Span) -> None:
    if fresh.size:
        whole = rolling.view(source)
        e.load(part(whole, fresh.start, fresh.stop), part(source, fresh.start, fresh.stop))


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
