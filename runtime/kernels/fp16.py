"""The FP16 kernel of every opcode: FP16 operands and results, FP32 inside, one rounding an op.

What each computes, bit for bit, is in its module's docstring and in ``docs/arithmetic_fp16.md``.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels.contract import Kernel
from edgefusion.runtime.kernels.fp16_convolution import conv2d, matmul
from edgefusion.runtime.kernels.fp16_elementwise import binary, glu, unary
from edgefusion.runtime.kernels.fp16_movement import copy, pool, reduce, resize
from edgefusion.runtime.kernels.fp16_norm import (
    channel_stats,
    group_norm,
    layer_norm,
    rms_norm,
    softmax,
)

FP16_KERNELS: Mapping[Opcode, Kernel] = {
    Opcode.CONV2D: conv2d,
    Opcode.MATMUL: matmul,
    Opcode.UNARY: unary,
    Opcode.BINARY: binary,
    Opcode.GLU: glu,
    Opcode.SOFTMAX: softmax,
    Opcode.CHANNEL_STATS: channel_stats,
    Opcode.GROUP_NORM: group_norm,
    Opcode.LAYER_NORM: layer_norm,
    Opcode.RMS_NORM: rms_norm,
    Opcode.RESIZE: resize,
    Opcode.POOL: pool,
    Opcode.REDUCE: reduce,
    Opcode.COPY: copy,
}
"""All opcodes but DMA and host calls, which the executor itself runs."""
