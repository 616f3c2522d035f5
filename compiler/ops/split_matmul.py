"""Matrix products accumulated over parts of K: x[m,k] w[k,n] -> y[m,n].

One operand of a result tile may be kept whole, so that it is loaded once while the other streams
past it: rows of x for all tiles of columns (``keep=x``), columns of w for all tiles of rows
(``keep=w``). Where neither fits (``keep=none``), parts of both pass for every tile of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgefusion.compiler.lowering.channel_constants import (
    ChannelConstant,
    load_constants,
    reserve_constants,
)
from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Stage,
    Tiling,
    columns,
    rows,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.ops.split_reduction import (
    Largest,
    Sums,
    depths,
    doublings,
    least_depth,
)
from edgefusion.runtime.isa import Opcode


@dataclass(frozen=True, slots=True)
class Factors:
    """A product's operands in DRAM, x[m,k], w[k,n] and y[m,n]; the names of ``weights``, whose
    scales are loaded too, and ``bias`` ('' for none). ``batches`` products have this shape."""

    x: View
    w: View
    y: View
    weights: str
    bias: str = ""
    batches: int = 1

    @property
    def extents(self) -> tuple[int, int, int]:
        """m, k and n."""
        return self.x.shape[0], self.x.shape[1], self.w.shape[1]


def split_matmul_tilings(context: OpContext, f: Factors) -> Iterator[Tiling]:
    """Tilings down to one granule of the array in each extent. A depth of all K splits nothing:
    then columns are narrower than those that the rule itself tries."""
    machine, (m, k, n) = context.machine, f.extents
    row_tiles = doublings(m, min(m, machine.tensor_granularity_m))
    sizes = tile_sizes(n, multiple=min(n, machine.tensor_granularity_n))

    def made(size: int, row_tile: int, depth: int, keep: str) -> Tiling:
        return tiling(channels=size, rows=row_tile, depth=depth, keep=keep)

    largest = Largest(machine, lambda e, t: SplitMatmul.reserve(e, context, f, t))
    for keep in ("x", "w", "none"):
        for row_tile in row_tiles:
            for depth in depths(machine, k):
                if depth < k or keep != "none":
                    family = [made(size, row_tile, depth, keep) for size in sizes]
                    yield from largest.of(family, keep, row_tile, depth)
    if not largest.found:
        for row_tile in row_tiles:
            for depth in [d for d in doublings(k, least_depth(machine, k)) if d < k] or [k]:
                family = [made(size, row_tile, depth, "none") for size in sizes]
                yield from largest.of(family, "none", row_tile, depth)
        # What the message of an op that does not fit asks for.
        yield made(sizes[-1], row_tiles[-1], least_depth(machine, k), "none")


@dataclass
class SplitMatmul(Stage):
    """The stage of an op in one run; ``product`` takes the products of one that has several."""

    e: Emitter
    factors: Factors
    tiling: Tiling
    x_buffer: Buffer | None
    w_buffer: Buffer | None
    constants: list[ChannelConstant]
    sums: Sums
    y_buffer: Buffer | None
    epilogue: EpilogueBuffers

    @classmethod
    def reserve(cls, e: Emitter, context: OpContext, f: Factors, t: Tiling) -> SplitMatmul:
        """Reserve SRAM. Raises DoesNotFitError."""
        (m, k, n), keep = f.extents, t.choice("keep")
        size, channels, depth = t["rows"], t["channels"], t["depth"]
        one = f.batches == 1
        x_width, w_height = k if keep == "x" else depth, k if keep == "w" else depth
        x_once, w_once = keep == "x" and size == m, keep == "w" and channels == n
        x_buffer = e.input_buffer("x", size * x_width, f.x, streamed=not (one and x_once))
        w_buffer = e.input_buffer("w", w_height * channels, f.w, streamed=not (one and w_once))
        constants = reserve_constants(
            e, context, f.weights, f.bias, channels, streamed=channels < n
        )
        epilogue = EpilogueBuffers.reserve(e, context, size * channels, channels)
        sums = Sums.reserve(e, size * channels, f.y, epilogue.stages[0], parts=-(-k // depth))
        changed = EpilogueBuffers.changes(context.op)
        y_buffer = e.output_buffer("y", size * channels, f.y, needed=changed)
        return cls(e, f, t, x_buffer, w_buffer, constants, sums, y_buffer, epilogue)

    def run(self, span: Span) -> None:
        """All rows of the only product."""
        f = self.factors
        self.product(f.x, f.w, f.y)

    def product(self, x: View, w: View, y: View) -> None:
        """One product."""
        e, keep = self.e, self.tiling.choice("keep")
        m, _, n = self.factors.extents
        size, channels = self.tiling["rows"], self.tiling["channels"]
        if keep == "x":
            for r in e.tiles(m, size):
                x_rows = e.bring(self.x_buffer, rows(x, r.start, r.size), again=False)
                for c in e.tiles(n, channels):
                    if r.index == 0 or channels < n:
                        self._load_constants(c, again=r.index > 0)
                    self._tile(r, c, y, x, w, x_rows=x_rows)
            return
        for c in e.tiles(n, channels):
            self._load_constants(c, again=False)
            w_columns = None
            if keep == "w":
                source = columns(w, c.start, c.size)
                w_columns = e.bring(self.w_buffer, source, again=False)
            for r in e.tiles(m, size):
                self._tile(r, c, y, x, w, w_columns=w_columns)

    def finish(self) -> None:
        """Once all products are done."""
        self.epilogue.finish(self.e)

    def _tile(
        self,
        r: Tile,
        c: Tile,
        y: View,
        x: View,
        w: View,
        *,
        x_rows: View | None = None,
        w_columns: View | None = None,
    ) -> None:
        """One tile of the result; operands that are not kept are loaded part by part."""
        e, k = self.e, self.factors.extents[1]
        self.sums.begin()
        for d in e.tiles(k, self.tiling["depth"]):
            if x_rows is None:
                part = x.box((r.start, d.start), (r.size, d.size))
                left = e.bring(self.x_buffer, part, again=c.index > 0)
            else:
                left = columns(x_rows, d.start, d.size)
            if w_columns is None:
                part = w.box((d.start, c.start), (d.size, c.size))
                right = e.bring(self.w_buffer, part, again=r.index > 0)
            else:
                right = rows(w_columns, d.start, d.size)
            first, shape = d.index == 0, (r.size, c.size)
            if d.start + d.size < k:
                self.sums.add(e, Opcode.MATMUL, shape, [left, right], (), first=first)
                continue
            target = y.box((r.start, c.start), shape)
            tile = e.place(self.y_buffer, target, self.epilogue.stages[0])
            inputs = [left, right, *(constant.current(c) for constant in self.constants)]
            attrs = (("bias", int(bool(self.factors.bias))),)
            self.sums.finish(e, Opcode.MATMUL, tile, inputs, attrs, first=first)
            starts = (r.start, c.start)
            tile = self.epilogue.apply(e, tile, starts, c, target, first=r.index == 0)
            e.deliver(target, tile)

    def _load_constants(self, c: Tile, *, again: bool) -> None:
        load_constants(self.e, self.constants, c, again=again)
        self.epilogue.load_vectors(self.e, c, again=again)
