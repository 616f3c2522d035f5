"""The lowering rule of every op kind that becomes instructions."""

from __future__ import annotations

from collections.abc import Mapping

from edgefusion.compiler.lowering.rule import Rule
from edgefusion.compiler.ops.attention import ATTENTION
from edgefusion.compiler.ops.conv import CONV
from edgefusion.compiler.ops.elementwise import BINARY, GLU, UNARY
from edgefusion.compiler.ops.matmul import BATCH_MATMUL, MATMUL
from edgefusion.compiler.ops.movement import CONCAT, HOST, RESIZE, SLICE, TRANSPOSE
from edgefusion.compiler.ops.norm import GROUP_NORM, LAYER_NORM
from edgefusion.compiler.ops.pooling import POOL, REDUCE

RULES: Mapping[str, Rule] = {
    "attention": ATTENTION,
    "batch_matmul": BATCH_MATMUL,
    "binary": BINARY,
    "concat": CONCAT,
    "conv": CONV,
    "glu": GLU,
    "group_norm": GROUP_NORM,
    "host": HOST,
    "layer_norm": LAYER_NORM,
    "matmul": MATMUL,
    "pool": POOL,
    "reduce": REDUCE,
    "resize": RESIZE,
    "slice": SLICE,
    "softmax": UNARY,
    "transpose": TRANSPOSE,
    "unary": UNARY,
}
