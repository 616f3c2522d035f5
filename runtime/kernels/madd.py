"""The multiply-add of 16-bit integers (x86 ``vpmaddwd``) as a numba intrinsic.

One micro-tile: 6 rows of INT16 activations times 16 columns of packed INT16 weights, summed over
``pairs`` pairs of the reduction in twelve INT32 registers. 16 products an instruction make it about
twice as fast as FP32 and exact while no sum leaves INT32: at most 510 products of 16 x 8 bits
(2^15 * 2^7 * 512 = 2^31). The tile is then added to float64 accumulators, exact below 2^53: the
vector unit converts INT32 to float64, and has no such instruction for int64.

llvmlite has no name for the instruction, so the loop is built from LLVM's own intrinsic.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 6
COLUMNS = 16
MAX_TERMS = 510

_VECTORS = 2
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_SUMS, _VALUES = ir.VectorType(_I32, 8), ir.VectorType(ir.IntType(16), 16)
_WIDE = ir.VectorType(ir.DoubleType(), 8)
_INSTRUCTION = "llvm.x86.avx2.pmadd.wd"


def is_available() -> bool:
    """Whether this CPU has the instruction."""
    return bool(llvm.get_host_cpu_features().get("avx2", False))


def _multiply_add_tile(
    typingctx: Any,  # noqa: ARG001
    acc: Any,  # noqa: ARG001
    rows: Any,  # noqa: ARG001
    start: Any,  # noqa: ARG001
    weights: Any,  # noqa: ARG001
    pairs: Any,  # noqa: ARG001
    unit: Any,  # noqa: ARG001
) -> Any:
    """float64 ``acc`` [6, 16] += (six rows x ``weights`` [pairs, 16, 2]) * ``unit``.

    ``acc`` and ``weights`` are addresses, ``rows`` the address of six addresses; a row is 2 *
    ``pairs`` consecutive INT16 values, ``start`` bytes from its address.
    """
    return types.void(*([types.intp] * 5), types.float64), _build


multiply_add_tile: Any = intrinsic(_multiply_add_tile)
"""The micro-tile, callable from machine code."""


def _build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    acc, table, start, weights, pairs, unit = args
    tools: Any = cgutils
    madd = tools.get_or_insert_function(
        builder.module, ir.FunctionType(_SUMS, [_VALUES, _VALUES]), _INSTRUCTION
    )
    zero = ir.Constant(_SUMS, [0] * 8)
    totals = [[tools.alloca_once(builder, _SUMS) for _ in range(_VECTORS)] for _ in range(ROWS)]
    for row in totals:
        for total in row:
            builder.store(zero, total)
    addresses = builder.inttoptr(table, _I64.as_pointer())
    row_pointers = [
        builder.inttoptr(
            builder.add(builder.load(builder.gep(addresses, [ir.Constant(_I64, r)])), start),
            _I32.as_pointer(),
        )
        for r in range(ROWS)
    ]
    weight_pointer = builder.inttoptr(weights, _VALUES.as_pointer())
    undefined = ir.Constant(_SUMS, ir.Undefined)

    with tools.for_range(builder, pairs) as loop:
        first = builder.mul(loop.index, ir.Constant(_I64, _VECTORS))
        columns = [
            builder.load(
                builder.gep(weight_pointer, [builder.add(first, ir.Constant(_I64, c))]), align=4
            )
            for c in range(_VECTORS)
        ]
        for pointer, row in zip(row_pointers, totals, strict=True):
            pair = builder.load(builder.gep(pointer, [loop.index]), align=2)
            lane = builder.insert_element(undefined, pair, ir.Constant(_I32, 0))
            spread = builder.bitcast(builder.shuffle_vector(lane, undefined, zero), _VALUES)
            for total, column in zip(row, columns, strict=True):
                product = builder.call(madd, [spread, column])
                builder.store(builder.add(builder.load(total), product), total)
    _widen_and_add(builder, acc, unit, totals)
    return _context.get_dummy_value()


def _widen_and_add(builder: Any, acc: Any, unit: Any, totals: list[list[Any]]) -> None:
    """Add the INT32 ``totals`` times ``unit`` to float64 [6, 16] at address ``acc``."""
    target = builder.inttoptr(acc, _WIDE.as_pointer())
    factor = ir.Constant(_WIDE, ir.Undefined)
    for lane in range(8):
        factor = builder.insert_element(factor, unit, ir.Constant(_I32, lane))
    for r, row in enumerate(totals):
        for c, total in enumerate(row):
            place = builder.gep(target, [ir.Constant(_I64, r * _VECTORS + c)])
            wide = builder.fmul(builder.sitofp(builder.load(total), _WIDE), factor)
            builder.store(builder.fadd(builder.load(place, align=8), wide), place, align=8)
