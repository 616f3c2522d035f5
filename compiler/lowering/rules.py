"""The lowering rule of every op kind that becomes instructions."""

from __future__ import annotations

from collections.abc import Mapping

from edgefusion.compiler.lowering.attention import ATTENTION
from edgefusion.compiler.lowering.conv import CONV
from edgefusion.compiler.lowering.elementwise import BINARY, GLU, UNARY
from edgefusion.compiler.lowering.matmul import BATCH_MATMUL, MATMUL
from edgefusion.compiler.lowering.movement import CONCAT, HOST, RESIZE, SLICE, TRANSPOSE
from edgefusion.compiler.lowering.norm import GROUP_NORM, LAYER_NORM
from edgefusion.compiler.lowering.pooling import POOL, REDUCE
from edgefusion.compiler.lowering.rule import Rule

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
