"""Measures a program: from a simulated timeline to the records of ``runtime.latency``.

See there for what an op's latency and the bounds mean.
"""

from __future__ import annotations

import math

import numpy as np

from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.cost import to_ps
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.latency import ComponentLatency, OpLatency
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
    ops = _op_latencies(program, timeline, machine)
    stalls = timeline.stall_ps.sum(axis=0).tolist()
    return ComponentLatency(
        name=program.component,
        target=program.target,
        schedule=program.schedule,
        instructions=len(program),
        latency_ps=timeline.total_ps,
        bound_ps=_bound_ps(program, ops, machine),
        serial_bound_ps=sum(op.bound_ps for op in ops),
        busy_ps=timeline.busy_ps_by_kind(),
        stalls_ps=tuple(zip(STALL_REASONS, stalls, strict=True)),
        idle_ps=int(timeline.idle_ps.sum()),
        dram_read_bytes=sum(op.dram_read_bytes for op in ops),
        dram_write_bytes=sum(op.dram_write_bytes for op in ops),
        ops=ops,
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
    if component.latency_ps + component.instructions < component.bound_ps:
        lines.append(
            f"{component.name}: takes {component.latency_ps} ps, below its bound of "
            f"{component.bound_ps} ps"
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


def _op_latencies(program: Program, timeline: Timeline, machine: Machine) -> tuple[OpLatency, ...]:
    op, dma = program.columns.op, timeline.work.dma
    latency, stall = attribute_ps(program, timeline)
    instructions = np.bincount(op, minlength=len(program.ops))
    busy = np.zeros((len(EngineKind), len(program.ops)), dtype=np.int64)
    np.add.at(busy, (program.columns.engine, op), timeline.duration_ps)
    spread = busy // np.array([[machine.engines[kind]] for kind in EngineKind])
    # DMA channels set up at the same time, but hold the bus one after another.
    setup_ps = to_ps(machine.dma_setup_ns) * np.bincount(op[dma.index], minlength=len(program.ops))
    on_bus = busy[EngineKind.DMA] - setup_ps
    spread[EngineKind.DMA] = np.maximum(spread[EngineKind.DMA], on_bus)
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


def _bound_ps(program: Program, ops: tuple[OpLatency, ...], machine: Machine) -> int:
    """The largest, over kinds of engine, of the sum of the ops' bounds on it.

    On DMA that is the compulsory bytes of all ops. An op whose bound is more than its bytes explain
    is bound by computing, on the engine that it keeps busiest.
    """
    ps_per_byte = 1e12 / machine.dma_bandwidth_bytes_per_s
    sums = dict.fromkeys(EngineKind, 0)
    sums[EngineKind.DMA] = math.floor(sum(r.bound_bytes for r in program.ops) * ps_per_byte)
    for record, op in zip(program.ops, ops, strict=True):
        if record.bound_ps > math.ceil(record.bound_bytes * ps_per_byte):
            shares = {
                kind: busy / machine.engines[kind]
                for kind, busy in op.busy_ps.items()
                if kind is not EngineKind.DMA
            }
            sums[max(shares, key=shares.__getitem__)] += record.bound_ps
    return max(sums.values())


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
