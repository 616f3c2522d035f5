"""A lower limit of time from what has to be complete before something else can begin.

Engines overlap, but not everything can: the values of a GroupNorm need its statistics, these every
row of what is normalised, and an attention's results every row of K and V. At such a *cut*, all
that goes before is done, all that comes after has not begun, and of what comes after no more has
crossed the bus than SRAM holds. Between two cuts one after the other, each engine has to do all the
work that lies between; so has the bus with the constants read there, less one filling of SRAM. The
sum over a chain of cuts is a bound, whatever groups are formed; the best chain is found by dynamic
programming. What goes over a cut in DRAM, as large maps do, is not counted: it could be computed
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.lowering.bounds import compulsory_bytes, named_tensors
from edgefusion.compiler.lowering.rule import OpContext
from edgefusion.compiler.lowering.scene import Scene
from edgefusion.compiler.network.network import NetOp, operands, results, statistics
from edgefusion.compiler.network.rows import can_roll, row_count
from edgefusion.compiler.network.window import Span
from edgefusion.runtime.groups import EngineBounds

Mask = npt.NDArray[np.bool_]
"""Of the ops of a network, by place."""


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """``before`` are the ops that are complete at some moment, ``after`` those not yet begun."""

    before: Mask
    after: Mask


def chain_ps(ops: Sequence[NetOp], scene: Scene, least: Mapping[str, EngineBounds]) -> int:
    """The least picoseconds that ``ops`` in order take on the scene's machine; ``least`` is the
    work of each by name, the bus left out."""
    order = _Order(ops, scene)
    work = np.array([[w.tensor_ps, w.vector_ps, w.host_ps] for w in (least[op.name] for op in ops)])
    nbytes = np.array(_constant_bytes(ops, scene))
    machine = scene.machine
    everything = np.ones(len(ops), dtype=bool)
    cuts = [_Cut(~everything, everything), *order.cuts(), _Cut(everything, ~everything)]
    cuts.sort(key=lambda cut: int(cut.before.sum()))
    best = np.zeros(len(cuts))
    there = np.full(len(cuts), machine.sram_bytes)
    there[0] = 0  # at the start, SRAM is empty
    for j, cut in enumerate(cuts[1:], start=1):
        earlier = [i for i, other in enumerate(cuts[:j]) if not (other.before & ~cut.before).any()]
        between = np.array([cuts[i].after & cut.before for i in earlier])
        loaded = between @ nbytes - there[earlier]
        bus_ps = 1e12 * loaded / machine.dma_bandwidth_bytes_per_s
        engines_ps = (between @ work).max(axis=1)
        best[j] = (best[earlier] + np.maximum(engines_ps, np.maximum(bus_ps, 0))).max()
    return int(best[-1])


def _constant_bytes(ops: Sequence[NetOp], scene: Scene) -> list[int]:
    """Of the constants that each op is the first to read, as far as anything of them is read."""
    seen: set[str] = set()
    found = []
    for op in ops:
        context = OpContext(op, scene.machine, scene.tensors, scene.views)
        named = named_tensors(context) if op.kind.on_npu else []
        fresh = {scene.root(n): n for n in named if scene.tensors[n].constant}
        found.append(
            compulsory_bytes(context, [n for root, n in fresh.items() if root not in seen])
        )
        seen |= fresh.keys()
    return found


class _Order:
    """What of a network goes before what."""

    def __init__(self, ops: Sequence[NetOp], scene: Scene) -> None:
        self.ops, self.scene = ops, scene
        self.makers = {scene.root(name): i for i, op in enumerate(ops) for name in results(op)}
        self.sums = {scene.root(name) for op in ops for name in statistics(op)}
        self.rows = [self._rows(op) for op in ops]
        self.done: list[Mask] = []
        for index, op in enumerate(ops):
            mask = np.zeros(len(ops), dtype=bool)
            mask[index] = True
            for name in operands(op):
                maker = self.makers.get(scene.root(name))
                if maker is not None and maker < index and self._all_rows(index, name):
                    mask |= self.done[maker]
            self.done.append(mask)

    def cuts(self) -> Iterator[_Cut]:
        """Wherever an op needs an operand whole."""
        for index, op in enumerate(self.ops):
            for name in operands(op):
                root = self.scene.root(name)
                maker = self.makers.get(root)
                if maker is None or maker == index or name in self.rows[index]:
                    continue
                # Statistics are read before anything else is done; of a product with an operand
                # whole, parts may be computed before, but no finished row.
                begins = root in self.sums or not op.kind.on_npu
                yield _Cut(self.done[maker], self._blocked(index, itself=begins))

    def _blocked(self, index: int, *, itself: bool) -> Mask:
        """The ops that cannot begin before the results of one can, which is one of them or not."""
        begun_later = np.zeros(len(self.ops), dtype=bool)
        begun_later[index] = itself
        late = {self.scene.root(name) for name in results(self.ops[index])}
        for place in range(index + 1, len(self.ops)):
            op = self.ops[place]
            read = {self.scene.root(name): name for name in operands(op)}
            waits = late & read.keys()
            if waits:
                late |= {self.scene.root(name) for name in results(op)}
            # By an operand of which each row is read for a row of the result; one that is added in
            # the end is not waited for before.
            own = {self.scene.root(n) for n in op.inputs if n in self.rows[place]}
            begun_later[place] = bool(waits & own) or bool(waits & self.sums)
        return begun_later

    def _rows(self, op: NetOp) -> dict[str, Span]:
        """The rows of each operand that all rows of the result need; without those needed whole."""
        if not op.kind.on_npu or not can_roll(op, self.scene.tensors):
            return {}
        total = row_count(self.scene.tensors[op.outputs[0]])
        return self.scene.rows_needed(op, Span(0, total))

    def _all_rows(self, index: int, name: str) -> bool:
        """Whether the whole of an operand is needed for the whole of the result."""
        span = self.rows[index].get(name)
        return span is None or span.size >= row_count(self.scene.tensors[name])
