"""Ops on constants are computed now, by ONNX Runtime, so with the values they would have had.

Results up to ``max_bytes`` are computed together in one run. A view of a larger constant (a weight
that the exporter transposes or casts) becomes a constant that is computed when it is read, so no
weight is brought into memory here. Larger results of other ops stay in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.compiler.graph.refused_forms import RANDOM
from edgefusion.compiler.graph.weights import Array, Values
from edgefusion.passes.evaluation import evaluate, read_elsewhere
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class FoldConstants:
    """``max_bytes``: the largest result that is stored in the place of an op;
    ``max_stored_bytes``: of one that can as well be computed when it is read."""

    name: ClassVar[str] = "fold-constants"
    max_bytes: int = 4 << 20
    max_stored_bytes: int = 64 << 10

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Fold everything that depends on constants only."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            known_shape = _static_shape(node)
            if known_shape is not None:
                remarks.matched(node, "the shape is static")
                _put(graph, node, known_shape)
        small: list[Node] = []
        known: set[Tensor] = set()
        for node in graph.nodes:
            operands = [t for t in node.inputs if not t.is_absent]
            if not operands or not all(t.is_constant or t in known for t in operands):
                continue
            if node.domain or node.op in RANDOM or any(t.is_output for t in node.outputs):
                continue
            sizes = [_nbytes(t) for t in (*operands, *node.outputs)]
            if max(sizes) > min(self.max_stored_bytes, self.max_bytes) and _defer(graph, node):
                remarks.matched(node, "a view of a large constant, computed when it is read")
            elif max(sizes) <= self.max_bytes:
                small.append(node)
                known.update(node.outputs)
            else:
                remarks.missed(node, f"{max(sizes)} bytes, more than {self.max_bytes}")
        _fold(graph, small, remarks)
        return remarks.result()


def _static_shape(node: Node) -> Array | None:
    """What a Shape or Size of anything makes, for shapes are static; None for other ops."""
    if node.domain or node.op not in ("Shape", "Size") or not node.inputs[0].has_shape:
        return None
    shape = np.asarray(node.inputs[0].shape, np.int64)
    if node.op == "Size":
        return np.asarray(shape.prod(dtype=np.int64))
    end = node.get_int("end", len(shape))
    part: Array = shape[node.get_int("start", 0) : end]  # limits are those of Python
    return part


def _put(graph: Graph, node: Node, value: Array) -> None:
    """Put the constant ``value`` in the place of the only result; an output keeps a maker."""
    if node.output.is_output:
        constant = graph.constant(f"{node.output.name}.folded", value)
        graph.fuse([node], "Identity", [constant], [node.output])
    else:
        _replace(graph, node, [value])


def _nbytes(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.itemsize


def _fold(graph: Graph, nodes: list[Node], remarks: Remarks) -> None:
    """Compute what ``nodes`` make in one run, and put constants in their place."""
    if not nodes:
        return
    wanted = read_elsewhere(nodes)
    (computed,) = evaluate(graph, nodes, wanted)
    values = dict(zip(wanted, computed, strict=True))
    for node in nodes:
        remarks.matched(node, f"{node.op} of constants")
    for node in reversed(nodes):
        _replace(graph, node, [values.get(tensor) for tensor in node.outputs])


def _replace(graph: Graph, node: Node, values: list[Array | None]) -> None:
    """Put constants in the place of a node's results (None: nobody wants that one)."""
    for tensor, value in zip(node.outputs, values, strict=True):
        if value is not None:
            graph.rewire(tensor, graph.constant(f"{tensor.name}.folded", value))
    graph.remove(node)


def _defer(graph: Graph, node: Node) -> bool:
    """Make a constant that is computed when it is read; False if ``node`` is no mere view."""
    x, y = node.inputs[0], node.output
    constant = all(t.is_constant for t in node.inputs if not t.is_absent)
    view = _view(node) if constant else None
    if view is None:
        return False
    source, compute = x.lazy, view

    def load() -> Array:
        return compute(source)

    graph.rewire(y, graph.deferred_constant(f"{y.name}.folded", y.shape, y.dtype, load))
    graph.remove(node)
    return True


def _view(node: Node) -> Callable[[Values], Array] | None:
    """What a node that only moves or converts elements does to its first operand."""
    shape, dtype = node.output.shape, node.output.dtype
    if node.op in ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"):
        return lambda values: values.load().reshape(shape)
    if node.op == "Transpose":
        perm: Any = node.get_ints("perm", range(len(shape))[::-1])
        return lambda values: np.ascontiguousarray(values.load().transpose(perm))
    if node.op == "Cast":
        return lambda values: values.load().astype(dtype)
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return _by_scale(node)
    return _sliced(node) if node.op == "Slice" else None


def _sliced(node: Node) -> Callable[[Values], Array]:
    """A part of every axis; bounds beyond the ends are the ends, as Python's are."""
    bounds = [t.values().reshape(-1).tolist() if not t.is_absent else [] for t in node.inputs[1:]]
    starts, ends, *rest = bounds
    axes = rest[0] if rest and rest[0] else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    index: Any = [slice(None)] * node.inputs[0].rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        stop = None if step < 0 and end < -node.inputs[0].shape[axis] else end
        index[axis] = slice(start, stop, step)
    return lambda values: np.ascontiguousarray(values.load()[tuple(index)])


def _by_scale(node: Node) -> Callable[[Values], Array] | None:
    """(x - zero point) scale, or its inverse, rounded to nearest even and saturated; both numbers
    are one for the tensor or one for each index of an axis."""
    scale, zero = node.inputs[1], node.input(2)
    parameters = [t for t in (scale, zero) if t is not None]
    if not all(t.is_constant and t.rank <= 1 for t in parameters):
        return None
    shape = [1] * node.output.rank
    if scale.rank and scale.shape != (1,):
        shape[node.get_int("axis", 1)] = -1
    steps = scale.values().reshape(shape)
    zeros = np.int32(0) if zero is None else zero.values().astype(np.int32).reshape(shape)
    made = node.output.dtype

    def dequantized(values: Values) -> Array:
        return (values.load().astype(np.int32) - zeros).astype(made) * steps

    def quantized(values: Values) -> Array:
        whole = np.rint(values.load() / steps) + zeros
        return np.clip(whole, np.iinfo(made).min, np.iinfo(made).max).astype(made)

    if node.op == "DequantizeLinear":
        return dequantized if node.inputs[0].dtype.kind in "iu" else None
    return quantized if made.kind in "iu" else None
