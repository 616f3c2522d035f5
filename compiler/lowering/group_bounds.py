"""Lower limits of ops where a plan has them, and of a network over all groups it could form."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from edgefusion.compiler.lowering.bounds import (
    Bound,
    bus_ps,
    compulsory_bytes,
    named_tensors,
    op_bound,
)
from edgefusion.compiler.lowering.chain_bound import chain_ps
from edgefusion.compiler.lowering.plan import Loop, Plan
from edgefusion.compiler.lowering.rule import OpContext
from edgefusion.compiler.lowering.scene import Scene, signature, with_residents
from edgefusion.compiler.network.kind import Use
from edgefusion.compiler.network.network import NetOp, operands, results
from edgefusion.compiler.network.rows import row_bytes, row_count
from edgefusion.runtime.groups import EngineBounds
from edgefusion.runtime.isa import Role


@dataclass(slots=True)
class BoundFinder:
    """Bounds of ops in a scene; ops that look the same are looked at once."""

    scene: Scene
    known: dict[Any, Bound] = field(default_factory=dict)

    def of_plan(self, plan: Plan) -> list[list[Bound]]:
        """The bounds of each group's members, with their operands where the plan has them."""
        return [
            self.of_loop(
                [member.op for member in group.members],
                group.loop,
                {r.root for r in plan.residencies if r.first <= index <= r.last},
            )
            for index, group in enumerate(plan.groups)
        ]

    def apart(self, op: NetOp) -> Bound:
        """From DRAM to DRAM."""
        return self._bound(op, frozenset(), frozenset())

    def weights_again(self, ops: Sequence[NetOp], loop: Loop, room_bytes: int, slots: int) -> int:
        """The bytes of weights that a loop of ``ops`` loads more than once at least, because with
        so much room not all stay, where ``slots`` stripes of a tensor lie in SRAM.

        What does not stay passes at every step, and at fewer steps stripes take more of the room.
        Where all weights but those of the last op stay, sweeps may take these in parts.
        """
        tensors = self.scene.tensors
        weights = [sum(tensors[n].nbytes for n in op.kind.operands_for(Use.WEIGHT)) for op in ops]
        too_many = sum(weights) - room_bytes
        if too_many <= 0 or sum(weights[:-1]) <= room_bytes:
            return 0
        total = row_count(tensors[ops[-1].outputs[0]])
        stripes = self.scene.frontier(ops, loop).step(0, total).stripes
        rolled = slots * sum(
            fresh.size * row_bytes(tensors[root]) for root, (_, fresh) in stripes.items()
        )
        steps = max(2, -(-rolled // room_bytes))
        return (steps - 1) * (too_many + rolled // steps)

    def fused(
        self, ops: Sequence[NetOp], plan: Plan, placed: Sequence[Sequence[Bound]]
    ) -> tuple[EngineBounds, int]:
        """What holds for whatever groups ``ops`` form. By engine: weights, inputs, outputs, and
        what the host reads and writes, once over the bus; each op's work once, as little as it
        takes wherever its operands are. And the picoseconds that they take in order
        (``lowering.chain_bound``). ``placed`` are the bounds in one ``plan``."""
        chosen: dict[str, EngineBounds] = {}
        for group, bounds in zip(plan.groups, placed, strict=True):
            for member, bound in zip(group.members, bounds, strict=True):
                name = member.op.name
                chosen[name] = _pairwise(max, chosen.get(name, EngineBounds()), bound.engines)
        moved_ps = sum(bound.dma_ps for bounds in placed for bound in bounds)
        sums = {step.operand for op in ops for step in op.epilogue if step.is_statistics}
        total = EngineBounds(dma_ps=min(self._outer_ps(ops), moved_ps))  # not more by rounding
        alone: dict[str, EngineBounds] = {}
        for op in ops:
            named = {*operands(op), *(op.outputs if len(op.outputs) == 1 else ())} - sums
            everywhere = frozenset(
                root
                for root in map(self.scene.root, named)
                if self.scene.tensors[root].role is Role.ACTIVATION
            )
            least = self.apart(op).engines
            if op.name in chosen:  # or it is done with another
                least = _pairwise(min, chosen[op.name], least)
            if op.kind.on_npu:
                least = _pairwise(min, least, self._bound(op, everywhere, everywhere).engines)
            alone[op.name] = EngineBounds(least.tensor_ps, least.vector_ps, 0, least.host_ps)
            total += alone[op.name]
        return total, chain_ps(ops, self.scene, alone)

    def of_loop(self, ops: Sequence[NetOp], loop: Loop, residents: Collection[str]) -> list[Bound]:
        """The bounds of ops that run as one loop, whatever its stripes, with tensors in SRAM."""
        scene = self.scene
        rows = [row_count(scene.tensors[op.outputs[0]]) for op in ops]
        reached = rows
        if len(ops) > 1 or loop.rolling:
            spans = scene.frontier(ops, loop).step(0, rows[-1]).spans
            reached = [span.size for span in spans]
        inside = {*residents} | loop.rolling | loop.shared
        loaded: set[str] = set()
        found = []
        for op, size, total in zip(ops, reached, rows, strict=True):
            read = {scene.root(name) for name in operands(op)}
            first = (loop.shared & read) - loaded  # whoever reads them first loads them
            loaded |= first
            bound = self._bound(op, frozenset(inside), frozenset(inside - first))
            stored = scene.root(op.outputs[0])
            if stored in loop.kept:
                bound = bound.moving(scene.tensors[stored].nbytes, scene.machine)
            found.append(bound if size >= total else bound.part(size, total))
        return found

    def _bound(self, op: NetOp, inside: frozenset[str], unmoved: frozenset[str]) -> Bound:
        """With the tensors ``inside`` in SRAM, of which those ``unmoved`` are not loaded for it."""
        own = {self.scene.root(name) for name in (*operands(op), *results(op))}
        inside, unmoved = inside & own, unmoved & own
        marks = dict.fromkeys(inside, "shared") | dict.fromkeys(unmoved, "sram")
        key = signature([op], self.scene, marks)
        if key not in self.known:
            work, moves = (self._context(op, roots) for roots in (inside, unmoved))
            self.known[key] = op_bound(work, moves)
        return self.known[key]

    def _context(self, op: NetOp, inside: frozenset[str]) -> OpContext:
        scene = with_residents(self.scene, dict.fromkeys(inside, "sram"))
        return OpContext(op, scene.machine, scene.tensors, scene.views)

    def _outer_ps(self, ops: Sequence[NetOp]) -> int:
        """The time on the bus of what must cross it."""
        scene = self.scene
        hosts = [op for op in ops if not op.kind.on_npu]
        crossing = {scene.root(n) for op in hosts for n in (*operands(op), *results(op))}
        made = {scene.root(n) for op in ops if op.kind.on_npu for n in results(op)}
        read: dict[str, int] = {}
        for op in ops:
            if op.kind.on_npu:
                context = self._context(op, frozenset())
                for name in named_tensors(context):
                    root = scene.root(name)
                    outer = scene.tensors[root].role is not Role.ACTIVATION or root in crossing
                    if outer and root not in made:
                        nbytes = compulsory_bytes(context, [name])
                        read[root] = max(read.get(root, 0), nbytes)
        wanted = {root for op in hosts for root in map(scene.root, operands(op))}
        written = sum(
            scene.tensors[root].nbytes
            for root in made
            if scene.tensors[root].role is Role.OUTPUT or root in wanted
        )
        nbytes = sum(read.values()) + written
        return bus_ps(nbytes, scene.machine)


def _pairwise(choose: Any, one: EngineBounds, other: EngineBounds) -> EngineBounds:
    return EngineBounds(*map(choose, astuple(one), astuple(other)))
