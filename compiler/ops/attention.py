"""Attention: scores, softmax and the product with V, head by head.

Spilled (the paper's "without MLT"), the scores go to DRAM and back around each of the three steps.
In SRAM ("with MLT"), a tile of query rows keeps its scores on chip: K and V of one head stay
resident while query tiles stream, so DRAM sees only Q, K, V and the result. The tile search picks
the number of query rows that SRAM can hold. Where K and V of a head are too big to stay, they
stream past each query tile in tiles of keys; the softmax still sees whole rows, so values do not
depend on the tiling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile, View
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Rule,
    Tiling,
    columns,
    matrix,
    rows,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.network.network import statistics_dtype
from edgefusion.runtime.isa import DType, Opcode
from edgefusion.runtime.program import dense_strides


def score_tensor(op_name: str, stage: str) -> str:
    """Name of the spilled scores of an attention op before (``in``) or after (``out``) softmax."""
    return f"{op_name}:scores_{stage}"


@dataclass
class _Attention:
    """Shapes and DRAM views of one attention op; k and v rows are keys."""

    e: Emitter
    context: OpContext

    def __post_init__(self) -> None:
        context = self.context
        self.heads = int(context.op.attrs["heads"])
        self.q, self.k, self.v = (matrix(context.input(i)) for i in range(3))
        self.y = matrix(context.output())
        self.mask = context.input(3) if context.has_input(3) else None
        self.queries, self.keys = self.q.shape[0], self.k.shape[0]
        self.depth, self.value_depth = self.q.shape[1] // self.heads, self.v.shape[1] // self.heads
        scale = float(context.op.attrs["scale"])
        self.qk_attrs: tuple[tuple[str, Any], ...] = (("bias", 0), ("scale", scale))
        self.dtype = self.q.operand.dtype
        name = context.op.name
        self.scores_in = context.view(score_tensor(name, "in"))
        self.scores_out = context.view(score_tensor(name, "out"))

    def head(self, view: View, h: Tile, depth: int) -> View:
        """Columns of head ``h``."""
        return columns(view, h.start * depth, depth)

    def load(self, buffer: Buffer, source: View, *, again: bool = False) -> View:
        """Bring ``source`` into the next slot of ``buffer``."""
        buffer.next()
        tile = buffer.view(source.operand.tensor, source.shape)
        self.e.load(tile, source, again=again)
        return tile

    def multiply_keys(self, q: View, k: View, scores: View) -> None:
        """Scores of a query tile: q k^T, scaled."""
        transposed = k.strided(
            (k.shape[1], k.shape[0]), dense_strides(k.shape, k.operand.dtype)[::-1]
        )
        self.e.tensor(Opcode.MATMUL, scores, [q, transposed], self.qk_attrs)

    def mask_buffer(self, size: int) -> Buffer | None:
        """SRAM for mask rows, if there is a mask."""
        if self.mask is None:
            return None
        return self.e.buffer("mask", size * self.keys, self.mask.operand.dtype)

    def add_mask(self, buffer: Buffer | None, scores: View, h: Tile, r: Tile) -> None:
        """Add the mask rows of a query tile to its scores, in place."""
        if buffer is None or self.mask is None:
            return
        mask = self.mask.reshape(self.mask.operand.elements // self.keys, self.keys)
        per_head = mask.shape[0] // self.queries if mask.shape[0] >= self.queries else 1
        if mask.shape[0] == 1:
            source = mask
            tile = self.load(buffer, source, again=h.index + r.index > 0)
            tile = tile.strided(scores.shape, (0, mask.operand.dtype.nbytes))
        else:
            base = (h.start % per_head) * self.queries
            again = h.index > 0 and per_head == 1
            tile = self.load(buffer, rows(mask, base + r.start, r.size), again=again)
        self.e.vector(Opcode.BINARY, scores, [scores, tile], (("function", "add"),))


def _tilings(context: OpContext) -> Iterator[Tiling]:
    queries, keys = (matrix(context.input(i)).shape[0] for i in (0, 1))
    for size in tile_sizes(queries, multiple=min(queries, 16)):
        yield tiling(queries=size, keys=keys)


def _streamed_tilings(context: OpContext) -> Iterator[Tiling]:
    queries, keys = (matrix(context.input(i)).shape[0] for i in (0, 1))
    for key_tile in tile_sizes(keys, multiple=min(keys, 64))[1:]:
        for size in tile_sizes(queries, multiple=min(queries, 16)):
            yield tiling(queries=size, keys=key_tile)


def _emit_tiled(e: Emitter, context: OpContext, t: Tiling) -> None:
    """Model-level tiling: scores never leave SRAM."""
    a = _Attention(e, context)
    size = t["queries"]
    k_buffer = e.buffer("k", a.keys * a.depth, a.dtype)
    v_buffer = e.buffer("v", a.keys * a.value_depth, a.dtype)
    q_buffer = e.buffer("q", size * a.depth, a.dtype)
    s_buffer = e.buffer("scores", size * a.keys, a.dtype)
    m_buffer = a.mask_buffer(size)
    y_buffer = e.buffer("y", size * a.value_depth, a.dtype)
    for h in e.tiles(a.heads, 1):
        k = a.load(k_buffer, a.head(a.k, h, a.depth))
        v = a.load(v_buffer, a.head(a.v, h, a.value_depth))
        for r in e.tiles(a.queries, size):
            q = a.load(q_buffer, rows(a.head(a.q, h, a.depth), r.start, r.size))
            s_buffer.next()
            scores_in = s_buffer.view(a.scores_in.operand.tensor, (r.size, a.keys))
            scores_out = s_buffer.view(a.scores_out.operand.tensor, (r.size, a.keys))
            a.multiply_keys(q, k, scores_in)
            a.add_mask(m_buffer, scores_in, h, r)
            e.vector(Opcode.SOFTMAX, scores_out, [scores_in])
            y_buffer.next()
            tile = y_buffer.view(a.y.operand.tensor, (r.size, a.value_depth))
            e.tensor(Opcode.MATMUL, tile, [scores_out, v], (("bias", 0),))
            e.store(rows(a.head(a.y, h, a.value_depth), r.start, r.size), tile)


def _emit_streamed(e: Emitter, context: OpContext, t: Tiling) -> None:
    """Scores stay in SRAM, K and V stream past each query tile.

    Integer sums are in steps of V, and their last column sums the exponentials, for the copy to
    divide by.
    """
    a = _Attention(e, context)
    size, key_tile = t["queries"], t["keys"]
    kv_buffer = e.buffer("kv", key_tile * max(a.depth, a.value_depth), a.dtype)
    q_buffer = e.buffer("q", size * a.depth, a.dtype)
    s_buffer = e.buffer("scores", size * a.keys, a.dtype)
    m_buffer = a.mask_buffer(size)
    sum_dtype = statistics_dtype(a.dtype)
    sum_columns = a.value_depth + (sum_dtype is DType.INT64)
    sum_buffer = e.buffer("sum", size * sum_columns, sum_dtype)
    y_buffer = e.buffer("y", size * a.value_depth, a.dtype)
    for h in e.tiles(a.heads, 1):
        for r in e.tiles(a.queries, size):
            q = a.load(q_buffer, rows(a.head(a.q, h, a.depth), r.start, r.size))
            s_buffer.next()
            scores_in = s_buffer.view(a.scores_in.operand.tensor, (r.size, a.keys))
            scores_out = s_buffer.view(a.scores_out.operand.tensor, (r.size, a.keys))
            for c in e.tiles(a.keys, key_tile):
                source = rows(a.head(a.k, h, a.depth), c.start, c.size)
                k = a.load(kv_buffer, source, again=r.index > 0)
                a.multiply_keys(q, k, columns(scores_in, c.start, c.size))
            a.add_mask(m_buffer, scores_in, h, r)
            e.vector(Opcode.SOFTMAX, scores_out, [scores_in])
            sum_buffer.next()
            total = sum_buffer.view(a.v.operand.tensor, (r.size, sum_columns))
            for c in e.tiles(a.keys, key_tile):
                source = rows(a.head(a.v, h, a.value_depth), c.start, c.size)
                v = a.load(kv_buffer, source, again=r.index > 0)
                part = columns(scores_out, c.start, c.size)
                attrs = (("accumulate", int(c.index > 0)), ("bias", 0))
                e.tensor(Opcode.MATMUL, total, [part, v], attrs)
            y_buffer.next()
            tile = y_buffer.view(a.y.operand.tensor, (r.size, a.value_depth))
            e.vector(Opcode.COPY, tile, [total])
            e.store(rows(a.head(a.y, h, a.value_depth), r.start, r.size), tile)


def _emit_spilled(e: Emitter, context: OpContext, t: Tiling) -> None:
    """Scores to DRAM and back around each step; buffers are shared by the three steps."""
    a = _Attention(e, context)
    size = t["queries"]
    depth = max(a.depth, a.value_depth)
    kv_buffer = e.buffer("kv", a.keys * depth, a.dtype)
    qy_buffer = e.buffer("qy", size * depth, a.dtype)
    s_buffer = e.buffer("scores", size * a.keys, a.dtype)
    m_buffer = a.mask_buffer(size)
    scores_in, scores_out = matrix(a.scores_in), matrix(a.scores_out)
    for h in e.tiles(a.heads, 1):
        k = a.load(kv_buffer, a.head(a.k, h, a.depth))
        for r in e.tiles(a.queries, size):
            q = a.load(qy_buffer, rows(a.head(a.q, h, a.depth), r.start, r.size))
            s_buffer.next()
            tile = s_buffer.view(scores_in.operand.tensor, (r.size, a.keys))
            a.multiply_keys(q, k, tile)
            e.store(rows(scores_in, h.start * a.queries + r.start, r.size), tile)
    for h in e.tiles(a.heads, 1):
        for r in e.tiles(a.queries, size):
            start = h.start * a.queries + r.start
            tile = a.load(s_buffer, rows(scores_in, start, r.size))
            a.add_mask(m_buffer, tile, h, r)
            result = s_buffer.view(scores_out.operand.tensor, (r.size, a.keys))
            e.vector(Opcode.SOFTMAX, result, [tile])
            e.store(rows(scores_out, start, r.size), result)
    for h in e.tiles(a.heads, 1):
        v = a.load(kv_buffer, a.head(a.v, h, a.value_depth))
        for r in e.tiles(a.queries, size):
            start = h.start * a.queries + r.start
            tile = a.load(s_buffer, rows(scores_out, start, r.size))
            qy_buffer.next()
            y = qy_buffer.view(a.y.operand.tensor, (r.size, a.value_depth))
            e.tensor(Opcode.MATMUL, y, [tile, v], (("bias", 0),))
            e.store(rows(a.head(a.y, h, a.value_depth), r.start, r.size), y)


def _emit(e: Emitter, context: OpContext, t: Tiling) -> None:
    if t["keys"] < matrix(context.input(1)).shape[0]:
        _emit_streamed(e, context, t)
    elif e.schedule.attention_in_sram:
        _emit_tiled(e, context, t)
    else:
        _emit_spilled(e, context, t)


ATTENTION = Rule(_tilings, _emit, fallback=_streamed_tilings)
