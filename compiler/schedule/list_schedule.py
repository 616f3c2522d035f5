"""The order in which overlapping engines take their instructions, and which engine takes which.

Lowering emits tiles one after another; in that order an in-order engine would wait at the end of
every tile. List scheduling keeps each engine busy: whenever one is free, it takes the instruction
whose operands are ready and that comes first in lowering order. The engines of a kind are a pool.
Everything that may be reordered is limited by the dependence graph, so values cannot change.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from edgefusion.compiler.schedule.dependences import DependenceGraph
from edgefusion.runtime.cost import to_ps
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine


@dataclass(frozen=True, slots=True)
class Issue:
    """Instructions of the graph in issue order, for each of these the unit of its kind, and when
    the last one ends."""

    order: list[int]
    units: list[int]
    end_ps: int


@dataclass(slots=True)
class _Progress:
    """Successors of each node, how many predecessors it still waits for, and when it is ready."""

    successors: list[list[int]]
    open: list[int]
    ready_at: list[int]
    events: list[tuple[int, int]]
    """(time, node) of a node that becomes ready, and (time, -1) of an engine set free."""


def list_schedule(
    graph: DependenceGraph, kinds: Sequence[int], durations_ps: Sequence[int], machine: Machine
) -> Issue:
    """Order the instructions of ``graph``, which run on engines of these ``kinds`` for so long.

    Times are those of ``runtime.simulator``, except that a signal within a kind of several engines
    counts in the choice of the engine alone.
    """
    count = graph.instructions
    semaphore_ps, setup_ps = to_ps([machine.semaphore_ns, machine.dma_setup_ns]).tolist()
    ready: dict[int, list[int]] = {kind: [] for kind in sorted(set(kinds))}
    free_at = {kind: [0] * machine.engines[EngineKind(kind)] for kind in ready}
    bus_free = 0
    home = [0] * count  # the unit of the last predecessor of the same kind
    progress = _begin(graph)
    events = progress.events
    order: list[int] = []
    units: list[int] = []
    now = 0
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, node = heapq.heappop(events)
            if node >= count:
                for successor in progress.successors[node]:
                    _release(progress, successor, now)
            elif node >= 0:
                heapq.heappush(ready[kinds[node]], node)
        for kind, queue in ready.items():
            idle = [unit for unit, free in enumerate(free_at[kind]) if free <= now]
            while queue and idle:
                node = heapq.heappop(queue)
                # An operand made here needs no signal to get here.
                unit = home[node] if home[node] in idle else idle[0]
                idle.remove(unit)
                order.append(node)
                units.append(unit)
                end = now + durations_ps[node]
                if kind == EngineKind.DMA:
                    end = bus_free = max(end, bus_free + durations_ps[node] - setup_ps)
                free_at[kind][unit] = end
                heapq.heappush(events, (end, -1))
                for successor in progress.successors[node]:
                    crosses = successor < count and kinds[successor] != kind
                    if successor < count and not crosses:
                        home[successor] = unit
                    _release(progress, successor, end + (semaphore_ps if crosses else 0))
    # An engine is set free by the last event of all.
    return Issue(order, units, now)


def _begin(graph: DependenceGraph) -> _Progress:
    nodes = len(graph.before)
    successors: list[list[int]] = [[] for _ in range(nodes)]
    for node, before in enumerate(graph.before):
        for earlier in before:
            successors[earlier].append(node)
    still_open = [len(before) for before in graph.before]
    events = [(0, node) for node in range(nodes) if not still_open[node]]
    return _Progress(successors, still_open, [0] * nodes, events)


def _release(progress: _Progress, node: int, at: int) -> None:
    """One predecessor of ``node`` has been placed; its result is there ``at``."""
    progress.ready_at[node] = max(progress.ready_at[node], at)
    progress.open[node] -= 1
    if not progress.open[node]:
        heapq.heappush(progress.events, (progress.ready_at[node], node))
