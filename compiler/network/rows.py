"""Rows: the one measure in which stripes of neighbouring ops are counted.

Whatever its shape, a tensor is a matrix of rows, each as long as its last axis: pixels of an image,
tokens of a sequence. A stripe is a span of rows. Views that keep the last axis keep the rows.
"""

from __future__ import annotations

from functools import cache
from math import prod

from edgefusion.compiler.network.network import NetOp, cuts, needs
from edgefusion.compiler.network.tensor import NetTensor, Tensors
from edgefusion.compiler.network.window import Span


def row_count(tensor: NetTensor) -> int:
    """How many rows a tensor has."""
    return prod(tensor.shape[:-1])


def row_bytes(tensor: NetTensor) -> int:
    """Bytes of one row."""
    return (tensor.shape[-1] if tensor.shape else 1) * tensor.dtype.nbytes


@cache
def row_axis(shape: tuple[int, ...]) -> int | None:
    """The axis along which stripes of whole rows are cut: the first of more than one element; None
    where there is but one row."""
    return next((axis for axis, size in enumerate(shape[:-1]) if size > 1), None)


@cache
def rows_per_index(shape: tuple[int, ...]) -> int:
    """Rows that one step along ``row_axis`` takes: those of an image line."""
    axis = row_axis(shape)
    return 1 if axis is None else prod(shape[axis + 1 : -1])


def can_roll(op: NetOp, tensors: Tensors) -> bool:
    """Whether stripes of the op's rows can be computed by themselves."""
    axis = row_axis(tensors[op.outputs[0]].shape)
    return len(op.outputs) == 1 and axis is not None and cuts(op, tensors).get(axis) == 1


def rows_needed(op: NetOp, tensors: Tensors, span: Span) -> dict[str, Span]:
    """The rows of each operand that the rows ``span`` of the result need; an operand that is left
    out is needed whole."""
    shape = tensors[op.outputs[0]].shape
    axis, step = row_axis(shape), rows_per_index(shape)
    assert axis is not None, "ask can_roll first"
    first, stop = span.start // step, -(-span.stop // step)
    found = {}
    for name, (other_axis, part) in needs(op, tensors, axis, Span(first, stop - first)).items():
        other = tensors[name].shape
        if other_axis == row_axis(other):
            size = rows_per_index(other)
            found[name] = Span(part.start * size, part.size * size)
    return found
