"""CHANNEL_STATS and the norms on integers (docs/arithmetic.md, section 8)."""

from __future__ import annotations

import numpy as np
from numba import prange

from edgefusion.runtime.kernels.contract import Array, Attrs, Operands
from edgefusion.runtime.kernels.elementwise import look_up
from edgefusion.runtime.kernels.lookup import lookup
from edgefusion.runtime.kernels.norm_arithmetic import (
    SEEDS,
    channel_constants,
    epsilon_term,
    mean_fixed,
    reciprocal_sqrt,
    scale_and_shift,
    variance_sum,
)
from edgefusion.runtime.kernels.parallel import parallel, use_threads

SMALLEST_INNER_RANGE = 12.0
"""Before an activation function a normalised value keeps at least this range: silu(-12) = -7e-5."""

_COLUMN_BLOCK = 32


def channel_stats(ops: Operands, attrs: Attrs) -> None:
    """acc[2,c] gains sums and sums of squares of the columns of x[m,c]; exact."""
    x, acc = ops.inputs[0], ops.outputs[0]
    sums = np.empty(acc.shape, np.int64)
    use_threads(2 * x.size)
    _column_sums(np.ascontiguousarray(x), sums)
    if attrs["first"]:
        acc[...] = sums
    else:
        acc += sums


@parallel
def _column_sums(x: Array, sums: Array) -> None:
    rows, columns = x.shape
    for block in prange(-(-columns // _COLUMN_BLOCK)):
        first = block * _COLUMN_BLOCK
        last = min(first + _COLUMN_BLOCK, columns)
        sums[:, first:last] = 0
        for r in range(rows):
            for c in range(first, last):
                value = np.int64(x[r, c])
                sums[0, c] += value
                sums[1, c] += value * value


def group_norm(ops: Operands, attrs: Attrs) -> None:
    """y[m,c] <- f((x - mean) / sigma * gamma + beta), sums of whole groups from stats[2,c].

    The instruction may hold some rows (``rows`` is the number behind the sums) and whole groups.
    """
    x, stats, gamma, beta = ops.inputs
    y = ops.outputs[0]
    groups, name = int(attrs["groups"]), str(attrs["function"])
    channels = x.shape[1]
    count = int(attrs["rows"]) * (channels // groups)
    x_scale, y_scale = ops.input_scale(0), ops.output_scale(0)
    inner_scale = max(y_scale, SMALLEST_INNER_RANGE / 32767) if name else y_scale
    constants = channel_constants(gamma.reshape(-1), beta.reshape(-1), count, inner_scale)
    means, multipliers, shifts = _group_multipliers(
        np.ascontiguousarray(stats),
        groups,
        count,
        epsilon_term(float(attrs["epsilon"]), count, x_scale),
        constants.gamma,
        constants.gamma_exponent,
    )
    result = np.empty(x.shape, np.int16)
    use_threads(4 * x.size)
    _affine_rows(np.ascontiguousarray(x), means, multipliers, shifts, constants.beta, result)
    y[...] = look_up(result, lookup(name, inner_scale, y_scale)) if name else result


def _group_multipliers(
    stats: Array, groups: int, count: int, epsilon: int, gamma: Array, exponent: Array
) -> tuple[Array, Array, Array]:
    """(means, multipliers, shifts), int64 [c], from the sums of the channels."""
    channels = stats.shape[1]
    totals = stats.reshape(2, groups, channels // groups).sum(axis=2)
    made = np.empty((3, channels), np.int64)
    for g in range(groups):
        total, squares = int(totals[0, g]), int(totals[1, g])
        width = channels // groups
        where = slice(g * width, (g + 1) * width)
        r, k = reciprocal_sqrt(variance_sum(total, squares, count) + epsilon, SEEDS)
        made[0, where] = mean_fixed(total, count)
        made[1, where] = (gamma[where] * r + (1 << 30)) >> 31
        made[2, where] = 44 + k - exponent[where]
    return made[0], made[1], made[2]


@parallel
def _affine_rows(
    x: Array, means: Array, multipliers: Array, shifts: Array, beta: Array, y: Array
) -> None:
    rows, columns = x.shape
    for r in prange(rows):
        for c in range(columns):
            y[r, c] = scale_and_shift(
                np.int64(x[r, c]), means[c], multipliers[c], shifts[c], beta[c]
            )


def layer_norm(ops: Operands, attrs: Attrs) -> None:
    """y[m,c] <- (x - mean) / sigma * gamma + beta along each row."""
    x, gamma = ops.inputs[0], ops.inputs[1].reshape(-1)
    beta = ops.inputs[2].reshape(-1) if attrs["beta"] else None
    count = x.shape[-1]
    rows = np.ascontiguousarray(x).reshape(-1, count)
    constants = channel_constants(gamma, beta, count, ops.output_scale(0))
    result = np.empty(rows.shape, np.int16)
    use_threads(6 * rows.size)
    _layer_norm_rows(
        rows,
        epsilon_term(float(attrs["epsilon"]), count, ops.input_scale(0)),
        constants.gamma,
        constants.gamma_exponent,
        constants.beta,
        SEEDS,
        result,
    )
    ops.outputs[0][...] = result.reshape(x.shape)


@parallel
def _layer_norm_rows(
    x: Array, epsilon: int, gamma: Array, exponent: Array, beta: Array, seeds: Array, y: Array
) -> None:
    rows, count = x.shape
    for i in prange(rows):
        total, squares = np.int64(0), np.int64(0)
        for c in range(count):
            value = np.int64(x[i, c])
            total += value
            squares += value * value
        r, k = reciprocal_sqrt(variance_sum(total, squares, count) + epsilon, seeds)
        mean = mean_fixed(total, count)
        for c in range(count):
            multiplier = (gamma[c] * r + (np.int64(1) << 30)) >> 31
            shift = 44 + k - exponent[c]
            y[i, c] = scale_and_shift(np.int64(x[i, c]), mean, multiplier, shift, beta[c])


def rms_norm(ops: Operands, attrs: Attrs) -> None:
    """y[m,c] <- x / sqrt(mean(x^2) + epsilon) * gamma along each row."""
    x, gamma = ops.inputs[0], ops.inputs[1].reshape(-1)
    count = x.shape[-1]
    rows = np.ascontiguousarray(x).reshape(-1, count)
    constants = channel_constants(gamma, None, count, ops.output_scale(0))
    result = np.empty(rows.shape, np.int16)
    use_threads(6 * rows.size)
    _rms_norm_rows(
        rows,
        epsilon_term(float(attrs["epsilon"]), count, ops.input_scale(0)),
        constants.gamma,
        constants.gamma_exponent,
        SEEDS,
        result,
    )
    ops.outputs[0][...] = result.reshape(x.shape)


@parallel
def _rms_norm_rows(
    x: Array, epsilon: int, gamma: Array, exponent: Array, seeds: Array, y: Array
) -> None:
    rows, count = x.shape
    nothing = np.int64(0)
    for i in prange(rows):
        squares = np.int64(0)
        for c in range(count):
            value = np.int64(x[i, c])
            squares += value * value
        r, k = reciprocal_sqrt(variance_sum(nothing, squares, count) + epsilon, seeds)
        for c in range(count):
            multiplier = (gamma[c] * r + (np.int64(1) << 30)) >> 31
            shift = 44 + k - exponent[c]
            y[i, c] = scale_and_shift(np.int64(x[i, c]), nothing, multiplier, shift, nothing)
