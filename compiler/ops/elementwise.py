"""Ops that treat rows alone: softmax, activations, additions and products, gated linear units."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from edgefusion.compiler.lowering.emitter import Emitter, View
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Rule,
    Tiling,
    matrix,
    rows,
    tile_sizes,
    tiling,
)
from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.isa import Opcode


def _tilings(context: OpContext) -> Iterator[Tiling]:
    for size in tile_sizes(matrix(context.output()).shape[0]):
        yield tiling(rows=size)


def _emit_unary(e: Emitter, context: OpContext, t: Tiling) -> None:
    """softmax and unary: one input tile, one output tile."""
    x, y = matrix(context.input(0)), matrix(context.output())
    m, n = x.shape
    x_buffer = e.buffer("x", t["rows"] * n, x.operand.dtype)
    y_buffer = e.buffer("y", t["rows"] * n, y.operand.dtype)
    softmax = context.op.kind == "softmax"
    attrs = () if softmax else (("function", str(context.op.attrs["function"])),)
    for r in e.tiles(m, t["rows"]):
        x_buffer.next()
        tile = x_buffer.view(x.operand.tensor, (r.size, n))
        e.load(tile, rows(x, r.start, r.size))
        y_buffer.next()
        result = y_buffer.view(y.operand.tensor, tile.shape)
        e.vector(Opcode.SOFTMAX if softmax else Opcode.UNARY, result, [tile], attrs)
        e.store(rows(y, r.start, r.size), result)


def _emit_glu(e: Emitter, context: OpContext, t: Tiling) -> None:
    """x[m,2n] -> value * f(gate), both halves of one row tile."""
    x, y = matrix(context.input(0)), matrix(context.output())
    m, n = y.shape
    x_buffer = e.buffer("x", t["rows"] * 2 * n, x.operand.dtype)
    y_buffer = e.buffer("y", t["rows"] * n, y.operand.dtype)
    attrs = (("function", str(context.op.attrs["function"])),)
    for r in e.tiles(m, t["rows"]):
        x_buffer.next()
        tile = x_buffer.view(x.operand.tensor, (r.size, 2 * n))
        e.load(tile, rows(x, r.start, r.size))
        y_buffer.next()
        result = y_buffer.view(y.operand.tensor, (r.size, n))
        halves = [tile.box((0, start), (r.size, n)) for start in (0, n)]
        e.vector(Opcode.GLU, result, halves, attrs)
        e.store(rows(y, r.start, r.size), result)


def _emit_binary(e: Emitter, context: OpContext, t: Tiling) -> None:
    """a, b -> y. An operand has the result's shape, or repeats along whole leading or last axes."""
    y = matrix(context.output())
    m, n = y.shape
    sources = [_fold(context, i, m, n) for i in (0, 1)]
    buffers = []
    for i, source in enumerate(sources):
        whole = source.shape[0] == 1
        elements = source.shape[1] * (1 if whole else t["rows"])
        buffers.append(e.buffer("ab"[i], elements, source.operand.dtype, streamed=not whole))
    y_buffer = e.buffer("y", t["rows"] * n, y.operand.dtype)
    attrs = (("function", str(context.op.attrs["function"])),)
    resident: dict[int, View] = {}
    for i, (source, buffer) in enumerate(zip(sources, buffers, strict=True)):
        if source.shape[0] == 1:
            resident[i] = buffer.view(source.operand.tensor, source.shape)
            e.load(resident[i], source)
    for r in e.tiles(m, t["rows"]):
        operands = []
        for i, (source, buffer) in enumerate(zip(sources, buffers, strict=True)):
            if i in resident:
                tile = resident[i]
            else:
                buffer.next()
                tile = buffer.view(source.operand.tensor, (r.size, source.shape[1]))
                e.load(tile, rows(source, r.start, r.size))
            operands.append(_broadcast(tile, r.size, n))
        y_buffer.next()
        result = y_buffer.view(y.operand.tensor, (r.size, n))
        e.vector(Opcode.BINARY, result, operands, attrs)
        e.store(rows(y, r.start, r.size), result)


def _fold(context: OpContext, index: int, m: int, n: int) -> View:
    """Operand ``index`` as [m or 1, n or 1]."""
    view = context.input(index)
    columns = view.shape[-1] if view.shape else 1
    leading = prod(view.shape[:-1])
    if columns in (1, n) and leading in (1, m):
        return view.reshape(leading, columns)
    raise UnsupportedOpError(
        f"{context.op.name} ({context.op.attrs.get('function')}): operand {index} of shape "
        f"{view.shape} repeats along inner axes of the result {context.output().shape}; the vector "
        f"engine repeats whole rows or single elements. Expand the operand in the model. "
        f"Origin: {', '.join(context.op.origin)}"
    )


def _broadcast(tile: View, m: int, n: int) -> View:
    row_stride, column_stride = tile.operand.strides
    return tile.strided(
        (m, n),
        (
            row_stride if tile.shape[0] > 1 or m == 1 else 0,
            column_stride if tile.shape[1] == n else 0,
        ),
    )


UNARY = Rule(_tilings, _emit_unary)
GLU = Rule(_tilings, _emit_glu)
BINARY = Rule(_tilings, _emit_binary)
