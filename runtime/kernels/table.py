"""The kernel of every opcode by family; ``runtime.opcodes`` says which families an opcode has."""

from __future__ import annotations

from collections.abc import Mapping

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Kernel
from edgefusion.runtime.kernels.convolution import conv2d
from edgefusion.runtime.kernels.elementwise import binary, glu, unary
from edgefusion.runtime.kernels.fp16 import FP16_KERNELS
from edgefusion.runtime.kernels.matmul import matmul
from edgefusion.runtime.kernels.movement import copy, pool, quantize, reduce, resize
from edgefusion.runtime.kernels.norm import channel_stats, group_norm, layer_norm, rms_norm
from edgefusion.runtime.kernels.softmax import softmax
from edgefusion.runtime.specification import Family

KERNELS: Mapping[tuple[Opcode, Family], Kernel] = {
    (Opcode.CONV2D, Family.INT): conv2d,
    (Opcode.MATMUL, Family.INT): matmul,
    (Opcode.UNARY, Family.INT): unary,
    (Opcode.BINARY, Family.INT): binary,
    (Opcode.GLU, Family.INT): glu,
    (Opcode.SOFTMAX, Family.INT): softmax,
    (Opcode.CHANNEL_STATS, Family.INT): channel_stats,
    (Opcode.GROUP_NORM, Family.INT): group_norm,
    (Opcode.LAYER_NORM, Family.INT): layer_norm,
    (Opcode.RMS_NORM, Family.INT): rms_norm,
    (Opcode.RESIZE, Family.INT): resize,
    (Opcode.POOL, Family.INT): pool,
    (Opcode.REDUCE, Family.INT): reduce,
    (Opcode.COPY, Family.INT): copy,
    (Opcode.COPY, Family.FLOAT_TO_INT): quantize,
    **{(opcode, Family.FP16): kernel for opcode, kernel in FP16_KERNELS.items()},
}
