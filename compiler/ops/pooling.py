"""Pooling windows and reductions."""

from __future__ import annotations

from collections.abc import Iterator

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Rule,
    Tiling,
    matrix,
    rows,
    sequence,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.network.network import statistics_dtype
from edgefusion.compiler.ops.conv import windows
from edgefusion.runtime.isa import DType, Opcode


def _pool_tilings(context: OpContext) -> Iterator[Tiling]:
    for size in tile_sizes(context.output().shape[1]):
        yield tiling(rows=size)


def _emit_pool(e: Emitter, context: OpContext, t: Tiling) -> None:
    """Stripes of output rows over whole input rows, halo included."""
    attrs = context.op.attrs
    x = context.input(0).reshape(*context.input(0).shape[1:])
    y = context.output().reshape(*context.output().shape[1:])
    kernel = sequence(attrs["kernel"])
    row_window, column_window = windows(context, (kernel[0], kernel[1]))
    _, width, channels = x.shape
    out_height, out_width, _ = y.shape
    x_elements = row_window.largest(t["rows"]) * width * channels
    x_buffer = e.buffer("x", x_elements, x.operand.dtype)
    y_buffer = e.buffer("y", t["rows"] * out_width * channels, y.operand.dtype)
    for r in e.tiles(out_height, t["rows"], edges=2):
        top, high, before, after, _ = row_window.source(r)
        x_buffer.next()
        tile = x_buffer.view(x.operand.tensor, (high, width, channels))
        halo = high - row_window.fresh(r, t["rows"])
        row_bytes = width * channels * tile.operand.dtype.nbytes
        e.load(tile, x.box((top, 0, 0), tile.shape), reread_bytes=halo * row_bytes)
        y_buffer.next()
        result = y_buffer.view(y.operand.tensor, (r.size, out_width, channels))
        side = (column_window.pad, sequence(attrs["pads"])[3])
        e.vector(
            Opcode.POOL,
            result,
            [tile],
            (
                ("count_include_pad", int(attrs.get("count_include_pad", 0))),
                ("function", str(attrs["function"])),
                ("kernel", kernel),
                ("pads", (before, side[0], after, side[1])),
                ("strides", sequence(attrs["strides"])),
            ),
        )
        e.store(y.box((r.start, 0, 0), result.shape), result)


def _reduce_tilings(context: OpContext) -> Iterator[Tiling]:
    for size in tile_sizes(matrix(context.input(0)).shape[0]):
        yield tiling(rows=size)


def _emit_reduce(e: Emitter, context: OpContext, t: Tiling) -> None:
    """Over the last axis, row tiles are independent; over all others, they accumulate.

    Integer sums accumulate whole, in steps of x, and are rounded once, when all rows are in.
    """
    x = matrix(context.input(0))
    m, n = x.shape
    axes = sequence(context.op.attrs["axes"])
    last = axes == (len(context.input(0).shape) - 1,)
    y = context.output().reshape(m, 1) if last else context.output().reshape(n)
    x_buffer = e.buffer("x", t["rows"] * n, x.operand.dtype)
    y_buffer = e.buffer("y", t["rows"] if last else n, y.operand.dtype, streamed=last)
    function = str(context.op.attrs["function"])
    whole = y_buffer.view(y.operand.tensor, (n,))
    carried = whole
    if not last and function != "max" and x.operand.dtype is DType.INT16:
        sums = e.buffer("sum", n, statistics_dtype(x.operand.dtype), streamed=False)
        carried = sums.view(x.operand.tensor, (n,))
    for r in e.tiles(m, t["rows"]):
        x_buffer.next()
        tile = x_buffer.view(x.operand.tensor, (r.size, n))
        e.load(tile, rows(x, r.start, r.size))
        result = carried
        if last:
            y_buffer.next()
            result = y_buffer.view(y.operand.tensor, (r.size, 1))
        attrs = (
            ("axis", 1 if last else 0),
            ("count", n if last else m),
            ("first", int(last or r.index == 0)),
            ("function", function),
            ("last", int(last or r.start + r.size == m)),
        )
        e.vector(Opcode.REDUCE, result, [tile], attrs)
        if last:
            e.store(rows(y, r.start, r.size), result)
    if carried is not whole:
        e.vector(Opcode.COPY, whole, [carried], (("count", m if function == "mean" else 1),))
    if not last:
        e.store(y, whole)


POOL = Rule(_pool_tilings, _emit_pool)
REDUCE = Rule(_reduce_tilings, _emit_reduce)
