"""MATMUL on integers: activations times weights, or times activations.

y[b,m,n] <- a[b,m,k], b[b,k,n], [bias[n]], [weight scales[n]], [sums[b,m,n]]. The type of y says
what becomes of the accumulator: INT16 is requantized, int64 keeps the raw sums
(docs/arithmetic.md, section 4).
"""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.errors import InputError, UnsupportedOpError
from edgefusion.runtime.kernels import gemm
from edgefusion.runtime.kernels.contract import Array, Attrs, Operands
from edgefusion.runtime.kernels.requantize import Multipliers, multipliers, ratio
from edgefusion.runtime.kernels.softmax import divide_by_row_sums, row_sums
from edgefusion.runtime.tensor_numbers import ROW_NORMALISED

BIAS_LIMIT = 1 << 46
"""Biases are clamped so that with 2^23 products the accumulator stays in 48 bits."""


def weight_operands(ops: Operands, attrs: Attrs, n: int) -> tuple[Array, Array | None]:
    """(bias int64 [n], weight scales float64 [n] or None) from the operands after the first two.

    A floating bias is brought to int64 steps of s_x * s_w, half to even.
    """
    rest = list(ops.inputs[2 : len(ops.inputs) - attrs["sums"]])
    bias = rest.pop(0).reshape(-1) if attrs["bias"] else np.zeros(n, np.int64)
    scales = rest.pop(0).reshape(-1).astype(np.float64) if rest else None
    if np.issubdtype(bias.dtype, np.floating):
        if scales is None:
            raise InputError("A floating bias needs the scales of its weights.")
        bias = np.rint(bias.astype(np.float64) / (ops.input_scale(0) * scales))
    return np.clip(bias, -BIAS_LIMIT, BIAS_LIMIT).astype(np.int64), scales


def initial_sums(ops: Operands, attrs: Attrs) -> Array | None:
    """What the accumulator of a requantized result starts from, None for zero.

    Raises InputError where the types of the result and of the sums do not belong together.
    """
    y, sums = ops.outputs[0], ops.inputs[-1] if attrs["sums"] else None
    if attrs["accumulate"] and y.dtype != np.int64:
        raise InputError(f"expected an INT64 result to accumulate into, found {y.dtype}")
    if sums is None:
        return None
    if sums.dtype != np.int64 or sums.shape != y.shape or y.dtype == np.int64:
        raise InputError(
            f"expected INT64 sums {y.shape} to finish an INT16 result from, found {sums.dtype} "
            f"{sums.shape} for {y.dtype}"
        )
    return sums


def weight_multipliers(ops: Operands, attrs: Attrs, scales: Array | None) -> Multipliers:
    """s_x * s_w / s_y a channel; s_a * s_b * scale / s_y where both operands are activations."""
    x_scale, y_scale = ops.input_scale(0), ops.output_scale(0)
    if scales is not None:
        return multipliers(x_scale * scales / y_scale)
    return multipliers(ratio(x_scale, ops.input_scale(1), float(attrs["scale"]), y_scale))


def matmul(ops: Operands, attrs: Attrs) -> None:
    """The kernel. A ROW_NORMALISED ``a`` holds exponentials: sums are divided by its rows'.

    A raw y may have one column more than b: it collects the row sums of ``a``, for the COPY that
    divides by them.
    """
    y, a, b = ops.outputs[0], ops.inputs[0], ops.inputs[1]
    sums = initial_sums(ops, attrs)
    batches = y.shape[0] if y.ndim == 3 else 1
    bias, scales = weight_operands(ops, attrs, b.shape[-1])
    for i in range(batches):
        y_i, a_i, b_i = (v[min(i, len(v) - 1)] if v.ndim == 3 else v for v in (y, a, b))
        if y.dtype == np.int64:
            if ops.input_numbers[0] == ROW_NORMALISED and y.shape[-1] == b.shape[-1]:
                raise UnsupportedOpError(
                    f"A raw product {y.shape} of exponentials has no column for their row sums, so "
                    "it could never be normalised. Give its buffer one column more than V."
                )
            _accumulate(y_i, a_i, b_i, add=bool(attrs["accumulate"]))
        elif ops.input_numbers[0] == ROW_NORMALISED:
            if sums is not None:
                raise UnsupportedOpError(
                    "A product of exponentials cannot start from sums: the row sums that it is "
                    "divided by would lack those of the exponentials before. Use COPY."
                )
            total = np.empty(y_i.shape, np.int64)
            gemm.accumulate(gemm.matrix_rows(a_i), b_i[None], total, add=False)
            m = ratio(ops.input_scale(1), ops.output_scale(0))
            y_i[...] = divide_by_row_sums(total, row_sums(a_i), m)
        else:
            dense = y_i if y_i.flags.c_contiguous else np.empty(y_i.shape, np.int16)
            multiplier = weight_multipliers(ops, attrs, scales)
            before = sums[i] if sums is not None and sums.ndim == 3 else sums
            gemm.requantized(gemm.matrix_rows(a_i), b_i[None], bias, multiplier, dense, before)
            if dense is not y_i:
                y_i[...] = dense


def _accumulate(y: Array, a: Array, b: Array, *, add: bool) -> None:
    n = b.shape[1]
    dense = np.ascontiguousarray(y[:, :n])
    gemm.accumulate(gemm.matrix_rows(a), b[None], dense, add=add)
    y[:, :n] = dense
    if y.shape[1] == n + 1:
        y[:, n] = row_sums(a) + (y[:, n] if add else 0)
