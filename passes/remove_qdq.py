"""A model in QDQ form: pairs of QuantizeLinear and DequantizeLinear around activations go.

They round activations to the scales of another machine, and each would be a call to the host. The
NPU rounds by scales of its own. What a pair does beside rounding stays: a range that begins at zero
cuts off what is negative, and quantizers leave out a Relu before it for that reason (and a Relu6
before a range that ends at six).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import is_op
from edgefusion.passes.pass_base import PassContext, PassResult, Remark, Remarks

QUANTIZED_OPS = (
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
)
"""Ops that compute on quantized values themselves; they run on the host."""

_NONNEGATIVE = ("Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp", "Clip")
_CEILING = 6.0


@dataclass(frozen=True)
class RemoveQdq:
    """Takes out every pair of one scale for the whole tensor."""

    name: ClassVar[str] = "remove-qdq"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if is_op(node, *QUANTIZED_OPS):
                remarks.missed(node, f"{node.op} computes on quantized values, on the host")
            if not is_op(node, "QuantizeLinear") or node.inputs[0].is_constant:
                continue
            reason = _not_a_pair(node)
            if reason:
                remarks.missed(node, reason)
                continue
            for reader in node.output.consumers:
                remarks.matched(reader, _remove(graph, node, reader))
            if not node.removed:
                graph.remove(node)
        return remarks.result()


def advice(remarks: Sequence[Remark]) -> str:
    """What a user should know of a model in which this pass found something; '' for others."""
    pairs = sum(remark.kind == "matched" for remark in remarks)
    left = sum(remark.kind == "missed" for remark in remarks)
    if not pairs and not left:
        return ""
    parts = [f"{pairs} pairs of QuantizeLinear and DequantizeLinear were taken out"] * bool(pairs)
    parts += [f"{left} quantized ops run on the host"] * bool(left)
    return (
        f"the model is quantized already: {' and '.join(parts)}. The NPU rounds by scales of its "
        "own: compile the model as it was before quantization for the best values and speed"
    )


def _not_a_pair(quantize: Node) -> str:
    """Why ``quantize`` and what reads it stay; '' if they may go."""
    x, readers = quantize.inputs[0], quantize.output.consumers
    if quantize.output.is_output or not readers:
        return "its quantized result is a result of the graph"
    for reader in readers:
        if not is_op(reader, "DequantizeLinear"):
            return f"its quantized result is read by {reader.op} '{reader.name}'"
        if not all(_same(a, b) for a, b in zip(_numbers(quantize), _numbers(reader), strict=True)):
            return f"'{reader.name}' has another scale, or one for each channel"
        direct = reader.output.is_output and (x.producer is None or x.is_output)
        if direct and not _cuts_off(quantize):
            return f"'{reader.name}' makes a result of the graph from an input"
    if sum(reader.output.is_output for reader in readers) > 1:
        return "it makes several results of the graph"
    return ""


def _numbers(node: Node) -> tuple[Tensor, Tensor | None]:
    return node.inputs[1], node.input(2)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether both are the same constant number, or absent, which is 0."""
    values = [0.0 if each is None else each.scalar() for each in (one, other)]
    return values[0] is not None and values[0] == values[1]


def _cuts_off(quantize: Node) -> float | None:
    """Where the range ends that begins at zero; None for one that goes below."""
    kind = np.iinfo(quantize.output.dtype)
    scale, zero = _numbers(quantize)
    point = 0.0 if zero is None else zero.scalar()
    if point != kind.min:
        return None
    return (kind.max - kind.min) * (scale.scalar() or 0.0)


def _remove(graph: Graph, quantize: Node, reader: Node) -> str:
    """Take out one pair; what was done."""
    x, y, end = quantize.inputs[0], reader.output, _cuts_off(quantize)
    pair = [quantize, reader]
    if end is not None and abs(end - _CEILING) <= end / 255:
        limits = {"min": 0.0, "max": _CEILING}
        bounds = [
            graph.constant(f"{y.name}.{name}", np.array(value, np.float32))
            for name, value in limits.items()
        ]
        graph.fuse(pair, "Clip", [x, *bounds], [y])
        return "its range is that of Relu6"
    needed = x.producer is None or not is_op(x.producer, *_NONNEGATIVE)
    if end is not None and (needed or y.is_output):
        graph.fuse(pair, "Relu", [x], [y])
        return "its range begins at zero, as after a Relu"
    graph.rewire(y, x)
    graph.remove(reader)
    return "activations are rounded by the NPU's own scales"
