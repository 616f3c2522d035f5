"""Which instructions must follow which, from the memory that they touch.

Lowering names, for every instruction, the regions it reads and writes: slots of SRAM buffers, whole
tensors in DRAM. A region may reuse the bytes of earlier ones. An instruction follows the writes of
what it reads, and the writes and reads of what it overwrites. This is found once, as a graph:
``compiler.schedule.list_schedule`` orders it, ``compiler.schedule.semaphores`` reads the waits off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_JOIN_ABOVE = 4
"""More accesses than this get one joint successor, to keep the graph sparse."""


@dataclass(slots=True, eq=False)
class Region:
    """Memory with dependences of its own; compared by identity.

    ``reuses`` are the earlier regions whose bytes this one takes over. Writes to a ``partial``
    region are to separate parts of it and do not follow each other.
    """

    partial: bool = False
    reuses: list[Region] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Access:
    """The regions that one instruction reads and writes."""

    reads: tuple[Region, ...]
    writes: tuple[Region, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DependenceGraph:
    """``before[n]`` are the nodes that node n follows directly.

    The first ``instructions`` nodes are the instructions in lowering order. Those after them are
    joins, which do no work: to follow one is to follow all that is before it, where earlier joins
    may be among.
    """

    instructions: int
    before: list[list[int]]

    def join(self, nodes: list[int]) -> int:
        """A new node that follows all of ``nodes``."""
        self.before.append(nodes)
        return len(self.before) - 1


@dataclass(slots=True)
class _Pending:
    """Nodes that write and read a region and that a later access may have to follow."""

    writers: list[int] = field(default_factory=list)
    readers: list[int] = field(default_factory=list)


def dependence_graph(accesses: Sequence[Access]) -> DependenceGraph:
    """The dependences of instructions that make these accesses, in lowering order."""
    graph = DependenceGraph(len(accesses), [[] for _ in accesses])
    pending: dict[int, _Pending] = {}
    for index, access in enumerate(accesses):
        before: set[int] = set()
        for region in access.reads:
            use = _pending_of(region, pending, graph)
            use.writers = _joined(use.writers, graph)
            before.update(use.writers)
        for region in access.writes:
            use = _pending_of(region, pending, graph)
            use.readers = _joined(use.readers, graph)
            before.update(use.readers)
            if not region.partial:
                before.update(use.writers)
        graph.before[index] = list(before)
        for region in access.reads:
            pending[id(region)].readers.append(index)
        for region in access.writes:
            use = pending[id(region)]
            if region.partial:
                use.writers.append(index)
            else:
                use.writers, use.readers = [index], []
    return graph


def _pending_of(region: Region, pending: dict[int, _Pending], graph: DependenceGraph) -> _Pending:
    """What is still under way on a region; at first, on the regions whose bytes it took over."""
    if id(region) not in pending:
        inherited: set[int] = set()
        for old in region.reuses:
            # Recursive, as a slot may be reserved, taken over and never touched.
            use = _pending_of(old, pending, graph)
            inherited.update(use.writers, use.readers)
        # All uses must be over before the first write here: they count as reading. Neighbouring
        # slots inherit from the same regions, again and again: keep it short.
        pending[id(region)] = _Pending(readers=_joined(sorted(inherited), graph))
    return pending[id(region)]


def _joined(nodes: list[int], graph: DependenceGraph) -> list[int]:
    return [graph.join(nodes)] if len(nodes) > _JOIN_ABOVE else nodes
