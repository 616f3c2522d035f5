"""How ops run best as a group: what the planner asks, and what is remembered of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgefusion.compiler.lowering.bounds import bus_ps
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.group import emit_group, tile_of
from edgefusion.compiler.lowering.group_bounds import BoundFinder
from edgefusion.compiler.lowering.group_search import Choice, LoopSearch, OpInLoops, cost_of
from edgefusion.compiler.lowering.held import Resident
from edgefusion.compiler.lowering.plan import Group, Loop, Member
from edgefusion.compiler.lowering.rehearsal import Rehearsed, rehearse, rehearse_best
from edgefusion.compiler.lowering.rule import OpContext
from edgefusion.compiler.lowering.scene import Scene, signature, with_residents
from edgefusion.compiler.lowering.tile_search import CLOSE, Candidate, Known, search
from edgefusion.compiler.lowering.view import Overlay
from edgefusion.compiler.network.network import NetOp, operands, results
from edgefusion.compiler.network.rows import row_bytes, row_count
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.groups import NO_BOUNDS

_BUCKETS = 16
"""SRAM budgets are rounded down to as many parts of SRAM, so that costs can be shared."""
_REHEARSED = 8
"""Ways to run a group among which those to rehearse are found."""
_SURE = 0.9999
"""Bounds are rounded as a whole, and the times of instructions one by one."""
_ROOM = 1.001
"""By how much what takes less room may take longer: the next group's first loads go there."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """How ``ops`` run best as a group with the tensors of ``where`` in SRAM, within a limit of it;
    ``drops``: for the sake of statistics alone. Questions of one ``key`` have the same answer.

    ``rolled`` asks the same of an op by itself as a loop, where what its stripes read twice rolls
    by: the better answer counts."""

    ops: Sequence[NetOp]
    loop: Loop
    where: Mapping[str, str]
    limit_bytes: int
    named: Any
    drops: bool
    rolled: Question | None = None

    @classmethod
    def of(
        cls,
        ops: Sequence[NetOp],
        loop: Loop,
        where: Mapping[str, str],
        scene: Scene,
        *,
        drops: bool = False,
        over: str = "",
    ) -> Question | None:
        """The question for all of SRAM that what lies there leaves; None where it is full.
        ``where`` says "both" of a result that goes to DRAM as well; it takes the place of
        ``over``."""
        crossing = sum(scene.aligned_bytes(root) for root in where if root != over)
        limit = scene.machine.sram_bytes
        if crossing:
            bucket = max(1, limit // _BUCKETS)
            limit = (limit - crossing) // bucket * bucket
        if limit <= 0:
            return None
        marks = dict(where)
        for mark, roots in (("rolls", loop.rolling), ("shared", loop.shared)):
            marks |= dict.fromkeys(roots, mark)
        marks |= {root: marks[root] + " kept" for root in loop.kept if root in marks}
        return cls(ops, loop, where, limit, signature(ops, scene, marks), drops)

    @property
    def is_loop(self) -> bool:
        """Whether stripes roll by."""
        return len(self.ops) > 1 or bool(self.loop.rolling | self.loop.shared)

    @property
    def forms(self) -> tuple[Question, ...]:
        """Itself, and as a loop."""
        return (self,) if self.rolled is None else (self, self.rolled)

    def loop_of(self, choice: Choice) -> Loop:
        """The loop of the form that ``choice`` answers."""
        rolled = self.rolled if choice.group.loop.shared else None
        return (rolled or self).loop

    @property
    def key(self) -> Any:
        """The signature of all that the answer depends on."""
        return self.named, self.limit_bytes


@dataclass
class Learnt:
    """What searches have found, by the signature of the ops, and what costs least within a budget
    of SRAM."""

    tiles: dict[Any, Known] = field(default_factory=dict)
    in_loops: dict[Any, OpInLoops] = field(default_factory=dict)
    loops: dict[Any, LoopSearch] = field(default_factory=dict)
    choices: dict[Any, Choice | None] = field(default_factory=dict)
    least_costs: dict[Any, float] = field(default_factory=dict)
    rehearsed: dict[Any, Choice] = field(default_factory=dict)


class Answers:
    """Answers questions about ops of one network; ``learnt`` carries them from one plan to the
    next."""

    def __init__(self, scene: Scene, schedule: Schedule, learnt: Learnt) -> None:
        self.scene, self.schedule, self.learnt = scene, schedule, learnt
        self._bounds = BoundFinder(scene)

    def least_cost(self, question: Question) -> float:
        """What no answer costs less than, from the bounds of the ops."""
        known = self.learnt.least_costs
        if question.key not in known:
            ops, loop, machine = question.ops, question.loop, self.scene.machine
            bounds = self._bounds.of_loop(ops, loop, question.where)
            total = sum((bound.engines for bound in bounds), NO_BOUNDS)
            again = 0
            if question.is_loop:
                slots = self.schedule.slots
                again = self._bounds.weights_again(ops, loop, question.limit_bytes, slots)
            dma_ps = total.dma_ps + bus_ps(again, machine)
            known[question.key] = _SURE * cost_of(max(total.ps, dma_ps), dma_ps)
        return known[question.key]

    def choices(self, questions: Sequence[Question]) -> list[Choice] | None:
        """The answers; None where one of them fits no way."""
        found = []
        for question in reversed(questions):  # statistics before the values fit where these do
            choice = self.choice(question)
            if choice is None:
                return None
            found.append(choice)
        return found[::-1]

    def choice(self, question: Question) -> Choice | None:
        """The answer, for some ops of this signature, with the time that it took if it has been
        rehearsed; None where nothing fits."""
        if question.key in self.learnt.rehearsed:
            return self.learnt.rehearsed[question.key]
        known = self.learnt.choices
        if question.key not in known:
            forms = (self._search(form) for form in question.forms)
            found = [choice for choice in forms if choice is not None]
            known[question.key] = min(found, key=lambda choice: choice.cost, default=None)
        return known[question.key]

    def rehearsed(self, question: Question) -> Choice:
        """The answer again, of the candidates that are scheduled, and of about the fastest the one
        that takes the least room."""
        known = self.learnt.rehearsed
        if question.key not in known:
            candidates = {
                choice: scene for form in question.forms for choice, scene in self._candidates(form)
            }
            found: dict[Choice, Rehearsed] = {}

            def time_ps(choice: Choice) -> int:
                def emit(e: Emitter) -> None:
                    e.begin_group()
                    inside = in_cells(candidates[choice], choice.group)
                    emit_group(e, choice.group, inside, [0] * len(choice.group.members))

                found[choice] = rehearse(emit, self.scene.machine, self.schedule)
                return found[choice].total_ps

            timed = rehearse_best(
                candidates, lambda c: c.time_ps, lambda c: c.instructions, time_ps
            )
            fastest = min(time_ps for _, time_ps in timed)
            close = [c for c, time_ps in timed if time_ps <= _ROOM * fastest]
            chosen = min(close, key=lambda c: c.sram_bytes)
            known[question.key] = replace(chosen, time_ps=found[chosen].busiest_ps)
        return known[question.key]

    def _search(self, question: Question) -> Choice | None:
        if question.is_loop:
            return self._loop_search(question).best(question.limit_bytes)
        found = self._alone(question)
        return self._as_choice(question, self._preferred(found)) if found else None

    def _candidates(self, question: Question) -> list[tuple[Choice, Scene]]:
        """The ways that have been costed, and where the tensors of their ops lie, which are any of
        this signature."""
        if question.is_loop:
            loops = self._loop_search(question)
            near = loops.within(question.limit_bytes)[:_REHEARSED]
            return [(choice, loops.scene) for choice in near]
        scene = with_residents(self.scene, question.where)
        return [(self._as_choice(question, found), scene) for found in self._alone(question)]

    def _loop_search(self, question: Question) -> LoopSearch:
        learnt, loop = self.learnt, question.loop
        if question.named not in learnt.loops:
            scene = with_residents(self.scene, question.where)
            marks = dict.fromkeys(question.where, "sram")
            marks |= dict.fromkeys(loop.rolling | loop.shared, "sram")
            names = (signature([op], self.scene, marks) for op in question.ops)
            known = [learnt.in_loops.setdefault(name, OpInLoops()) for name in names]
            search = LoopSearch(question.ops, scene, loop, self.schedule, known)
            learnt.loops[question.named] = search
        return learnt.loops[question.named]

    def _alone(self, question: Question) -> list[Candidate]:
        """The tilings that fit of an op by itself, fastest first."""
        (op,) = question.ops
        known = self.learnt.tiles.setdefault(question.named, Known())
        scene = with_residents(self.scene, question.where)
        context = OpContext(op, scene.machine, scene.tensors, scene.views)
        found = search(context, self.schedule, question.limit_bytes, known)
        return [candidate for candidate in found if not candidate.rejected]

    def _as_choice(self, question: Question, candidate: Candidate) -> Choice:
        (op,) = question.ops
        stored = sum(self.scene.aligned_bytes(root) for root in question.loop.kept)
        dma = candidate.dma_ps + bus_ps(stored, self.scene.machine)
        member = Member(op, candidate.tiling, candidate.slots, op.name)
        return Choice(
            Group((member,), question.loop),
            candidate.sram_bytes,
            candidate.dma_bytes + stored,
            candidate.instructions,
            int(max(candidate.time_ps, dma)),
            int(dma),
        )

    def _preferred(self, fitting: Sequence[Candidate]) -> Candidate:
        """The candidate to take of ``fitting``, fastest first."""
        fastest = fitting[0].time_ps
        if len(self.schedule.slot_counts(self.scene.machine)) > 1:
            # How engines of a kind share tiles is estimated coarsely: of what is about as fast,
            # what moves least, in fewest instructions.
            close = [c for c in fitting if c.time_ps <= CLOSE * fastest]
            return min(close, key=lambda c: (c.dma_bytes, c.instructions, c.time_ps))
        close = [c for c in fitting if c.time_ps <= _ROOM * fastest]
        return min(close, key=lambda c: (c.sram_bytes, c.time_ps))


def in_cells(scene: Scene, group: Group) -> Scene:
    """The scene with what the ``group`` finds and leaves in SRAM in cells, as it will be: at no
    address of its own, and the result in those that the group writes."""
    views = Overlay(scene.views)
    ops = [member.op for member in group.members]
    for root in {scene.root(name) for op in ops for name in (*operands(op), *results(op))}:
        if not scene.views[root].in_sram:
            continue
        tensor = scene.tensors[root]
        cells = Resident.apart(
            scene.dram[root].operand.tensor,
            scene.machine.sram_bytes,
            row_count(tensor),
            row_bytes(tensor),
            tile_of(group, tensor),
        )
        for name in scene.names(root):
            views[name] = cells.view(scene.dram[name])
    return replace(scene, views=views)
