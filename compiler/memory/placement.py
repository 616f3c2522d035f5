"""Where buffers lie in SRAM or DRAM: lifetimes and sizes in, offsets out.

Offset allocation is the strip-packing problem of static memory planning: buffers that live at the
same moment must not overlap, and the height (the memory needed) should be small. No height is below
the peak of live bytes. ``best_placement`` runs greedy fits in several orders, then a bounded,
seeded search over orders (``memory.search``), then, where it is asked to, a complete search within
a height (``memory.canonical``), each for as long as the target is missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgefusion.compiler.memory.canonical import fit_within
from edgefusion.compiler.memory.search import I64, fit_in_order, neighbours, search_orders
from edgefusion.runtime.errors import DoesNotFitError, UsageError

SEARCH_EFFORT = 40_000_000
"""Default limit of the search, in pairs of buffers visited: about half a second."""

_MAX_SEARCH_STEPS = 20_000

_NAMED_BUFFERS = 5


@dataclass(frozen=True, slots=True)
class Lifetime:
    """``nbytes`` in use from moment ``first`` to moment ``last``, inclusive."""

    name: str
    first: int
    last: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Offsets in bytes by name, and the memory they need.

    Sizes count rounded up to the alignment, in the height as in the bound, so that
    ``height_bytes >= lower_bound_bytes`` (the peak of live bytes) holds and can be met.
    """

    offsets: Mapping[str, int]
    height_bytes: int
    lower_bound_bytes: int


def place(
    lifetimes: Sequence[Lifetime],
    *,
    align_bytes: int,
    capacity_bytes: int | None = None,
    search_effort: int = SEARCH_EFFORT,
    complete_steps: int = 0,
    seed: int = 0,
) -> Placement:
    """``best_placement`` that has to fit ``capacity_bytes``, where one is given.

    Raises DoesNotFitError if the capacity is exceeded, and what ``best_placement`` raises.
    """
    _check(lifetimes, align_bytes)
    moment, bound = _peak(*_arrays(lifetimes, align_bytes))
    if capacity_bytes is not None and bound > capacity_bytes:
        raise DoesNotFitError(_too_big(lifetimes, moment, bound, bound, capacity_bytes))
    placement = best_placement(
        lifetimes,
        align_bytes=align_bytes,
        goal_bytes=capacity_bytes,
        search_effort=search_effort,
        complete_steps=complete_steps,
        seed=seed,
    )
    if capacity_bytes is not None and placement.height_bytes > capacity_bytes:
        told = _too_big(lifetimes, moment, bound, placement.height_bytes, capacity_bytes)
        raise DoesNotFitError(told)
    return placement


def best_placement(
    lifetimes: Sequence[Lifetime],
    *,
    align_bytes: int,
    goal_bytes: int | None = None,
    search_effort: int = SEARCH_EFFORT,
    complete_steps: int = 0,
    seed: int = 0,
) -> Placement:
    """Offsets for all lifetimes, the same for the same arguments.

    Stops as soon as the height is within ``goal_bytes`` or, where none is given, at the lower
    bound. ``search_effort=0`` runs the greedy fits alone; ``complete_steps`` is how many steps the
    complete search may take, some 50,000 a second. Raises UsageError for repeated names, negative
    sizes and lifetimes that end before they begin.
    """
    _check(lifetimes, align_bytes)
    if not lifetimes:
        return Placement({}, 0, 0)
    first, last, size = _arrays(lifetimes, align_bytes)
    _, bound = _peak(first, last, size)
    target = bound if goal_bytes is None else max(bound, goal_bytes)
    height, offset = _greedy_then_search(first, last, size, target, search_effort, seed)
    if height > target and complete_steps:
        height, offset = _complete(first, last, size, target, height, offset, complete_steps)
    names = (b.name for b in lifetimes)
    return Placement(dict(zip(names, offset.tolist(), strict=True)), height, bound)


def verify_placement(
    lifetimes: Sequence[Lifetime],
    placement: Placement,
    *,
    align_bytes: int,
    capacity_bytes: int | None = None,
) -> None:
    """Check a placement from first principles. Raises ValueError naming the buffers at fault."""
    names = [b.name for b in lifetimes]
    if set(names) != set(placement.offsets):
        different = sorted(set(names) ^ set(placement.offsets))
        raise ValueError(f"expected an offset for every lifetime and no other: {different[:5]}")
    first = np.array([b.first for b in lifetimes], dtype=np.int64)
    last = np.array([b.last for b in lifetimes], dtype=np.int64)
    start = np.array([placement.offsets[name] for name in names], dtype=np.int64)
    end = start + np.array([b.nbytes for b in lifetimes], dtype=np.int64)
    limit = placement.height_bytes
    if capacity_bytes is not None and limit > capacity_bytes:
        raise ValueError(f"expected a height of at most {capacity_bytes} bytes, found {limit}")
    for i, name in enumerate(names):
        if start[i] < 0 or start[i] % align_bytes or end[i] > limit:
            raise ValueError(
                f"expected {name} at a multiple of {align_bytes} within [0, {limit}), "
                f"found [{start[i]}, {end[i]})"
            )
        clash = (first <= last[i]) & (first[i] <= last) & (start < end[i]) & (start[i] < end)
        clash[i] = False
        clash &= (end > start) & (end[i] > start[i])  # an empty buffer overlaps nothing
        if clash.any():
            other = int(clash.argmax())
            raise ValueError(
                f"expected {name} and {names[other]} apart, as both live at moment "
                f"{max(first[i], first[other])}; found [{start[i]}, {end[i]}) and "
                f"[{start[other]}, {end[other]})"
            )


def _greedy_then_search(
    first: I64, last: I64, size: I64, target: int, search_effort: int, seed: int
) -> tuple[int, I64]:
    """The lowest height found, with its offsets."""
    near_begin, near = neighbours(first, last)
    duration = last - first + 1
    orders = (
        np.lexsort((first, -size)),
        np.lexsort((first, -(size.astype(np.float64) * duration**0.25))),
        np.lexsort((first, -(size.astype(np.float64) * duration))),
        np.lexsort((-size, -duration)),
        np.lexsort((-size, first)),
    )
    best: tuple[int, I64, I64] | None = None
    for order in orders:
        for best_fit in (False, True):
            offset = np.empty_like(size)
            height = int(fit_in_order(order, size, near_begin, near, best_fit, 0, offset))
            if best is None or height < best[0]:
                best = height, offset, order
    assert best is not None
    height, offset, order = best
    steps = min(_MAX_SEARCH_STEPS, search_effort // (len(near) + len(size)))
    if height > target and steps:
        found, found_offset = search_orders(order, size, near_begin, near, target, steps, seed)
        if found < height:
            return int(found), found_offset
    return height, offset


def _arrays(lifetimes: Sequence[Lifetime], align_bytes: int) -> tuple[I64, I64, I64]:
    """First and last moments, and sizes in whole steps of the alignment."""
    return (
        np.array([b.first for b in lifetimes], dtype=np.int64),
        np.array([b.last for b in lifetimes], dtype=np.int64),
        np.array([aligned(b.nbytes, align_bytes) for b in lifetimes], dtype=np.int64),
    )


def _peak(first: I64, last: I64, size: I64) -> tuple[int, int]:
    """The moment at which most bytes live, and how many: no placement takes fewer."""
    if not len(size):
        return 0, 0
    moments, live = _live_bytes(first, last, size)
    return int(moments[live.argmax()]), int(live.max())


def _complete(
    first: I64, last: I64, size: I64, target: int, height: int, offset: I64, most_steps: int
) -> tuple[int, I64]:
    """The complete search at the target, then at heights between it and what is known to do: with
    each the half of what is left, for fewer steps."""
    some = size > 0  # an empty buffer lies anywhere
    goal = target
    while goal < height and most_steps:
        found = fit_within(first[some], last[some], size[some], goal, most_steps)
        if found is not None:
            offset = np.zeros_like(size)
            offset[some] = found
            return int((offset + size).max()), offset
        goal += max(1, (height - goal) // 2)
        most_steps //= 2
    return height, offset


def _live_bytes(first: I64, last: I64, size: I64) -> tuple[I64, I64]:
    """Moments at which something begins, and the bytes that live then: the peak is among them."""
    moments = np.unique(first)
    by_first, by_last = np.argsort(first), np.argsort(last)
    begun = np.concatenate([[0], np.cumsum(size[by_first])])
    ended = np.concatenate([[0], np.cumsum(size[by_last])])
    live = (
        begun[np.searchsorted(first[by_first], moments, side="right")]
        - ended[np.searchsorted(last[by_last], moments, side="left")]
    )
    return moments, live


def _too_big(
    lifetimes: Sequence[Lifetime], moment: int, bound: int, height: int, capacity: int
) -> str:
    live = [b for b in lifetimes if b.first <= moment <= b.last]
    live.sort(key=lambda b: (-b.nbytes, b.name))
    biggest = ", ".join(f"{b.name} ({b.nbytes})" for b in live[:_NAMED_BUFFERS])
    more = f" and {len(live) - _NAMED_BUFFERS} more" if len(live) > _NAMED_BUFFERS else ""
    why = "" if height == bound else f" ({bound} live at once, the rest lost between buffers)"
    return (
        f"{height} bytes needed{why}, {capacity} available: {height - capacity} too many. "
        f"The peak is at moment {moment}, with {biggest}{more}. Use smaller tiles or less fusion "
        "there, or a larger memory."
    )


def _check(lifetimes: Sequence[Lifetime], align_bytes: int) -> None:
    if align_bytes <= 0:
        raise UsageError(f"expected a positive alignment, found {align_bytes}")
    for b in lifetimes:
        if b.nbytes < 0 or b.last < b.first:
            raise UsageError(f"expected a size >= 0 and last >= first, found {b}")
    repeated = [name for name, count in Counter(b.name for b in lifetimes).items() if count > 1]
    if repeated:
        raise UsageError(f"expected each name once, found repeated: {', '.join(repeated[:5])}")


def aligned(nbytes: int, align_bytes: int) -> int:
    """``nbytes`` rounded up to whole multiples of ``align_bytes``."""
    return -(-nbytes // align_bytes) * align_bytes
