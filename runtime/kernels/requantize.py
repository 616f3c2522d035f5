"""Requantization: int64 accumulators to INT16 activations (docs/arithmetic.md, section 2).

A real multiplier m becomes an integer ``factor`` and a ``shift`` with m = factor * 2^-shift, and
y = clamp((acc * factor + 2^(shift-1)) >> shift): one rounding, half up. The modes differ only in
the bits of the factor. ``tflite15`` is LiteRT's for CONV_2D 16x8 and TOSA's RESCALE scale16.
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

ACC_BITS = 48
"""Width of the accumulator, sign included: int48 as in TOSA's CONV2D int16 x int8."""

INT16_MIN, INT16_MAX = -32768, 32767
MAX_SHIFT = 126
MODE_BITS = {"tflite15": 15, "q31": 31, "exact": 53}
"""Bits of the factor in each mode; 53 hold any float64 multiplier exactly."""


@dataclass(frozen=True, slots=True, eq=False)
class Multipliers:
    """One multiplier a channel: ``factors`` and ``shifts``, int64 [n]."""

    factors: I64
    shifts: I64
    wide: bool


def multipliers(real: float | Array, mode: str = "tflite15") -> Multipliers:
    """Integer multipliers of positive ``real`` ones, float64 scalar or [n].

    Raises:
        InputError: a multiplier that is not positive and finite (activations not calibrated), or
            an unknown mode.
    """
    m = np.atleast_1d(np.asarray(real, dtype=np.float64))
    if mode not in MODE_BITS:
        raise InputError(f"Rounding '{mode}' is unknown. Use one of: {', '.join(MODE_BITS)}.")
    if not np.all((m > 0) & np.isfinite(m)):
        raise InputError(
            "An integer kernel got a scale that is zero, negative or not finite. Calibrate the "
            "activations of this bundle before running it."
        )
    bits = MODE_BITS[mode]
    factors, shifts = np.empty(len(m), np.int64), np.empty(len(m), np.int64)
    _split(m, bits, MAX_SHIFT if bits > 15 else 63, factors, shifts)
    return Multipliers(factors, shifts, bits > 15)


@compiled
def _split(m: Array, bits: int, limit: int, factors: I64, shifts: I64) -> None:
    """``m`` as factors of ``bits`` bits and shifts of at most ``limit``."""
    for i in range(len(m)):
        q, exponent = math.frexp(m[i])
        if bits > 31:
            factor = int(math.ldexp(q, bits))
        else:
            factor = int(math.ldexp(q, 31) + 0.5)
            if factor == 1 << 31:
                factor, exponent = 1 << 30, exponent + 1
            if bits == 15:
                factor = min((factor + (1 << 15)) >> 16, 0x7FFF)
        factors[i] = factor
        shifts[i] = min(bits - exponent, limit)


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


@compiled
def requantize_wide(acc: Word, factor: Word, shift: Word) -> Word:
    """``requantize`` with factors up to 2^53: the product has 128 bits, as two uint64."""
    low_mask = np.uint64(0xFFFFFFFF)
    half_word = np.uint64(32)
    magnitude, f = np.uint64(abs(acc)), np.uint64(factor)
    a0, a1 = magnitude & low_mask, magnitude >> half_word
    f0, f1 = f & low_mask, f >> half_word
    middle = a1 * f0 + ((a0 * f0) >> half_word)
    cross = a0 * f1 + (middle & low_mask)
    low = (cross << half_word) | ((a0 * f0) & low_mask)
    high = a1 * f1 + (middle >> half_word) + (cross >> half_word)
    if shift <= 0:
        big = high != np.uint64(0) or low > np.uint64(65536)
        small = np.int64(65536) if big else np.int64(low)
        value = small << min(-shift, 40)
        return clamp16(-value if acc < 0 else value)
    # Half up means that a negative half rounds towards zero: |y| = (|p| + half - 1) >> shift.
    one = np.uint64(1)
    if shift <= 64:
        add = (one << np.uint64(shift - 1)) - (one if acc < 0 else np.uint64(0))
        total = low + add
        high = high + (one if total < low else np.uint64(0))
        if shift == 64:
            result = high
        elif high >> np.uint64(shift) != np.uint64(0):
            result = np.uint64(65536)
        else:
            result = (total >> np.uint64(shift)) | (high << np.uint64(64 - shift))
    else:
        rest = np.uint64(shift - 64)
        half = one << (rest - one)
        # The low word decides only whether a negative value is exactly a half.
        exact_half = acc < 0 and low == np.uint64(0)
        result = (high + half - (one if exact_half else np.uint64(0))) >> rest
    value = np.int64(min(result, np.uint64(65536)))
    return clamp16(-value if acc < 0 else value)


def requantize_array(acc: Array, scale: Multipliers) -> Array:
    """``acc`` [..., n] as INT16 by the multipliers of its last axis (or the only one)."""
    flat = np.ascontiguousarray(acc, dtype=np.int64).reshape(-1)
    out = np.empty(flat.shape, np.int16)
    _requantize_loop(flat, scale.factors, scale.shifts, scale.wide, out)
    return out.reshape(acc.shape)


@compiled
def _requantize_loop(acc: I64, factors: I64, shifts: I64, wide: bool, out: Array) -> None:
    n = len(factors)
    for i in range(len(acc)):
        c = i % n
        if wide:
            out[i] = requantize_wide(acc[i], factors[c], shifts[c])
        else:
            out[i] = requantize(acc[i], factors[c], shifts[c])
