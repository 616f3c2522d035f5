"""Measures a program: from a simulated timeline to the records of ``runtime.latency``.

See there for what an op's latency and the bounds mean.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.cost import to_ps
from edgefusion.runtime.groups import EngineBounds
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.latency import ComponentLatency, GroupLatency, OpLatency
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import I32, I64, Program
from edgefusion.runtime.program_columns import check_ops
from edgefusion.runtime.simulator import STALL_REASONS, Timeline, simulate


def component_latency(
    program: Program, machine: Machine, timeline: Timeline | None = None
) -> ComponentLatency:
    """Measure a program; ``timeline`` is its simulation on the same machine, if there is one.

    Raises InputError for an instruction without an op, and whatever ``simulate`` refuses.
    """
    check_ops(program)
    timeline = simulate(program, machine) if timeline is None else timeline
    busy = _busy_ps(program, timeline)
    spread = _spread_ps(busy, program, timeline, machine)
    ops = _op_latencies(program, timeline, busy, spread)
    stalls = timeline.stall_ps.sum(axis=0).tolist()
    return ComponentLatency(
        name=program.component,
        target=program.target,
        schedule=program.schedule,
        instructions=len(program),
        latency_ps=timeline.total_ps,
        bound_ps=max(_sum(record.least for record in program.ops).ps, program.chain_ps),
        fused_bound_ps=max(program.fused.ps, program.chain_ps),
        serial_bound_ps=sum(op.bound_ps for op in ops),
        busy_ps=timeline.busy_ps_by_kind(),
        stalls_ps=tuple(zip(STALL_REASONS, stalls, strict=True)),
        idle_ps=int(timeline.idle_ps.sum()),
        dram_read_bytes=sum(op.dram_read_bytes for op in ops),
        dram_write_bytes=sum(op.dram_write_bytes for op in ops),
        ops=ops,
        groups=_group_latencies(program, ops, spread),
    )


def bound_violations(component: ComponentLatency) -> list[str]:
    """One line for every figure that lies below its bound; there must be none.

    Durations are rounded to a picosecond an instruction, which is the tolerance.
    """
    lines = [
        f"{component.name}: op {op.name!r} takes {op.reached_ps} ps, below its bound of "
        f"{op.bound_ps} ps"
        for op in component.ops
        if op.reached_ps + op.instructions < op.bound_ps
    ]
    lines += [
        f"{component.name}: group {group.index} takes {group.reached_ps} ps, below its bound of "
        f"{group.bound_ps} ps"
        for group in component.groups
        if group.reached_ps + group.instructions < group.bound_ps
    ]
    for what, bound_ps in (
        ("its bound", component.bound_ps),
        ("its bound over all groups", component.fused_bound_ps),
    ):
        if component.latency_ps + component.instructions < bound_ps:
            lines.append(
                f"{component.name}: takes {component.latency_ps} ps, below {what} of {bound_ps} ps"
            )
    return lines


def attribute_ps(program: Program, timeline: Timeline) -> tuple[I64, I64]:
    """Latency of each op, and the part of it in which nothing ran; both int64[ops].

    The latencies add up to the timeline's ``total_ps`` exactly.
    """
    engines = len(timeline.engines)
    order = np.argsort(timeline.engine, kind="stable")
    begin = np.searchsorted(timeline.engine[order], np.arange(engines + 1))
    latency = np.zeros(len(program.ops), dtype=np.int64)
    stall = np.zeros(len(program.ops), dtype=np.int64)
    _attribute(order, begin, timeline.start_ps, timeline.end_ps, program.columns.op, latency, stall)
    return latency, stall


def _busy_ps(program: Program, timeline: Timeline) -> I64:
    """How long engines are busy, int64[kinds, ops]."""
    busy = np.zeros((len(EngineKind), len(program.ops)), dtype=np.int64)
    np.add.at(busy, (program.columns.engine, program.columns.op), timeline.duration_ps)
    return busy


def _spread_ps(busy: I64, program: Program, timeline: Timeline, machine: Machine) -> I64:
    """The least time in which engines can have been so ``busy``, int64[kinds, ops]."""
    op, dma = program.columns.op, timeline.work.dma
    spread: I64 = busy // np.array([[machine.engines[kind]] for kind in EngineKind])
    # DMA channels set up at the same time, but hold the bus one after another.
    setup_ps = to_ps(machine.dma_setup_ns) * np.bincount(op[dma.index], minlength=len(program.ops))
    on_bus = busy[EngineKind.DMA] - setup_ps
    spread[EngineKind.DMA] = np.maximum(spread[EngineKind.DMA], on_bus)
    return spread


def _op_latencies(
    program: Program, timeline: Timeline, busy: I64, spread: I64
) -> tuple[OpLatency, ...]:
    op, dma = program.columns.op, timeline.work.dma
    latency, stall = attribute_ps(program, timeline)
    instructions = np.bincount(op, minlength=len(program.ops))
    busiest = spread.max(axis=0)
    moved = np.zeros((2, len(program.ops)), dtype=np.int64)
    np.add.at(moved, (np.where(dma.is_read, 0, 1), op[dma.index]), dma.useful_bytes)
    return tuple(
        OpLatency(
            name=record.name,
            kind=record.kind,
            origin=record.origin,
            scope=record.scope,
            tile=record.tile,
            instructions=int(instructions[i]),
            latency_ps=int(latency[i]),
            stall_ps=int(stall[i]),
            busy_ps={kind: int(busy[kind, i]) for kind in EngineKind},
            busiest_ps=int(busiest[i]),
            dram_read_bytes=int(moved[0, i]),
            dram_write_bytes=int(moved[1, i]),
            bound_ps=record.bound_ps,
        )
        for i, record in enumerate(program.ops)
    )


def _group_latencies(
    program: Program, ops: tuple[OpLatency, ...], spread: I64
) -> tuple[GroupLatency, ...]:
    """What was measured of each group of ``program``, out of what was of its ops."""
    members: list[list[int]] = [[] for _ in program.groups]
    for index, record in enumerate(program.ops if program.groups else ()):
        members[record.group].append(index)
    return tuple(
        GroupLatency(
            index=index,
            ops=tuple(ops[i].name for i in inside),
            stripe=group.stripe,
            instructions=sum(ops[i].instructions for i in inside),
            latency_ps=sum(ops[i].latency_ps for i in inside),
            busiest_ps=int(spread[:, inside].sum(axis=1).max()),
            dram_read_bytes=sum(ops[i].dram_read_bytes for i in inside),
            dram_write_bytes=sum(ops[i].dram_write_bytes for i in inside),
            bound_ps=_sum(program.ops[i].least for i in inside).ps,
        )
        for index, (group, inside) in enumerate(zip(program.groups, members, strict=True))
    )


def _sum(bounds: Iterable[EngineBounds]) -> EngineBounds:
    return sum(bounds, start=EngineBounds())


@compiled
def _attribute(
    order: I64, begin: I64, start: I64, end: I64, op: I32, latency: I64, stall: I64
) -> None:
    """Sweep time over the engines' queues ``order[begin[e]:begin[e+1]]``, filling the last two.

    Between two starts or ends the set of running instructions does not change, and each engine
    runs at most one, so each step looks at one instruction an engine.
    """
    engines = len(begin) - 1
    head = begin[:-1].copy()
    now = 0
    while True:
        running, coming, change = -1, -1, -1
        for e in range(engines):
            while head[e] < begin[e + 1] and end[order[head[e]]] <= now:
                head[e] += 1
            if head[e] == begin[e + 1]:
                continue
            i = order[head[e]]
            if start[i] <= now:
                event = end[i]
                if running < 0 or i < running:
                    running = i
            else:
                event = start[i]
                if coming < 0 or (start[i], i) < (start[coming], coming):
                    coming = i
            if change < 0 or event < change:
                change = event
        if change < 0:
            return
        owner = coming if running < 0 else running
        latency[op[owner]] += change - now
        if running < 0:
            stall[op[owner]] += change - now
        now = change
