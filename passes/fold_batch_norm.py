"""A BatchNormalization after a convolution goes into the convolution's weights and bias.

With s = gamma / sqrt(variance + epsilon): w' = w s, b' = (b - mean) s + beta, in float64. The
weights are computed when they are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node
from edgefusion.compiler.graph.weights import Array
from edgefusion.passes.matching import is_op, made_by
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class FoldBatchNorm:
    """For convolutional networks; diffusion models have none."""

    name: ClassVar[str] = "fold-batch-norm"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for norm in graph.nodes:
            if not is_op(norm, "BatchNormalization"):
                continue
            conv = made_by(norm.inputs[0], "Conv")
            reason = _refusal(norm, conv)
            if reason or conv is None:
                remarks.missed(norm, reason)
            else:
                fused = _rewrite(graph, conv, norm)
                remarks.matched(fused, f"{fused.output.shape[1]} channels")
        return remarks.result()


def _refusal(norm: Node, conv: Node | None) -> str:
    if conv is None:
        return "its operand does not come from a convolution"
    if norm.get_int("training_mode", 0) or len(norm.outputs) > 1:
        return "it is in training mode; export the model in evaluation mode"
    if conv.output.only_consumer is not norm:
        return "the convolution's result is also used elsewhere"
    bias = conv.input(2)
    parameters = [conv.inputs[1], *norm.inputs[1:], *([bias] if bias else [])]
    if not all(tensor.is_constant for tensor in parameters):
        return "weights or statistics are not constants"
    return ""


def _rewrite(graph: Graph, conv: Node, norm: Node) -> Node:
    weights, bias = conv.inputs[1], conv.input(2)
    gamma, beta, mean, variance = (tensor.lazy for tensor in norm.inputs[1:5])
    source, old_bias, dtype = weights.lazy, bias.lazy if bias else None, weights.dtype
    epsilon, channels = norm.get_float("epsilon", 1e-5), weights.shape[0]

    def scale() -> Array:
        return gamma.load() / np.sqrt(variance.load().astype(np.float64) + epsilon)

    def new_weights() -> Array:
        factor = scale().reshape((-1,) + (1,) * (len(source.shape) - 1))
        return (source.load() * factor).astype(dtype)

    def new_bias() -> Array:
        old = old_bias.load() if old_bias else np.zeros(channels)
        return ((old - mean.load()) * scale() + beta.load()).astype(dtype)

    operands = [
        conv.inputs[0],
        graph.deferred_constant(f"{weights.name}.folded", weights.shape, dtype, new_weights),
        graph.deferred_constant(f"{weights.name}.folded_bias", (channels,), dtype, new_bias),
    ]
    return graph.fuse([conv, norm], "Conv", operands, [norm.output], dict(conv.attrs))
