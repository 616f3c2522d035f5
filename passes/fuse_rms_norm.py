"""RMSNorm written out with a mean of squares becomes the fused op ``RMSNorm``.

Exporters write x / sqrt(mean(x^2) + epsilon) * gamma, the quotient as Div or as the product with a
reciprocal. Division of rows by their Euclidean norm, as torch's ``normalize`` has it, is the same
with gamma 1 / sqrt(n). Runs after ``fuse-layer-norm``, whose centred values are divided in the
same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import is_op, leak
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks
from edgefusion.passes.root_mean_square import (
    UNIT_EPSILON,
    constant_after,
    division,
    is_row_vector,
    not_along_rows,
    root_mean_square,
)


@dataclass(frozen=True)
class FuseRmsNorm:
    """Division by the root mean square of the last axis, with or without gamma.

    A constant factor that follows must be gamma; a computed one is modulation and stays outside.
    """

    name: ClassVar[str] = "fuse-rms-norm"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if node.removed or not is_op(node, *_MATCHES):
                continue
            match = _MATCHES[node.op](node)
            if isinstance(match, str):
                remarks.missed(node, match)
            elif match:
                fused = _rewrite(graph, match)
                remarks.matched(fused, f"of {list(match.x.shape)}")
        return remarks.result()


@dataclass(frozen=True)
class _Match:
    x: Tensor
    nodes: list[Node]
    epsilon: float
    gamma: Tensor | None = None
    gain: float = 1.0
    """What all of gamma is where there is no tensor of it."""


def _match(sqrt: Node) -> _Match | str | None:
    root = root_mean_square(sqrt)
    if root is None:
        return None
    fault = not_along_rows(root.mean)
    if fault:
        return fault
    divide = division(root)
    if not divide:
        return f"'{root.v.name}' is not divided by its root mean square"
    nodes = [*root.nodes, *divide]
    gamma = None
    scale = constant_after(nodes[-1], "Mul")
    if scale:
        gamma = scale[1]
        if not is_row_vector(gamma, nodes[-1].output):
            return f"its scale {list(gamma.shape)} is not one value for each of the last axis"
        nodes.append(scale[0])
    return leak(nodes, [nodes[-1].output]) or _Match(root.v, nodes, root.epsilon, gamma)


def _match_unit(norm: Node) -> _Match | str | None:
    """x / max(norm of x, a small number), repeated or not."""
    x, nodes = norm.inputs[0], [norm]
    if limited := _only_reader(nodes[-1], "Clip", "Max"):
        least = limited.inputs[1].scalar() if len(limited.inputs) == 2 else None
        if least is None or limited.inputs[0] is not norm.output:
            return None
        if least > _LEAST_NORM:
            return f"its norm is at least {least:g}, which is not small"
        nodes.append(limited)
    if repeated := _only_reader(nodes[-1], "Expand"):
        nodes.append(repeated)
    divide = _only_reader(nodes[-1], "Div")
    if divide is None or divide.inputs != (x, nodes[-1].output):
        return None
    nodes.append(divide)
    fault = not_along_rows(norm) or leak(nodes, [divide.output])
    return fault or _Match(x, nodes, UNIT_EPSILON, gain=x.shape[-1] ** -0.5)


def _only_reader(node: Node, *ops: str) -> Node | None:
    reader = node.output.only_consumer
    return reader if is_op(reader, *ops) else None


_MATCHES = {"Sqrt": _match, "ReduceL2": _match_unit}
_LEAST_NORM = 1e-6
"""Norms below this are taken for what they are, where a model limits them."""


def _rewrite(graph: Graph, match: _Match) -> Node:
    size = match.x.shape[-1]
    stem = match.nodes[0].scope or match.nodes[-1].name
    gamma = match.gamma
    if gamma is None:
        gamma = graph.constant(f"{stem}.gamma", np.full(size, match.gain, match.x.dtype))
    elif gamma.rank != 1:
        gamma = graph.reshaped_constant(f"{stem}.gamma", gamma, (size,))
    return graph.fuse(
        match.nodes,
        function_for("RMSNorm"),
        [match.x, gamma],
        [match.nodes[-1].output],
        {"epsilon": match.epsilon},
    )
