"""The tile search: every candidate tiling of an op, costed, and the one that lowering takes.

A candidate's cost is that of the instructions its rule emits (``Emitter`` in dry mode), evaluated
by the simulator's own cost functions; there is no second model to drift from the first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from edgefusion.compiler.lowering.cost import Tally, costs_of
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.rehearsal import rehearse_best
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext, Tiling
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.errors import DoesNotFitError, UnsupportedOpError
from edgefusion.runtime.machine import Machine

_NOT_COSTED = "not costed: larger tiles of its family fit"
_LARGEST = 4


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
    dma_ps: int = 0
    rejected: str = ""


Known = dict[tuple[Tiling, int], Candidate]
"""Candidates of one op that have been costed, by tiling and copies."""


def search(
    context: OpContext,
    schedule: Schedule,
    limit_bytes: int | None = None,
    known: Known | None = None,
) -> list[Candidate]:
    """All candidates within ``limit_bytes`` of SRAM (all of it, if left out), best first, rejected
    ones last.

    Of each family of tilings only the largest few that fit are costed: within a family, smaller
    tiles add transfers, halo and set-up; with overlap they also shorten the first and last tile.
    ``known`` carries costs from one limit to another. Within less than all
    of SRAM nothing is tried but the kind's own ``tilings``.
    """
    known = {} if known is None else known
    narrow = limit_bytes is not None and limit_bytes < context.machine.sram_bytes
    if limit_bytes is not None:
        context = replace(context, machine=limited(context.machine, limit_bytes))
    kind, copies = lowered_kind(context.op), schedule.slot_counts(context.machine)
    tilings = list(dict.fromkeys(kind.tilings(context)))
    found = [c for slots in copies for c in _cost(tilings, slots, kind, context, schedule, known)]
    if not narrow and (all(c.rejected for c in found) or kind.is_cramped(context, schedule)):
        further = list(dict.fromkeys(kind.fallback(context)))
        for slots in copies:
            found += _cost(further, slots, kind, context, schedule, known)
        tilings += further
    if schedule.overlap and not narrow:
        # Larger tiles without overlap compete with smaller ones that overlap.
        free = [t for t in tilings if kind.pauses(context, t) is None]
        found += _cost(free, 1, kind, context, schedule, known)
        found = _rehearsed(found, kind, context, schedule)
    # Equal times are common (a bound engine hides the rest): then fewer bytes, then fewer
    # instructions, then less SRAM win.
    return sorted(
        found,
        key=lambda c: (bool(c.rejected), c.time_ps, c.dma_bytes, c.instructions, c.sram_bytes),
    )


def limited(machine: Machine, sram_bytes: int) -> Machine:
    """The machine with so much SRAM."""
    return machine if sram_bytes == machine.sram_bytes else replace(machine, sram_bytes=sram_bytes)


def lowered_kind(op: NetOp) -> LoweredKind:
    """The op's kind; UnsupportedOpError if it does not become instructions."""
    if isinstance(op.kind, LoweredKind):
        return op.kind
    raise UnsupportedOpError(
        f"{op.name}: op kind {op.kind.name!r} has no lowering (origin: {', '.join(op.origin)})"
    )


def _cost(
    tilings: list[Tiling],
    slots: int,
    kind: LoweredKind,
    context: OpContext,
    schedule: Schedule,
    known: Known,
) -> list[Candidate]:
    machine = context.machine
    emitter = Emitter.of_costs(machine, schedule)
    fitting: Counter[object] = Counter()
    found: list[Candidate | None] = [None] * len(tilings)
    sram = [0] * len(tilings)
    for i, candidate in enumerate(tilings):
        # A rule proposes one size of a split reduction for each number of copies.
        most = 1 if candidate.splits else _LARGEST
        if fitting[candidate.family] >= most:
            found[i] = Candidate(candidate, slots, 0, rejected=_NOT_COSTED)
            continue
        before = known.get((candidate, slots))
        if before is not None and before.sram_bytes > machine.sram_bytes:
            over = f"{before.sram_bytes - machine.sram_bytes:,} bytes more than the SRAM has"
            found[i] = replace(before, rejected=f"{context.op.name}: {over}")
            continue
        if before is not None and not before.rejected:
            fitting[candidate.family] += 1
            found[i] = before
            continue
        emitter.begin(i, context.op.name, slots)
        emitter.sram_peak_bytes = 0
        try:
            kind.emit(emitter, context, candidate)
            fitting[candidate.family] += 1
        except DoesNotFitError as error:
            peak = emitter.sram_peak_bytes
            found[i] = Candidate(candidate, slots, peak, rejected=str(error))
        sram[i] = emitter.sram_peak_bytes
    if None in found:
        pauses = {i: p for i, t in enumerate(tilings) if (p := kind.pauses(context, t))}
        tally = Tally.of(emitter, machine, len(tilings))
        costs = costs_of(tally, slots, machine, schedule, pauses)
        for i, t in enumerate(tilings):
            if found[i] is None:
                found[i] = Candidate(
                    t,
                    slots,
                    sram[i],
                    int(costs.dma_bytes[i]),
                    int(costs.instructions[i]),
                    int(costs.time_ps[i]),
                    int(costs.dma_ps[i]),
                )
    made = [c for c in found if c is not None]
    known |= {(c.tiling, slots): c for c in made if c.rejected != _NOT_COSTED}
    return made


def _rehearsed(
    found: list[Candidate], kind: LoweredKind, context: OpContext, schedule: Schedule
) -> list[Candidate]:
    """``found``; if any of them pause, with the times that scheduling gives to the best of them."""
    fitting = [c for c in found if not c.rejected]
    if not any(kind.pauses(context, c.tiling) for c in fitting):
        return found

    def emit(c: Candidate, e: Emitter) -> None:
        e.begin(0, context.op.name, c.slots)
        kind.emit(e, context, c.tiling)

    times = rehearse_best(
        fitting, lambda c: c.time_ps, lambda c: c.instructions, emit, context.machine, schedule
    )
    timed = {id(c): replace(c, time_ps=time_ps) for c, time_ps in times}
    # Of the others no more is known than that they are not likely to be better.
    worst = max(c.time_ps for c in timed.values())
    timed |= {
        id(c): replace(c, time_ps=max(c.time_ps, worst)) for c in fitting if id(c) not in timed
    }
    return [timed.get(id(c), c) for c in found]


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
