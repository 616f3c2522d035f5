"""Reads the text of ``runtime.program_text``. Errors name the line, what was expected and found."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.groups import EngineBounds, GroupRecord, OnceRecord, ResidentRecord
from edgefusion.runtime.isa import MAX_RANK, Cause, EngineKind, Opcode, Role, Space
from edgefusion.runtime.program import (
    BufferRecord,
    Operand,
    OpRecord,
    Program,
    TensorRecord,
    check_version,
    dense_strides,
)
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.program_printer import DTYPE_NAMES
from edgefusion.runtime.specification import Attrs
from edgefusion.runtime.tensor_numbers import (
    PLAIN,
    ROW_NORMALISED,
    UNCALIBRATED,
    Numbers,
    steps_of,
)
from edgefusion.runtime.text_line import Line

_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
_SPACES = {space.name.lower(): space for space in Space}
_OPCODES = {opcode.name.lower(): opcode for opcode in Opcode}
_CAUSES = {cause.name.lower(): cause for cause in Cause}
_ROLES = {role.name.lower(): role for role in Role}
_ENGINES = {engine.name.lower(): engine for engine in EngineKind}
_ENGINE_NAME = re.compile(r"[a-z]+(?=[0-9])")
_SHAPE = re.compile(r"scalar\b|[0-9]+(x[0-9]+)*(?!\w)")
_TITLES = ("tensors", "ops", "groups", "residents", "buffers", "attributes", "instructions")


def parse(text: str) -> Program:
    """The program that ``to_text`` wrote. Raises InputError with the line at fault."""
    return _Parser(text).program()


class _Parser:
    def __init__(self, text: str) -> None:
        numbered = list(enumerate(text.splitlines(), start=1))
        lines = [Line(n, t) for n, t in numbered if t.strip() and not t.startswith("#")]
        self._lines = [*lines, Line(len(numbered) + 1, "")]
        self._next = 0
        self._attrs: list[Attrs] = []
        self._attrs_of_instruction: list[int] = []

    def program(self) -> Program:
        line = self._take()
        component, target, schedule = (line.after(w).name() for w in ("program", "for", "schedule"))
        version = line.after("version").integer()
        line.end()
        check_version(version)
        line = self._take()
        sram_bytes, dram_bytes = (line.after(word).integer() for word in ("sram", "dram"))
        builder = ProgramBuilder(component, target, schedule)
        if line.accept("fused"):
            builder.fused = _least(line)
        if line.accept("chain"):
            builder.chain_ps = line.integer()
            line.after("ps")
        line.end()
        if self._lines[self._next].sees("once"):
            line = self._take()
            builder.once = _once(line)
            line.end()
        self._section("tensors", lambda at: builder.tensors.append(_tensor(at, builder)))
        self._section("ops", lambda at: builder.ops.append(_op(at, builder)))
        self._section(
            "groups", lambda at: builder.groups.append(_group(at, builder)), optional=True
        )
        self._section(
            "residents", lambda at: builder.residents.append(_resident(at)), optional=True
        )
        self._section("buffers", lambda at: builder.buffers.append(_buffer(at)))
        has_table = self._section(
            "attributes", lambda at: self._attrs.append(_attrs_row(at, self._attrs)), optional=True
        )
        self._section("instructions", lambda at: self._instruction(at, builder, has_table))
        self._lines[self._next].end()
        program = builder.build(sram_bytes=sram_bytes, dram_bytes=dram_bytes)
        if not has_table:
            return program
        numbers = np.array(self._attrs_of_instruction, dtype=np.int32)
        columns = replace(program.columns, attrs=numbers)
        return replace(program, columns=columns, attrs=tuple(self._attrs))

    def _take(self) -> Line:
        line = self._lines[self._next]
        self._next += self._next < len(self._lines) - 1
        return line

    def _section(
        self, title: str, row: Callable[[Line], object], *, optional: bool = False
    ) -> bool:
        """Read a title and the rows below it, to the next title; says whether it was there."""
        if optional and not self._lines[self._next].sees(title):
            return False
        self._take().after(title).end()
        while not self._at_title():
            line = self._take()
            row(line)
            line.end()
        return True

    def _at_title(self) -> bool:
        line = self._lines[self._next]
        return line.at_end() or any(line.sees(title) for title in _TITLES)

    def _instruction(self, line: Line, builder: ProgramBuilder, has_table: bool) -> None:
        line.after(f"%{len(builder)}")
        engine = line.one_of(_ENGINES, "an engine and its unit, like dma0", _ENGINE_NAME)
        unit = line.integer("a unit", bits=8)
        opcode = line.one_of(_OPCODES, "an opcode")
        outputs = [] if line.sees("<-") or line.sees(";") else _operands(line)
        inputs = _operands(line) if line.accept("<-") else []
        op = line.after(";").reference("op", "an op, like op7")
        depends_on: list[int] = []
        if line.accept("after"):
            while not depends_on or line.sees("%"):
                depends_on.append(line.reference("%", "an instruction, like %7"))
        cause = line.one_of(_CAUSES, "a cause") if line.accept("cause") else Cause.NONE
        if has_table:
            number = line.after("attributes").integer()
            if not 0 <= number < len(self._attrs):
                raise line.error(f"a number of attributes below {len(self._attrs)}")
            self._attrs_of_instruction.append(number)
            attrs = self._attrs[number]
        else:
            attrs = _attrs(line)
        try:
            builder.emit(engine, unit, opcode, outputs, inputs, op, depends_on, cause, attrs)
        except InputError as error:
            raise line.refusal(str(error)) from error


def _once(line: Line) -> OnceRecord:
    line.after("once")
    instructions = line.integer()
    ops = line.after("instructions").integer()
    groups = line.after("ops").integer()
    fused = _least(line.after("groups").after("fused"))
    chain_ps = line.after("chain").integer()
    line.after("ps")
    return OnceRecord(instructions, ops, groups, fused, chain_ps)


def _operands(line: Line) -> list[Operand]:
    operands = [_operand(line)]
    while line.accept(","):
        operands.append(_operand(line))
    return operands


def _operand(line: Line) -> Operand:
    space = line.one_of(_SPACES, "a memory")
    address = line.after("[").integer("an address")
    line.after("]")
    dtype = line.one_of(_DTYPES, "a type")
    shape = _shape(line)
    if len(shape) > MAX_RANK:
        raise line.error(f"at most {MAX_RANK} dimensions before this, not {len(shape)}")
    strides = dense_strides(shape, dtype)
    if line.accept("strides"):
        strides = tuple(
            (line.after(",") if k else line).integer("a stride") for k in range(len(shape))
        )
    tensor = line.reference("t", "a tensor, like t7") if line.starts("t") else -1
    return Operand(tensor, space, address, dtype, shape, strides)


def _shape(line: Line) -> tuple[int, ...]:
    text = line.take(_SHAPE, "a shape, like 8x64, or scalar")
    return () if text == "scalar" else tuple(int(count) for count in text.split("x"))


def _tensor(line: Line, builder: ProgramBuilder) -> TensorRecord:
    line.after(f"t{len(builder.tensors)}")
    name = line.name()
    dtype = line.one_of(_DTYPES, "a type")
    shape = _shape(line)
    role = line.one_of(_ROLES, "a role")
    address = line.after("@").integer("an address")
    nbytes = line.integer("a size")
    line.after("bytes")
    numbers = _numbers(line)
    scale_tensor = line.reference("t", "a tensor, like t7") if line.accept("scales") else -1
    constant = line.name() if line.accept("constant") else ""
    return TensorRecord(name, dtype, shape, role, address, nbytes, numbers, scale_tensor, constant)


def _numbers(line: Line) -> Numbers:
    if line.accept("scale"):
        scale = float(line.number())
        try:
            return steps_of(scale)
        except InputError as error:
            raise line.refusal(str(error)) from error
    found = (n for n in (UNCALIBRATED, ROW_NORMALISED) if line.accept(n.meaning.name.lower()))
    return next(found, PLAIN)


def _op(line: Line, builder: ProgramBuilder) -> OpRecord:
    line.after(f"op{len(builder.ops)}")
    name, kind, origin = line.name(), line.name(), []
    if line.accept("from"):
        origin.append(line.name())
        while line.accept(","):
            origin.append(line.name())
    scope = line.name() if line.accept("scope") else ""
    macs = line.integer() if line.accept("macs") else 0
    least, bound_bytes = EngineBounds(), 0
    if line.accept("bound"):
        least, bound_bytes = _least(line), line.integer()
        line.after("bytes")
    tile = line.name() if line.accept("tile") else ""
    group = line.integer() if line.accept("group") else 0
    return OpRecord(name, kind, tuple(origin), scope, macs, least, bound_bytes, tile, group)


def _least(line: Line) -> EngineBounds:
    values = {
        f"{kind.name.lower()}_ps": line.integer()
        for kind in EngineKind
        if line.accept(kind.name.lower())
    }
    line.after("ps")
    return EngineBounds(**values)


def _group(line: Line, builder: ProgramBuilder) -> GroupRecord:
    line.after(f"g{len(builder.groups)}")
    stripe = line.after("stripe").integer()
    sweeps = line.integer() if line.accept("sweeps") else 1
    rolling, kept, shared = (_tensors(line, word) for word in ("rolls", "keeps", "shares"))
    apart_bytes = line.after("apart").integer("a size")
    line.after("bytes")
    border = line.name() if line.accept("border") else ""
    return GroupRecord(stripe, rolling, kept, shared, apart_bytes, border, sweeps)


def _tensors(line: Line, word: str) -> tuple[int, ...]:
    found: list[int] = []
    if line.accept(word):
        found.append(line.reference("t", "a tensor, like t7"))
        while line.accept(","):
            found.append(line.reference("t", "a tensor, like t7"))
    return tuple(found)


def _resident(line: Line) -> ResidentRecord:
    tensor = line.reference("t", "a tensor, like t7")
    first = line.reference("g", "a group, like g3")
    last = line.after("..").reference("g", "a group, like g3")
    nbytes = line.integer("a size")
    line.after("bytes")
    alone = line.accept("alone")
    over = line.reference("t", "a tensor, like t7") if line.accept("over") else None
    return ResidentRecord(tensor, first, last, nbytes, alone, over)


def _buffer(line: Line) -> BufferRecord:
    space = line.one_of(_SPACES, "a memory")
    address, nbytes = line.integer("an address"), line.integer("a size")
    first = line.after("bytes").reference("%", "an instruction, like %7")
    last = line.after("..").reference("%", "an instruction, like %7")
    return BufferRecord(line.name(), space, address, nbytes, first, last)


def _attrs_row(line: Line, rows: list[Attrs]) -> Attrs:
    line.after(str(len(rows)))
    return _attrs(line)


def _attrs(line: Line) -> Attrs:
    """``key=value`` to the end of the line; JSON's lists are tuples here."""

    def frozen(value: Any) -> Any:
        return tuple(frozen(v) for v in value) if isinstance(value, list) else value

    pairs = []
    while not line.at_end():
        key = line.name("name=value")
        pairs.append((key, frozen(line.after("=").json())))
    return tuple(pairs)
