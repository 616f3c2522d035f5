"""Split in halves, value * f(gate): a gated linear unit becomes one op.

Older exporters write the halves of torch's ``chunk`` as two Slices.

``GEGLU`` for exact GELU, ``GLU_f`` for other functions but steep ones, whose gates no one INT16
scale holds. The kernel reads the value from the first half and the gate from the second; the other
order is refused, for it computes something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx

from edgefusion.compiler.graph.elementwise import unary_function
from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import is_op, leak, normalized_axis, other_operand
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class FuseGeglu:
    """Gated linear units, with the product's operands in either order."""

    name: ClassVar[str] = "fuse-geglu"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if node.removed or (halves := _halves(node)) is None:
                continue
            match = _match(halves)
            if isinstance(match, str):
                remarks.missed(node, match)
            elif match:
                function, nodes = match
                fused = graph.fuse(nodes, function, [halves.x], [nodes[-1].output])
                remarks.matched(fused, f"{function.name} of {list(halves.x.shape)}")
        return remarks.result()


@dataclass(frozen=True, slots=True)
class _Halves:
    """What ``makers`` part ``x`` into along ``axis``."""

    makers: tuple[Node, ...]
    x: Tensor
    axis: int
    first: Tensor
    second: Tensor


def _halves(node: Node) -> _Halves | None:
    """Of a Split in two, or of a Slice from the beginning beside one that goes on to the end."""
    if is_op(node, "Split") and len(node.outputs) == 2:
        x = node.inputs[0]
        axis = normalized_axis(node.get_int("axis", 0), x.rank)
        return _Halves((node,), x, axis, *node.outputs)
    if (cut := _cut(node)) is None or cut[1]:
        return None
    x, (axis, _, middle) = node.inputs[0], cut
    rest = (axis, middle, x.shape[axis])
    other = next((c for c in x.consumers if _cut(c) == rest), None)
    if other is None:
        return None
    return _Halves((node, other), x, axis, node.output, other.output)


def _cut(node: Node) -> tuple[int, int, int] | None:
    """The axis of which ``node`` takes one stretch, its first element and the one behind its last;
    None for other ops."""
    if not is_op(node, "Slice") or not all(tensor.is_constant for tensor in node.inputs[1:]):
        return None
    x, *bounds = node.inputs
    if any(bound.values().size != 1 for bound in bounds):
        return None
    given = [int(bound.values().item()) for bound in bounds]
    start, end, axis, step = [*given, *(0, 1)[len(given) - 2 :]]
    axis = normalized_axis(axis, x.rank)
    taken = range(x.shape[axis])[start:end]
    return (axis, taken.start, taken.stop) if step == 1 else None


def _match(halves: _Halves) -> tuple[onnx.FunctionProto, list[Node]] | str | None:
    value, gate = halves.first, halves.second
    for half, other in ((gate, value), (value, gate)):
        for activation in half.consumers:
            function = unary_function(activation)
            if function is None or function.steep or activation.inputs[0] is not half:
                continue
            products = activation.output.consumers
            product = next((c for c in products if is_op(c, "Mul")), None)
            if product is None or other_operand(product, activation.output) is not other:
                continue
            if half is value:
                return "the function is applied to the first half; the gate must be the second"
            if halves.axis != halves.x.rank - 1:
                return f"the split is along axis {halves.axis}, not the last"
            if value.shape != gate.shape:
                return f"the halves differ: {list(value.shape)} and {list(gate.shape)}"
            nodes = [*halves.makers, activation, product]
            kind = ("GEGLU", ()) if function.name == "gelu" else ("GLU", (function.token,))
            return leak(nodes, [product.output]) or (function_for(*kind), nodes)
    return None
