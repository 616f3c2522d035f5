"""Real functions of one variable for FP16 kernels, as tables of all FP16 values.

An FP16 number has 65,536 bit patterns, so a function of one is a table. Entries are computed in
float64 and rounded once: ``UNARY`` results are correctly rounded.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.functions import F64, UNARY
from edgefusion.runtime.kernels.fp16_half import F32, U16


@cache
def table32(name: str) -> F32:
    """``name`` of every FP16 bit pattern, FP32 [65536]."""
    with np.errstate(all="ignore"):
        return _of_every_number(name).astype(np.float32)


@cache
def table16(name: str) -> U16:
    """``name`` of every FP16 bit pattern, rounded once from float64, as bit patterns [65536]."""
    with np.errstate(all="ignore"):
        return _of_every_number(name).astype(np.float16).view(np.uint16)


def _of_every_number(name: str) -> F64:
    if name not in UNARY:
        raise InputError(f"expected one of {', '.join(UNARY)}, found function {name!r}")
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    with np.errstate(all="ignore"):
        values = UNARY[name].real(every)
    # x * sigmoid(x) and its like are 0 x infinity at -infinity; their limit is -0.
    lost = np.isneginf(every) & np.isnan(values)
    return np.where(lost, -0.0, values)
