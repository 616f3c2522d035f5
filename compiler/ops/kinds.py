"""All kinds of ops that a network may have."""

from __future__ import annotations

from edgefusion.compiler.network.kind import Kind
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.ops.conv import Conv
from edgefusion.compiler.ops.elementwise import Binary, Glu, Softmax, Unary
from edgefusion.compiler.ops.matmul import BatchMatMul, MatMul
from edgefusion.compiler.ops.movement import Concat, Host, Reshape, Resize, Slice, Transpose
from edgefusion.compiler.ops.norm import GroupNorm, LayerNorm, RmsNorm
from edgefusion.compiler.ops.pooling import Pool, Reduce
from edgefusion.compiler.ops.transposed_conv import TransposedConv

KINDS: tuple[type[Kind], ...] = (
    Conv,
    TransposedConv,
    MatMul,
    BatchMatMul,
    Attention,
    GroupNorm,
    LayerNorm,
    RmsNorm,
    Softmax,
    Unary,
    Binary,
    Glu,
    Concat,
    Slice,
    Transpose,
    Resize,
    Pool,
    Reduce,
    Reshape,
    Host,
)
"""In the order in which SUPPORTED_OPS.md lists them."""
