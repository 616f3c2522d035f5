"""The specification of every opcode, and tables by opcode that follow from them.

Shapes are channels-last, outputs come first. ``docs/instructions.md`` is written from here
(``runtime.opcode_manual``), ``docs/arithmetic.md`` says what the kernels compute, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.functions import BINARY, UNARY, binary_class, unary_class
from edgefusion.runtime.isa import EngineKind, Opcode, Space
from edgefusion.runtime.specification import (
    Attribute,
    Attrs,
    Counted,
    Family,
    Kind,
    OperandForm,
    Specification,
)


def _norm_class(function: str) -> str:
    return "group_norm_silu" if function else "group_norm"


_BOTH = (Family.INT, Family.FP16)

_BIAS = OperandForm("bias", "[n]", when="bias")
_WEIGHT_SCALES = OperandForm("weight scales", "[n]", optional=True)
_SUMS = OperandForm("sums", "as y", when="sums")
_PRODUCT = (
    Attribute("bias", Kind.FLAG, "whether there is an operand bias", 0),
    Attribute("scale", Kind.REAL, "a factor of the sums, where there are no weight scales", 1.0),
    Attribute(
        "accumulate",
        Kind.FLAG,
        "whether to add to y, which then has the type of the accumulator",
        0,
    ),
    Attribute("sums", Kind.FLAG, "whether the accumulator starts from an operand sums", 0),
)
_EPSILON = Attribute("epsilon", Kind.REAL, "what is added to a variance")
_FIRST = "whether what the result held before is left out"


def _function(meaning: str, *choices: str) -> Attribute:
    return Attribute("function", Kind.NAME, meaning, None, choices)


SPECIFICATIONS: Mapping[Opcode, Specification] = {
    Opcode.LOAD: Specification(
        "DMA from DRAM to SRAM, any strides",
        EngineKind.DMA,
        (OperandForm("y", "any"),),
        (OperandForm("x", "any"),),
        (
            Attribute(
                "reread_bytes", Kind.NATURAL, "how many of the bytes the op has loaded before", 0
            ),
        ),
        input_space=Space.DRAM,
    ),
    Opcode.STORE: Specification(
        "DMA from SRAM to DRAM, any strides",
        EngineKind.DMA,
        (OperandForm("y", "any"),),
        (OperandForm("x", "any"),),
        output_space=Space.DRAM,
    ),
    Opcode.CONV2D: Specification(
        "2-D convolution of a tile that may be padded and enlarged; an INT64 y holds raw sums",
        EngineKind.TENSOR,
        (OperandForm("y", "[h,w,n]", read_when="accumulate"),),
        (
            OperandForm("x", "[h',w',c]"),
            OperandForm("w", "[n,c/groups,kh,kw]"),
            _BIAS,
            _WEIGHT_SCALES,
            _SUMS,
        ),
        (
            *_PRODUCT,
            Attribute("dilations", Kind.COUNT_PAIR, "steps between taps, down and across", (1, 1)),
            Attribute("groups", Kind.COUNT, "how many parts the channels are cut into", 1),
            Attribute(
                "pads",
                Kind.INTEGERS_4,
                "zeros at top, left, bottom and right of the enlarged tile; negative: cut off",
                (0, 0, 0, 0),
            ),
            Attribute("strides", Kind.COUNT_PAIR, "steps between windows", (1, 1)),
            Attribute("upsample", Kind.COUNT, "how often pixels are repeated before", 1),
            Attribute(
                "upsample_phase",
                Kind.NATURAL_PAIR,
                "rows and columns of the enlarged tile that are skipped",
                (0, 0),
            ),
        ),
        families=_BOTH,
    ),
    Opcode.MATMUL: Specification(
        "matrix product; an INT64 y holds raw sums, and may have a column more for the sums of a",
        EngineKind.TENSOR,
        (OperandForm("y", "[b,m,n]", read_when="accumulate"),),
        (OperandForm("a", "[b,m,k]"), OperandForm("b", "[b,k,n]"), _BIAS, _WEIGHT_SCALES, _SUMS),
        _PRODUCT,
        families=_BOTH,
    ),
    Opcode.UNARY: Specification(
        "a function of every element: y = f(x)",
        EngineKind.VECTOR,
        (OperandForm("y", "any"),),
        (OperandForm("x", "any"),),
        (_function("f", *UNARY),),
        cost_class=unary_class,
        families=_BOTH,
        tabulated=True,
    ),
    Opcode.BINARY: Specification(
        "a function of pairs of elements: y = f(a, b); strides of zero repeat elements",
        EngineKind.VECTOR,
        (OperandForm("y", "any"),),
        (OperandForm("a", "as y"), OperandForm("b", "as y")),
        (_function("f", *BINARY),),
        cost_class=binary_class,
        families=_BOTH,
    ),
    Opcode.GLU: Specification(
        "a gated unit: y = value * f(gate)",
        EngineKind.VECTOR,
        (OperandForm("y", "[m,c]"),),
        (OperandForm("value", "[m,c]"), OperandForm("gate", "[m,c]")),
        (_function("f", *UNARY),),
        cost_class="glu",
        families=_BOTH,
        tabulated=True,
    ),
    Opcode.SOFTMAX: Specification(
        "softmax along the last axis",
        EngineKind.VECTOR,
        (OperandForm("y", "[m,n]"),),
        (OperandForm("x", "[m,n]"),),
        cost_class="softmax",
        counted=Counted.INPUT,
        families=_BOTH,
        tabulated=True,
    ),
    Opcode.CHANNEL_STATS: Specification(
        "sums and sums of squares of every channel",
        EngineKind.VECTOR,
        (OperandForm("acc", "[2,c]", read_unless="first"),),
        (OperandForm("x", "[m,c]"),),
        (Attribute("first", Kind.FLAG, _FIRST),),
        cost_class="channel_stats",
        counted=Counted.INPUT,
        families=_BOTH,
    ),
    Opcode.GROUP_NORM: Specification(
        "group normalisation: y = f((x - mean) / sigma * gamma + beta)",
        EngineKind.VECTOR,
        (OperandForm("y", "[m,c]"),),
        (
            OperandForm("x", "[m,c]"),
            OperandForm("stats", "[2,c]"),
            OperandForm("gamma", "[c]"),
            OperandForm("beta", "[c]"),
        ),
        (
            _EPSILON,
            Attribute("function", Kind.NAME, "f; none if empty", ""),
            Attribute("groups", Kind.COUNT, "how many groups the channels make"),
            Attribute("rows", Kind.COUNT, "how many rows the statistics are of"),
        ),
        cost_class=_norm_class,
        families=_BOTH,
        tabulated=True,
    ),
    Opcode.LAYER_NORM: Specification(
        "layer normalisation of each row: y = (x - mean) / sigma * gamma + beta",
        EngineKind.VECTOR,
        (OperandForm("y", "[m,c]"),),
        (
            OperandForm("x", "[m,c]"),
            OperandForm("gamma", "[c]"),
            OperandForm("beta", "[c]", when="beta"),
        ),
        (Attribute("beta", Kind.FLAG, "whether there is an operand beta", 0), _EPSILON),
        cost_class="layer_norm",
        families=_BOTH,
    ),
    Opcode.RESIZE: Specification(
        "enlargement by repetition (nearest neighbour)",
        EngineKind.VECTOR,
        (OperandForm("y", "[h*s,w*s,c]"),),
        (OperandForm("x", "[h,w,c]"),),
        (Attribute("scale", Kind.COUNT, "s, how often rows and columns are repeated"),),
        cost_class="resize",
        families=_BOTH,
    ),
    Opcode.POOL: Specification(
        "the largest or the mean of each window",
        EngineKind.VECTOR,
        (OperandForm("y", "[h,w,c]"),),
        (OperandForm("x", "[h',w',c]"),),
        (
            Attribute("count_include_pad", Kind.FLAG, "whether padding counts in a mean", 0),
            _function("what to take", "max", "average"),
            Attribute("kernel", Kind.COUNT_PAIR, "height and width of a window"),
            Attribute(
                "pads", Kind.INTEGERS_4, "padding at top, left, bottom and right; negative: cut off"
            ),
            Attribute("strides", Kind.COUNT_PAIR, "steps between windows"),
        ),
        cost_class="pool",
        counted=Counted.WINDOWS,
        families=_BOTH,
    ),
    Opcode.REDUCE: Specification(
        "sum, mean or maximum of x along an axis; several instructions may share the work",
        EngineKind.VECTOR,
        (OperandForm("y", "[c] or [m,1]", read_unless="first"),),
        (OperandForm("x", "[m,c]"),),
        (
            Attribute("axis", Kind.NATURAL, "the axis of x that goes"),
            Attribute("count", Kind.COUNT, "how many elements of all instructions make a result"),
            Attribute("first", Kind.FLAG, _FIRST, 1),
            _function("what to make of them", "mean", "sum", "max"),
            Attribute("last", Kind.FLAG, "whether this instruction completes the result", 1),
        ),
        cost_class="reduce",
        counted=Counted.INPUT,
        families=_BOTH,
    ),
    Opcode.COPY: Specification(
        "the same values with other strides, in another type, or in steps of another scale; as "
        "they are, they may move to lower addresses over themselves",
        EngineKind.VECTOR,
        (OperandForm("y", "any"),),
        (OperandForm("x", "as y, or a column more for the sums to divide by"),),
        (Attribute("count", Kind.COUNT, "how many values an INT64 sum is of, for their mean", 1),),
        cost_class="copy",
        families=(Family.INT, Family.FP16, Family.FLOAT_TO_INT),
    ),
    Opcode.CALL: Specification(
        "a host function",
        EngineKind.HOST,
        (OperandForm("results", "any", repeated=True),),
        (OperandForm("arguments", "any", repeated=True),),
        (
            _function("its name in the bundle"),
            Attribute("operations", Kind.NATURAL, "FP32 multiply-accumulates of that cost", 0),
            Attribute("constant_bytes", Kind.NATURAL, "bytes that it reads besides", 0),
        ),
        output_space=Space.DRAM,
        input_space=Space.DRAM,
    ),
    Opcode.RMS_NORM: Specification(
        "root mean square normalisation of each row: y = x / sqrt(mean(x^2) + epsilon) * gamma",
        EngineKind.VECTOR,
        (OperandForm("y", "[m,c]"),),
        (OperandForm("x", "[m,c]"), OperandForm("gamma", "[c]")),
        (Attribute("epsilon", Kind.REAL, "what is added to a mean square"),),
        cost_class="layer_norm",  # as it, two passes over the row; no machine states another cost
        families=_BOTH,
    ),
}

OPCODE_ENGINE = np.array([SPECIFICATIONS[code].engine for code in Opcode], dtype=np.uint8)
"""The kind of engine that runs each opcode."""

OPERAND_SPACE = np.array(
    [[SPECIFICATIONS[code].input_space, SPECIFICATIONS[code].output_space] for code in Opcode],
    dtype=np.uint8,
)
"""The memory of each opcode's inputs and outputs, [opcodes, 2]."""


def check_attributes(opcode: Opcode, attrs: Attrs) -> None:
    """Raise InputError, naming opcode and attribute, where ``attrs`` are not those of ``opcode``:
    unknown, given twice, of a wrong type, or missing."""
    fault = SPECIFICATIONS[opcode].fault(attrs)
    if fault:
        raise InputError(f"{opcode.name}: {fault}")
