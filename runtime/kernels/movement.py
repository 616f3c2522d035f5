"""COPY, RESIZE, POOL and REDUCE on integers (docs/arithmetic.md, section 9)."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.kernels.contract import Array, Attrs, Operands
from edgefusion.runtime.kernels.requantize import (
    Multipliers,
    activation_multiplier,
    multipliers,
    ratio,
    requantize_array,
)
from edgefusion.runtime.kernels.softmax import divide_by_row_sums


def copy(ops: Operands, attrs: Attrs) -> None:
    """y <- x with other strides, another type or another scale.

    int64 sums have the scale of what they add up, ``count`` of them make a mean; with one column
    more than y, that column holds the row sums to divide by.
    """
    x, y = ops.inputs[0], ops.outputs[0]
    if x.dtype == np.int64 and y.dtype == np.int16:
        if x.shape[-1] == y.shape[-1] + 1:
            y[...] = divide_by_row_sums(
                x[:, :-1], x[:, -1], ratio(ops.input_scale(0), ops.output_scale(0))
            )
        else:
            y[...] = requantize_array(x, _mean_multiplier(ops, int(attrs["count"])))
    elif np.issubdtype(y.dtype, np.floating):
        y[...] = (x * ops.input_scale(0)).astype(y.dtype)
    else:
        y[...] = rescaled(x, ops)


def quantize(ops: Operands, attrs: Attrs) -> None:  # noqa: ARG001
    """COPY from FP16 or FP32 to INT16: floor(x / s_y + 1/2), clamped; not a number becomes 0."""
    real = np.nan_to_num(ops.inputs[0].astype(np.float64), posinf=np.inf, neginf=-np.inf)
    steps = np.floor(real / ops.output_scale(0) + 0.5)
    ops.outputs[0][...] = np.clip(steps, -32768, 32767).astype(np.int16)


def rescaled(x: Array, ops: Operands) -> Array:
    """``x``, numbers of the input, as numbers of the output; untouched if they mean the same."""
    if ops.input_numbers[0] == ops.output_numbers[0]:
        return x
    scale = activation_multiplier(ops.input_scale(0), ops.output_scale(0))
    return requantize_array(x.astype(np.int64), scale)


def resize(ops: Operands, attrs: Attrs) -> None:
    """y[h*s,w*s,c] <- x[h,w,c], every element repeated."""
    factor = int(attrs["scale"])
    x = rescaled(ops.inputs[0], ops)
    ops.outputs[0][...] = x.repeat(factor, axis=0).repeat(factor, axis=1)


def pool(ops: Operands, attrs: Attrs) -> None:
    """y[h,w,c] <- the largest or the mean of each window of x; padding never wins a maximum."""
    x, y = ops.inputs[0], ops.outputs[0]
    kernel, strides, pads = (tuple(attrs[name]) for name in ("kernel", "strides", "pads"))
    edges = ((pads[0], pads[2]), (pads[1], pads[3]), (0, 0))

    def windows(values: Array, fill: int) -> Array:
        padded = np.pad(values, edges, constant_values=fill)
        view = sliding_window_view(padded, kernel, axis=(0, 1))
        return view[:: strides[0], :: strides[1]][: y.shape[0], : y.shape[1]]

    if attrs["function"] == "max":
        largest = windows(x.astype(np.int64), -32768).max(axis=(-2, -1))
        y[...] = rescaled(largest.astype(np.int16), ops)
        return
    sums = windows(x.astype(np.int64), 0).sum(axis=(-2, -1))
    inside = windows(np.ones((*x.shape[:2], 1), np.int64), int(attrs["count_include_pad"]))
    counts = np.broadcast_to(inside.sum(axis=(-2, -1)), y.shape)
    for count in np.unique(counts):  # corners and edges of the image divide by less
        here = counts == count
        y[here] = requantize_array(sums[here], _mean_multiplier(ops, int(count)))


def reduce(ops: Operands, attrs: Attrs) -> None:
    """y[m,1] or y[c] <- sum, mean or maximum of x[m,c] along ``axis``.

    Along axis 0 an op may be split among instructions. An INT16 result carries a maximum from one
    to the next; an int64 result carries sums, in steps of x, for COPY to requantize.
    """
    x, y = ops.inputs[0], ops.outputs[0]
    axis, function = int(attrs["axis"]), str(attrs["function"])
    first, last = bool(attrs["first"]), bool(attrs["last"])
    if function == "max":
        largest = rescaled(x.max(axis=axis), ops)
        largest = largest.reshape(y.shape)
        y[...] = largest if first else np.maximum(y, largest)
        return
    sums = x.sum(axis=axis, dtype=np.int64).reshape(y.shape)
    if y.dtype == np.int64:
        y[...] = sums if first else y + sums
        return
    if not (first and last):
        raise UnsupportedOpError(
            f"An INT16 result cannot hold a partial {function}. Collect it in int64 and let COPY "
            "requantize it."
        )
    count = int(attrs["count"]) if function == "mean" else 1
    y[...] = requantize_array(sums, _mean_multiplier(ops, count))


def _mean_multiplier(ops: Operands, count: int) -> Multipliers:
    """s_x / s_y / count."""
    return multipliers(ratio(ops.input_scale(0), ops.output_scale(0)) / count)
