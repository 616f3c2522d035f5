"""The kernel of every opcode by family: integer, FP16, or FP16 that becomes integer."""

from __future__ import annotations

from collections.abc import Mapping

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Kernel
from edgefusion.runtime.kernels.convolution import conv2d
from edgefusion.runtime.kernels.elementwise import binary, glu, unary
from edgefusion.runtime.kernels.fp16 import FP16_KERNELS
from edgefusion.runtime.kernels.matmul import matmul
from edgefusion.runtime.kernels.movement import copy, pool, quantize, reduce, resize, transfer
from edgefusion.runtime.kernels.norm import channel_stats, group_norm, layer_norm
from edgefusion.runtime.kernels.softmax import softmax

KERNELS: Mapping[tuple[Opcode, str], Kernel] = {
    (Opcode.LOAD, "int"): transfer,
    (Opcode.STORE, "int"): transfer,
    (Opcode.CONV2D, "int"): conv2d,
    (Opcode.MATMUL, "int"): matmul,
    (Opcode.UNARY, "int"): unary,
    (Opcode.BINARY, "int"): binary,
    (Opcode.GLU, "int"): glu,
    (Opcode.SOFTMAX, "int"): softmax,
    (Opcode.CHANNEL_STATS, "int"): channel_stats,
    (Opcode.GROUP_NORM, "int"): group_norm,
    (Opcode.LAYER_NORM, "int"): layer_norm,
    (Opcode.RESIZE, "int"): resize,
    (Opcode.POOL, "int"): pool,
    (Opcode.REDUCE, "int"): reduce,
    (Opcode.COPY, "int"): copy,
    (Opcode.COPY, "float to int"): quantize,
    **{(opcode, "fp16"): kernel for opcode, kernel in FP16_KERNELS.items()},
}
