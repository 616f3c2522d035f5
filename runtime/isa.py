"""The vocabulary of an NPU program: memories, element types, engines, opcodes and DMA causes.

Every enumeration is stored by value in bundles: add members at the end, never renumber.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from edgefusion.runtime.functions import BINARY_CLASSES, UNARY_CLASSES

MAX_RANK = 4
"""Largest rank of an operand; higher ranks are folded before lowering."""


class Space(IntEnum):
    """A memory that an operand lives in."""

    DRAM = 0
    SRAM = 1


class DType(IntEnum):
    """Element type of a tensor in NPU memory."""

    INT8 = 0
    INT16 = 1
    INT32 = 2
    INT64 = 3
    FP16 = 4
    FP32 = 5
    UINT8 = 6
    BOOL = 7

    @property
    def nbytes(self) -> int:
        """Bytes of one element."""
        return int(DTYPE_BYTES[self])

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy type with the same bytes."""
        return np.dtype(_NUMPY_NAMES[self])


_NUMPY_NAMES = ("int8", "int16", "int32", "int64", "float16", "float32", "uint8", "bool")
DTYPE_BYTES = np.array([np.dtype(name).itemsize for name in _NUMPY_NAMES], dtype=np.int64)


class EngineKind(IntEnum):
    """The kinds of engine; a machine has one or more instances of each."""

    DMA = 0
    TENSOR = 1
    VECTOR = 2
    HOST = 3


class Opcode(IntEnum):
    """What an instruction computes. Operand order is in the comment; outputs come first.

    Shapes are channels-last. ``acc`` marks operands that are read and written.
    """

    LOAD = 0  # DMA: sram <- dram, any strides; attribute reread_bytes (of them, loaded before)
    STORE = 1  # DMA: dram <- sram
    CONV2D = 2  # y[h,w,co] <- x[h',w',ci], w[co,ci/g,kh,kw], [bias[co]]; strides, pads, groups, ...
    # y[b,m,n] <- a[b,m,k], b[b,k,n] (any strides), [bias[n]]; attributes scale, accumulate (adds to
    # y, which then has the type of the accumulator)
    MATMUL = 3
    UNARY = 4  # y <- x; attribute function, a row of functions.UNARY
    BINARY = 5  # y <- a, b (zero strides broadcast); attribute function, of functions.BINARY
    GLU = 6  # y[m,c] <- value[m,c], gate[m,c]; attribute function, as UNARY: value * f(gate)
    SOFTMAX = 7  # y[m,n] <- x[m,n], along the last axis
    CHANNEL_STATS = 8  # acc[2,c] (sum, sum of squares) <- x[m,c]; attribute first (clears acc)
    GROUP_NORM = 9  # y[m,c] <- x[m,c], stats[2,c], gamma[c], beta[c]; groups, epsilon, function
    LAYER_NORM = 10  # y[m,c] <- x[m,c], gamma[c], beta[c]; epsilon
    RESIZE = 11  # y[h*s,w*s,c] <- x[h,w,c], nearest; attribute scale
    POOL = 12  # y[h,w,c] <- x[h',w',c]; attribute function (max, average), kernel, strides, pads
    REDUCE = 13  # y[c] or y[m] <- x; attributes function, axes
    COPY = 14  # y <- x, same shape, other strides (transpose) or type (cast)
    CALL = 15  # HOST: outputs <- inputs in DRAM; attribute function (name of the host function)


class Cause(IntEnum):
    """Why DMA moves a byte: the columns of the traffic ledger."""

    NONE = 0
    WEIGHT = 1
    INPUT = 2
    OUTPUT = 3
    ACTIVATION = 4
    SPILL = 5
    REREAD = 6
    TABLE = 7


class Role(IntEnum):
    """What a tensor is for; decides its DRAM region and the cause of its first transfer."""

    INPUT = 0
    OUTPUT = 1
    WEIGHT = 2
    ACTIVATION = 3
    SPILL = 4
    TABLE = 5


ROLE_CAUSE = {
    Role.INPUT: Cause.INPUT,
    Role.OUTPUT: Cause.OUTPUT,
    Role.WEIGHT: Cause.WEIGHT,
    Role.ACTIVATION: Cause.ACTIVATION,
    Role.SPILL: Cause.SPILL,
    Role.TABLE: Cause.TABLE,
}

VECTOR_FUNCTIONS = (
    "copy",
    *UNARY_CLASSES,
    *BINARY_CLASSES,
    "glu",
    "softmax",
    "channel_stats",
    "group_norm",
    "group_norm_silu",
    "layer_norm",
    "resize",
    "pool",
    "reduce",
)
"""Cost classes of the vector engine: those of elementwise functions, and of opcodes of their own.

A machine states lane-cycles per element for each.
"""
