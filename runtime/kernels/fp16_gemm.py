"""Matrix products in FP32 chains of fused multiply-adds, for convolution and matrix products alike.

Rows are given indirectly: row m is ``taps`` runs of consecutive FP32 values at element offsets
``starts[m] + tap_offsets[tap]``. A matrix has one tap; a convolution has one per kernel row and
needs no im2col copy (Dukhan, "The Indirect Convolution Algorithm", 2019). Weights are packed into
panels of 16 columns.

Blocks are sized for the caches (Goto and van de Geijn, "Anatomy of High-Performance Matrix
Multiplication", 2008): a piece of a panel stays in L1 while the tiles of a row block pass, and the
row block's values and sums stay in L2 while the panels pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import prange

from edgefusion.runtime.kernels.fp16_fma import COLUMNS, ROWS, fused_multiply_add_tile
from edgefusion.runtime.kernels.fp16_half import F32, U16, ieee, widen

I64 = npt.NDArray[np.int64]

_DEPTH = 256  # of the reduction at a time: 16 KiB of a panel
_TILES = 16  # micro-tiles of a row block
_PANELS = 16  # panels of a task: 256 columns


@ieee(threads=True)
def pack_weights(source: U16, strides: I64, counts: I64, columns: int) -> F32:
    """FP16 bit patterns of weights [ky, kx, k, columns] as FP32 [panels, ky * kx * k, 16].

    Element [y, x, i, n] lies at the dot product with ``strides`` (in elements) of dense ``source``;
    ``counts`` are ky, kx, k. Columns beyond the last are zero.
    """
    panels = (columns + COLUMNS - 1) // COLUMNS
    ky, kx, k = counts
    packed = np.zeros((panels, ky * kx * k, COLUMNS), np.float32)
    for panel in prange(panels):
        width = min(COLUMNS, columns - panel * COLUMNS)
        row = 0
        for y in range(ky):
            for x in range(kx):
                at = y * strides[0] + x * strides[1] + panel * COLUMNS * strides[3]
                for i in range(k):
                    for c in range(width):
                        packed[panel, row, c] = widen(source[at + i * strides[2] + c * strides[3]])
                    row += 1
    return packed


@ieee(threads=True)
def multiply(
    values: F32, starts: I64, tap_offsets: I64, run: int, packed: F32, accumulate: bool, out: F32
) -> None:
    """``out`` [m, n] = (or += if ``accumulate``) rows of ``values`` (dense, 1-D) x ``packed``."""
    m, n = out.shape
    taps, panels = len(tap_offsets), len(packed)
    block = _TILES * ROWS
    blocks, groups = (m + block - 1) // block, (panels + _PANELS - 1) // _PANELS
    base, weights = values.ctypes.data, packed.ctypes.data
    panel_bytes = packed.shape[1] * COLUMNS * 4
    for task in prange(blocks * groups):
        first, left = (task // groups) * block, (task % groups) * _PANELS
        rows, width = min(block, m - first), min(_PANELS, panels - left)
        tiles = (rows + ROWS - 1) // ROWS
        sums = np.zeros((width, _TILES * ROWS, COLUMNS), np.float32)
        if accumulate:
            for p in range(width):
                column = (left + p) * COLUMNS
                for r in range(rows):
                    for c in range(min(COLUMNS, n - column)):
                        sums[p, r, c] = out[first + r, column + c]
        at = np.empty(_TILES * ROWS, np.int64)
        for tap in range(taps):
            for begin in range(0, run, _DEPTH):
                count = min(_DEPTH, run - begin)
                for r in range(tiles * ROWS):
                    # Rows past the end repeat the last one; their sums are not used.
                    row = min(first + r, m - 1)
                    at[r] = base + 4 * (starts[row] + tap_offsets[tap] + begin)
                offset = (tap * run + begin) * COLUMNS * 4
                for p in range(width):
                    panel = weights + (left + p) * panel_bytes + offset
                    total = sums.ctypes.data + p * _TILES * ROWS * COLUMNS * 4
                    for t in range(tiles):
                        r = t * ROWS
                        fused_multiply_add_tile(
                            total + r * COLUMNS * 4,
                            at[r],
                            at[r + 1],
                            at[r + 2],
                            at[r + 3],
                            at[r + 4],
                            at[r + 5],
                            panel,
                            count,
                        )
        for p in range(width):
            column = (left + p) * COLUMNS
            for r in range(rows):
                for c in range(min(COLUMNS, n - column)):
                    out[first + r, column + c] = sums[p, r, c]
