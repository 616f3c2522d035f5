"""The order in which overlapping engines take their instructions, and which engine takes which.

Lowering emits tiles one after another; in that order an in-order engine would wait at the end of
every tile. List scheduling keeps each engine busy: whenever one is free, it takes the instruction
whose operands are ready and that comes first in lowering order. The engines of a kind are a pool.
Everything that may be reordered is limited by the dependence graph, so values cannot change.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.schedule.dependences import DependenceGraph
from edgefusion.compiler.schedule.list_schedule_loop import place_all
from edgefusion.runtime.cost import to_ps
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import I64

_PATIENCE = 8
"""Of the time that an instruction takes, the part (one of so many) for which an engine waits for
one that comes before it. Backwards, where the same would be said of what follows, it does not."""


@dataclass(frozen=True, slots=True, eq=False)
class Issue:
    """Instructions of the graph in issue order, for each of these the unit of its kind, and for
    each kind of engine when its first one begins and its last one ends, int64[kinds, 2]."""

    order: I64
    units: I64
    spans_ps: I64

    @property
    def end_ps(self) -> int:
        """When the last one of all ends."""
        return int(self.spans_ps[:, 1].max())


def list_schedule(
    graph: DependenceGraph, kinds: npt.ArrayLike, durations_ps: npt.ArrayLike, machine: Machine
) -> Issue:
    """Order the instructions of ``graph``, which run on engines of these ``kinds`` for so long.

    First in lowering order; then backwards from the end, and forwards again with those first that
    the backward pass had to place earliest ("double justification": Valls, Ballestin and
    Quintanilla, Justification and RCPSP, EJOR 165, 2005). The shorter of both is taken.
    """
    before = _Edges.of(graph)
    after = before.reversed()
    engines = np.array([machine.engines[kind] for kind in EngineKind], dtype=np.int64)
    semaphore_ps, setup_ps = to_ps([machine.semaphore_ns, machine.dma_setup_ns]).tolist()
    kind_of = np.asarray(kinds, dtype=np.int64)
    durations = np.asarray(durations_ps, dtype=np.int64)

    def run(waits: _Edges, follows: _Edges, ranks: I64, patience: int = _PATIENCE) -> Issue:
        """Nothing precedes what it ``waits`` for; of what is ready the lowest of ``ranks`` goes."""
        order, units, spans = place_all(
            kind_of,
            durations,
            engines,
            np.diff(waits.begin),
            follows.begin,
            follows.nodes,
            ranks,
            semaphore_ps,
            setup_ps,
            patience,
        )
        return Issue(order, units, spans)

    nodes = len(graph.before)
    first = run(before, after, np.arange(nodes))
    backwards = run(after, before, _ranks_of_reversed(first.order, nodes), patience=0)
    second = run(before, after, _ranks_of_reversed(backwards.order, nodes))
    return second if second.end_ps < first.end_ps else first


def _ranks_of_reversed(order: I64, nodes: int) -> I64:
    """The last of ``order`` comes first; nodes that are not in it are never compared."""
    ranks = np.zeros(nodes, dtype=np.int64)
    ranks[order[::-1]] = np.arange(len(order))
    return ranks


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """For each node others: ``nodes[begin[n]:begin[n + 1]]``."""

    begin: I64
    nodes: I64

    @classmethod
    def of(cls, graph: DependenceGraph) -> _Edges:
        """What each node of ``graph`` follows."""
        sizes = [len(nodes) for nodes in graph.before]
        begin = np.cumsum([0, *sizes], dtype=np.int64)
        flat = chain.from_iterable(graph.before)
        return cls(begin, np.fromiter(flat, dtype=np.int64, count=int(begin[-1])))

    def reversed(self) -> _Edges:
        """From those others to the nodes."""
        count = len(self.begin) - 1
        begin = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.nodes, minlength=count), out=begin[1:])
        of_edge = np.repeat(np.arange(count), np.diff(self.begin))
        return _Edges(begin, of_edge[np.argsort(self.nodes, kind="stable")])
