"""Transposes of more axes than the NPU has, as one or several of up to four.

Axes that stay together are one axis: windows, [n, 4, 7, 4, 7, c] by (0, 1, 3, 2, 4, 5), are four,
[n*4, 7, 4, 7*c]. Where more are left, as in patches or PixelShuffle, the order is reached in
several steps, as few as there are, each of which moves up to four blocks of axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, permutations
from math import prod
from typing import ClassVar

import numpy as np

from edgefusion.compiler.frontend.legality_rules import leading_axes_stay, rank_four
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.passes.layout_forms import VIEW_OPS
from edgefusion.passes.matching import is_op
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks
from edgefusion.passes.rewriting import Rewriting
from edgefusion.runtime.isa import MAX_RANK

MAX_AXES = 7
"""Of a transpose whose steps are searched."""
Order = tuple[int, ...]


@dataclass(frozen=True)
class SplitTranspose:
    """Every Transpose that the NPU does not take as it is; views around it become one each."""

    name: ClassVar[str] = "split-transpose"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if node.removed or not is_op(node, "Transpose") or 0 in node.output.shape:
                continue
            if rank_four(node)[0] and leading_axes_stay(node)[0]:
                continue
            if not np.issubdtype(node.output.dtype, np.floating):
                continue
            sizes, order = merged(node.inputs[0].shape, _perm(node))
            if len(sizes) > MAX_AXES:
                remarks.missed(node, f"{len(sizes)} axes of {list(node.output.shape)} are moved")
                continue
            path = steps(order)
            shape = node.output.shape
            made = _rewrite(Rewriting(graph, node), sizes, path)
            remarks.matched(made, f"{list(shape)} in {len(path)} steps")
        return remarks.result()


def _perm(node: Node) -> Order:
    return node.get_ints("perm", tuple(reversed(range(node.inputs[0].rank))))


def merged(shape: Sequence[int], perm: Order) -> tuple[tuple[int, ...], Order]:
    """Sizes of the axes of ``shape`` that move alone, and the order in which they come out.

    >>> merged((1, 4, 7, 4, 7, 32), (0, 1, 3, 2, 4, 5))
    ((4, 7, 4, 224), (0, 2, 1, 3))
    """
    runs: list[list[int]] = []
    moved = [axis for axis in perm if shape[axis] != 1]
    kept = sorted(moved)
    for axis in moved:
        if runs and kept.index(axis) == kept.index(runs[-1][-1]) + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    first = sorted(runs)
    sizes = tuple(prod(shape[axis] for axis in run) for run in first)
    return sizes, tuple(first.index(run) for run in runs)


def steps(order: Order) -> list[Order]:
    """The orders from the first to ``order``, each made of its predecessor by moving blocks."""
    begin = tuple(range(len(order)))
    before: dict[Order, Order] = {begin: begin}
    front = [begin]
    while order not in before:
        reached = []
        for state in front:
            for found in _next(state):
                if found not in before:
                    before[found] = state
                    reached.append(found)
        front = reached
    path = [order]
    while path[-1] != begin:
        path.append(before[path[-1]])
    return path[-2::-1]


def _next(state: Order) -> Iterator[Order]:
    """``state`` cut into up to ``MAX_RANK`` blocks, in each of their orders."""
    count = min(MAX_RANK, len(state))
    for cuts in combinations(range(1, len(state)), count - 1):
        blocks = [state[a:b] for a, b in pairwise((0, *cuts, len(state)))]
        for chosen in permutations(blocks):
            yield tuple(axis for block in chosen for axis in block)


def _rewrite(r: Rewriting, sizes: tuple[int, ...], path: list[Order]) -> Node:
    """The steps in the place of the node; the last of what is made."""
    graph, node = r.graph, r.node
    views = _views_before(node.inputs[0])
    x = views[-1].inputs[0] if views else node.inputs[0]
    state = tuple(range(len(sizes)))
    for target in path:
        blocks = _blocks(state, target)
        shape = [prod(sizes[axis] for axis in block) for block in blocks]
        places = sorted(range(len(blocks)), key=lambda i: target.index(blocks[i][0]))
        x = r.step(
            "Transpose",
            [r.reshaped(x, shape)],
            [shape[i] for i in places],
            {"perm": places},
        )
        state = target
    for view in node.output.consumers:
        if is_op(view, *VIEW_OPS):
            result = view.output
            sizes_of = graph.constant(f"{result.name}.shape", np.asarray(result.shape, np.int64))
            graph.fuse([view], "Reshape", [x, sizes_of], [result])
    if node.output.consumers or node.output.is_output:
        r.last_reshaped(x)
    else:
        graph.remove(node)
    for view in views:
        if not view.output.consumers and not view.output.is_output:
            graph.remove(view)
    maker = x.producer
    assert maker is not None
    return maker


def _views_before(x: Tensor) -> list[Node]:
    """The views that ``x`` is made by, last first."""
    views = []
    while (view := x.producer) is not None and is_op(view, *VIEW_OPS):
        views.append(view)
        x = view.inputs[0]
    return views


def _blocks(state: Order, target: Order) -> list[Order]:
    """``state`` in the pieces that stay together in ``target``."""
    blocks: list[Order] = []
    for axis in state:
        if blocks and target.index(axis) == target.index(blocks[-1][-1]) + 1:
            blocks[-1] = (*blocks[-1], axis)
        else:
            blocks.append((axis,))
    return blocks
