"""The tile search: every candidate tiling of an op, costed, and the one that lowering takes.

A candidate's cost is that of the instructions its rule emits (``Emitter`` in dry mode), evaluated
by the simulator's own cost functions; there is no second model to drift from the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from edgefusion.compiler.lowering.cost import Tally, costs_of
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.rehearsal import rehearse, rehearse_best
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext, Tiling
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.errors import DoesNotFitError, UnsupportedOpError
from edgefusion.runtime.machine import Machine

_NOT_COSTED = "not costed: larger tiles of its family fit"
_LARGEST = 4
_LONG = 4_000
"""Instructions of an op from which on its beginning is scheduled in place of all of it."""
_TILES = 4
"""Of the shorter beginning."""
CLOSE = 1.01
"""What takes up to so many times the fastest candidate's time may be preferred to it."""


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


@dataclass(frozen=True, slots=True)
class _Emission:
    """What engines do for a tiling, however many copies of streamed buffers it has, and the SRAM
    that it takes: ``streamed_bytes`` a copy, ``fixed_bytes`` besides."""

    tally: Tally
    fixed_bytes: int
    streamed_bytes: int

    def sram_bytes(self, slots: int) -> int:
        """With so many copies."""
        return self.fixed_bytes + slots * self.streamed_bytes


@dataclass(frozen=True, slots=True)
class Known:
    """What has been found of one op: candidates by tiling and copies, emissions by tiling."""

    candidates: dict[tuple[Tiling, int], Candidate] = field(default_factory=dict)
    emissions: dict[Tiling, _Emission] = field(default_factory=dict)


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
    narrow = limit_bytes is not None and limit_bytes < context.machine.sram_bytes
    if limit_bytes is not None:
        context = replace(context, machine=limited(context.machine, limit_bytes))
    kind, copies = lowered_kind(context.op), schedule.slot_counts(context.machine)
    costing = _Costing(kind, context, schedule, Known() if known is None else known)
    tilings = list(dict.fromkeys(kind.tilings(context)))
    found: list[Candidate] = []

    def cost(wanted: Sequence[Tiling], slots: int) -> None:
        # The estimates of those that pause tell little of how long they take.
        sure = all(kind.pauses(context, t) is None for t in (*tilings, *wanted))
        fastest_ps = _fastest_ps(found) if sure else None
        found.extend(costing.candidates(wanted, slots, fastest_ps))

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


@dataclass(frozen=True, slots=True)
class _Costing:
    """Costs tilings of one op."""

    kind: LoweredKind
    context: OpContext
    schedule: Schedule
    known: Known

    def candidates(
        self, tilings: Sequence[Tiling], slots: int, fastest_ps: float | None
    ) -> list[Candidate]:
        """Of each family the largest that fits, and a few more if it can be among the best.
        ``fastest_ps`` is what another candidate takes; None if times are not to be relied on."""
        families: dict[object, list[Tiling]] = {}
        for t in tilings:
            families.setdefault(t.family, []).append(t)
        found: dict[Tiling, Candidate] = {}
        for most in (_LARGEST,) if fastest_ps is None else (1, _LARGEST):
            fastest_ps = min(fastest_ps or inf, _fastest_ps(found.values()))
            fitting: list[Tiling] = []
            batch = _Batch(Emitter.of_costs(self.context.machine, self.schedule))
            for own in families.values():
                before = [found[t] for t in own if t in found and not found[t].rejected]
                if before and before[0].least_ps > CLOSE * fastest_ps:
                    continue
                # A rule proposes one size of a split reduction for each number of copies.
                room = (1 if own[0].splits else most) - len(before)
                for t in own:
                    if room and t not in found:
                        rejected = self._rejected(t, slots, batch)
                        if rejected is not None:
                            found[t] = rejected
                        else:
                            fitting.append(t)
                            room -= 1
            batch.remember(self.known)
            found |= self._costed(fitting, slots)
            self.known.candidates.update({(t, slots): c for t, c in found.items()})
        return [found.get(t) or Candidate(t, slots, 0, rejected=_NOT_COSTED) for t in tilings]

    def _rejected(self, t: Tiling, slots: int, batch: _Batch) -> Candidate | None:
        """The candidate if it does not fit. Else it is emitted, unless that has been done."""
        limit, name = self.context.machine.sram_bytes, self.context.op.name
        before = self.known.candidates.get((t, slots))
        if before is not None and before.sram_bytes > limit:
            over = before.sram_bytes - limit
            return replace(before, rejected=f"{name}: {over:,} bytes more than the SRAM has")
        emission = self.known.emissions.get(t)
        if emission is None or emission.sram_bytes(slots) > limit:
            try:
                batch.emit(self.kind, self.context, t, slots)
            except DoesNotFitError as error:
                return Candidate(t, slots, batch.emitter.sram_peak_bytes, rejected=str(error))
        return None

    def _costed(self, fitting: Sequence[Tiling], slots: int) -> dict[Tiling, Candidate]:
        """Candidates that have been emitted."""
        known = self.known.candidates
        found = {t: known[t, slots] for t in fitting if (t, slots) in known}
        found = {t: c for t, c in found.items() if not c.rejected}
        new = [t for t in fitting if t not in found]
        if new:
            pauses = {i: p for i, t in enumerate(new) if (p := self.kind.pauses(self.context, t))}
            emissions = [self.known.emissions[t] for t in new]
            tally = Tally.beside([emission.tally for emission in emissions])
            costs = costs_of(tally, slots, self.context.machine, self.schedule, pauses)
            numbers = (costs.dma_bytes, costs.instructions, costs.time_ps, costs.dma_ps)
            columns = np.array([*numbers, costs.least_ps]).astype(np.int64).T.tolist()
            for t, emission, row in zip(new, emissions, columns, strict=True):
                found[t] = Candidate(t, slots, emission.sram_bytes(slots), *row)
        return found


@dataclass(slots=True)
class _Batch:
    """Tilings that are emitted dry one after another, to be tallied at once: how many were
    ``tried``, and of those that fit the number, the bytes of SRAM besides streamed buffers, and
    those of one copy of them."""

    emitter: Emitter
    tried: int = 0
    fitting: dict[Tiling, tuple[int, int, int]] = field(default_factory=dict)

    def emit(self, kind: LoweredKind, context: OpContext, t: Tiling, slots: int) -> None:
        """Emit one. Raises DoesNotFitError."""
        e, number = self.emitter, self.tried
        self.tried += 1
        e.begin(number, context.op.name, slots)
        e.sram_peak_bytes = 0
        kind.emit(e, context, t)
        streamed = e.streamed_bytes
        self.fitting[t] = number, e.sram_peak_bytes - slots * streamed, streamed

    def remember(self, known: Known) -> None:
        """Enter what has been emitted."""
        if self.fitting:
            tally = Tally.of(self.emitter, self.emitter.machine, self.tried)
            for t, (number, *sizes) in self.fitting.items():
                known.emissions[t] = _Emission(tally.only(number), *sizes)


def _fastest_ps(candidates: Iterable[Candidate]) -> float:
    return min((c.time_ps for c in candidates if not c.rejected), default=inf)


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """What is scheduled to time a candidate: the op, or, where that is long and the same over and
    over, two beginnings of it, one twice the other, which is done ``count`` times in all."""

    contexts: tuple[OpContext, ...]
    count: float
    instructions: int

    @classmethod
    def of(cls, c: Candidate, kind: LoweredKind, context: OpContext) -> _Rehearsal:
        """For a candidate that fits."""
        short, double = (kind.beginning(context, c.tiling, n) for n in (_TILES, 2 * _TILES))
        if c.instructions <= _LONG or short is None or double is None:
            return cls((context,), 1, c.instructions)
        share = 1 / short[1] + 1 / double[1]
        return cls((short[0], double[0]), short[1], round(share * c.instructions))

    def time_ps(self, c: Candidate, kind: LoweredKind, schedule: Schedule) -> int:
        """What the whole op takes, as scheduled or by what the second half of the longer beginning
        adds to the first."""
        first, *more = (self._scheduled_ps(c, each, kind, schedule) for each in self.contexts)
        return round(first + (self.count - 1) * (more[0] - first)) if more else first

    @staticmethod
    def _scheduled_ps(
        c: Candidate, context: OpContext, kind: LoweredKind, schedule: Schedule
    ) -> int:
        def emit(e: Emitter) -> None:
            e.begin(0, context.op.name, c.slots)
            kind.emit(e, context, c.tiling)

        return rehearse(emit, context.machine, schedule).total_ps


def _rehearsed(
    found: list[Candidate], kind: LoweredKind, context: OpContext, schedule: Schedule
) -> list[Candidate]:
    """``found``; if any of them pause, with the times that scheduling gives to the best of them."""
    fitting = [c for c in found if not c.rejected]
    if not any(kind.pauses(context, c.tiling) for c in fitting):
        return found

    rehearsals = {id(c): _Rehearsal.of(c, kind, context) for c in fitting}
    times = rehearse_best(
        fitting,
        lambda c: c.time_ps,
        lambda c: rehearsals[id(c)].instructions,
        lambda c: rehearsals[id(c)].time_ps(c, kind, schedule),
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
