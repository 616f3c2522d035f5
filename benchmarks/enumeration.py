"""The fastest way to run an op or a group among all sizes (``benchmarks.tile_spaces``), by the cost
that the compiler's search minimises: of the emitted instructions, by the simulator's functions.

A point is left out where a lower bound says that it takes as long as the best so far: of an op its
own bound and what its number of tiles adds; of a group that of all members together, then, member
by member, what has been emitted. The rest is emitted and costed. SRAM is the emitter's to grant.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from heapq import nsmallest
from math import inf, prod

import numpy as np
import numpy.typing as npt

from edgefusion.benchmarks.tile_spaces import (
    SURE,
    AtLeast,
    alone,
    in_loop,
    is_sampled,
    least_ps,
    sizes,
)
from edgefusion.compiler.lowering.answers import Question
from edgefusion.compiler.lowering.bounds import bus_ps
from edgefusion.compiler.lowering.cost import Tally, costs_of
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import emit_group, stripe_bytes, turns
from edgefusion.compiler.lowering.group_bounds import BoundFinder
from edgefusion.compiler.lowering.group_search import made_inside
from edgefusion.compiler.lowering.plan import Group, Loop, Member
from edgefusion.compiler.lowering.rule import OpContext, Tiling
from edgefusion.compiler.lowering.scene import Scene, with_residents
from edgefusion.compiler.lowering.tile_search import limited, lowered_kind
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.network.rows import row_count, rows_per_index
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.groups import NO_BOUNDS, EngineBounds

KEPT = 12
"""The fastest points that are remembered, to be scheduled."""
_BATCH = 256
_MOST_COMBINED = 4_000_000
"""Combinations of members' tilings that are held at once."""


@dataclass(frozen=True, slots=True)
class Point:
    """A group by its estimated picoseconds, with its instructions."""

    time_ps: int
    instructions: int
    group: Group


@dataclass
class Enumerated:
    """The fastest points of those costed, best first; how many points there are, how many were
    costed, and how many were left out with no proof. The others are proven not to be faster than
    ``limit_ps`` or the best, or to exceed SRAM."""

    limit_ps: float
    deadline: float = inf
    best: list[Point] = field(default_factory=list)
    points: int = 0
    costed: int = 0
    untried: int = 0
    sampled: bool = False

    @property
    def bar_ps(self) -> float:
        """What is not faster need not be looked at."""
        return min(self.limit_ps, self.best[0].time_ps) if self.best else self.limit_ps

    @property
    def is_late(self) -> bool:
        """Whether there is no time for more."""
        return time.perf_counter() > self.deadline

    def enter(self, found: Sequence[Point]) -> None:
        """Add points that have been costed."""
        both = [*self.best, *found]
        self.best = nsmallest(KEPT, both, key=lambda p: (p.time_ps, p.instructions))


def enumerate_question(
    question: Question, scene: Scene, schedule: Schedule, limit_ps: float, seconds: float = inf
) -> Enumerated:
    """All ways to run the ops of ``question`` that may take less than ``limit_ps``; those that
    ``seconds`` do not suffice for stay untried."""
    found = Enumerated(limit_ps, time.perf_counter() + seconds)
    if question.is_loop:
        _Loops(question, scene, schedule, found).run()
    else:
        _Alone(question, scene, schedule, found).run()
    return found


class _Alone:
    """An op by itself."""

    def __init__(
        self, question: Question, scene: Scene, schedule: Schedule, found: Enumerated
    ) -> None:
        (self.op,) = question.ops
        self.loop, self.schedule, self.found = question.loop, schedule, found
        self.machine = limited(scene.machine, question.limit_bytes)
        placed = with_residents(scene, question.where)
        self.context = OpContext(self.op, self.machine, placed.tensors, placed.views)
        (self.bound,) = BoundFinder(scene).of_loop(question.ops, Loop(0), question.where)
        stored = sum(scene.aligned_bytes(root) for root in question.loop.kept)
        self.stored_ps = bus_ps(stored, scene.machine)
        # More copies take room, and where engines of a kind are one, are worth nothing.
        self.copies = sorted({*schedule.slot_counts(scene.machine), 1})

    def run(self) -> None:
        """All of the space."""
        found, copies = self.found, len(self.copies)
        found.sampled = is_sampled(self.context, self.schedule)
        points = alone(self.context, self.schedule)
        too_large: object = None
        ended = False
        while not ended:
            batch: dict[Tiling, tuple[int, int, int]] = {}
            emitter, number = Emitter.of_costs(self.machine, self.schedule), 0
            while len(batch) < _BATCH and not ended:
                point = next(points, None)
                if point is None:
                    ended = True
                    continue
                t, least = point
                found.points += copies
                if found.is_late:
                    found.untried += copies
                    continue
                engines = least.engines(self.bound, self.machine)
                if t.family == too_large or least_ps(engines, self.schedule) >= found.bar_ps:
                    continue
                taken = self._emitted(emitter, number, t)
                number += 1
                if taken is not None:
                    batch[t] = taken
                elif not found.sampled:
                    too_large = t.family  # buffers grow with the first extent, as all else is equal
            self._cost(emitter, number, batch)

    def _emitted(self, e: Emitter, number: int, t: Tiling) -> tuple[int, int, int] | None:
        """The tiling emitted dry as ``number``: that number, bytes of SRAM with one copy of each
        streamed buffer, and those of a further copy; None if that does not fit."""
        e.begin(number, self.op.name, 1)
        e.sram_peak_bytes = 0
        try:
            lowered_kind(self.op).emit(e, self.context, t)
        except DoesNotFitError:
            return None
        return number, e.sram_peak_bytes, e.streamed_bytes

    def _cost(
        self, emitter: Emitter, emitted: int, batch: Mapping[Tiling, tuple[int, int, int]]
    ) -> None:
        if not batch:
            return
        whole = Tally.of(emitter, self.machine, emitted)
        for copies in self.copies:
            fitting = [
                (t, number)
                for t, (number, one, more) in batch.items()
                if one + (copies - 1) * more <= self.machine.sram_bytes
            ]
            if not fitting:
                continue
            tally = Tally.beside([whole.only(number) for _, number in fitting])
            kind = lowered_kind(self.op)
            known = [kind.pauses(self.context, t) for t, _ in fitting]
            pauses = {i: pause for i, pause in enumerate(known) if pause}
            costs = costs_of(tally, copies, self.machine, self.schedule, pauses)
            time_ps = costs.time_ps
            if self.loop.kept:
                time_ps = np.maximum(time_ps, costs.dma_ps + self.stored_ps)
            self.found.costed += len(fitting)
            self.found.enter(
                [
                    Point(int(ps), int(n), self._group(t, copies))
                    for ps, n, (t, _) in zip(time_ps, costs.instructions, fitting, strict=True)
                ]
            )

    def _group(self, t: Tiling, copies: int) -> Group:
        return Group((Member(self.op, t, copies, self.op.name),), self.loop)


@dataclass(frozen=True, slots=True, eq=False)
class _Options:
    """Tilings of one member for stripes of one size: what engines do with each, and the bytes of
    SRAM that it takes, int64[tilings]."""

    tilings: Sequence[Tiling]
    tally: Tally
    sram_bytes: npt.NDArray[np.int64]


class _Loops:
    """A group whose stripes roll by."""

    def __init__(
        self, question: Question, scene: Scene, schedule: Schedule, found: Enumerated
    ) -> None:
        self.ops, self.loop = question.ops, question.loop
        self.limit_bytes, self.schedule, self.found = question.limit_bytes, schedule, found
        self.scene = with_residents(scene, question.where)
        rolls = dict.fromkeys(self.loop.rolling | self.loop.shared, "sram")
        self.inside = with_residents(self.scene, rolls)
        self.bounds = BoundFinder(scene).of_loop(self.ops, self.loop, question.where)
        self.last = scene.tensors[self.ops[-1].outputs[0]]
        sums = any(step.is_statistics for op in self.ops[:-1] for step in op.epilogue)
        rolls_out = scene.root(self.ops[-1].outputs[0]) in self.loop.rolling
        self.once = sums or bool(self.loop.kept) or rolls_out

    def run(self) -> None:
        """Every height of the stripes, the lowest last."""
        machine, unit = self.scene.machine, rows_per_index(self.last.shape)
        lines = row_count(self.last) // unit
        granule = min(lines, machine.tensor_granularity_m) if unit == 1 else 1
        slots = dict.fromkeys((frozenset[int](), made_inside(self.ops, self.loop, self.inside)))
        for height in reversed(sizes(lines, granule)):
            for single in slots:
                loop = replace(self.loop, stripe=height * unit, sweeps=1, single=single)
                self._stripe(loop)

    def _stripe(self, loop: Loop) -> None:
        scene = self.scene
        scratch = Emitter.of_costs(scene.machine, self.schedule)
        frontier = scene.frontier(self.ops, loop)
        rows, held = frontier.capacities
        single = {scene.root(self.ops[index].outputs[0]) for index in loop.single}
        rolling = sum(
            stripe_bytes(root, n, scene, 1 if root in single else self.schedule.slots)
            for root, n in held.items()
        )
        steps = [0] * len(self.ops)
        for _, step in turns(scratch, frontier):
            for i, span in enumerate(step.spans):
                steps[i] += scratch.weight if span.size else 0
        *others, last = [
            list(in_loop(self._context(op), size, count, last=op is self.ops[-1] and not self.once))
            for op, size, count in zip(self.ops, rows, steps, strict=True)
        ]
        by_sweeps: dict[int, list[tuple[Tiling, AtLeast]]] = {}
        for t, least in last:
            by_sweeps.setdefault(t.sweeps, []).append((t, least))
        for sweeps, own in by_sweeps.items():
            members = [*others, own]
            count = prod(map(len, members))
            self.found.points += count
            if self.found.is_late:
                self.found.untried += count
            elif rolling < self.limit_bytes and count:
                swept = replace(loop, sweeps=sweeps)
                self._combine(swept, self._promising(members, swept, rolling), rolling)

    def _context(self, op: NetOp) -> OpContext:
        return OpContext(op, self.scene.machine, self.inside.tensors, self.inside.views)

    def _promising(
        self, members: Sequence[Sequence[tuple[Tiling, AtLeast]]], loop: Loop, rolling: int
    ) -> list[_Options]:
        """Of each member the tilings that may belong to something faster, emitted."""
        scene, bar_ps = self.scene, self.found.bar_ps
        engines = [
            [least.engines(bound, scene.machine) for _, least in points]
            for points, bound in zip(members, self.bounds, strict=True)
        ]
        fewest = [_fewest(own) for own in engines]
        room = [
            [self._sram_bytes(op, t) for t, _ in points]
            for op, points in zip(self.ops, members, strict=True)
        ]
        tightest = [min(own) for own in room]
        emitter = Emitter.of_costs(scene.machine, self.schedule)
        kept: list[list[int]] = []
        placeholder = tuple(
            Member(op, points[0][0], self.schedule.slots, op.name)
            for op, points in zip(self.ops, members, strict=True)
        )
        number = 0
        for i, (op, points) in enumerate(zip(self.ops, members, strict=True)):
            others = sum((n for j, n in enumerate(fewest) if j != i), NO_BOUNDS)
            left = self.limit_bytes - rolling - sum(tightest) + tightest[i]
            kept.append(
                [
                    k
                    for k in range(len(points))
                    if room[i][k] <= left
                    and least_ps(engines[i][k] + others, self.schedule) < bar_ps
                ]
            )
            for k in kept[i]:
                own = Member(op, points[k][0], self.schedule.slots, op.name)
                group = Group((*placeholder[:i], own, *placeholder[i + 1 :]), loop)
                emitter.begin_group()
                emit_group(emitter, group, self.inside, [number] * len(self.ops), only=i)
                number += 1
            if not kept[i]:
                return []
        tally, made, first = Tally.of(emitter, scene.machine, number), [], 0
        for i, chosen in enumerate(kept):
            own_tally = Tally.beside([tally.only(first + k) for k in range(len(chosen))])
            first += len(chosen)
            tilings = [members[i][k][0] for k in chosen]
            made.append(_Options(tilings, own_tally, np.array([room[i][k] for k in chosen])))
        return made

    def _sram_bytes(self, op: NetOp, t: Tiling) -> int:
        """What a member reserves; more than there is if that does not fit."""
        e = Emitter.of_costs(self.scene.machine, self.schedule)
        e.begin(0, op.name, self.schedule.slots)
        with suppress(DoesNotFitError):
            lowered_kind(op).stage(e, self._context(op), t)
        return e.sram_peak_bytes

    def _combine(self, loop: Loop, members: Sequence[_Options], rolling: int) -> None:
        """Cost what members can be together."""
        if not members:
            return
        found, slots, machine = self.found, self.schedule.slots, self.scene.machine
        order = sorted(range(len(members)), key=lambda i: len(members[i].tilings))
        chosen = np.zeros((0, 1), dtype=np.int64)
        total, taken = Tally.nothing(1), np.full(1, rolling)
        for at, i in enumerate(order):
            own, before = members[i], chosen.shape[1]
            further = [members[j] for j in order[at + 1 :]]
            count = len(own.tilings)
            chosen = np.vstack(
                [np.repeat(chosen, count, axis=1), np.tile(np.arange(count), before)]
            )
            total = total.of_each(np.repeat(np.arange(before), count)) + own.tally.of_each(
                chosen[-1]
            )
            taken = np.repeat(taken, count) + own.sram_bytes[chosen[-1]]
            reached = total
            for options in further:
                least_of_it = _least(options.tally)
                reached = reached + least_of_it.of_each(np.zeros(before * count, dtype=np.int64))
            least = SURE * costs_of(reached, slots, machine, self.schedule).least_ps
            room = self.limit_bytes - sum(int(o.sram_bytes.min()) for o in further)
            left = np.flatnonzero((least < found.bar_ps) & (taken <= room))
            if len(left) > _MOST_COMBINED:
                left = left[np.argsort(least[left])]
                cut = len(left) - _MOST_COMBINED
                found.untried += cut * prod(len(o.tilings) for o in further)
                left = left[:_MOST_COMBINED]
            chosen, total, taken = chosen[:, left], total.of_each(left), taken[left]
        if not len(taken):
            return
        costs = costs_of(total, slots, machine, self.schedule)
        found.costed += len(taken)
        places = {i: at for at, i in enumerate(order)}
        best = np.lexsort((costs.instructions, costs.time_ps.astype(np.int64)))[:KEPT]
        made = []
        for n in best:
            members_of = tuple(
                Member(op, members[i].tilings[chosen[places[i], n]], slots, op.name)
                for i, op in enumerate(self.ops)
            )
            group = Group(members_of, loop)
            made.append(Point(int(costs.time_ps[n]), int(costs.instructions[n]), group))
        found.enter(made)


def _fewest(known: Sequence[EngineBounds]) -> EngineBounds:
    """The least of each kind of engine."""
    return EngineBounds(*(min(column) for column in zip(*map(astuple, known), strict=True)))


def _least(tally: Tally) -> Tally:
    """What none of the candidates keeps any engine busy less than; in as many instructions as any
    has, for of a transfer's time set-up is not the bus's."""
    made = Tally(tally.counts.min(axis=1, keepdims=True))
    made.instructions[:] = tally.instructions.max(axis=1, keepdims=True)
    return made
