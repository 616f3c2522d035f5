"""What the NPU can run: for every op of the graph, the rules that it must satisfy.

``refusal(node)`` applies them; ``supported_ops`` writes ``SUPPORTED_OPS.md`` from the same
table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgefusion.compiler.frontend import legality_rules as must
from edgefusion.compiler.frontend.legality_rules import Rule
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Node
from edgefusion.compiler.network.kind import Kind
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.ops.conv import Conv
from edgefusion.compiler.ops.elementwise import Binary, Glu, Softmax, Unary
from edgefusion.compiler.ops.matmul import MatMul
from edgefusion.compiler.ops.movement import Concat, Reshape, Resize, Slice, Transpose
from edgefusion.compiler.ops.norm import GroupNorm, LayerNorm, RmsNorm
from edgefusion.compiler.ops.pooling import Pool, Reduce
from edgefusion.compiler.ops.transposed_conv import TransposedConv
from edgefusion.runtime.functions import BINARY_BY_OP, UNARY_BY_OP, UNARY_BY_TOKEN


@dataclass(frozen=True, slots=True)
class Support:
    """How an op of the graph appears in the network, and the rules that it must satisfy."""

    kind: type[Kind]
    rules: tuple[Rule, ...] = ()
    note: str = ""


COMMON: tuple[Rule, ...] = (
    must.float_values,
    must.rank_four,
    must.some_elements,
    must.some_activation,
)
"""Rules of every op but of what is converted to channels last first."""

_ANY = COMMON
_VIEW = (*_ANY, must.memory_of_its_own)
_CONV = (
    *_ANY,
    must.batch_one,
    must.spatial_axes,
    must.constant_weights,
    must.pads_inside_kernel,
    must.whole_groups,
)
_POOL = (*_ANY, must.batch_one, must.spatial_axes, must.pads_inside_kernel)
_BINARY = (*_ANY, must.two_operands, must.rows_or_elements, must.finite_constants)
_LAYOUT = (must.channels_last_only,)
_PARAMETERS = (must.constant_parameters, must.channel_parameters)

REDUCTIONS: Mapping[str, str] = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max"}

SUPPORTED: Mapping[str, Support] = {
    "ConvLast": Support(Conv, (*_CONV, must.epilogue_operands), "with its epilogue"),
    "ConvTransposeLast": Support(
        TransposedConv,
        (
            *_ANY,
            must.batch_one,
            must.spatial_axes,
            must.constant_weights,
            must.pads_inside_kernel,
            must.every_result_meets_taps,
            must.epilogue_operands,
        ),
        "with its epilogue",
    ),
    "MatMul": Support(
        MatMul, (*_ANY, must.matrix_or_batched, must.epilogue_operands), "or batch_matmul"
    ),
    "Attention": Support(Attention, (*_ANY, must.batch_one, must.attention_mask)),
    "GroupNormLast": Support(GroupNorm, (*_ANY, must.batch_one, *_PARAMETERS, must.whole_groups)),
    "LayerNormalization": Support(
        LayerNorm, (*_ANY, must.last_axis, *_PARAMETERS, must.single_precision, must.one_result)
    ),
    "RMSNorm": Support(RmsNorm, (*_ANY, *_PARAMETERS)),
    "Softmax": Support(Softmax, (*_ANY, must.last_axis)),
    **{op: Support(Unary, (*_ANY, *must.settings_of(op))) for op in UNARY_BY_OP},
    **{op: Support(Binary, _BINARY) for op in BINARY_BY_OP},
    "GEGLU": Support(Glu, _ANY),
    "GLU": Support(Glu, _ANY),
    "Concat": Support(Concat, (*_ANY, must.finite_constants)),
    "Slice": Support(Slice, (*_ANY, must.known_slice)),
    "Split": Support(Slice, _ANY, "one for each result"),
    "Transpose": Support(Transpose, (*_ANY, must.leading_axes_stay)),
    "Resize": Support(Resize, (*_ANY, must.batch_one, must.nearest_repetition)),
    "PoolLast": Support(Pool, _POOL),
    **{op: Support(Reduce, (*_ANY, must.spatial_or_last)) for op in REDUCTIONS},
    **{op: Support(Reshape, _VIEW) for op in must.VIEWS},
    "Dropout": Support(Reshape, (*_VIEW, must.inference_only)),
    "Cast": Support(Reshape, _VIEW, "between floating-point types"),
    "Conv": Support(Conv, _LAYOUT),
    "ConvTranspose": Support(TransposedConv, _LAYOUT),
    "GroupNorm": Support(GroupNorm, _LAYOUT),
    "MaxPool": Support(Pool, _LAYOUT),
    "AveragePool": Support(Pool, _LAYOUT),
}


def makes_constant(node: Node) -> bool:
    """Whether ``node`` only unpacks a stored constant, which the NPU does while it computes."""
    return must.stored_constant(node.output) is not None


def refusal(node: Node) -> str:
    """Why the NPU cannot run ``node``; '' if it can."""
    if makes_constant(node):
        return ""
    support = SUPPORTED.get(kind_and_tokens(node.op)[0])
    if support is None:
        return f"the NPU has no {node.op}"
    for rule in support.rules:
        ok, reason = rule(node)
        if not ok:
            return reason
    return ""


def network_function(token: str) -> str:
    """The network's name for a unary token."""
    return UNARY_BY_TOKEN[token].name
