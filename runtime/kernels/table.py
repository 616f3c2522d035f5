"""The kernels of every opcode by family; ``runtime.opcodes`` says which families an opcode has.

What each computes, bit for bit, is in ``docs/arithmetic.md`` (integers) and
``docs/arithmetic_fp16.md`` (FP16 operands and results, FP32 inside, one rounding an op).
"""

from __future__ import annotations

from collections.abc import Mapping

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.kernels import (
    convolution,
    elementwise,
    fp16_convolution,
    fp16_elementwise,
    fp16_movement,
    fp16_norm,
    matmul,
    movement,
    norm,
    softmax,
)
from edgefusion.runtime.kernels.contract import Kernel
from edgefusion.runtime.specification import Family

_BOTH: Mapping[Opcode, tuple[Kernel, Kernel]] = {
    Opcode.CONV2D: (convolution.conv2d, fp16_convolution.conv2d),
    Opcode.MATMUL: (matmul.matmul, fp16_convolution.matmul),
    Opcode.UNARY: (elementwise.unary, fp16_elementwise.unary),
    Opcode.BINARY: (elementwise.binary, fp16_elementwise.binary),
    Opcode.GLU: (elementwise.glu, fp16_elementwise.glu),
    Opcode.SOFTMAX: (softmax.softmax, fp16_norm.softmax),
    Opcode.CHANNEL_STATS: (norm.channel_stats, fp16_norm.channel_stats),
    Opcode.GROUP_NORM: (norm.group_norm, fp16_norm.group_norm),
    Opcode.LAYER_NORM: (norm.layer_norm, fp16_norm.layer_norm),
    Opcode.RMS_NORM: (norm.rms_norm, fp16_norm.rms_norm),
    Opcode.RESIZE: (movement.resize, fp16_movement.resize),
    Opcode.POOL: (movement.pool, fp16_movement.pool),
    Opcode.REDUCE: (movement.reduce, fp16_movement.reduce),
    Opcode.COPY: (movement.copy, fp16_movement.copy),
}

KERNELS: Mapping[tuple[Opcode, Family], Kernel] = {
    **{(opcode, Family.INT): integer for opcode, (integer, _) in _BOTH.items()},
    **{(opcode, Family.FP16): half for opcode, (_, half) in _BOTH.items()},
    (Opcode.COPY, Family.FLOAT_TO_INT): movement.quantize,
}
"""All but DMA and host calls, which the executor itself runs."""
