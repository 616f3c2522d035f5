"""What a program remembers of its plan: ops with their bounds, groups, and what stays in SRAM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from edgefusion.compiler.lowering.bounds import Bound
from edgefusion.compiler.lowering.group_bounds import BoundFinder
from edgefusion.compiler.lowering.plan import Group, Loop, Member, Plan, Residency
from edgefusion.compiler.lowering.planner import without_statistics
from edgefusion.compiler.lowering.rule import Tiling
from edgefusion.compiler.lowering.scene import Scene
from edgefusion.compiler.network.network import NetOp
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.groups import (
    STATISTICS,
    EngineBounds,
    GroupRecord,
    OnceRecord,
    ResidentRecord,
)
from edgefusion.runtime.program import OpRecord, Program
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.program_columns import check_ops
from edgefusion.runtime.sram_homes import Stripe, Stripes

_ONCE = "so far once a prompt, from here on once a step"


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """What of a network runs by itself: its ops, a plan of them, and its scene in DRAM."""

    ops: Sequence[NetOp]
    plan: Plan
    scene: Scene


def remember(builder: ProgramBuilder, parts: Sequence[PlannedPart]) -> None:
    """Enter the plans of one or two ``parts``, which run one after another, in the program's
    tables; its tensors are there. How many instructions the first of two has is not known yet."""
    number = {record.name: index for index, record in enumerate(builder.tensors)}
    limits = []
    for part in parts:
        finder = BoundFinder(part.scene)
        placed = finder.of_plan(part.plan)
        _enter(builder, part, finder, placed, number)
        limits.append(finder.fused(part.ops, part.plan, placed))
    builder.fused, builder.chain_ps = _of_all(limits)
    if len(parts) > 1:
        groups = parts[0].plan.groups
        ops = sum(len(group.members) for group in groups)
        builder.once = OnceRecord(0, ops, len(groups), *limits[0])
        last = len(groups) - 1
        builder.groups[last] = replace(builder.groups[last], border=_ONCE)


def _of_all(limits: Sequence[tuple[EngineBounds, int]]) -> tuple[EngineBounds, int]:
    """Lower limits of parts that run one after another: engines do the work of each, and the last
    part's chain is one of the whole."""
    return sum((fused for fused, _ in limits), start=EngineBounds()), limits[-1][1]


def _enter(
    builder: ProgramBuilder,
    part: PlannedPart,
    finder: BoundFinder,
    placed: Sequence[Sequence[Bound]],
    number: Mapping[str, int],
) -> None:
    """Ops, groups, and what stays between these, after what is in the tables already."""
    plan, before = part.plan, len(builder.groups)
    by_name = {op.name: op for op in part.ops}
    for index, (group, bounds) in enumerate(zip(plan.groups, placed, strict=True)):
        for member, bound in zip(group.members, bounds, strict=True):
            op = member.op
            builder.ops.append(
                OpRecord(
                    name=member.record,
                    kind=op.kind.name,
                    origin=op.origin,
                    scope=op.scope,
                    macs=bound.macs,
                    least=bound.engines,
                    bound_bytes=bound.nbytes,
                    tile=str(member.tiling),
                    group=before + index,
                )
            )
        loop = group.loop
        # Those that are computed again count once.
        apart = (
            by_name[op.name]
            for m in group.members
            if m.record == m.op.name
            for op in (m.op, *m.absorbed)
        )
        builder.groups.append(
            GroupRecord(
                stripe=loop.stripe,
                rolling=tuple(sorted(number[root] for root in loop.rolling)),
                kept=tuple(sorted(number[root] for root in loop.kept)),
                shared=tuple(sorted(number[root] for root in loop.shared)),
                apart_bytes=sum(finder.apart(op).nbytes for op in apart),
                border=plan.borders[index],
                sweeps=loop.sweeps,
            )
        )
    builder.residents += [
        ResidentRecord(
            number[r.root],
            before + r.first,
            before + r.last,
            part.scene.tensors[r.root].nbytes,
            r.alone,
            number[r.over] if r.over else None,
        )
        for r in plan.residencies
    ]


def bound_again(program: Program, parts: Sequence[tuple[Sequence[NetOp], Scene]]) -> Program:
    """``program`` with the bounds of another machine; of each part that it runs one after another,
    the ops, and a scene of its network there.

    Raises InputError where it is not the program of these.
    """
    check_ops(program)
    plan = _remembered(program, {op.name: op for ops, _ in parts for op in ops})
    once = program.once
    ends = [(once.ops, once.groups)] if once else []
    spans = list(pairwise([(0, 0), *ends, (len(program.ops), len(plan.groups))]))
    if len(spans) != len(parts):
        raise InputError(
            f"{program.component}: the program has {len(spans)} parts, its graph {len(parts)}. "
            "Compile the model again."
        )
    records: list[OpRecord] = []
    limits = []
    for ((op, group), (last_op, last_group)), (ops, scene) in zip(spans, parts, strict=True):
        each, finder = plan.part(group, last_group), BoundFinder(scene)
        placed = finder.of_plan(each)
        found = [bound for bounds in placed for bound in bounds]
        records += [
            replace(record, least=bound.engines, bound_bytes=bound.nbytes)
            for record, bound in zip(program.ops[op:last_op], found, strict=True)
        ]
        limits.append(finder.fused(ops, each, placed))
    fused, chain = _of_all(limits)
    once = once and replace(once, fused=limits[0][0], chain_ps=limits[0][1])
    return replace(program, ops=tuple(records), fused=fused, chain_ps=chain, once=once)


def _remembered(program: Program, ops: dict[str, NetOp]) -> Plan:
    """The plan that a program was made from, as far as bounds need it."""
    names = [record.name for record in program.tensors]
    unknown = [r.name for r in program.ops if r.name.removesuffix(STATISTICS) not in ops]
    if unknown or not program.groups:
        raise InputError(
            f"{program.component}: the program is not of its graph ({len(program.groups)} groups, "
            f"unknown ops: {', '.join(unknown) or 'none'}). Compile the model again."
        )
    inside: list[list[str]] = [[] for _ in program.groups]
    for record in program.ops:
        inside[record.group].append(record.name)
    summed = {
        group[-1].removesuffix(STATISTICS) for group in inside if group and group[-1] not in ops
    }  # by a group before that of their values
    kinds = {record.name: record.kind for record in program.ops}
    groups = []
    for remembered, members in zip(program.groups, inside, strict=True):
        found = []
        for name in members:
            op = ops.get(name) or ops[name.removesuffix(STATISTICS)]
            absorbed: tuple[NetOp, ...] = ()
            if kinds[name] != op.kind.name:
                op, absorbed = joined_as(op, kinds[name], ops.values())
            op = without_statistics(op) if name in summed else op
            found.append(Member(op, Tiling(()), 1, name, absorbed))
        rolling, kept, shared = (
            frozenset(names[tensor] for tensor in tensors)
            for tensors in (remembered.rolling, remembered.kept, remembered.shared)
        )
        loop = Loop(remembered.stripe, rolling, kept, shared, remembered.sweeps)
        groups.append(Group(tuple(found), loop))
    stay = (
        Residency(
            names[r.tensor], r.first, r.last, r.alone, "" if r.over is None else names[r.over]
        )
        for r in program.residents
    )
    return Plan(tuple(groups), tuple(stay))


def joined_as(maker: NetOp, kind: str, ops: Iterable[NetOp]) -> tuple[NetOp, tuple[NetOp, ...]]:
    """An op and the one of ``ops`` that reads its result as one of ``kind``, and the reader.

    Raises InputError where there is none.
    """
    for reader in ops:
        one = maker.joined(reader)
        if one is not None and one.kind.name == kind:
            return one, (reader,)
    raise InputError(f"{maker.name}: nothing makes it a {kind}. Compile the model again.")


def stripes_of(
    program: Program, ops: Sequence[NetOp], scene: Scene
) -> dict[tuple[int, int], Stripes]:
    """By group and tensor of ``program``, the stripes of what rolls, as they follow each other.

    Raises InputError where it is not the program of ``ops``.
    """
    check_ops(program)
    plan = _remembered(program, {op.name: op for op in ops if not op.kind.is_view})
    number = {record.name: index for index, record in enumerate(program.tensors)}
    found: dict[tuple[int, int], Stripes] = {}
    for index, group in enumerate(plan.groups):
        loop = group.loop
        if not loop.stripe:
            continue
        frontier = scene.frontier([member.op for member in group.members], loop)
        starts = range(0, frontier.total, loop.stripe)
        steps = [frontier.step(at, min(at + loop.stripe, frontier.total)) for at in starts]
        for root in loop.rolling:
            place = frontier.over.get(root, root)
            made = (step.stripes[place] for _ in range(loop.sweeps) for step in steps)
            found[index, number[root]] = Stripes(
                number[place],
                tuple(
                    Stripe(first, fresh.start, fresh.start + fresh.size)
                    for first, fresh in made
                    if fresh.size
                ),
            )
    return found
