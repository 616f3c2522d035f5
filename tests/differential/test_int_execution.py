"""Integer programs of every lowering rule, executed: bits whatever the tiles, values by float64."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.lowering.rule import LoweredKind, Tiling, tiling
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.ranges import Range
from edgefusion.compiler.network.scales import assign_scales, with_scales
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.ops.elementwise import Binary
from edgefusion.compiler.ops.pooling import Reduce
from edgefusion.compiler.schedule.schedule import SCHEDULES, Schedule, schedule_named
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.functions import UNARY
from edgefusion.runtime.isa import Role
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.target import load_target
from tests.fp16_reference import evaluate
from tests.int_reference import (
    draw_integers,
    draw_scaled,
    fitting_scales,
    named_constants,
    real_values,
)
from tests.lowering_cases import NetworkBuilder, all_cases, attention_case, function_case

MACHINE = load_target("exynos2400").machine
KIB = 1024
SRAM_BYTES = (MACHINE.sram_bytes, 64 * KIB, 60 * KIB)
"""All of it, and so little that every case needs several tiles and ragged tails."""
CASES = {name: named_constants(network) for name, network in all_cases().items()}
SQNR_DB = 54.0
"""The reference rounds to the 11 bits of FP16 at every step."""


def execute(
    network: Network,
    sram_bytes: int,
    schedule: Schedule,
    scales: dict[str, float],
    values: tuple[dict[str, Array], dict[str, Array]],
    engines: int = 1,
) -> Array:
    """The INT16 result ``y``, of a machine with so many ``engines`` of each kind."""
    machine = MACHINE.with_values(
        sram_bytes=sram_bytes, dma_engines=engines, tensor_engines=engines, vector_engines=engines
    )
    program = with_scales(lower(network, machine, schedule).program, scales)
    inputs, constants = values
    hosts = {"host": lambda real: [2.0 * real[0]]}
    y = Executor(program, machine, constants, hosts=hosts).run(inputs).outputs["y"]
    return np.rint(y / scales["y"]).astype(np.int16)


@cache
def drawn(case: str) -> tuple[dict[str, float], tuple[dict[str, Array], dict[str, Array]]]:
    scales, inputs, constants = draw_scaled(CASES[case])
    return scales, (inputs, constants)


@pytest.mark.parametrize("case", CASES)
def test_no_tiling_and_no_schedule_changes_a_bit(case: str) -> None:
    network = CASES[case]
    scales, values = drawn(case)
    first = execute(network, MACHINE.sram_bytes, SCHEDULES[0], scales, values)
    for sram_bytes in SRAM_BYTES:
        for schedule in SCHEDULES:
            found = execute(network, sram_bytes, schedule, scales, values)
            where = f"{schedule.name}, {sram_bytes} bytes of SRAM"
            np.testing.assert_array_equal(found, first, err_msg=where)
        found = execute(network, sram_bytes, schedule_named("pipelined"), scales, values, engines=2)
        where = f"two engines of each kind, {sram_bytes} bytes of SRAM"
        np.testing.assert_array_equal(found, first, err_msg=where)
    inputs, constants = values
    expected, _ = evaluate(network, real_values(network, inputs | constants))
    error = first * scales["y"] - expected
    assert 10 * np.log10((expected**2).sum() / (error**2).sum()) >= SQNR_DB


# Every function alone, in an epilogue, and as a gate


@pytest.mark.parametrize("kind", ["unary", "matmul", "glu"])
@pytest.mark.parametrize("name", UNARY)
def test_every_function_alone_in_an_epilogue_and_as_a_gate(name: str, kind: str) -> None:
    network = named_constants(function_case(kind, name))
    inputs, constants = draw_integers(network)
    values = real_values(network, inputs | constants)
    scales = fitting_scales(network, values)
    found = execute(network, 64 * KIB, schedule_named("mlt"), scales, (inputs, constants))
    expected, _ = evaluate(network, values)
    error = found * scales["y"] - expected
    assert 10 * np.log10((expected**2).sum() / (error**2).sum()) >= SQNR_DB


# Attention whose K and V do not fit


def saturated(shape: tuple[int, ...], seed: int) -> Array:
    """INT16 values of which many are the largest and the smallest."""
    rng = np.random.default_rng(seed)
    made = rng.integers(-32768, 32768, shape)
    made[rng.random(shape) < 0.3] = -32768
    made[rng.random(shape) < 0.3] = 32767
    return made.astype(np.int16)


def streamed(
    queries: int, keys: int, values: int = 40, block: int = 16, copies: int = 2, ahead: int = 0
) -> Tiling:
    return tiling(
        queries=queries, keys=keys, values=values, copies=copies, block=block, queries_ahead=ahead
    )


STREAMED = named_constants(attention_case(70, 300, heads=2, depth=40))
SHARED = named_constants(attention_case(70, 300, heads=4, depth=40, key_heads=2))
TILES = (
    streamed(70, 256, block=70, copies=1),
    streamed(64, 299, ahead=1),
    streamed(33, 200, block=10, copies=3),
    streamed(16, 128, values=24, ahead=1),
    streamed(70, 64, values=16, block=32, copies=6),
    streamed(7, 37, values=7, block=3),
    tiling(queries=33, keys=300, heads_ahead=0),
)
"""Ragged tails of all kinds."""


def only_tiling(patch: pytest.MonkeyPatch, kind: type[LoweredKind], chosen: Tiling) -> None:
    """Make the tile search of ``kind`` find nothing but ``chosen``."""
    patch.setattr(kind, "tilings", lambda self, context: iter([chosen]))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize(
    ("network", "kind"), [(STREAMED, "random"), (STREAMED, "saturated"), (SHARED, "random")]
)
def test_attention_in_any_tiles_is_attention_bit_for_bit(
    network: Network, kind: str, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, constants = draw_integers(network)
    scales = fitting_scales(network, inputs | constants)
    if kind == "saturated":
        inputs = {name: saturated(x.shape, i) for i, (name, x) in enumerate(inputs.items())}
        scales["attention:scores_in"] *= 8  # else all scores would saturate
    values = inputs, constants
    whole = execute(network, MACHINE.sram_bytes, schedule, scales, values)
    assert len(np.unique(whole)) > 400
    for chosen in TILES:
        only_tiling(monkeypatch, Attention, chosen)
        found = execute(network, MACHINE.sram_bytes, schedule, scales, values)
        np.testing.assert_array_equal(found, whole, err_msg=str(chosen))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_keys_and_values_beyond_sram_are_streamed(schedule: Schedule) -> None:
    """K of a head is 88 KB, and the search finds the tiles."""
    network = named_constants(attention_case(12, 1100, heads=1, depth=40))
    inputs, constants = draw_integers(network)
    scales = fitting_scales(network, inputs | constants)
    whole = execute(network, MACHINE.sram_bytes, schedule, scales, (inputs, constants))
    machine = replace(MACHINE, sram_bytes=80 * KIB)
    (op,) = lower(network, machine, schedule).program.ops
    assert "keys=1100" not in op.tile
    found = execute(network, machine.sram_bytes, schedule, scales, (inputs, constants))
    np.testing.assert_array_equal(found, whole)


def test_masked_attention_may_be_streamed() -> None:
    network = named_constants(attention_case(60, 1100, heads=1, depth=40, mask=True))
    inputs, constants = draw_integers(network)
    scales = fitting_scales(network, inputs | constants)
    mlt = schedule_named("mlt")
    whole = execute(network, MACHINE.sram_bytes, mlt, scales, (inputs, constants))
    found = execute(network, 96 * KIB, mlt, scales, (inputs, constants))
    np.testing.assert_array_equal(found, whole)


# Reductions over rows in several tiles


@pytest.mark.parametrize("function", ["mean", "sum", "max"])
def test_a_reduction_over_rows_does_not_depend_on_its_tiles(function: str) -> None:
    b = NetworkBuilder()
    b.add("x", 1, 37, 23, 64, role=Role.INPUT)
    b.add("y", 1, 1, 1, 64, role=Role.OUTPUT)
    b.op("reduce", Reduce(x="x", function=function, axes=(1, 2)), "y")
    network = b.build()
    x = saturated((1, 37, 23, 64), 7) // np.int16(2) + np.int16(5000)
    real = getattr(x.astype(np.float64), function)(axis=(1, 2)) * 1e-3
    scales = {"x": 1e-3, "y": float(np.abs(real).max()) / 30000}
    results, tilings = [], set()
    for sram_kib in (6144, 64, 16, 8, 4):
        machine = replace(MACHINE, sram_bytes=sram_kib * KIB)
        for schedule in SCHEDULES:
            tilings.add(lower(network, machine, schedule).program.ops[0].tile)
            results.append(execute(network, sram_kib * KIB, schedule, scales, ({"x": x}, {})))
    assert len(tilings) >= 4
    for found in results[1:]:
        np.testing.assert_array_equal(found, results[0])
    error = np.abs(results[0].reshape(real.shape) - real / scales["y"])
    assert error.max() <= 0.5 + 32768 * 2.0**-15


# Branches of a concatenation


def test_branches_of_a_concatenation_have_scales_of_their_own() -> None:
    """The wide branch arrives untouched, the narrow one is rounded once."""
    network = CASES["concat"]
    rng = np.random.default_rng(3)
    inputs = {
        name: rng.integers(-32768, 32768, network.tensor(name).shape).astype(np.int16)
        for name in network.inputs
    }
    scales = assign_scales(network, {"x": Range(-0.7, 1.0), "other": Range(-50.0, 40.0)})
    assert scales["other"] == scales["y"] == 50 * scales["x"]
    for sram_kib in (6144, 16):
        for schedule in SCHEDULES:
            y = execute(network, sram_kib * KIB, schedule, scales, (inputs, {}))
            np.testing.assert_array_equal(y[..., 64:], inputs["other"])
            assert np.abs(y[..., :64] - inputs["x"] / 50.0).max() <= 0.5 + 656 * 2.0**-15


# Functions that no case above has


def test_division_by_a_vector_of_constants() -> None:
    b = NetworkBuilder()
    b.add("x", 1, 30, 20, 64, role=Role.INPUT)
    b.add("other", 64, role=Role.WEIGHT)
    b.add("y", 1, 30, 20, 64, role=Role.OUTPUT)
    b.op("binary", Binary(a="x", b="other", function="div"), "y")
    network = named_constants(b.build())
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 30, 20, 64)).astype(np.float32)
    divisor = (rng.choice([-1, 1], 64) * rng.uniform(0.5, 4.0, 64)).astype(np.float32)
    scales = {"x": 5 / 32767, "other": 4 / 32767, "y": 10 / 32767}
    for schedule in SCHEDULES:
        y = execute(network, 16 * KIB, schedule, scales, ({"x": x}, {"other": divisor}))
        error = np.abs(y * scales["y"] - x / divisor)
        # half a step each of x, of the divisor and of y, and the 15 bits of the factor
        bound = scales["x"] / 2 + np.abs(x / divisor) * scales["other"] / 2
        bound = bound / np.abs(divisor) + scales["y"] * 0.5 + np.abs(x / divisor) * 2.0**-15
        assert (error <= bound * 1.01).all()
