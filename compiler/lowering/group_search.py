"""How a group runs best: every stripe size, costed by what emitting it costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from edgefusion.compiler.lowering.cost import measure
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import emit_group, stripe_bytes
from edgefusion.compiler.lowering.plan import Group, Loop, Member
from edgefusion.compiler.lowering.rule import OpContext, Tiling, stripe_sizes
from edgefusion.compiler.lowering.scene import Scene, with_residents
from edgefusion.compiler.lowering.tile_search import lowered_kind
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.network.rows import row_count, rows_per_index
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.errors import DoesNotFitError

_FITTING = 3
"""Stripe sizes that are costed, from the largest that fits on: smaller ones only add halo, set-up
and weights that pass again, but begin and end sooner."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A group as it will be emitted, with what it costs."""

    group: Group
    sram_bytes: int
    dma_bytes: int
    time_ps: int
    dma_ps: int


Reserved = dict[Tiling, int]
"""Bytes of SRAM that an op reserves, by its tiling."""


class LoopSearch:
    """How to run ``ops`` as one loop, for any budget of SRAM: what has been costed for one serves
    the others. ``loop``'s own stripe counts for nothing."""

    def __init__(
        self,
        ops: Sequence[NetOp],
        scene: Scene,
        loop: Loop,
        schedule: Schedule,
        reserved: Sequence[Reserved],
    ) -> None:
        """``reserved``: what has been found of each op, wherever it rolls in the same way."""
        self.ops, self.scene, self.loop, self.schedule = ops, scene, loop, schedule
        self.reserved = reserved
        self.last = scene.tensors[ops[-1].outputs[0]]
        self.scratch = Emitter.of_costs(scene.machine, schedule)
        self.costed: dict[Group, Choice] = {}
        self._options: dict[int, list[list[Tiling]] | None] = {}

    def best(self, limit_bytes: int) -> Choice | None:
        """The fastest way within ``limit_bytes`` of SRAM; None if there is none."""
        machine, unit = self.scene.machine, rows_per_index(self.last.shape)
        lines = row_count(self.last) // unit
        granule = min(lines, machine.tensor_granularity_m) if unit == 1 else 1
        fitting: list[Group] = []
        found = {True: 0, False: 0}
        for count in stripe_sizes(lines, multiple=granule)[1:]:
            stripe = count * unit
            options = self._tilings(stripe)
            if options is None:
                return None
            # With all weights in SRAM for the whole loop, and with as many as fit beside the
            # stripes.
            for stay in (True, False):
                known = fitting and fitting[-1].loop.stripe == stripe
                if found[stay] == _FITTING or (not stay and known):
                    continue
                group = self._fitting(stripe, options, limit_bytes, stay=stay)
                if group is not None:
                    fitting.append(group)
                    found[stay] += 1
            if min(found.values()) == _FITTING:
                break
        self._cost([group for group in fitting if group not in self.costed])
        choices = [self.costed[group] for group in fitting]
        return min(choices, key=lambda c: (c.time_ps, c.dma_bytes, c.sram_bytes), default=None)

    def _cost(self, groups: Sequence[Group]) -> None:
        emitter = Emitter.of_costs(self.scene.machine, self.schedule)
        peaks: list[int] = []
        for number, group in enumerate(groups):
            emitter.begin_group()
            emitter.sram_peak_bytes = 0
            emit_group(emitter, group, self.scene, [number] * len(self.ops))
            peaks.append(emitter.sram_peak_bytes)
        slots, machine = self.schedule.slots, self.scene.machine
        costs = measure(emitter, slots, machine, self.schedule, len(groups))
        for i, (group, peak) in enumerate(zip(groups, peaks, strict=True)):
            self.costed[group] = Choice(
                group, peak, int(costs.dma_bytes[i]), int(costs.time_ps[i]), int(costs.dma_ps[i])
            )

    def _tilings(self, stripe: int) -> list[list[Tiling]] | None:
        """The tilings of each op for stripes of this size; None if one cannot run so."""
        if stripe not in self._options:
            rows, _ = self.scene.frontier(self.ops, replace(self.loop, stripe=stripe)).capacities
            options = [
                list(lowered_kind(c.op).stripe_tilings(c, size))
                for c, size in zip(self._contexts, rows, strict=True)
            ]
            self._options[stripe] = options if all(options) else None
        return self._options[stripe]

    @cached_property
    def _contexts(self) -> list[OpContext]:
        """Of each op, with what rolls somewhere in SRAM."""
        rolls = self.loop.rolling | self.loop.shared
        scene = with_residents(self.scene, dict.fromkeys(rolls, "sram"))
        return [OpContext(op, scene.machine, scene.tensors, scene.views) for op in self.ops]

    def _fitting(
        self, stripe: int, options: Sequence[Sequence[Tiling]], limit_bytes: int, *, stay: bool
    ) -> Group | None:
        """The group with all weights in SRAM for the whole loop, or with as many as fit; None if
        it does not fit."""
        usable = [
            [t for t in tilings if _weights_stay(t)] if stay else tilings for tilings in options
        ]
        loop, scene = replace(self.loop, stripe=stripe), self.scene
        _, held = scene.frontier(self.ops, loop).capacities
        stripes = (stripe_bytes(root, rows, scene, self.scratch) for root, rows in held.items())
        free = limit_bytes - sum(stripes)
        level = [0] * len(usable)
        taken = [self._bytes(i, own[0]) for i, own in enumerate(usable)]
        while sum(taken) > free:
            # What gives back most at the next step takes it.
            smaller = {
                i: self._bytes(i, own[level[i] + 1])
                for i, own in enumerate(usable)
                if level[i] + 1 < len(own)
            }
            if not smaller:
                return None
            moved = max(smaller, key=lambda i: taken[i] - smaller[i])
            level[moved] += 1
            taken[moved] = smaller[moved]
        tilings = [own[at] for own, at in zip(usable, level, strict=True)]
        slots = self.schedule.slots
        members = (Member(op, t, slots, op.name) for op, t in zip(self.ops, tilings, strict=True))
        return Group(tuple(members), loop)

    def _bytes(self, index: int, t: Tiling) -> int:
        """What an op reserves with this tiling, which depends on nothing else; more than SRAM has
        if it does not fit by itself."""
        known = self.reserved[index]
        if t not in known:
            e, context = self.scratch, self._contexts[index]
            e.begin_group()
            e.turn_to(index, context.op.name, self.schedule.slots)
            e.sram_peak_bytes = 0
            # One that does not fit leaves the peak above what there is.
            with suppress(DoesNotFitError):
                lowered_kind(context.op).stage(e, context, t)
            known[t] = e.sram_peak_bytes
        return known[t]


def _weights_stay(t: Tiling) -> bool:
    return t.get("outer", "") != "rows"
