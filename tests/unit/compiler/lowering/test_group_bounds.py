"""Bounds of groups: they hold, they know what lies in SRAM, and other machines have their own."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from edgefusion.compiler.lowering.lower import lower, rebound
from edgefusion.compiler.schedule.schedule import SCHEDULES, Schedule, schedule_named
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.latency import ComponentLatency
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.measurement import bound_violations, component_latency
from edgefusion.runtime.program import OpRecord, Program
from tests.grouped_cases import CASES, MACHINE, SMALL

PIPELINED = schedule_named("pipelined")
SIZES = {"tight": 64 * 1024, "small": 128 * 1024, "roomy": 256 * 1024}
RATES = (6e9, 17e9, 68e9)


@cache
def lowered(case: str, sram_bytes: int, rate: float, schedule: str = "pipelined") -> Program:
    return lower(CASES[case], machine_of(sram_bytes, rate), schedule_named(schedule)).program


def machine_of(sram_bytes: int, rate: float) -> Machine:
    return MACHINE.with_values(sram_bytes=sram_bytes, dma_bandwidth_bytes_per_s=rate)


def measured(program: Program, machine: Machine) -> ComponentLatency:
    component = component_latency(program, machine)
    assert bound_violations(component) == []
    return component


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_bounds_hold_at_three_levels(case: str, size: str, schedule: Schedule) -> None:
    for rate in RATES:
        machine = machine_of(SIZES[size], rate)
        program = lowered(case, SIZES[size], rate, schedule.name)
        component = measured(program, machine)
        assert component.fused_bound_ps <= component.bound_ps <= component.latency_ps
        assert sum(group.latency_ps for group in component.groups) == component.latency_ps
        for group in component.groups:
            inside = [r for r in program.ops if r.group == group.index]
            assert [r.name for r in inside] == list(group.ops)
            assert max(r.bound_ps for r in inside) <= group.bound_ps
            assert group.bound_ps <= sum(r.bound_ps for r in inside)


@pytest.mark.parametrize("case", CASES)
def test_more_bandwidth_raises_no_bound(case: str) -> None:
    program = lowered(case, SMALL.sram_bytes, 17e9)
    before = None
    for rate in (2e9, 6e9, 17e9, 34e9, 68e9, 1e12):
        faster = rebound(program, CASES[case], machine_of(SMALL.sram_bytes, rate), PIPELINED)
        found = [sum_of(faster), faster.fused.ps, *(op.bound_ps for op in faster.ops)]
        assert before is None or all(a <= b for a, b in zip(found, before, strict=True))
        before = found
        measured(faster, machine_of(SMALL.sram_bytes, rate))


def sum_of(program: Program) -> int:
    return sum((op.least for op in program.ops[1:]), start=program.ops[0].least).ps


def test_every_map_of_a_chain_in_one_loop_crosses_the_bus_once() -> None:
    """By hand: the input and both weights are loaded, the result is stored, and nothing else."""
    program = lowered("chain", SMALL.sram_bytes, 17e9)
    (group,) = program.groups
    assert group.stripe > 0
    tensors = CASES["chain"].tensors
    moved = {
        "conv1": ("x", "w1", "w1.scale"), "silu": (), "conv2": ("w2", "w2.scale"), "sum": ("y",)
    }  # fmt: skip
    for op in program.ops:
        assert op.bound_bytes == sum(tensors[name].nbytes for name in moved[op.name])
    maps = 8 * tensors["x"].nbytes  # conv reads and writes one each, as silu; the sum reads two
    assert group.apart_bytes == sum(tensors[n].nbytes for n in tensors if n[0] == "w") + maps + (
        tensors["x"].nbytes
    )


def test_a_resident_costs_no_bytes_and_a_kept_one_its_store() -> None:
    program = lowered("norms", SIZES["roomy"], 17e9)
    tensors = CASES["norms"].tensors
    (resident,) = program.residents
    assert program.tensors[resident.tensor].name == "a"
    assert (resident.first, resident.last, resident.alone) == (0, 1, True)
    assert resident.nbytes == tensors["a"].nbytes
    first = program.ops[0]
    assert first.bound_bytes == sum(tensors[n].nbytes for n in ("x", "w1", "w1.scale", "stats"))
    assert program.groups[0].border == "statistics are complete only after the loop"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_bounds_on_the_own_machine_are_found_again_from_the_program(case: str, size: str) -> None:
    program = lowered(case, SIZES[size], 17e9)
    assert rebound(program, CASES[case], machine_of(SIZES[size], 17e9), PIPELINED) == program


def test_a_program_of_another_graph_is_refused() -> None:
    program = lowered("chain", SMALL.sram_bytes, 17e9)
    for broken in (
        replace(program, ops=(OpRecord("other", "conv", ()), *program.ops[1:])),
        replace(program, groups=()),
        replace(program, ops=(replace(program.ops[0], group=7), *program.ops[1:])),
    ):
        with pytest.raises(InputError, match="Compile the model again"):
            rebound(broken, CASES["chain"], SMALL, PIPELINED)


def test_what_is_computed_twice_counts_twice_but_once_over_all_groups() -> None:
    program = lowered("norms", 96 * 1024, 6e9)
    names = ["conv1:statistics", "conv1", "norm", "conv2"]
    assert [(op.name, op.group) for op in program.ops] == list(
        zip(names, (0, 1, 1, 1), strict=True)
    )
    sums, values, *_, last = program.ops
    assert sums.macs == values.macs == last.macs > 0
    once, total = program.fused, sum(op.least.tensor_ps for op in program.ops)
    assert once.tensor_ps == total - values.least.tensor_ps
    tensors = CASES["norms"].tensors
    assert values.bound_bytes == sum(tensors[n].nbytes for n in ("x", "w1", "w1.scale"))
    assert sums.bound_bytes == values.bound_bytes + tensors["stats"].nbytes
    assert program.groups[0].border == "statistics first, then values"
