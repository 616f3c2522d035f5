"""FP16 kernels that move or shrink: enlargement, pooling, reduction, copies between layouts.

RESIZE, COPY within a type and POOL max are exact. POOL average sums in FP32 in window order and
rounds once. REDUCE sums in float64; over rows, the result tile carries the partial value in its own
type between tiles, so an FP16 mean or sum of t tiles is rounded t times (``docs/arithmetic_fp16``).
"""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.kernels.contract import Attrs, Operands
from edgefusion.runtime.kernels.fp16_half import F32, put, single
from edgefusion.runtime.kernels.parallel import use_threads


def resize(operands: Operands, attrs: Attrs) -> None:
    """y[h*s,w*s,c] <- x[h,w,c], nearest."""
    (x,), (y,) = operands.inputs, operands.outputs
    factor = int(attrs["scale"])
    for row in range(factor):
        for column in range(factor):
            y[row::factor, column::factor] = x


def copy(operands: Operands, attrs: Attrs) -> None:  # noqa: ARG001
    """y <- x: other strides, or FP32 to FP16 and back."""
    (x,), (y,) = operands.inputs, operands.outputs
    use_threads(y.size)
    if x.dtype == y.dtype:
        np.copyto(y, x)
    else:
        put(y, single(x))


def pool(operands: Operands, attrs: Attrs) -> None:
    """y[h,w,c] <- x[h',w',c]: maximum, or average over the elements inside (or all of the window).

    ``pads`` are top, left, bottom, right.
    """
    (x,), (y,) = operands.inputs, operands.outputs
    function = str(attrs["function"])
    if function not in ("max", "average"):
        raise InputError(f"expected pooling by max or average, found {function!r}")
    (kh, kw), (sh, sw) = attrs["kernel"], attrs["strides"]
    top, left, bottom, right = attrs["pads"]
    use_threads(y.size * kh * kw)
    rows, columns, _ = y.shape
    empty = -np.inf if function == "max" else 0.0
    around = ((top, max(bottom, 0)), (left, max(right, 0)), (0, 0))
    padded = np.pad(single(x), around, constant_values=empty)
    inside = np.pad(np.ones(x.shape[:2], np.float32), around[:2])
    total = np.full(y.shape, empty, np.float32)
    count = np.zeros((rows, columns), np.float32)
    for ky in range(kh):
        for kx in range(kw):
            window = (
                slice(ky, ky + (rows - 1) * sh + 1, sh),
                slice(kx, kx + (columns - 1) * sw + 1, sw),
            )
            if function == "max":
                np.maximum(total, padded[window], out=total)
            else:
                total += padded[window]
                count += inside[window]
    if function == "average":
        divisor = np.float32(kh * kw) if attrs["count_include_pad"] else count[:, :, None]
        total /= divisor
    put(y, total)


def reduce(operands: Operands, attrs: Attrs) -> None:
    """y[m,1] or y[c] <- x[m,c] by ``function`` (mean, sum, max) along ``axis``.

    ``first`` and ``last`` say which part of the rows this is; ``count`` is how many there are in
    all. A mean adds up parts already divided by ``count``, so that partial sums cannot overflow.
    """
    (x,), (y,) = operands.inputs, operands.outputs
    function, axis = str(attrs["function"]), int(attrs["axis"])
    use_threads(x.size)
    wide = single(x)
    if function == "max":
        part: F32 = wide.max(axis=axis)
        before = single(y).reshape(part.shape)
        put(y, (part if attrs["first"] else np.maximum(part, before)).reshape(y.shape))
        return
    if function not in ("mean", "sum"):
        raise InputError(f"expected a reduction by mean, sum or max, found {function!r}")
    total = wide.sum(axis=axis, dtype=np.float64)
    if function == "mean":
        total /= int(attrs["count"])
    if not attrs["first"]:
        total += single(y).reshape(total.shape)
    put(y, total.astype(np.float32).reshape(y.shape))
