"""The text form of a program: it round-trips, reads as documented, and errors show the fault."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime import program_text
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.groups import EngineBounds, GroupRecord, ResidentRecord
from edgefusion.runtime.isa import Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.program import BufferRecord, Operand, OpRecord, Program, TensorRecord
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.program_text import parse, to_text, write_text
from edgefusion.runtime.specification import Attrs, Kind
from edgefusion.runtime.target import load_target
from edgefusion.runtime.tensor_numbers import PLAIN, ROW_NORMALISED, UNCALIBRATED, steps_of
from tests.lowering_cases import all_cases


def documented() -> Program:
    """The example in the docstring of ``runtime.program_text``."""
    builder = ProgramBuilder("unet", "exynos2400", "pipelined")
    builder.tensors += [
        TensorRecord("x", DType.INT16, (8, 64), Role.INPUT, 0, 1024, steps_of(0.5)),
        TensorRecord("y", DType.INT16, (8, 64), Role.ACTIVATION, 1024, 1024, UNCALIBRATED),
    ]
    builder.ops.append(
        OpRecord(
            "silu1",
            "Silu",
            ("/act/Sigmoid", "/act/Mul"),
            least=EngineBounds(0, 600, 900),
            bound_bytes=2048,
        )
    )
    builder.groups.append(GroupRecord(4, (1,), (), (0,), 4096, "longest group", sweeps=2))
    builder.residents.append(ResidentRecord(1, 0, 0, 1024, alone=True, over=0))
    builder.fused = EngineBounds(0, 600, 800)
    builder.buffers.append(BufferRecord("x.tile", Space.SRAM, 64, 1024, 0, 1))
    sram = Operand(0, Space.SRAM, 64, DType.INT16, (8, 64), (128, 2))
    dram = sram._replace(space=Space.DRAM, address=0)
    builder.emit(EngineKind.DMA, 0, Opcode.LOAD, [sram], [dram], 0, (), Cause.INPUT)
    builder.emit(
        EngineKind.VECTOR, 0, Opcode.UNARY, [sram._replace(tensor=1)], [sram], 0, (0,),
        attrs=(("function", "silu"),),
    )  # fmt: skip
    return builder.build(sram_bytes=1088, dram_bytes=65536)


def test_the_documented_example_is_what_is_written() -> None:
    assert program_text.__doc__ is not None
    example = program_text.__doc__.split("comment line.\n\n", 1)[1]
    lines = [line.removeprefix("    ").rstrip() for line in example.splitlines()]
    assert "\n".join(lines).strip() == to_text(documented()).strip()


def test_the_documented_example_is_read() -> None:
    assert parse(to_text(documented())) == documented()


def test_an_empty_program_round_trips() -> None:
    program = ProgramBuilder("", "my target", "serial").build()
    assert parse(to_text(program)) == program


NAMES = st.text(max_size=8) | st.sampled_from(["from", "scope", "a,b", "x y", '"', "#", "%1", "t1"])
NUMBERS = st.integers(0, 2**40)
BOUNDS = st.builds(EngineBounds, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
MEANINGS = st.sampled_from([PLAIN, UNCALIBRATED, ROW_NORMALISED]) | st.floats(
    0.0, exclude_min=True, allow_infinity=False
).map(steps_of)
COUNTS, WHOLE = st.integers(1, 2**60), st.integers(-(2**60), 2**60)
VALUES = {
    Kind.FLAG: st.integers(0, 1) | st.booleans(),
    Kind.NATURAL: st.integers(0, 2**60),
    Kind.COUNT: COUNTS,
    Kind.REAL: st.floats(allow_nan=False) | WHOLE,
    Kind.NAME: NAMES,
    Kind.NATURAL_PAIR: st.tuples(NUMBERS, NUMBERS),
    Kind.COUNT_PAIR: st.tuples(COUNTS, COUNTS),
    Kind.INTEGERS_4: st.tuples(WHOLE, WHOLE, WHOLE, WHOLE),
}


@st.composite
def attributes(draw: st.DrawFn, opcode: Opcode) -> Attrs:
    """Some that ``opcode`` takes, in any order."""
    known = SPECIFICATIONS[opcode].attributes
    given = [a for a in draw(st.permutations(known)) if a.is_required or draw(st.booleans())]
    return tuple(
        (a.name, draw(st.sampled_from(a.choices) if a.choices else VALUES[a.kind])) for a in given
    )


@st.composite
def operands(draw: st.DrawFn) -> Operand:
    shape = tuple(draw(st.lists(st.integers(1, 2**20), max_size=4)))
    strides = tuple(draw(st.integers(0, 2**40)) for _ in shape)
    dtype = draw(st.sampled_from(DType))
    if draw(st.booleans()):
        strides = program_strides(shape, dtype)
    space = draw(st.sampled_from(Space))
    return Operand(draw(st.integers(-1, 9)), space, draw(NUMBERS), dtype, shape, strides)


def program_strides(shape: tuple[int, ...], dtype: DType) -> tuple[int, ...]:
    tail = [int(np.prod(shape[d + 1 :], dtype=object)) for d in range(len(shape))]
    return tuple(n * dtype.nbytes if n < 2**40 else 0 for n in tail)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Anything that the columns can hold, correct or not."""
    builder = ProgramBuilder(draw(NAMES), draw(NAMES), draw(NAMES))
    for _ in range(draw(st.integers(0, 3))):
        builder.tensors.append(
            TensorRecord(
                draw(NAMES), draw(st.sampled_from(DType)),
                tuple(draw(st.lists(st.integers(0, 999), max_size=4))),
                draw(st.sampled_from(Role)), draw(NUMBERS), draw(NUMBERS), draw(MEANINGS),
                draw(st.integers(-1, 3)),
            )
        )  # fmt: skip
    for _ in range(draw(st.integers(0, 3))):
        origin = tuple(draw(st.lists(NAMES, max_size=3)))
        macs, bound_bytes = draw(NUMBERS), draw(NUMBERS)
        builder.ops.append(
            OpRecord(
                draw(NAMES), draw(NAMES), origin, draw(NAMES), macs, draw(BOUNDS), bound_bytes,
                draw(NAMES), draw(NUMBERS),
            )
        )  # fmt: skip
    numbered = st.lists(st.integers(0, 2**30), max_size=2).map(tuple)
    builder.groups += draw(
        st.lists(
            st.builds(GroupRecord, NUMBERS, numbered, numbered, numbered, NUMBERS, NAMES, NUMBERS),
            max_size=2,
        )
    )
    small = st.integers(0, 2**30)
    builder.residents += draw(
        st.lists(st.builds(ResidentRecord, small, small, small, NUMBERS, st.booleans()), max_size=2)
    )
    builder.fused = draw(BOUNDS)
    for _ in range(draw(st.integers(0, 3))):
        numbers = [draw(st.integers(-1, 2**30)) for _ in range(4)]
        builder.buffers.append(BufferRecord(draw(NAMES), draw(st.sampled_from(Space)), *numbers))
    for _ in range(draw(st.integers(0, 4))):
        opcode = draw(st.sampled_from(Opcode))
        builder.emit(
            draw(st.sampled_from(EngineKind)), draw(st.integers(0, 255)), opcode,
            draw(st.lists(operands(), max_size=2)), draw(st.lists(operands(), max_size=3)),
            draw(st.integers(-1, 9)),
            draw(st.lists(st.integers(-1, 99), max_size=3)), draw(st.sampled_from(Cause)),
            draw(attributes(opcode)),
        )  # fmt: skip
    return builder.build(sram_bytes=draw(NUMBERS), dram_bytes=draw(NUMBERS))


@settings(max_examples=100, deadline=None)
@given(programs())
def test_any_program_round_trips(program: Program) -> None:
    text = to_text(program)
    assert parse(text) == program
    assert to_text(parse(text)) == text


def test_a_table_of_attributes_in_any_order_round_trips() -> None:
    program = documented()
    columns = replace(program.columns, attrs=np.array([2, 1], dtype=np.int32))
    attrs: Any = ((), (("function", "relu"),), (("reread_bytes", 1),), (("unused", None),))
    program = replace(program, columns=columns, attrs=attrs)
    assert parse(to_text(program)) == program
    assert "attributes 2" in to_text(program)


def test_a_range_is_written_for_reading_only() -> None:
    file = io.StringIO()
    write_text(documented(), file, first=1, last=1)
    text = file.getvalue()
    assert "\n%1 vector0 unary" in text
    assert "%0 dma0" not in text
    assert "# instructions 1 to 1 of 2" in text
    with pytest.raises(InputError, match="expected 'program'"):
        parse(text)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("program unet", "module unet", 1, "expected 'program', found 'module unet"),
        ("sram 1088", "sram many", 2, "expected an integer, found 'many"),
        ("t1 y", "t2 y", 6, "expected 't1', found 't2 y"),
        ("i16 8x64 input", "i17 8x64 input", 5, r"expected a type \(i8, i16, .*found 'i17"),
        (
            "8x64 activation",
            "8x activation",
            6,
            "expected a shape, like 8x64, or scalar, found '8x act",
        ),
        ("ops\n", "opps\n", 8, "expected .*found 'opps'"),
        ("stripe 4", "strip 4", 12, "expected 'stripe', found 'strip 4"),
        ("rolls t1", "rolls 1", 12, "expected a tensor, like t7, found '1"),
        ("g0..g0", "g0", 15, "expected '..', found '1024"),
        ("%0..%1", "%0-%1", 18, "expected '..', found '-%1"),
        ("dma0 load", "dma load", 21, "expected an engine and its unit, like dma0, found 'dma lo"),
        ("dma0 load", "npu0 load", 21, r"like dma0 \(dma, tensor, vector, host\), found 'npu0"),
        ("dma0 load", "dma999 load", 21, "expected a unit of at most 8 bits, found '999"),
        (" load ", " fetch ", 21, r"expected an opcode \(load, store, .*found 'fetch"),
        ("[0x0]", "[zero]", 21, "expected an address, found 'zero"),
        ("cause input", "cause luck", 21, r"expected a cause \(none, weight.*found 'luck"),
        ("after %0", "after 0", 22, "expected an instruction, like %7, found '0 "),
        ('"silu"', "silu", 22, "expected a JSON value, found 'silu"),
        ("0x40] i16 8x64 t1", "0x40] i16 1x1x1x8x64 t1", 22, "expected at most 4 dimensions"),
        ("; op0 cause", " op0 cause", 21, "expected ';', found 'op0 cause"),
        (
            'function="silu"',
            'funktion="silu"',
            22,
            r"UNARY: there is no attribute 'funktion' \(did you mean 'function'",
        ),
        ('function="silu"', "", 22, "UNARY: the attribute 'function' is missing"),
        ("scale 0.5", "scale 0", 5, "expected a scale that is positive and finite, found 0.0"),
        ("1024 bytes uncalibrated", "1024 bytes calibrated", 6, "expected the end of the line"),
        ("version 3", "version 99", None, "version 99, this tool reads version 3. Update the tool"),
        ("version 3", "version 1", None, "version 1, this tool reads version 3. Compile the model"),
    ],
)
def test_errors_name_the_line_and_what_was_expected(
    old: str, new: str, line: int | None, message: str
) -> None:
    text = to_text(documented())
    assert old in text
    where = f"line {line}(, column [0-9]+)?: .*" if line else ""
    with pytest.raises(InputError, match=where + message):
        parse(text.replace(old, new, 1))


def test_a_text_cut_short_is_bad_input_or_a_shorter_program() -> None:
    text = to_text(documented()).rstrip()
    refused = 0
    for keep in range(len(text)):
        try:
            assert parse(text[:keep]) != documented()
        except InputError:
            refused += 1
    assert refused > len(text) / 2


def test_comments_and_blank_lines_are_skipped() -> None:
    text = "# made by hand\n\n" + to_text(documented()).replace("\nops", "\n# the ops\n\nops")
    assert parse(text) == documented()


@pytest.mark.parametrize("case", ["conv", "attention", "group_norm_given"])
def test_compiled_programs_round_trip(case: str) -> None:
    """Constants, scales, origins and tiles of real programs, not of made-up ones."""
    machine = load_target("exynos2400").machine
    program = lower(all_cases()[case], machine, schedule_named("pipelined")).program
    assert parse(to_text(program)) == program


def test_an_excerpt_names_only_what_it_shows() -> None:
    machine = load_target("exynos2400").machine
    program = lower(all_cases()["conv"], machine, schedule_named("mlt")).program
    file = io.StringIO()
    write_text(program, file, 0, 1)
    lines = file.getvalue().splitlines()
    assert next(line for line in lines if line.startswith("op")).startswith("op0 conv")
    assert sum(line.startswith("%") for line in lines) == 2
    assert 0 < sum(line.startswith("t") for line in lines) < len(program.tensors)
