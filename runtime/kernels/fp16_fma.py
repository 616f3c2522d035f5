"""A micro-tile of FP32 fused multiply-adds as a numba intrinsic: 6 rows times 16 columns.

Every element of the tile is one chain of fused multiply-adds over the reduction, in ascending
order, that begins at the value it holds. So a result has the same bits wherever it lies in a tile,
however rows and columns are cut into tiles, and wherever the reduction is interrupted. BLAS gives
no such promise. The code is LLVM's own vectors and ``llvm.fma``: AVX2 and NEON run it natively.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_inlined: Callable[[Callable[..., Any]], Any] = intrinsic  # numba types it as taking a context

ROWS = 6
COLUMNS = 16

_LANES = 8
_VECTORS = COLUMNS // _LANES
_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_F32, _LANES)


@_inlined
def fused_multiply_add_tile(
    typingctx: Any,  # noqa: ARG001
    acc: Any,  # noqa: ARG001
    row0: Any,  # noqa: ARG001
    row1: Any,  # noqa: ARG001
    row2: Any,  # noqa: ARG001
    row3: Any,  # noqa: ARG001
    row4: Any,  # noqa: ARG001
    row5: Any,  # noqa: ARG001
    weights: Any,  # noqa: ARG001
    count: Any,  # noqa: ARG001
) -> Any:
    """FP32 ``acc`` [6, 16] += six rows of ``count`` values x ``weights`` [count, 16].

    All but ``count`` are addresses of FP32 values.
    """
    return types.void(*([types.intp] * 9)), _build


def _build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    acc, *rows, weights, count = args
    fma = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), "llvm.fma.v8f32"
    )
    target = builder.inttoptr(acc, _VECTOR.as_pointer())
    places = [
        [builder.gep(target, [ir.Constant(_I64, r * _VECTORS + v)]) for v in range(_VECTORS)]
        for r in range(ROWS)
    ]
    # Stack slots in the source, registers once LLVM has promoted them.
    sums = [
        [cgutils.alloca_once(builder, _VECTOR) for _ in range(_VECTORS)]  # type: ignore[no-untyped-call]
        for _ in range(ROWS)
    ]
    for row_places, row_sums in zip(places, sums, strict=True):
        for place, total in zip(row_places, row_sums, strict=True):
            builder.store(builder.load(place, align=4), total)
    row_pointers = [builder.inttoptr(row, _F32.as_pointer()) for row in rows]
    weight_pointer = builder.inttoptr(weights, _VECTOR.as_pointer())
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    spread = ir.Constant(ir.VectorType(_I32, _LANES), [0] * _LANES)

    with cgutils.for_range(builder, count) as loop:
        first = builder.mul(loop.index, ir.Constant(_I64, _VECTORS))
        columns = [
            builder.load(
                builder.gep(weight_pointer, [builder.add(first, ir.Constant(_I64, v))]), align=4
            )
            for v in range(_VECTORS)
        ]
        for pointer, row_sums in zip(row_pointers, sums, strict=True):
            value = builder.load(builder.gep(pointer, [loop.index]), align=4)
            lane = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
            value = builder.shuffle_vector(lane, undefined, spread)
            for total, column in zip(row_sums, columns, strict=True):
                builder.store(builder.call(fma, [value, column, builder.load(total)]), total)
    for row_places, row_sums in zip(places, sums, strict=True):
        for place, total in zip(row_places, row_sums, strict=True):
            builder.store(builder.load(total), place, align=4)
    return context.get_dummy_value()
