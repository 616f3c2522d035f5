"""What a program remembers of its plan: ops with their bounds, groups, and what stays in SRAM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from edgefusion.compiler.lowering.group_bounds import BoundFinder
from edgefusion.compiler.lowering.plan import Group, Loop, Member, Plan, Residency
from edgefusion.compiler.lowering.planner import without_statistics
from edgefusion.compiler.lowering.rule import Tiling
from edgefusion.compiler.lowering.scene import Scene
from edgefusion.compiler.network.network import NetOp
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.groups import STATISTICS, GroupRecord, ResidentRecord
from edgefusion.runtime.program import OpRecord, Program
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.program_columns import check_ops
from edgefusion.runtime.sram_homes import Stripe, Stripes


def remember(builder: ProgramBuilder, plan: Plan, scene: Scene, ops: Sequence[NetOp]) -> None:
    """Enter ``plan`` for the ops of a network in the program's tables; its tensors are there."""
    finder = BoundFinder(scene)
    placed = finder.of_plan(plan)
    number = {record.name: index for index, record in enumerate(builder.tensors)}
    by_name = {op.name: op for op in ops}
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
                    group=index,
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
        ResidentRecord(number[r.root], r.first, r.last, scene.tensors[r.root].nbytes, r.alone)
        for r in plan.residencies
    ]
    builder.fused, builder.chain_ps = finder.fused(ops, plan, placed)


def bound_again(program: Program, ops: Sequence[NetOp], scene: Scene) -> Program:
    """``program`` with the bounds of another machine; ``scene`` has its network there.

    Raises InputError where it is not the program of ``ops``.
    """
    check_ops(program)
    ops = [op for op in ops if not op.kind.is_view]
    plan = _remembered(program, {op.name: op for op in ops})
    finder = BoundFinder(scene)
    placed = finder.of_plan(plan)
    found = [bound for bounds in placed for bound in bounds]
    records = tuple(
        replace(record, least=bound.engines, bound_bytes=bound.nbytes)
        for record, bound in zip(program.ops, found, strict=True)
    )
    fused, chain = finder.fused(ops, plan, placed)
    return replace(program, ops=records, fused=fused, chain_ps=chain)


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
    stay = (Residency(names[r.tensor], r.first, r.last, r.alone) for r in program.residents)
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
            made = (step.stripes[root] for _ in range(loop.sweeps) for step in steps)
            found[index, number[root]] = tuple(
                Stripe(first, fresh.start, fresh.start + fresh.size)
                for first, fresh in made
                if fresh.size
            )
    return found
