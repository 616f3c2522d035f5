"""What the written-out forms of LayerNorm and RMSNorm share: v / sqrt(mean(v^2) + epsilon) * gamma.

v is x - mean(x) for LayerNorm and x itself for RMSNorm. None of the functions changes the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgefusion.compiler.frontend.legality_rules import reduced_axes
from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Attribute, Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import (
    channel_vector,
    is_op,
    made_by,
    other_operand,
    with_scalar,
)

UNIT_EPSILON = 1e-24
"""Of an RMSNorm that makes unit vectors: far below any square that counts, and no zero."""


@dataclass(frozen=True, slots=True)
class RootMeanSquare:
    """sqrt(mean(v^2) + epsilon), over axes that are yet to be looked at."""

    v: Tensor
    epsilon: float
    square: Node
    mean: Node
    add: Node
    sqrt: Node

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in order."""
        return self.square, self.mean, self.add, self.sqrt


def unit_rows(
    graph: Graph, x: Tensor, stem: str
) -> tuple[onnx.FunctionProto, list[Tensor], dict[str, Attribute]]:
    """What makes unit vectors of the rows of ``x``: an RMSNorm, its operands and attributes."""
    size = x.shape[-1]
    gain = graph.constant(f"{stem}.gain", np.full(size, size**-0.5, x.dtype))
    return function_for("RMSNorm"), [x, gain], {"epsilon": UNIT_EPSILON}


def root_mean_square(sqrt: Node) -> RootMeanSquare | None:
    """The pattern that ends in ``sqrt``."""
    add = made_by(sqrt.inputs[0], "Add") if is_op(sqrt, "Sqrt") else None
    biased = with_scalar(add) if add else None
    mean = made_by(biased[0], "ReduceMean") if biased else None
    square = made_by(mean.inputs[0], "Pow", "Mul") if mean else None
    if add is None or biased is None or mean is None or square is None or not _is_square(square):
        return None
    return RootMeanSquare(square.inputs[0], biased[1], square, mean, add, sqrt)


def not_along_rows(reduction: Node) -> str:
    """Why ``reduction`` does not make one value of each row; '' if it does."""
    axes = reduced_axes(reduction)
    if axes != (reduction.inputs[0].rank - 1,):
        return f"{reduction.name} is over axes {axes}, not the last"
    return "" if reduction.get_int("keepdims", 1) else f"{reduction.name} drops the axis"


def division(root: RootMeanSquare) -> tuple[Node, ...]:
    """The nodes of v / root: Div, or a reciprocal (or 1 / root) and Mul; none if others follow."""
    consumer = root.sqrt.output.only_consumer
    if consumer is None:
        return ()
    if is_op(consumer, "Div") and consumer.inputs == (root.v, root.sqrt.output):
        return (consumer,)
    product = consumer.output.only_consumer if _is_reciprocal(consumer, root) else None
    if product and is_op(product, "Mul") and other_operand(product, consumer.output) is root.v:
        return consumer, product
    return ()


def constant_after(before: Node, op: str) -> tuple[Node, Tensor] | None:
    """The Mul or Add that alone reads ``before``, and its other operand, if that is a constant."""
    node, result = before.output.only_consumer, before.output
    if node is None or not is_op(node, op):
        return None
    constant = other_operand(node, result)
    return (node, constant) if constant is not None and constant.is_constant else None


def is_row_vector(constant: Tensor, result: Tensor) -> bool:
    """Whether ``constant`` holds one value for each element of a row of ``result``."""
    return channel_vector(constant, result.shape[-1], result.rank, axis=result.rank - 1)


def _is_reciprocal(node: Node, root: RootMeanSquare) -> bool:
    if is_op(node, "Div"):
        return node.inputs[0].scalar() == 1.0 and node.output.shape == root.sqrt.output.shape
    return is_op(node, "Reciprocal")


def _is_square(node: Node) -> bool:
    if node.op == "Mul":
        return node.inputs[0] is node.inputs[1]
    # An exponent of higher rank would add dimensions to the result.
    return node.inputs[1].scalar() == 2.0 and node.inputs[1].rank <= node.inputs[0].rank
