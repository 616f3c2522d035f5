"""How programs and the verifier's errors read. Every program is verified before it is compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.machine import load_target
from edgefusion.runtime.program import BufferRecord, Operand, OpRecord, Program, TensorRecord
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.program_text import parse, to_text
from edgefusion.runtime.tensor_numbers import steps_of
from edgefusion.runtime.verifier import verify_program

Golden = Callable[[str, str], None]

MACHINE = load_target("exynos2400").machine
TOKENS, KEYS, WIDTH, HEADS = 64, 128, 40, 8


def attention() -> Program:
    """One query tile of one head: q, k and v are column slices of [tokens, heads * width]."""
    builder = ProgramBuilder("unet", "exynos2400", "mlt")
    builder.ops.append(
        OpRecord(
            "down.0.attn1", "Attention", ("/attn1/MatMul", "/attn1/Softmax", "/attn1/MatMul_1"),
            scope="down_blocks.0", macs=2 * TOKENS * KEYS * WIDTH, tile="64 query rows",
        )
    )  # fmt: skip
    row_bytes = HEADS * WIDTH * 2
    at = 0
    for name, rows, role in (
        ("q", TOKENS, Role.ACTIVATION), ("k", KEYS, Role.ACTIVATION),
        ("v", KEYS, Role.ACTIVATION), ("context", TOKENS, Role.ACTIVATION),
    ):  # fmt: skip
        shape = (rows, HEADS * WIDTH)
        builder.tensors.append(
            TensorRecord(name, DType.INT16, shape, role, at, rows * row_bytes, steps_of(0.25))
        )
        at += rows * row_bytes

    free = 0

    def sram(name: str, *shape: int) -> Operand:
        nonlocal free
        strides = tuple(int(np.prod(shape[d + 1 :])) * 2 for d in range(len(shape)))
        operand = Operand(-1, Space.SRAM, free, DType.INT16, shape, strides)
        nbytes = operand.end - operand.address
        builder.buffers.append(BufferRecord(name, Space.SRAM, free, nbytes, 0, 6))
        free += nbytes
        return operand

    def slice_of(tensor: int, like: Operand) -> Operand:
        address = builder.tensors[tensor].address + 3 * WIDTH * 2  # head 3
        return Operand(tensor, Space.DRAM, address, DType.INT16, like.shape, (row_bytes, 2))

    q, k, v = sram("q", TOKENS, WIDTH), sram("k", KEYS, WIDTH), sram("v", KEYS, WIDTH)
    scores, context = sram("scores", TOKENS, KEYS), sram("context", TOKENS, WIDTH)
    for tensor, operand in enumerate((q, k, v)):
        load = ([operand], [slice_of(tensor, operand)])
        builder.emit(EngineKind.DMA, 0, Opcode.LOAD, *load, 0, (), Cause.ACTIVATION)
    k_transposed = replace(k, shape=(WIDTH, KEYS), strides=(2, WIDTH * 2))
    attrs = (("scale", WIDTH**-0.5),)
    builder.emit(
        EngineKind.TENSOR, 0, Opcode.MATMUL, [scores], [q, k_transposed], 0, (0, 1), attrs=attrs
    )
    builder.emit(EngineKind.VECTOR, 0, Opcode.SOFTMAX, [scores], [scores], 0, (3,))
    builder.emit(EngineKind.TENSOR, 0, Opcode.MATMUL, [context], [scores, v], 0, (2, 4))
    store = ([slice_of(3, context)], [context])
    builder.emit(EngineKind.DMA, 0, Opcode.STORE, *store, 0, (5,), Cause.ACTIVATION)
    return builder.build(sram_bytes=free, dram_bytes=at)


def test_attention_tile(golden: Golden) -> None:
    program = attention()
    verify_program(program, MACHINE)
    text = to_text(program)
    assert parse(text) == program
    golden("attention_tile", text)


def test_the_verifier_explains(golden: Golden) -> None:
    text = to_text(attention())
    with pytest.raises(InputError) as unordered:
        verify_program(parse(text.replace(" after %2 %4", "")), MACHINE)
    with pytest.raises(InputError) as misplaced:
        verify_program(parse(text.replace("sram[0x0]", "sram[0x600000]")), MACHINE)
    golden("verifier_errors", f"{unordered.value}\n\n{misplaced.value}\n")
