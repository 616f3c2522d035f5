"""FP16 softmax and norms: sums in FP32 or float64 within a row, one rounding a result.

SOFTMAX, LAYER_NORM and RMS_NORM work on whole rows, each by itself: tiling cannot show.
CHANNEL_STATS keeps one FP32 chain of additions for each channel and adds rows in ascending order
(squares of FP16 values are exact in FP32), so cutting rows into tiles changes no bit as long as
tiles come in order; tiles narrower than the image add the same values in another order. GROUP_NORM
is ``round16(function(fma-free FP32 of x * scale + shift))`` with scale and shift of a channel
computed in float64 from the sums.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.kernels.contract import Attrs, Operands
from edgefusion.runtime.kernels.fp16_functions import table16
from edgefusion.runtime.kernels.fp16_half import (
    F32,
    U16,
    bits,
    from_bits,
    ieee,
    narrow,
    put_bits,
    single,
    widen,
)
from edgefusion.runtime.kernels.parallel import use_threads

_LANES = 16  # partial sums of a row: one chain would wait for every addition
_STRIP = 64  # channels that a thread sums

_LOG2_E = np.float32(1.44269504)
# ln 2 in two parts: the first has 9 bits, so that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# Coefficients of Cephes' expf (Moshier): (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2.
_C0, _C1, _C2 = (
    np.float32(1.9875691500e-4),
    np.float32(1.3981999507e-3),
    np.float32(8.3334519073e-3),
)
_C3, _C4, _C5 = (
    np.float32(4.1665795894e-2),
    np.float32(1.6666665459e-1),
    np.float32(5.0000001201e-1),
)
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)
_HALF, _ONE = np.float32(0.5), np.float32(1.0)


@ieee(threads=False)
def exp32(x: np.float32) -> np.float32:
    """e^x within 2 ulp of FP32 for -87 <= x <= 88; beyond, the value at the end; NaN stays.

    Without branches, so that LLVM makes vectors of it.
    """
    bounded = min(max(x, _LOWEST), _HIGHEST)
    n = np.floor(bounded * _LOG2_E + _HALF)
    r = bounded - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5
    power = from_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    return x if x != x else (p * r * r + r + _ONE) * power


@ieee(threads=False)
def silu32(x: np.float32) -> np.float32:
    """x / (1 + e^-x) in FP32."""
    return x / (_ONE + exp32(-x))


@ieee(threads=True)
def _softmax_rows(x: U16, y: U16) -> None:
    m, n = x.shape
    for i in prange(m):
        row, out = x[i], y[i]
        peaks = np.full(_LANES, -np.inf, np.float32)
        sums = np.zeros(_LANES, np.float32)
        powers = np.empty(n, np.float32)
        whole = n - n % _LANES
        for j in range(0, whole, _LANES):
            for lane in range(_LANES):
                value = widen(row[j + lane])
                peaks[lane] = value if value > peaks[lane] else peaks[lane]
        for j in range(whole, n):
            peaks[0] = max(peaks[0], widen(row[j]))
        peak = peaks.max()
        for j in range(n):
            powers[j] = exp32(widen(row[j]) - peak)
        for j in range(0, whole, _LANES):
            for lane in range(_LANES):
                sums[lane] += powers[j + lane]
        for j in range(whole, n):
            sums[0] += powers[j]
        total = np.float32(0)
        for lane in range(_LANES):
            total += sums[lane]
        for j in range(n):
            out[j] = narrow(powers[j] / total)


def softmax(operands: Operands, attrs: Attrs) -> None:  # noqa: ARG001
    """y[..,n] <- x[..,n], along the last axis: e^(x - max) / sum, the sum in 16 FP32 chains."""
    (x,), (y,) = operands.inputs, operands.outputs
    source = bits(x).reshape(-1, x.shape[-1])
    use_threads(x.size)
    made = np.empty_like(source)
    _softmax_rows(source, made)
    put_bits(y, made.reshape(y.shape))


@ieee(threads=True)
def _layer_norm_rows(x: U16, gamma: F32, beta: F32, epsilon: float, y: U16) -> None:
    m, n = x.shape
    for i in prange(m):
        row, out = x[i], y[i]
        total = 0.0
        for j in range(n):
            total += widen(row[j])
        mean = total / n
        total = 0.0
        for j in range(n):
            total += (widen(row[j]) - mean) ** 2
        factor = np.float32(1.0 / np.sqrt(total / n + epsilon))
        middle = np.float32(mean)
        for j in range(n):
            out[j] = narrow((widen(row[j]) - middle) * factor * gamma[j] + beta[j])


def layer_norm(operands: Operands, attrs: Attrs) -> None:
    """y[m,c] <- x[m,c], gamma[c], [beta[c]]; moments in float64, the rest in FP32."""
    x, gamma, *rest = operands.inputs
    (y,) = operands.outputs
    shift = single(rest[0]) if rest else np.zeros(x.shape[-1], np.float32)
    source = bits(x).reshape(-1, x.shape[-1])
    use_threads(x.size)
    made = np.empty_like(source)
    _layer_norm_rows(
        source,
        np.ascontiguousarray(single(gamma)),
        np.ascontiguousarray(shift),
        float(attrs["epsilon"]),
        made,
    )
    put_bits(y, made.reshape(y.shape))


@ieee(threads=True)
def _rms_norm_rows(x: U16, gamma: F32, epsilon: float, y: U16) -> None:
    m, n = x.shape
    for i in prange(m):
        row, out = x[i], y[i]
        total = 0.0
        for j in range(n):
            total += widen(row[j]) ** 2
        factor = np.float32(1.0 / np.sqrt(total / n + epsilon))
        for j in range(n):
            out[j] = narrow(widen(row[j]) * factor * gamma[j])


def rms_norm(operands: Operands, attrs: Attrs) -> None:
    """y[m,c] <- x[m,c], gamma[c]; the mean square in float64, the rest in FP32."""
    x, gamma = operands.inputs
    (y,) = operands.outputs
    source = bits(x).reshape(-1, x.shape[-1])
    use_threads(x.size)
    made = np.empty_like(source)
    weights = np.ascontiguousarray(single(gamma))
    _rms_norm_rows(source, weights, float(attrs["epsilon"]), made)
    put_bits(y, made.reshape(y.shape))


@ieee(threads=True)
def _add_rows(x: U16, sums: F32, squares: F32) -> None:
    m, n = x.shape
    for strip in prange((n + _STRIP - 1) // _STRIP):
        left, right = strip * _STRIP, min(n, (strip + 1) * _STRIP)
        total, square = sums[left:right], squares[left:right]
        four = m - m % 4
        for i in range(0, four, 4):  # four rows while the sums are in registers, still in order
            r0, r1 = x[i, left:right], x[i + 1, left:right]
            r2, r3 = x[i + 2, left:right], x[i + 3, left:right]
            for j in range(right - left):
                v0, v1, v2, v3 = widen(r0[j]), widen(r1[j]), widen(r2[j]), widen(r3[j])
                total[j] = (((total[j] + v0) + v1) + v2) + v3
                square[j] = (((square[j] + v0 * v0) + v1 * v1) + v2 * v2) + v3 * v3
        for i in range(four, m):
            row = x[i, left:right]
            for j in range(right - left):
                value = widen(row[j])
                total[j] += value
                square[j] += value * value


def channel_stats(operands: Operands, attrs: Attrs) -> None:
    """acc[2,c] (sums, sums of squares; FP32) += those of x[m,c]; ``first`` clears acc."""
    (x,), (acc,) = operands.inputs, operands.outputs
    if acc.dtype != np.float32:
        raise InputError(f"expected FP32 statistics, found {acc.dtype}")
    total = np.zeros(acc.shape, np.float32) if attrs["first"] else np.ascontiguousarray(acc)
    if total is acc:
        total = acc.copy()
    use_threads(x.size)
    _add_rows(bits(x), total[0], total[1])
    np.copyto(acc, total)


@ieee(threads=True)
def _scale_rows(x: U16, scale: F32, shift: F32, smooth: bool, y: U16) -> None:
    m, n = x.shape
    for i in prange(m):
        row, out = x[i], y[i]
        if smooth:
            for j in range(n):
                out[j] = narrow(silu32(widen(row[j]) * scale[j] + shift[j]))
        else:
            for j in range(n):
                out[j] = narrow(widen(row[j]) * scale[j] + shift[j])


def group_norm(operands: Operands, attrs: Attrs) -> None:
    """y[m,c] <- x[m,c], stats[2,c], gamma[c], beta[c].

    ``rows`` elements a channel went into the statistics; ``groups`` of consecutive channels share
    mean and variance. ``function`` is '' or 'silu' (in FP32, before the one rounding) or another
    activation (of the rounded value, rounded again).
    """
    x, stats, gamma, beta = operands.inputs
    (y,) = operands.outputs
    groups, channels = int(attrs["groups"]), x.shape[1]
    sums = stats.astype(np.float64).reshape(2, groups, channels // groups).sum(axis=2)
    mean, square = sums / (float(attrs["rows"]) * (channels // groups))
    variance = np.maximum(square - mean**2, 0.0)
    deviation = 1.0 / np.sqrt(variance + float(attrs["epsilon"]))
    wide = [np.repeat(v, channels // groups) for v in (mean, deviation)]
    scale = wide[1] * single(gamma)
    shift = single(beta) - wide[0] * scale
    function = str(attrs["function"])
    source = bits(x)
    use_threads(x.size)
    made = np.empty_like(source)
    _scale_rows(
        source, scale.astype(np.float32), shift.astype(np.float32), function == "silu", made
    )
    if function not in ("", "silu"):
        made = table16(function)[made]
    put_bits(y, made)
