"""Exact integer products: which way, and one call for convolutions and matmuls.

``multiply_add`` (AVX2, ``gemm_madd``) where the CPU has it and a self-test agrees; otherwise
``float64``: BLAS, exact because no sum reaches 2^53. Both give the same integers; only speed
differs (benchmarks/kernel_speed.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import as_strided

from edgefusion.runtime.kernels import gemm_madd, madd
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.parallel import CORES, use_threads
from edgefusion.runtime.kernels.requantize import Multipliers, multipliers, requantize_array

_FLOAT_ROWS = 512


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The left operand: row m is ``offsets.shape[1]`` runs of ``run`` values of ``values``.

    ``values`` is INT16, 1-D, contiguous; ``offsets`` [m, taps] are element offsets, -1 for a run of
    zeros; ``run`` is even and may exceed the reduction by one, whose weight is then zero.
    """

    values: Array
    offsets: Array
    run: int


def matrix_rows(a: Array) -> Rows:
    """The rows of ``a`` [m, k], INT16."""
    m, k = a.shape
    run = k + k % 2
    if k % 2:
        a = np.pad(a, ((0, 0), (0, 1)))
    values = np.ascontiguousarray(a, dtype=np.int16).reshape(-1)
    return Rows(values, (np.arange(m, dtype=np.int64) * run)[:, None], run)


def accumulate(rows: Rows, weights: Array, total: Array, *, add: bool) -> None:
    """``total`` [m, n] int64, contiguous, becomes or gains ``rows`` x ``weights`` [taps, k, n]."""
    n = weights.shape[2]
    none = np.zeros(n, np.int64)
    if strategy() == "float64":
        product = _float_product(rows, weights)
        np.add(total, product, out=total) if add else np.copyto(total, product)
        return
    mode = gemm_madd.ADD if add else gemm_madd.STORE
    _run(rows, weights, none, multipliers(1.0), mode, _NO_OUT, total)


def requantized(
    rows: Rows,
    weights: Array,
    bias: Array,
    scale: Multipliers,
    y: Array,
    sums: Array | None = None,
) -> None:
    """``y`` [m, n] INT16, contiguous <- clamp((sums + rows x weights + bias) * scale).

    ``weights`` are INT8 or INT16 [taps, k, n], ``bias`` int64 [n], ``sums`` int64 [m, n] of the
    parts of the reduction that came before.
    """
    if sums is not None:
        total = np.array(sums, np.int64, order="C")
        accumulate(rows, weights, total, add=True)
        y[...] = requantize_array(total + bias, scale)
        return
    if strategy() == "float64":
        y[...] = requantize_array(_float_product(rows, weights) + bias, scale)
        return
    _run(rows, weights, bias, scale, gemm_madd.REQUANTIZE, y, _NO_RAW)


_NO_OUT = np.empty((1, 1), np.int16)
_NO_RAW = np.empty((1, 1), np.int64)


def _run(
    rows: Rows,
    weights: Array,
    bias: Array,
    scale: Multipliers,
    mode: int,
    out: Array,
    raw: Array,
) -> None:
    taps, k, n = weights.shape
    use_threads(len(rows.offsets) * weights.size)
    zeros = np.zeros(rows.run, np.int16)
    largest = taps * k * (1 << (22 if weights.dtype == np.int8 else 30))
    flat, strides = _flat(weights)
    gemm_madd.multiply(
        rows.values.ctypes.data,
        zeros.ctypes.data,
        rows.offsets,
        rows.run,
        flat,
        strides,
        k,
        gemm_madd.block_rows(len(rows.offsets), n, CORES),
        bias,
        np.broadcast_to(scale.factors, n).copy(),
        np.broadcast_to(scale.shifts, n).copy(),
        _float_is_exact(largest, bias, scale),
        mode,
        out,
        raw,
    )


def _flat(values: Array) -> tuple[Array, tuple[int, int, int]]:
    """The memory from the first element of 3-D ``values`` to the last as 1-D, and its strides."""
    first, second, third = (s // values.itemsize for s in values.strides)
    strides = (first, second, third)
    reach = 1 + sum(s * (n - 1) for s, n in zip(strides, values.shape, strict=True))
    return as_strided(values, (reach,), (values.itemsize,), writeable=False), strides


def _float_is_exact(largest: int, bias: Array, scale: Multipliers) -> bool:
    """Whether float64 requantizes sums of products exactly that are at most ``largest``."""
    largest += int(np.abs(bias).max(initial=0))
    fits = largest < 1 << gemm_madd.FLOAT_ACC_BITS
    return fits and bool(np.all(scale.shifts <= gemm_madd.FLOAT_SHIFT))


def _float_product(rows: Rows, weights: Array) -> Array:
    """The product in float64: |sum| <= k * 2^30 < 2^53 for every k below 2^23."""
    taps, k, n = weights.shape
    padded = np.zeros((taps, rows.run, n))
    padded[:, :k] = weights
    right = padded.reshape(taps * rows.run, n)
    m = len(rows.offsets)
    result = np.empty((m, n), np.int64)
    reach = np.arange(rows.run)
    for start in range(0, m, _FLOAT_ROWS):
        offsets = rows.offsets[start : start + _FLOAT_ROWS]
        left = rows.values[np.maximum(offsets, 0)[:, :, None] + reach].astype(np.float64)
        left[offsets < 0] = 0
        result[start : start + _FLOAT_ROWS] = left.reshape(len(offsets), -1) @ right
    return result


@cache
def strategy() -> str:
    """``multiply_add`` or ``float64``: the fastest that computes extreme operands exactly here."""
    return "multiply_add" if madd.is_available() and _self_test() else "float64"


def _self_test() -> bool:
    """Extreme values, both weight types, more than one INT32 block, ragged edges."""
    k = 2 * madd.MAX_TERMS + 4
    a = np.full((madd.ROWS + 1, k), -32768, np.int16)
    a[1::2] = 32767
    rows = matrix_rows(a)
    for low, high, dtype in ((-127, 127, np.int8), (-32768, 32767, np.int16)):
        b = np.full((1, k, madd.COLUMNS + 1), low, dtype)
        b[:, :, 1::2] = high
        total = np.zeros((len(a), b.shape[2]), np.int64)
        _run(
            rows, b, np.zeros(b.shape[2], np.int64), multipliers(1.0), gemm_madd.ADD, _NO_OUT, total
        )
        if not np.array_equal(total, a.astype(np.int64) @ b[0].astype(np.int64)):
            return False
    return True
