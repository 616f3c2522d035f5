"""Timelines small enough to compute by hand, on a machine where a byte, a MAC, an element and a
cycle all take a nanosecond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgefusion.benchmarks.simulator_speed import main as simulator_speed
from edgefusion.benchmarks.simulator_speed import synthetic_program
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import DType, EngineKind, Opcode, Space
from edgefusion.runtime.program import Operand, OpRecord, Program
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.simulator import STALL_REASONS, Timeline, simulate
from edgefusion.runtime.target import load_target

REAL = load_target("exynos2400").machine
MACHINE = REAL.with_values(
    clock_hz=1e9, dma_bandwidth_bytes_per_s=1e9, dma_setup_ns=10.0, dma_burst_bytes=1,
    dma_engines=2, tensor_macs_per_cycle=1, tensor_utilisation=1.0, tensor_granularity_m=1,
    tensor_granularity_n=1, tensor_granularity_k=1, tensor_feed_bytes_per_cycle=1e9,
    tensor_load_bytes_per_cycle=1e9, tensor_drain_bytes_per_cycle=1e9, tensor_fill_cycles=0.0,
    vector_lanes=1, vector_startup_cycles=0.0, host_call_ns=7.0, host_bandwidth_bytes_per_s=1e9,
    semaphore_ns=5.0,
)  # fmt: skip


class Script:
    """Builds programs of instructions that are given by engine and nanoseconds of work."""

    def __init__(self) -> None:
        self.builder = ProgramBuilder("unet", "exynos2400", "pipelined")
        self.builder.ops.append(OpRecord("mid/attention", "attention", ("MatMul_7",)))

    def view(self, *shape: int, space: Space = Space.SRAM) -> Operand:
        strides = tuple(int(np.prod(shape[d + 1 :])) for d in range(len(shape)))
        return Operand(0, space, 0, DType.INT8, shape, strides)

    def load(self, nbytes: int, *deps: int, unit: int = 0) -> int:
        dram, sram = self.view(nbytes, space=Space.DRAM), self.view(nbytes)
        return self.builder.emit(EngineKind.DMA, unit, Opcode.LOAD, [sram], [dram], 0, deps)

    def matmul(self, macs: int, *deps: int) -> int:
        y, a, b = self.view(1, 1), self.view(1, macs), self.view(macs, 1)
        return self.builder.emit(EngineKind.TENSOR, 0, Opcode.MATMUL, [y], [a, b], 0, deps)

    def copy(self, elements: int, *deps: int) -> int:
        view = self.view(elements)
        return self.builder.emit(EngineKind.VECTOR, 0, Opcode.COPY, [view], [view], 0, deps)

    def call(self, nbytes: int, *deps: int) -> int:
        view = self.view(nbytes, space=Space.DRAM)
        return self.builder.emit(
            EngineKind.HOST, 0, Opcode.CALL, [view], [], 0, deps, attrs=(("function", "f"),)
        )

    def build(self) -> Program:
        return self.builder.build()

    def simulate(self) -> Timeline:
        return simulate(self.build(), MACHINE)


def spans(timeline: Timeline) -> list[tuple[float, float]]:
    """Starts and ends in nanoseconds."""
    starts, ends = timeline.start_ps.tolist(), timeline.end_ps.tolist()
    return [(s / 1000, e / 1000) for s, e in zip(starts, ends, strict=True)]


def stalls(timeline: Timeline, engine: str) -> dict[str, float]:
    """Nanoseconds by reason, those that are not zero."""
    row = timeline.stall_ps[timeline.engines.index(engine)].tolist()
    return {name: ps / 1000 for name, ps in zip(STALL_REASONS, row, strict=True) if ps}


def test_chain_across_all_engines() -> None:
    script = Script()
    load = script.load(100)
    matmul = script.matmul(200, load)
    copy = script.copy(50, matmul)
    call = script.call(30, copy)
    script.load(40, call)
    timeline = script.simulate()
    assert spans(timeline) == [(0, 110), (115, 315), (320, 370), (375, 412), (417, 467)]
    assert stalls(timeline, "tensor0") == {"dma": 110, "semaphore": 5}
    assert stalls(timeline, "vector0") == {"tensor": 315, "semaphore": 5}
    assert stalls(timeline, "host0") == {"vector": 370, "semaphore": 5}
    assert stalls(timeline, "dma0") == {"host": 302, "semaphore": 5}
    assert timeline.engines == ("dma0", "dma1", "tensor0", "vector0", "host0")
    assert (timeline.busy_ps / 1000).tolist() == [160, 0, 200, 50, 37]
    assert (timeline.idle_ps / 1000).tolist() == [0, 467, 152, 97, 55]
    assert timeline.total_ps == 467_000


def test_engines_without_dependencies_overlap_and_queues_stay_in_order() -> None:
    script = Script()
    script.load(100)
    script.copy(60)
    script.copy(10)
    assert spans(script.simulate()) == [(0, 110), (0, 60), (60, 70)]


def test_no_semaphore_within_an_engine() -> None:
    script = Script()
    first = script.load(100)
    script.load(50, first)
    timeline = script.simulate()
    assert spans(timeline) == [(0, 110), (110, 170)]
    assert not timeline.stall_ps.any()


def test_a_dependency_that_ended_long_ago_costs_nothing() -> None:
    script = Script()
    load = script.load(10)
    script.copy(100)
    script.copy(10, load)
    timeline = script.simulate()
    assert spans(timeline)[2] == (100, 110)
    assert not timeline.stall_ps.any()


def test_only_the_rest_of_a_semaphore_is_waited_for() -> None:
    script = Script()
    load = script.load(88)  # ends at 98, signals at 103
    script.copy(100)
    script.copy(10, load)
    timeline = script.simulate()
    assert spans(timeline)[2] == (103, 113)
    assert stalls(timeline, "vector0") == {"semaphore": 3}


def test_the_latest_dependency_is_the_reason() -> None:
    script = Script()
    load, matmul = script.load(100), script.matmul(300)
    script.copy(1, load, matmul)
    assert stalls(script.simulate(), "vector0") == {"tensor": 300, "semaphore": 5}


@pytest.mark.parametrize("swap", [False, True])
def test_of_equally_late_dependencies_the_first_is_the_reason(swap: bool) -> None:
    script = Script()
    deps = [script.load(100), script.matmul(110)]
    script.copy(1, *(deps[::-1] if swap else deps))
    reason = "tensor" if swap else "dma"
    assert stalls(script.simulate(), "vector0") == {reason: 110, "semaphore": 5}


def test_channels_share_the_bus_in_program_order() -> None:
    script = Script()
    script.load(100, unit=0)
    script.load(50, unit=1)
    script.load(30, unit=0)
    timeline = script.simulate()
    # Set-ups overlap; the bytes follow each other: 10..110, 110..160, 160..190.
    assert spans(timeline) == [(0, 110), (0, 160), (110, 190)]
    assert stalls(timeline, "dma1") == {"bus": 100}
    assert stalls(timeline, "dma0") == {"bus": 40}
    assert (timeline.busy_ps / 1000).tolist()[:2] == [150, 60]
    assert timeline.duration_ps.tolist() == [110_000, 60_000, 40_000]


def test_each_engine_accounts_for_every_picosecond() -> None:
    program = synthetic_program(1000)
    timeline = simulate(program, REAL)
    accounted = timeline.busy_ps + timeline.stall_ps.sum(axis=1) + timeline.idle_ps
    assert accounted.tolist() == [timeline.total_ps] * len(timeline.engines)
    assert timeline.busy_ps.sum() == timeline.duration_ps.sum() > 0


def test_benchmark_reports_whole_tiles() -> None:
    result = simulator_speed(instructions=1001)
    assert result["instructions"] == 1005
    assert result["instructions_per_s"] > 0
    assert result["simulated_ms"] == simulate(synthetic_program(1001), REAL).total_ps / 1e9


def test_empty_program_takes_no_time() -> None:
    timeline = Script().simulate()
    assert timeline.total_ps == 0
    assert not timeline.idle_ps.any()


@pytest.mark.parametrize("target", [1, 2, -1])
def test_dependencies_must_point_backwards(target: int) -> None:
    script = Script()
    script.load(10)
    script.copy(10, target)
    script.load(10)
    with pytest.raises(InputError, match=r"instruction 1 \(copy of mid/attention.*earlier"):
        script.simulate()


def test_an_engine_that_the_machine_lacks() -> None:
    script = Script()
    script.load(10, unit=2)
    with pytest.raises(InputError, match="for dma2, but the machine has 2 dma engines"):
        script.simulate()


def test_dependency_ranges_are_checked_before_they_are_read() -> None:
    script = Script()
    script.load(10)
    program = script.build()
    columns = replace(program.columns, dep_begin=np.array([0, 10**6]))
    with pytest.raises(InputError, match="dep_begin is damaged"):
        simulate(replace(program, columns=columns), MACHINE)
