"""The inner loops of ``memory.placement``: placement in an order, and a search over orders.

All sizes and offsets are int64 and already multiples of the alignment. ``near_begin`` and ``near``
list, for each buffer, the buffers that live at some moment with it (rows of a CSR matrix).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.compiled import compiled

I64 = npt.NDArray[np.int64]

_UNPLACED = -1


@compiled
def neighbours(first: I64, last: I64) -> tuple[I64, I64]:
    """``near_begin`` and ``near`` of buffers that live from ``first`` to ``last``, inclusive."""
    n = len(first)
    begin = np.zeros(n + 1, np.int64)
    for a in range(n):
        count = 0
        for b in range(n):
            if a != b and first[a] <= last[b] and first[b] <= last[a]:
                count += 1
        begin[a + 1] = begin[a] + count
    near = np.empty(begin[n], np.int64)
    for a in range(n):
        at = begin[a]
        for b in range(n):
            if a != b and first[a] <= last[b] and first[b] <= last[a]:
                near[at] = b
                at += 1
    return begin, near


@compiled
def fit_in_order(
    order: I64, size: I64, near_begin: I64, near: I64, best_fit: bool, begin: int, offset: I64
) -> int:
    """Place the buffers ``order[begin:]`` one after another and return the height of all.

    Each goes to the lowest gap that holds it, or, with ``best_fit``, to the tightest one.
    ``offset`` holds the places of ``order[:begin]`` and receives the others.
    """
    n = len(order)
    starts, ends = np.empty(n, np.int64), np.empty(n, np.int64)
    offset[order[begin:]] = _UNPLACED
    height = 0
    for buffer in order[:begin]:
        height = max(height, int(offset[buffer]) + int(size[buffer]))
    for buffer in order[begin:]:
        count = 0  # placed neighbours, by insertion sorted by start
        for p in range(near_begin[buffer], near_begin[buffer + 1]):
            start = offset[near[p]]
            if start != _UNPLACED:
                j = count
                while j > 0 and starts[j - 1] > start:
                    starts[j], ends[j] = starts[j - 1], ends[j - 1]
                    j -= 1
                starts[j], ends[j] = start, start + size[near[p]]
                count += 1
        place, tightest, top = np.int64(_UNPLACED), np.int64(0), np.int64(0)
        for j in range(count):
            gap = starts[j] - top
            if gap >= size[buffer] and (place == _UNPLACED or gap < tightest):
                place, tightest = top, gap
                if not best_fit:
                    break
            top = max(top, ends[j])
        offset[buffer] = top if place == _UNPLACED else place
        height = max(height, int(offset[buffer]) + int(size[buffer]))
    return height


@compiled
def _random(state: npt.NDArray[np.uint64], below: int) -> int:
    """The next number of Marsaglia's xorshift64, the same on every platform."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return int(x >> np.uint64(11)) % below


@compiled
def search_orders(
    order: I64, size: I64, near_begin: I64, near: I64, target: int, steps: int, seed: int
) -> tuple[int, I64]:
    """Improve a first-fit order by at most ``steps`` small moves; return (height, offsets).

    A move picks a buffer that ends at the top, or one of those it rests on, and places it earlier:
    swapped with, or moved before, a random neighbour (the idea of Arm Vela's hill climb). A new
    order is kept if its height is not above the old one's by more than a random margin that
    shrinks to nothing (threshold accepting). Stops as soon as the height is ``target`` or less.
    """
    n = len(order)
    state = np.array([2 * seed + 88172645463325252], np.uint64)
    now, new = order.copy(), order.copy()
    offset, new_offset, best_offset = np.empty((3, n), np.int64)
    height = fit_in_order(now, size, near_begin, near, False, 0, offset)
    best = height
    best_offset[:] = offset
    rank, choice = np.empty(n, np.int64), np.empty(n, np.int64)
    for step in range(steps):
        if best <= target:
            break
        rank[now] = np.arange(n)
        count = 0
        for b in range(n):
            if offset[b] + size[b] == height:
                choice[count] = b
                count += 1
        moved = choice[_random(state, count)]
        for _ in range(_random(state, 3)):
            count = 0
            for p in range(near_begin[moved], near_begin[moved + 1]):
                if offset[near[p]] + size[near[p]] == offset[moved]:
                    choice[count] = near[p]
                    count += 1
            if count == 0:
                break
            moved = choice[_random(state, count)]
        count = 0
        for p in range(near_begin[moved], near_begin[moved + 1]):
            if rank[near[p]] < rank[moved]:
                choice[count] = near[p]
                count += 1
        if count == 0:
            continue
        goal, old = rank[choice[_random(state, count)]], rank[moved]
        new[:] = now
        if _random(state, 2) == 0:
            new[goal], new[old] = now[old], now[goal]
        else:
            new[goal + 1 : old + 1] = now[goal:old]
            new[goal] = moved
        new_offset[:] = offset
        new_height = fit_in_order(new, size, near_begin, near, False, goal, new_offset)
        margin = 0.02 * (1 - step / steps) * (_random(state, 1000) / 1000) ** 4
        if new_height <= height * (1 + margin):
            height = new_height
            now[:] = new
            offset[:] = new_offset
            if height < best:
                best = height
                best_offset[:] = offset
    return best, best_offset
