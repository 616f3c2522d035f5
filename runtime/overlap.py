"""Do two strided views of one memory share a byte? Exact for views of one tensor, else cautious.

A view is written as levels ``(stride, count)`` of falling stride, the last of stride 1 counting
contiguous bytes. Both views get the levels of either: a level that a view lacks is split off a
finer one where that divides evenly (a contiguous run of rows becomes rows of runs). The distance
between the two starts, divided by the strides one after another, then says where the views begin at
each level, counted from a common origin. If within each level nothing reaches past the next coarser
stride, an address has one position per level only, and the views are disjoint exactly if their
counts are disjoint at some level. Column halves of a tensor, channel slices and image tiles
are told apart this way. Anything irregular (overlapping windows, unequal row lengths) counts as an
overlap, so that no hazard is missed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.program import I32, I64, U8

U64 = npt.NDArray[np.uint64]

_UNCLEAR, _MEET, _APART = -1, 1, 0
_LEVELS = 10  # four dimensions of either view, and the bytes


@compiled
def _levels(shape: I64, strides: I64, itemsize: int) -> tuple[int, I64]:
    """(number of levels, rows of (stride, count) by falling stride); dimensions merged."""
    levels = np.zeros((_LEVELS, 2), np.int64)
    levels[0, 0], levels[0, 1] = 1, itemsize
    used = 1
    for _ in range(len(shape)):  # by rising stride
        pick = -1
        for d in range(len(shape)):
            larger = strides[d] > levels[used - 1, 0] or (used == 1 and strides[d] > 0)
            if shape[d] > 1 and larger and (pick < 0 or strides[d] < strides[pick]):
                pick = d
        if pick < 0:
            break
        stride, count = strides[pick], 1
        for d in range(len(shape)):
            if strides[d] == stride:
                count += shape[d] - 1
        levels[used, 0], levels[used, 1] = stride, count
        used += 1
    kept = 1  # merge what is contiguous in bytes
    for i in range(1, used):
        if kept == 1 and levels[i, 0] <= levels[0, 1]:
            levels[0, 1] += (levels[i, 1] - 1) * levels[i, 0]
        else:
            levels[kept] = levels[i]
            kept += 1
    return kept, levels[:kept][::-1].copy()


@compiled
def _spread(used: int, levels: I64, grid: I64, size: int) -> I64:
    """Counts of a view on all levels of ``grid[:size]``; a count of 0 says that it does not fit."""
    counts = np.ones(size, np.int64)
    for i in range(used):
        for g in range(size):
            if grid[g] == levels[i, 0]:
                counts[g] = levels[i, 1]
    for g in range(size - 2, -1, -1):  # split a coarser level off the finer ones, from the finest
        fine = g + 1
        while fine < size - 1 and counts[fine] == 1:
            fine += 1
        if counts[g] == 1 and counts[fine] * grid[fine] > grid[g]:
            if grid[g] % grid[fine] != 0 or counts[fine] % (grid[g] // grid[fine]) != 0:
                counts[0] = 0
                return counts
            per = grid[g] // grid[fine]
            counts[g], counts[fine] = counts[fine] // per, per
    return counts


@compiled
def views_overlap(
    address_a: int,
    shape_a: I64,
    strides_a: I64,
    itemsize_a: int,
    address_b: int,
    shape_b: I64,
    strides_b: I64,
    itemsize_b: int,
) -> bool:
    """False only if the two views (addresses and strides in bytes) surely share no byte."""
    used_a, levels_a = _levels(shape_a, strides_a, itemsize_a)
    used_b, levels_b = _levels(shape_b, strides_b, itemsize_b)
    grid = np.zeros(2 * _LEVELS, np.int64)
    size, i, j = 0, 0, 0
    while i < used_a or j < used_b:
        if j == used_b or (i < used_a and levels_a[i, 0] >= levels_b[j, 0]):
            stride = levels_a[i, 0]
            i += 1
        else:
            stride = levels_b[j, 0]
            j += 1
        if size == 0 or grid[size - 1] != stride:
            grid[size] = stride
            size += 1
    counts_a = _spread(used_a, levels_a, grid, size)
    counts_b = _spread(used_b, levels_b, grid, size)
    if counts_a[0] == 0 or counts_b[0] == 0:
        return True
    for choice in range(1 << (size - 1)):
        meet = _meet(address_b - address_a, counts_a, counts_b, grid, size, choice)
        if meet != _UNCLEAR:
            return meet == _MEET
    return True


@compiled
def _meet(distance: int, counts_a: I64, counts_b: I64, grid: I64, size: int, choice: int) -> int:
    """Compare counts level by level with the distance split up in one way, given by ``choice``.

    At each level the quotient is rounded down, or up where its bit in ``choice`` is set: whichever
    of the views begins first at a finer level can be taken for the origin there.
    """
    begin_a, begin_b = np.zeros(size, np.int64), np.zeros(size, np.int64)
    rest = distance
    for g in range(size):
        quotient = rest // grid[g] + ((choice >> g) & 1)
        rest -= quotient * grid[g]
        begin_a[g], begin_b[g] = max(0, -quotient), max(0, quotient)
    if rest != 0:
        return _UNCLEAR
    reach_a, reach_b, answer = 1, 1, _MEET
    for g in range(size - 1, -1, -1):
        reach_a += (begin_a[g] + counts_a[g] - 1) * grid[g]
        reach_b += (begin_b[g] + counts_b[g] - 1) * grid[g]
        if g > 0 and (reach_a > grid[g - 1] or reach_b > grid[g - 1]):
            return _UNCLEAR
        if begin_b[g] >= begin_a[g] + counts_a[g] or begin_a[g] >= begin_b[g] + counts_b[g]:
            answer = _APART
    return answer


@compiled
def unordered_overlaps(
    number: I64,
    clocks: I32,
    queue: I64,
    queue_begin: I64,
    touched: U64,
    written: U64,
    operand_begin: I64,
    is_output: U8,
    space: U8,
    address: I64,
    end: I64,
    shape: I64,
    strides: I64,
    itemsize: I64,
    found: I64,
) -> int:
    """Compare each instruction with the windows of ``runtime.hazards``.

    Fills ``found`` with rows (earlier, later, operand of each) and returns how many there are.
    It lives here because numba's cache of a function does not see changes of callees elsewhere.
    """
    count = 0
    for x in range(len(number)):
        for e in range(clocks.shape[1]):
            if e == number[x]:
                continue
            line = queue[queue_begin[e] : queue_begin[e + 1]]
            for at in range(np.searchsorted(line, clocks[x, e], side="right"), len(line)):
                a = line[at]
                if a > x:
                    break
                shared = np.uint64(0)
                for m in range(touched.shape[1]):
                    shared |= (touched[a, m] & written[x, m]) | (written[a, m] & touched[x, m])
                if shared == 0:
                    continue
                hit = False
                for p in range(operand_begin[a], operand_begin[a + 1]):
                    for q in range(operand_begin[x], operand_begin[x + 1]):
                        if (
                            not hit
                            and space[p] == space[q]
                            and (is_output[p] or is_output[q])
                            and address[p] < end[q]
                            and address[q] < end[p]
                            and views_overlap(
                                address[p],
                                shape[p],
                                strides[p],
                                itemsize[p],
                                address[q],
                                shape[q],
                                strides[q],
                                itemsize[q],
                            )
                        ):
                            hit = True
                            found[count] = (a, x, p, q)
                if hit:
                    count += 1
                    if count == len(found):
                        return count
    return count
