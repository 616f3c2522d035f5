"""Work of single instructions, against sizes computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgefusion.runtime import cost
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import VECTOR_FUNCTIONS, Cause, DType, EngineKind, Opcode, Space
from edgefusion.runtime.opcodes import OPCODE_ENGINE
from edgefusion.runtime.program import Operand, OpRecord, Program
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.target import load_target
from edgefusion.runtime.work import TensorWork, derive_work, durations_ps

MACHINE = load_target("exynos2400").machine
Attrs = tuple[tuple[str, Any], ...]


def view(
    shape: tuple[int, ...],
    dtype: DType = DType.INT8,
    space: Space = Space.SRAM,
    strides: tuple[int, ...] | None = None,
) -> Operand:
    if strides is None:
        tail = [int(np.prod(shape[d + 1 :], dtype=np.int64)) for d in range(len(shape))]
        strides = tuple(n * dtype.nbytes for n in tail)
    return Operand(0, space, 0, dtype, shape, strides)


def program_of(
    opcode: Opcode,
    outputs: list[Operand],
    inputs: list[Operand],
    attrs: Attrs = (),
    engine: EngineKind | None = None,
) -> Program:
    """An unrelated instruction, then the one under test at index 1."""
    builder = ProgramBuilder("unet", "exynos2400", "serial")
    builder.ops.append(OpRecord("down/conv_in", "conv", ("Conv_0",)))
    small = view((3,))
    builder.emit(EngineKind.VECTOR, 0, Opcode.COPY, [small], [small], 0)
    kind = EngineKind(int(OPCODE_ENGINE[opcode])) if engine is None else engine
    builder.emit(kind, 0, opcode, outputs, inputs, 0, cause=Cause.NONE, attrs=attrs)
    return builder.build()


def sizes_of(tensor: TensorWork) -> list[int]:
    return [int(each[0]) for each in (tensor.batch, tensor.m, tensor.n, tensor.k)]


def ports_of(tensor: TensorWork) -> list[int]:
    """Bytes that are fed, loaded and drained."""
    return [int(each[0]) for each in (tensor.feed_bytes, tensor.load_bytes, tensor.drain_bytes)]


@pytest.mark.parametrize(
    ("shape", "strides", "rows", "row_bytes"),
    [
        ((4, 6, 8), (96, 16, 2), 1, 384),  # contiguous
        ((4, 6, 8), (200, 16, 2), 4, 96),  # gap between planes
        ((4, 6, 8), (200, 20, 2), 24, 16),  # gap between rows
        ((4, 6, 8), (192, 32, 4), 192, 2),  # every other element
        ((8, 6), (2, 16), 48, 2),  # transposed
        ((4, 1, 8), (16, 999, 2), 1, 64),  # a size of 1 has no stride
        ((1, 1, 1), (7, 7, 7), 1, 2),
        ((4, 6, 8), (0, 16, 2), 4, 96),  # broadcast: read again each time
        ((5, 4, 6, 8), (384, 200, 16, 2), 20, 96),  # once broken, outer dimensions never rejoin
    ],
)
@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE])
def test_dma_runs(
    opcode: Opcode,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    rows: int,
    row_bytes: int,
) -> None:
    dram = view(shape, DType.INT16, Space.DRAM, strides)
    sram = view(shape, DType.INT16)
    outputs, inputs = ([sram], [dram]) if opcode == Opcode.LOAD else ([dram], [sram])
    dma = derive_work(program_of(opcode, outputs, inputs)).dma
    assert dma.index.tolist() == [1]
    assert dma.is_read.tolist() == [opcode == Opcode.LOAD]
    assert (dma.rows.tolist(), dma.row_bytes.tolist()) == ([rows], [row_bytes])
    assert dma.useful_bytes.tolist() == [int(np.prod(shape)) * 2]


def test_conv_is_a_product_over_channels_and_window() -> None:
    y, x = view((8, 16, 64), DType.INT16), view((10, 18, 32), DType.INT16)
    program = program_of(Opcode.CONV2D, [y], [x, view((64, 32, 3, 3)), view((64,), DType.INT64)])
    tensor = derive_work(program).tensor
    assert sizes_of(tensor) == [1, 8 * 16, 64, 32 * 9]
    assert ports_of(tensor) == [10 * 18 * 32 * 2, 64 * 32 * 9, 8 * 16 * 64 * 2]
    assert cost.RATE_CLASSES[tensor.rate_class[0]] == "w8a16"
    assert tensor.macs.tolist() == [8 * 16 * 64 * 32 * 9]


def test_grouped_conv_multiplies_its_own_channels_only() -> None:
    program = program_of(Opcode.CONV2D, [view((4, 4, 32))], [view((4, 4, 32)), view((32, 1, 3, 3))])
    tensor = derive_work(program).tensor
    assert (int(tensor.n[0]), int(tensor.k[0])) == (32, 9)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_matmul_batch(rank: int) -> None:
    lead = (2, 5)[: rank - 2]
    y, a, b = (view((*lead, *shape), DType.FP16) for shape in ((7, 3), (7, 4), (4, 3)))
    tensor = derive_work(program_of(Opcode.MATMUL, [y], [a, b])).tensor
    batch = int(np.prod(lead, dtype=np.int64))
    assert sizes_of(tensor) == [batch, 7, 3, 4]
    assert ports_of(tensor) == [batch * 28 * 2, batch * 12 * 2, batch * 21 * 2]


def test_first_operand_without_a_batch_is_fed_again_and_the_second_stays() -> None:
    a, b, y = view((7, 4), DType.FP16), view((5, 4, 3), DType.FP16), view((5, 7, 3), DType.FP16)
    assert ports_of(derive_work(program_of(Opcode.MATMUL, [y], [a, b])).tensor) == [280, 120, 210]
    a, b = view((5, 7, 4), DType.FP16), view((4, 3), DType.FP16)
    assert ports_of(derive_work(program_of(Opcode.MATMUL, [y], [a, b])).tensor) == [280, 24, 210]


def test_raw_sums_drain_at_their_own_width_and_are_fed_where_they_are_added_to() -> None:
    a, b = view((7, 4), DType.INT16), view((4, 3), DType.INT16)
    sums = 7 * 4 * 8  # bytes, with a column of row sums
    for accumulate, fed in ((0, 56), (1, 56 + sums)):
        attrs = (("accumulate", accumulate), ("bias", 0))
        raw = program_of(Opcode.MATMUL, [view((7, 4), DType.INT64)], [a, b], attrs)
        assert ports_of(derive_work(raw).tensor) == [fed, 24, sums]
        assert derive_work(raw).tensor.n.tolist() == [3]
    scaled = program_of(Opcode.MATMUL, [view((7, 3), DType.INT16)], [a, b])
    assert ports_of(derive_work(scaled).tensor) == [56, 24, 7 * 3 * 2]


def test_batched_matmul_pads_each_product_and_fills_once() -> None:
    machine = MACHINE.with_values(
        tensor_granularity_m=16, tensor_granularity_n=16, tensor_granularity_k=16,
        tensor_feed_bytes_per_cycle=1e9, tensor_load_bytes_per_cycle=1e9,
        tensor_drain_bytes_per_cycle=1e9, tensor_macs_per_cycle=4096, tensor_utilisation=1.0,
        tensor_fill_cycles=10.0, clock_hz=1e9,
    )  # fmt: skip
    y, a, b = (view((8, *shape)) for shape in ((1, 1), (1, 1), (1, 1)))
    program = program_of(Opcode.MATMUL, [y], [a, b])
    assert durations_ps(program, machine)[1] == (8 * 1 + 10) * 1000


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (DType.INT8, DType.INT8, "w8a8"),
        (DType.INT16, DType.INT8, "w8a16"),
        (DType.INT16, DType.INT16, "a16a16"),
        (DType.FP16, DType.FP16, "fp16"),
        (DType.INT8, DType.INT16, None),
        (DType.FP32, DType.FP32, None),
        (DType.FP16, DType.INT8, None),
    ],
)
def test_rate_class(first: DType, second: DType, name: str | None) -> None:
    program = program_of(Opcode.MATMUL, [view((2, 2))], [view((2, 2), first), view((2, 2), second)])
    if name is None:
        with pytest.raises(
            InputError, match=r"instruction 1 \(matmul of down/conv_in, from Conv_0\)"
        ):
            derive_work(program)
    else:
        assert cost.RATE_CLASSES[derive_work(program).tensor.rate_class[0]] == name


SMALL, LARGE = view((6, 4)), view((12, 10))
GROUPS = (("epsilon", 1e-5), ("groups", 2), ("rows", 6))
WINDOW = (("function", "max"), ("kernel", (3, 2)), ("pads", (0, 0, 0, 0)), ("strides", (1, 1)))
SUM = (("axis", 1), ("count", 10), ("function", "sum"))


@pytest.mark.parametrize(
    ("opcode", "attrs", "output", "source", "function", "elements"),
    [
        (Opcode.UNARY, (("function", "silu"),), SMALL, SMALL, "silu", 24),
        (Opcode.UNARY, (("function", "softplus"),), SMALL, SMALL, "other_unary", 24),
        (Opcode.UNARY, (("function", "hard_swish"),), SMALL, SMALL, "other_unary", 24),
        (Opcode.BINARY, (("function", "mul"),), LARGE, SMALL, "mul", 120),
        (Opcode.BINARY, (("function", "sub"),), LARGE, SMALL, "other_binary", 120),
        (Opcode.GLU, (("function", "gelu"),), SMALL, SMALL, "glu", 24),
        (Opcode.SOFTMAX, (), LARGE, LARGE, "softmax", 120),
        (Opcode.CHANNEL_STATS, (("first", True),), view((2, 10)), LARGE, "channel_stats", 120),
        (Opcode.GROUP_NORM, GROUPS, SMALL, SMALL, "group_norm", 24),
        (Opcode.GROUP_NORM, (*GROUPS, ("function", "silu")), SMALL, SMALL, "group_norm_silu", 24),
        (Opcode.GROUP_NORM, (*GROUPS, ("function", "gelu")), SMALL, SMALL, "group_norm_silu", 24),
        (Opcode.LAYER_NORM, (("epsilon", 1e-5),), SMALL, SMALL, "layer_norm", 24),
        (Opcode.RMS_NORM, (("epsilon", 1e-5),), SMALL, SMALL, "layer_norm", 24),
        (Opcode.RESIZE, (("scale", 2),), LARGE, SMALL, "resize", 120),
        (Opcode.POOL, WINDOW, SMALL, LARGE, "pool", 24 * 6),
        (Opcode.REDUCE, SUM, SMALL, LARGE, "reduce", 120),
        (Opcode.COPY, (), SMALL, SMALL, "copy", 24),
    ],
)
def test_vector_class_and_elements(
    opcode: Opcode, attrs: Attrs, output: Operand, source: Operand, function: str, elements: int
) -> None:
    vector = derive_work(program_of(opcode, [output], [source], attrs)).vector
    assert vector.index.tolist() == [0, 1]
    assert VECTOR_FUNCTIONS[vector.function[1]] == function
    assert int(vector.elements[1]) == elements


def test_host_call_counts_all_operands_and_what_it_is_told() -> None:
    operands = [view((5,), DType.FP32), view((3, 2), DType.FP16), view((1,), DType.INT64)]

    def host(*counts: tuple[str, int]) -> tuple[list[int], list[int]]:
        attrs = (("function", "f"), *counts)
        work = derive_work(program_of(Opcode.CALL, operands[:1], operands[1:], attrs)).host
        assert work.index.tolist() == [1]
        return work.moved_bytes.tolist(), work.operations.tolist()

    assert host() == ([20 + 12 + 8], [0])
    assert host(("operations", 7), ("constant_bytes", 100)) == ([20 + 12 + 8 + 100], [7])


def test_durations_are_the_cost_functions() -> None:
    dram = view((6, 40), DType.INT8, Space.DRAM, (100, 1))
    program = program_of(Opcode.LOAD, [view((6, 40))], [dram])
    copy_ns = cost.vector_ns(MACHINE, 3, MACHINE.vector_cycles["copy"])
    expected = cost.to_ps([float(copy_ns), float(cost.dma_ns(MACHINE, 6, 40))])
    assert durations_ps(program, MACHINE).tolist() == expected.tolist()


def test_a_column_of_row_sums_costs_no_products() -> None:
    a, b = view((2, 4), DType.INT16), view((4, 3), DType.INT16)
    with_sums = program_of(Opcode.MATMUL, [view((2, 4), DType.INT64)], [a, b])
    plain = program_of(Opcode.MATMUL, [view((2, 3), DType.INT64)], [a, b])
    assert derive_work(with_sums).tensor.n.tolist() == [3]
    assert durations_ps(with_sums, MACHINE).tolist() == durations_ps(plain, MACHINE).tolist()


def test_empty_program() -> None:
    program = ProgramBuilder("unet", "exynos2400", "serial").build()
    assert durations_ps(program, MACHINE).tolist() == []


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (program_of(Opcode.LOAD, [SMALL], [SMALL]), "a LOAD must read DRAM"),
        (program_of(Opcode.MATMUL, [SMALL], [SMALL]), "at least 1 outputs and 2 inputs"),
        (program_of(Opcode.COPY, [], [SMALL]), "found 0 and 1"),
        (
            program_of(Opcode.MATMUL, [view((2, 3))], [view((2, 4)), view((5, 3))]),
            "operand shapes disagree",
        ),
        (
            program_of(Opcode.MATMUL, [view((2, 4), DType.INT16)], [view((2, 4)), view((4, 3))]),
            "operand shapes disagree",
        ),
        (
            program_of(Opcode.MATMUL, [view((2, 5), DType.INT64)], [view((2, 4)), view((4, 3))]),
            "operand shapes disagree",
        ),
        (
            program_of(Opcode.CONV2D, [view((2, 2, 3))], [view((2, 2, 4)), view((5, 4, 1, 1))]),
            "operand shapes disagree",
        ),
        (
            program_of(Opcode.SOFTMAX, [SMALL], [SMALL], engine=EngineKind.TENSOR),
            "expected engine vector",
        ),
    ],
)
def test_broken_instructions_are_named(program: Program, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        derive_work(program)
    assert "instruction 1 (" in str(error.value)
    assert "of down/conv_in, from Conv_0)" in str(error.value)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("operand_begin", np.array([0, 9, 4]), "operand_begin is damaged"),
        ("operand_begin", np.array([0, 3, 2, 4]), "operand_begin is damaged"),
        ("dep_begin", np.array([0, 0, 1]), "dep_begin is damaged"),
        ("unit", np.zeros(1, dtype=np.uint8), "differ in length"),
        ("operand_shape", np.ones((4, 3), dtype=np.int32), "differ in length"),
        ("opcode", np.array([14, 77], dtype=np.uint8), f"opcodes up to {len(Opcode) - 1}"),
        ("attrs", np.array([0, 5], dtype=np.int32), "attrs is damaged"),
        ("operand_dtype", np.full(4, 99, dtype=np.uint8), "operand_dtype is damaged"),
        ("operand_is_output", np.array([1, 0, 0, 1], dtype=np.uint8), "outputs must come before"),
    ],
)
def test_damaged_columns_are_refused(column: str, value: Any, message: str) -> None:
    program = program_of(Opcode.COPY, [SMALL], [SMALL])
    broken = replace(program, columns=replace(program.columns, **{column: value}))
    with pytest.raises(InputError, match=message):
        derive_work(broken)
