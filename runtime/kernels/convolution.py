"""CONV2D on integers: the taps of the kernel as runs of channels of an input tile.

y[h,w,co] <- x[h',w',ci], w[co,ci/g,kh,kw], [bias[co]], [weight scales[co]], [sums[h,w,co]]. The
tile may be padded on any side, and may stand for its nearest-neighbour enlargement by ``upsample``,
of which the first element begins ``upsample_phase`` steps in. An INT64 y keeps the raw sums.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgefusion.runtime.kernels import gemm
from edgefusion.runtime.kernels.contract import Array, Attrs, Operands
from edgefusion.runtime.kernels.matmul import initial_sums, weight_multipliers, weight_operands
from edgefusion.runtime.kernels.requantize import Multipliers, multipliers

NARROW_CHANNELS = 64
"""Below this, a tap is too short to be a run of its own and patches are gathered first."""


def conv2d(ops: Operands, attrs: Attrs) -> None:
    """The kernel."""
    y, x, w = ops.outputs[0], ops.inputs[0], ops.inputs[1]
    channels = w.shape[0]
    groups = int(attrs["groups"])
    raw, add = y.dtype == np.int64, bool(attrs["accumulate"])
    sums = initial_sums(ops, attrs)
    before = None if sums is None else sums.reshape(-1, channels)
    result = np.empty((y.shape[0] * y.shape[1], channels), y.dtype)
    if add:
        result[...] = y.reshape(result.shape)
    bias, scales = weight_operands(ops, attrs, channels)
    scale = multipliers(1.0) if raw else weight_multipliers(ops, attrs, scales)
    positions = tap_positions(
        y.shape[:2],
        x.shape[:2],
        w.shape[2:],
        tuple(attrs["strides"]),
        tuple(attrs["dilations"]),
        tuple(attrs["pads"]),
        int(attrs["upsample"]),
        tuple(attrs["upsample_phase"]),
    )
    width_in, width_out = x.shape[2] // groups, channels // groups
    for g in range(groups):
        inside, outside = (
            slice(g * width_in, (g + 1) * width_in),
            slice(g * width_out, (g + 1) * width_out),
        )
        rows = _rows(x[:, :, inside], positions)
        taps = w[outside].transpose(2, 3, 1, 0).reshape(-1, width_in, width_out)
        if rows.offsets.shape[1] == 1:
            taps = taps.reshape(1, -1, width_out)
        part = scale
        if groups > 1 and len(scale.factors) > 1:
            part = Multipliers(scale.factors[outside], scale.shifts[outside])
        target = result if groups == 1 else np.ascontiguousarray(result[:, outside])
        if raw:
            gemm.accumulate(rows, taps, target, add=add)
        else:
            start = None if before is None else before[:, outside]
            gemm.requantized(rows, taps, np.ascontiguousarray(bias[outside]), part, target, start)
        if groups > 1:
            result[:, outside] = target
    y[...] = result.reshape(y.shape)


def _rows(x: Array, positions: Array) -> gemm.Rows:
    """The runs of channels at ``positions`` [m, taps] of ``x`` [h, w, c]."""
    channels = x.shape[2]
    flat = np.ascontiguousarray(x, dtype=np.int16).reshape(-1, channels)
    taps = positions.shape[1]
    if taps > 1 and channels < NARROW_CHANNELS:
        patches = flat[np.maximum(positions, 0)]
        patches[positions < 0] = 0
        return gemm.matrix_rows(patches.reshape(len(positions), -1))
    if channels % 2:
        flat = np.pad(flat, ((0, 0), (0, 1)))
    run = flat.shape[1]
    offsets = np.where(positions < 0, -1, positions * run)
    return gemm.Rows(flat.reshape(-1), offsets, run)


@lru_cache(maxsize=256)
def tap_positions(
    result: tuple[int, ...],
    tile: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    upsample: int,
    phase: tuple[int, ...],
) -> Array:
    """Which pixel of the [h, w] ``tile`` each tap of each result reads, int64 [m, taps]; -1: none.

    ``pads`` are (top, left, bottom, right), in elements of the enlarged tile.
    """
    axes = []
    for i in (0, 1):
        window = np.arange(kernel[i]) * dilations[i]
        at = np.arange(result[i])[:, None] * strides[i] - pads[i] + window
        extent = (result[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
        inner = extent - pads[i] - pads[i + 2]
        source = (at + phase[i]) // upsample
        axes.append(np.where((at >= 0) & (at < inner) & (source < tile[i]), source, -1))
    rows, columns = axes[0][:, None, :, None], axes[1][None, :, None, :]
    index = np.where((rows < 0) | (columns < 0), -1, rows * tile[1] + columns)
    made: Array = index.reshape(result[0] * result[1], -1).astype(np.int64)
    made.flags.writeable = False
    return made
