"""Programs with planted faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.program import BufferRecord, Instruction, Operand, Program
from edgefusion.runtime.program_builder import ProgramBuilder

Edit = Callable[[Instruction], Instruction]


def edited(program: Program, edits: Mapping[int, Edit]) -> Program:
    """``program`` with the instructions at some indices changed."""
    builder = ProgramBuilder(program.component, program.target, program.schedule)
    builder.ops, builder.tensors = list(program.ops), list(program.tensors)
    builder.buffers = list(program.buffers)
    for index, instruction in enumerate(program.instructions()):
        builder.append(edits[index](instruction) if index in edits else instruction)
    return builder.build(sram_bytes=program.sram_bytes, dram_bytes=program.dram_bytes)


def with_buffers(program: Program, change: Callable[[BufferRecord], BufferRecord]) -> Program:
    """``program`` with other buffer records."""
    return replace(program, buffers=tuple(change(b) for b in program.buffers))


def indices(program: Program, opcode: Opcode, tensor: str = "") -> list[int]:
    """Instructions of ``opcode``, those on ``tensor`` only if it is given."""
    return [
        i
        for i, instruction in enumerate(program.instructions())
        if instruction.opcode is opcode
        and (not tensor or tensor in {program.tensors[o.tensor].name for o in instruction.inputs})
    ]


def moved(operand: Operand, nbytes: int) -> Operand:
    return operand._replace(address=operand.address + nbytes)


def target_moved(nbytes: int) -> Edit:
    """The result lands ``nbytes`` further on."""
    return lambda i: replace(i, outputs=tuple(moved(o, nbytes) for o in i.outputs))


def source_moved(nbytes: int) -> Edit:
    """The first operand is read ``nbytes`` further on."""
    return lambda i: replace(i, inputs=(moved(i.inputs[0], nbytes), *i.inputs[1:]))


def truncated(i: Instruction) -> Instruction:
    """A transfer of the first half of its rows."""

    def half(o: Operand) -> Operand:
        return o._replace(shape=(max(o.shape[0] // 2, 1), *o.shape[1:]))

    return replace(i, outputs=(half(i.outputs[0]),), inputs=(half(i.inputs[0]),))


def unordered(i: Instruction) -> Instruction:
    """An instruction that waits for nothing."""
    return replace(i, depends_on=())
