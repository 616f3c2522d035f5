"""GroupNorm statistics into the epilogue of the op that makes the norm's input.

Normalising needs the sums of the whole tensor first. If it is larger than SRAM, that is one more
reading from DRAM, unless its producer adds up x and x^2 of each channel while it has the tile at
hand: ``ConvLast_..._stats`` with a second result [2,c], read by ``GroupNormLast_..._stats``. A
tensor that fits in SRAM is normalised in one visit anyway, so it is left alone.

The variance is then E[x^2] - E[x]^2. In ONNX Runtime that loses digits where the mean is large
beside the deviation (float32 sums); the NPU accumulates in int64 or FP32 and is not concerned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgefusion.compiler.graph.functions import function_for, kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.passes.fuse_epilogue import is_contraction
from edgefusion.passes.layout_forms import VIEW_OPS
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks

ACTIVATION_BYTES = 2  # INT16 and FP16 alike


@dataclass(frozen=True)
class FuseNormStats:
    """Fuse where the normalised tensor takes more than ``threshold_bytes`` on the NPU.

    The default leaves room for input and result beside the next op's weights in 6 MB of SRAM.
    """

    threshold_bytes: int = 2 * 2**20

    name: ClassVar[str] = "fuse-norm-stats"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Change ``graph`` in place; runs after ``fuse-epilogue``."""
        remarks = Remarks(self.name)
        for node in graph.nodes:
            kind, tokens = kind_and_tokens(node.op)
            if kind != "GroupNormLast" or "stats" in tokens:
                continue
            source = _before_views(node.inputs[0])
            reason = self._refusal(node, source)
            if reason:
                remarks.missed(node, reason)
                continue
            fused = graph.fuse(
                [node],
                function_for("GroupNormLast", (*tokens, "stats")),
                [*node.inputs, _statistics(graph, source)],
                [node.output],
                node.attrs,
            )
            remarks.matched(fused, f"statistics come from the maker of '{source.name}'")
        return remarks.result()

    def _refusal(self, node: Node, source: Tensor) -> str:
        x = node.inputs[0]
        size_bytes = ACTIVATION_BYTES
        for extent in x.shape:
            size_bytes *= extent
        if size_bytes <= self.threshold_bytes:
            return (
                f"its input of {size_bytes} bytes is normalised in SRAM "
                f"(up to {self.threshold_bytes} bytes)"
            )
        maker = source.producer
        if maker is None or not is_contraction(maker):
            made_by = maker.op if maker is not None else "a graph input"
            return f"its input comes from {made_by}, which has no epilogue"
        if x.shape[0] != 1:
            return f"statistics are for one image, the batch is {x.shape[0]}"
        if source.shape[-1] != x.shape[-1]:
            return "a view between them moves the channels"
        return ""


def _before_views(tensor: Tensor) -> Tensor:
    """The tensor whose bytes ``tensor`` shows, under whatever shape."""
    while (maker := tensor.producer) is not None and maker.op in VIEW_OPS and not maker.domain:
        tensor = maker.inputs[0]
    return tensor


def _statistics(graph: Graph, tensor: Tensor) -> Tensor:
    """The sums [2,c] of ``tensor``, from its maker's epilogue."""
    maker = tensor.producer
    assert maker is not None
    kind, tokens = kind_and_tokens(maker.op)
    if tokens[-1:] == ("stats",):
        return maker.outputs[1]
    stats = graph.tensor(f"{tensor.name}_stats", (2, tensor.shape[-1]), tensor.dtype)
    function = function_for(kind, (*tokens, "stats"))
    graph.fuse([maker], function, maker.inputs, [tensor, stats], maker.attrs)
    return stats
