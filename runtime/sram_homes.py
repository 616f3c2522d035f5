"""Where in SRAM the tensors of a program are that ops leave there for others.

A tensor that stays whole has one address. One that rolls is written stripe after stripe, each in
the next of a few slots and behind the rows that it keeps of the one before: which rows a write is
of follows from how much of which stripe has been written to its slot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from edgefusion.runtime.isa import Opcode, Space
from edgefusion.runtime.program import BufferRecord, Instruction, Operand, Program

_NUMBERED = re.compile(r"(.*)\[(\d+)\]")


def slot_of(name: str) -> tuple[str, int]:
    """What the buffer is called of which ``name`` is a slot, and the number of that: 0 where there
    is one alone."""
    numbered = _NUMBERED.fullmatch(name)
    return (numbered[1], int(numbered[2])) if numbered else (name, 0)


@dataclass(frozen=True, slots=True)
class Stripe:
    """Rows ``begin`` to ``stop`` (exclusive) of a tensor, behind those from ``first`` on, which
    are kept of the stripe before."""

    first: int
    begin: int
    stop: int


@dataclass(frozen=True, slots=True)
class Stripes:
    """Those of a tensor, in the order in which they are computed: in the slots of the tensor
    ``place``, by number, its own or that of what is computed over it."""

    place: int
    made: tuple[Stripe, ...]


@dataclass(slots=True)
class _Slot:
    """One of the places of stripes: which one is being written there, and what is left of it."""

    address: int
    nbytes: int
    turn: int
    left: int


@dataclass(slots=True)
class _Rolling:
    """A tensor that rolls through ``slots``, in rows of ``row`` elements of ``size`` bytes."""

    stripes: tuple[Stripe, ...]
    row: int
    size: int
    slots: list[_Slot] = field(default_factory=list)

    def use(self, buffers: Mapping[int, BufferRecord]) -> None:
        """The slots by number: the one after the first comes first, and the first last."""
        for number in sorted(buffers):
            turn = (number or max(buffers) + 1) - 1
            buffer = buffers[number]
            self.slots.append(_Slot(buffer.address, buffer.nbytes, turn, self._elements(turn)))

    def base(self, operand: Operand) -> int | None:
        """The address of the tensor's first element, were it all there; counts what is written."""
        for slot in self.slots:
            if 0 <= operand.address - slot.address < slot.nbytes:
                if slot.left <= 0:  # of the stripe before: this one is the next
                    slot.turn += len(self.slots)
                    slot.left = self._elements(slot.turn)
                if slot.turn >= len(self.stripes):
                    return None
                slot.left -= operand.elements
                first = self.stripes[slot.turn].first
                return slot.address - first * self.row * self.size
        return None

    def _elements(self, turn: int) -> int:
        if turn >= len(self.stripes):
            return 0
        stripe = self.stripes[turn]
        return (stripe.stop - stripe.begin) * self.row


class SramHomes:
    """Follows one execution of ``program``; ``stripes`` are those of its groups, by group and
    tensor (none where they are not known: then what rolls is not found)."""

    def __init__(self, program: Program, stripes: Mapping[tuple[int, int], Stripes]) -> None:
        self._program = program
        self._whole: dict[tuple[int, int], BufferRecord] = {}
        self._rolling: dict[tuple[int, int], _Rolling] = {}
        buffers = {b.name: b for b in program.buffers if b.space is Space.SRAM}
        homes: dict[int, BufferRecord] = {}
        for r in program.residents:
            own = buffers.get(program.tensors[r.tensor].name)
            home = own if r.over is None else homes.get(r.over)
            if home is not None:
                homes[r.tensor] = self._whole[r.first, r.tensor] = home
        slots: dict[str, dict[int, BufferRecord]] = {}
        for name, buffer in buffers.items():
            label, slot = slot_of(name)
            slots.setdefault(label, {})[slot] = buffer
        members: dict[int, list[str]] = {}
        for op in program.ops:
            members.setdefault(op.group, []).append(op.name)
        for (group, tensor), found in stripes.items():
            record, place = program.tensors[tensor], program.tensors[found.place]
            for op_name in members.get(group, ()):
                if places := slots.get(f"{op_name}:out.{place.name}"):
                    rolling = _Rolling(found.made, record.shape[-1], record.dtype.nbytes)
                    rolling.use(places)
                    self._rolling[group, tensor] = rolling

    def has(self, instruction: Instruction, operand: Operand) -> bool:
        """Whether the tensor of ``operand`` is written to SRAM by the group of ``instruction``."""
        key = self._program.ops[instruction.op].group, operand.tensor
        return key in self._whole or key in self._rolling

    def base(self, instruction: Instruction, operand: Operand) -> int | None:
        """The address at which the tensor begins of which ``instruction`` writes ``operand``; None
        where that is no finished part of a tensor that others read there."""
        copies = instruction.opcode is Opcode.COPY and any(
            source.tensor == operand.tensor and source.space is Space.SRAM
            for source in instruction.inputs
        )  # rows that were written before
        if copies or not prod(operand.shape):
            return None
        key = self._program.ops[instruction.op].group, operand.tensor
        if key in self._whole:
            home = self._whole[key]
            inside = 0 <= operand.address - home.address < home.nbytes
            return home.address if inside else None  # a copy elsewhere, of which sums are made
        return self._rolling[key].base(operand) if key in self._rolling else None
