"""Split in halves, value * f(gate): a gated linear unit becomes one op.

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
from edgefusion.compiler.graph.node import Node
from edgefusion.passes.matching import is_op, leak, normalized_axis, other_operand
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class FuseGeglu:
    """Gated linear units, with the product's operands in either order."""

    name: ClassVar[str] = "fuse-geglu"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for split in graph.nodes:
            if not is_op(split, "Split") or len(split.outputs) != 2:
                continue
            match = _match(split)
            if isinstance(match, str):
                remarks.missed(split, match)
            elif match:
                function, nodes = match
                x = split.inputs[0]
                fused = graph.fuse(nodes, function, [x], [nodes[-1].output])
                remarks.matched(fused, f"{function.name} of {list(x.shape)}")
        return remarks.result()


def _match(split: Node) -> tuple[onnx.FunctionProto, list[Node]] | str | None:
    value, gate = split.outputs
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
            x = split.inputs[0]
            if normalized_axis(split.get_int("axis", 0), x.rank) != x.rank - 1:
                return f"the split is along axis {split.get_int('axis', 0)}, not the last"
            if value.shape != gate.shape:
                return f"the halves differ: {list(value.shape)} and {list(gate.shape)}"
            nodes = [split, activation, product]
            kind = ("GEGLU", ()) if function.name == "gelu" else ("GLU", (function.token,))
            return leak(nodes, [product.output]) or (function_for(*kind), nodes)
    return None
