"""Exact integer GEMM on 16-bit multiply-adds, with the epilogue of an accumulator fused.

Rows are given indirectly: row m is ``taps`` runs of consecutive INT16 values, each at an element
offset from a base address (-1: a run of zeros). A matrix has one tap; a convolution has one per
kernel element and needs no im2col copy (Dukhan, "The Indirect Convolution Algorithm", 2019).
Weights are packed once a call into panels of 16 columns. INT16 weights become two planes of 8 bits,
b = 256 * high + low with low in [-128, 127], so that every INT32 partial sum of 510 terms is exact.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.madd import COLUMNS, MAX_TERMS, ROWS, multiply_add_tile
from edgefusion.runtime.kernels.parallel import parallel
from edgefusion.runtime.kernels.requantize import requantize, requantize_wide

BLOCK_TILES = 8  # micro-tiles that share a panel of weights while it is in the L1 cache
PANELS_PER_TASK = 4

REQUANTIZE, STORE, ADD = 0, 1, 2
"""What becomes of an accumulator: an INT16 activation, a raw int64, or added to a raw int64."""

FLOAT, NARROW, WIDE = 0, 1, 2
"""How it is requantized: in float64 where that is exact, with 15-bit factors, with longer ones."""

FLOAT_ACC_BITS, FLOAT_SHIFT = 37, 53
"""FLOAT is exact for |acc| < 2^37 and shifts <= 53: acc * factor + 2^(shift-1) is below 2^53."""


def pack(weights: Array, run: int) -> Array:
    """``weights`` [taps, k, n] as [planes, panels, taps, pairs, 16, 2].

    ``weights`` are INT8 or INT16 of any strides; ``run`` >= k is even. Beyond k and n are zeros.
    """
    taps, _, n = weights.shape
    planes = 1 if weights.dtype == np.int8 else 2
    shape = (planes, -(-n // COLUMNS), taps, run // 2, COLUMNS, 2)
    packed = np.empty(shape, np.int16)
    _pack_loop(weights, packed)
    return packed


@parallel
def _pack_loop(weights: Array, packed: Array) -> None:
    planes, panels, taps, pairs = packed.shape[:4]
    _, k, n = weights.shape
    for panel in prange(panels):
        for tap in range(taps):
            for i in range(2 * pairs):
                for c in range(COLUMNS):
                    column = panel * COLUMNS + c
                    value = np.int64(0)
                    if i < k and column < n:
                        value = np.int64(weights[tap, i, column])
                    if planes == 1:
                        packed[0, panel, tap, i >> 1, c, i & 1] = value
                    else:
                        high = (value + 128) >> 8
                        packed[0, panel, tap, i >> 1, c, i & 1] = high
                        packed[1, panel, tap, i >> 1, c, i & 1] = value - (high << 8)


@compiled
def _accumulate(
    base: int,
    zeros: int,
    offsets: Array,
    run: int,
    packed: Array,
    panel: int,
    first_row: int,
    rows: int,
    acc: Array,
) -> None:
    """Add rows [first_row, first_row + rows) times one panel to ``acc`` [tiles, 96], int64."""
    planes, taps, pairs = packed.shape[0], packed.shape[2], packed.shape[3]
    at = np.empty(ROWS, np.int64)
    sums = acc.ctypes.data
    chunks = -(-run // MAX_TERMS)
    step = -(-pairs // chunks)
    for plane in range(planes):
        up = 8 * (planes - 1 - plane)
        for tap in range(taps):
            for start in range(0, pairs, step):
                count = min(step, pairs - start)
                weights = packed[plane, panel, tap, start:].ctypes.data
                for tile in range(-(-rows // ROWS)):
                    for r in range(ROWS):
                        # Rows past the end repeat the last one; their sums are not used.
                        offset = offsets[min(first_row + tile * ROWS + r, len(offsets) - 1), tap]
                        at[r] = zeros if offset < 0 else base + 2 * (offset + 2 * start)
                    to = sums + tile * ROWS * COLUMNS * 8
                    multiply_add_tile(
                        to, at[0], at[1], at[2], at[3], at[4], at[5], weights, count, up
                    )


@compiled
def _finish(
    acc: Array,
    bias: Array,
    factors: Array,
    shifts: Array,
    real: Array,
    rounding: int,
    out: Array,
) -> None:
    """Requantize ``acc`` [rows, >= width] into ``out`` [rows, width]; the rest is [width]."""
    rows, width = out.shape
    for r in range(rows):
        if rounding == FLOAT:
            # Floor of an exact float64 is the integer arithmetic, in a quarter of its instructions.
            for c in range(width):
                value = np.floor(np.float64(acc[r, c] + bias[c]) * real[c] + 0.5)
                value = value if value > -32768.0 else -32768.0
                value = value if value < 32767.0 else 32767.0
                out[r, c] = np.int16(np.int32(value))
        elif rounding == NARROW:
            for c in range(width):
                out[r, c] = requantize(acc[r, c] + bias[c], factors[c], shifts[c])
        else:
            for c in range(width):
                out[r, c] = requantize_wide(acc[r, c] + bias[c], factors[c], shifts[c])


@parallel
def multiply(
    base: int,
    zeros: int,
    offsets: Array,
    run: int,
    packed: Array,
    bias: Array,
    factors: Array,
    shifts: Array,
    rounding: int,
    mode: int,
    out: Array,
    raw: Array,
) -> None:
    """``out`` [m, n] INT16 or ``raw`` [m, n] int64, by ``mode``, from ``offsets`` [m, taps].

    ``bias``, ``factors`` and ``shifts`` are int64 [n]. ``rounding``: FLOAT, NARROW or WIDE.
    """
    m, n = len(offsets), len(bias)
    panels = packed.shape[1]
    block = BLOCK_TILES * ROWS
    groups = -(-panels // PANELS_PER_TASK)
    blocks = -(-m // block)
    real = factors * 2.0 ** (-shifts.astype(np.float64))
    for task in prange(blocks * groups):
        first = (task // groups) * block
        rows = min(block, m - first)
        group = (task % groups) * PANELS_PER_TASK
        acc = np.empty((BLOCK_TILES, ROWS * COLUMNS), np.int64)
        flat = acc.reshape(BLOCK_TILES * ROWS, COLUMNS)
        for panel in range(group, min(group + PANELS_PER_TASK, panels)):
            acc[:] = 0
            _accumulate(base, zeros, offsets, run, packed, panel, first, rows, acc)
            left = panel * COLUMNS
            right = min(left + COLUMNS, n)
            last = first + rows
            if mode == STORE:
                raw[first:last, left:right] = flat[:rows, : right - left] + bias[left:right]
            elif mode == ADD:
                raw[first:last, left:right] += flat[:rows, : right - left] + bias[left:right]
            else:
                _finish(
                    flat,
                    bias[left:right],
                    factors[left:right],
                    shifts[left:right],
                    real[left:right],
                    rounding,
                    out[first:last, left:right],
                )
