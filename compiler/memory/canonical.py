"""Placement within a height, by a complete search over canonical placements.

Any placement can be pushed down until every buffer rests on another or on the ground, and then read
off by rising offset: each buffer lies as low as those before it allow. The search builds such
sequences, lowest offset first. It cuts a branch where, at some moment, the lowest offset that is
left plus all bytes still to be placed exceeds the height; where a buffer would leave room below it
for one that comes later; and it solves stretches of time that share no buffer on their own, so that
one that fails does not make the others be tried again. Several orders of buffers of equal offset
are tried under a budget of steps that grows.

After Moffitt, "MiniMalloc: A Lightweight Memory Allocator for Hardware-Accelerated Machine
Learning", ASPLOS 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgefusion.compiler.memory.search import I64
from edgefusion.runtime.compiled import compiled

_FIRST_BUDGET, _GROWTH = 20_000, 4
_NONE, _FOUND, _OUT_OF_STEPS = 0, 1, -1


def fit_within(first: I64, last: I64, size: I64, height: int, most_steps: int) -> I64 | None:
    """Offsets of buffers that live from ``first`` to ``last``, inclusive, in ``height`` bytes; None
    where there are none, or none was found in ``most_steps``. The same for the same arguments."""
    moments = np.unique(np.concatenate([first, last + 1]))
    begin, end = np.searchsorted(moments, first), np.searchsorted(moments, last + 1)
    live = np.zeros(len(moments), dtype=np.int64)
    for a, b, nbytes in zip(begin, end, size, strict=True):
        live[a:b] += nbytes
    members = np.argsort(begin, kind="stable").astype(np.int64)
    ranks = _ranks(
        first, last, size, [int(live[a:b].max()) for a, b in zip(begin, end, strict=True)]
    )
    budget = _FIRST_BUDGET
    while most_steps > 0:
        for rank in ranks:
            steps = np.array([min(budget, most_steps)], dtype=np.int64)
            most_steps -= int(steps[0])
            offset = np.zeros_like(size)
            lowest = np.zeros((len(size) + 2, len(size)), dtype=np.int64)
            scratch = np.zeros((2, len(moments)), dtype=np.int64)
            answer = _solve(
                members, 0, 0, -1, lowest, size, begin, end, rank, height, offset, scratch, steps
            )
            most_steps += max(0, int(steps[0]))
            if answer == _FOUND:
                return offset
            if answer == _NONE:
                return None
        budget *= _GROWTH
    return None


def _ranks(first: I64, last: I64, size: I64, crowd: Sequence[int]) -> list[I64]:
    """Orders of buffers, as the rank of each: by lifetime, area, size, and the most bytes that live
    at any moment of theirs, largest first."""
    duration = last - first + 1
    area, most = duration * size, np.array(crowd, dtype=np.int64)
    ranks = []
    for keys in ((duration, area, most), (most, area, duration), (most, duration, area), (size,)):
        order = np.lexsort([-key for key in reversed(keys)])
        rank = np.empty_like(size)
        rank[order] = np.arange(len(size))
        ranks.append(rank)
    return ranks


@compiled
def _may_fit(
    members: I64, lowest: I64, size: I64, begin: I64, end: I64, height: int, scratch: I64
) -> bool:
    """Whether at every moment the lowest offset that ``members`` can have, and all their bytes, are
    within ``height``."""
    floor, total = scratch[0], scratch[1]
    for m in members:
        for moment in range(begin[m], end[m]):
            floor[moment], total[moment] = height + 1, 0
    for m in members:
        if lowest[m] + size[m] > height:
            return False
        for moment in range(begin[m], end[m]):
            floor[moment] = min(floor[moment], lowest[m])
            total[moment] += size[m]
    for m in members:
        for moment in range(begin[m], end[m]):
            if floor[moment] + total[moment] > height:
                return False
    return True


@compiled
def _solve(
    members: I64,
    depth: int,
    at_least: int,
    after_rank: int,
    lowest: I64,
    size: I64,
    begin: I64,
    end: I64,
    rank: I64,
    height: int,
    offset: I64,
    scratch: I64,
    steps: I64,
) -> int:
    """Place ``members``, sorted by ``begin``, whose least offsets are ``lowest[depth]``; the last
    buffer placed was of ``after_rank`` at ``at_least``. Fills ``offset`` where it finds a way."""
    if len(members) == 0:
        return _FOUND
    steps[0] -= 1
    if steps[0] < 0:
        return _OUT_OF_STEPS
    # 1. Stretches of time without a buffer in common, each on its own
    start, reach = 0, end[members[0]]
    for i in range(1, len(members)):
        if begin[members[i]] >= reach:
            answer = _solve(
                members[start:i].copy(), depth, at_least, after_rank, lowest, size, begin, end,
                rank, height, offset, scratch, steps,
            )  # fmt: skip
            if answer != _FOUND:
                return answer
            start = i
        reach = max(reach, end[members[i]])
    if start:
        return _solve(
            members[start:].copy(), depth, at_least, after_rank, lowest, size, begin, end,
            rank, height, offset, scratch, steps,
        )  # fmt: skip
    # 2. Each buffer that may come next, the lowest first; none above where another would end
    here, below = lowest[depth], lowest[depth + 1]
    ceiling = height + 1
    order = np.empty(len(members), np.int64)
    for i in range(len(members)):
        ceiling = min(ceiling, here[members[i]] + size[members[i]])
        order[i] = here[members[i]] * len(size) + rank[members[i]]
    order = np.argsort(order)
    rest = np.empty(len(members) - 1, np.int64)
    for chosen in order:
        buffer = members[chosen]
        place = here[buffer]
        if place >= ceiling:
            break
        if place == at_least and rank[buffer] < after_rank:
            continue  # the same placement in another order
        count = 0
        for m in members:
            if m != buffer:
                rest[count] = m
                count += 1
                below[m] = max(here[m], place)
                if begin[m] < end[buffer] and begin[buffer] < end[m]:
                    below[m] = max(below[m], place + size[buffer])
        if _may_fit(rest, below, size, begin, end, height, scratch):
            answer = _solve(
                rest.copy(), depth + 1, place, rank[buffer], lowest, size, begin, end,
                rank, height, offset, scratch, steps,
            )  # fmt: skip
            if answer == _FOUND:
                offset[buffer] = place
            if answer != _NONE:
                return answer
    return _NONE
