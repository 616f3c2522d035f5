"""The tile search: every candidate tiling of an op, costed, and the one that lowering takes.

A candidate's cost is that of the instructions its rule emits (``Emitter`` in dry mode), evaluated
by the simulator's own cost functions; there is no second model to drift from the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from edgefusion.compiler.lowering.cost import Tally, costs_of
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.rehearsal import rehearse
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext, Tiling
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.errors import DoesNotFitError, UnsupportedOpError
from edgefusion.runtime.machine import Machine

_NOT_COSTED = "not costed: larger tiles of its family fit"
_LARGEST = 4
CLOSE = 1.01
"""What takes up to so many times the fastest candidate's time may be preferred to it."""
_REHEARSED = 40_000
"""Instructions that are scheduled, of all tilings of an op together."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tiling over ``slots`` copies of streamed buffers, with its costs, or the reason why it was
    rejected (then the costs are zero).

    ``time_ps`` is exact for schedules without overlap, an estimate with it: the busiest engine's
    time plus one tile of everything else. One copy overlaps little, and is taken not to.
    ``least_ps`` is what smaller tiles of its family take at least.
    """

    tiling: Tiling
    slots: int
    sram_bytes: int
    dma_bytes: int = 0
    instructions: int = 0
    time_ps: int = 0
    dma_ps: int = 0
    least_ps: int = 0
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
    Where that work alone takes longer than a tiling of another family, the largest is enough.
    ``known`` carries costs from one limit to another. Within less than all of SRAM nothing is tried
    but the kind's own ``tilings``.
    """
    known = {} if known is None else known
    narrow = limit_bytes is not None and limit_bytes < context.machine.sram_bytes
    if limit_bytes is not None:
        context = replace(context, machine=limited(context.machine, limit_bytes))
    kind, copies = lowered_kind(context.op), schedule.slot_counts(context.machine)
    tilings = list(dict.fromkeys(kind.tilings(context)))
    found: list[Candidate] = []

    def cost(wanted: Sequence[Tiling], slots: int) -> None:
        # The estimates of those that pause tell little of how long they take.
        sure = all(kind.pauses(context, t) is None for t in (*tilings, *wanted))
        fastest_ps = _fastest_ps(found) if sure else None
        found.extend(_cost(wanted, slots, kind, context, schedule, known, fastest_ps))

    for slots in copies:
        cost(tilings, slots)
    if not narrow and (all(c.rejected for c in found) or kind.is_cramped(context, schedule)):
        further = list(dict.fromkeys(kind.fallback(context)))
        for slots in copies:
            cost(further, slots)
        tilings += further
    if schedule.overlap and not narrow:
        # Larger tiles without overlap compete with smaller ones that overlap.
        free = [t for t in tilings if kind.pauses(context, t) is None]
        cost(free, 1)
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
    tilings: Sequence[Tiling],
    slots: int,
    kind: LoweredKind,
    context: OpContext,
    schedule: Schedule,
    known: Known,
    fastest_ps: float | None,
) -> list[Candidate]:
    """Candidates of the ``tilings``. ``fastest_ps`` is what another one takes; None if times are
    not to be relied on."""
    families: dict[object, list[Tiling]] = {}
    for t in tilings:
        families.setdefault(t.family, []).append(t)
    pauses = {t: p for t in tilings if (p := kind.pauses(context, t))}
    found: dict[Tiling, Candidate] = {}
    for most in (_LARGEST,) if fastest_ps is None else (1, _LARGEST):
        fastest_ps = min(fastest_ps or inf, _fastest_ps(found.values()))
        emitter = Emitter.of_costs(context.machine, schedule)
        emitted: dict[Tiling, int] = {}
        for own in families.values():
            fitting = [found[t] for t in own if t in found and not found[t].rejected]
            if fitting and fitting[0].least_ps > CLOSE * fastest_ps:
                continue
            # A rule proposes one size of a split reduction for each number of copies.
            room = (1 if own[0].splits else most) - len(fitting)
            for t in own:
                if room and t not in found:
                    before = _within(known.get((t, slots)), context)
                    candidate = before or _emitted(t, slots, emitter, len(emitted), kind, context)
                    if candidate is None:
                        emitted[t] = emitter.sram_peak_bytes
                    else:
                        found[t] = candidate
                    room -= not (candidate and candidate.rejected)
        found |= _measured(emitted, slots, emitter, context.machine, schedule, pauses)
    known |= {(t, slots): c for t, c in found.items()}
    left = (Candidate(t, slots, 0, rejected=_NOT_COSTED) for t in tilings if t not in found)
    found |= {c.tiling: c for c in left}
    return [found[t] for t in tilings]


def _fastest_ps(candidates: Iterable[Candidate]) -> float:
    return min((c.time_ps for c in candidates if not c.rejected), default=inf)


def _within(before: Candidate | None, context: OpContext) -> Candidate | None:
    """What is known of a candidate, where SRAM has another size than when it was found."""
    if before is None:
        return None
    over = before.sram_bytes - context.machine.sram_bytes
    if over > 0:
        reason = f"{context.op.name}: {over:,} bytes more than the SRAM has"
        return replace(before, rejected=reason)
    return None if before.rejected else before


def _emitted(
    t: Tiling, slots: int, e: Emitter, number: int, kind: LoweredKind, context: OpContext
) -> Candidate | None:
    """Emit a tiling dry as op ``number``; the candidate if it does not fit."""
    e.begin(number, context.op.name, slots)
    e.sram_peak_bytes = 0
    try:
        kind.emit(e, context, t)
    except DoesNotFitError as error:
        return Candidate(t, slots, e.sram_peak_bytes, rejected=str(error))
    return None


def _measured(
    emitted: Mapping[Tiling, int],
    slots: int,
    emitter: Emitter,
    machine: Machine,
    schedule: Schedule,
    pauses: Mapping[Tiling, tuple[int, int]],
) -> dict[Tiling, Candidate]:
    """What was emitted, in this order and with these bytes of SRAM, costs."""
    if not emitted:
        return {}
    tally = Tally.of(emitter, machine, len(emitted))
    waits = {i: pauses[t] for i, t in enumerate(emitted) if t in pauses}
    costs = costs_of(tally, slots, machine, schedule, waits)
    return {
        t: Candidate(
            t,
            slots,
            sram_bytes,
            int(costs.dma_bytes[i]),
            int(costs.instructions[i]),
            int(costs.time_ps[i]),
            int(costs.dma_ps[i]),
            int(costs.least_ps[i]),
        )
        for i, (t, sram_bytes) in enumerate(emitted.items())
    }


def _rehearsed(
    found: list[Candidate], kind: LoweredKind, context: OpContext, schedule: Schedule
) -> list[Candidate]:
    """``found``; if any of them pause, with the times that scheduling gives: to the best by their
    estimates, which tend to be low, for as long as these are below the best time so far."""
    fitting = [c for c in found if not c.rejected]
    if not any(kind.pauses(context, c.tiling) for c in fitting):
        return found
    timed: dict[int, Candidate] = {}
    best_ps, budget = float("inf"), _REHEARSED
    for c in sorted(fitting, key=lambda c: (c.time_ps, c.instructions)):
        budget -= c.instructions
        if c.time_ps > best_ps or (timed and budget < 0):
            break
        time_ps = rehearse(context, c.tiling, c.slots, schedule)
        timed[id(c)] = replace(c, time_ps=time_ps)
        best_ps = min(best_ps, time_ps)
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
