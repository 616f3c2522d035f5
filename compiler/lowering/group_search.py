"""How a group runs best: every stripe size, costed by what emitting it costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cached_property

from edgefusion.compiler.lowering.cost import Tally, costs_of
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import emit_group, owners, stripe_bytes, turns
from edgefusion.compiler.lowering.plan import Group, Loop, Member
from edgefusion.compiler.lowering.rule import OpContext, Tiling, stripe_sizes
from edgefusion.compiler.lowering.scene import Scene, Step, with_residents
from edgefusion.compiler.lowering.tile_search import lowered_kind
from edgefusion.compiler.network.network import NetOp, operands
from edgefusion.compiler.network.rows import row_count, rows_per_index
from edgefusion.compiler.network.window import Span
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


class _Weights(Enum):
    """Where weights are while a loop runs: all stay in SRAM for all of it; those of the last op
    stay in parts, each for a sweep; or as many stay as fit beside the stripes, and the rest pass
    again and again."""

    STAY = auto()
    SWEPT = auto()
    PASS = auto()

    def allows(self, t: Tiling, *, last: bool) -> bool:
        """Whether an op, the ``last`` or not, may be tiled so."""
        stays = self is _Weights.PASS or t.get("outer", "") != "rows"
        return stays and (t.sweeps > 1) == (last and self is _Weights.SWEPT)


@dataclass(frozen=True, slots=True)
class OpInLoops:
    """What has been found of an op whose operands lie in one way, in whatever loops it is: its
    ``tilings`` for stripes, by the most rows of these, with the bytes of SRAM that it reserves with
    each (more than there are if it does not fit by itself); what it does, by its ``Turns``."""

    tilings: dict[int, list[Sized]] = field(default_factory=dict)
    done: dict[Turns, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turns:
    """All that decides what an op does in a loop, but for where its operands lie: for each step how
    many it stands for, the rows to compute, and the stripes of the tensors that it makes or loads
    for all; these tensors' places among its operands; how many sweeps there are; whether its result
    is stored."""

    tiling: Tiling
    sweeps: int
    steps: tuple[tuple[int, Span, tuple[tuple[int, Span], ...]], ...]
    own: tuple[int, ...]
    kept: bool


class LoopSearch:
    """How to run ``ops`` as one loop, for any budget of SRAM. ``loop``'s own stripe counts for
    nothing.

    What engines do in a loop adds up over its ops. Each is emitted by itself, and what it does is
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
        self._options: dict[int, list[list[Sized]] | None] = {}
        # What is stored, or summed up, must come by once.
        sums = any(step.is_statistics for op in ops[:-1] for step in op.epilogue)
        once = sums or loop.kept or scene.root(ops[-1].outputs[0]) in loop.rolling
        self._ways = [way for way in _Weights if not (once and way is _Weights.SWEPT)]
        self._steps: dict[int, list[tuple[int, Step]]] = {}

    def best(self, limit_bytes: int) -> Choice | None:
        """The fastest way within ``limit_bytes`` of SRAM; None if there is none."""
        choices = self.within(limit_bytes)
        return min(choices, key=lambda c: (c.time_ps, c.dma_bytes, c.sram_bytes), default=None)

    def within(self, limit_bytes: int, sizes: int = _FITTING) -> list[Choice]:
        """The ways that fit within ``limit_bytes`` of SRAM, of each kind those with the largest
        stripes, so many ``sizes``."""
        machine, unit = self.scene.machine, rows_per_index(self.last.shape)
        lines = row_count(self.last) // unit
        granule = min(lines, machine.tensor_granularity_m) if unit == 1 else 1
        fitting: list[tuple[Group, int]] = []
        found = dict.fromkeys(self._ways, 0)
        for count in stripe_sizes(lines, multiple=granule)[1:]:
            stripe = count * unit
            if self._stripes_bytes(stripe) > limit_bytes:
                continue
            options = self._tilings(stripe)
            if options is None:
                return []
            if options[-1][-1][0].sweeps == 1:
                found.pop(_Weights.SWEPT, None)
            for way in found:
                if found[way] == sizes:
                    continue
                group = self._fitting(stripe, options, limit_bytes, way)
                if group is not None:
                    fitting.append(group)
                    found[way] += 1
                    if way is _Weights.STAY:
                        break  # there is nothing to gain by another
            if min(found.values()) == sizes:
                break
        return self._costed(fitting) if fitting else []

    def _costed(self, fitting: Sequence[tuple[Group, int]]) -> list[Choice]:
        """Groups that take so many bytes of SRAM, with what they cost."""
        emitter = Emitter.of_costs(self.scene.machine, self.schedule)
        turns = [self._turns(group) for group, _ in fitting]
        missing: dict[tuple[int, Turns], int] = {}
        for (group, _), own in zip(fitting, turns, strict=True):
            for index, (turn, known) in enumerate(zip(own, self.known, strict=True)):
                if turn not in known.done and (index, turn) not in missing:
                    number = missing[index, turn] = len(missing)
                    emitter.begin_group()
                    emit_group(emitter, group, self.inside, [number] * len(own), only=index)
        slots, machine = self.schedule.slots, self.scene.machine
        tally = Tally.of(emitter, machine, len(missing))
        for (index, turn), number in missing.items():
            self.known[index].done[turn] = tally.only(number)
        total = Tally.nothing(len(fitting))
        for index, known in enumerate(self.known):
            total += Tally.beside([known.done[own[index]] for own in turns])
        costs = costs_of(total, slots, machine, self.schedule)
        return [
            Choice(
                group,
                sram,
                int(costs.dma_bytes[i]),
                int(costs.instructions[i]),
                int(costs.time_ps[i]),
                int(costs.dma_ps[i]),
            )
            for i, (group, sram) in enumerate(fitting)
        ]

    def _turns(self, group: Group) -> list[Turns]:
        """What each member of a group does."""
        scene, stripe = self.scene, group.loop.stripe
        if stripe not in self._steps:
            frontier = scene.frontier(self.ops, replace(group.loop, sweeps=1))
            e = self.scratch
            self._steps[stripe] = [(e.weight, step) for _, step in turns(e, frontier)]
        found = []
        for index, (member, own) in enumerate(zip(group.members, self._own, strict=True)):
            made = tuple(
                (weight, step.spans[index], tuple(step.stripes[root] for root in own))
                for weight, step in self._steps[stripe]
            )
            kept = scene.root(member.op.outputs[0]) in group.loop.kept
            sweeps = group.loop.sweeps
            found.append(Turns(member.tiling, sweeps, made, tuple(own.values()), kept))
        return found

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

    def _stripes_bytes(self, stripe: int) -> int:
        """What stripes of this size take of SRAM, without the ops' own buffers."""
        scene = self.scene
        _, held = scene.frontier(self.ops, replace(self.loop, stripe=stripe)).capacities
        return sum(stripe_bytes(root, rows, scene, self.scratch) for root, rows in held.items())

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

    def _fitting(
        self, stripe: int, options: Sequence[Sequence[Sized]], limit_bytes: int, way: _Weights
    ) -> tuple[Group, int] | None:
        """The group and what it takes of SRAM, with weights in one ``way``; None if it does not
        fit."""
        usable = [
            [(t, n) for t, n in tilings if way.allows(t, last=i == len(options) - 1)]
            for i, tilings in enumerate(options)
        ]
        if not all(usable):
            return None
        stripes = self._stripes_bytes(stripe)
        level = [0] * len(usable)
        taken = [own[0][1] for own in usable]
        while stripes + sum(taken) > limit_bytes:
            gains = [
                (taken[i] - own[level[i] + 1][1], -i)
                for i, own in enumerate(usable)
                if level[i] + 1 < len(own)
            ]
            if not gains:
                return None
            # What gives back most at the next step takes it.
            gained, moved = max(gains)
            level[-moved] += 1
            taken[-moved] -= gained
        slots = self.schedule.slots
        tilings = [own[at][0] for own, at in zip(usable, level, strict=True)]
        members = (Member(op, t, slots, op.name) for op, t in zip(self.ops, tilings, strict=True))
        loop = replace(self.loop, stripe=stripe, sweeps=tilings[-1].sweeps)
        return Group(tuple(members), loop), stripes + sum(taken)
