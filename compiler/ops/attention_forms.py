"""How attention is emitted while K and V of a head, or a head's scores, have room: in SRAM, or
spilled. What all forms share is ``Operands``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from edgefusion.compiler.graph import names
from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile
from edgefusion.compiler.lowering.rule import OpContext, Stage, Tiling, columns, matrix, rows
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.window import Span
from edgefusion.runtime.isa import Opcode


@dataclass
class Operands:
    """Shapes and views of one attention op of ``heads`` heads; k and v rows are keys. Each head of
    k and v is for a ``group`` of q's."""

    context: OpContext
    q: View
    k: View
    v: View
    mask: View | None
    heads: int
    scale: float

    def __post_init__(self) -> None:
        context = self.context
        self.y = matrix(context.output())
        self.queries, self.keys = self.q.shape[0], self.k.shape[0]
        self.depth = self.q.shape[1] // self.heads
        self.key_heads = self.k.shape[1] // self.depth
        self.group = self.heads // self.key_heads
        self.value_depth = self.v.shape[1] // self.key_heads
        self.qk_attrs: tuple[tuple[str, Any], ...] = (("bias", 0), ("scale", self.scale))
        self.dtype = self.q.operand.dtype
        name = context.op.name
        self.scores_in = context.view(names.scores_in(name))
        self.scores_out = context.view(names.scores_out(name))

    def head(self, view: View, h: Tile, depth: int) -> View:
        """Columns of head ``h``."""
        return columns(view, h.start * depth, depth)

    def tiles(self, e: Emitter, key_head: Tile, size: int) -> Iterator[tuple[Tile, Tile]]:
        """Heads of queries that attend to a ``key_head``, and their tiles of ``size`` queries."""
        for h in e.tiles(self.group, 1, start=key_head.start * self.group):
            for r in e.tiles(self.queries, size):
                yield h, r

    def multiply_keys(self, e: Emitter, q: View, k: View, scores: View) -> None:
        """Scores of a query tile: q k^T, scaled."""
        transposed = k.strided(k.shape[::-1], k.operand.strides[::-1])
        e.tensor(Opcode.MATMUL, scores, [q, transposed], self.qk_attrs)

    def mask_buffer(self, e: Emitter, size: int, *, streamed: bool = True) -> Buffer | None:
        """SRAM for mask rows, if there is a mask."""
        if self.mask is None:
            return None
        return e.input_buffer("mask", size * self.keys, self.mask, streamed=streamed)

    def add_mask(self, e: Emitter, buffer: Buffer | None, scores: View, h: Tile, r: Tile) -> None:
        """Add the mask rows of a query tile to its scores, in place."""
        if self.mask is None:
            return
        mask = self.mask.reshape(self.mask.operand.elements // self.keys, self.keys)
        each = self.mask.shape[-2] if len(self.mask.shape) > 1 else 1
        per_head = mask.shape[0] // each
        base = (h.start % per_head) * each
        if each == 1:
            again = r.index + (h.start if per_head == 1 else 0) > 0
            tile = e.bring(buffer, rows(mask, base, 1), again=again)
            tile = tile.strided(scores.shape, (0, tile.operand.strides[-1]))
        else:
            again = h.start > 0 and per_head == 1
            tile = e.bring(buffer, rows(mask, base + r.start, r.size), again=again)
        e.vector(Opcode.BINARY, scores, [scores, tile], (("function", "add"),))

    def attend(
        self,
        e: Emitter,
        h: Tile,
        r: Tile,
        operands: tuple[View, View, View],
        y: View,
        s_buffer: Buffer,
        m_buffer: Buffer | None,
    ) -> None:
        """One query tile of one head, all keys at once: q, k and v of the head to ``y``."""
        q, k, v = operands
        s_buffer.next()
        scores_in = s_buffer.view(self.scores_in.operand.tensor, (r.size, self.keys))
        scores_out = s_buffer.view(self.scores_out.operand.tensor, (r.size, self.keys))
        self.multiply_keys(e, q, k, scores_in)
        self.add_mask(e, m_buffer, scores_in, h, r)
        e.vector(Opcode.SOFTMAX, scores_out, [scores_in])
        e.tensor(Opcode.MATMUL, y, [scores_out, v], (("bias", 0),))


class RollingAttention(Stage):
    """Queries stripe by stripe, K and V of all heads once. ``look_up`` says where operands are."""

    def __init__(self, e: Emitter, look_up: Callable[[], Operands], t: Tiling) -> None:
        self.e, self.look_up, self.size = e, look_up, t["queries"]
        a = look_up()
        self.k_buffer, self.v_buffer = (
            e.input_buffer(name, view.operand.elements, view, streamed=False)
            for name, view in (("k", a.k), ("v", a.v))
        )
        self.q_buffer = e.input_buffer("q", self.size * a.q.shape[1], a.q)
        self.s_buffer = e.buffer("scores", self.size * a.keys, a.dtype)
        self.m_buffer = a.mask_buffer(e, self.size)
        self.y_buffer = e.output_buffer("y", self.size * a.y.shape[1], a.y)
        self.kept: tuple[View, View] | None = None

    def run(self, span: Span) -> None:
        """All heads of one tile of queries after the other."""
        e, a = self.e, self.look_up()
        if self.kept is None:
            self.kept = e.bring(self.k_buffer, a.k), e.bring(self.v_buffer, a.v)
        k, v = self.kept
        for r in e.tiles(span.size, self.size, start=span.start):
            q = e.bring(self.q_buffer, rows(a.q, r.start, r.size))
            target = rows(a.y, r.start, r.size)
            y = e.place(self.y_buffer, target)
            for h in e.tiles(a.heads, 1):
                group = replace(h, start=h.start // a.group)
                keys, values = a.head(k, group, a.depth), a.head(v, group, a.value_depth)
                of_head = a.head(q, h, a.depth), keys, values
                tile = a.head(y, h, a.value_depth)
                a.attend(e, h, r, of_head, tile, self.s_buffer, self.m_buffer)
            e.deliver(target, y)


def heads_ahead(t: Tiling) -> bool:
    """Whether K and V of the next head are loaded while one is worked at."""
    return t.get("heads_ahead", 1) == 1


def emit_tiled(e: Emitter, a: Operands, t: Tiling) -> None:
    """Model-level tiling: scores never leave SRAM."""
    size = t["queries"]
    several = a.key_heads > 1 and heads_ahead(t)
    k_buffer = e.input_buffer("k", a.keys * a.depth, a.k, streamed=several)
    v_buffer = e.input_buffer("v", a.keys * a.value_depth, a.v, streamed=several)
    q_buffer = e.input_buffer("q", size * a.depth, a.q)
    s_buffer = e.buffer("scores", size * a.keys, a.dtype)
    m_buffer = a.mask_buffer(e, size)
    y_buffer = e.output_buffer("y", size * a.value_depth, a.y)
    for group in e.tiles(a.key_heads, 1):
        k = e.bring(k_buffer, a.head(a.k, group, a.depth))
        v = e.bring(v_buffer, a.head(a.v, group, a.value_depth))
        for h, r in a.tiles(e, group, size):
            q = e.bring(q_buffer, rows(a.head(a.q, h, a.depth), r.start, r.size))
            target = rows(a.head(a.y, h, a.value_depth), r.start, r.size)
            tile = e.place(y_buffer, target)
            a.attend(e, h, r, (q, k, v), tile, s_buffer, m_buffer)
            e.deliver(target, tile)


def emit_spilled(e: Emitter, a: Operands, t: Tiling) -> None:
    """Scores to DRAM and back around each step; buffers are shared by the three steps."""
    size = t["queries"]
    depth = max(a.depth, a.value_depth)
    kv_buffer = e.buffer("kv", a.keys * depth, a.dtype)
    qy_buffer = e.buffer("qy", size * depth, a.dtype)
    s_buffer = e.buffer("scores", size * a.keys, a.dtype)
    m_buffer = a.mask_buffer(e, size)
    scores_in, scores_out = matrix(a.scores_in), matrix(a.scores_out)
    for group in e.tiles(a.key_heads, 1):
        k = e.bring(kv_buffer, a.head(a.k, group, a.depth))
        for h, r in a.tiles(e, group, size):
            q = e.bring(qy_buffer, rows(a.head(a.q, h, a.depth), r.start, r.size))
            s_buffer.next()
            tile = s_buffer.view(scores_in.operand.tensor, (r.size, a.keys))
            a.multiply_keys(e, q, k, tile)
            e.store(rows(scores_in, h.start * a.queries + r.start, r.size), tile)
    for h in e.tiles(a.heads, 1):
        for r in e.tiles(a.queries, size):
            start = h.start * a.queries + r.start
            tile = e.bring(s_buffer, rows(scores_in, start, r.size))
            a.add_mask(e, m_buffer, tile, h, r)
            result = s_buffer.view(scores_out.operand.tensor, (r.size, a.keys))
            e.vector(Opcode.SOFTMAX, result, [tile])
            e.store(rows(scores_out, start, r.size), result)
    for group in e.tiles(a.key_heads, 1):
        v = e.bring(kv_buffer, a.head(a.v, group, a.value_depth))
        for h, r in a.tiles(e, group, size):
            start = h.start * a.queries + r.start
            tile = e.bring(s_buffer, rows(scores_out, start, r.size))
            qy_buffer.next()
            y = qy_buffer.view(a.y.operand.tensor, (r.size, a.value_depth))
            e.tensor(Opcode.MATMUL, y, [tile, v], (("bias", 0),))
            e.store(rows(a.head(a.y, h, a.value_depth), r.start, r.size), y)
