"""Reads operands out of a program's columns, many at a time, after checking that these agree.

Compiled loops and fancy indexing trust the columns; ``check_columns`` makes that trust safe for a
program from a damaged or foreign bundle. What it means for a program to be *correct* (hazards,
addresses) is not its business.
"""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import MAX_RANK, Cause, DType, EngineKind, Opcode
from edgefusion.runtime.opcodes import OPCODE_ENGINE
from edgefusion.runtime.program import COLUMN_TYPES, I64, Program


def describe(program: Program, index: int | np.integer) -> str:
    """How errors name an instruction where nothing else names its component."""
    return f"{program.component}: {instruction_name(program, index)}"


def instruction_name(program: Program, index: int | np.integer) -> str:
    """How errors name an instruction: index, opcode, op and the op's origin."""
    c = program.columns
    code, number = int(c.opcode[index]), int(c.op[index])
    opcode = Opcode(code).name.lower() if code < len(Opcode) else f"opcode {code}"
    of = f"unknown op {number}"
    if 0 <= number < len(program.ops):
        op = program.ops[number]
        of = ", from ".join(filter(None, (op.name, ", ".join(op.origin))))
    return f"instruction {index} ({opcode} of {of})"


def check_columns(program: Program) -> None:
    """Raise InputError where columns have another type, disagree in length, ranges overlap, or an
    opcode is on the wrong engine."""
    c = program.columns
    for name, expected in COLUMN_TYPES.items():
        if getattr(c, name).dtype != expected:
            raise InputError(
                f"{program.component}: the program's column {name} is damaged: expected "
                f"{expected} values, found {getattr(c, name).dtype}. Compile the model again."
            )
    rows = len(c.opcode)
    for name, begin, total in (
        ("operand_begin", c.operand_begin, len(c.operand_tensor)),
        ("dep_begin", c.dep_begin, len(c.deps)),
    ):
        sound = len(begin) == rows + 1 and begin[0] == 0 and begin[-1] == total
        if not sound or (begin[1:] < begin[:-1]).any():
            raise InputError(
                f"{program.component}: the program's column {name} is damaged: expected {rows + 1} "
                f"ascending values from 0 to {total}. Compile the model again."
            )
    per_row = (c.engine, c.unit, c.cause, c.op, c.attrs)
    per_operand = (
        *(c.operand_space, c.operand_dtype, c.operand_is_output, c.operand_rank),
        c.operand_address,
    )
    views = (c.operand_shape, c.operand_strides)
    if (
        any(column.shape != (rows,) for column in per_row)
        or any(column.shape != (len(c.operand_tensor),) for column in per_operand)
        or any(view.shape != (len(c.operand_tensor), MAX_RANK) for view in views)
    ):
        raise InputError(
            f"{program.component}: the program's columns differ in length. Compile the model again."
        )
    for name, column, known in (
        ("attrs", c.attrs, len(program.attrs)),
        ("cause", c.cause, len(Cause)),
        ("operand_dtype", c.operand_dtype, len(DType)),
    ):
        if ((column < 0) | (column >= known)).any():
            raise InputError(
                f"{program.component}: the program's column {name} is damaged: expected values "
                f"from 0 to {known - 1}, found up to {column.max()}. Compile the model again."
            )
    if (c.opcode >= len(Opcode)).any():
        at = int(np.argmax(c.opcode >= len(Opcode)))
        raise InputError(
            f"{describe(program, at)}: this tool knows opcodes up to {len(Opcode) - 1}. "
            "Update the tool or compile the model again."
        )
    wrong = c.engine != OPCODE_ENGINE[c.opcode]
    if wrong.any():
        at = int(np.argmax(wrong))
        kind = EngineKind(OPCODE_ENGINE[c.opcode[at]]).name.lower()
        raise InputError(
            f"{describe(program, at)}: expected engine {kind}, found engine kind {c.engine[at]}."
        )


def check_ops(program: Program) -> None:
    """Raise InputError where an instruction names an op that the program does not have, or an op a
    group, or these a tensor."""
    wrong = (program.columns.op < 0) | (program.columns.op >= len(program.ops))
    if wrong.any():
        raise InputError(
            f"{describe(program, int(np.argmax(wrong)))}: the program has {len(program.ops)} ops. "
            "Compile the model again."
        )
    groups, tensors = len(program.groups), len(program.tensors)
    named = [t for g in program.groups for t in (*g.rolling, *g.kept, *g.shared)]
    named += [t for r in program.residents for t in (r.tensor, r.over) if t is not None]
    crossed = [index for r in program.residents for index in (r.first, r.last)]
    crossed += [op.group for op in program.ops if groups or op.group]
    if any(not 0 <= t < tensors for t in named) or any(not 0 <= i < groups for i in crossed):
        raise InputError(
            f"{program.component}: the program's table of groups is damaged: expected tensors "
            f"below {tensors} and groups below {groups}. Compile the model again."
        )


def attribute_uses(program: Program) -> I64:
    """The distinct pairs of an opcode and an index of ``program.attrs``, int64[pairs, 2]."""
    used = np.zeros((len(Opcode), len(program.attrs)), dtype=np.bool_)
    used[program.columns.opcode, program.columns.attrs] = True
    return np.argwhere(used)


class OperandRows:
    """First operand rows of every instruction (outputs lie before inputs), and their sizes."""

    def __init__(self, program: Program) -> None:
        c = program.columns
        self._program = program
        self._shape = c.operand_shape
        is_output = c.operand_is_output
        before = np.zeros(len(is_output) + 1, dtype=np.int64)
        np.cumsum(is_output, out=before[1:])
        begin, end = c.operand_begin[:-1], c.operand_begin[1:]
        self.first_output: I64 = begin
        self.outputs: I64 = before[end] - before[begin]
        self.first_input: I64 = begin + self.outputs
        self.inputs: I64 = end - self.first_input
        misplaced = before[self.first_input] - before[begin] != self.outputs
        if misplaced.any():
            raise InputError(
                f"{describe(program, int(np.argmax(misplaced)))}: outputs must come before inputs."
            )

    def require(self, index: I64, *, outputs: int, inputs: int) -> None:
        """Raise InputError where one of the instructions has fewer operands than given."""
        short = (self.outputs[index] < outputs) | (self.inputs[index] < inputs)
        if short.any():
            at = int(index[np.argmax(short)])
            raise InputError(
                f"{describe(self._program, at)}: expected at least {outputs} outputs and "
                f"{inputs} inputs, found {self.outputs[at]} and {self.inputs[at]}."
            )

    def size(self, row: I64, dim: int) -> I64:
        """Elements of operand rows along a left-padded dimension, int64[rows]."""
        sizes: I64 = self._shape[row, dim].astype(np.int64)
        return sizes

    def elements(self, row: I64) -> I64:
        """Elements of operand rows, int64[rows]."""
        counts: I64 = self._shape[row].prod(axis=1, dtype=np.int64)
        return counts
