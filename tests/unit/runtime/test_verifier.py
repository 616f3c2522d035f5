"""Every rule of the verifier fires on a good program that is broken on purpose, and only then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.hazards import happens_before
from edgefusion.runtime.isa import Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.opcodes import OPCODE_ENGINE
from edgefusion.runtime.program import (
    BufferRecord,
    Instruction,
    Operand,
    OpRecord,
    Program,
    TensorRecord,
)
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.target import load_target
from edgefusion.runtime.verifier import find_violations, verify_program

MACHINE = load_target("exynos2400").machine
ROWS, COLUMNS = 8, 64
TILE_BYTES = ROWS * COLUMNS * 2
WEIGHT_BYTES = 128


def view(space: Space, address: int, tensor: int, *, row_bytes: int = COLUMNS * 2) -> Operand:
    return Operand(tensor, space, address, DType.INT16, (ROWS, COLUMNS), (row_bytes, 2))


@dataclass
class Script:
    """What a program is built from, open to damage. ``y = silu(x)`` in tiles, double-buffered."""

    instructions: list[Instruction] = field(default_factory=list)
    buffers: list[BufferRecord] = field(default_factory=list)
    tensors: list[TensorRecord] = field(default_factory=list)
    dram_bytes: int = 0

    def build(self) -> Program:
        builder = ProgramBuilder("unet", "exynos2400", "pipelined")
        builder.ops.append(OpRecord("silu1", "Silu", ("/act/Sigmoid", "/act/Mul")))
        builder.tensors.extend(self.tensors)
        builder.buffers.extend(self.buffers)
        for instruction in self.instructions:
            builder.append(instruction)
        return builder.build(sram_bytes=4 * TILE_BYTES, dram_bytes=self.dram_bytes)

    def change(self, index: int, **values: Any) -> None:
        self.instructions[index] = replace(self.instructions[index], **values)

    def change_operand(self, index: int, side: str, **values: Any) -> None:
        operand = getattr(self.instructions[index], side)[0]._replace(**values)
        self.change(index, **{side: (operand,)})


def good(tiles: int = 4) -> Script:
    """Instructions 3i, 3i+1, 3i+2 load, compute and store tile i in slot i % 2."""
    script = Script()
    total = tiles * TILE_BYTES
    weight = 2 * total
    script.tensors = [
        TensorRecord("x", DType.INT16, (tiles * ROWS, COLUMNS), Role.INPUT, 0, total),
        TensorRecord("y", DType.INT16, (tiles * ROWS, COLUMNS), Role.OUTPUT, total, total),
        TensorRecord("w", DType.INT8, (WEIGHT_BYTES,), Role.WEIGHT, weight, WEIGHT_BYTES),
    ]
    script.dram_bytes = weight + WEIGHT_BYTES
    for i in range(tiles):
        slot, n = i % 2, 3 * i
        x, y = slot * TILE_BYTES, (2 + slot) * TILE_BYTES
        dram_x, dram_y = i * TILE_BYTES, total + i * TILE_BYTES
        freed = (n - 5,) if i >= 2 else ()  # the compute that read this slot before
        drained = (n - 4,) if i >= 2 else ()  # the store that emptied this slot before
        make = script.instructions.append
        make(
            Instruction(
                EngineKind.DMA, 0, Opcode.LOAD, (view(Space.SRAM, x, 0),),
                (view(Space.DRAM, dram_x, 0),), 0, freed, Cause.INPUT,
            )
        )  # fmt: skip
        make(
            Instruction(
                EngineKind.VECTOR, 0, Opcode.UNARY, (view(Space.SRAM, y, 1),),
                (view(Space.SRAM, x, 0),), 0, (n, *drained), attrs=(("function", "silu"),),
            )
        )  # fmt: skip
        make(
            Instruction(
                EngineKind.DMA, 0, Opcode.STORE, (view(Space.DRAM, dram_y, 1),),
                (view(Space.SRAM, y, 1),), 0, (n + 1,), Cause.OUTPUT,
            )
        )  # fmt: skip
    last = 3 * tiles - 1
    script.buffers = [
        BufferRecord(f"slot{k}", Space.SRAM, k * TILE_BYTES, TILE_BYTES, 0, last) for k in range(4)
    ]
    return script


def rules_broken(script: Script) -> set[str]:
    return {violation.rule for violation in find_violations(script.build(), MACHINE)}


def test_a_good_program_passes() -> None:
    verify_program(good().build(), MACHINE)


def test_an_empty_program_passes() -> None:
    verify_program(ProgramBuilder("unet", "exynos2400", "serial").build(), MACHINE)


BREAKAGES: dict[str, Callable[[Script], object]] = {
    # rule: how a good program comes to break it
    "engine": lambda s: s.change(1, unit=1),
    "op": lambda s: s.change(1, op=1),
    "tensor": lambda s: s.change_operand(1, "inputs", tensor=3),
    "operands": lambda s: s.change(0, inputs=s.instructions[0].inputs * 2),
    "dependency": lambda s: s.change(0, depends_on=(1,)),
    "view": lambda s: s.change_operand(0, "inputs", strides=(-COLUMNS * 2, 2)),
    "address": lambda s: s.change_operand(1, "outputs", address=MACHINE.sram_bytes - 2),
    "tensor range": lambda s: s.change_operand(0, "inputs", address=4 * TILE_BYTES),
    "engine memory": lambda s: s.change_operand(1, "inputs", space=Space.DRAM),
    "cause": lambda s: s.change(0, cause=Cause.NONE),
    "dma operands": lambda s: s.change_operand(0, "inputs", dtype=DType.FP16),
    "weight": lambda s: s.change_operand(2, "outputs", address=8 * TILE_BYTES, tensor=2),
    "buffer": lambda s: s.buffers.append(replace(s.buffers[0], last=99)),
    "buffer overlap": lambda s: s.buffers.append(replace(s.buffers[0], first=3, nbytes=1)),
    "buffer range": lambda s: s.buffers.__setitem__(0, replace(s.buffers[0], first=1)),
    "hazard": lambda s: s.change(1, depends_on=()),
}


@pytest.mark.parametrize("rule", BREAKAGES)
def test_each_rule_fires(rule: str) -> None:
    script = good()
    BREAKAGES[rule](script)
    assert rule in rules_broken(script)


def with_attrs(program: Program, *attrs: tuple[str, Any]) -> Program:
    """``program`` whose computations have other attributes: a builder would refuse wrong ones."""
    return replace(program, attrs=tuple(attrs if entry else () for entry in program.attrs))


def test_attributes_of_a_read_program_are_checked_once_for_all_instructions() -> None:
    program = good().build()
    (found,) = find_violations(with_attrs(program, ("function", "relu"), ("bais", 1)), MACHINE)
    assert (found.rule, found.instruction) == ("attributes", 1)
    assert found.message == "there is no attribute 'bais'; expected function"
    (found,) = find_violations(with_attrs(program, ("function", 3)), MACHINE)
    assert found.message.startswith("expected attribute 'function' to be one of relu, silu")
    assert found.message.endswith("found 3")
    (found,) = find_violations(
        with_attrs(program, ("function", "relu"), ("function", "silu")), MACHINE
    )
    assert "twice" in found.message
    named = r"instruction 1 \(unary of silu1.* no attribute 'functoin' \(did you mean 'function'"
    with pytest.raises(InputError, match=named):
        verify_program(with_attrs(program, ("functoin", "relu")), MACHINE)


@pytest.mark.parametrize(
    ("opcode", "attrs", "outputs", "inputs", "message"),
    [
        (Opcode.MATMUL, (("bias", 1),), 1, 2, "1 outputs and 3 to 4 inputs with these attributes"),
        (Opcode.MATMUL, (("bias", 0),), 1, 4, "1 outputs and 2 to 3 inputs"),
        (Opcode.MATMUL, (), 0, 2, "found 0 and 2"),
        (Opcode.LAYER_NORM, (("beta", 1), ("epsilon", 1e-5)), 1, 2, "1 outputs and 3 inputs"),
        (Opcode.COPY, (), 2, 1, "1 outputs and 1 inputs with these attributes, found 2 and 1"),
        (Opcode.MATMUL, (("bias", 1),), 1, 3, ""),
        (Opcode.MATMUL, (("bias", 1),), 1, 4, ""),
        (Opcode.CALL, (("function", "f"),), 0, 0, ""),
        (Opcode.CALL, (("function", "f"),), 3, 5, ""),
    ],
)
def test_numbers_of_operands(
    opcode: Opcode, attrs: Any, outputs: int, inputs: int, message: str
) -> None:
    script = good(1)
    operand = script.instructions[1].inputs[0]
    engine = EngineKind(int(OPCODE_ENGINE[opcode]))
    script.change(
        1, engine=engine, opcode=opcode, attrs=attrs,
        outputs=(operand,) * outputs, inputs=(operand,) * inputs,
    )  # fmt: skip
    found = [v for v in find_violations(script.build(), MACHINE) if v.rule == "operands"]
    assert bool(found) == bool(message)
    assert all(v.instruction == 1 and message in v.message for v in found)


@pytest.mark.parametrize("dependency", [-1, 0, 7])
def test_dependencies_point_backwards(dependency: int) -> None:
    script = good()
    script.change(0, depends_on=(dependency,))
    assert rules_broken(script) == {"dependency"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("engine", 9), ("opcode", 99), ("cause", 88), ("op", -1), ("attrs", 5),
        ("operand_space", 2), ("operand_dtype", 50), ("operand_is_output", 2), ("operand_rank", 5),
        ("operand_tensor", -2), ("operand_shape", 0), ("operand_strides", 2**62),
        ("operand_address", -64), ("deps", 400), ("operand_begin", 3),
    ],
)  # fmt: skip
def test_a_damaged_column_is_found_and_not_followed(column: str, value: int) -> None:
    program = good().build()
    getattr(program.columns, column)[3] = value
    assert find_violations(program, MACHINE)


@pytest.mark.parametrize("column", ["operand_address", "cause", "operand_begin", "deps"])
def test_a_shortened_column_is_found(column: str) -> None:
    program = good().build()
    columns = replace(program.columns, **{column: getattr(program.columns, column)[:-1]})
    assert [v.rule for v in find_violations(replace(program, columns=columns), MACHINE)] == [
        "columns"
    ]


@pytest.mark.parametrize("at", range(12))
@pytest.mark.parametrize("store_unit", [0, 1])
def test_a_missing_wait_is_a_hazard_unless_the_queue_implies_it(at: int, store_unit: int) -> None:
    machine = MACHINE.with_values(dma_engines=2)
    for dropped in good().instructions[at].depends_on:
        script = good()
        for store in range(2, 12, 3):
            script.change(store, unit=store_unit)
        assert not find_violations(script.build(), machine)
        kept = tuple(d for d in script.instructions[at].depends_on if d != dropped)
        script.change(at, depends_on=kept)
        found = {v.rule for v in find_violations(script.build(), machine)}
        # In one in-order DMA queue a load is behind a store, so it knows what the store waited for,
        # and what waits for the load knows the store. With two queues no wait can be spared.
        implied = store_unit == 0 and dropped == at - 5
        assert found == (set() if implied else {"hazard"}), (at, dropped)


def test_order_through_a_third_engine_counts() -> None:
    script = good(1)
    clocks = happens_before(script.build().columns)
    dma, vector = 0, 1
    assert clocks.tolist() == [[-1, -1], [0, -1], [0, 1]]
    assert clocks[2][dma] == 0, "the store is behind the load in its queue"
    assert clocks[2][vector] == 1


def interleaved_stores(second_columns: int, *, ordered: bool) -> Script:
    """Two DMA engines store the column halves of one tensor; the second begins at its column."""
    script = good(1)
    script.tensors[1] = replace(script.tensors[1], nbytes=TILE_BYTES)
    half = Operand(1, Space.SRAM, 0, DType.INT16, (ROWS, COLUMNS // 2), (COLUMNS, 2))
    base = script.tensors[1].address
    halves = [
        half._replace(space=Space.DRAM, address=base + 2 * column, strides=(COLUMNS * 2, 2))
        for column in (0, second_columns)
    ]
    script.instructions = [
        Instruction(EngineKind.DMA, unit, Opcode.STORE, (dram,), (half,), 0, deps, Cause.OUTPUT)
        for unit, dram, deps in zip((0, 1), halves, ((), (0,) if ordered else ()), strict=True)
    ]
    script.buffers = [BufferRecord("y", Space.SRAM, 0, TILE_BYTES, 0, 1)]
    return script


@pytest.mark.parametrize(
    ("second_columns", "ordered", "expected"),
    [(32, False, set()), (31, False, {"hazard"}), (31, True, set()), (0, False, {"hazard"})],
)
def test_interleaved_columns_are_compared_exactly(
    second_columns: int, ordered: bool, expected: set[str]
) -> None:
    script = interleaved_stores(second_columns, ordered=ordered)
    machine = MACHINE.with_values(dma_engines=2)
    assert {v.rule for v in find_violations(script.build(), machine)} == expected


def test_buffers_may_follow_each_other_in_one_place() -> None:
    script = good(2)
    first, second = script.buffers[0], replace(script.buffers[0], name="later", first=3)
    script.buffers[0] = replace(first, last=2)
    script.buffers.append(replace(second, address=0))
    assert rules_broken(script) == set()
    script.buffers[0] = replace(first, last=3)
    assert rules_broken(script) == {"buffer overlap"}


def test_the_error_says_what_where_and_what_next() -> None:
    script = good()
    script.change(1, depends_on=())
    with pytest.raises(InputError) as error:
        verify_program(script.build(), MACHINE)
    text = str(error.value)
    assert "instruction 1 (unary of silu1, from /act/Sigmoid, /act/Mul): reads what" in text
    assert "instruction 0 writes" in text
    assert "SRAM [0x0, 0x400)" in text
    assert "Compile the model again" in text


def test_only_the_first_violations_are_listed() -> None:
    script = good()
    for at in range(1, 12, 3):
        script.change(at, depends_on=(), op=7)
        script.change(at - 1, op=7)
    with pytest.raises(InputError) as error:
        verify_program(script.build(), MACHINE)
    assert str(error.value).count("expected an op below 1, found 7") == 5
    assert "and more" in str(error.value)


def test_a_large_program_is_verified_in_seconds() -> None:
    program = good(33_334).build()
    verify_program(good(4).build(), MACHINE)  # compiles the loops
    start = time.perf_counter()
    verify_program(program, MACHINE)
    assert time.perf_counter() - start < 5.0
    assert len(program) > 100_000
