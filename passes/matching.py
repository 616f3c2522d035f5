"""Small questions that patterns ask about nodes; none of them changes the graph."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from edgefusion.compiler.graph.node import Node, Tensor

RELATIVE_TOLERANCE = 1e-3
"""Constants such as sqrt(2) arrive rounded, to half precision at worst."""


def is_op(node: Node | None, *ops: str) -> bool:
    """Whether ``node`` is one of these standard ops."""
    return node is not None and node.domain == "" and node.op in ops


def made_by(tensor: Tensor, *ops: str) -> Node | None:
    """The producer of ``tensor`` if it is one of these standard ops."""
    producer = tensor.producer
    return producer if is_op(producer, *ops) else None


def other_operand(node: Node, operand: Tensor) -> Tensor | None:
    """The second operand of a binary node of which ``operand`` is one; None for x op x."""
    if len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if first is second or operand not in (first, second):
        return None
    return second if operand is first else first


def with_scalar(node: Node) -> tuple[Tensor, float] | None:
    """A commutative binary node's activation and its scalar constant, whichever side it is on."""
    if len(node.inputs) != 2:
        return None
    first, second = node.inputs
    for operand, constant in ((first, second), (second, first)):
        value = constant.scalar()
        # A scalar of higher rank would add dimensions to the result.
        if value is not None and not operand.is_constant and constant.rank <= operand.rank:
            return operand, value
    return None


def close(value: float | None, expected: float) -> bool:
    """Whether a constant is the expected one, allowing for its rounding."""
    return value is not None and abs(value - expected) <= RELATIVE_TOLERANCE * abs(expected)


def leak(nodes: Collection[Node], results: Collection[Tensor]) -> str:
    """Why ``nodes`` cannot become one: an intermediate that others read; '' if there is none."""
    members = set(nodes)
    for node in nodes:
        for tensor in node.outputs:
            if tensor in results:
                continue
            if tensor.is_output:
                return f"intermediate '{tensor.name}' is a graph output"
            for consumer in tensor.consumers:
                if consumer not in members:
                    return f"intermediate '{tensor.name}' is also used by {consumer.name}"
    return ""


def normalized_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front."""
    return axis + rank if axis < 0 else axis


def all_equal(constant: Tensor, value: float) -> bool:
    """Whether every element of a constant is ``value``."""
    return constant.is_constant and bool(np.all(constant.values() == value))


def channel_vector(constant: Tensor, channels: int, rank: int, axis: int) -> bool:
    """Whether ``constant`` holds one value a channel, broadcast along ``axis`` of ``rank`` dims."""
    if not constant.is_constant or constant.rank > rank:
        return False
    shape = (1,) * (rank - constant.rank) + constant.shape
    return shape == tuple(channels if dim == axis else 1 for dim in range(rank))
