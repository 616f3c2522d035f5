"""Rules of ``runtime.verifier`` on memory: addresses, DMA, buffers and hazards.

They trust that the form of the program is right (``runtime.rules_of_form``).
"""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.buffers import find_homeless, find_overlaps
from edgefusion.runtime.hazards import find_hazards, operand_ends
from edgefusion.runtime.isa import Cause, EngineKind, Role, Space
from edgefusion.runtime.opcodes import OPERAND_SPACE
from edgefusion.runtime.program import I64, BufferRecord, Program
from edgefusion.runtime.violation import Subject, Violation, Violations


def addresses(subject: Subject) -> Violations:
    """Operands lie in their memory, and DRAM operands in their tensor."""
    program, c = subject.program, subject.program.columns
    start, end = c.operand_address, operand_ends(c)
    size = np.zeros(len(Space), np.int64)
    size[Space.DRAM], size[Space.SRAM] = program.dram_bytes, subject.machine.sram_bytes
    out = (start < 0) | (end > size[c.operand_space])
    yield from subject.operands(
        "address",
        out,
        lambda r: (
            f"expected a range of {Space(int(c.operand_space[r])).name} within "
            f"[0x0, {size[c.operand_space[r]]:#x}), found [{start[r]:#x}, {end[r]:#x})"
        ),
    )
    records = [(t.address, t.address + t.nbytes) for t in program.tensors]
    low, high = np.array(records or [(0, 0)], dtype=np.int64).T
    tensor = c.operand_tensor
    astray = (c.operand_space == Space.DRAM) & ((start < low[tensor]) | (end > high[tensor]))
    yield from subject.operands(
        "tensor range",
        astray & ~out,
        lambda r: (
            f"expected a range of tensor {program.tensors[tensor[r]].name} within "
            f"[{low[tensor[r]]:#x}, {high[tensor[r]]:#x}), found [{start[r]:#x}, {end[r]:#x})"
        ),
    )


def engine_memories(subject: Subject) -> Violations:
    """Tensor and vector engines work in SRAM, the host in DRAM, DMA between the two."""
    program, c = subject.program, subject.program.columns
    space = c.operand_space
    expected = OPERAND_SPACE[c.opcode[_owners(program)], c.operand_is_output]
    yield from subject.operands(
        "engine memory",
        space != expected,
        lambda r: (
            f"expected the operand in {Space(int(expected[r])).name}, "
            f"found it in {Space(int(space[r])).name}"
        ),
    )


def dma(subject: Subject) -> Violations:
    """DMA copies between operands of one shape and type, and has a cause; nothing else has one."""
    program, c = subject.program, subject.program.columns
    is_dma = c.engine == EngineKind.DMA
    yield from subject.instructions(
        "cause",
        is_dma != (c.cause != Cause.NONE),
        lambda i: (
            f"expected {'a' if is_dma[i] else 'no'} cause, found {Cause(int(c.cause[i])).name}"
        ),
    )
    at = np.flatnonzero(is_dma)
    a, b = c.operand_begin[at], c.operand_begin[at] + 1
    same = (c.operand_shape[a] == c.operand_shape[b]).all(axis=1)
    differ = np.zeros(len(program), dtype=bool)
    differ[at] = ~same | (c.operand_dtype[a] != c.operand_dtype[b])

    def found(i: int) -> str:
        one, other = (*program.instruction(i).outputs, *program.instruction(i).inputs)
        return (
            f"expected one shape and type on both sides, found {one.dtype.name} {one.shape} "
            f"and {other.dtype.name} {other.shape}"
        )

    yield from subject.instructions("dma operands", differ, found)


def weights(subject: Subject) -> Violations:
    """No instruction writes to bytes of a weight."""
    program, c = subject.program, subject.program.columns
    ranges = [(t.address, t.address + t.nbytes) for t in program.tensors if t.role == Role.WEIGHT]
    rows = np.flatnonzero((c.operand_space == Space.DRAM) & (c.operand_is_output == 1))
    if not ranges or not len(rows):
        return
    low, high = np.array(sorted(ranges), dtype=np.int64).T
    highest = np.concatenate([[-1], np.maximum.accumulate(high)])
    before = np.searchsorted(low, operand_ends(c)[rows], side="left")  # weights that begin before
    wrong = np.zeros(len(c.operand_space), dtype=bool)
    wrong[rows] = highest[before] > c.operand_address[rows]
    message = "expected weights to be read only, found a write into one"
    yield from subject.operands("weight", wrong, lambda _: message)


def buffers(subject: Subject) -> Violations:
    """Buffers lie in their memory and in the program, live ones apart, SRAM operands in one."""
    program = subject.program
    size = {Space.DRAM: program.dram_bytes, Space.SRAM: subject.machine.sram_bytes}
    for b in program.buffers:
        lives = 0 <= b.first <= b.last < len(program)
        if not lives or b.address < 0 or b.nbytes < 0 or b.address + b.nbytes > size[b.space]:
            yield Violation(
                "buffer",
                -1,
                f"expected a buffer within {size[b.space]} bytes and {len(program)} instructions, "
                f"found {_buffer(b)}",
            )
    for one, other in find_overlaps(program, subject.limit):
        yield Violation(
            "buffer overlap",
            other.first,
            f"expected live buffers apart, found {_buffer(one)} and {_buffer(other)}",
        )
    c = program.columns
    homeless = np.zeros(len(c.operand_space), dtype=bool)
    homeless[find_homeless(program, subject.limit)] = True
    end = operand_ends(c)
    yield from subject.operands(
        "buffer range",
        homeless,
        lambda r: f"expected a live buffer around SRAM [{c.operand_address[r]:#x}, {end[r]:#x})",
    )


def hazards(subject: Subject) -> Violations:
    """Instructions that touch the same bytes, one of them writing, are ordered."""
    c = subject.program.columns
    end = operand_ends(c)
    for h in find_hazards(c, subject.limit):
        p, q = h.earlier_operand, h.later_operand
        later = "writes" if c.operand_is_output[q] else "reads"
        earlier = "writes" if c.operand_is_output[p] else "reads"
        yield Violation(
            "hazard",
            h.later,
            f"{later} what instruction {h.earlier} {earlier}, with no order between them: "
            f"{Space(int(c.operand_space[q])).name} [{c.operand_address[q]:#x}, {end[q]:#x}) and "
            f"[{c.operand_address[p]:#x}, {end[p]:#x})",
        )


def once(subject: Subject) -> Violations:
    """What runs once leaves all that is read later in DRAM, where nothing later overwrites it."""
    program, c = subject.program, subject.program.columns
    if program.once is None:
        return
    border = program.once.instructions
    later = _owners(program) >= border
    is_output, in_dram = c.operand_is_output == 1, c.operand_space == Space.DRAM
    tensors = np.intersect1d(
        c.operand_tensor[~later & is_output & in_dram],
        c.operand_tensor[later & ~is_output & in_dram],
    )
    start, end = c.operand_address, operand_ends(c)
    spoils = np.zeros(len(start), dtype=bool)
    for record in (program.tensors[index] for index in tensors.tolist()):
        spoils |= (start < record.address + record.nbytes) & (end > record.address)
    yield from subject.operands(
        "once",
        spoils & later & is_output & in_dram,
        lambda r: (
            f"expected what runs once to stay, found a write to DRAM [{start[r]:#x}, {end[r]:#x})"
        ),
    )
    for b in program.buffers:
        if b.space is Space.SRAM and b.first < border <= b.last:
            yield Violation(
                "once",
                border,
                f"expected nothing in SRAM from before instruction {border}, found {_buffer(b)}",
            )


def _buffer(b: BufferRecord) -> str:
    place = f"{b.space.name} [{b.address:#x}, {b.address + b.nbytes:#x})"
    return f"{b.name} in {place} from instruction {b.first} to {b.last}"


def _owners(program: Program) -> I64:
    """The instruction of each operand row."""
    return np.repeat(np.arange(len(program)), np.diff(program.columns.operand_begin))
