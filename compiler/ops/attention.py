"""Attention: scores, softmax and the product with V, head by head.

Spilled (the paper's "without MLT"), the scores go to DRAM and back around each of the three steps.
In SRAM ("with MLT"), a tile of query rows keeps its scores on chip: K and V of one head stay
resident while query tiles stream, so DRAM sees only Q, K, V and the result. The tile search picks
the number of query rows that SRAM can hold. Where K and V of a head are too big to stay, they
stream past each query tile in tiles of keys; the softmax still sees whole rows, so values do not
depend on the tiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from edgefusion.compiler.graph import names
from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Stage,
    Tiling,
    columns,
    matrix,
    rows,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.kind import (
    Accumulation,
    Inner,
    Shape,
    constant_or_name,
    operand,
)
from edgefusion.compiler.network.ranges import LEVELS, Ranges, ScaleRemark
from edgefusion.compiler.network.tensor import Tensors, statistics_dtype
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.ops.matmul import channel_granule, row_granule
from edgefusion.runtime.isa import DType, Opcode

MASK_MARGIN = 24.0
"""exp(-24) is below half a step of a probability, even times 4096: a masked score this far below
the lowest score is as good as minus infinity, and a wider range would only cost resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(LoweredKind):
    """q[1,lq,h*d], k[1,lk,h*d], v[1,lk,h*e], [mask[..,lq,lk]] -> y[1,lq,h*e]; heads, scale"""

    name: ClassVar[str] = "attention"
    q: str = operand()
    k: str = operand()
    v: str = operand()
    mask: str = operand(optional=True)
    heads: int
    scale: float

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Queries by the width of the values."""
        return (*shapes["q"][:-1], shapes["v"][-1])

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Queries, and whole heads where masks are the same for all."""
        last = len(result) - 1
        per_head = "mask" in shapes and prod(shapes["mask"][:-2]) > 1
        heads = {} if per_head else {last: result[-1] // self.heads}
        return {last - 1: 1, **heads}

    def needs(
        self, shapes: Mapping[str, Shape], result: Shape, axis: int, span: Span
    ) -> Mapping[str, tuple[int, Span]]:
        """Rows of q and of the mask, or the columns of the heads."""
        if axis == len(result) - 2:
            found = {"q": (axis, span)}
            mask = shapes.get("mask", ())
            if len(mask) > 1 and mask[-2] == result[axis]:
                found["mask"] = (len(mask) - 2, span)
            return found
        first, count = (n // (result[-1] // self.heads) for n in (span.start, span.size))
        found = {}
        for key in ("q", "k", "v"):
            depth = shapes[key][-1] // self.heads
            found[key] = len(shapes[key]) - 1, Span(first * depth, count * depth)
        return found

    def inner(self, op_name: str, tensors: Tensors) -> tuple[Inner, ...]:
        """The scores of all heads, before and behind the softmax."""
        q, k = tensors[self.q], tensors[self.k]
        queries, keys = q.elements // q.shape[-1], k.elements // k.shape[-1]
        shape = (self.heads * queries, keys)
        exponentials = Inner(names.scores_out(op_name), shape, row_normalised=True)
        return Inner(names.scores_in(op_name), shape), exponentials

    def measured_inside(self, op_name: str) -> tuple[str, ...]:
        """Scores before the mask, and behind it."""
        plain = names.scores_in(op_name)
        return (plain, names.scores_masked(op_name)) if self.mask else (plain,)

    def inner_ranges(self, op_name: str, largest: Callable[[str], float]) -> Mapping[str, float]:
        """The largest score that must be told apart, before the mask and behind it."""
        scores = names.scores_in(op_name)
        plain = largest(scores)
        if not self.mask:
            return {scores: plain}
        masked = largest(names.scores_masked(op_name))
        return {scores: max(plain, min(masked, plain + MASK_MARGIN))}

    def range_limits(self, op_name: str, largest: Callable[[str], float]) -> Mapping[str, float]:
        """Minus infinity in a mask needs a number that puts every score out of reach, no more."""
        if not self.mask:
            return {}
        return {self.mask: 2 * largest(names.scores_in(op_name)) + MASK_MARGIN}

    def accumulation(self, tensors: Tensors) -> Accumulation:
        """Over the depth of a head for scores, over keys for results."""
        keys = tensors[self.k]
        depth = max(keys.elements // keys.shape[-1], keys.shape[-1])
        return Accumulation(depth, LEVELS + 1)

    def remarks(self, op_name: str, tensors: Tensors, ranges: Ranges) -> Iterator[ScaleRemark]:
        """A mask of minus infinity or thereabouts is clipped to what the softmax can tell apart."""
        mask = ranges.get(constant_or_name(tensors[self.mask])) if self.mask else None
        scores = ranges.get(names.scores_in(op_name))
        if mask is None or scores is None:
            return
        limit = -2 * scores.largest - MASK_MARGIN
        if mask.low < limit:
            yield ScaleRemark(
                "mask",
                self.mask,
                f"reaches {mask.low:.3g} where scores of '{op_name}' stay within "
                f"{scores.largest:.3g}; it is clipped to {limit:.3g}, which puts masked scores out "
                "of reach",
            )

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Tiles of queries; keys whole."""
        queries, keys = (matrix(context.view(name)).shape[0] for name in (self.q, self.k))
        for size in tile_sizes(queries, multiple=row_granule(context.machine, queries)):
            yield tiling(queries=size, keys=keys)

    def fallback(self, context: OpContext) -> Iterator[Tiling]:
        """Keys in tiles too."""
        queries, keys = (matrix(context.view(name)).shape[0] for name in (self.q, self.k))
        for key_tile in tile_sizes(keys, multiple=channel_granule(context.machine, keys))[1:]:
            for size in tile_sizes(queries, multiple=row_granule(context.machine, queries)):
                for ahead in (1, 0):
                    yield tiling(queries=size, keys=key_tile, queries_ahead=ahead)

    def overlaps(self, t: Tiling) -> bool:
        """Not where one query tile has to be done with before the next."""
        return t.get("queries_ahead", 1) == 1

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Queries by stripes, in tiles of these; K and V of all heads stay."""
        keys = matrix(context.view(self.k)).shape[0]
        for queries in tile_sizes(size, multiple=row_granule(context.machine, size)):
            yield tiling(queries=queries, keys=keys)

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """See the module; ``emit`` knows more ways for the whole op."""
        return _Stage(self, e, context, t)

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """See the module."""
        a = _Emission(self, e, context)
        if t["keys"] < a.keys:
            _emit_streamed(a, t)
        elif e.schedule.attention_in_sram:
            _emit_tiled(a, t)
        else:
            _emit_spilled(a, t)


@dataclass
class _Emission:
    """Shapes and DRAM views of one attention op; k and v rows are keys."""

    kind: Attention
    e: Emitter
    context: OpContext

    def __post_init__(self) -> None:
        context, kind = self.context, self.kind
        self.heads = kind.heads
        self.q, self.k, self.v = (matrix(context.view(name)) for name in (kind.q, kind.k, kind.v))
        self.y = matrix(context.output())
        self.mask = context.view(kind.mask) if kind.mask else None
        self.queries, self.keys = self.q.shape[0], self.k.shape[0]
        self.depth, self.value_depth = self.q.shape[1] // self.heads, self.v.shape[1] // self.heads
        self.qk_attrs: tuple[tuple[str, Any], ...] = (("bias", 0), ("scale", kind.scale))
        self.dtype = self.q.operand.dtype
        name = context.op.name
        self.scores_in = context.view(names.scores_in(name))
        self.scores_out = context.view(names.scores_out(name))

    def head(self, view: View, h: Tile, depth: int) -> View:
        """Columns of head ``h``."""
        return columns(view, h.start * depth, depth)

    def multiply_keys(self, q: View, k: View, scores: View) -> None:
        """Scores of a query tile: q k^T, scaled."""
        transposed = k.strided(k.shape[::-1], k.operand.strides[::-1])
        self.e.tensor(Opcode.MATMUL, scores, [q, transposed], self.qk_attrs)

    def attend(
        self,
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
        self.multiply_keys(q, k, scores_in)
        self.add_mask(m_buffer, scores_in, h, r)
        self.e.vector(Opcode.SOFTMAX, scores_out, [scores_in])
        self.e.tensor(Opcode.MATMUL, y, [scores_out, v], (("bias", 0),))

    def mask_buffer(self, size: int) -> Buffer | None:
        """SRAM for mask rows, if there is a mask."""
        if self.mask is None:
            return None
        return self.e.input_buffer("mask", size * self.keys, self.mask)

    def add_mask(self, buffer: Buffer | None, scores: View, h: Tile, r: Tile) -> None:
        """Add the mask rows of a query tile to its scores, in place."""
        if self.mask is None:
            return
        mask = self.mask.reshape(self.mask.operand.elements // self.keys, self.keys)
        per_head = mask.shape[0] // self.queries if mask.shape[0] >= self.queries else 1
        if mask.shape[0] == 1:
            source = mask
            tile = self.e.bring(buffer, source, again=h.index + r.index > 0)
            tile = tile.strided(scores.shape, (0, tile.operand.strides[-1]))
        else:
            base = (h.start % per_head) * self.queries
            again = h.index > 0 and per_head == 1
            tile = self.e.bring(buffer, rows(mask, base + r.start, r.size), again=again)
        self.e.vector(Opcode.BINARY, scores, [scores, tile], (("function", "add"),))


class _Stage(Stage):
    """Queries stripe by stripe. K and V of all heads come once."""

    def __init__(self, kind: Attention, e: Emitter, context: OpContext, t: Tiling) -> None:
        self.kind, self.e, self.context, self.size = kind, e, context, t["queries"]
        a = _Emission(kind, e, context)
        self.k_buffer, self.v_buffer = (
            e.input_buffer(name, view.operand.elements, view, streamed=False)
            for name, view in (("k", a.k), ("v", a.v))
        )
        self.q_buffer = e.input_buffer("q", self.size * a.q.shape[1], a.q)
        self.s_buffer = e.buffer("scores", self.size * a.keys, a.dtype)
        self.m_buffer = a.mask_buffer(self.size)
        self.y_buffer = e.output_buffer("y", self.size * a.y.shape[1], a.y)
        self.kept: tuple[View, View] | None = None

    def run(self, span: Span) -> None:
        """All heads of one tile of queries after the other."""
        e, a = self.e, _Emission(self.kind, self.e, self.context)
        if self.kept is None:
            self.kept = e.bring(self.k_buffer, a.k), e.bring(self.v_buffer, a.v)
        k, v = self.kept
        for r in e.tiles(span.size, self.size, start=span.start):
            q = e.bring(self.q_buffer, rows(a.q, r.start, r.size))
            target = rows(a.y, r.start, r.size)
            y = e.place(self.y_buffer, target)
            for h in e.tiles(a.heads, 1):
                of_head = a.head(q, h, a.depth), a.head(k, h, a.depth), a.head(v, h, a.value_depth)
                tile = a.head(y, h, a.value_depth)
                a.attend(h, r, of_head, tile, self.s_buffer, self.m_buffer)
            e.deliver(target, y)


def _emit_tiled(a: _Emission, t: Tiling) -> None:
    """Model-level tiling: scores never leave SRAM."""
    e, size = a.e, t["queries"]
    k_buffer = e.input_buffer("k", a.keys * a.depth, a.k)
    v_buffer = e.input_buffer("v", a.keys * a.value_depth, a.v)
    q_buffer = e.input_buffer("q", size * a.depth, a.q)
    s_buffer = e.buffer("scores", size * a.keys, a.dtype)
    m_buffer = a.mask_buffer(size)
    y_buffer = e.output_buffer("y", size * a.value_depth, a.y)
    for h in e.tiles(a.heads, 1):
        k = e.bring(k_buffer, a.head(a.k, h, a.depth))
        v = e.bring(v_buffer, a.head(a.v, h, a.value_depth))
        for r in e.tiles(a.queries, size):
            q = e.bring(q_buffer, rows(a.head(a.q, h, a.depth), r.start, r.size))
            target = rows(a.head(a.y, h, a.value_depth), r.start, r.size)
            tile = e.place(y_buffer, target)
            a.attend(h, r, (q, k, v), tile, s_buffer, m_buffer)
            e.deliver(target, tile)


def _emit_streamed(a: _Emission, t: Tiling) -> None:
    """Scores stay in SRAM, K and V stream past each query tile; the next query tile is there ahead,
    if there is room for its scores as well.

    Integer sums are in steps of V, and their last column sums the exponentials, for the copy to
    divide by.
    """
    e, size, key_tile = a.e, t["queries"], t["keys"]
    two = t.choice("queries_ahead") == "1"
    kv_buffer = e.buffer("kv", key_tile * max(a.depth, a.value_depth), a.dtype)
    k_buffer, v_buffer = (None if view.in_sram else kv_buffer for view in (a.k, a.v))
    q_buffer = e.input_buffer("q", size * a.depth, a.q, streamed=two)
    s_buffer = e.buffer("scores", size * a.keys, a.dtype, streamed=two)
    m_buffer = a.mask_buffer(size)
    sum_dtype = statistics_dtype(a.dtype)
    sum_columns = a.value_depth + (sum_dtype is DType.INT64)
    sum_buffer = e.buffer("sum", size * sum_columns, sum_dtype, streamed=two)
    y_buffer = e.output_buffer("y", size * a.value_depth, a.y)
    for h in e.tiles(a.heads, 1):
        for r in e.tiles(a.queries, size):
            q = e.bring(q_buffer, rows(a.head(a.q, h, a.depth), r.start, r.size))
            s_buffer.next()
            scores_in = s_buffer.view(a.scores_in.operand.tensor, (r.size, a.keys))
            scores_out = s_buffer.view(a.scores_out.operand.tensor, (r.size, a.keys))
            for c in e.tiles(a.keys, key_tile):
                source = rows(a.head(a.k, h, a.depth), c.start, c.size)
                k = e.bring(k_buffer, source, again=r.index > 0)
                a.multiply_keys(q, k, columns(scores_in, c.start, c.size))
            a.add_mask(m_buffer, scores_in, h, r)
            e.vector(Opcode.SOFTMAX, scores_out, [scores_in])
            sum_buffer.next()
            total = sum_buffer.view(a.v.operand.tensor, (r.size, sum_columns))
            for c in e.tiles(a.keys, key_tile):
                source = rows(a.head(a.v, h, a.value_depth), c.start, c.size)
                v = e.bring(v_buffer, source, again=r.index > 0)
                part = columns(scores_out, c.start, c.size)
                attrs = (("accumulate", int(c.index > 0)), ("bias", 0))
                e.tensor(Opcode.MATMUL, total, [part, v], attrs)
            target = rows(a.head(a.y, h, a.value_depth), r.start, r.size)
            tile = e.place(y_buffer, target)
            e.vector(Opcode.COPY, tile, [total])
            e.deliver(target, tile)


def _emit_spilled(a: _Emission, t: Tiling) -> None:
    """Scores to DRAM and back around each step; buffers are shared by the three steps."""
    e, size = a.e, t["queries"]
    depth = max(a.depth, a.value_depth)
    kv_buffer = e.buffer("kv", a.keys * depth, a.dtype)
    qy_buffer = e.buffer("qy", size * depth, a.dtype)
    s_buffer = e.buffer("scores", size * a.keys, a.dtype)
    m_buffer = a.mask_buffer(size)
    scores_in, scores_out = matrix(a.scores_in), matrix(a.scores_out)
    for h in e.tiles(a.heads, 1):
        k = e.bring(kv_buffer, a.head(a.k, h, a.depth))
        for r in e.tiles(a.queries, size):
            q = e.bring(qy_buffer, rows(a.head(a.q, h, a.depth), r.start, r.size))
            s_buffer.next()
            tile = s_buffer.view(scores_in.operand.tensor, (r.size, a.keys))
            a.multiply_keys(q, k, tile)
            e.store(rows(scores_in, h.start * a.queries + r.start, r.size), tile)
    for h in e.tiles(a.heads, 1):
        for r in e.tiles(a.queries, size):
            start = h.start * a.queries + r.start
            tile = e.bring(s_buffer, rows(scores_in, start, r.size))
            a.add_mask(m_buffer, tile, h, r)
            result = s_buffer.view(scores_out.operand.tensor, (r.size, a.keys))
            e.vector(Opcode.SOFTMAX, result, [tile])
            e.store(rows(scores_out, start, r.size), result)
    for h in e.tiles(a.heads, 1):
        v = e.bring(kv_buffer, a.head(a.v, h, a.value_depth))
        for r in e.tiles(a.queries, size):
            start = h.start * a.queries + r.start
            tile = e.bring(s_buffer, rows(scores_out, start, r.size))
            qy_buffer.next()
            y = qy_buffer.view(a.y.operand.tensor, (r.size, a.value_depth))
            e.tensor(Opcode.MATMUL, y, [tile, v], (("bias", 0),))
            e.store(rows(a.head(a.y, h, a.value_depth), r.start, r.size), y)
