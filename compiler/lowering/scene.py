"""Where tensors lie while a network is planned and emitted, and how far a loop has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import gcd, lcm
from typing import Any

from edgefusion.compiler.lowering.plan import Loop
from edgefusion.compiler.lowering.rule import replaceable
from edgefusion.compiler.lowering.view import Overlay, View
from edgefusion.compiler.memory.placement import aligned
from edgefusion.compiler.network.network import NetOp, operands
from edgefusion.compiler.network.rows import row_count, rows_needed, rows_per_index
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.schedule.dependences import Region
from edgefusion.runtime.isa import Space
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Operand, dense_strides


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

    def aligned_bytes(self, root: str) -> int:
        """What a tensor takes of SRAM."""
        return aligned(self.tensors[root].nbytes, self.machine.sram_align_bytes)

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
        """The most rows that any step computes of each op, and holds of each tensor that rolls in
        stripes of its own.

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
                if root not in self.over:
                    held[root] = max(held.get(root, 0), fresh.stop - first)
            if all(first for first, _ in step.stripes.values()):
                left -= 1
                if not left:
                    break
        return tuple(most), held

    @cached_property
    def over(self) -> dict[str, str]:
        """By root, tensors that roll in the stripes of another, which is computed in their place
        (``rule.replaceable``): those that nothing else reads."""
        found: dict[str, str] = {}
        read = [self.scene.root(name) for op in self.ops for name in operands(op)]
        for op in reversed(self.ops):
            made = self.scene.root(op.outputs[0])
            for name in replaceable(op, self.scene.tensors):
                root = self.scene.root(name)
                rolls = root in self.loop.rolling - self.loop.kept and made in self.loop.rolling
                if rolls and read.count(root) == 1:
                    found[root] = found.get(made, made)
                    break
        return found

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
        for root in sorted(rolls):  # a program does not depend on the order of a set
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


def with_residents(scene: Scene, where: Mapping[str, str]) -> Scene:
    """The scene with these tensors somewhere in SRAM: for costing, any address will do."""
    views = Overlay(scene.views)
    nowhere = Region(partial=True)
    for root in where:
        for name in scene.names(root):
            o = scene.dram[name].operand
            strides = dense_strides(o.shape, o.dtype)
            views[name] = View(Operand(o.tensor, Space.SRAM, 0, o.dtype, o.shape, strides), nowhere)
    return replace(scene, views=views)


def shape_of(op: NetOp, scene: Scene) -> tuple[int, ...]:
    """The shape of an op's result."""
    return scene.tensors[op.outputs[0]].shape


def signature(ops: Sequence[NetOp], scene: Scene, marks: Mapping[str, str]) -> Any:
    """What costs and bounds depend on: ops that agree in it get the same ones. ``marks`` say where
    tensors are, by root."""
    numbers: dict[str, int] = {}
    described = []
    for op in ops:
        named = (*op.inputs, *op.outputs, *(step.operand for step in op.epilogue))
        entries: list[Any] = []
        for name in named:
            if not name:
                entries.append(None)
                continue
            tensor, root = scene.tensors[name], scene.root(name)
            number = numbers.setdefault(root, len(numbers))
            scaled = bool(tensor.scale_tensor)
            mark = marks.get(root, "")
            entries.append((number, tensor.shape, tensor.dtype, scaled, tensor.role, mark))
        attributes = tuple(op.kind.attributes.items())
        functions = tuple((step.function, bool(step.like)) for step in op.epilogue)
        described.append((op.kind.name, tuple(entries), attributes, functions))
    return tuple(described)
