"""Lowering: what the search promises is what the simulator measures, and bounds hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.lower import candidates_of, context_of, lower
from edgefusion.compiler.lowering.rule import LoweredKind
from edgefusion.compiler.network.kind import Kind
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.ops.kinds import KINDS
from edgefusion.compiler.schedule.schedule import SCHEDULES, Grouping, Schedule, schedule_named
from edgefusion.runtime.errors import DoesNotFitError, UnsupportedOpError
from edgefusion.runtime.isa import Cause, DType, EngineKind, Opcode
from edgefusion.runtime.ledger import traffic_ledger
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.measurement import bound_violations, component_latency
from edgefusion.runtime.program import Program
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target
from edgefusion.runtime.verifier import verify_program
from edgefusion.runtime.work import derive_work
from tests.calibration_cases import optimised_unet
from tests.group_cases import ChainBuilder
from tests.lowering_cases import all_cases, attention_case, conv_case, group_norm_case

CASES = all_cases()
MACHINE = load_target("exynos2400").machine
SMALL = replace(MACHINE, sram_bytes=64 * 1024)
"""Little SRAM, so that every case needs several tiles and ragged tails."""
TWO = {"dma_engines": 2, "tensor_engines": 2, "vector_engines": 2}
SLOW = MACHINE.with_values(
    tensor_macs_per_cycle=512, tensor_feed_bytes_per_cycle=4.0,
    tensor_load_bytes_per_cycle=4.0, tensor_drain_bytes_per_cycle=2.0, vector_lanes=4,
)  # fmt: skip
"""Computing takes longer than moving data."""


def dma_bytes(program: Program) -> int:
    return int(derive_work(program).dma.useful_bytes.sum())


def test_every_kind_but_views_has_a_rule_and_a_case() -> None:
    lowered = {kind for kind in KINDS if issubclass(kind, LoweredKind)}
    assert {kind for kind in KINDS if kind.is_view} == set(KINDS) - lowered
    assert {type(op.kind) for network in CASES.values() for op in network.ops} == lowered


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize(
    "machine",
    [MACHINE, SMALL, MACHINE.with_values(**TWO), SMALL.with_values(**TWO)],
    ids=["full", "small", "full-two", "small-two"],
)
@pytest.mark.parametrize("case", CASES)
def test_program_is_sound_and_above_its_bound(
    case: str, machine: Machine, schedule: Schedule
) -> None:
    program = lower(CASES[case], machine, schedule).program
    verify_program(program, machine)
    assert simulate(program, machine).total_ps >= program.ops[0].bound_ps > 0
    assert bound_violations(component_latency(program, machine)) == []
    assert dma_bytes(program) >= program.ops[0].bound_bytes
    assert program.sram_bytes <= machine.sram_bytes


@pytest.mark.parametrize("schedule", ["serial", "mlt"])
@pytest.mark.parametrize(
    "machine", [MACHINE, SMALL, SMALL.with_values(**TWO)], ids=["full", "small", "small-two"]
)
@pytest.mark.parametrize("case", CASES)
def test_search_predicts_the_simulator_exactly(case: str, machine: Machine, schedule: str) -> None:
    network = CASES[case]
    program = lower(network, machine, schedule_named(schedule)).program
    best = candidates_of(network, network.ops[0].name, machine, schedule_named(schedule))[0]
    assert str(best.tiling) == program.ops[0].tile
    assert best.time_ps == simulate(program, machine).total_ps
    assert best.instructions == len(program)
    assert best.dma_bytes == dma_bytes(program)
    assert best.sram_bytes == program.sram_bytes


def test_tiles_cover_the_result_exactly_once() -> None:
    """Every element of the result is stored once, whatever the tiling."""
    for machine in (MACHINE, SMALL):
        for case, network in CASES.items():
            program = lower(network, machine, schedule_named("mlt")).program
            if case == "host":
                continue
            output = network.tensor("y")
            index = next(i for i, t in enumerate(program.tensors) if t.name == "y")
            seen = np.zeros(output.nbytes, dtype=np.int8)
            for instruction in program.instructions():
                for o in instruction.outputs:
                    if o.tensor == index and instruction.opcode == Opcode.STORE:
                        offsets = np.array([o.address - program.tensors[index].address])
                        for size, stride in zip(o.shape, o.strides, strict=True):
                            offsets = (offsets[:, None] + np.arange(size) * stride).ravel()
                        offsets = (offsets[:, None] + np.arange(o.dtype.nbytes)).ravel()
                        np.add.at(seen, offsets, 1)
            assert (seen == 1).all(), case


def test_serial_attention_spills_scores_and_mlt_does_not() -> None:
    network = attention_case(queries=256, keys=256)
    scores = 4 * 256 * 256 * DType.INT16.nbytes

    def spilled(schedule: str) -> int:
        program = lower(network, MACHINE, schedule_named(schedule)).program
        work = derive_work(program).dma
        is_spill = program.columns.cause[work.index] == Cause.SPILL
        return int(work.useful_bytes[is_spill].sum())

    assert spilled("serial") == 4 * scores
    assert spilled("mlt") == 0


def test_mlt_attention_moves_the_compulsory_bytes_only() -> None:
    network = attention_case(queries=4096, keys=4096, heads=8, depth=40)
    program = lower(network, MACHINE, schedule_named("mlt")).program
    assert dma_bytes(program) == 4 * 4096 * 320 * 2 == program.ops[0].bound_bytes


def test_too_little_sram_names_the_op_and_the_need() -> None:
    machine = replace(MACHINE, sram_bytes=512)
    with pytest.raises(DoesNotFitError, match=r"conv \(conv, from onnx_conv\).*512 bytes"):
        lower(conv_case(), machine, schedule_named("mlt"))


class Fft(Kind):
    """A kind that has no lowering rule."""

    name = "fft"


def test_a_kind_without_a_rule_is_named() -> None:
    network = conv_case()
    broken = Network(
        "n",
        network.tensors,
        (replace(network.ops[0], kind=Fft()),),
        network.inputs,
        network.outputs,
    )
    with pytest.raises(UnsupportedOpError, match="fft"):
        lower(broken, MACHINE, schedule_named("mlt"))


def test_serial_runs_one_engine_at_a_time() -> None:
    program = lower(conv_case(), SMALL, schedule_named("serial")).program
    timeline = simulate(program, SMALL)
    assert (timeline.start_ps[1:] >= timeline.end_ps[:-1]).all()
    assert {EngineKind(int(e)) for e in program.columns.engine} == {
        EngineKind.DMA,
        EngineKind.TENSOR,
        EngineKind.VECTOR,
    }


def test_without_overlap_one_engine_of_each_kind_works() -> None:
    two = SMALL.with_values(**TWO)
    for name in ("serial", "mlt"):
        schedule = schedule_named(name)
        program = lower(CASES["conv"], two, schedule).program
        assert program.columns.unit.max() == 0
        assert simulate(program, two).total_ps == simulate(program, SMALL).total_ps
        idle = "1 of 2 dma engines, 1 of 2 tensor engines, 1 of 2 vector engines"
        assert schedule.idle_engines(two) == idle
        assert schedule.idle_engines(SMALL) == ""
    assert schedule_named("pipelined").idle_engines(two) == ""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("one", [MACHINE, SMALL], ids=["full", "small"])
def test_two_engines_of_each_kind_are_no_slower(case: str, one: Machine) -> None:
    pipelined, two = schedule_named("pipelined"), one.with_values(**TWO)
    before = simulate(lower(CASES[case], one, pipelined).program, one)
    after = simulate(lower(CASES[case], two, pipelined).program, two)
    # Of what takes about as long, the one that takes least room is chosen.
    assert after.total_ps <= 1.001 * before.total_ps


@pytest.mark.parametrize("case", ["conv", "conv_1x1", "matmul", "attention", "attention_mask"])
def test_two_engines_of_each_kind_are_faster_as_both_work(case: str) -> None:
    pipelined, two = schedule_named("pipelined"), SLOW.with_values(**TWO)
    before = simulate(lower(CASES[case], SLOW, pipelined).program, SLOW)
    program = lower(CASES[case], two, pipelined).program
    after = simulate(program, two)
    assert after.total_ps < 0.8 * before.total_ps
    used = set(zip(program.columns.engine.tolist(), program.columns.unit.tolist(), strict=True))
    assert used >= {(kind, unit) for kind in (EngineKind.DMA, EngineKind.TENSOR) for unit in (0, 1)}


def test_two_engines_of_each_kind_make_the_unet_faster(tiny_exports: Path) -> None:
    network, pipelined = optimised_unet(tiny_exports).network, schedule_named("pipelined")
    two = MACHINE.with_values(**TWO)
    program = lower(network, two, pipelined).program
    verify_program(program, two)
    measured = component_latency(program, two)
    assert bound_violations(measured) == []
    before = simulate(lower(network, MACHINE, pipelined).program, MACHINE)
    assert measured.latency_ps < 0.85 * before.total_ps


def test_ledger_separates_the_halo_from_compulsory_bytes() -> None:
    """Input bytes entered under their own cause are the input's size; the halo is reread."""
    for kernel, upsample in ((3, 1), (3, 2), (7, 1)):
        network = conv_case(
            200,
            kernel=kernel,
            pad=kernel // 2,
            upsample=upsample,
            epilogue=False,
            channels_in=8,
            channels_out=32,
        )
        program = lower(network, SMALL, schedule_named("mlt")).program
        ledger = traffic_ledger(program, SMALL)
        by_cause = {row.name: row.bytes for row in ledger.by("cause")}
        by_tensor = {row.name: row.bytes for row in ledger.by("tensor")}
        assert by_cause["input"] == network.tensor("x").nbytes
        assert by_cause["reread"] == by_tensor["x"] - network.tensor("x").nbytes > 0
        assert ledger.total().bytes == dma_bytes(program)


def test_group_norm_tiles_hold_whole_groups() -> None:
    """A ragged last tile has fewer channels, and so fewer groups."""
    network = group_norm_case(channels=72, groups=9)
    found = set()
    for sram_bytes in (24_000, 32_000, 48_000, 64_000):
        machine = replace(MACHINE, sram_bytes=sram_bytes)
        program = lower(network, machine, schedule_named("mlt")).program
        for i in program.instructions():
            if i.opcode == Opcode.GROUP_NORM:
                found.add(i.inputs[0].shape[1])
                assert i.inputs[0].shape[1] == dict(i.attrs)["groups"] * 8
    assert len(found) > 1, "the sizes should include ragged tiles"


def test_the_first_rows_in_dram_are_loaded_before_the_last_are_stored() -> None:
    c = ChainBuilder()
    between = c.unary(c.input(1, 128, 64, 16), "silu")
    network = c.build(c.unary(between, "silu"))
    machine = SLOW.with_values(sram_bytes=64 * 1024)
    apart = replace(schedule_named("pipelined"), groups=Grouping(resident=False, rolling=False))
    program = lower(network, machine, apart).program
    number = [tensor.name for tensor in program.tensors].index(between)
    instructions = [program.instruction(i) for i in range(len(program))]
    moves = [(i, each) for i, each in enumerate(instructions) if each.engine is EngineKind.DMA]
    loads = [
        i for i, each in moves if each.opcode is Opcode.LOAD and each.inputs[0].tensor == number
    ]
    stores = [i for i, each in moves if each.outputs[0].tensor == number and i not in loads]
    assert loads[0] < stores[-1]
    verify_program(program, machine)


@pytest.mark.parametrize("kind", ["conv", "matmul"])
def test_constants_of_a_tile_of_channels_come_in_as_many_copies_as_its_weights(kind: str) -> None:
    c = ChainBuilder()
    x = c.input(1, 16, 8, 64) if kind == "conv" else c.input(1, 128, 64)
    vector = c.input(1, 1, 1, 256) if kind == "conv" else c.input(1, 1, 256)
    y = c.conv(x, 256, add=vector) if kind == "conv" else c.linear(x, 256, add=vector)
    network, schedule = c.build(y), schedule_named("pipelined")
    context = context_of(network, network.ops[0], MACHINE, schedule)
    assert isinstance(context.op.kind, LoweredKind)
    (t, *_) = (
        t
        for t in context.op.kind.tilings(context)
        if t["channels"] == 128 and t.choice("outer") == "weights"
    )
    emitter = Emitter.of_costs(MACHINE, schedule)
    emitter.begin(0, "op", schedule.slots)
    context.op.kind.stage(emitter, context, t)
    second = {f"op:{name}[1]" for name in ("w", "bias", "scale", "epilogue0")}
    assert second <= set(emitter.requests)
