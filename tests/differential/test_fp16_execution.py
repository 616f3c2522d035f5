"""FP16 programs of every lowering rule, executed, against float64: values, tilings, bytes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.lowering.rule import tiling
from edgefusion.compiler.network.network import Epilogue, Network
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.ops.conv import Conv
from edgefusion.compiler.ops.norm import GroupNorm
from edgefusion.compiler.schedule.schedule import SCHEDULES, Schedule, schedule_named
from edgefusion.runtime.executor import Execution, Executor
from edgefusion.runtime.functions import UNARY
from edgefusion.runtime.isa import Role
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.ledger import traffic_ledger
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.target import load_target
from tests.fp16_reference import draw, evaluate, half_network
from tests.lowering_cases import NetworkBuilder, all_cases, attention_case, function_case

MACHINE = load_target("exynos2400").machine
SMALL = replace(MACHINE, sram_bytes=64 * 1024)
"""Little SRAM, so that every case needs several tiles and ragged tails."""
TWO = SMALL.with_values(dma_engines=2, tensor_engines=2, vector_engines=2)
MACHINES = {"full": MACHINE, "small": SMALL, "two engines of each kind": TWO}
CASES = {
    **{name: half_network(network) for name, network in all_cases().items()},
    "attention_row_mask": half_network(attention_case(60, 77, mask=True)),
}
TILED_SUMS = ("reduce",)
"""Whose FP16 result is also the carrier of partial sums: a rounding a tile."""


def run(program: Program, machine: Machine, network: Network) -> Execution:
    inputs, constants = draw(network)
    hosts = {"host": lambda values: [2.0 * values[0]]}
    return Executor(program, machine, constants, hosts=hosts).run(inputs)


@cache
def program_of(case: str, machine: str, schedule: Schedule) -> Program:
    return lower(CASES[case], MACHINES[machine], schedule).program


@cache
def executed(case: str, machine: str, schedule: Schedule) -> Execution:
    return run(program_of(case, machine, schedule), MACHINES[machine], CASES[case])


def everywhere(case: str) -> dict[str, Array]:
    return {
        f"{schedule.name} {machine}": executed(case, machine, schedule).outputs["y"]
        for machine in MACHINES
        for schedule in SCHEDULES
    }


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_float64_rounded_after_each_instruction(case: str) -> None:
    inputs, constants = draw(CASES[case])
    expected, tolerance = evaluate(CASES[case], inputs | constants)
    for where, found in everywhere(case).items():
        error = np.abs(found - expected)
        assert (error <= tolerance).all(), f"{where}: {error.max()}"
        assert np.mean(error == 0.0) >= (0.5 if case in TILED_SUMS else 0.97), where


STREAMED = half_network(attention_case(70, 300, heads=2, depth=40))


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("name", ["serial", "pipelined"])
def test_streamed_attention_is_attention_bit_for_bit(
    name: str, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums go on from tile to tile of V, and the last product rounds them."""
    schedule = schedule_named(name)
    whole = run(lower(STREAMED, MACHINE, SCHEDULES[0]).program, MACHINE, STREAMED).outputs["y"]
    for queries, keys, values, block, copies in (
        (70, 256, 40, 70, 1),
        (33, 200, 24, 10, 3),
        (70, 64, 16, 32, 6),
        (7, 37, 7, 3, 2),
        (16, 32, 40, 8, 2),
    ):
        chosen = tiling(
            queries=queries,
            keys=keys,
            values=values,
            copies=copies,
            block=block,
            queries_ahead=ahead,
        )
        monkeypatch.setattr(Attention, "tilings", lambda self, context, t=chosen: iter([t]))
        found = run(lower(STREAMED, MACHINE, schedule).program, MACHINE, STREAMED).outputs["y"]
        np.testing.assert_array_equal(found, whole, err_msg=str(chosen))


@pytest.mark.parametrize("kind", ["unary", "matmul", "glu"])
@pytest.mark.parametrize("name", UNARY)
def test_every_function_alone_in_an_epilogue_and_as_a_gate(name: str, kind: str) -> None:
    network = half_network(function_case(kind, name))
    inputs, constants = draw(network)
    expected, tolerance = evaluate(network, inputs | constants)
    found = run(lower(network, SMALL, schedule_named("mlt")).program, SMALL, network).outputs["y"]
    error = np.abs(found - expected)
    assert (error <= tolerance).all(), error.max()
    assert np.mean(error == 0.0) >= 0.97


@pytest.mark.parametrize("case", CASES)
def test_no_tiling_and_no_schedule_changes_a_bit(case: str) -> None:
    results = everywhere(case)
    first = next(iter(results.values()))
    for where, found in results.items():
        if case not in TILED_SUMS:  # the test above has their bound
            np.testing.assert_array_equal(found, first, err_msg=where)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("case", CASES)
def test_bytes_moved_are_the_ledgers(case: str, machine: str, schedule: Schedule) -> None:
    program = program_of(case, machine, schedule)
    rows = traffic_ledger(program, MACHINES[machine]).by("cause")
    ledger = {row.name: row.bytes for row in rows if row.bytes}
    moved = executed(case, machine, schedule).moved_bytes
    assert {cause.name.lower(): n for cause, n in moved.items()} == ledger


def norm_of_conv() -> Network:
    """A convolution that collects statistics in its epilogue, and the GroupNorm that uses them."""
    b = NetworkBuilder()
    b.add("x", 1, 24, 20, 48, role=Role.INPUT)
    b.weight("w", 96, 48, 3, 3)
    b.add("bias", 96, role=Role.WEIGHT)
    b.add("stats", 2, 96)
    b.add("h", 1, 24, 20, 96)
    b.add("gamma", 96, role=Role.WEIGHT)
    b.add("beta", 96, role=Role.WEIGHT)
    b.add("y", 1, 24, 20, 96, role=Role.OUTPUT)
    conv = Conv(x="x", w="w", bias="bias", pads=(1, 1, 1, 1))
    b.op("conv", conv, "h", (Epilogue("stats", "stats"),))
    norm = GroupNorm(
        x="h", gamma="gamma", beta="beta", stats=("stats",), groups=8, epsilon=1e-5, function="silu"
    )
    b.op("norm", norm, "y")
    return half_network(b.build())


def test_statistics_of_an_epilogue_do_not_depend_on_tiles() -> None:
    """Those of tiles narrower than the image are collected at the end, in the order of rows."""
    network = norm_of_conv()
    results = {}
    for machine in (*MACHINES.values(), replace(MACHINE, sram_bytes=48 * 1024)):
        for schedule in SCHEDULES:
            program = lower(network, machine, schedule).program
            results[program.ops[0].tile] = run(program, machine, network).outputs["y"]
    assert len(results) >= 3
    first, *others = results.values()
    for found in others:
        np.testing.assert_array_equal(found, first)


def test_running_again_gives_the_same() -> None:
    network = CASES["conv"]
    inputs, constants = draw(network)
    executor = Executor(program_of("conv", "small", SCHEDULES[2]), SMALL, constants)
    first = executor.run(inputs).outputs["y"]
    np.testing.assert_array_equal(executor.run(inputs).outputs["y"], first)
    unchecked = Executor(program_of("conv", "small", SCHEDULES[2]), SMALL, constants, checked=False)
    np.testing.assert_array_equal(unchecked.run(inputs).outputs["y"], first)
