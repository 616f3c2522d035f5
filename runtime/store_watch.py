"""Watches a program's execution and sees every tensor between ops once it is whole.

A tensor is seen where it is stored in DRAM; one that others read from SRAM, as it is written there
(``runtime.sram_homes``); a product that its gated unit takes tile by tile, as tiles of it are made
(``runtime.tiles_of_products``). With ``replace``, what was written is overwritten by the reference,
rounded to the tensor's type and numbers: then every op reads reference values, and what it makes
shows its own error alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.groups import STATISTICS
from edgefusion.runtime.isa import DType, Role, Space
from edgefusion.runtime.kernels.contract import Operands
from edgefusion.runtime.program import Instruction, Operand, Program, TensorRecord
from edgefusion.runtime.sram_homes import SramHomes, Stripes
from edgefusion.runtime.stored_values import from_real
from edgefusion.runtime.tiles_of_products import Place, places_of_tiles

Array = npt.NDArray[Any]
Whole = Callable[[str, TensorRecord, Array], None]
"""Called with the name of an op of the program, a tensor it made, and the stored values."""

_WATCHED = (Role.ACTIVATION, Role.OUTPUT)
_TYPES = (DType.INT16, DType.FP16, DType.FP32)


class StoreWatch:
    """The ``observe`` of ``runtime.executor.Executor.run``.

    ``references`` hold real values by tensor name; tensors without one pass unseen. Attention
    scores that a schedule spills, and statistics of norms, are part of their op and pass as well,
    and so do values that an op computes for its statistics alone, before it does so again, and
    those that it computes again for other channels of a later op.
    ``stripes`` are those of the program's groups, by group and tensor.
    """

    def __init__(
        self,
        program: Program,
        references: Mapping[str, Array],
        whole: Whole,
        *,
        replace: bool,
        stripes: Mapping[tuple[int, int], Stripes] | None = None,
    ) -> None:
        self._program, self._whole, self._replace = program, whole, replace
        self._references = references
        self._partial: dict[int, tuple[Array, int]] = {}
        self._seen: set[int] = set()
        self._homes = SramHomes(program, stripes or {})
        self._tiles = places_of_tiles(program, stripes or {})

    def __call__(self, index: int, instruction: Instruction, operands: Operands) -> None:
        """See ``runtime.executor.Observe``."""
        for operand, view, numbers in zip(
            instruction.outputs, operands.outputs, operands.output_numbers, strict=True
        ):
            place = self._place(index, instruction, operand)
            if place is None:
                continue
            record = self._program.tensors[operand.tensor]
            name = reference_name(record.name)
            if name not in self._references:
                continue
            op = self._program.ops[instruction.op].name
            if not op.endswith(STATISTICS):
                self._note(op, record, operand, view, place)
            if self._replace:
                exact = part_of(np.ravel(self._references[name]), record, operand, place)
                view[...] = from_real(exact, record.dtype, numbers)

    def _place(self, index: int, instruction: Instruction, operand: Operand) -> Place | None:
        """Which finished part of its tensor ``operand`` is; None where it is not one."""
        if operand.tensor < 0:
            return None
        record = self._program.tensors[operand.tensor]
        if record.role not in _WATCHED and not record.stays_in_sram:
            return None
        if record.dtype not in _TYPES or record.dtype is not operand.dtype:
            return None
        if index in self._tiles:
            return self._tiles[index]
        if operand.space is Space.SRAM:
            base = self._homes.base(instruction, operand)
        else:
            base = None if self._homes.has(instruction, operand) else record.address
        return None if base is None else Place.of(operand, base)

    def _note(
        self, op: str, record: TensorRecord, operand: Operand, view: Array, place: Place
    ) -> None:
        if operand.tensor in self._seen:
            return
        if operand.tensor not in self._partial:
            self._partial[operand.tensor] = (np.empty(record.shape, record.dtype.numpy), 0)
        values, count = self._partial.pop(operand.tensor)
        part_of(values.reshape(-1), record, operand, place)[...] = view
        count += operand.elements
        if count < values.size:
            self._partial[operand.tensor] = (values, count)
        else:
            self._seen.add(operand.tensor)
            self._whole(op, record, values)


def part_of(
    flat: Array, record: TensorRecord, operand: Operand, place: Place | None = None
) -> Array:
    """The elements of ``flat``, which holds the values of ``record``, that ``operand`` views;
    ``place`` says which, where that does not follow from the record's address.

    Raises InputError where it views anything else.
    """
    at = place or Place.of(operand, record.address)
    last = at.start + sum((n - 1) * step for n, step in zip(operand.shape, at.steps, strict=True))
    if at.start < 0 or last >= flat.size:
        raise InputError(
            f"expected a part of the {flat.size} elements of {record.name}, found {at.start} to "
            f"{last}"
        )
    strides = tuple(step * flat.itemsize for step in at.steps)
    return np.lib.stride_tricks.as_strided(flat[at.start :], operand.shape, strides)


def reference_name(tensor: str) -> str:
    """The graph's name of a tensor: what a conversion makes is called ``<source>:<type>``."""
    for suffix in (":int16", ":fp16", ":fp32"):
        tensor = tensor.removesuffix(suffix)
    return tensor
