"""FP16 convolution and matrix product: exact products, one FP32 chain a result, one rounding.

A result is ``round16(round32(round32(chain * scale) + bias))``, where ``chain`` starts at zero and
adds the products by fused multiply-adds in the order kernel row, kernel column, input channel
(reduction index for MATMUL). Padding contributes products of zero. Steps that an instruction does
not have are left out. The chain goes on from the FP32 value in the result (``accumulate``) or in an
operand (``sums``), so that splitting the reduction in this order changes no bit. Neither does any
other tiling.
"""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.kernels.contract import Array, Attrs, Operands
from edgefusion.runtime.kernels.fp16_fma import COLUMNS
from edgefusion.runtime.kernels.fp16_gemm import I64, multiply, pack_weights
from edgefusion.runtime.kernels.fp16_half import F32, bits, padded, put, single
from edgefusion.runtime.kernels.parallel import use_threads

_ONE_TAP = np.zeros(1, np.int64)


def conv2d(operands: Operands, attrs: Attrs) -> None:
    """y[h,w,co] <- x[h',w',ci], w[co,ci/g,kh,kw], [bias[co]], [sums[h,w,co]].

    ``pads`` (top, left, bottom, right) are zeros around the input after enlargement by ``upsample``
    (nearest), of which ``upsample_phase`` rows and columns are skipped.
    """
    x, w, *bias = operands.inputs
    (y,) = operands.outputs
    groups = int(attrs["groups"])
    rows, columns, channels = y.shape
    co, ci, kh, kw = w.shape
    if channels != co or x.shape[2] != ci * groups:
        raise InputError(f"expected weights for {x.shape} -> {y.shape}, found {w.shape}")
    use_threads(y.size * ci * kh * kw // COLUMNS)
    stride, dilation = _pair(attrs, "strides"), _pair(attrs, "dilations")
    values = _surrounded(x, y.shape, (kh, kw), attrs)
    step = np.array(values.strides, dtype=np.int64) // values.itemsize
    starts = (
        np.arange(rows, dtype=np.int64)[:, None] * (stride[0] * step[0])
        + np.arange(columns, dtype=np.int64) * (stride[1] * step[1])
    ).reshape(-1)
    # A kernel row over all channels is one run of memory.
    whole = groups == 1 and dilation[1] == 1
    down = np.arange(kh, dtype=np.int64) * (dilation[0] * step[0])
    across = np.arange(1 if whole else kw, dtype=np.int64) * (dilation[1] * step[1])
    taps = (down[:, None] + across).reshape(-1)
    run = kw * ci if whole else ci
    result, goes_on = _chains(y, operands, attrs)
    result = result.reshape(rows * columns, channels)
    source = bits(w).reshape(-1)
    per_group = co // groups
    for group in range(groups):
        packed = pack_weights(
            source[group * per_group * ci * kh * kw :],
            np.array([kw, 1, kh * kw, ci * kh * kw]),
            np.array([kh, kw, ci]),
            per_group,
        )
        outside = slice(group * per_group, (group + 1) * per_group)
        part = result if groups == 1 else np.ascontiguousarray(result[:, outside])
        multiply(values.reshape(-1), starts + group * ci, taps, run, packed, goes_on, part)
        if part is not result:
            result[:, outside] = part
    _finish(y, result, bias, attrs)


def _surrounded(x: Array, result: tuple[int, ...], kernel: tuple[int, int], attrs: Attrs) -> F32:
    """``x`` enlarged and surrounded by zeros, FP32: just what the windows of the result cover."""
    top, left, bottom, right = attrs["pads"]
    strides, dilations = _pair(attrs, "strides"), _pair(attrs, "dilations")
    spans = [
        (result[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        for axis in (0, 1)
    ]
    factor = int(attrs["upsample"])
    if factor > 1:
        phases = attrs["upsample_phase"]
        kept = (spans[0] - top - bottom, spans[1] - left - right)
        picks = [(np.arange(n) + phase) // factor for n, phase in zip(kept, phases, strict=True)]
        if any(len(p) and p[-1] >= n for p, n in zip(picks, x.shape[:2], strict=True)):
            raise InputError(f"expected windows within the input {x.shape}, found {spans}")
        x = x[picks[0]][:, picks[1]]
    return padded(x, (spans[0], spans[1]), top, left)


def matmul(operands: Operands, attrs: Attrs) -> None:
    """y[..,m,n] <- a[..,m,k], b[..,k,n] (any strides), [bias[n]], [sums[..,m,n]]; scale.

    FP32 results are stored without rounding; ``accumulate`` needs them.
    """
    a, b, *bias = operands.inputs
    (y,) = operands.outputs
    chains, goes_on = _chains(y, operands, attrs)
    for index in np.ndindex(y.shape[:-2]):
        _matrix_product(a[index], b[index], chains[index], goes_on)
    _finish(y, chains, bias, attrs)


def _chains(y: Array, operands: Operands, attrs: Attrs) -> tuple[F32, bool]:
    """FP32 [y's shape] for the chains, and whether they go on from the values that it holds.

    Raises InputError where the types of the result and of the sums do not belong together.
    """
    if attrs["sums"]:
        sums = operands.inputs[-1]
        if sums.dtype != np.float32 or sums.shape != y.shape or attrs["accumulate"]:
            raise InputError(
                f"expected FP32 sums {y.shape} and no accumulation, found {sums.dtype} {sums.shape}"
            )
        return np.array(sums, np.float32, order="C"), True
    if not attrs["accumulate"]:
        return np.empty(y.shape, np.float32), False
    if y.dtype != np.float32:
        raise InputError(f"expected an FP32 result to accumulate into, found {y.dtype}")
    return np.array(y, np.float32, order="C"), True


def _matrix_product(a: Array, b: Array, result: F32, goes_on: bool) -> None:
    (m, k), n = a.shape, b.shape[1]
    if b.shape[0] != k or result.shape != (m, n):
        raise InputError(f"expected [m,k] x [k,n] -> [m,n], found {a.shape} x {b.shape}")
    use_threads(result.size * k // COLUMNS)
    packed = _pack_matrix(b)
    starts: I64 = np.arange(m, dtype=np.int64) * k
    values = np.ascontiguousarray(single(a)).reshape(-1)
    multiply(values, starts, _ONE_TAP, k, packed, goes_on, result)


def _pack_matrix(b: Array) -> F32:
    k, n = b.shape
    turned = b.strides[0] < b.strides[1]  # columns lie dense: a transposed view
    source = bits(b.T if turned else b).reshape(-1)
    strides = (0, 0, 1, k) if turned else (0, 0, n, 1)
    return pack_weights(source, np.array(strides), np.array([1, 1, k]), n)


def _finish(y: Array, result: F32, bias: list[Array], attrs: Attrs) -> None:
    scale = np.float32(attrs["scale"])
    if scale != 1.0:
        result *= scale
    if attrs["bias"]:
        result += single(bias[0])
    put(y, result.reshape(y.shape))


def _pair(attrs: Attrs, name: str) -> tuple[int, int]:
    first, second = attrs[name]
    return int(first), int(second)
