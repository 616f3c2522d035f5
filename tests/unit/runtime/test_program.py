"""The columns, views and file form of a program."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.groups import EngineBounds
from edgefusion.runtime.isa import MAX_RANK, Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.program import (
    BufferRecord,
    Columns,
    Instruction,
    Operand,
    OpRecord,
    Program,
    TensorRecord,
)
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.program_columns import check_columns
from edgefusion.runtime.tensor_numbers import PLAIN, ROW_NORMALISED, UNCALIBRATED, steps_of

SRAM = Operand(0, Space.SRAM, 64, DType.INT16, (8, 64), (128, 2))
DRAM = SRAM._replace(space=Space.DRAM, address=4096, strides=(640, 2))
SCALAR = Operand(-1, Space.SRAM, 8, DType.FP32, (), ())
ATTRS = (("bias", True), ("pads", (0, 1, -2, 0)), ("scale", 0.125), ("upsample", 2))
INSTRUCTIONS = (
    Instruction(EngineKind.DMA, 1, Opcode.LOAD, (SRAM,), (DRAM,), 0, (), Cause.INPUT),
    Instruction(EngineKind.TENSOR, 0, Opcode.CONV2D, (SRAM, SCALAR), (SRAM,), 0, (0,), attrs=ATTRS),
    Instruction(EngineKind.DMA, 0, Opcode.STORE, (DRAM,), (SRAM,), 0, (0, 1), Cause.OUTPUT),
)


def sample() -> Program:
    builder = ProgramBuilder("unet", "exynos2400", "mlt")
    builder.ops.append(
        OpRecord("silu1", "Silu", ("/act/Sigmoid",), "down.0", 12, EngineBounds(34), 56, "8x64")
    )
    for numbers in (steps_of(0.1), UNCALIBRATED, ROW_NORMALISED, PLAIN):
        builder.tensors.append(
            TensorRecord("x", DType.INT16, (8, 64), Role.INPUT, 4096, 5120, numbers, 1)
        )
    builder.buffers.append(BufferRecord("x.tile", Space.SRAM, 64, 1024, 0, 2))
    for instruction in INSTRUCTIONS:
        builder.append(instruction)
    return builder.build(sram_bytes=1088, dram_bytes=9216)


def saved(program: Program) -> bytes:
    file = io.BytesIO()
    program.save(file)
    return file.getvalue()


def test_rows_come_back_as_they_were_appended() -> None:
    assert tuple(sample().instructions()) == INSTRUCTIONS
    assert len(sample()) == 3


def test_operands_are_padded_on_the_left() -> None:
    columns = sample().columns
    assert columns.operand_shape[0].tolist() == [1, 1, 8, 64]
    assert columns.operand_strides[0].tolist() == [0, 0, 128, 2]
    assert columns.operand_shape[3].tolist() == [1] * MAX_RANK


def test_the_end_of_an_operand_is_behind_its_last_byte() -> None:
    assert SRAM.end == 64 + 1024
    assert DRAM.end == 4096 + 7 * 640 + 128
    assert SCALAR.end == 12
    assert (SRAM.elements, SCALAR.elements) == (512, 1)


def test_ranks_above_the_limit_are_refused() -> None:
    builder = ProgramBuilder("unet", "exynos2400", "mlt")
    large = SRAM._replace(shape=(1,) * 5, strides=(0,) * 5)
    with pytest.raises(ValueError, match="at most 4 dimensions"):
        builder.emit(EngineKind.VECTOR, 0, Opcode.COPY, [large], [SRAM], 0)


def test_a_saved_program_loads_as_it_was(tmp_path: Path) -> None:
    sample().save(tmp_path / "program.npz")
    loaded = Program.load(tmp_path / "program.npz")
    assert loaded == sample()
    assert tuple(loaded.instructions()) == INSTRUCTIONS
    assert loaded.ops == sample().ops
    assert loaded.tensors == sample().tensors
    assert isinstance(loaded.buffers[0].space, Space)


def test_the_same_program_gives_the_same_bytes() -> None:
    assert saved(sample()) == saved(Program.load(saved(sample())))


@pytest.mark.parametrize(
    "change",
    [
        {"component": "vae"},
        {"sram_bytes": 0},
        {"ops": ()},
        {"buffers": ()},
        {"attrs": ((), ())},
        {"tensors": ()},
    ],
)
def test_equality_sees_the_tables(change: dict[str, object]) -> None:
    assert replace(sample(), **change) != sample()  # type: ignore[arg-type]


def test_equality_sees_every_column() -> None:
    for name in sample().columns.__slots__:
        changed = sample()
        getattr(changed.columns, name).flat[0] += 1
        assert changed != sample(), name


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(1, "Compile the model again"), (99, "Update the tool or compile the model again")],
)
def test_other_versions_are_refused(version: int, remedy: str) -> None:
    with pytest.raises(InputError, match=rf"version {version}, this tool .*\. {remedy}"):
        Program.load(saved(replace(sample(), version=version)))


def test_a_scale_that_cannot_be_is_bad_input() -> None:
    with np.load(io.BytesIO(saved(sample()))) as archive:
        arrays = {name: archive[name] for name in archive.files}
    tables = arrays["tables"].tobytes().replace(b'"scale":0.1', b'"scale":0.0')
    file = io.BytesIO()
    np.savez(file, **{**arrays, "tables": np.frombuffer(tables, np.uint8)})
    with pytest.raises(InputError, match=r"positive and finite, found 0\.0"):
        Program.load(file.getvalue())


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_what_is_no_program_is_bad_input(data: bytes) -> None:
    with pytest.raises(InputError):
        Program.load(data)


def test_a_cut_file_is_bad_input() -> None:
    data = saved(sample())
    for keep in range(0, len(data), 97):
        with pytest.raises(InputError):
            Program.load(data[:keep])


def test_a_missing_column_is_bad_input() -> None:
    file = io.BytesIO()
    with np.load(io.BytesIO(saved(sample()))) as archive:
        np.savez(file, **{name: archive[name] for name in archive.files if name != "deps"})
    with pytest.raises(InputError, match="deps"):
        Program.load(file.getvalue())


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (b'"address":4096', b'"address":-1', "address is -1"),
        (b'"shape":[8,64]', b'"shape":[8,-4]', "shape.1 is -4"),
        (b'"dtype":', b'"dtipe":', "dtype"),
        (b'"origin":["/act/Sigmoid"]', b'"origin":7', "origin is 7"),
        (b'"sram_bytes":1088', b'"sram_bytes":"x"', "sram_bytes is 'x'"),
        (b'"ops":', b'"opps":', "ops is missing"),
    ],
)
def test_tables_that_cannot_be_are_bad_input(before: bytes, after: bytes, message: str) -> None:
    with np.load(io.BytesIO(saved(sample()))) as archive:
        arrays = {name: archive[name] for name in archive.files}
    tables = arrays["tables"].tobytes()
    assert before in tables
    file = io.BytesIO()
    changed = np.frombuffer(tables.replace(before, after), np.uint8)
    np.savez(file, **{**arrays, "tables": changed})
    with pytest.raises(InputError, match=f"The program is damaged.*{message}"):
        Program.load(file.getvalue())


@pytest.mark.parametrize("name", Columns.__slots__)
def test_columns_of_another_type_are_found(name: str) -> None:
    """Compiled loops would read their bytes as something else, or far outside."""
    program = sample()
    check_columns(program)
    other = getattr(program.columns, name).astype(np.float32)
    with pytest.raises(InputError, match=f"column {name} is damaged: expected .*found float32"):
        check_columns(replace(program, columns=replace(program.columns, **{name: other})))


@pytest.mark.parametrize("name", Columns.__slots__)
def test_columns_of_another_length_are_found(name: str) -> None:
    program = sample()
    shorter = getattr(program.columns, name)[:-1]
    with pytest.raises(InputError, match=r"damaged|differ in length"):
        check_columns(replace(program, columns=replace(program.columns, **{name: shorter})))
