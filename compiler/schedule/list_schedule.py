"""The order in which overlapping engines take their instructions, and which engine takes which.

Lowering emits tiles one after another; in that order an in-order engine would wait at the end of
every tile. List scheduling keeps each engine busy: whenever one is free, it takes the instruction
whose operands are ready and that comes first in lowering order. The engines of a kind are a pool.
Everything that may be reordered is limited by the dependence graph, so values cannot change.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
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


def list_schedule(
    graph: DependenceGraph, kinds: Sequence[int], durations_ps: Sequence[int], machine: Machine
) -> Issue:
    """Order the instructions of ``graph``, which run on engines of these ``kinds`` for so long.

    First in lowering order; then backwards from the end, and forwards again with those first that
    the backward pass had to place earliest ("double justification": Valls, Ballestin and
    Quintanilla, Justification and RCPSP, EJOR 165, 2005). The shorter of both is taken.
    """
    pool = _Pool(kinds, durations_ps, machine)
    before = graph.before
    after: list[list[int]] = [[] for _ in before]
    for node, earlier_nodes in enumerate(before):
        for earlier in earlier_nodes:
            after[earlier].append(node)
    first = pool.run(before, after, range(len(before)))
    backwards = pool.run(after, before, _ranks(reversed(first.order), len(before)))
    second = pool.run(before, after, _ranks(reversed(backwards.order), len(before)))
    return second if second.end_ps < first.end_ps else first


def _ranks(order: Iterable[int], nodes: int) -> list[int]:
    ranks = [0] * nodes
    for rank, node in enumerate(order):
        ranks[node] = rank
    return ranks


@dataclass(frozen=True, slots=True)
class _Pool:
    """Instructions and the engines that run them. Times are those of ``runtime.simulator``, except
    that a signal within a kind of several engines counts in the choice of the engine alone."""

    kinds: Sequence[int]
    durations_ps: Sequence[int]
    machine: Machine

    def run(
        self, before: Sequence[Sequence[int]], after: Sequence[Sequence[int]], ranks: Sequence[int]
    ) -> Issue:
        """An order in which nothing precedes what is ``before`` it: whenever an engine is free, it
        takes what is ready and has the lowest of ``ranks``. Nodes beyond the instructions are
        joins, which do no work."""
        kinds, durations_ps, machine = self.kinds, self.durations_ps, self.machine
        count = len(kinds)
        semaphore_ps, setup_ps = to_ps([machine.semaphore_ns, machine.dma_setup_ns]).tolist()
        ready: dict[int, list[tuple[int, int]]] = {kind: [] for kind in sorted(set(kinds))}
        free_at = {kind: [0] * machine.engines[EngineKind(kind)] for kind in ready}
        bus_free = end_ps = 0
        home = [0] * count  # the unit of the last predecessor of the same kind
        still_open = [len(nodes) for nodes in before]
        ready_at = [0] * len(before)
        ended: dict[int, dict[int, int]] = {}  # by join, when the last of each kind before it has
        # (time, node) of a node that becomes ready, and (time, -1) of an engine set free.
        events = [(0, node) for node, waits in enumerate(still_open) if not waits]

        def release(node: int, at: int) -> None:
            """One predecessor of ``node`` has been placed; its result is there ``at``."""
            ready_at[node] = max(ready_at[node], at)
            still_open[node] -= 1
            if not still_open[node]:
                heapq.heappush(events, (ready_at[node], node))

        def pass_on(ends: Mapping[int, int], node: int, now: int) -> None:
            """To ``node``, that what it follows has ended, by kind: others take a signal."""
            if node < count:
                own = kinds[node]
                signals = (at + (semaphore_ps if kind != own else 0) for kind, at in ends.items())
                now = max([now, *signals])
            else:
                last = ended.setdefault(node, {})
                for kind, at in ends.items():
                    last[kind] = max(last.get(kind, 0), at)
            release(node, now)

        order: list[int] = []
        units: list[int] = []
        while events:
            now = events[0][0]
            while events and events[0][0] == now:
                _, node = heapq.heappop(events)
                if node >= count:
                    for successor in after[node]:
                        pass_on(ended.get(node, {}), successor, now)
                elif node >= 0:
                    heapq.heappush(ready[kinds[node]], (ranks[node], node))
            for kind, queue in ready.items():
                idle = [unit for unit, free in enumerate(free_at[kind]) if free <= now]
                while queue and idle:
                    _, node = heapq.heappop(queue)
                    # An operand made here needs no signal to get here.
                    unit = home[node] if home[node] in idle else idle[0]
                    idle.remove(unit)
                    order.append(node)
                    units.append(unit)
                    end = now + durations_ps[node]
                    if kind == EngineKind.DMA:
                        end = bus_free = max(end, bus_free + durations_ps[node] - setup_ps)
                    free_at[kind][unit] = end
                    end_ps = max(end_ps, end)
                    heapq.heappush(events, (end, -1))
                    for successor in after[node]:
                        if successor < count and kinds[successor] == kind:
                            home[successor] = unit
                        pass_on({kind: end}, successor, end)
        return Issue(order, units, end_ps)
