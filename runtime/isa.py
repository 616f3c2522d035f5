"""The vocabulary of an NPU program: memories, element types, engines, opcodes and DMA causes.

Every enumeration is stored by value in bundles: add members at the end, never renumber.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from edgefusion.runtime.functions import BINARY_CLASSES, UNARY_CLASSES

MAX_RANK = 4
"""Largest rank of an operand; higher ranks are folded before lowering."""


class Code(IntEnum):
    """The base of the enumerations: numbers, hashed as such. Enumerations hash their names, in
    Python, and the compiler looks types and opcodes up a million times."""

    __hash__ = int.__hash__


class Space(Code):
    """A memory that an operand lives in."""

    DRAM = 0
    SRAM = 1


class DType(Code):
    """Element type of a tensor in NPU memory.

    INT16 is always a fixed-point activation: integers that the NPU does not compute on, but hands
    between the graph's border and the host, have one of the other types.
    """

    INT8 = 0
    INT16 = 1
    INT32 = 2
    INT64 = 3
    FP16 = 4
    FP32 = 5
    UINT8 = 6
    BOOL = 7
    UINT64 = 8
    FP64 = 9

    @property
    def nbytes(self) -> int:
        """Bytes of one element."""
        return _NBYTES[self]

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy type with the same bytes."""
        return np.dtype(_NUMPY_NAMES[self])


_NUMPY_NAMES = (
    *("int8", "int16", "int32", "int64", "float16", "float32", "uint8", "bool"),
    *("uint64", "float64"),
)
_NBYTES = tuple(np.dtype(name).itemsize for name in _NUMPY_NAMES)
DTYPE_BYTES = np.array(_NBYTES, dtype=np.int64)


class EngineKind(Code):
    """The kinds of engine; a machine has one or more instances of each."""

    DMA = 0
    TENSOR = 1
    VECTOR = 2
    HOST = 3


class Opcode(Code):
    """What an instruction computes; ``runtime.opcodes`` specifies each."""

    LOAD = 0
    STORE = 1
    CONV2D = 2
    MATMUL = 3
    UNARY = 4
    BINARY = 5
    GLU = 6
    SOFTMAX = 7
    CHANNEL_STATS = 8
    GROUP_NORM = 9
    LAYER_NORM = 10
    RESIZE = 11
    POOL = 12
    REDUCE = 13
    COPY = 14
    CALL = 15
    RMS_NORM = 16


class Cause(Code):
    """Why DMA moves a byte: the columns of the traffic ledger."""

    NONE = 0
    WEIGHT = 1
    INPUT = 2
    OUTPUT = 3
    ACTIVATION = 4
    SPILL = 5
    REREAD = 6
    TABLE = 7


class Role(Code):
    """What a tensor is for; decides its DRAM region and the cause of its first transfer."""

    INPUT = 0
    OUTPUT = 1
    WEIGHT = 2
    ACTIVATION = 3
    SPILL = 4
    TABLE = 5


CONSTANT_ROLES = (Role.WEIGHT, Role.TABLE)
"""Of what is known when a program is made, and never written."""

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
