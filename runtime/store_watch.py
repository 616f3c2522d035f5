"""Watches a program's execution and sees every DRAM tensor once it is whole.

With ``replace``, what was stored is overwritten by the reference, rounded to the tensor's type and
numbers: then every op reads reference values, and what it makes shows its own error alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.isa import DType, Role, Space
from edgefusion.runtime.kernels.contract import Operands
from edgefusion.runtime.program import Instruction, Operand, Program, TensorRecord
from edgefusion.runtime.stored_values import from_real

Array = npt.NDArray[Any]
Whole = Callable[[str, TensorRecord, Array], None]
"""Called with an op's name, a tensor it made, and the tensor's stored values."""

_WATCHED = (Role.ACTIVATION, Role.OUTPUT)
_TYPES = (DType.INT16, DType.FP16, DType.FP32)


class StoreWatch:
    """The ``observe`` of ``runtime.executor.Executor.run``.

    ``references`` hold real values by tensor name; tensors without one pass unseen. Attention
    scores that a schedule spills, and statistics of norms, are part of their op and pass as well.
    """

    def __init__(
        self, program: Program, references: Mapping[str, Array], whole: Whole, *, replace: bool
    ) -> None:
        self._program, self._whole, self._replace = program, whole, replace
        self._references = references
        self._partial: dict[int, tuple[Array, int]] = {}

    def __call__(self, index: int, instruction: Instruction, operands: Operands) -> None:  # noqa: ARG002
        """See ``runtime.executor.Observe``."""
        for operand, view, numbers in zip(
            instruction.outputs, operands.outputs, operands.output_numbers, strict=True
        ):
            if operand.space is not Space.DRAM or operand.tensor < 0:
                continue
            record = self._program.tensors[operand.tensor]
            name = reference_name(record.name)
            if record.role not in _WATCHED or record.dtype not in _TYPES:
                continue
            if name not in self._references:
                continue
            self._note(self._program.ops[instruction.op].name, record, operand, view)
            if self._replace:
                exact = part_of(np.ravel(self._references[name]), record, operand)
                view[...] = from_real(exact, record.dtype, numbers)

    def _note(self, op: str, record: TensorRecord, operand: Operand, view: Array) -> None:
        if operand.tensor not in self._partial:
            self._partial[operand.tensor] = (np.empty(record.shape, record.dtype.numpy), 0)
        values, count = self._partial.pop(operand.tensor)
        part_of(values.reshape(-1), record, operand)[...] = view
        count += operand.elements
        if count < values.size:
            self._partial[operand.tensor] = (values, count)
        else:
            self._whole(op, record, values)


def part_of(flat: Array, record: TensorRecord, operand: Operand) -> Array:
    """The elements of ``flat``, which holds the values of ``record``, that ``operand`` views."""
    size = record.dtype.nbytes
    start = (operand.address - record.address) // size
    strides = tuple(stride // size * flat.itemsize for stride in operand.strides)
    return np.lib.stride_tricks.as_strided(flat[start:], operand.shape, strides)


def reference_name(tensor: str) -> str:
    """The graph's name of a tensor: what a conversion makes is called ``<source>:<type>``."""
    for suffix in (":int16", ":fp16", ":fp32"):
        tensor = tensor.removesuffix(suffix)
    return tensor
