"""How many instructions a second the simulator times, work derivation included.

The program is tiled attention, the shape of most of a compiled U-Net: load, score matmul, softmax,
value matmul, store, double buffered, with columns built by numpy so that only the simulator is
timed. The first call, which compiles the loop or reads it from the cache, is timed apart.
"""

from __future__ import annotations

import math
import time

import numpy as np

from edgefusion.runtime.isa import MAX_RANK, Cause, DType, EngineKind, Opcode, Space
from edgefusion.runtime.program import Columns, OpRecord, Program
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target

TILE_ROWS, KEYS, CHANNELS = 256, 4096, 64
INSTRUCTIONS_A_TILE = 5
REPEATS = 3
"""The best of so many runs is reported: others share the processor."""


def synthetic_program(instructions: int) -> Program:
    """A program of at least so many instructions, in whole tiles."""
    tiles = -(-instructions // INSTRUCTIONS_A_TILE)
    tile = np.arange(tiles, dtype=np.int64)[:, None] * INSTRUCTIONS_A_TILE
    dma, tensor, vector = EngineKind.DMA, EngineKind.TENSOR, EngineKind.VECTOR
    # Each waits for the one before it in its tile, and for its buffer to be free two tiles ago.
    steps = np.array([[-6, 0, 1, 2, 3], [-9, -7, -7, -6, -6]])
    before = np.stack([tile + steps[:1], tile + steps[1:]], axis=2)
    used = before >= 0
    tables = {
        "query": (TILE_ROWS, CHANNELS),
        "key": (CHANNELS, KEYS),
        "score": (TILE_ROWS, KEYS),
        "value": (KEYS, CHANNELS),
    }
    operands = [  # output, inputs; by instruction of the tile
        ("query", Space.SRAM), ("query", Space.DRAM),
        ("score", Space.SRAM), ("query", Space.SRAM), ("key", Space.SRAM),
        ("score", Space.SRAM), ("score", Space.SRAM),
        ("query", Space.SRAM), ("score", Space.SRAM), ("value", Space.SRAM),
        ("query", Space.DRAM), ("query", Space.SRAM),
    ]  # fmt: skip
    counts = np.array([2, 3, 2, 3, 2])
    outputs = np.array([1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0])
    shape = np.ones((len(operands), MAX_RANK), dtype=np.int32)
    strides = np.zeros((len(operands), MAX_RANK), dtype=np.int64)
    for row, (name, _) in enumerate(operands):
        shape[row, 2:] = tables[name]
        strides[row, 2:] = tables[name][1] * 2, 2
    opcodes = [Opcode.LOAD, Opcode.MATMUL, Opcode.SOFTMAX, Opcode.MATMUL, Opcode.STORE]
    causes = [Cause.ACTIVATION, Cause.NONE, Cause.NONE, Cause.NONE, Cause.ACTIVATION]
    zero = np.zeros(1, dtype=np.int64)
    rows, views = tiles * INSTRUCTIONS_A_TILE, tiles * len(operands)
    columns = Columns(
        engine=np.tile(np.array([dma, tensor, vector, tensor, dma], dtype=np.uint8), tiles),
        unit=np.zeros(rows, dtype=np.uint8),
        opcode=np.tile(np.array(opcodes, dtype=np.uint8), tiles),
        cause=np.tile(np.array(causes, dtype=np.uint8), tiles),
        op=np.zeros(rows, dtype=np.int32),
        attrs=np.zeros(rows, dtype=np.int32),
        operand_begin=np.concatenate([zero, np.cumsum(np.tile(counts, tiles))]),
        dep_begin=np.concatenate([zero, np.cumsum(used.sum(axis=2).ravel())]),
        deps=before[used].astype(np.int32),
        operand_tensor=np.zeros(views, dtype=np.int32),
        operand_space=np.tile(np.array([s for _, s in operands], dtype=np.uint8), tiles),
        operand_dtype=np.full(views, DType.INT16, dtype=np.uint8),
        operand_is_output=np.tile(outputs.astype(np.uint8), tiles),
        operand_rank=np.full(views, 2, dtype=np.uint8),
        operand_address=np.zeros(views, dtype=np.int64),
        operand_shape=np.tile(shape, (tiles, 1)),
        operand_strides=np.tile(strides, (tiles, 1)),
    )
    ops = (OpRecord("attention", "attention", ("synthetic",)),)
    return Program("unet", "exynos2400", "pipelined", columns, ops, (), (), ((),))


def main(instructions: int = 1_000_000) -> dict[str, float]:
    """Print and return instructions, seconds of the first small call and of the full program, and
    instructions a second."""
    machine = load_target("exynos2400").machine
    begin = time.perf_counter()
    simulate(synthetic_program(1_000), machine)
    first_call_s = time.perf_counter() - begin
    program = synthetic_program(instructions)
    simulate_s, total_ps = math.inf, 0
    for _ in range(REPEATS):
        begin = time.perf_counter()
        total_ps = simulate(program, machine).total_ps
        simulate_s = min(simulate_s, time.perf_counter() - begin)
    result = {
        "instructions": float(len(program)),
        "first_call_s": first_call_s,
        "simulate_s": simulate_s,
        "instructions_per_s": len(program) / simulate_s,
        "simulated_ms": total_ps / 1e9,
    }
    for key, value in result.items():
        print(f"{key:20} {value:,.3f}")
    return result


if __name__ == "__main__":
    main()
