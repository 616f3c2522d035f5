"""Table 6 from a program: where the time of one attention op goes, step by step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Instruction, Program
from edgefusion.runtime.simulator import simulate

ROWS = (
    "dma_load_q_k",
    "tensor_q_kt",
    "dma_store_s_in",
    "dma_load_s_in",
    "vector_softmax",
    "dma_store_s_out",
    "dma_load_s_out_v",
    "tensor_s_v",
    "dma_store_a",
)


def largest_attention(program: Program) -> int:
    """Index of the attention op with most multiply-accumulates, the first of equals."""
    attention = [i for i, op in enumerate(program.ops) if op.kind == "attention"]
    if not attention:
        raise InputError(f"{program.component} has no attention op to break down")
    return max(attention, key=lambda i: (program.ops[i].macs, -i))


def attention_rows(program: Program, op: int) -> dict[int, str]:
    """The row of Table 6 that each instruction of attention op ``op`` belongs to."""
    indices = np.flatnonzero(program.columns.op == op).tolist()
    instructions = {i: program.instruction(i) for i in indices}
    queries_keys, result = _products(instructions)
    return {i: _row(program, x, queries_keys, result) for i, x in instructions.items()}


def attention_breakdown(
    program: Program, machine: Machine, rows: Mapping[int, str]
) -> dict[str, float]:
    """Picoseconds by row, of a program whose engines take turns.

    Each instruction's share runs from the end of the one before it to its own end, so that waiting
    for the hand-over counts and the rows add up to the op's time.
    """
    timeline = simulate(program, machine)
    ends = timeline.end_ps
    total = dict.fromkeys(ROWS, 0.0)
    for index, row in rows.items():
        total[row] += float(ends[index] - (ends[index - 1] if index else 0))
    return total


def _products(instructions: Mapping[int, Instruction]) -> tuple[set[int], int]:
    """(tensors of Q and K, tensor of A): the scaled product's operands, the other's result."""
    queries_keys: set[int] = set()
    result = -1
    for instruction in instructions.values():
        if instruction.opcode == Opcode.MATMUL:
            if any(name == "scale" for name, _ in instruction.attrs):
                queries_keys = {operand.tensor for operand in instruction.inputs}
            else:
                result = instruction.outputs[0].tensor
    return queries_keys, result


def _row(program: Program, i: Instruction, queries_keys: set[int], result: int) -> str:
    if i.opcode == Opcode.MATMUL:
        return "tensor_s_v" if i.outputs[0].tensor == result else "tensor_q_kt"
    if i.opcode in (Opcode.SOFTMAX, Opcode.BINARY):
        return "vector_softmax"
    tensor = (i.inputs if i.opcode == Opcode.LOAD else i.outputs)[0].tensor
    name = program.tensors[tensor].name
    if i.opcode == Opcode.STORE:
        if name.endswith(":scores_in"):
            return "dma_store_s_in"
        return "dma_store_s_out" if name.endswith(":scores_out") else "dma_store_a"
    if name.endswith(":scores_in"):
        return "dma_load_s_in"
    return "dma_load_q_k" if tensor in queries_keys else "dma_load_s_out_v"
