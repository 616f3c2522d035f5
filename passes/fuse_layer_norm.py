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
from edgefusion.passes.matching import is_op, leak, made_by, normalized_axis
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks
from edgefusion.passes.root_mean_square import (
    constant_after,
    division,
    is_row_vector,
    not_along_rows,
    root_mean_square,
)


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
    root = root_mean_square(sqrt)
    sub = made_by(root.v, "Sub") if root else None
    mean = made_by(sub.inputs[1], "ReduceMean") if sub else None
    if root is None or sub is None or mean is None:
        return None
    x = sub.inputs[0]
    if mean.inputs[0] is not x:
        return "the mean that is subtracted is of another tensor"
    fault = not_along_rows(mean) or not_along_rows(root.mean)
    if fault:
        return fault
    divide = division(root)
    if not divide:
        return "x - mean(x) is not divided by this deviation"
    nodes = [mean, sub, *root.nodes, *divide]
    gamma = _affine(nodes[-1], "Mul")
    if gamma:
        nodes.append(gamma[0])
    beta = _affine(nodes[-1], "Add") if gamma else None
    if beta:
        nodes.append(beta[0])
    return leak(nodes, [nodes[-1].output]) or _Match(
        x, nodes, root.epsilon, gamma[1] if gamma else None, beta[1] if beta else None
    )


def _affine(before: Node, op: str) -> tuple[Node, Tensor] | None:
    """The Mul or Add after ``before`` whose other operand is one constant a channel."""
    found = constant_after(before, op)
    return found if found and is_row_vector(found[1], before.output) else None


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
