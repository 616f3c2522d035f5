"""Nearest-neighbour doubling folded into the convolutions that read it.

``Resize x2 -> ConvLast`` becomes ``ConvLast_up2``: the convolution reads each input pixel twice in
each direction, and the four times larger tensor never exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgefusion.compiler.frontend.nearest import nearest_factor
from edgefusion.compiler.graph.functions import function_for, kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class FoldResize:
    """Give ConvLast the token ``up2``; runs after ``channels-last`` and before epilogues."""

    name: ClassVar[str] = "fold-resize"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """x[1,h,w,c] -> Resize -> [1,2h,2w,c] -> ConvLast: the middle tensor goes."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if node.op != "Resize" or node.domain:
                continue
            reason = _refusal(node)
            if reason:
                remarks.missed(node, reason)
                continue
            for consumer in node.output.consumers:
                _, tokens = kind_and_tokens(consumer.op)
                fused = graph.fuse(
                    [node, consumer],
                    function_for("ConvLast", ("up2", *tokens)),
                    [node.inputs[0], *consumer.inputs[1:]],
                    [consumer.output],
                    consumer.attrs,
                )
                remarks.matched(fused, "reads its input doubled")
        return remarks.result()


def _refusal(node: Node) -> str:
    """Why the Resize ``node`` cannot go into its consumers; '' if it can."""
    factor = nearest_factor(node)
    if factor != 2:
        return "only nearest-neighbour doubling of height and width folds into a convolution"
    if node.output.is_output:
        return "its result is an output of the graph"
    for consumer in node.output.consumers:
        kind, tokens = kind_and_tokens(consumer.op)
        if kind != "ConvLast":
            return (
                f"its result is read by {consumer.op} '{consumer.name}', not by a convolution only"
            )
        if tokens[:1] == ("up2",) or node.output in consumer.inputs[1:]:
            return f"{consumer.op} '{consumer.name}' reads it as another operand"
        if "stats" in tokens:
            return f"{consumer.op} '{consumer.name}' has statistics already"
    return ""
