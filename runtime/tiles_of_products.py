"""Where in a product its tiles belong, when a gated unit reads them at once (``Opcode.GLU``).

Such a product is nowhere whole: one op multiplies a tile of the values and one of the gates, hands
both to the unit, and computes the next ones over them. Where the unit's result goes says which
tiles they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.program import Instruction, Operand, Program
from edgefusion.runtime.sram_homes import SramHomes, Stripes


@dataclass(frozen=True, slots=True)
class Place:
    """Which elements of a tensor an operand is: the first one, and the step along each axis, all
    counted in elements."""

    start: int
    steps: tuple[int, ...]

    @classmethod
    def of(cls, operand: Operand, base: int) -> Place:
        """In a tensor that lies at address ``base``, in rows as long as the operand's."""
        size = operand.dtype.nbytes
        steps = tuple(stride // size for stride in operand.strides)
        return cls((operand.address - base) // size, steps)


@dataclass(frozen=True, slots=True)
class _Tiles:
    """The instructions that made the values and the gates, and the columns of their product."""

    makers: tuple[int, ...]
    columns: int

    def places(self, result: Place) -> dict[int, Place]:
        """Where they belong if the unit's result is there: in the same row and column of either
        half of the product."""
        half = self.columns // 2
        row, column = divmod(result.start, half)
        starts = (row * self.columns + column + side * half for side in (0, 1))
        return {
            index: Place(start, (self.columns, 1))
            for index, start in zip(self.makers, starts, strict=True)
        }


def places_of_tiles(
    program: Program, stripes: Mapping[tuple[int, int], Stripes]
) -> dict[int, Place]:
    """By instruction that makes a tile of a product which the gated unit of its own op reads, where
    it belongs. ``stripes`` are those of the program's groups (``runtime.sram_homes``)."""
    c = program.columns
    units, products = (set(c.op[c.opcode == code].tolist()) for code in _BOTH)
    homes = SramHomes(program, stripes)
    made: dict[tuple[int, int], int] = {}
    """By op and address, the instruction that wrote a tile there last."""
    to_store: dict[tuple[int, int], _Tiles] = {}
    """By op and address of a result that is on its way to DRAM."""
    found: dict[int, Place] = {}
    for index in np.flatnonzero(np.isin(c.op, sorted(units & products))).tolist():
        i = program.instruction(index)
        if i.opcode is Opcode.MATMUL:
            made[i.op, i.outputs[0].address] = index
        elif i.opcode is Opcode.GLU:
            tiles = _read(program, i, made)
            result = i.outputs[0]
            base = homes.base(i, result)
            if base is not None:
                found |= tiles.places(Place.of(result, base))
            else:
                to_store[i.op, result.address] = tiles
        elif i.opcode is Opcode.STORE:
            stored = to_store.pop((i.op, i.inputs[0].address), None)
            if stored is not None:
                target = i.outputs[0]
                base = program.tensors[target.tensor].address
                found |= stored.places(Place.of(target, base))
    return found


_BOTH = (Opcode.GLU, Opcode.MATMUL)


def _read(program: Program, unit: Instruction, made: Mapping[tuple[int, int], int]) -> _Tiles:
    columns = program.tensors[unit.inputs[0].tensor].shape[-1]
    return _Tiles(tuple(made[unit.op, half.address] for half in unit.inputs), columns)
