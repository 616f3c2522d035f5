"""How a group runs best: every size of stripes, with all that its ops can be tiled as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.lowering.cost import Costs, Tally, costs_of
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import (
    emit_group,
    owners,
    representative_steps,
    stripe_bytes,
)
from edgefusion.compiler.lowering.plan import Group, Loop, Member
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Tiling,
    channels_of_sweep,
    stripe_sizes,
)
from edgefusion.compiler.lowering.scene import Scene, Step, with_residents
from edgefusion.compiler.lowering.tile_search import lowered_kind
from edgefusion.compiler.network.network import NetOp, operands
from edgefusion.compiler.network.rows import row_count, rows_per_index
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.cost import to_ps
from edgefusion.runtime.errors import DoesNotFitError

_UNCRAMPED = 3
"""Sizes of stripes that are tried for which every op has room for its largest tiles: smaller ones
only add halo and set-up, but begin and end sooner."""
_IDLE = 0.03
"""How much of the time that other engines take counts beside that of the busiest one, among the
tilings for one size of stripes: with less to do they are less often waited for."""
_CLOSE = 1.002
"""Of tilings that take up to so many times the fastest one's time, the one that takes least SRAM:
what it leaves is room for second slots."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A group as it will be emitted, with what it costs."""

    group: Group
    sram_bytes: int
    dma_bytes: int
    instructions: int
    time_ps: int
    dma_ps: int

    @property
    def cost(self) -> float:
        """What plans are compared by."""
        return cost_of(self.time_ps, self.dma_ps)


def cost_of(time_ps: int, dma_ps: int) -> float:
    """Time, and a little for the bus: of plans that take as long, the one that moves less."""
    return time_ps + 0.1 * dma_ps


Sized = tuple[Tiling, int]
"""A tiling, and the bytes of SRAM that an op reserves with it, which depend on nothing else."""


@dataclass(frozen=True, slots=True)
class OpInLoops:
    """What has been found of an op whose operands lie in one way, in whatever loops it is: its
    ``tilings`` for stripes, by the most rows of these, with the bytes of SRAM that it reserves with
    each (more than there are if it does not fit by itself); what it does, by its ``Turns``."""

    tilings: dict[int, list[Sized]] = field(default_factory=dict)
    done: dict[Turns, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turns:
    """All that decides what an op does in one sweep of a loop (in all that its tiling says), but
    for where its operands lie: for each step how many it stands for, the rows to compute, and the
    stripes of the tensors that it makes or loads for all; these tensors' places among its operands;
    whether its result is stored."""

    tiling: Tiling
    steps: tuple[tuple[int, Span, tuple[tuple[int, Span], ...]], ...]
    own: tuple[int, ...]
    kept: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Ways:
    """All that ops can be tiled as together, for stripes of one size: one of the ``tilings`` of
    each by number, int64[ops, ways]; what they take of SRAM besides the stripes, and what they
    cost, [ways]."""

    tilings: list[list[Tiling]]
    chosen: npt.NDArray[np.int64]
    sram_bytes: npt.NDArray[np.int64]
    costs: Costs

    def best(self, room_bytes: int) -> int | None:
        """The number of the fastest within so much SRAM; None if there is none."""
        fits = np.flatnonzero(self.sram_bytes <= room_bytes)
        if not len(fits):
            return None
        busiest_ps, all_ps = self.costs.time_ps[fits], self.costs.busy_ps[fits]
        counted = busiest_ps + _IDLE * (all_ps - busiest_ps)
        close = fits[counted <= _CLOSE * counted.min()]
        return int(close[np.argmin(self.sram_bytes[close])])

    def members(self, way: int, ops: Sequence[NetOp], slots: int) -> tuple[Member, ...]:
        """The ``ops`` in one way."""
        numbers = self.chosen[:, way].tolist()
        tilings = (own[number] for own, number in zip(self.tilings, numbers, strict=True))
        return tuple(Member(op, t, slots, op.name) for op, t in zip(ops, tilings, strict=True))


def made_inside(ops: Sequence[NetOp], loop: Loop, inside: Scene) -> frozenset[int]:
    """The ops of a loop whose results can do with one slot: what they make it of is in SRAM, as
    far as they see ``inside`` the loop. Into the other slot of what comes from DRAM the next stripe
    is loaded."""
    return frozenset(
        index
        for index, op in enumerate(ops)
        if inside.root(op.outputs[0]) in loop.rolling
        and any(inside.views[name].in_sram for name in operands(op))
    )


def _fitting(options: Sequence[Sequence[Sized]], room_bytes: int) -> list[list[Sized]] | None:
    """Of each op the tilings that fit if the others take as little as they can; None where one has
    none."""
    least = [min((nbytes for _, nbytes in own), default=room_bytes + 1) for own in options]
    fitting = [
        [(t, n) for t, n in own if sum(least) - own_least + n <= room_bytes]
        for own, own_least in zip(options, least, strict=True)
    ]
    return fitting if all(fitting) else None


class LoopSearch:
    """How to run ``ops`` as one loop, for any budget of SRAM. ``loop``'s own stripe counts for
    nothing.

    What engines do in a loop adds up over its ops, and so does what they take of SRAM. Each is
    emitted by itself with each of its tilings, for one step of those alike, and what it does is
    looked up wherever it does the same: in other groups, under other budgets.
    """

    def __init__(
        self,
        ops: Sequence[NetOp],
        scene: Scene,
        loop: Loop,
        schedule: Schedule,
        known: Sequence[OpInLoops],
    ) -> None:
        """``known``: what has been found of each op."""
        self.ops, self.scene, self.loop = ops, scene, loop
        self.schedule, self.known = schedule, known
        self.last = scene.tensors[ops[-1].outputs[0]]
        self.scratch = Emitter.of_costs(scene.machine, schedule)
        self.inside = with_residents(scene, dict.fromkeys(loop.rolling | loop.shared, "sram"))
        # What is stored, or summed up, must come by once.
        sums = any(step.is_statistics for op in ops[:-1] for step in op.epilogue)
        rolls_out = scene.root(ops[-1].outputs[0]) in loop.rolling
        self._may_sweep = not (sums or loop.kept or rolls_out)
        self._options: dict[int, list[list[Sized]] | None] = {}
        self._steps: dict[int, list[tuple[int, Step]]] = {}
        self._known_ways: dict[int, dict[int, _Ways]] = {}

    def best(self, limit_bytes: int) -> Choice | None:
        """The fastest way within ``limit_bytes`` of SRAM; None if there is none."""
        choices = self.within(limit_bytes)
        return choices[0] if choices else None

    def within(self, limit_bytes: int) -> list[Choice]:
        """For each size of stripes the fastest way within ``limit_bytes`` of SRAM, and one with
        single slots if it is faster; fastest first."""
        found: list[Choice] = []
        for stripe, ways in self._ways(limit_bytes).items():
            fastest_ps = inf
            for single in (frozenset[int](), self._made_inside):
                way = ways.best(limit_bytes - self._stripes_bytes(stripe, single))
                if way is not None:
                    room_bytes = limit_bytes - int(ways.sram_bytes[way])
                    needed = self._needed(single, stripe, room_bytes)
                    choice = self._choice(stripe, ways, way, needed)
                    if choice.time_ps < fastest_ps:
                        fastest_ps = choice.time_ps
                        found.append(choice)
        return sorted(found, key=lambda c: (c.time_ps, c.dma_bytes, c.sram_bytes))

    def _choice(self, stripe: int, ways: _Ways, way: int, single: frozenset[int]) -> Choice:
        members = ways.members(way, self.ops, self.schedule.slots)
        sweeps, costs = members[-1].tiling.sweeps, ways.costs
        loop = replace(self.loop, stripe=stripe, single=single, sweeps=sweeps)
        # Who fills a single slot waits for its reader, who waits for that: two signals a stripe.
        signals = 2 * len(single) * sweeps * -(-row_count(self.last) // stripe)
        waiting_ps = signals * int(to_ps(self.scene.machine.semaphore_ns))
        return Choice(
            Group(members, loop),
            int(ways.sram_bytes[way]) + self._stripes_bytes(stripe, single),
            int(costs.dma_bytes[way]),
            int(costs.instructions[way]),
            int(max(costs.time_ps[way], costs.computing_ps[way] + waiting_ps)),
            int(costs.dma_ps[way]),
        )

    def _needed(self, single: frozenset[int], stripe: int, room_bytes: int) -> frozenset[int]:
        """Those of ``single`` for whose second slot there is no room, the first ones' first."""
        for index in sorted(single):
            if self._stripes_bytes(stripe, single - {index}) <= room_bytes:
                single -= {index}
        return single

    @cached_property
    def _sizes(self) -> list[int]:
        """Sizes of stripes, largest first."""
        machine, unit = self.scene.machine, rows_per_index(self.last.shape)
        lines = row_count(self.last) // unit
        granule = min(lines, machine.tensor_granularity_m) if unit == 1 else 1
        return [count * unit for count in stripe_sizes(lines, multiple=granule)[1:]]

    @cached_property
    def _made_inside(self) -> frozenset[int]:
        return made_inside(self.ops, self.loop, self.inside)

    def _ways(self, limit_bytes: int) -> dict[int, _Ways]:
        """By size of the stripes, what ops can be tiled as within so much SRAM."""
        if limit_bytes not in self._known_ways:
            usable: dict[int, list[list[Sized]]] = {}
            uncramped = 0
            for stripe in self._sizes:
                own = self._usable(stripe, limit_bytes)
                if own is not None:
                    usable[stripe] = own
                    uncramped += all(len(tilings) == 1 for tilings in own)
                    if uncramped == _UNCRAMPED:
                        break
            self._emit(usable)
            self._known_ways[limit_bytes] = {
                stripe: self._combined(stripe, own) for stripe, own in usable.items()
            }
        return self._known_ways[limit_bytes]

    def _usable(self, stripe: int, limit_bytes: int) -> list[list[Sized]] | None:
        """The tilings of each op that fit if the others take as little as they can: none of those
        whose weights pass again and again where all weights may stay, and none but the first, the
        largest, where these have room together. None where an op cannot run so, or nothing fits."""
        room_bytes = limit_bytes - self._stripes_bytes(stripe, self._made_inside)
        options = self._tilings(stripe) if room_bytes > 0 else None
        if options is None:
            return None
        last = len(options) - 1
        options = [
            [(t, n) for t, n in own if t.sweeps == 1 or (index == last and self._may_sweep)]
            for index, own in enumerate(options)
        ]
        most = self._stripes_bytes(stripe, frozenset()) + sum(own[0][1] for own in options)
        if most <= limit_bytes:
            return [own[:1] for own in options]
        staying = [[(t, n) for t, n in own if t.get("outer", "") != "rows"] for own in options]
        return _fitting(staying, room_bytes) or _fitting(options, room_bytes)

    def _emit(self, usable: Mapping[int, Sequence[Sequence[Sized]]]) -> None:
        """See to it that it is known what each op does with each of its ``usable`` tilings."""
        emitter, slots = Emitter.of_costs(self.scene.machine, self.schedule), self.schedule.slots
        missing: dict[tuple[int, Turns], int] = {}
        for stripe, options in usable.items():
            loop = replace(self.loop, stripe=stripe, single=self._made_inside)
            first = [
                Member(op, own[0][0], slots, op.name)
                for op, own in zip(self.ops, options, strict=True)
            ]
            for index, own in enumerate(options):
                for turns in self._turns(stripe, index, own):
                    if turns in self.known[index].done or (index, turns) in missing:
                        continue
                    number = missing[index, turns] = len(missing)
                    member = replace(first[index], tiling=turns.tiling)
                    group = Group((*first[:index], member, *first[index + 1 :]), loop)
                    emitter.begin_group()
                    steps = [
                        (weight * count, sweep, step)
                        for count, sweep in self._sweeps(turns.tiling.sweeps)
                        for weight, step in self._representative(stripe)
                    ]
                    numbers = [number] * len(first)
                    emit_group(emitter, group, self.inside, numbers, only=index, steps=steps)
        if missing:
            tally = Tally.of(emitter, self.scene.machine, len(missing))
            for (index, turns), number in missing.items():
                self.known[index].done[turns] = tally.only(number)

    def _sweeps(self, count: int) -> list[tuple[int, int]]:
        """Those of ``count`` sweeps that differ, each after how many it stands for: the last may
        make fewer channels."""
        channels = self.last.shape[-1]
        if channels == count * channels_of_sweep(channels, count, self.scene.machine):
            return [(count, 0)]
        return [(count - 1, 0), (1, count - 1)]

    def _combined(self, stripe: int, usable: Sequence[Sequence[Sized]]) -> _Ways:
        """All that ops can be tiled as together."""
        chosen = np.indices([len(own) for own in usable]).reshape(len(usable), -1)
        sram_bytes = np.zeros(chosen.shape[1], dtype=np.int64)
        total = Tally.nothing(chosen.shape[1])
        for index, (own, numbers) in enumerate(zip(usable, chosen, strict=True)):
            done = self.known[index].done
            tally = Tally.beside([done[turns] for turns in self._turns(stripe, index, own)])
            if index < len(usable) - 1:
                total = total + tally.of_each(numbers)
            else:  # what goes before is done again for each of its sweeps
                sweeps = np.array([t.sweeps for t, _ in own])[numbers]
                total = total.times(sweeps) + tally.of_each(numbers)
            sram_bytes += np.array([nbytes for _, nbytes in own], dtype=np.int64)[numbers]
        costs = costs_of(total, self.schedule.slots, self.scene.machine, self.schedule)
        return _Ways([[t for t, _ in own] for own in usable], chosen, sram_bytes, costs)

    def _turns(self, stripe: int, index: int, tilings: Sequence[Sized]) -> list[Turns]:
        """What an op does in a sweep with each of the ``tilings``."""
        own = self._own[index]
        made = tuple(
            (weight, step.spans[index], tuple(step.stripes[root] for root in own))
            for weight, step in self._representative(stripe)
        )
        kept = self.scene.root(self.ops[index].outputs[0]) in self.loop.kept
        return [Turns(t, made, tuple(own.values()), kept) for t, _ in tilings]

    def _representative(self, stripe: int) -> list[tuple[int, Step]]:
        if stripe not in self._steps:
            frontier = self.scene.frontier(self.ops, replace(self.loop, stripe=stripe))
            self._steps[stripe] = representative_steps(frontier)
        return self._steps[stripe]

    @cached_property
    def _own(self) -> list[dict[str, int]]:
        """For each op the tensors that roll by and that it makes, or loads for all, with their
        places among its operands."""
        scene, rolls = self.scene, self.loop.rolling | self.loop.shared
        owner = owners(self.ops, scene)
        return [
            {
                root: place
                for place, root in enumerate(map(scene.root, (*operands(op), op.outputs[0])))
                if root in rolls and owner[root] == index
            }
            for index, op in enumerate(self.ops)
        ]

    def _tilings(self, stripe: int) -> list[list[Sized]] | None:
        """The tilings of each op for stripes of this size; None if one cannot run so."""
        if stripe not in self._options:
            rows, _ = self.scene.frontier(self.ops, replace(self.loop, stripe=stripe)).capacities
            for op, known, size in zip(self.ops, self.known, rows, strict=True):
                if size not in known.tilings:
                    known.tilings[size] = self._sized(op, size)
            options = [known.tilings[size] for known, size in zip(self.known, rows, strict=True)]
            self._options[stripe] = options if all(options) else None
        return self._options[stripe]

    def _stripes_bytes(self, stripe: int, single: frozenset[int]) -> int:
        """What stripes of this size take of SRAM, without the ops' own buffers."""
        scene = self.scene
        _, held = scene.frontier(self.ops, replace(self.loop, stripe=stripe)).capacities
        roots = {scene.root(self.ops[index].outputs[0]) for index in single}
        slots = self.schedule.slots
        return sum(
            stripe_bytes(root, rows, scene, 1 if root in roots else slots)
            for root, rows in held.items()
        )

    def _sized(self, op: NetOp, size: int) -> list[Sized]:
        """The tilings of an op for stripes of up to ``size`` rows."""
        e, scene, kind = self.scratch, self.inside, lowered_kind(op)
        context = OpContext(op, scene.machine, scene.tensors, scene.views)
        found = []
        for t in kind.stripe_tilings(context, size):
            e.begin(0, op.name, self.schedule.slots)
            e.sram_peak_bytes = 0
            # One that does not fit leaves the peak above what there is.
            with suppress(DoesNotFitError):
                kind.stage(e, context, t)
            found.append((t, e.sram_peak_bytes))
        return found
