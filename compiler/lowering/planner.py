"""Which ops run as a group, and which tensors stay in SRAM between groups: a search by cost.

A beam walks over the ops in order. A state is where it has come to, which tensors are in SRAM
there, and what the groups so far cost (``lowering.group_search``, ``lowering.tile_search``). From
each state the next op runs alone, or as a group with those after it; its result goes to DRAM, stays
in SRAM until its last use, or both. Costs are kept by signature, as networks repeat themselves, and
groups that cannot lead to a state worth following (``lowering.beam``) are not searched.

These costs are estimates. The groups of the plan are rehearsed (``lowering.rehearsal``): they run
with the stripes and tilings that take least when each is scheduled. As estimates tend to be low,
other groups may do better than one that takes longer than it seemed: the beam goes over the ops
again, with the times that are known by then, until it chooses no group that was not rehearsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgefusion.compiler.lowering.answers import Answers, Learnt, Question
from edgefusion.compiler.lowering.beam import New, Reached, State
from edgefusion.compiler.lowering.bounds import bus_ps
from edgefusion.compiler.lowering.group import may_join, why_apart
from edgefusion.compiler.lowering.group_search import Choice
from edgefusion.compiler.lowering.plan import Group, Loop, Member, Plan, Residency
from edgefusion.compiler.lowering.rule import OpContext, replaceable
from edgefusion.compiler.lowering.scene import Scene, signature, with_residents
from edgefusion.compiler.lowering.tile_search import best
from edgefusion.compiler.network.kind import Kind
from edgefusion.compiler.network.network import NetOp, operands, results
from edgefusion.compiler.network.rows import row_count
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.schedule.schedule import Grouping, Schedule
from edgefusion.runtime.groups import STATISTICS
from edgefusion.runtime.isa import Role

_LONGEST = 6
"""Ops that a group has at most."""
_SMALL = 4
"""Where the tensors between ops take less than this part of SRAM, they stay there whole, and
stripes of them are not tried."""
_PATIENCE = 40
"""Ops over which a tensor may stay in SRAM without a copy in DRAM."""
_WORTH = 0.7
"""How much of the time that tensors in SRAM save when they are read counts before they are."""
_NEAR = 6
"""Ops over which one stays that is in DRAM as well."""
_ROUNDS = 6
"""Plans that are made at most."""


def plan_separately(ops: Sequence[NetOp], scene: Scene, schedule: Schedule) -> Plan:
    """Every op by itself, from DRAM to DRAM."""
    chosen: dict[Any, Any] = {}
    groups = []
    for op in ops:
        key = signature([op], scene, {})
        if key not in chosen:
            context = OpContext(op, scene.machine, scene.tensors, scene.views)
            chosen[key] = best(context, schedule)
        found = chosen[key]
        member = Member(op, found.tiling, found.slots, op.name)
        groups.append(Group((member,), Loop(0)))
    borders = (f"{schedule.name} runs every op by itself",) * (len(groups) - 1)
    return Plan(tuple(groups), borders=(*borders, ""))


def plan_groups(
    ops: Sequence[NetOp],
    scene: Scene,
    schedule: Schedule,
    alone_never: frozenset[str] = frozenset(),
    learnt: Learnt | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Plan, Plan]:
    """The cheapest plan by estimates, and the cheapest by the times that rehearsals take.
    ``alone_never`` are tensors that must not stay in SRAM; ``learnt`` carries what one search finds
    to the next.

    Raises DoesNotFitError for an op that fits no way.
    """
    return _Planner(ops, scene, schedule, alone_never, learnt or Learnt()).plans(progress)


class _Planner:
    def __init__(
        self,
        ops: Sequence[NetOp],
        scene: Scene,
        schedule: Schedule,
        never: frozenset[str],
        learnt: Learnt,
    ) -> None:
        self.ops, self.scene, self.schedule = ops, scene, schedule
        self.answers = Answers(scene, schedule, learnt)
        self.machine = scene.machine
        self.allowed = schedule.groups or Grouping()
        self.uses: dict[str, list[int]] = {}
        self.must_dram = set(never)
        for index, op in enumerate(ops):
            for name in operands(op):
                self.uses.setdefault(scene.root(name), []).append(index)
            if not op.kind.on_npu:
                named = (*operands(op), *results(op))
                self.must_dram |= {scene.root(name) for name in named}
            if len(op.outputs) > 1:
                self.must_dram |= {scene.root(name) for name in op.outputs}
        for name in scene.tensors:
            if scene.tensors[scene.root(name)].role is not Role.ACTIVATION:
                self.must_dram.add(scene.root(name))
        self.forms: dict[tuple[int, int], Sequence[NetOp] | None] = {}
        self.absorbed: dict[Kind, tuple[NetOp, ...]] = {}

    def plans(self, progress: Callable[[int, int], None] | None) -> tuple[Plan, Plan]:
        """The first one, and the last."""
        found = [self._traced(self._best(progress))]
        rehearsed, known = self.answers.learnt.rehearsed, 0
        while known < len(rehearsed) and len(found) < _ROUNDS:
            known = len(rehearsed)
            found.append(self._traced(self._best(None)))
        return found[0], found[-1]

    def _best(self, progress: Callable[[int, int], None] | None) -> State:
        """The cheapest way through all ops that the beam finds."""
        count = len(self.ops)
        kept = [[State(0.0, ())]]
        for stop in range(1, count + 1):
            if progress is not None:
                progress(stop - 1, count)
            reached = Reached(self._held_bytes, lambda n: _WORTH * bus_ps(n, self.machine))
            # Short groups first: against them others can be told not to be worth a search.
            for start in range(stop - 1, max(stop - _LONGEST, 0) - 1, -1):
                for state in kept[start]:
                    self._follow(state, start, stop, reached)
            kept.append(reached.kept())
        return min(kept[count], key=lambda s: s.cost)

    def _held_bytes(self, residents: Sequence[New]) -> int:
        return sum(self.scene.aligned_bytes(root) for root, _, _ in residents)

    def _follow(self, state: State, start: int, stop: int, reached: Reached) -> None:
        """Enter what is ``reached`` from ``state`` with the next ops as one group."""
        for new in self._destinations(stop - 1):
            self._enter(state, start, stop, new, reached)
        if not reached and stop == start + 1 and not self._fits(self.ops[start], stop):
            # Tells what is wrong.
            best(self._context(self.ops[start], {}), self.schedule)

    def _fits(self, op: NetOp, stop: int) -> bool:
        """Whether the op by itself fits all of SRAM."""
        asked = self._asked([op], {}, stop)
        return asked is not None and self.answers.choice(asked) is not None

    def _destinations(self, index: int) -> Iterator[New | None]:
        """Where the result of an op may go."""
        yield None
        if not self.allowed.resident:
            return
        op = self.ops[index]
        root = self.scene.root(op.outputs[0])
        readers = [use for use in self.uses.get(root, ()) if use > index]
        if not readers or self.scene.aligned_bytes(root) >= self.machine.sram_bytes:
            return
        if root not in self.must_dram and readers[-1] - index <= _PATIENCE:
            yield root, readers[-1], True
        if root in self.must_dram and self.scene.tensors[root].role is not Role.OUTPUT:
            return
        near = [use for use in readers if use - index <= _NEAR]
        if near and (near[-1] < readers[-1] or root in self.must_dram):
            yield root, near[-1], False

    def _enter(
        self, state: State, start: int, stop: int, new: New | None, reached: Reached
    ) -> None:
        """The ops from ``start`` on as one group; or in two, the first of which computes nothing
        but the statistics that the second needs."""
        where = {root: "sram" for root, _, _ in state.residents}
        if new:
            where[new[0]] = "sram" if new[2] else "both"
        residents = (*state.residents, new) if new else state.residents
        left = tuple(r for r in residents if r[1] >= stop)

        def enter(*asked: Question | None) -> None:
            questions = [question for question in asked if question is not None]
            if len(questions) < len(asked):
                return
            least = state.cost + sum(map(self.answers.least_cost, questions))
            if not reached.may_keep(least, left):
                return
            choices = self.answers.choices(questions)
            if choices is not None:
                cost = state.cost + sum(choice.cost for choice in choices)
                made = tuple(zip(questions, choices, strict=True))
                reached.enter(State(cost, left, state, made, (start, stop), new))

        ops = self._form(start, stop)
        if ops is not None:
            over = self._replaced(ops, state.residents, new, stop)
            enter(self._asked(ops, where, stop, over=over))
        for barrier in range(start, stop - 1):
            if self._may_repeat(start, barrier, stop):
                first = list(self.ops[start : barrier + 1])
                bare = without_statistics(first[-1])
                second = [*first[:-1], bare, *self.ops[barrier + 1 : stop]]
                if may_join(second, self.scene):
                    before = {root: "sram" for root, _, _ in state.residents}
                    asked = self._asked(first, before, stop, drops=True)
                    enter(asked, self._asked(second, where, stop))

    def _replaced(
        self, ops: Sequence[NetOp], residents: Sequence[New], new: New | None, stop: int
    ) -> str:
        """The tensor in SRAM in whose place the result of ``ops``, which stays there, is computed;
        '' for none."""
        if new is None or len(ops) > 1:
            return ""
        going = {root for root, last, _ in residents if last < stop}
        (op,) = ops
        read = [self.scene.root(name) for name in operands(op)]
        found = (self.scene.root(name) for name in replaceable(op, self.scene.tensors))
        return next((root for root in found if root in going and read.count(root) == 1), "")

    def _form(self, start: int, stop: int) -> Sequence[NetOp] | None:
        """The ops as one group; None if they cannot be, or it is not worth a try."""
        if stop == start + 1:
            return [self.ops[start]]
        key = start, stop
        if key not in self.forms:
            ops = self._joined(self.ops[start:stop])
            self.forms[key] = ops if self._is_worth_a_try(ops, start, stop) else None
        return self.forms[key]

    def _is_worth_a_try(self, ops: Sequence[NetOp], start: int, stop: int) -> bool:
        if self._splits_pair(start) or self._splits_pair(stop):
            return False
        if len(ops) == 1:
            return True
        between = (op.outputs[0] for op in ops[:-1])
        nbytes = sum(self.scene.aligned_bytes(self.scene.root(name)) for name in between)
        large = nbytes * _SMALL >= self.machine.sram_bytes
        return self.allowed.rolling and large and may_join(ops, self.scene)

    def _splits_pair(self, index: int) -> bool:
        """Whether a border there keeps apart two ops that can be one."""
        if not 0 < index < len(self.ops):
            return False
        return len(self._joined(self.ops[index - 1 : index + 1])) == 1

    def _joined(self, ops: Sequence[NetOp]) -> list[NetOp]:
        """The ops, those that can be one as one."""
        found: list[NetOp] = []
        for op in ops:
            one = found[-1].joined(op) if found and self.allowed.gated else None
            if one is None or self._readers(found[-1]) != 1 or self._is_output(found[-1]):
                found.append(op)
            else:
                self.absorbed[one.kind] = (op,)
                found[-1] = one
        return found

    def _readers(self, op: NetOp) -> int:
        return len(self.uses.get(self.scene.root(op.outputs[0]), ()))

    def _is_output(self, op: NetOp) -> bool:
        return self.scene.root(op.outputs[0]) in self.must_dram

    def _may_repeat(self, start: int, barrier: int, stop: int) -> bool:
        """Whether the ops up to ``barrier`` can run for its statistics first, then again for its
        values: these are read by the ops that follow alone, and SRAM cannot hold them."""
        if not self.allowed.repeats or not self.allowed.rolling:
            return False
        op = self.ops[barrier]
        root = self.scene.root(op.outputs[0])
        if not any(step.is_statistics for step in op.epilogue) or root in self.must_dram:
            return False
        if 2 * self.scene.aligned_bytes(root) < self.machine.sram_bytes:
            return False
        reads = [use for use in self.uses.get(root, ()) if use > barrier]
        return (
            bool(reads)
            and max(reads) < stop
            and may_join(self.ops[start : barrier + 1], self.scene)
        )

    def _loop(
        self, ops: Sequence[NetOp], residents: Mapping[str, str], stop: int, *, drops: bool
    ) -> Loop:
        """What rolls, is kept and is shared in a group; ``drops``: of the last result nothing but
        statistics is wanted."""
        scene = self.scene
        last = scene.root(ops[-1].outputs[0])
        read = {scene.root(name) for op in ops for name in operands(op)}
        made = {scene.root(op.outputs[0]) for op in ops[:-1]}
        rolling = made & read
        kept: set[str] = set()
        if drops:
            rolling |= {last}
        else:
            kept = {
                root
                for root in rolling
                if root in self.must_dram or any(u >= stop for u in self.uses.get(root, ()))
            }
            if residents.get(last) == "both":
                kept.add(last)
        readers: dict[str, int] = {}
        halo: set[str] = set()
        for op in ops:
            total = row_count(scene.tensors[op.outputs[0]])
            needed = scene.rows_needed(op, Span(0, total))
            overlapping = self._overlapping(op)
            for root, name in {scene.root(n): n for n in operands(op) if n in needed}.items():
                tensor = scene.tensors[name]
                if root in made or root == last or root in residents or tensor.constant:
                    continue
                if tensor.shape[-1] != scene.tensors[root].shape[-1]:
                    continue
                readers[root] = readers.get(root, 0) + 1
                if name in overlapping:
                    halo.add(root)
        shared = frozenset(root for root, n in readers.items() if n > 1 or root in halo)
        return Loop(0, frozenset(rolling), frozenset(kept), shared)

    def _overlapping(self, op: NetOp) -> set[str]:
        """Operands of which stripes of the op read some rows twice."""
        total = row_count(self.scene.tensors[op.outputs[0]])
        half = max(1, total // 2)
        before = self.scene.rows_needed(op, Span(0, half))
        after = self.scene.rows_needed(op, Span(half, total - half))
        return {name for name in before if before[name].stop > after[name].start}

    def _asked(
        self,
        ops: Sequence[NetOp],
        where: Mapping[str, str],
        stop: int,
        *,
        drops: bool = False,
        over: str = "",
    ) -> Question | None:
        """What to ask for ``ops``; None where SRAM is full."""
        if len(ops) > 1 or drops:
            loop = self._loop(ops, where, stop, drops=drops)
            return Question.of(ops, loop, where, self.scene, drops=drops)
        last = self.scene.root(ops[0].outputs[0])
        kept = frozenset({last} if where.get(last) == "both" else ())
        asked = Question.of(ops, Loop(0, kept=kept), where, self.scene, over=over)
        if asked is not None and self.allowed.rolling and may_join(ops, self.scene):
            loop = self._loop(ops, where, stop, drops=False)
            if loop.shared:
                rolled = Question.of(ops, loop, where, self.scene, over=over)
                return replace(asked, rolled=rolled)
        return asked

    def _bound(self, question: Question, choice: Choice) -> Group:
        """The group of the ``question``'s own ops that is as the ``choice``."""
        members = tuple(
            replace(
                member,
                op=op,
                record=op.name + STATISTICS if question.drops else op.name,
                absorbed=self.absorbed.get(op.kind, ()),
            )
            for member, op in zip(choice.group.members, question.ops, strict=True)
        )
        own, loop = choice.group.loop, question.loop_of(choice)
        loop = replace(loop, stripe=own.stripe, sweeps=own.sweeps, single=own.single)
        return Group(members, loop)

    def _context(self, op: NetOp, where: Mapping[str, str]) -> OpContext:
        scene = with_residents(self.scene, where)
        return OpContext(op, self.machine, scene.tensors, scene.views)

    def _traced(self, state: State) -> Plan:
        """The plan that has come to ``state``, with its groups rehearsed."""
        steps: list[State] = []
        at: State | None = state
        while at is not None and at.choices:
            steps.append(at)
            at = at.before
        groups: list[Group] = []
        borders: list[str] = []
        group_of: dict[int, int] = {}
        begins: dict[int, int] = {}
        for step in reversed(steps):
            groups += [self._bound(q, self.answers.rehearsed(q)) for q, _ in step.choices]
            borders += ["statistics first, then values"] * (len(step.choices) - 1)
            borders.append(self._border(step))
            group_of |= dict.fromkeys(range(*step.ops), len(groups) - 1)
            begins[step.ops[1]] = len(groups) - 1
        residencies = tuple(
            Residency(s.new[0], begins[s.ops[1]], group_of[s.new[1]], s.new[2], self._taken_over(s))
            for s in reversed(steps)
            if s.new
        )
        return Plan(tuple(groups), residencies, tuple(borders))

    def _taken_over(self, step: State) -> str:
        """In whose place the result of a step's group lies; '' for none."""
        residents = step.before.residents if step.before else ()
        return self._replaced(step.choices[-1][0].ops, residents, step.new, step.ops[1])

    def _border(self, step: State) -> str:
        """Why the op that follows is not in the group; '' for the last."""
        stop = step.ops[1]
        if stop == len(self.ops):
            return ""
        members = step.choices[-1][0].ops
        joined = [*members, self.ops[stop]]
        if apart := why_apart(joined, self.scene):
            return apart
        if len(members) >= _LONGEST:
            return "longest group"
        if len(step.choices) == 1 and self._form(step.ops[0], stop + 1) is None:
            return "what lies between is small: it stays whole"
        return "together they cost more, or exceed SRAM"


def without_statistics(op: NetOp) -> NetOp:
    """The op, computed for its values alone."""
    return replace(op, epilogue=tuple(step for step in op.epilogue if not step.is_statistics))
