"""Writes a program in the syntax that ``runtime.program_text`` describes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, TextIO

from edgefusion.runtime.groups import EngineBounds, GroupRecord, ResidentRecord
from edgefusion.runtime.isa import Cause, DType, EngineKind, Space
from edgefusion.runtime.program import (
    BufferRecord,
    Instruction,
    Operand,
    OpRecord,
    Program,
    TensorRecord,
    dense_strides,
)
from edgefusion.runtime.tensor_numbers import PLAIN
from edgefusion.runtime.text_line import name_text

DTYPE_NAMES = {
    DType.INT8: "i8",
    DType.INT16: "i16",
    DType.INT32: "i32",
    DType.INT64: "i64",
    DType.FP16: "f16",
    DType.FP32: "f32",
    DType.UINT8: "u8",
    DType.BOOL: "bool",
    DType.UINT64: "u64",
    DType.FP64: "f64",
}


def to_text(program: Program) -> str:
    """The whole program as text."""
    file = io.StringIO()
    write_text(program, file)
    return file.getvalue()


def write_text(program: Program, file: TextIO, first: int = 0, last: int | None = None) -> None:
    """Write instructions ``first`` to ``last`` (inclusive; to the end by default).

    The whole program comes with its tables and can be parsed back; a part comes with the ops and
    tensors that it names.
    """
    stop = len(program) if last is None else min(last + 1, len(program))
    if first > 0 or stop < len(program):
        for line in _excerpt_lines(program, first, stop):
            file.write(line + "\n")
        file.write(f"\n# instructions {first} to {stop - 1} of {len(program)}\n")
    else:
        for line in _table_lines(program):
            file.write(line + "\n")
        file.write("\ninstructions\n")
    shared = _attrs_in_order_of_use(program)
    for index in range(first, stop):
        attrs = None if shared or stop - first < len(program) else int(program.columns.attrs[index])
        file.write(instruction_text(program.instruction(index), index, attrs) + "\n")


def instruction_text(instruction: Instruction, index: int, attrs_index: int | None = None) -> str:
    """One instruction; its attributes in full, or by number in the table of attributes."""
    i = instruction
    outputs = ", ".join(operand_text(operand) for operand in i.outputs)
    inputs = ", ".join(operand_text(operand) for operand in i.inputs)
    parts = [f"%{index} {i.engine.name.lower()}{i.unit} {i.opcode.name.lower()}"]
    parts.extend(text for text in (outputs, f"<- {inputs}" if inputs else "") if text)
    line = f"{' '.join(parts)}; op{i.op}"
    if i.depends_on:
        line += " after " + " ".join(f"%{d}" for d in i.depends_on)
    if i.cause != Cause.NONE:
        line += f" cause {i.cause.name.lower()}"
    if attrs_index is not None:
        return f"{line} attributes {attrs_index}"
    return line + _attrs_text(i.attrs)


def operand_text(operand: Operand) -> str:
    """``sram[0x40] i16 8x64 strides 256,2 t0``; contiguous strides and tensor -1 are left out."""
    shape = "x".join(map(str, operand.shape)) or "scalar"
    text = f"{operand.space.name.lower()}[{_hex(operand.address)}] "
    text += f"{DTYPE_NAMES[operand.dtype]} {shape}"
    if operand.strides != dense_strides(operand.shape, operand.dtype):
        text += " strides " + ",".join(map(str, operand.strides))
    return text if operand.tensor == -1 else f"{text} t{operand.tensor}"


def _table_lines(program: Program) -> Iterator[str]:
    p = program
    component, target, schedule = map(name_text, (p.component, p.target, p.schedule))
    yield f"program {component} for {target} schedule {schedule} version {p.version}"
    fused = f" fused{_least_text(p.fused)}" if p.fused != EngineBounds() else ""
    chain = f" chain {p.chain_ps} ps" if p.chain_ps else ""
    yield f"sram {p.sram_bytes} dram {p.dram_bytes}{fused}{chain}"
    if p.once is not None:
        o = p.once
        text = f"once {o.instructions} instructions {o.ops} ops {o.groups} groups"
        yield f"{text} fused{_least_text(o.fused)} chain {o.chain_ps} ps"
    yield "\ntensors"
    yield from (_tensor_text(index, record) for index, record in enumerate(p.tensors))
    yield "\nops"
    yield from (_op_text(index, record) for index, record in enumerate(p.ops))
    if p.groups:
        yield "\ngroups"
        yield from (_group_text(index, record) for index, record in enumerate(p.groups))
    if p.residents:
        yield "\nresidents"
        yield from (_resident_text(record) for record in p.residents)
    yield "\nbuffers"
    yield from (_buffer_text(record) for record in p.buffers)
    if not _attrs_in_order_of_use(p):
        yield "\nattributes"
        yield from (f"{index}{_attrs_text(attrs)}" for index, attrs in enumerate(p.attrs))


def _excerpt_lines(program: Program, first: int, stop: int) -> Iterator[str]:
    """The ops and tensors that instructions ``first`` to ``stop`` (exclusive) name."""
    c = program.columns
    rows = slice(int(c.operand_begin[first]), int(c.operand_begin[stop]))
    for index in sorted(set(c.op[first:stop].tolist())):
        yield _op_text(index, program.ops[index])
    for index in sorted(set(c.operand_tensor[rows].tolist()) - {-1}):
        yield _tensor_text(index, program.tensors[index])


def _tensor_text(index: int, t: TensorRecord) -> str:
    shape = "x".join(map(str, t.shape)) or "scalar"
    text = f"t{index} {name_text(t.name)} {DTYPE_NAMES[t.dtype]} {shape} {t.role.name.lower()} "
    text += f"@{_hex(t.address)} {t.nbytes} bytes"
    if t.numbers.scale is not None:
        text += f" scale {json.dumps(t.numbers.scale)}"
    elif t.numbers != PLAIN:
        text += f" {t.numbers.meaning.name.lower()}"
    if t.scale_tensor != -1:
        text += f" scales t{t.scale_tensor}"
    return f"{text} constant {name_text(t.constant)}" if t.constant else text


def _op_text(index: int, op: OpRecord) -> str:
    text = f"op{index} {name_text(op.name)} {name_text(op.kind)}"
    if op.origin:
        text += " from " + ", ".join(name_text(node) for node in op.origin)
    if op.scope:
        text += f" scope {name_text(op.scope)}"
    if op.macs:
        text += f" macs {op.macs}"
    if op.bound_ps or op.bound_bytes:
        text += f" bound{_least_text(op.least)} {op.bound_bytes} bytes"
    if op.tile:
        text += f" tile {name_text(op.tile)}"
    return f"{text} group {op.group}" if op.group else text


def _least_text(least: EngineBounds) -> str:
    """`` tensor 5 dma 900 ps``; engines without a bound are left out."""
    named = ((kind.name.lower(), least.of(kind)) for kind in EngineKind)
    return "".join(f" {name} {ps}" for name, ps in named if ps) + " ps"


def _group_text(index: int, g: GroupRecord) -> str:
    text = f"g{index} stripe {g.stripe}"
    if g.sweeps != 1:
        text += f" sweeps {g.sweeps}"
    for word, tensors in (("rolls", g.rolling), ("keeps", g.kept), ("shares", g.shared)):
        if tensors:
            text += f" {word} " + ", ".join(f"t{tensor}" for tensor in tensors)
    text += f" apart {g.apart_bytes} bytes"
    return f"{text} border {name_text(g.border)}" if g.border else text


def _resident_text(r: ResidentRecord) -> str:
    text = f"t{r.tensor} g{r.first}..g{r.last} {r.nbytes} bytes"
    text += " alone" if r.alone else ""
    return text if r.over is None else f"{text} over t{r.over}"


def _buffer_text(b: BufferRecord) -> str:
    space = Space(b.space).name.lower()
    return f"{space} {_hex(b.address)} {b.nbytes} bytes %{b.first}..%{b.last} {name_text(b.name)}"


def _attrs_text(attrs: tuple[tuple[str, Any], ...]) -> str:
    return "".join(f" {name_text(key)}={json.dumps(value)}" for key, value in attrs)


def _attrs_in_order_of_use(program: Program) -> bool:
    """Whether the table of attributes is the one that ProgramBuilder makes, and need not be shown.

    Compared as JSON text, because Python holds 1, 1.0 and True for one key.
    """
    used = dict.fromkeys([0, *program.columns.attrs.tolist()])
    distinct = {json.dumps(entry) for entry in program.attrs}
    return (
        list(used) == list(range(len(program.attrs)))
        and program.attrs[0] == ()
        and len(set(program.attrs)) == len(distinct) == len(program.attrs)
    )


def _hex(value: int) -> str:
    return f"{value:#x}"
