"""Which earlier instructions a new one must wait for.

Each memory region in use carries the last write and read of every engine. An instruction waits for
writes to what it reads, and for writes and reads of what it writes. Waits that the engine's own
order or an earlier wait already implies are dropped, as a semaphore allocator would.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

EngineId = tuple[int, int]


@dataclass(slots=True)
class RegionState:
    """Last write and read (instruction index) of a memory region by each engine instance.

    ``first`` and ``last`` are the first and last instruction that touched it, -1 before any did.
    """

    writes: dict[EngineId, int] = field(default_factory=dict)
    reads: dict[EngineId, int] = field(default_factory=dict)
    first: int = -1
    last: int = -1

    def inherit(self, other: RegionState) -> None:
        """Take over the accesses of a region whose bytes this one reuses."""
        for mine, theirs in ((self.writes, other.writes), (self.reads, other.reads)):
            for engine, index in theirs.items():
                mine[engine] = max(mine.get(engine, -1), index)


class Dependencies:
    """Tracks accesses in program order and answers what an instruction must wait for.

    With ``overlap`` false every instruction simply follows the one before it.
    """

    def __init__(self, *, overlap: bool) -> None:
        self._overlap = overlap
        self._previous: tuple[EngineId, int] | None = None
        self._seen: dict[EngineId, dict[EngineId, int]] = {}

    def record(
        self,
        index: int,
        engine: EngineId,
        reads: Iterable[RegionState],
        writes: Iterable[RegionState],
    ) -> tuple[int, ...]:
        """Record the accesses of instruction ``index``; returns the instructions it waits for."""
        reads, writes = list(reads), list(writes)
        waits = self._hazards(engine, reads, writes) if self._overlap else self._chain(engine)
        self._previous = (engine, index)
        for region in reads:
            region.reads[engine] = index
        for region in writes:
            region.writes[engine] = index
        for region in (*reads, *writes):
            region.first = index if region.first < 0 else region.first
            region.last = index
        return waits

    def _chain(self, engine: EngineId) -> tuple[int, ...]:
        if self._previous is None or self._previous[0] == engine:
            return ()
        return (self._previous[1],)

    def _hazards(
        self, engine: EngineId, reads: list[RegionState], writes: list[RegionState]
    ) -> tuple[int, ...]:
        needed: dict[EngineId, int] = {}
        for region in reads:
            _raise_to(needed, region.writes)
        for region in writes:
            _raise_to(needed, region.writes)
            _raise_to(needed, region.reads)
        needed.pop(engine, None)
        seen = self._seen.setdefault(engine, {})
        waits = tuple(sorted(i for other, i in needed.items() if i > seen.get(other, -1)))
        _raise_to(seen, needed)
        return waits


def _raise_to(target: dict[EngineId, int], source: dict[EngineId, int]) -> None:
    for engine, index in source.items():
        if index > target.get(engine, -1):
            target[engine] = index
