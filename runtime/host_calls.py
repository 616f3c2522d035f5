"""What a program hands to the host: each function it calls, and the bytes across that boundary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.program import Operand, Program


@dataclass(frozen=True, slots=True)
class CallTraffic:
    """One evaluation's calls of a host function, and the bytes of their operands in DRAM."""

    function: str
    calls: int
    input_bytes: int
    output_bytes: int


def call_traffic(program: Program) -> tuple[CallTraffic, ...]:
    """By function, in the order of first calls."""
    found: dict[str, CallTraffic] = {}
    for index in np.flatnonzero(program.columns.opcode == Opcode.CALL):
        instruction = program.instruction(int(index))
        name = str(dict(instruction.attrs)["function"])
        known = found.get(name, CallTraffic(name, 0, 0, 0))
        found[name] = CallTraffic(
            name,
            known.calls + 1,
            known.input_bytes + _nbytes(instruction.inputs),
            known.output_bytes + _nbytes(instruction.outputs),
        )
    return tuple(found.values())


def _nbytes(operands: tuple[Operand, ...]) -> int:
    return sum(operand.elements * operand.dtype.nbytes for operand in operands)
