"""Real functions of one variable for FP16 kernels, as tables of all FP16 values.

An FP16 number has 65,536 bit patterns, so a function of one is a table. Entries are computed in
float64 and rounded once: ``UNARY`` results are correctly rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.kernels import lookup
from edgefusion.runtime.kernels.fp16_half import F32, U16

F64 = npt.NDArray[np.float64]


def _sigmoid(x: F64) -> F64:
    """Of relative accuracy far below zero too, where INT16 has only zeros."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


FUNCTIONS: Mapping[str, Callable[[F64], F64]] = {
    **lookup.FUNCTIONS,
    "copy": lambda x: x,
    "relu": lambda x: np.where(x > 0.0, x, np.where(np.isnan(x), x, 0.0)),
    "silu": lambda x: x * _sigmoid(x),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "sigmoid": _sigmoid,
}
"""By the names that the network uses, on float64."""


@cache
def table32(name: str) -> F32:
    """``name`` of every FP16 bit pattern, FP32 [65536]."""
    if name not in FUNCTIONS:
        raise InputError(f"expected one of {', '.join(FUNCTIONS)}, found function {name!r}")
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    with np.errstate(all="ignore"):
        values = FUNCTIONS[name](every)
        # x * sigmoid(x) and its like are 0 x infinity at -infinity; their limit is -0.
        lost = np.isneginf(every) & np.isnan(values)
        made: F32 = np.where(lost, -0.0, values).astype(np.float32)
    return made


@cache
def table16(name: str) -> U16:
    """``name`` of every FP16 bit pattern, rounded once from float64, as bit patterns [65536]."""
    table32(name)  # refuses unknown names
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    with np.errstate(all="ignore"):
        values = FUNCTIONS[name](every)
        lost = np.isneginf(every) & np.isnan(values)
        rounded = np.where(lost, -0.0, values).astype(np.float16)
    return rounded.view(np.uint16)
