"""The order in which overlapping engines take their instructions.

Lowering emits tiles one after another; in that order an in-order engine would wait at the end of
every tile. List scheduling keeps each engine busy: whenever one is free, it takes the instruction
whose operands are ready and that comes first in lowering order. Everything it may reorder is
limited by the hazards of SRAM slots and DRAM tensors, so values cannot change.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from edgefusion.compiler.schedule.dependences import DependenceGraph
from edgefusion.compiler.schedule.semaphores import EngineId


@dataclass(slots=True)
class _Progress:
    """Successors of each node, how many predecessors it still waits for, and when it is ready."""

    successors: list[list[int]]
    open: list[int]
    ready_at: list[int]
    events: list[tuple[int, int]]
    """(time, node) of a node that becomes ready, and (time, -1) of an engine set free."""


def list_schedule(
    graph: DependenceGraph,
    engines: Sequence[EngineId],
    durations_ps: Sequence[int],
    semaphore_ps: int,
) -> list[int]:
    """Instruction indices in issue order."""
    count = graph.instructions
    ready: dict[EngineId, list[int]] = {engine: [] for engine in sorted(set(engines))}
    free_at = dict.fromkeys(ready, 0)
    progress = _begin(graph)
    events = progress.events
    order: list[int] = []
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, node = heapq.heappop(events)
            if node >= count:
                for successor in progress.successors[node]:
                    _release(progress, successor, now)
            elif node >= 0:
                heapq.heappush(ready[engines[node]], node)
        for engine, queue in ready.items():
            if queue and free_at[engine] <= now:
                node = heapq.heappop(queue)
                order.append(node)
                free_at[engine] = end = now + durations_ps[node]
                heapq.heappush(events, (end, -1))
                for successor in progress.successors[node]:
                    crosses = successor < count and engines[successor] != engine
                    _release(progress, successor, end + (semaphore_ps if crosses else 0))
    return order


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
