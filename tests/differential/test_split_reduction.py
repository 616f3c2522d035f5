"""Programs whose reductions are split: the bits, bytes and bounds of those that are not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.compiler.lowering.lower import candidates_of, lower
from edgefusion.compiler.lowering.rule import LoweredKind, Tiling, tiling
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.scales import with_scales
from edgefusion.compiler.ops.conv import Conv
from edgefusion.compiler.ops.matmul import BatchMatMul, MatMul
from edgefusion.compiler.schedule.schedule import SCHEDULES, Schedule, schedule_named
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.isa import Cause, DType, Role
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.ledger import traffic_ledger
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.measurement import bound_violations, component_latency
from edgefusion.runtime.program import Program
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target
from edgefusion.runtime.verifier import find_violations, verify_program
from edgefusion.runtime.work import derive_work
from tests.fp16_reference import draw, half_network
from tests.int_reference import draw_scaled, named_constants
from tests.lowering_cases import (
    NetworkBuilder,
    SimpleCase,
    conv_case,
    matmul_case,
    simple_network,
)
from tests.program_faults import Edit, edited

MACHINE = load_target("exynos2400").machine
KIB = 1024
OVERLAPPED = replace(schedule_named("pipelined"), groups=None)
"""Every op as it is tiled here: by itself, it may run as a loop else."""
LEAST_BYTES = 8576
"""SRAM for one granule of 16 x 32 x 32 of a Linear: x, w and y 1 KiB each, INT64 sums 4 KiB, 384
bytes of bias and scales, and here a residual, 1 KiB."""


def grouped_case(groups: int, channels_in: int, channels_out: int) -> Network:
    b = NetworkBuilder()
    b.add("x", 1, 9, 7, channels_in, role=Role.INPUT)
    b.weight("w", channels_out, channels_in // groups, 3, 3)
    b.add("bias", channels_out, dtype=DType.INT64, role=Role.WEIGHT)
    b.add("y", 1, 9, 7, channels_out, role=Role.OUTPUT)
    kind = Conv(x="x", w="w", bias="bias", pads=(1, 1, 1, 1), groups=groups)
    b.op("conv", kind, "y")
    return b.build()


def row(channels: int, rows: int, depth: int, keep: str) -> Tiling:
    return tiling(channels=channels, rows=rows, depth=depth, keep=keep)


def box(channels: int, rows: int, columns: int, depth: int, taps: int, keep: str) -> Tiling:
    return tiling(channels=channels, rows=rows, columns=columns, depth=depth, taps=taps, keep=keep)


BATCHES = SimpleCase(BatchMatMul(a="x", b="other"), (3, 30, 48), (1, 150, 48), x=(3, 30, 150))
CASES: dict[str, tuple[Network, type[LoweredKind], list[Tiling]]] = {
    "matmul": (
        matmul_case(40, 300, 130),
        MatMul,
        [
            row(130, 40, 96, "none"),
            row(64, 16, 299, "none"),
            row(40, 33, 37, "none"),
            row(48, 40, 128, "x"),
            row(130, 17, 150, "x"),
            row(32, 16, 300, "x"),
            row(130, 24, 150, "w"),
            row(50, 7, 33, "w"),
        ],
    ),
    "batches": (
        simple_network(BATCHES),
        BatchMatMul,
        [row(48, 30, 64, "none"), row(20, 30, 150, "x"), row(20, 7, 40, "x"), row(48, 8, 99, "w")],
    ),
    "conv": (
        conv_case(9, 7, 40, 24),
        Conv,
        [
            box(24, 9, 7, 16, 9, "none"),
            box(10, 2, 7, 33, 9, "x"),
            box(24, 4, 7, 16, 9, "x"),
            box(7, 4, 7, 8, 9, "w"),
            box(8, 1, 3, 40, 9, "x"),
        ],
    ),
    "stride": (
        conv_case(11, 9, 20, 10, stride=2, epilogue=False),
        Conv,
        [box(10, 6, 5, 7, 9, "none"), box(4, 2, 5, 8, 9, "x"), box(4, 1, 2, 19, 9, "w")],
    ),
    "upsample": (
        conv_case(5, 4, 20, 10, upsample=2, epilogue=False),
        Conv,
        [box(10, 10, 8, 7, 9, "none"), box(4, 3, 8, 8, 9, "x"), box(4, 1, 3, 19, 9, "w")],
    ),
    "7x7": (
        conv_case(4, 5, 6, 5, kernel=7, pad=3, stride=2),
        Conv,
        [box(5, 2, 3, 4, 49, "none"), box(2, 2, 2, 5, 49, "x"), box(5, 1, 3, 3, 49, "w")],
    ),
    "two groups": (
        grouped_case(2, 20, 12),
        Conv,
        [box(6, 9, 7, 4, 9, "none"), box(4, 3, 7, 10, 9, "x"), box(4, 2, 7, 3, 9, "w")],
    ),
    "depthwise": (
        grouped_case(12, 12, 24),
        Conv,
        [box(24, 2, 7, 1, 9, "x"), box(10, 9, 7, 1, 9, "w"), box(1, 9, 3, 1, 9, "x")],
    ),
}


def single_taps(t: Tiling) -> Tiling:
    """FP16 chains go tap by tap, unless all channels of the kernel are there."""
    values = dict(t.values)
    if "taps" in values:
        values["taps"] = 1
    return Tiling(tuple(values.items()))


@cache
def drawn(case: str) -> tuple[dict[str, float], dict[str, Array], dict[str, Array]]:
    return draw_scaled(named_constants(CASES[case][0]))


def integer_result(case: str, machine: Machine, schedule: Schedule) -> tuple[Array, Program]:
    scales, inputs, constants = drawn(case)
    network = named_constants(CASES[case][0])
    program = with_scales(lower(network, machine, schedule).program, scales)
    y = Executor(program, machine, constants).run(inputs).outputs["y"]
    return np.rint(y / scales["y"]).astype(np.int16), program


def half_result(case: str, machine: Machine, schedule: Schedule) -> tuple[Array, Program]:
    network = half_network(CASES[case][0])
    inputs, constants = draw(network)
    program = lower(network, machine, schedule).program
    y = Executor(program, machine, constants).run(inputs).outputs["y"]
    return y.astype(np.float16).view(np.uint16), program


def first_loads(program: Program) -> dict[str, int]:
    """Bytes by cause, without those that are loaded again."""
    by_cause = traffic_ledger(program, MACHINE).bytes_by_cause()
    return {cause: n for cause, n in by_cause.items() if n and cause != Cause.REREAD.name.lower()}


@pytest.mark.parametrize("half", [False, True], ids=["int16", "fp16"])
@pytest.mark.parametrize("case", CASES)
def test_parts_of_a_reduction_give_the_bits_and_first_loads_of_the_whole(
    case: str, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, kind, tilings = CASES[case]
    result = half_result if half else integer_result
    mlt = schedule_named("mlt")
    whole, unsplit = result(case, MACHINE, mlt)
    assert "depth" not in unsplit.ops[0].tile
    assert len(np.unique(whole)) >= whole.size // 4
    two = MACHINE.with_values(tensor_engines=2, vector_engines=2, dma_engines=2)
    for t in tilings:
        chosen = single_taps(t) if half else t
        monkeypatch.setattr(kind, "tilings", lambda self, context, t=chosen: iter([t]))
        schedule, machine = (mlt, MACHINE) if t != tilings[-1] else (OVERLAPPED, two)
        found, program = result(case, machine, schedule)
        np.testing.assert_array_equal(found, whole, err_msg=f"{schedule.name} {chosen}")
        assert program.ops[0].tile == str(chosen)
        assert first_loads(program) == first_loads(unsplit)


def sound(network: Network, machine: Machine) -> list[Program]:
    """``network`` under each schedule, verified and above its bound."""
    programs = [lower(network, machine, schedule).program for schedule in SCHEDULES]
    for program in programs:
        verify_program(program, machine)
        assert bound_violations(component_latency(program, machine)) == []
        assert program.sram_bytes <= machine.sram_bytes
    return programs


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 700), st.integers(1, 260), st.integers(0, 40), st.booleans()
)
def test_any_linear_compiles_where_one_granule_fits(
    m: int, k: int, n: int, further_kib: int, half: bool
) -> None:
    network = matmul_case(m, k, n)
    network = half_network(network) if half else network
    sound(network, MACHINE.with_values(sram_bytes=LEAST_BYTES + further_kib * KIB))


def test_less_than_a_granule_does_not_fit() -> None:
    for schedule in SCHEDULES:
        machine = MACHINE.with_values(sram_bytes=LEAST_BYTES - 1)
        with pytest.raises(DoesNotFitError, match="the smallest needs at least"):
            lower(matmul_case(200, 300, 200), machine, schedule)


@pytest.mark.parametrize(
    ("network", "sram_bytes", "splits"),
    [
        (matmul_case(1, 25088, 4096), MACHINE.sram_bytes, True),
        (matmul_case(32, 768, 50257), MACHINE.sram_bytes, False),
        (matmul_case(32, 4096, 11008), MACHINE.sram_bytes, False),
        (matmul_case(1, 3072, 18432), MACHINE.sram_bytes, False),
        (matmul_case(256, 1280, 10240), 512 * KIB, True),
        (matmul_case(256, 5120, 1280), 512 * KIB, True),
        (conv_case(8, 8, 1280, 1280), 512 * KIB, True),
        (conv_case(10, 10, 200, 96, kernel=7, pad=3), 24 * KIB, True),
    ],
    ids=lambda v: "x".join(map(str, v.tensor("w").shape)) if isinstance(v, Network) else "",
)
def test_layers_beyond_sram_compile_under_every_schedule(
    network: Network, sram_bytes: int, splits: bool
) -> None:
    """Their reductions in parts, or narrower columns where these fit."""
    machine = MACHINE.with_values(sram_bytes=sram_bytes)
    serial, mlt, pipelined = sound(network, machine)
    assert ("depth" in pipelined.ops[0].tile) is splits
    times = [simulate(program, machine).total_ps for program in (serial, mlt, pipelined)]
    assert times[2] <= times[1] <= times[0]


@pytest.mark.parametrize("schedule", ["serial", "mlt"])
@pytest.mark.parametrize(
    ("network", "sram_kib"),
    [
        (matmul_case(40, 300, 130), 9),
        (conv_case(9, 7, 200, 24), 10),
        (half_network(conv_case(9, 7, 100, 24)), 8),
        (grouped_case(2, 320, 48), 10),
        (grouped_case(64, 64, 64), 2),
        (conv_case(8, 9, 60, 5, kernel=7, pad=3, stride=2), 9),
        (conv_case(3, 3, 60, 5, kernel=7, pad=3, epilogue=False), 1),
    ],
    ids=["matmul", "conv", "conv-fp16", "groups", "depthwise", "7x7", "7x7-tiny"],
)
def test_the_search_predicts_split_reductions_exactly(
    network: Network, sram_kib: int, schedule: str
) -> None:
    machine = MACHINE.with_values(sram_bytes=sram_kib * KIB)
    program = lower(network, machine, schedule_named(schedule)).program
    best = candidates_of(network, network.ops[0].name, machine, schedule_named(schedule))[0]
    assert "depth" in str(best.tiling)
    assert str(best.tiling) == program.ops[0].tile
    assert best.time_ps == simulate(program, machine).total_ps


def last_part(program: Program) -> int:
    """The first instruction that starts from sums in an operand."""
    return next(i for i, made in enumerate(program.instructions()) if dict(made.attrs).get("sums"))


@pytest.mark.parametrize(
    "fault",
    [
        lambda i: replace(i, inputs=(*i.inputs[:-1], i.inputs[-1]._replace(dtype=DType.FP32))),
        lambda i: replace(i, inputs=(*i.inputs[:-2], i.inputs[-1], i.inputs[-2])),
        lambda i: replace(i, outputs=(i.inputs[-1],)),
        lambda i: replace(i, attrs=(*i.attrs, ("accumulate", 1))),
    ],
    ids=["type", "order", "raw result", "both"],
)
def test_the_verifier_knows_sums_by_their_type(fault: Edit) -> None:
    machine = MACHINE.with_values(sram_bytes=LEAST_BYTES)
    program = lower(matmul_case(40, 100, 50), machine, schedule_named("mlt")).program
    broken = edited(program, {last_part(program): fault})
    assert {v.rule for v in find_violations(broken, machine)} == {"sums"}


def test_sums_cost_their_way_back_into_the_array() -> None:
    machine = MACHINE.with_values(sram_bytes=LEAST_BYTES)
    program = lower(matmul_case(16, 960, 32), machine, schedule_named("mlt")).program
    tensor = derive_work(program).tensor
    first, *others = (program.instruction(int(i)) for i in tensor.index)
    assert others
    sums = 16 * 32 * 8
    expected = [first.inputs[0].elements * 2, *(i.inputs[0].elements * 2 + sums for i in others)]
    assert tensor.feed_bytes.tolist() == expected
    assert tensor.macs.sum() == 16 * 960 * 32
