"""Operands that repeat along inner axes are seen as matrices of which they repeat rows or columns.

The vector engine repeats whole rows, columns or one element of a matrix. Neighbouring axes along
which an operand repeats, or does not, are one axis to it: [8, 64, 16] * [1, 64, 16] is a matrix of
8 rows times one row of 1024. What needs three such axes or more gets copies of the operand:
constants when they are stored, activations by Concat.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np

from edgefusion.compiler.frontend.legality_rules import finite_constants, rows_or_elements
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks
from edgefusion.passes.rewrite_moves import MAX_COPIES
from edgefusion.passes.rewriting import Rewriting
from edgefusion.runtime.functions import BINARY_BY_OP
from edgefusion.runtime.isa import MAX_RANK

MAX_STORED_BYTES = 1 << 20
"""The largest constant that is stored with its repetitions."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Sizes of a result's axes, merged as far as both operands allow, and along which of these
    each operand repeats."""

    sizes: tuple[int, ...]
    repeats: tuple[tuple[bool, ...], tuple[bool, ...]]

    def shape(self, operand: int) -> tuple[int, ...]:
        """Of ``operand``, with 1 where it repeats."""
        pairs = zip(self.sizes, self.repeats[operand], strict=True)
        return tuple(1 if repeats else size for size, repeats in pairs)

    def with_rows_of(self, columns: int) -> Axes:
        """The one axis as rows of ``columns`` elements, for tiles are of whole rows."""
        (size,) = self.sizes or (1,)
        (first,), (second,) = self.repeats if self.sizes else ((False,), (False,))
        return Axes((size // columns, columns), ((first,) * 2, (second,) * 2))

    def with_copies(self, operand: int, axis: int) -> Axes:
        """Where ``operand`` repeats along ``axis`` no more."""
        shapes = [self.shape(0), self.shape(1)]
        own = shapes[operand]
        shapes[operand] = (*own[:axis], self.sizes[axis], *own[axis + 1 :])
        return merged(self.sizes, (shapes[0], shapes[1]))


def merged(result: tuple[int, ...], operands: tuple[tuple[int, ...], tuple[int, ...]]) -> Axes:
    """The fewest axes that ``result`` and its two ``operands``' shapes have.

    >>> merged((2, 8, 64, 16), ((2, 8, 64, 16), (64, 16))).shape(1)
    (1, 1024)
    """
    padded = [(1,) * (len(result) - len(shape)) + shape for shape in operands]
    sizes: list[int] = []
    kinds: list[tuple[bool, bool]] = []
    for size, *own in zip(result, *padded, strict=True):
        if size == 1:
            continue
        kind = (own[0] == 1, own[1] == 1)
        if kinds and kinds[-1] == kind:
            sizes[-1] *= size
        else:
            sizes.append(size)
            kinds.append(kind)
    first, second = tuple(k[0] for k in kinds), tuple(k[1] for k in kinds)
    return Axes(tuple(sizes), (first, second))


@dataclass(frozen=True)
class FoldBroadcast:
    """Binary ops, whose operands are channels last by now if ever."""

    name: ClassVar[str] = "fold-broadcast"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every op that the vector engine has and whose operands it cannot repeat."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if node.domain or node.op not in BINARY_BY_OP or not _is_misfit(node):
                continue
            result, op = node.output, node.op
            reason = _fold(Rewriting(graph, node))
            if reason:
                remarks.missed(node, f"{op} {reason}")
            elif (made := result.producer) is not None:
                remarks.matched(made, f"{op} of {list(result.shape)} repeats rows or columns")
        return remarks.result()


def _is_misfit(node: Node) -> bool:
    floating = np.issubdtype(node.output.dtype, np.floating)
    if not floating or len(node.inputs) != 2 or 0 in node.output.shape:
        return False
    if not finite_constants(node)[0]:
        return False  # the host's, whatever its shape
    ok, _ = rows_or_elements(node)
    return not ok or max(tensor.rank for tensor in (*node.inputs, node.output)) > MAX_RANK


def _fold(r: Rewriting) -> str:
    node = r.node
    operands = list(node.inputs)
    axes = merged(node.output.shape, (operands[0].shape, operands[1].shape))
    while len(axes.sizes) > 2:
        choices = _copies(axes, operands)
        if not choices:
            return f"repeats {[list(t.shape) for t in node.inputs]} too often to copy"
        _, _, which, axis = min(choices)
        operands[which] = _copied(r, operands[which], axes, which, axis)
        axes = axes.with_copies(which, axis)
    if len(axes.sizes) < 2:
        axes = axes.with_rows_of(node.output.shape[-1])
    sizes = axes.sizes or (1,)
    views = [r.reshaped(tensor, axes.shape(i) or (1,)) for i, tensor in enumerate(operands)]
    return r.last_reshaped(r.step(node.op, views, sizes, node.attrs))


def _copies(axes: Axes, operands: list[Tensor]) -> list[tuple[int, int, int, int]]:
    """Which operand can be copied along which axis, with the number of axes that leaves and of
    elements that makes."""
    choices = []
    for which, axis in product((0, 1), range(len(axes.sizes))):
        stored = operands[which].is_constant
        elements = prod(axes.shape(which)) * axes.sizes[axis]
        limit = MAX_STORED_BYTES // operands[which].dtype.itemsize
        few = elements <= limit if stored else axes.sizes[axis] <= MAX_COPIES
        if axes.repeats[which][axis] and few:
            left = len(axes.with_copies(which, axis).sizes)
            choices.append((left, elements, which, axis))
    return choices


def _copied(r: Rewriting, x: Tensor, axes: Axes, which: int, axis: int) -> Tensor:
    """Operand ``which``, that is ``x``, repeated along ``axis`` of the merged ``axes``."""
    shape, count = axes.shape(which), axes.sizes[axis]
    if not x.is_constant:
        return r.joined([r.reshaped(x, shape)] * count, axis)
    made, values = (*shape[:axis], count, *shape[axis + 1 :]), x.lazy
    return r.graph.deferred_constant(
        f"{x.name}.repeated",
        made,
        x.dtype,
        lambda: np.ascontiguousarray(np.broadcast_to(values.load().reshape(shape), made)),
    )
