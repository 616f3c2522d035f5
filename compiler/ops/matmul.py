"""Matrix products: activations times weights, and activations times activations."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from edgefusion.compiler.lowering.emitter import Emitter, Tile, View
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Rule,
    Tiling,
    channel_sizes,
    columns,
    matrix,
    rows,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.ops.conv import load_constants, reserve_constants
from edgefusion.runtime.isa import Opcode


def _tilings(context: OpContext) -> Iterator[Tiling]:
    m, n = matrix(context.output()).shape
    for channels in channel_sizes(n, multiple=min(n, 64)):
        for outer in ("weights", "rows") if channels < n else ("weights",):
            for size in tile_sizes(m, multiple=min(m, 16)):
                yield tiling(rows=size, channels=channels, outer=outer)


def _emit(e: Emitter, context: OpContext, t: Tiling) -> None:
    """x[m,k] w[k,n]: weight column tiles against row tiles, the reduction whole."""
    x, w, y = matrix(context.input(0)), context.input(1), matrix(context.output())
    (m, k), n = x.shape, y.shape[1]
    size, channels = t["rows"], t["channels"]
    outer_rows = t.choice("outer") == "rows"
    x_buffer = e.buffer("x", size * k, x.operand.dtype)
    w_buffer = e.buffer("w", k * channels, w.operand.dtype, streamed=channels < n)
    constants = reserve_constants(e, context, channels, streamed=outer_rows)
    y_buffer = e.buffer("y", size * channels, y.operand.dtype)
    epilogue = EpilogueBuffers.reserve(e, context, size * channels, channels)

    def load_weights(c: Tile, *, again: bool) -> None:
        w_buffer.next()
        e.load(
            w_buffer.view(w.operand.tensor, (k, c.size)), columns(w, c.start, c.size), again=again
        )
        load_constants(e, constants, c, again=again)
        epilogue.load_vectors(e, c, again=again)

    def load_rows(r: Tile, *, again: bool) -> View:
        x_buffer.next()
        tile = x_buffer.view(x.operand.tensor, (r.size, k))
        e.load(tile, rows(x, r.start, r.size), again=again)
        return tile

    def compute(x_tile: View, r: Tile, c: Tile) -> None:
        y_buffer.next()
        tile = y_buffer.view(epilogue.stages[0], (r.size, c.size))
        w_tile = w_buffer.view(w.operand.tensor, (k, c.size))
        inputs = [x_tile, w_tile, *(constant.current(c) for constant in constants)]
        e.tensor(Opcode.MATMUL, tile, inputs, (("bias", int(context.has_input(2))),))
        tile = epilogue.apply(e, tile, (r.start, c.start), c, first=r.index == 0)
        e.store(y.box((r.start, c.start), tile.shape), tile)

    if outer_rows:
        for r in e.tiles(m, size):
            x_tile = load_rows(r, again=False)
            for c in e.tiles(n, channels):
                load_weights(c, again=r.index > 0)
                compute(x_tile, r, c)
    else:
        for c in e.tiles(n, channels):
            load_weights(c, again=False)
            for r in e.tiles(m, size):
                compute(load_rows(r, again=c.index > 0), r, c)
    epilogue.finish(e)


def _batch_tilings(context: OpContext) -> Iterator[Tiling]:
    m, n = context.output().shape[-2:]
    for channels in channel_sizes(n, multiple=min(n, 64)):
        for size in tile_sizes(m, multiple=min(m, 16)):
            yield tiling(rows=size, channels=channels)


def _emit_batch(e: Emitter, context: OpContext, t: Tiling) -> None:
    """a[b,m,k] b[b,k,n] for each of the b pairs; a batch of one on either side broadcasts."""
    a, b, y = context.input(0), context.input(1), context.output()
    (m, k), n = a.shape[-2:], b.shape[-1]
    batches = prod(y.shape[:-2])
    a, b, y = (v.reshape(prod(v.shape[:-2]), *v.shape[-2:]) for v in (a, b, y))
    size, channels = t["rows"], t["channels"]
    a_buffer = e.buffer("a", size * k, a.operand.dtype)
    b_buffer = e.buffer("b", k * channels, b.operand.dtype)
    y_buffer = e.buffer("y", size * channels, y.operand.dtype)
    for batch in e.tiles(batches, 1):
        a_batch, b_batch = (
            v.box((batch.start % v.shape[0], 0, 0), (1, *v.shape[1:])).reshape(*v.shape[1:])
            for v in (a, b)
        )
        y_batch = y.box((batch.start, 0, 0), (1, m, n)).reshape(m, n)
        for c in e.tiles(n, channels):
            b_buffer.next()
            b_tile = b_buffer.view(b.operand.tensor, (k, c.size))
            e.load(b_tile, columns(b_batch, c.start, c.size))
            for r in e.tiles(m, size):
                a_buffer.next()
                a_tile = a_buffer.view(a.operand.tensor, (r.size, k))
                e.load(a_tile, rows(a_batch, r.start, r.size), again=c.index > 0)
                y_buffer.next()
                tile = y_buffer.view(y.operand.tensor, (r.size, c.size))
                e.tensor(Opcode.MATMUL, tile, [a_tile, b_tile], (("bias", 0),))
                e.store(y_batch.box((r.start, c.start), tile.shape), tile)


MATMUL = Rule(_tilings, _emit)
BATCH_MATMUL = Rule(_batch_tilings, _emit_batch)
