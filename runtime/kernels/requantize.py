"""Requantization: int64 accumulators to INT16 activations (docs/arithmetic.md, section 2).

A real multiplier m becomes an integer ``factor`` of 15 bits and a ``shift`` with m = factor *
2^-shift, and y = clamp((acc * factor + 2^(shift-1)) >> shift): one rounding, half up, as LiteRT's
CONV_2D 16x8 and TOSA's RESCALE scale16 do it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.kernels.contract import Array

I64 = npt.NDArray[np.int64]
Word = Any
"""An int64 inside machine code: Python's int to a reader, numpy's to mypy."""

_FACTOR_BITS = 15
_MAX_SHIFT = 63


@dataclass(frozen=True, slots=True, eq=False)
class Multipliers:
    """One multiplier a channel: ``factors`` and ``shifts``, int64 [n]."""

    factors: I64
    shifts: I64


def multipliers(real: float | Array) -> Multipliers:
    """Integer multipliers of positive ``real`` ones, float64 scalar or [n].

    Raises InputError for one that is not positive and finite: activations were not calibrated.
    """
    m = np.atleast_1d(np.asarray(real, dtype=np.float64))
    if not np.all((m > 0) & np.isfinite(m)):
        raise InputError(
            "An integer kernel got a scale that is zero, negative or not finite. Calibrate the "
            "activations of this bundle before running it."
        )
    factors, shifts = np.empty(len(m), np.int64), np.empty(len(m), np.int64)
    _split(m, factors, shifts)
    return Multipliers(factors, shifts)


@compiled
def _split(m: Array, factors: I64, shifts: I64) -> None:
    """``m`` as factors of 15 bits, rounded by way of 31, and shifts."""
    for i in range(len(m)):
        q, exponent = math.frexp(m[i])
        factor = int(math.ldexp(q, 31) + 0.5)
        if factor == 1 << 31:
            factor, exponent = 1 << 30, exponent + 1
        factors[i] = min((factor + (1 << 15)) >> 16, 0x7FFF)
        shifts[i] = min(_FACTOR_BITS - exponent, _MAX_SHIFT)


def activation_multiplier(scale_in: float, scale_out: float) -> Multipliers:
    """The multiplier that takes an activation from one scale to another."""
    return multipliers(ratio(scale_in, scale_out))


def ratio(*scales: float) -> float:
    """The product of all ``scales`` but the last, over the last. Raises InputError at zero."""
    if not all(np.isfinite(s) and s > 0 for s in scales):
        raise InputError(
            f"An integer kernel needs positive scales and got {scales}. Calibrate the activations "
            "of this bundle before running it."
        )
    return prod(scales[:-1]) / scales[-1]


@compiled
def clamp16(value: Word) -> Word:
    """``value`` limited to the range of INT16."""
    return min(max(value, -32768), 32767)


@compiled
def requantize(acc: Word, factor: Word, shift: Word) -> Word:
    """clamp(acc * factor * 2^-shift) for |acc| < 2^47 and a factor of 15 bits; any shift <= 63.

    The product stays below 2^62, so adding half of 2^63 at most cannot overflow.
    """
    product = acc * factor
    if shift > 0:
        return clamp16((product + (np.int64(1) << (shift - 1))) >> shift)
    # An integer multiplier of 2^15 or more: anything but zero is large, nothing is rounded.
    small = min(max(product, -(1 << 20)), 1 << 20)
    return clamp16(small << min(-shift, 40))


def requantize_array(acc: Array, scale: Multipliers) -> Array:
    """``acc`` [..., n] as INT16 by the multipliers of its last axis (or the only one)."""
    flat = np.ascontiguousarray(acc, dtype=np.int64).reshape(-1)
    out = np.empty(flat.shape, np.int16)
    _requantize_loop(flat, scale.factors, scale.shifts, out)
    return out.reshape(acc.shape)


@compiled
def _requantize_loop(acc: I64, factors: I64, shifts: I64, out: Array) -> None:
    n = len(factors)
    for i in range(len(acc)):
        out[i] = requantize(acc[i], factors[i % n], shifts[i % n])
