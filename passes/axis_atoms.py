"""Follows the axes of a tensor through reshapes and transposes, symbolically.

A tensor's dimensions are lists of atoms, named pieces of an axis that are never cut: tokens
[n, l, h*d] are ((n), (l), (h, d)). A reshape regroups neighbouring atoms, a transpose permutes
dimensions. Two chains of views compute the same thing exactly when their atoms end up the same, so
the many ways to split attention heads need no pattern each. Atoms of size 1 are left out: they move
no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import is_op

Atom = tuple[str, int]
Dims = tuple[tuple[Atom, ...], ...]
"""The atoms of each dimension, outermost first."""

REPEATED = "repeated"
"""The atom of an axis along which Expand repeats."""

VIEWS = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity")


def dims(*axes: Sequence[Atom]) -> Dims:
    """Dimensions from atoms, without those of size 1.

    >>> dims([("n", 1)], [("l", 77)], [("h", 12), ("d", 64)])
    ((), (('l', 77),), (('h', 12), ('d', 64)))
    """
    return tuple(tuple(atom for atom in axis if atom[1] != 1) for axis in axes)


def reshaped(before: Dims, shape: Sequence[int]) -> Dims | None:
    """``before`` under a new shape; None if an atom would have to be cut."""
    atoms = [atom for axis in before for atom in axis]
    result: list[tuple[Atom, ...]] = []
    for size in shape:
        axis: list[Atom] = []
        while prod(atom[1] for atom in axis) < size and atoms:
            axis.append(atoms.pop(0))
        if prod(atom[1] for atom in axis) != size:
            return None
        result.append(tuple(axis))
    return None if atoms else tuple(result)


def through(before: Dims, node: Node) -> Dims | None:
    """The atoms of a view's result, given those of its operand."""
    if node.op == "Expand":
        return _expanded(before, node)
    if node.op == "Transpose":
        rank = len(before)
        return tuple(before[axis] for axis in node.get_ints("perm", range(rank)[::-1]))
    return reshaped(before, node.output.shape)


def _expanded(before: Dims, node: Node) -> Dims | None:
    """With an atom ``REPEATED`` where an axis of size 1 is repeated; None for more than one."""
    shape = node.output.shape
    padded = ((),) * (len(shape) - len(before)) + before
    sizes = [prod(atom[1] for atom in axis) for axis in padded]
    grown = [index for index, size in enumerate(shape) if size != sizes[index]]
    if len(grown) != 1 or sizes[grown[0]] != 1:
        return None
    repeated = ((REPEATED, shape[grown[0]]),)
    return tuple(repeated if index == grown[0] else axis for index, axis in enumerate(padded))


def through_all(before: Dims, views: Sequence[Node]) -> Dims | None:
    """The atoms after a chain of views."""
    state: Dims | None = before
    for node in views:
        state = through(state, node) if state is not None else None
    return state


def sources(
    tensor: Tensor, ops: Sequence[str] = VIEWS
) -> Iterator[tuple[Tensor, tuple[Node, ...]]]:
    """``tensor`` and what it is a view of, nearest first, with the views in between in order."""
    views: tuple[Node, ...] = ()
    yield tensor, views
    while is_op(tensor.producer, *ops) and tensor.producer is not None:
        views = (tensor.producer, *views)
        tensor = tensor.producer.inputs[0]
        yield tensor, views


def results(tensor: Tensor) -> Iterator[tuple[Tensor, tuple[Node, ...]]]:
    """``tensor`` and the views of it that nobody else shares, nearest first."""
    views: tuple[Node, ...] = ()
    yield tensor, views
    while (node := tensor.only_consumer) is not None and is_op(node, *VIEWS):
        views = (*views, node)
        tensor = node.output
        yield tensor, views
