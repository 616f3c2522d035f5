"""Attention: scores, softmax and the product with V, head by head.

Spilled (the paper's "without MLT"), the scores go to DRAM and back around each of the three steps.
In SRAM ("with MLT"), a tile of query rows keeps its scores on chip: K and V of one head stay
resident while query tiles stream, of all heads of queries that share them, so DRAM sees only Q, K,
V and the result. The tile search picks the number of query rows that SRAM can hold. Where K and V
of two heads leave scores too little room, the next head's are loaded when the last one's are done
with; where those of one do, they stream past each query tile (``ops.streamed_attention``). The
softmax always sees whole rows, so values do not depend on the tiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from edgefusion.compiler.graph import names
from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Stage,
    Tiling,
    matrix,
    rows,
    stripe_sizes,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.lowering.view import Overlay
from edgefusion.compiler.network.kind import (
    Accumulation,
    Inner,
    Shape,
    constant_or_name,
    operand,
)
from edgefusion.compiler.network.ranges import LEVELS, Ranges, ScaleRemark
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.ops.attention_forms import (
    Operands,
    RollingAttention,
    emit_spilled,
    emit_tiled,
    heads_ahead,
)
from edgefusion.compiler.ops.matmul import row_granule
from edgefusion.compiler.ops.streamed_attention import (
    StreamedAttention,
    slot_elements,
    streamed_tilings,
)
from edgefusion.compiler.schedule.schedule import Schedule

MASK_MARGIN = 24.0
"""exp(-24) is below half a step of a probability, even times 4096: a masked score this far below
the lowest score is as good as minus infinity, and a wider range would only cost resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(LoweredKind):
    """q[1,lq,h*d], k[1,lk,hk*d], v[1,lk,hk*e], [mask[..,lq,lk]] -> y[1,lq,h*e]; heads, scale"""

    name: ClassVar[str] = "attention"
    q: str = operand()
    k: str = operand()
    v: str = operand()
    mask: str = operand(optional=True)
    heads: int
    scale: float

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Queries by the width of the values of all heads."""
        return (*shapes["q"][:-1], shapes["v"][-1] * self._group(shapes))

    def _group(self, shapes: Mapping[str, Shape]) -> int:
        """How many heads of q each of k and v is for."""
        return shapes["q"][-1] // shapes["k"][-1]

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Queries, and whole heads where masks are the same for all."""
        last = len(result) - 1
        per_head = "mask" in shapes and prod(shapes["mask"][:-2]) > 1
        group = self._group(shapes)
        heads = {} if per_head else {last: group * result[-1] // self.heads}
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
        group = self._group(shapes)
        found = {"q": (len(shapes["q"]) - 1, _columns(shapes["q"], self.heads, first, count))}
        for key in ("k", "v"):
            columns = _columns(shapes[key], self.heads // group, first // group, count // group)
            found[key] = len(shapes[key]) - 1, columns
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
        depth = max(keys.elements // keys.shape[-1], tensors[self.q].shape[-1])
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
        """K and V of one head at a time, none of the next, in favour of scores; then in tiles
        too."""
        a = self._operands(context)
        if a.key_heads > 1:
            for size in stripe_sizes(a.queries, multiple=row_granule(context.machine, a.queries)):
                yield tiling(queries=size, keys=a.keys, heads_ahead=0)
        yield from streamed_tilings(a)

    def is_cramped(self, context: OpContext, schedule: Schedule) -> bool:
        """Where K and V of a head leave little room for the scores that stay."""
        if not schedule.attention_in_sram:
            return False
        a = self._operands(context)
        width = sum(
            depth for view, depth in ((a.k, a.depth), (a.v, a.value_depth)) if not view.in_sram
        )
        copies = min(a.key_heads, 2)
        return 3 * copies * a.keys * width * a.dtype.nbytes > context.machine.sram_bytes

    def pauses(self, context: OpContext, t: Tiling) -> tuple[int, int] | None:
        """Nothing while a head is worked at that leaves the next no room. Of streamed K and V, what
        the ring has room for while a query tile is in the softmax, and K of the next tile if that
        is ahead. One slot is full or read, not both."""
        a = self._operands(context)
        if t["keys"] == a.keys:
            return None if heads_ahead(t) else (a.key_heads, 0)
        slot_bytes = slot_elements(a, t) * a.dtype.nbytes
        ring_bytes = slot_bytes * t["copies"] if t["copies"] > 1 else 0
        next_bytes = a.keys * a.depth * a.dtype.nbytes if t["queries_ahead"] else 0
        return a.heads * -(-a.queries // t["queries"]), ring_bytes + next_bytes

    def beginning(
        self, context: OpContext, t: Tiling, tiles: int
    ) -> tuple[OpContext, float] | None:
        """Query tiles of all heads. Rows of a mask lie by heads."""
        a, size = self._operands(context), tiles * t["queries"]
        if self.mask or a.queries <= size:
            return None
        q, y = self.q, context.op.outputs[0]
        views = Overlay(context.views)
        views |= {q: rows(a.q, 0, size), y: rows(a.y, 0, size)}
        return replace(context, views=views), a.queries / size

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Queries by stripes, in tiles of these; K and V of all heads stay."""
        keys = matrix(context.view(self.k)).shape[0]
        for queries in tile_sizes(size, multiple=row_granule(context.machine, size)):
            yield tiling(queries=queries, keys=keys)

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """See the module; ``emit`` knows more ways for the whole op."""
        return RollingAttention(e, lambda: self._operands(context), t)

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """See the module."""
        a = self._operands(context)
        if t["keys"] < a.keys:
            StreamedAttention(e, a, t).run()
        elif e.schedule.attention_in_sram:
            emit_tiled(e, a, t)
        else:
            emit_spilled(e, a, t)

    def _operands(self, context: OpContext) -> Operands:
        q, k, v = (matrix(context.view(name)) for name in (self.q, self.k, self.v))
        mask = context.view(self.mask) if self.mask else None
        return Operands(context, q, k, v, mask, self.heads, self.scale)


def _columns(shape: Shape, heads: int, first: int, count: int) -> Span:
    """Those of ``count`` heads of tokens [..., heads*d]."""
    depth = shape[-1] // heads
    return Span(first * depth, count * depth)
