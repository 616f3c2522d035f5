"""INT8 weights for the convolutions and matmuls with precision ``w8a16``.

Symmetric, one scale an output channel: scale = max|w| / 127, q = round(w / scale) in [-127, 127],
stored as INT8 with a DequantizeLinear behind it, so the graph computes in ONNX Runtime with exactly
the weights of the NPU. Scales are computed now, one weight at a time; the INT8 values when somebody
reads or saves them. Scale and shift of norms and biases stay float32 in the graph; the executor
brings them to its own integers, which needs the ranges of activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import log10
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.compiler.graph.names import PRECISION
from edgefusion.compiler.graph.weights import Array, Values
from edgefusion.passes.assign_precision import W8A16, check_finite
from edgefusion.passes.fuse_epilogue import is_contraction
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks

LEVELS = 127
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class QuantizeW8A16:
    """Quantize the weights of every op that ``assign-precision`` gave ``w8a16``."""

    name: ClassVar[str] = "quantize-w8a16"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Change ``graph`` in place.

        Raises:
            InputError: a weight that is not finite.
        """
        remarks = Remarks(self.name)
        quantized: dict[tuple[Tensor, int], tuple[Tensor, str]] = {}
        for node in graph.nodes:
            if node.annotations.get(PRECISION) != W8A16 or not is_contraction(node):
                continue
            weight = node.inputs[1]
            if not weight.is_constant:
                continue  # quantized already
            axis = 1 if kind_and_tokens(node.op)[0] == "MatMul" else 0
            if (weight, axis) not in quantized:
                quantized[weight, axis] = _quantize(graph, node, weight, axis)
            tensor, quality = quantized[weight, axis]
            node.set_input(1, tensor)
            remarks.matched(node, f"INT8 '{weight.name}' along axis {axis}, {quality}")
        return remarks.result()


def _quantize(graph: Graph, node: Node, weight: Tensor, axis: int) -> tuple[Tensor, str]:
    """The dequantized ``weight`` and what is expected of it."""
    check_finite(weight, node, FLOAT32_MAX)
    values = weight.lazy
    w = values.load()
    scales = channel_scales(w, axis)
    quality = f"SQNR about {expected_sqnr_db(w, scales):.1f} dB"
    stored = graph.deferred_constant(
        f"{weight.name}_int8",
        weight.shape,
        np.dtype(np.int8),
        partial(_quantized_values, values, scales, axis),
    )
    scale = graph.constant(f"{weight.name}_scale", scales)
    result = graph.tensor(f"{weight.name}_dequantized", weight.shape, weight.dtype)
    graph.add(
        "DequantizeLinear",
        [stored, scale],
        [result],
        {"axis": axis},
        source=[node],
        name=f"{weight.name}_dequantize",
        before=node,
    )
    return result, quality


def channel_scales(w: Array, axis: int) -> Array:
    """max|w| / 127 for each index of ``axis``, float32; 1 for a channel of zeros."""
    others = tuple(i for i in range(w.ndim) if i != axis)
    largest = np.maximum(w.max(axis=others), -w.min(axis=others)).astype(np.float32)
    smallest = np.finfo(np.float32).tiny  # below it, scales would lose their digits
    scales = np.maximum(largest / np.float32(LEVELS), smallest)
    return np.where(largest > 0, scales, np.float32(1.0)).astype(np.float32)


def quantize(w: Array, scales: Array, axis: int) -> Array:
    """INT8 values of ``w``: nearest multiple of the channel's scale, ties to even."""
    shape = [1] * w.ndim
    shape[axis] = -1
    q = np.rint(w / scales.reshape(shape))
    return np.clip(q, -LEVELS, LEVELS, out=q).astype(np.int8)


def _quantized_values(values: Values, scales: Array, axis: int) -> Array:
    return quantize(values.load(), scales, axis)


def expected_sqnr_db(w: Array, scales: Array) -> float:
    """Signal to quantization noise of ``w`` if errors are uniform within a step (scale^2 / 12)."""
    per_channel = w.size / scales.size
    noise = float(np.square(scales, dtype=np.float64).sum()) * per_channel / 12
    flat = w.reshape(-1)
    signal = float(np.dot(flat, flat))
    return 10 * log10(signal / noise) if signal > 0 else 0.0
