"""Appends instructions to growing columns and freezes them into a ``Program``.

Tuples of integers are the fastest thing Python can append; numpy takes them over once, in
``build``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.groups import EngineBounds, GroupRecord, OnceRecord, ResidentRecord
from edgefusion.runtime.isa import MAX_RANK, Cause, EngineKind, Opcode
from edgefusion.runtime.opcodes import check_attributes
from edgefusion.runtime.program import (
    BufferRecord,
    Columns,
    Instruction,
    Operand,
    OpRecord,
    Program,
    TensorRecord,
)
from edgefusion.runtime.specification import Attrs


class ProgramBuilder:
    """Collects instructions in program order."""

    def __init__(self, component: str, target: str, schedule: str) -> None:
        self.component, self.target, self.schedule = component, target, schedule
        self.ops: list[OpRecord] = []
        self.tensors: list[TensorRecord] = []
        self.buffers: list[BufferRecord] = []
        self.groups: list[GroupRecord] = []
        self.residents: list[ResidentRecord] = []
        self.fused = EngineBounds()
        self.chain_ps = 0
        self.once: OnceRecord | None = None
        self._attr_index: dict[Attrs, int] = {(): 0}
        self._checked: set[tuple[int, int]] = set()
        self._rows: list[tuple[int, int, int, int, int, int, int, int]] = []
        self._deps: list[int] = []
        self._operands: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def emit(
        self,
        engine: EngineKind,
        unit: int,
        opcode: Opcode,
        outputs: Sequence[Operand],
        inputs: Sequence[Operand],
        op: int,
        depends_on: Sequence[int] = (),
        cause: Cause = Cause.NONE,
        attrs: Attrs = (),
    ) -> int:
        """Append one instruction and return its index.

        Raises InputError for attributes that are not those of ``opcode``.
        """
        index = self._attr_index.setdefault(attrs, len(self._attr_index))
        if (opcode, index) not in self._checked:
            check_attributes(opcode, attrs)
            self._checked.add((opcode, index))
        for operand in outputs:
            self._operands.append(_operand_row(operand, 1))
        for operand in inputs:
            self._operands.append(_operand_row(operand, 0))
        self._deps.extend(depends_on)
        self._rows.append(
            (engine, unit, opcode, cause, op, index, len(self._operands), len(self._deps))
        )
        return len(self._rows) - 1

    def append(self, instruction: Instruction) -> int:
        """Append an instruction given as a value."""
        i = instruction
        return self.emit(
            i.engine, i.unit, i.opcode, i.outputs, i.inputs, i.op, i.depends_on, i.cause, i.attrs
        )

    def build(self, *, sram_bytes: int = 0, dram_bytes: int = 0) -> Program:
        """Freeze what was collected; the sizes are the memory that the program needs, in bytes."""
        rows, operands = _table(self._rows, 8), _table(self._operands, 6 + 2 * MAX_RANK)
        begin = np.zeros(1, dtype=np.int64)
        columns = Columns(
            engine=rows[:, 0].astype(np.uint8),
            unit=rows[:, 1].astype(np.uint8),
            opcode=rows[:, 2].astype(np.uint8),
            cause=rows[:, 3].astype(np.uint8),
            op=rows[:, 4].astype(np.int32),
            attrs=rows[:, 5].astype(np.int32),
            operand_begin=np.concatenate([begin, rows[:, 6]]),
            dep_begin=np.concatenate([begin, rows[:, 7]]),
            deps=np.array(self._deps, dtype=np.int32),
            operand_tensor=operands[:, 0].astype(np.int32),
            operand_space=operands[:, 1].astype(np.uint8),
            operand_dtype=operands[:, 3].astype(np.uint8),
            operand_is_output=operands[:, 4].astype(np.uint8),
            operand_rank=operands[:, 5].astype(np.uint8),
            operand_address=operands[:, 2].copy(),
            operand_shape=operands[:, 6 : 6 + MAX_RANK].astype(np.int32),
            operand_strides=operands[:, 6 + MAX_RANK :].copy(),
        )
        return Program(
            self.component,
            self.target,
            self.schedule,
            columns,
            tuple(self.ops),
            tuple(self.tensors),
            tuple(self.buffers),
            tuple(self._attr_index),
            sram_bytes,
            dram_bytes,
            groups=tuple(self.groups),
            residents=tuple(self.residents),
            fused=self.fused,
            chain_ps=self.chain_ps,
            once=self.once,
        )


def _table(rows: Sequence[tuple[int, ...]], width: int) -> npt.NDArray[np.int64]:
    """Rows of so many integers; element by element is faster than tuple by tuple."""
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows) * width)
    return flat.reshape(-1, width)


def _operand_row(operand: Operand, is_output: int) -> tuple[int, ...]:
    rank = len(operand.shape)
    pad = MAX_RANK - rank
    if pad < 0:
        raise ValueError(f"expected at most {MAX_RANK} dimensions, got shape {operand.shape}")
    return (
        operand.tensor,
        operand.space,
        operand.address,
        operand.dtype,
        is_output,
        rank,
        *(1,) * pad,
        *operand.shape,
        *(0,) * pad,
        *operand.strides,
    )
