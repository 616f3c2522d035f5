"""The order in which overlapping engines take their instructions.

Lowering emits tiles one after another; in that order an in-order engine would wait at the end of
every tile. List scheduling keeps each engine busy: whenever one is free, it takes the instruction
whose operands are ready and that comes first in lowering order. Everything it may reorder is
limited by the hazards of SRAM slots and DRAM tensors, so values cannot change.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgefusion.compiler.schedule.hazards import Access, EngineId, Region

_JOIN_ABOVE = 4
"""A region with more pending writers gets one joint successor, to keep the graph sparse."""


@dataclass(slots=True)
class _Pending:
    writers: list[int] = field(default_factory=list)
    readers: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Graph:
    """Successors and open predecessors; nodes from ``instructions`` on are joins without work."""

    instructions: int
    successors: list[list[int]]
    open: list[int]

    def edge(self, before: int, after: int) -> None:
        self.successors[before].append(after)
        self.open[after] += 1

    def join(self, before: list[int]) -> int:
        node = len(self.successors)
        self.successors.append([])
        self.open.append(0)
        for index in before:
            self.edge(index, node)
        return node


def list_schedule(
    engines: Sequence[EngineId],
    accesses: Sequence[Access],
    durations_ps: Sequence[int],
    semaphore_ps: int,
) -> list[int]:
    """Instruction indices in issue order."""
    graph = _dependence_graph(accesses)
    count = graph.instructions
    ready: dict[EngineId, list[int]] = {engine: [] for engine in sorted(set(engines))}
    free_at = dict.fromkeys(ready, 0)
    # Events are (time, node) of a node that becomes ready, and (time, -1) of an engine set free.
    events: list[tuple[int, int]] = [(0, i) for i in range(len(graph.open)) if not graph.open[i]]
    ready_at = [0] * len(graph.open)
    heapq.heapify(events)
    order: list[int] = []
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, node = heapq.heappop(events)
            if node >= count:
                _release(graph, node, now, ready_at, events)
            elif node >= 0:
                heapq.heappush(ready[engines[node]], node)
        for engine, queue in ready.items():
            if queue and free_at[engine] <= now:
                node = heapq.heappop(queue)
                order.append(node)
                free_at[engine] = end = now + durations_ps[node]
                heapq.heappush(events, (end, -1))
                _release(graph, node, end, ready_at, events, engines, semaphore_ps)
    return order


def _release(
    graph: _Graph,
    node: int,
    end: int,
    ready_at: list[int],
    events: list[tuple[int, int]],
    engines: Sequence[EngineId] = (),
    semaphore_ps: int = 0,
) -> None:
    """Tell the successors of ``node`` that it ends at ``end``."""
    for successor in graph.successors[node]:
        crosses = engines and successor < graph.instructions and engines[successor] != engines[node]
        ready_at[successor] = max(ready_at[successor], end + (semaphore_ps if crosses else 0))
        graph.open[successor] -= 1
        if not graph.open[successor]:
            heapq.heappush(events, (ready_at[successor], successor))


def _dependence_graph(accesses: Sequence[Access]) -> _Graph:
    count = len(accesses)
    graph = _Graph(count, [[] for _ in range(count)], [0] * count)
    pending: dict[int, _Pending] = {}
    for index, access in enumerate(accesses):
        before: set[int] = set()
        for region in access.reads:
            use = _pending_of(region, pending, graph)
            if len(use.writers) > _JOIN_ABOVE:
                use.writers = [graph.join(use.writers)]
            before.update(use.writers)
        for region in access.writes:
            use = _pending_of(region, pending, graph)
            if len(use.readers) > _JOIN_ABOVE:
                use.readers = [graph.join(use.readers)]
            before.update(use.readers)
            if not region.partial:
                before.update(use.writers)
        before.discard(index)
        for earlier in sorted(before):
            graph.edge(earlier, index)
        for region in access.reads:
            pending[id(region)].readers.append(index)
        for region in access.writes:
            use = pending[id(region)]
            if region.partial:
                use.writers.append(index)
            else:
                use.writers, use.readers = [index], []
    return graph


def _pending_of(region: Region, pending: dict[int, _Pending], graph: _Graph) -> _Pending:
    """What is still under way on a region; at first, on the regions whose bytes it took over."""
    if id(region) not in pending:
        made = _Pending()
        for old in region.reuses:
            # Recursive, as a slot may be reserved, taken over and never touched. All uses must be
            # over before the first write here: they count as reading.
            use = _pending_of(old, pending, graph)
            made.readers += use.writers + use.readers
        # Neighbouring slots inherit from the same regions, again and again: keep it short.
        made.readers = sorted(set(made.readers))
        if len(made.readers) > _JOIN_ABOVE:
            made.readers = [graph.join(made.readers)]
        pending[id(region)] = made
    return pending[id(region)]
