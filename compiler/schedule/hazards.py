"""Which instructions must wait for which others, from the memory that they touch.

Lowering names, for every instruction, the regions it reads and writes: slots of SRAM buffers, whole
tensors in DRAM. A region may reuse the bytes of earlier ones. An instruction follows the writes of
what it reads, and the writes and reads of what it overwrites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

EngineId = tuple[int, int]


@dataclass(slots=True, eq=False)
class Region:
    """Memory with hazards of its own; compared by identity.

    ``reuses`` are the earlier regions whose bytes this one takes over. Writes to a ``partial``
    region are to separate parts of it and do not wait for each other.
    """

    partial: bool = False
    reuses: list[Region] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Access:
    """The regions that one instruction reads and writes."""

    reads: tuple[Region, ...]
    writes: tuple[Region, ...]


@dataclass(slots=True)
class _Uses:
    """Last write and read (instruction index) of a region by each engine instance."""

    writes: dict[EngineId, int] = field(default_factory=dict)
    reads: dict[EngineId, int] = field(default_factory=dict)


def waits(
    engines: Sequence[EngineId], accesses: Sequence[Access], *, overlap: bool
) -> list[tuple[int, ...]]:
    """For each instruction, in program order, the earlier ones it has to wait for.

    Waits that an engine's own order or an earlier wait of the same engine implies are left out, as
    a semaphore allocator would. Without ``overlap`` every instruction follows the one before it.
    """
    if not overlap:
        return [
            (i - 1,) if i and engines[i - 1] != engine else () for i, engine in enumerate(engines)
        ]
    uses: dict[int, _Uses] = {}
    seen: dict[EngineId, dict[EngineId, int]] = {}
    found = []
    for index, (engine, access) in enumerate(zip(engines, accesses, strict=True)):
        needed: dict[EngineId, int] = {}
        for region in access.reads:
            _raise_to(needed, _uses_of(region, uses).writes)
        for region in access.writes:
            use = _uses_of(region, uses)
            _raise_to(needed, use.writes)
            _raise_to(needed, use.reads)
        needed.pop(engine, None)
        known = seen.setdefault(engine, {})
        found.append(tuple(sorted(i for other, i in needed.items() if i > known.get(other, -1))))
        _raise_to(known, needed)
        for region in access.reads:
            uses[id(region)].reads[engine] = index
        for region in access.writes:
            uses[id(region)].writes[engine] = index
    return found


def _uses_of(region: Region, uses: dict[int, _Uses]) -> _Uses:
    """The uses of a region; on first sight, those of the regions whose bytes it took over."""
    if id(region) not in uses:
        made = _Uses()
        for old in region.reuses:
            # Recursive, as a slot may be reserved, taken over and never touched.
            use = _uses_of(old, uses)
            _raise_to(made.writes, use.writes)
            _raise_to(made.reads, use.reads)
        uses[id(region)] = made
    return uses[id(region)]


def _raise_to(target: dict[EngineId, int], source: dict[EngineId, int]) -> None:
    for engine, index in source.items():
        if index > target.get(engine, -1):
            target[engine] = index
