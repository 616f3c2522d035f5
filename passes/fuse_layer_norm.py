"""LayerNorm written out with means becomes the standard ``LayerNormalization``.

Old exporters write d = x - mean(x); d / sqrt(mean(d^2) + epsilon) * gamma + beta. Native
``LayerNormalization`` over the last axis stays as it is and counts as matched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import (
    channel_vector,
    is_op,
    leak,
    made_by,
    normalized_axis,
    other_operand,
    reduced_axes,
    with_scalar,
)
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class FuseLayerNorm:
    """Normalization over the last axis, with or without gamma and beta."""

    name: ClassVar[str] = "fuse-layer-norm"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        changed = False
        for node in graph.nodes:
            if is_op(node, "LayerNormalization"):
                _judge_native(node, remarks)
            if node.removed or not is_op(node, "Sqrt"):
                continue
            match = _match(node)
            if isinstance(match, str):
                remarks.missed(node, match)
            elif match:
                fused = _rewrite(graph, match)
                remarks.matched(fused, f"written-out form of {list(match.x.shape)}")
                changed = True
        return remarks.result(changed)


def _judge_native(node: Node, remarks: Remarks) -> None:
    x = node.inputs[0]
    axis = normalized_axis(node.get_int("axis", -1), x.rank)
    if axis != x.rank - 1:
        remarks.missed(node, f"normalizes {x.rank - axis} axes, expected the last one only")
    elif len(node.outputs) > 1:
        remarks.missed(node, "its mean or deviation is a result too")
    else:
        remarks.matched(node, f"native form of {list(x.shape)}")


@dataclass(frozen=True)
class _Match:
    x: Tensor
    nodes: list[Node]
    epsilon: float
    gamma: Tensor | None
    beta: Tensor | None


def _match(sqrt: Node) -> _Match | str | None:
    add = made_by(sqrt.inputs[0], "Add")
    biased = with_scalar(add) if add else None
    if add is None or biased is None:
        return None
    variance = made_by(biased[0], "ReduceMean")
    square = made_by(variance.inputs[0], "Pow", "Mul") if variance else None
    if variance is None or square is None or not _is_square(square):
        return None
    centred = square.inputs[0]
    sub = made_by(centred, "Sub")
    mean = made_by(sub.inputs[1], "ReduceMean") if sub else None
    if sub is None or mean is None:
        return "the squares are not of x - mean(x)"
    x = sub.inputs[0]
    if mean.inputs[0] is not x:
        return "the mean that is subtracted is of another tensor"
    for reduction in (mean, variance):
        if reduced_axes(reduction) != (x.rank - 1,):
            return f"{reduction.name} is over axes {reduced_axes(reduction)}, not the last"
        if not reduction.get_int("keepdims", 1):
            return f"{reduction.name} drops the axis"
    divide = _division(sqrt, centred)
    if divide is None:
        return "x - mean(x) is not divided by this deviation"
    nodes = [mean, sub, square, variance, add, sqrt, *divide]
    gamma = _affine(nodes[-1], "Mul")
    if gamma:
        nodes.append(gamma[0])
    beta = _affine(nodes[-1], "Add") if gamma else None
    if beta:
        nodes.append(beta[0])
    return leak(nodes, [nodes[-1].output]) or _Match(
        x, nodes, biased[1], gamma[1] if gamma else None, beta[1] if beta else None
    )


def _is_square(node: Node) -> bool:
    if node.op == "Mul":
        return node.inputs[0] is node.inputs[1]
    return node.inputs[1].scalar() == 2.0


def _division(sqrt: Node, centred: Tensor) -> list[Node] | None:
    """The nodes of centred / deviation: Div, or Reciprocal and Mul."""
    consumer = sqrt.output.only_consumer
    if consumer is None:
        return None
    if is_op(consumer, "Div") and consumer.inputs == (centred, sqrt.output):
        return [consumer]
    product = consumer.output.only_consumer if is_op(consumer, "Reciprocal") else None
    if product and is_op(product, "Mul") and other_operand(product, consumer.output) is centred:
        return [consumer, product]
    return None


def _affine(before: Node, op: str) -> tuple[Node, Tensor] | None:
    """The Mul or Add after ``before`` whose other operand is one constant a channel."""
    node, result = before.output.only_consumer, before.output
    if node is None or not is_op(node, op):
        return None
    constant = other_operand(node, result)
    if constant is None:
        return None
    if not channel_vector(constant, result.shape[-1], result.rank, axis=result.rank - 1):
        return None
    return node, constant


def _rewrite(graph: Graph, match: _Match) -> Node:
    size = match.x.shape[-1]
    stem = match.nodes[0].scope or match.nodes[-1].name
    gamma, beta = match.gamma, match.beta
    if gamma is None:
        gamma = graph.constant(f"{stem}.gamma", np.ones(size, match.x.dtype))
    elif gamma.rank > 1:
        gamma = graph.reshaped_constant(f"{stem}.gamma", gamma, (size,))
    if beta is not None and beta.rank > 1:
        beta = graph.reshaped_constant(f"{stem}.beta", beta, (size,))
    return graph.fuse(
        match.nodes,
        "LayerNormalization",
        [match.x, gamma] if beta is None else [match.x, gamma, beta],
        [match.nodes[-1].output],
        {"axis": -1, "epsilon": match.epsilon},
    )
