"""Groups: consecutive ops that run as one loop over stripes, with what lies between them in SRAM.

The loop walks along the rows of the last member's result. At each step every member computes the
rows that are needed by then and not there yet: those before run ahead by the halo that windows
need. A tensor between members *rolls*: its stripes lie in SRAM, and each keeps the rows that are
still needed of the one before. A group of one op in one step is that op by itself.

Where a tensor lies is the group's affair, not the ops': rules bring operands from wherever they are
(``lowering.emitter``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd, lcm

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.held import BANDS, Rolling, part
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext, Stage, Tiling
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.network import NetOp, operands
from edgefusion.compiler.network.rows import (
    can_roll,
    row_bytes,
    row_count,
    rows_needed,
    rows_per_index,
)
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Span
from edgefusion.runtime.machine import Machine

_EDGE_STEPS = 3
"""Steps at either end of a loop that may differ from those between: the first fills the halo, the
last find the rows exhausted."""


@dataclass(frozen=True, slots=True)
class Member:
    """An op of a group, with the tiling and the copies of streamed buffers that it is emitted
    with; ``record`` is what programs and reports call it. ``absorbed`` are the ops of the network
    that are done with it."""

    op: NetOp
    tiling: Tiling
    slots: int
    record: str
    absorbed: tuple[NetOp, ...] = ()


@dataclass(frozen=True, slots=True)
class Loop:
    """How a group runs: ``stripe`` rows of the last member's result a step.

    ``rolling`` are the tensors made inside that lie in SRAM by stripes, ``kept`` those of them that
    are stored in DRAM as well (or that stay in SRAM whole), ``shared`` those read from DRAM that
    are loaded by stripes for several readers or for their halo. All are roots of views.
    """

    stripe: int
    rolling: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Group:
    """Members in order, and their loop."""

    members: tuple[Member, ...]
    loop: Loop


@dataclass(frozen=True, slots=True)
class Scene:
    """Where all tensors lie outside a group: whole, in DRAM or SRAM (``views``), and their places
    in ``dram``. ``roots`` maps views to the tensors whose memory they are, ``aliases`` these to all
    that share it."""

    machine: Machine
    tensors: Tensors
    views: Mapping[str, View]
    dram: Mapping[str, View]
    roots: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]]
    needs: dict[tuple[str, Span], dict[str, Span]] = field(default_factory=dict)
    frontiers: dict[tuple[tuple[str, ...], Loop], Frontier] = field(default_factory=dict)
    """What has been found of ``rows_needed``, by op and rows, and of loops, by ops: the same for
    all scenes of a network."""

    def rows_needed(self, op: NetOp, span: Span) -> dict[str, Span]:
        """See ``network.rows``."""
        key = op.name, span
        if key not in self.needs:
            self.needs[key] = rows_needed(op, self.tensors, span)
        return self.needs[key]

    def frontier(self, ops: Sequence[NetOp], loop: Loop) -> Frontier:
        """The frontier of ``ops`` in ``loop``."""
        key = tuple(op.name for op in ops), loop
        if key not in self.frontiers:
            self.frontiers[key] = Frontier(ops, self, loop)
        return self.frontiers[key]

    def root(self, name: str) -> str:
        """The tensor whose memory ``name`` is."""
        return self.roots.get(name, name)

    def names(self, root: str) -> tuple[str, ...]:
        """What the memory of ``root`` is called: itself, and its views."""
        return self.aliases.get(root, (root,))


@dataclass(frozen=True, slots=True)
class Step:
    """What one step computes: by op the rows of its result (none if ``size`` is 0); by tensor that
    rolls the first row that is still needed and the span of new ones."""

    spans: tuple[Span, ...]
    stripes: Mapping[str, tuple[int, Span]]


class Frontier:
    """How far the tensors of a group have come when its last result has come so far."""

    def __init__(self, ops: Sequence[NetOp], scene: Scene, loop: Loop) -> None:
        self.ops, self.scene, self.loop = ops, scene, loop
        self.total = row_count(scene.tensors[ops[-1].outputs[0]])
        made = {scene.root(op.outputs[0]) for op in ops}
        read = {scene.root(name) for op in ops for name in operands(op)}
        # What is not read inside, or is stored as well, has to be computed in full.
        self.sinks = (made - read) | loop.kept
        self._steps: dict[tuple[int, int], Step] = {}

    @cached_property
    def capacities(self) -> tuple[tuple[int, ...], dict[str, int]]:
        """The most rows that any step computes of each op, and holds of each tensor that rolls.

        Once the first rows of all tensors have been let go, steps repeat themselves, and those at
        the end hold no more.
        """
        total, stripe = self.total, self.loop.stripe
        most = [0] * len(self.ops)
        held: dict[str, int] = {}
        left = self.period
        for start in range(0, total, stripe):
            step = self.step(start, min(total, start + stripe))
            most = [max(a, span.size) for a, span in zip(most, step.spans, strict=True)]
            for root, (first, fresh) in step.stripes.items():
                held[root] = max(held.get(root, 0), fresh.stop - first)
            if all(first for first, _ in step.stripes.values()):
                left -= 1
                if not left:
                    break
        return tuple(most), held

    @cached_property
    def period(self) -> int:
        """After how many steps they repeat themselves: under windows that enlarge, ops rest."""
        stripe, steps = self.loop.stripe, 1
        for op in self.ops:
            for name in (*op.outputs, *operands(op)):
                if self.scene.root(name) in self.loop.rolling | self.loop.shared:
                    shape = self.scene.tensors[name].shape
                    lines = row_count(self.scene.tensors[name]) // rows_per_index(shape)
                    # So many rows of the last result for one line of this tensor.
                    whole = self.total // gcd(self.total, lines)
                    steps = lcm(steps, whole // gcd(whole, stripe))
        return min(steps, -(-self.total // stripe))

    def step(self, start: int, stop: int) -> Step:
        """From ``start`` to ``stop`` rows of the last result."""
        if (start, stop) not in self._steps:
            self._steps[start, stop] = self._step(start, stop)
        return self._steps[start, stop]

    def _step(self, start: int, stop: int) -> Step:
        scene, rolls = self.scene, self.loop.rolling | self.loop.shared
        before = self._reach(start) if start else {}
        now = self._reach(stop)
        spans, stripes = [], {}
        first: dict[str, int] = {}
        for op in reversed(self.ops):
            root = scene.root(op.outputs[0])
            begin = before.get(root, 0)
            span = Span(begin, now[root] - begin)
            spans.append(span)
            # One that rests at this step will need rows at a later one.
            ahead = span if span.size else Span(begin, rows_per_index(shape_of(op, scene)))
            if begin < row_count(scene.tensors[op.outputs[0]]):
                for name, need in self.scene.rows_needed(op, ahead).items():
                    other = scene.root(name)
                    first[other] = min(first.get(other, need.start), need.start)
        for root in sorted(rolls):
            begin = before.get(root, 0)
            fresh = Span(begin, now.get(root, begin) - begin)
            stripes[root] = min(first.get(root, begin), begin), fresh
        return Step(tuple(reversed(spans)), stripes)

    def _reach(self, stop: int) -> dict[str, int]:
        """By root, the end of the rows that are needed for ``stop`` rows of the last result."""
        scene = self.scene
        reach: dict[str, int] = {}
        for op in reversed(self.ops):
            name = op.outputs[0]
            root, tensor = scene.root(name), scene.tensors[name]
            if root in self.sinks:
                own = -(-stop * row_count(tensor) // self.total)
                step = rows_per_index(tensor.shape)
                reach[root] = max(reach.get(root, 0), -(-own // step) * step)
            end = reach.setdefault(root, 0)
            if end:
                for other, need in self.scene.rows_needed(op, Span(0, end)).items():
                    source = scene.root(other)
                    reach[source] = max(reach.get(source, 0), need.stop)
        return reach


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


class Overlay(dict[str, View]):
    """Views of a group over those of its scene, which are not copied."""

    def __init__(self, below: Mapping[str, View]) -> None:
        super().__init__()
        self._below = below

    def __missing__(self, name: str) -> View:
        return self._below[name]


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


def shape_of(op: NetOp, scene: Scene) -> tuple[int, ...]:
    """The shape of an op's result."""
    return scene.tensors[op.outputs[0]].shape


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
