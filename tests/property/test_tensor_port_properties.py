"""The tensor engine's ports: what the cost model must not be talked into by operand order or tiles.

Instructions are timed as the simulator times them, from their operands.
"""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.isa import DType, EngineKind, Opcode, Space
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Operand, OpRecord, dense_strides
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.specification import Attrs
from edgefusion.runtime.target import load_target
from edgefusion.runtime.work import derive_work, durations_ps
from tests.lowering_cases import matmul_case

MACHINE = load_target("exynos2400").machine
SIZES = st.integers(1, 600)
HELD = st.sampled_from([DType.INT8, DType.INT16])


def view(shape: tuple[int, ...], dtype: DType) -> Operand:
    return Operand(0, Space.SRAM, 0, dtype, shape, dense_strides(shape, dtype))


def duration_ps(
    opcode: Opcode, y: Operand, inputs: list[Operand], machine: Machine = MACHINE, attrs: Attrs = ()
) -> int:
    builder = ProgramBuilder("unet", machine.name, "serial")
    builder.ops.append(OpRecord("op", "matmul", ("MatMul_0",)))
    builder.emit(EngineKind.TENSOR, 0, opcode, [y], inputs, 0, attrs=attrs)
    return int(durations_ps(builder.build(), machine)[0])


def product_ps(
    m: int,
    n: int,
    k: int,
    *,
    batch: int = 1,
    held: DType = DType.INT16,
    result: DType = DType.INT16,
    machine: Machine = MACHINE,
) -> int:
    """Of ``batch`` products [m,k] x [k,n], the first operand in INT16."""
    operands = [view((batch, m, k), DType.INT16), view((batch, k, n), held)]
    attrs = (("accumulate", int(result is DType.INT64)), ("bias", 0))
    return duration_ps(Opcode.MATMUL, view((batch, m, n), result), operands, machine, attrs)


def conv_ps(rows: int, columns: int, channels: int, outputs: int, kernel: int) -> int:
    x = view((rows + kernel - 1, columns + kernel - 1, channels), DType.INT16)
    w = view((outputs, channels, kernel, kernel), DType.INT8)
    return duration_ps(Opcode.CONV2D, view((rows, columns, outputs), DType.INT16), [x, w])


@given(SIZES, SIZES, SIZES, st.integers(1, 8), HELD, st.sampled_from("nkb"), st.integers(1, 500))
def test_no_product_gets_cheaper_by_a_larger_held_operand(
    m: int, n: int, k: int, batch: int, held: DType, grown: str, by: int
) -> None:
    before = product_ps(m, n, k, batch=batch, held=held)
    n, k, batch = n + by * (grown == "n"), k + by * (grown == "k"), batch + by * (grown == "b")
    assert product_ps(m, n, k, batch=batch, held=held) >= before
    assert product_ps(m, n, k, batch=batch) >= product_ps(m, n, k, batch=batch, held=DType.INT8)


@given(st.integers(1, 8), st.integers(1, 64), SIZES, SIZES, st.sampled_from([1, 3]))
def test_no_convolution_gets_cheaper_by_a_larger_held_operand(
    rows: int, columns: int, channels: int, outputs: int, kernel: int
) -> None:
    least = conv_ps(rows, columns, channels, outputs, kernel)
    assert conv_ps(rows, columns, channels, outputs + 40, kernel) >= least
    assert conv_ps(rows, columns, channels + 40, outputs, kernel) >= least
    assert conv_ps(rows, columns, channels, outputs, kernel + 2) >= least


@pytest.mark.parametrize("tile", [4096, 512, 64])
@pytest.mark.parametrize("depth", [40, 64, 80, 160])
def test_exchanging_the_operands_of_attention_gains_nothing(tile: int, depth: int) -> None:
    """S x V streams S past V; exchanged, the array would hold S^T and V^T would stream by."""
    assert product_ps(depth, tile, 4096) >= product_ps(tile, depth, 4096)
    assert product_ps(4096, tile, depth) >= product_ps(tile, 4096, depth)


@given(SIZES, SIZES, SIZES, st.integers(1, 8))
def test_exchanged_operands_cost_the_same_but_for_the_array_s_granularity(
    m: int, n: int, k: int, batch: int
) -> None:
    even = MACHINE.with_values(tensor_granularity_m=1, tensor_granularity_n=1)
    exchanged = product_ps(n, m, k, batch=batch, machine=even)
    assert exchanged == product_ps(m, n, k, batch=batch, machine=even)


@given(SIZES, SIZES, SIZES, HELD, st.sampled_from("mnk"), st.integers(1, 599))
def test_a_product_in_two_parts_takes_no_less_than_whole(
    m: int, n: int, k: int, held: DType, cut: str, at: int
) -> None:
    """Thin stripes load the held operand again; parts of the reduction drain raw sums."""
    sizes = {"m": m, "n": n, "k": k}
    first = max(1, min(at, sizes[cut] - 1))
    if first == sizes[cut]:
        return
    result = DType.INT64 if cut == "k" else DType.INT16
    parts = [sizes | {cut: size} for size in (first, sizes[cut] - first)]
    apart = sum(product_ps(**part, held=held, result=result) for part in parts)
    assert apart >= product_ps(m, n, k, held=held)


def test_each_stripe_pays_for_the_weights_again() -> None:
    """A deep convolution of 8 x 8 pixels: its 14.7 MB of weights take longer than its products."""
    whole = conv_ps(8, 8, 1280, 1280, 3)
    loaded_ns = 1280 * 1280 * 9 / MACHINE.tensor_load_bytes_per_cycle / MACHINE.clock_hz * 1e9
    fill_ns = MACHINE.tensor_fill_cycles / MACHINE.clock_hz * 1e9
    assert whole == pytest.approx(1000 * (loaded_ns + fill_ns), abs=1)
    assert 8 * conv_ps(1, 8, 1280, 1280, 3) == pytest.approx(8 * whole, abs=8)


def loaded_into_the_array(machine: Machine) -> int:
    """Bytes of weights, 256 KiB at the least, that the search lets the tensor engine load."""
    lowered = lower(matmul_case(2048, 512, 512), machine, schedule_named("mlt"))
    return int(derive_work(lowered.program).tensor.load_bytes.sum())


def test_search_avoids_loads_where_they_are_dear() -> None:
    small = MACHINE.with_values(sram_bytes=256 * 1024)
    narrow = small.with_values(tensor_load_bytes_per_cycle=0.5)
    assert prod((512, 512)) <= loaded_into_the_array(narrow) < loaded_into_the_array(small)
