"""x * sigmoid(x) becomes SiLU; x * sigmoid(1.702 x) becomes QuickGELU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node, Tensor
from edgefusion.passes.matching import close, is_op, leak, made_by, other_operand, with_scalar
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks

QUICK_GELU_FACTOR = 1.702


@dataclass(frozen=True)
class FuseSilu:
    """Sigmoid gates on their own argument, with the operands in either order."""

    name: ClassVar[str] = "fuse-silu"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for sigmoid in graph.nodes:
            if not is_op(sigmoid, "Sigmoid"):
                continue
            match = _match(sigmoid)
            if isinstance(match, str):
                remarks.missed(sigmoid, match)
            elif match:
                kind, x, nodes = match
                result = nodes[-1].output
                fused = graph.fuse(nodes, function_for(kind), [x], [result])
                remarks.matched(fused, f"{kind} of {list(x.shape)}")
        return remarks.result()


def _match(sigmoid: Node) -> tuple[str, Tensor, list[Node]] | str | None:
    """Kind, argument and nodes in order; the reason for refusing; None if this is no gate."""
    gate, argument = sigmoid.output, sigmoid.inputs[0]
    products = [c for c in gate.consumers if is_op(c, "Mul")]
    if not products:
        return None
    product = products[0]
    value = other_operand(product, gate)
    if value is argument:
        nodes = [sigmoid, product]
        return leak(nodes, [product.output]) or ("SiLU", argument, nodes)
    scale = made_by(argument, "Mul")
    scaled = with_scalar(scale) if scale else None
    if scale is None or scaled is None or value is not scaled[0]:
        return "the sigmoid gates another tensor than its argument"
    x, factor = scaled
    if not close(factor, QUICK_GELU_FACTOR):
        return f"the sigmoid's factor is {factor:g}, QuickGELU has {QUICK_GELU_FACTOR}"
    nodes = [scale, sigmoid, product]
    return leak(nodes, [product.output]) or ("QuickGELU", x, nodes)
