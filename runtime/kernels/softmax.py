"""SOFTMAX on integers, and the division that follows the product with V.

e = round(32767 * exp((x - max) * s_x)), from a table of powers of two: 2^-t with t in units of
2^-24, its fraction from 257 entries of 30 bits with linear interpolation. A whole row of 4096 keys
keeps exponentials that are 2^-15 of the largest, and nothing is rounded again before S * V.
"""

from __future__ import annotations

from functools import lru_cache
from math import e as euler
from math import frexp, log2

import numpy as np
from numba import prange

from edgefusion.runtime.kernels.contract import Array, Attrs, Operands
from edgefusion.runtime.kernels.exact_tables import tables_are_exact
from edgefusion.runtime.kernels.parallel import parallel, use_threads
from edgefusion.runtime.kernels.requantize import multipliers, ratio
from edgefusion.runtime.tensor_numbers import ROW_NORMALISED

_FRACTION_BITS, _INDEX_BITS = 24, 8


def softmax(ops: Operands, attrs: Attrs) -> None:  # noqa: ARG001
    """y[m,n] <- x[m,n] along the last axis; exponentials, or probabilities if y has a scale."""
    x, y = ops.inputs[0], ops.outputs[0]
    n = x.shape[-1]
    source = np.ascontiguousarray(x).reshape(-1, n)
    result = np.empty(source.shape, np.int16)
    use_threads(2 * source.size)
    table = exact_exponentials if tables_are_exact() else exponential_table
    _exponentials(source, table(ops.input_scale(0)), result)
    if ops.output_numbers[0] != ROW_NORMALISED:
        result = divide_by_row_sums(
            result.astype(np.int64), row_sums(result), ratio(1.0, ops.output_scale(0))
        )
    y[...] = result.reshape(y.shape)


@lru_cache(maxsize=64)
def exponential_table(scale: float) -> Array:
    """round(32767 * exp(-d * scale)) for d = 0..65535 by the specified integers, INT16 [65536]."""
    q, exponent = frexp(ratio(scale, 1.0) * log2(euler))
    mantissa = int(q * 2**31 + 0.5)
    d = np.arange(65536, dtype=np.int64)
    shift = 31 - exponent - _FRACTION_BITS
    product = d * mantissa
    if shift > 0:
        t = (product + (1 << min(shift - 1, 61))) >> min(shift, 62)
    else:
        t = np.minimum(product, 1 << 40) << min(-shift, 20)
    steps = 1 << _INDEX_BITS
    powers = np.floor(32767 * 2.0**15 * 2.0 ** (-np.arange(steps + 1) / steps) + 0.5)
    table = powers.astype(np.int64)
    low = _FRACTION_BITS - _INDEX_BITS
    fraction = t & ((1 << _FRACTION_BITS) - 1)
    index, weight = fraction >> low, fraction & ((1 << low) - 1)
    value = table[index] - (((table[index] - table[index + 1]) * weight) >> low)
    down = np.minimum(15 + (t >> _FRACTION_BITS), 62)
    made: Array = ((value + (1 << (down - 1))) >> down).astype(np.int16)
    made.flags.writeable = False
    return made


@lru_cache(maxsize=64)
def exact_exponentials(scale: float) -> Array:
    """What ``exponential_table`` approximates: float64, rounded once."""
    d = np.arange(65536, dtype=np.float64)
    made: Array = np.floor(32767 * np.exp(-d * ratio(scale, 1.0)) + 0.5).astype(np.int16)
    made.flags.writeable = False
    return made


@parallel
def _exponentials(x: Array, table: Array, y: Array) -> None:
    m, n = x.shape
    for r in prange(m):
        row, to, largest = x[r], y[r], np.int16(-32768)
        for c in range(n):
            largest = row[c] if row[c] > largest else largest
        for c in range(n):
            to[c] = table[np.uint64(np.int32(largest) - row[c])]


def row_sums(a: Array) -> Array:
    """Exact sums of the rows of INT16 ``a`` [m, k], int64 [m]."""
    sums = np.empty(len(a), np.int64)
    use_threads(a.size)
    _row_sums(np.ascontiguousarray(a), sums)
    return sums


@parallel
def _row_sums(a: Array, sums: Array) -> None:
    m, k = a.shape
    for r in prange(m):
        row, total = a[r], np.int64(0)
        for c in range(k):
            total += row[c]
        sums[r] = total


def divide_by_row_sums(total: Array, sums: Array, m: float) -> Array:
    """clamp(total * m / sums), half up, INT16; int64 ``total`` [rows, n] and ``sums`` [rows].

    m becomes a 15-bit factor and a shift as in requantization; the division is exact.
    """
    scale = multipliers(m)
    factor, shift = int(scale.factors[0]), int(scale.shifts[0])
    result = np.empty(total.shape, np.int16)
    use_threads(8 * total.size)
    _divide(np.ascontiguousarray(total), np.ascontiguousarray(sums), factor, shift, result)
    return result


@parallel
def _divide(total: Array, sums: Array, factor: int, shift: int, y: Array) -> None:
    m, n = total.shape
    for r in prange(m):
        divisor = max(np.int64(sums[r]), np.int64(1))
        # Below one half of the divisor everything is zero: 2^61 stands for all larger divisors.
        for _ in range(max(shift, 0)):
            divisor = min(divisor * 2, np.int64(1) << 61)
        for c in range(n):
            product = total[r, c] * factor
            for _ in range(max(-shift, 0)):
                product = min(max(product * 2, -(np.int64(1) << 61)), np.int64(1) << 61)
            value = (product + (divisor >> 1)) // divisor
            y[r, c] = min(max(value, -32768), 32767)
