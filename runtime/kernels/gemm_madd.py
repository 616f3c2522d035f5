"""Exact integer GEMM on 16-bit multiply-adds, with the epilogue of an accumulator fused.

Rows are given indirectly: row m is ``taps`` runs of consecutive INT16 values, each at an element
offset from a base address (-1: a run of zeros). A matrix has one tap; a convolution has one per
kernel element and needs no im2col copy (Dukhan, "The Indirect Convolution Algorithm", 2019).
A task is a block of rows for four panels of 16 columns; it packs 510 terms of a panel at a time, a
size that stays in the L1 cache while rows pass by. INT16 weights become two planes of 8 bits,
b = 256 * high + low with low in [-128, 127], so that every INT32 partial sum of 510 terms is exact.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.kernels.madd import COLUMNS, MAX_TERMS, ROWS, multiply_add_tile
from edgefusion.runtime.kernels.parallel import parallel
from edgefusion.runtime.kernels.requantize import Word, requantize

GROUP_PANELS = 4
"""Panels of one task, packed together: 64 KiB."""

BLOCK_ROWS = 512
"""Rows of one task at most: their float64 sums and the weights fit an L2 cache of 512 KiB."""

NEAR_TILES = 8
"""Micro-tiles of rows that meet all panels of a group while they are near."""

REQUANTIZE, STORE, ADD = 0, 1, 2
"""What becomes of an accumulator: an INT16 activation, a raw int64, or added to a raw int64."""

FLOAT_ACC_BITS, FLOAT_SHIFT = 37, 53
"""Requantizing in float64 is exact for |acc| < 2^37 and shifts <= 53: acc * factor + 2^(shift-1) is
below 2^53."""


@compiled
def _part(value: Word, plane: int) -> Word:
    """``value`` itself (plane 0), or the high (1) or low (2) part of 16 bits."""
    high = (np.int32(value) + 128) >> 8
    if plane == 1:
        return high
    return np.int32(value) - (high << 8) * (plane >> 1)


@compiled
def _pack(
    weights: Array,
    strides: tuple[int, int],
    first: int,
    terms: int,
    columns: int,
    plane: int,
    packed: Array,
) -> None:
    """INT32 ``packed`` [pairs, 16] <- pairs of the ``terms`` x ``columns`` weights from ``first``.

    ``strides`` are those of the reduction and of the columns, in elements of 1-D ``weights``. What
    lies beyond becomes zero; the first of a pair is the lower half of its word.
    """
    down, across = strides
    if columns < COLUMNS or terms < 2 * len(packed):
        packed[:] = 0
    if across == 1:
        for i in range(terms >> 1):
            at = first + 2 * i * down
            upper, lower = weights[at : at + columns], weights[at + down : at + down + columns]
            words = packed[i]
            for c in range(columns):
                low, high = _part(upper[c], plane), _part(lower[c], plane)
                words[c] = (low & 0xFFFF) | (high << 16)
    else:
        for c in range(columns):
            for i in range(terms >> 1):
                at = first + c * across + 2 * i * down
                low, high = _part(weights[at], plane), _part(weights[at + down], plane)
                packed[i, c] = (low & 0xFFFF) | (high << 16)
    if terms & 1:
        for c in range(columns):
            last = weights[first + c * across + (terms - 1) * down]
            packed[terms >> 1, c] = _part(last, plane) & 0xFFFF


@compiled
def _finish(
    acc: Array,
    rows: int,
    columns: int,
    bias: Array,
    factors: Array,
    shifts: Array,
    real_bias: Array,
    real: Array,
    in_float: bool,
    out: Array,
    first: int,
    left: int,
) -> None:
    """Requantize float64 ``acc`` into ``rows`` x ``columns`` of ``out`` from [first, left] on."""
    right = left + columns
    # Slices and plain ranges: an index that could be negative would keep the loops from vectors.
    bias, factors, shifts = bias[left:right], factors[left:right], shifts[left:right]
    real_bias, real = real_bias[left:right], real[left:right]
    for r in range(rows):
        sums, y = acc[r], out[first + r, left:right]
        if in_float:
            # Floor of an exact float64 is the integer arithmetic, in a quarter of its instructions.
            for c in range(columns):
                value = np.floor((sums[c] + real_bias[c]) * real[c] + 0.5)
                value = value if value > -32768.0 else -32768.0
                value = value if value < 32767.0 else 32767.0
                y[c] = np.int16(np.int32(value))
        else:
            for c in range(columns):
                y[c] = requantize(np.int64(sums[c]) + bias[c], factors[c], shifts[c])


@compiled
def _put(
    acc: Array,
    rows: int,
    columns: int,
    bias: Array,
    mode: int,
    raw: Array,
    first: int,
    left: int,
) -> None:
    """Store ``acc`` plus the bias to int64 ``raw`` from [first, left] on, or add it there."""
    for r in range(rows):
        for c in range(columns):
            total = np.int64(acc[r, c]) + bias[left + c]
            if mode == ADD:
                total += raw[first + r, left + c]
            raw[first + r, left + c] = total


def block_rows(m: int, n: int, cores: int) -> int:
    """Rows of one task of an [m, n] product, so that ``cores`` get about as many tasks each."""
    groups, fewest = -(-n // (COLUMNS * GROUP_PANELS)), -(-m // BLOCK_ROWS)
    blocks = min(
        range(fewest, fewest + cores), key=lambda b: -(-groups * b // cores) / (groups * b)
    )
    rows = -(-m // blocks)
    return -(-rows // ROWS) * ROWS


@parallel
def multiply(
    base: int,
    zeros: int,
    offsets: Array,
    run: int,
    weights: Array,
    strides: tuple[int, int, int],
    k: int,
    block: int,
    bias: Array,
    factors: Array,
    shifts: Array,
    in_float: bool,
    mode: int,
    out: Array,
    raw: Array,
) -> None:
    """``out`` [m, n] INT16 or ``raw`` [m, n] int64, by ``mode``, from ``offsets`` [m, taps].

    ``base`` and ``zeros`` are the addresses of the rows' values and of ``run`` zeros. ``weights``
    [taps, k, n], INT8 or INT16, are given as 1-D with ``strides`` in elements. ``bias``,
    ``factors`` and ``shifts`` are int64 [n]. ``in_float``: requantize in float64, where exact.
    """
    m, taps = offsets.shape
    n = len(bias)
    width = COLUMNS * GROUP_PANELS
    groups, blocks = -(-n // width), -(-m // block)
    pairs = run // 2
    step = -(-pairs // -(-run // MAX_TERMS))
    planes = weights.itemsize
    real = factors * 2.0 ** (-shifts.astype(np.float64))
    real_bias = bias.astype(np.float64)
    for task in prange(blocks * groups):
        first, group = (task // groups) * block, (task % groups) * width
        rows, panels = min(block, m - first), -(-min(width, n - group) // COLUMNS)
        tiles = -(-rows // ROWS)
        acc = np.zeros((panels, tiles * ROWS, COLUMNS))
        at = np.empty(tiles * ROWS, np.int64)
        packed = np.empty((panels, step, COLUMNS), np.int32)
        for tap in range(taps):
            for r in range(tiles * ROWS):
                # Rows past the end repeat the last one; their sums are not used.
                offset = offsets[min(first + r, m - 1), tap]
                at[r] = zeros if offset < 0 else base + 2 * offset
            for start in range(0, pairs, step):
                count = min(step, pairs - start)
                for plane in range(planes):
                    which = 0 if planes == 1 else plane + 1
                    for panel in range(panels):
                        left = group + panel * COLUMNS
                        _pack(
                            weights,
                            strides[1:],
                            tap * strides[0] + 2 * start * strides[1] + left * strides[2],
                            min(2 * count, k - 2 * start),
                            min(COLUMNS, n - left),
                            which,
                            packed[panel, :count],
                        )
                    unit = 256.0 if which == 1 else 1.0
                    for near in range(0, tiles, NEAR_TILES):
                        for panel in range(panels):
                            for tile in range(near, min(near + NEAR_TILES, tiles)):
                                multiply_add_tile(
                                    acc[panel, tile * ROWS :].ctypes.data,
                                    at[tile * ROWS :].ctypes.data,
                                    4 * start,
                                    packed[panel].ctypes.data,
                                    count,
                                    unit,
                                )
        for panel in range(panels):
            left = group + panel * COLUMNS
            columns = min(COLUMNS, n - left)
            if mode == REQUANTIZE:
                _finish(
                    acc[panel],
                    rows,
                    columns,
                    bias,
                    factors,
                    shifts,
                    real_bias,
                    real,
                    in_float,
                    out,
                    first,
                    left,
                )
            else:
                _put(acc[panel], rows, columns, bias, mode, raw, first, left)
