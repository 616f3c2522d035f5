"""The tile search: every candidate tiling of an op, costed, and the one that lowering takes.

A candidate's cost is that of the instructions its rule emits (``Emitter`` in dry mode), evaluated
by the simulator's own cost functions; there is no second model to drift from the first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.lowering.emitter import Emitter, counts_array
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext, Tiling
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.cost import to_ps
from edgefusion.runtime.errors import DoesNotFitError, UnsupportedOpError
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.work import derive_work, durations_ps

Times = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_LARGEST = 4
_LARGEST_WITH_OVERLAP = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tiling over ``slots`` copies of streamed buffers, with its costs, or the reason why it was
    rejected (then the costs are zero).

    ``time_ps`` is exact for schedules without overlap, an estimate with it: the busiest engine's
    time plus one tile of everything else. One copy overlaps little, and is taken not to.
    """

    tiling: Tiling
    slots: int
    sram_bytes: int
    dma_bytes: int = 0
    instructions: int = 0
    time_ps: int = 0
    rejected: str = ""


def search(context: OpContext, schedule: Schedule) -> list[Candidate]:
    """All candidates, best first, rejected ones last.

    Of each family of tilings only the largest few that fit are costed: within a family, smaller
    tiles only add transfers, halo and set-up; with overlap they also shorten the first and last
    tile, so more are tried.
    """
    kind, copies = lowered_kind(context.op), schedule.slot_counts(context.machine)
    tilings = list(dict.fromkeys(kind.tilings(context)))
    found = [c for slots in copies for c in _cost(tilings, slots, kind, context, schedule)]
    if all(c.rejected for c in found):
        further = list(dict.fromkeys(kind.fallback(context)))
        for slots in copies:
            found += _cost(further, slots, kind, context, schedule)
        if schedule.overlap:
            # Larger tiles without overlap compete with smaller ones that overlap.
            found += _cost([*tilings, *further], 1, kind, context, schedule)
    # Equal times are common (a bound engine hides the rest): then fewer bytes, then fewer
    # instructions, then less SRAM win.
    return sorted(
        found,
        key=lambda c: (bool(c.rejected), c.time_ps, c.dma_bytes, c.instructions, c.sram_bytes),
    )


def lowered_kind(op: NetOp) -> LoweredKind:
    """The op's kind; UnsupportedOpError if it does not become instructions."""
    if isinstance(op.kind, LoweredKind):
        return op.kind
    raise UnsupportedOpError(
        f"{op.name}: op kind {op.kind.name!r} has no lowering (origin: {', '.join(op.origin)})"
    )


def _cost(
    tilings: list[Tiling], slots: int, kind: LoweredKind, context: OpContext, schedule: Schedule
) -> list[Candidate]:
    machine = context.machine
    builder = ProgramBuilder("search", machine.name, schedule.name)
    emitter = Emitter(builder, machine, schedule, dry=True)
    largest = _LARGEST_WITH_OVERLAP if schedule.overlap else _LARGEST
    fitting: Counter[object] = Counter()
    sram, rejected = [0] * len(tilings), [""] * len(tilings)
    for i, candidate in enumerate(tilings):
        # A rule proposes one size of a split reduction for each number of copies.
        most = 1 if candidate.splits else largest
        if fitting[candidate.family] >= most:
            rejected[i] = "not costed: larger tiles of its family fit"
            continue
        emitter.begin(i, context.op.name, slots)
        emitter.sram_peak_bytes = 0
        try:
            kind.emit(emitter, context, candidate)
            fitting[candidate.family] += 1
        except DoesNotFitError as error:
            rejected[i] = str(error)
        sram[i] = emitter.sram_peak_bytes
    nbytes, instructions, time_ps = _measure(emitter, slots, machine, schedule, len(tilings))
    return [
        Candidate(t, slots, sram[i], rejected=rejected[i])
        if rejected[i]
        else Candidate(t, slots, sram[i], int(nbytes[i]), int(instructions[i]), int(time_ps[i]))
        for i, t in enumerate(tilings)
    ]


def best(context: OpContext, schedule: Schedule) -> Candidate:
    """The fastest candidate; DoesNotFitError, naming op and least need, if none fits."""
    candidates, machine = search(context, schedule), context.machine
    if not candidates or candidates[0].rejected:
        least = min((c.sram_bytes for c in candidates if c.sram_bytes), default=0)
        origin = ", ".join(context.op.origin[:3]) or context.op.name
        raise DoesNotFitError(
            f"{context.op.name} ({context.op.kind.name}, from {origin}): none of {len(candidates)} "
            f"tilings fits the SRAM of {machine.sram_bytes} bytes; the smallest needs at least "
            f"{least} bytes, {least - machine.sram_bytes} too many. Use a target with more SRAM or "
            f"a smaller model."
        )
    return candidates[0]


def _measure(
    emitter: Emitter, slots: int, machine: Machine, schedule: Schedule, candidates: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(DMA bytes, instructions, time in ps) of each candidate."""
    program = emitter.builder.build()
    counts = counts_array(emitter)
    work = derive_work(program)
    duration = durations_ps(program, machine, work) * counts
    op, engine = program.columns.op, program.columns.engine
    dma_bytes = np.zeros(len(program), dtype=np.int64)
    dma_bytes[work.dma.index] = work.dma.useful_bytes * counts[work.dma.index]
    total_bytes = np.bincount(op, dma_bytes, candidates)
    instructions = np.bincount(op, counts, candidates)
    busy = np.zeros((len(EngineKind), candidates), dtype=np.int64)
    np.add.at(busy, (engine, op), duration)
    # One kind of engine after the other: each change of engine costs a semaphore.
    changes = np.zeros(len(program), dtype=bool)
    changes[1:] = (engine[1:] != engine[:-1]) & (op[1:] == op[:-1])
    handoffs = np.bincount(op, counts * changes, candidates) * to_ps(machine.semaphore_ns)
    if not schedule.overlap:
        return total_bytes, instructions, busy.sum(axis=0) + handoffs
    by_kind = np.zeros_like(busy)
    np.add.at(by_kind, (engine, op), counts)
    shares = _shares(busy, by_kind, slots, machine)
    if slots == 1:
        return total_bytes, instructions, shares.sum(axis=0) + handoffs
    busiest = shares.max(axis=0)
    tiles = np.maximum(by_kind[EngineKind.DMA] / 2, 1)
    return total_bytes, instructions, busiest + (shares.sum(axis=0) - busiest) / tiles


def _shares(busy: Times, instructions: Times, slots: int, machine: Machine) -> Floats:
    """What each kind's ``busy`` time comes to when its engines share its ``instructions``; all are
    [kinds, candidates], in ps.

    Engines take whole instructions. While one copy of a buffer is filled, the others are computed
    on, each by one engine. DMA channels overlap set-ups, but the bus is one.
    """
    kinds = list(EngineKind)
    computing = max(1, slots - 1)
    units = np.array([[min(machine.engines[kind], computing)] for kind in kinds])
    units[EngineKind.DMA] = machine.engines[EngineKind.DMA]
    shares: Floats = busy * np.ceil(instructions / units) / np.maximum(instructions, 1)
    setup_ps = to_ps(machine.dma_setup_ns) * instructions[EngineKind.DMA]
    shares[EngineKind.DMA] = np.maximum(shares[EngineKind.DMA], busy[EngineKind.DMA] - setup_ps)
    return shares
