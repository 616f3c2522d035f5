"""The inner loop of ``schedule.list_schedule``, as machine code: engines take what is ready.

Times are those of ``runtime.simulator``, except that a signal within a kind of several engines
counts in the choice of the engine alone.
"""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.program import I64

_DMA = int(EngineKind.DMA)
_KINDS = len(EngineKind)


@compiled
def _push(heap: I64, size: int, key: I64, node: int) -> int:
    """Put ``node`` into the first ``size`` of ``heap``, least ``key`` on top; the new size."""
    place = size
    while place:
        parent = (place - 1) >> 1
        if key[heap[parent]] <= key[node]:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = node
    return size + 1


@compiled
def _pop(heap: I64, size: int, key: I64) -> int:
    """Take the top off; the new size."""
    size -= 1
    moved = heap[size]
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and key[heap[child + 1]] < key[heap[child]]:
            child += 1
        if key[moved] <= key[heap[child]]:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = moved
    return size


@compiled
def _pass_on(
    done: int, node: int, now: int, kinds: I64, at: I64, ended: I64, semaphore_ps: int
) -> None:
    """To ``node``, which follows what is ``done`` ``now``: when it is ready, and if it is a join
    what it passes on. A signal goes to who waits for another kind."""
    for kind in range(_KINDS):
        end = ended[done, kind]
        if end >= 0:
            if node >= len(kinds):
                ended[node, kind] = max(ended[node, kind], end)
            else:
                now = max(now, end + (0 if kind == kinds[node] else semaphore_ps))
    at[node] = max(at[node], now)


@compiled
def _is_awaited(
    node: int, now: int, until: int, kinds: I64, at: I64, coming: I64, key: I64
) -> bool:
    """Whether one of ``coming`` of the same kind with a lower ``key`` will be ready after ``now``,
    by ``until``."""
    for other in coming:
        same = other < len(kinds) and kinds[other] == kinds[node]
        if same and key[other] < key[node] and now < at[other] <= until:
            return True
    return False


@compiled
def place_all(
    kinds: I64,
    durations: I64,
    engines: I64,
    waits: I64,
    after_begin: I64,
    after: I64,
    ranks: I64,
    semaphore_ps: int,
    setup_ps: int,
    patience: int,
) -> tuple[I64, I64, I64]:
    """All instructions in issue order, the unit of each, and from when to when each kind is at
    work, int64[kinds, 2].

    Whenever one of the ``engines`` of a kind is free, it takes what is ready and has the lowest of
    ``ranks``. A node is ready when as many as it ``waits`` for have ended; ``after`` are those that
    wait for it. Nodes beyond the instructions are joins, which do no work. With ``patience`` an
    engine rests instead, if one of a lower rank will be ready within that part (one of so many) of
    the time that what is ready would take: a long transfer holds up short ones.
    """
    count, nodes = len(kinds), len(waits)
    order, units = np.empty(count, np.int64), np.empty(count, np.int64)
    placed = bus_free = pending = 0
    home = np.zeros(count, np.int64)  # the unit of the last predecessor of the same kind
    still_open = waits.copy()
    # By node, when the last of each kind before a join, and an instruction itself, has ended.
    ended = np.full((nodes, _KINDS), -1, np.int64)
    ready = np.empty((_KINDS, count), np.int64)
    ready_size = np.zeros(_KINDS, np.int64)
    spans = np.zeros((_KINDS, 2), np.int64)
    started = np.zeros(_KINDS, np.bool_)
    most = 0
    for kind in range(_KINDS):
        most = max(most, engines[kind])
    free_at = np.zeros((_KINDS, most), np.int64)
    idle = np.empty(most, np.bool_)
    # Of a node, that it is ready; of the number after all nodes plus an instruction's, that this
    # one sets its engine free.
    at = np.zeros(nodes + count, np.int64)
    events = np.empty(nodes + count, np.int64)
    for node in range(nodes):
        if still_open[node] == 0:
            pending = _push(events, pending, at, node)
    while pending:
        now = at[events[0]]
        while pending and at[events[0]] == now:
            node = events[0]
            pending = _pop(events, pending, at)
            if node < count:
                kind = kinds[node]
                ready_size[kind] = _push(ready[kind], ready_size[kind], ranks, node)
            elif node < nodes:
                for i in range(after_begin[node], after_begin[node + 1]):
                    _pass_on(node, after[i], now, kinds, at, ended, semaphore_ps)
                    still_open[after[i]] -= 1
                    if still_open[after[i]] == 0:
                        pending = _push(events, pending, at, after[i])
        for kind in range(_KINDS - 1, -1, -1):  # of what others begin now, the end is known to DMA
            left = 0
            for unit in range(engines[kind]):
                idle[unit] = free_at[kind, unit] <= now
                left += idle[unit]
            while left and ready_size[kind]:
                node = ready[kind, 0]
                if patience:
                    until = now + durations[node] // patience
                    if _is_awaited(node, now, until, kinds, at, events[:pending], ranks):
                        break
                ready_size[kind] = _pop(ready[kind], ready_size[kind], ranks)
                # An operand made here needs no signal to get here.
                unit = home[node]
                if not idle[unit]:
                    unit = 0
                    while not idle[unit]:
                        unit += 1
                idle[unit] = False
                left -= 1
                order[placed], units[placed] = node, unit
                placed += 1
                end = now + durations[node]
                if kind == _DMA:
                    end = bus_free = max(end, bus_free + durations[node] - setup_ps)
                free_at[kind, unit] = ended[node, kind] = at[nodes + node] = end
                if not started[kind]:
                    started[kind], spans[kind, 0] = True, now
                spans[kind, 1] = max(spans[kind, 1], end)
                pending = _push(events, pending, at, nodes + node)
                for i in range(after_begin[node], after_begin[node + 1]):
                    if after[i] < count and kinds[after[i]] == kind:
                        home[after[i]] = unit
                    _pass_on(node, after[i], end, kinds, at, ended, semaphore_ps)
                    still_open[after[i]] -= 1
                    if still_open[after[i]] == 0:
                        pending = _push(events, pending, at, after[i])
    return order, units, spans
