"""The two layouts of a tensor, channels first and channels last, each made only when wanted.

``channels_last`` walks the graph once and asks for the form that each op needs. A tensor of rank 3
or more starts in one form; the other comes from the op that makes it, from a Transpose that the
exporter wrote, from a Reshape where only axes of size 1 move, and from a new Transpose last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx

from edgefusion.compiler.graph.graph import Attribute, Graph, Node, Tensor

VIEW_OPS = frozenset({"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"})
"""Ops that give the same bytes another shape."""


def to_last(rank: int) -> tuple[int, ...]:
    """Permutation from [n, c, ...] to [n, ..., c]."""
    return (0, *range(2, rank), 1)


def to_first(rank: int) -> tuple[int, ...]:
    """Permutation from [n, ..., c] to [n, c, ...]."""
    return (0, rank - 1, *range(1, rank - 1))


def last_axis_of(axis: int, rank: int) -> int:
    """Where ``axis`` of the channels-first form is in the channels-last form."""
    return to_last(rank).index(axis % rank)


def permuted(shape: Sequence[int], perm: Sequence[int]) -> tuple[int, ...]:
    """``shape`` with its axes in the order ``perm``."""
    return tuple(shape[axis] for axis in perm)


def is_view(shape: Sequence[int], perm: Sequence[int]) -> bool:
    """Whether a transpose by ``perm`` leaves the bytes of a tensor of ``shape`` as they are.

    >>> is_view((1, 320, 1, 1), (0, 2, 3, 1)), is_view((1, 320, 8, 8), (0, 2, 3, 1))
    (True, False)
    """
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


class Forms:
    """Which tensors have a channels-last form, and how to get one."""

    def __init__(self, graph: Graph) -> None:
        """Nothing has a channels-last form yet."""
        self.graph = graph
        self.twins: dict[Node, Node] = {}
        """Nodes that have a channels-last twin."""
        self._last: dict[Tensor, Tensor] = {}
        self._constants: dict[tuple[Tensor, int], Tensor] = {}

    def has_last(self, tensor: Tensor) -> bool:
        """Whether the channels-last form of ``tensor`` exists."""
        return tensor in self._last

    def set_last(self, tensor: Tensor, form: Tensor) -> None:
        """Record the channels-last form of ``tensor``."""
        self._last[tensor] = form

    def last(self, tensor: Tensor, node: Node) -> Tensor:
        """The channels-last form of ``tensor``, made before ``node`` if there is none."""
        if tensor.is_constant:
            return self.constant(tensor, tensor.rank)
        if tensor not in self._last:
            self._last[tensor] = self.move(tensor, to_last(tensor.rank), node)
        return self._last[tensor]

    def operand(self, tensor: Tensor, rank: int, node: Node) -> Tensor:
        """An elementwise operand for a channels-last result of ``rank``; it may broadcast."""
        if tensor.is_constant:
            return self.constant(tensor, rank, strip=True)
        if tensor.rank == rank or prod(tensor.shape) == 1:
            return self.last(tensor, node) if tensor.rank == rank else tensor
        padded = self.view(tensor, (1,) * (rank - tensor.rank) + tensor.shape, node)
        return self.last(padded, node)

    def constant(self, tensor: Tensor, rank: int, *, strip: bool = False) -> Tensor:
        """A constant in channels-last form of ``rank``; ``strip`` drops leading axes of size 1."""
        if prod(tensor.shape) == 1 and strip:
            return tensor
        shape = (1,) * (rank - tensor.rank) + tensor.shape
        result = permuted(shape, to_last(rank))
        while strip and result[0] == 1 and len(result) > 1:
            result = result[1:]
        if result == tensor.shape and is_view(shape, to_last(rank)):
            return tensor
        known = self._constants.get((tensor, len(result)))
        if known is not None and known.shape == result:
            return known
        values = tensor.lazy
        made = self.graph.deferred_constant(
            f"{tensor.name}_last",
            result,
            tensor.dtype,
            lambda: np.ascontiguousarray(
                values.load().reshape(shape).transpose(to_last(rank)).reshape(result)
            ),
        )
        self._constants[tensor, len(result)] = made
        return made

    def like_last(self, tensor: Tensor) -> Tensor:
        """A new tensor with the channels-last shape of ``tensor``."""
        shape = permuted(tensor.shape, to_last(tensor.rank))
        return self.graph.tensor(f"{tensor.name}_last", shape, tensor.dtype)

    def replace(self, old: Tensor, new: Tensor, node: Node) -> None:
        """Whoever reads ``old``, which ``node`` made, reads ``new``; both have the same layout."""
        if old.is_output:
            old.raw.inputs.clear()
            self.graph.add("Identity", [new], [old], source=[node], before=node)
        else:
            self.graph.rewire(old, new)

    def view(self, tensor: Tensor, shape: Sequence[int], node: Node) -> Tensor:
        """``tensor`` under another shape; chains of views collapse into one."""
        source = tensor
        while (
            (producer := source.producer) is not None
            and producer.op in VIEW_OPS
            and producer.inputs[0].has_shape
        ):
            source = producer.inputs[0]
        if source.shape == tuple(shape):
            return source
        result = self.graph.tensor(f"{tensor.name}_view", shape, tensor.dtype)
        add_view(self.graph, source, result, node)
        return result

    def move(self, tensor: Tensor, perm: Sequence[int], node: Node) -> Tensor:
        """``tensor`` with its axes in the order ``perm``."""
        shape = permuted(tensor.shape, perm)
        if is_view(tensor.shape, perm):
            return self.view(tensor, shape, node)
        result = self.graph.tensor(f"{tensor.name}_last", shape, tensor.dtype)
        self.graph.add(
            "Transpose",
            [tensor],
            [result],
            {"perm": list(perm)},
            source=[node],
            name=f"{tensor.name}_to_last",
            before=node,
        )
        return result


def add_view(graph: Graph, source: Tensor, result: Tensor, node: Node) -> Node:
    """A Reshape from ``source`` to the shape of ``result``."""
    shape = graph.constant(f"{result.name}_shape", np.asarray(result.shape, np.int64))
    return graph.add(
        "Reshape", [source, shape], [result], source=[node], name=f"{result.name}_op", before=node
    )


def twin(
    forms: Forms,
    node: Node,
    op: str | onnx.FunctionProto,
    inputs: Sequence[Tensor | None],
    attrs: Mapping[str, Attribute],
) -> None:
    """Add the channels-last ``op`` for ``node``; its results are the channels-last forms."""
    outputs = [forms.like_last(tensor) for tensor in node.outputs if not tensor.is_absent]
    outputs = outputs[:1] if node.op == "MaxPool" else outputs
    made = forms.graph.add(op, inputs, outputs, attrs, source=[node], before=node)
    forms.twins[node] = made
    for tensor, form in zip(node.outputs, outputs, strict=False):
        forms.set_last(tensor, form)
