"""Watches a program's execution and sees every tensor between ops once it is whole.

A tensor is seen where it is stored in DRAM; one that others read from SRAM, as it is written there
(``runtime.sram_homes``). With ``replace``, what was written is overwritten by the reference,
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

Array = npt.NDArray[Any]
Whole = Callable[[str, TensorRecord, Array], None]
"""Called with an op's name, a tensor it made, and the tensor's stored values."""

_WATCHED = (Role.ACTIVATION, Role.OUTPUT)
_TYPES = (DType.INT16, DType.FP16, DType.FP32)


class StoreWatch:
    """The ``observe`` of ``runtime.executor.Executor.run``.

    ``references`` hold real values by tensor name; tensors without one pass unseen. Attention
    scores that a schedule spills, and statistics of norms, are part of their op and pass as well,
    and so do values that an op computes for its statistics alone, before it does so again.
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
        self._homes = SramHomes(program, stripes or {})

    def __call__(self, index: int, instruction: Instruction, operands: Operands) -> None:  # noqa: ARG002
        """See ``runtime.executor.Observe``."""
        for operand, view, numbers in zip(
            instruction.outputs, operands.outputs, operands.output_numbers, strict=True
        ):
            base = self._base(instruction, operand)
            if base is None:
                continue
            record = self._program.tensors[operand.tensor]
            name = reference_name(record.name)
            if name not in self._references:
                continue
            op = self._program.ops[instruction.op].name
            if not op.endswith(STATISTICS):
                self._note(op, record, operand, view, base)
            if self._replace:
                exact = part_of(np.ravel(self._references[name]), record, operand, base)
                view[...] = from_real(exact, record.dtype, numbers)

    def _base(self, instruction: Instruction, operand: Operand) -> int | None:
        """The address at which the tensor begins of which ``operand`` is a finished part; None
        where it is not one."""
        if operand.tensor < 0:
            return None
        record = self._program.tensors[operand.tensor]
        if record.role not in _WATCHED and not record.stays_in_sram:
            return None
        if record.dtype not in _TYPES or record.dtype is not operand.dtype:
            return None
        if operand.space is Space.SRAM:
            return self._homes.base(instruction, operand)
        return None if self._homes.has(instruction, operand) else record.address

    def _note(
        self, op: str, record: TensorRecord, operand: Operand, view: Array, base: int
    ) -> None:
        if operand.tensor not in self._partial:
            self._partial[operand.tensor] = (np.empty(record.shape, record.dtype.numpy), 0)
        values, count = self._partial.pop(operand.tensor)
        part_of(values.reshape(-1), record, operand, base)[...] = view
        count += operand.elements
        if count < values.size:
            self._partial[operand.tensor] = (values, count)
        else:
            self._whole(op, record, values)


def part_of(flat: Array, record: TensorRecord, operand: Operand, base: int | None = None) -> Array:
    """The elements of ``flat``, which holds the values of ``record``, that ``operand`` views;
    ``base`` is the address of the first one, where that is not the record's.

    Raises InputError where it views anything else.
    """
    size = record.dtype.nbytes
    start = (operand.address - (record.address if base is None else base)) // size
    steps = [stride // size for stride in operand.strides]
    last = start + sum((n - 1) * step for n, step in zip(operand.shape, steps, strict=True))
    if start < 0 or last >= flat.size:
        raise InputError(
            f"expected a part of the {flat.size} elements of {record.name}, found {start} to {last}"
        )
    strides = tuple(step * flat.itemsize for step in steps)
    return np.lib.stride_tricks.as_strided(flat[start:], operand.shape, strides)


def reference_name(tensor: str) -> str:
    """The graph's name of a tensor: what a conversion makes is called ``<source>:<type>``."""
    for suffix in (":int16", ":fp16", ":fp32"):
        tensor = tensor.removesuffix(suffix)
    return tensor
