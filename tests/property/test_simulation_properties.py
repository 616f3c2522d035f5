"""Random programs: the simulator against a plain reference, and what must hold for any program."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.runtime import cost
from edgefusion.runtime.groups import EngineBounds, GroupRecord
from edgefusion.runtime.isa import Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.ledger import View, traffic_ledger
from edgefusion.runtime.measurement import attribute_ps, bound_violations, component_latency
from edgefusion.runtime.program import Operand, OpRecord, Program, TensorRecord
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.simulator import STALL_REASONS, Timeline, simulate
from edgefusion.runtime.specification import Attrs
from edgefusion.runtime.target import load_target
from edgefusion.runtime.work import durations_ps

# Set-up, semaphore and work of like size, so that every kind of wait occurs.
MACHINE = load_target("exynos2400").machine.with_values(
    dma_engines=2, tensor_engines=2, dma_setup_ns=30.0, dma_bandwidth_bytes_per_s=5e9,
    semaphore_ns=20.0, host_call_ns=50.0, tensor_fill_cycles=10.0, vector_startup_cycles=10.0,
    tensor_feed_bytes_per_cycle=2.0, vector_lanes=1, dma_burst_bytes=32,
)  # fmt: skip
ENGINES = [
    (EngineKind.DMA, 0), (EngineKind.DMA, 1), (EngineKind.TENSOR, 0), (EngineKind.TENSOR, 1),
    (EngineKind.VECTOR, 0), (EngineKind.HOST, 0),
]  # fmt: skip
OPS, TENSORS = 4, 3


def view(shape: tuple[int, ...], space: Space, pitch: int, tensor: int = 0) -> Operand:
    return Operand(tensor, space, 0, DType.INT8, shape, (pitch, 1))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    builder = ProgramBuilder("unet", "exynos2400", "pipelined")
    builder.ops.extend(OpRecord(f"op{i}", "conv", (f"Conv_{i}",)) for i in range(OPS))
    builder.tensors.extend(
        TensorRecord(f"t{i}", DType.INT8, (8, 200), Role.ACTIVATION, 0, 1600)
        for i in range(TENSORS)
    )
    for index in range(draw(st.integers(0, 25))):
        kind, unit = draw(st.sampled_from(ENGINES))
        rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 200))
        earlier = st.integers(0, index - 1) if index else st.nothing()
        deps = draw(st.lists(earlier, max_size=3)) if index else []
        cause, opcode = Cause.NONE, Opcode.COPY
        attrs: Attrs = ()
        sram = view((rows, columns), Space.SRAM, columns)
        outputs, inputs = [sram], [sram]
        if kind == EngineKind.DMA:
            pitch = columns + draw(st.sampled_from([0, 56]))
            dram = view((rows, columns), Space.DRAM, pitch, draw(st.integers(0, TENSORS - 1)))
            opcode = draw(st.sampled_from([Opcode.LOAD, Opcode.STORE]))
            outputs, inputs = ([sram], [dram]) if opcode == Opcode.LOAD else ([dram], [sram])
            cause = draw(st.sampled_from(list(Cause)[1:]))
        elif kind == EngineKind.TENSOR:
            opcode = Opcode.MATMUL
            outputs = [view((rows, 4), Space.SRAM, 4)]
            inputs = [sram, view((columns, 4), Space.SRAM, 4)]
        elif kind == EngineKind.HOST:
            opcode, attrs = Opcode.CALL, (("function", "f"),)
        op = draw(st.integers(0, OPS - 1))
        builder.emit(kind, unit, opcode, outputs, inputs, op, deps, cause, attrs)
    return builder.build()


def reference(program: Program) -> tuple[list[tuple[int, int]], Counter[tuple[str, str]]]:
    """Spans and stalls, an instruction at a time, straight from the definition."""
    setup, semaphore = (int(x) for x in cost.to_ps([MACHINE.dma_setup_ns, MACHINE.semaphore_ns]))
    durations = durations_ps(program, MACHINE).tolist()
    rows = list(program.instructions())
    names = [f"{row.engine.name.lower()}{row.unit}" for row in rows]
    spans: list[tuple[int, int]] = []
    stalls: Counter[tuple[str, str]] = Counter()
    for i, row in enumerate(rows):
        free = max([spans[j][1] for j in range(i) if names[j] == names[i]], default=0)
        waits = [(free, 0, "")]
        for j in row.depends_on:
            delay = semaphore if names[j] != names[i] else 0
            waits.append((spans[j][1] + delay, delay, rows[j].engine.name.lower()))
        start = max(wait[0] for wait in waits)
        _, delay, reason = next(wait for wait in waits if wait[0] == start)
        if start > free:
            stalls[names[i], "semaphore"] += min(delay, start - free)
            stalls[names[i], reason] += max(0, start - free - delay)
        end = start + durations[i]
        if row.engine == EngineKind.DMA:
            transfers = [spans[j][1] for j in range(i) if rows[j].engine == EngineKind.DMA]
            wait_ps = max(0, max(transfers, default=0) - (start + setup))
            stalls[names[i], "bus"] += wait_ps
            end += wait_ps
        spans.append((start, end))
    return spans, +stalls


def stall_counter(timeline: Timeline) -> Counter[tuple[str, str]]:
    return +Counter(
        {
            (engine, reason): int(timeline.stall_ps[e, r])
            for e, engine in enumerate(timeline.engines)
            for r, reason in enumerate(STALL_REASONS)
        }
    )


@settings(deadline=None)  # the first example may compile the simulator
@given(programs())
def test_simulator_equals_the_reference(program: Program) -> None:
    timeline = simulate(program, MACHINE)
    spans, stalls = reference(program)
    found = zip(timeline.start_ps.tolist(), timeline.end_ps.tolist(), strict=True)
    assert list(found) == spans
    assert stall_counter(timeline) == stalls


@settings(deadline=None)  # the first example may compile the simulator
@given(programs())
def test_every_engine_accounts_for_the_makespan(program: Program) -> None:
    timeline = simulate(program, MACHINE)
    accounted = timeline.busy_ps + timeline.stall_ps.sum(axis=1) + timeline.idle_ps
    assert accounted.tolist() == [timeline.total_ps] * len(timeline.engines)
    assert (timeline.idle_ps >= 0).all()
    assert (timeline.stall_ps >= 0).all()
    assert timeline.busy_ps.max() <= timeline.total_ps


@settings(deadline=None)  # the first example may compile the simulator
@given(programs())
def test_bus_moves_one_transfer_at_a_time(program: Program) -> None:
    timeline = simulate(program, MACHINE)
    setup = int(cost.to_ps(MACHINE.dma_setup_ns))
    dma = timeline.work.dma.index
    end = timeline.end_ps[dma]
    begin = end - (timeline.duration_ps[dma] - setup)
    assert (begin[1:] >= end[:-1]).all()
    assert (begin - timeline.start_ps[dma] >= setup).all()


@settings(deadline=None)  # the first example may compile the simulator
@given(programs(), st.randoms(use_true_random=False))
def test_fewer_dependencies_or_a_faster_machine_never_take_longer(
    program: Program, random: np.random.Generator
) -> None:
    total = simulate(program, MACHINE).total_ps
    c = program.columns
    kept = np.array([random.random() < 0.5 for _ in c.deps], dtype=np.bool_)
    dep_begin = np.concatenate([[0], np.cumsum(kept)])[c.dep_begin]
    relaxed = replace(program, columns=replace(c, deps=c.deps[kept], dep_begin=dep_begin))
    assert simulate(relaxed, MACHINE).total_ps <= total
    for faster in ({"dma_bandwidth_bytes_per_s": 9e9}, {"clock_hz": 3e9}, {"semaphore_ns": 0.0}):
        assert simulate(program, MACHINE.with_values(**faster)).total_ps <= total


@settings(deadline=None)  # the first example may compile the simulator
@given(programs())
def test_latency_is_attributed_as_defined(program: Program) -> None:
    timeline = simulate(program, MACHINE)
    start, end = timeline.start_ps.tolist(), timeline.end_ps.tolist()
    op = program.columns.op.tolist()
    latency, stall = [0] * OPS, [0] * OPS
    times = sorted({0, *start, *end})
    for a, b in pairwise(times):
        running = [i for i in range(len(op)) if start[i] <= a < end[i]]
        coming = [(start[i], i) for i in range(len(op)) if start[i] >= b and end[i] > start[i]]
        owner = min(running) if running else min(coming)[1]
        latency[op[owner]] += b - a
        stall[op[owner]] += 0 if running else b - a
    found_latency, found_stall = attribute_ps(program, timeline)
    assert found_latency.tolist() == latency
    assert found_stall.tolist() == stall
    assert sum(latency) == timeline.total_ps


@settings(deadline=None)  # the first example may compile the simulator
@given(programs())
def test_ledger_conserves_bytes_and_time(program: Program) -> None:
    ledger = traffic_ledger(program, MACHINE)
    moved: Counter[str] = Counter()
    for row in program.instructions():
        if row.opcode in (Opcode.LOAD, Opcode.STORE):
            side = row.inputs[0] if row.opcode == Opcode.LOAD else row.outputs[0]
            moved["read" if row.opcode == Opcode.LOAD else "write"] += side.elements
    timeline = simulate(program, MACHINE)
    component = component_latency(program, MACHINE, timeline)
    assert (component.dram_read_bytes, component.dram_write_bytes) == (
        moved["read"],
        moved["write"],
    )
    views: tuple[View, ...] = ("op", "tensor", "cause", "direction")
    for view_name in views:
        rows = ledger.by(view_name)
        assert sum(r.read_bytes for r in rows) == moved["read"]
        assert sum(r.write_bytes for r in rows) == moved["write"]
        assert sum(r.bus_bytes for r in rows) == ledger.total().bus_bytes
        assert sum(r.dma_ps for r in rows) == timeline.busy_ps_by_kind()[EngineKind.DMA]
        assert [-r.bytes for r in rows] == sorted(-r.bytes for r in rows)
    assert ledger.total().bus_bytes >= ledger.total().bytes == sum(moved.values())


@settings(deadline=None)  # the first example may compile the simulator
@given(programs())
def test_true_bounds_are_never_violated(program: Program) -> None:
    """Bounds made of what any schedule must do: each op's own work on its busiest engines, and
    its bytes over the bus."""
    busy = component_latency(program, MACHINE).ops
    ps_per_byte = 1e12 / MACHINE.dma_bandwidth_bytes_per_s
    records = tuple(
        replace(
            record,
            bound_bytes=op.dram_read_bytes + op.dram_write_bytes,
            group=min(i, 1),
            least=EngineBounds(
                **{
                    f"{kind.name.lower()}_ps": op.busy_ps[kind] // MACHINE.engines[kind]
                    if kind is not EngineKind.DMA
                    else int((op.dram_read_bytes + op.dram_write_bytes) * ps_per_byte)
                    for kind in EngineKind
                }
            ),
        )
        for i, (record, op) in enumerate(zip(program.ops, busy, strict=True))
    )
    fused = sum((record.least for record in records), start=EngineBounds())
    groups = (GroupRecord(), GroupRecord())
    bounded = replace(program, ops=records, groups=groups, fused=fused)
    component = component_latency(bounded, MACHINE)
    assert bound_violations(component) == []
    assert sum(group.latency_ps for group in component.groups) == component.latency_ps
    assert component.fused_bound_ps == component.bound_ps
