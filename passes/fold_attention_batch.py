"""The attentions of several images, or windows, become one with as many times the heads.

    q[n, l, h*d], n > 1  ->  q[1, l, n*h*d], n*h heads
Heads do not look at each other, and neither do images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node
from edgefusion.passes.attention_tokens import TokenWriter
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class FoldAttentionBatch:
    """Every ``Attention`` and ``Attention_mask`` of more than one image."""

    name: ClassVar[str] = "fold-attention-batch"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            if kind_and_tokens(node.op)[0] != "Attention" or node.inputs[0].shape[0] == 1:
                continue
            images, heads = node.inputs[0].shape[0], node.get_int("num_heads")
            result = node.output
            _rewrite(graph, node)
            assert result.producer is not None
            remarks.matched(result.producer, f"{images} images of {heads} heads")
        return remarks.result()


def _rewrite(graph: Graph, node: Node) -> None:
    writer = TokenWriter(graph, node)
    images, heads = node.inputs[0].shape[0], node.get_int("num_heads")
    q, k, v, *masks = node.inputs
    operands = [writer.tokens(x) for x in (q, k, v)]  # each image like one head, h times as deep
    operands += [writer.mask(mask, (images, heads)) for mask in masks]
    shape = node.output.shape
    tokens = graph.tensor(f"{node.output.name}.tokens", (1, shape[1], images * shape[2]), q.dtype)
    attrs = {**node.attrs, "num_heads": images * heads}
    if "num_key_heads" in attrs:
        attrs["num_key_heads"] = images * node.get_int("num_key_heads")
    function = graph.functions[node.op]
    graph.add(function, operands, [tokens], attrs, source=[node], name=node.name, before=node)
    moved = writer.heads(tokens, shape)
    graph.fuse([node], "Reshape", [moved, writer.sizes(shape)], [node.output])
