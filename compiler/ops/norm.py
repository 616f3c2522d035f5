"""Normalisation: GroupNorm in one of three ways, LayerNorm and RMSNorm row by row.

GroupNorm needs the statistics of whole channels before it can normalise any element. They come from
the producer's epilogue; or from a tile of whole channel groups that fits SRAM; or, where nothing
else fits, from a first pass over the tensor, which is then read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from edgefusion.compiler.lowering.emitter import Emitter, Tile, View
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Tiling,
    columns,
    matrix,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.network.kind import Shape, Use, operand
from edgefusion.compiler.network.tensor import statistics_dtype
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.ops.elementwise import RowKind
from edgefusion.runtime.isa import Opcode


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNorm(LoweredKind):
    """x[1,...,c], gamma[c], beta[c], [stats[2,c]] -> y; groups, epsilon, function ('' or 'silu')"""

    name: ClassVar[str] = "group_norm"
    x: str = operand()
    gamma: str = operand(Use.NORM)
    beta: str = operand(Use.NORM)
    stats: str = operand(Use.STATISTICS, optional=True)
    groups: int
    epsilon: float
    function: str = ""

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """As x."""
        return shapes["x"]

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Channels by whole groups; with given statistics every other axis too."""
        last = len(result) - 1
        others = dict.fromkeys(range(last), 1) if self.stats else {}
        return {**others, last: result[-1] // self.groups}

    def needs(
        self,
        shapes: Mapping[str, Shape],
        result: Shape,
        axis: int,
        span: Span,
    ) -> Mapping[str, tuple[int, Span]]:
        """The same elements, and what belongs to their channels."""
        if axis < len(result) - 1:
            return {"x": (axis, span)}
        return {"x": (axis, span), "gamma": (0, span), "beta": (0, span), "stats": (1, span)}

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Given statistics: tiles of rows. Else whole columns of some groups that stay, or two
        passes over tiles of rows."""
        m, channels = matrix(context.output()).shape
        if self.stats:
            for size in tile_sizes(m):
                yield tiling(rows=size, channels=channels, statistics="given")
            return
        for count in tile_sizes(self.groups):
            width = count * (channels // self.groups)
            yield tiling(rows=m, channels=width, statistics="resident")
        for size in tile_sizes(m):
            yield tiling(rows=size, channels=channels, statistics="two_passes")

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """See the module."""
        x, y = matrix(context.view(self.x)), matrix(context.output())
        m, channels = x.shape
        size, width, way = t["rows"], t["channels"], t.choice("statistics")
        dtype = x.operand.dtype
        x_buffer = e.buffer("x", size * width, dtype)
        y_buffer = e.buffer("y", size * width, y.operand.dtype)
        gamma, beta = (context.view(name).reshape(channels) for name in (self.gamma, self.beta))
        parameters = [
            (e.buffer(label, width, v.operand.dtype, streamed=False), v)
            for label, v in (("gamma", gamma), ("beta", beta))
        ]
        sums = e.buffer("stats", 2 * width, statistics_dtype(dtype), streamed=False)

        def stats_view(c: Tile) -> View:
            return sums.view(x.operand.tensor, (2, c.size))

        def load(r: Tile, c: Tile, *, again: bool = False) -> View:
            source = x.box((r.start, c.start), (r.size, c.size))
            x_buffer.next()
            tile = x_buffer.view(x.operand.tensor, source.shape)
            e.load(tile, source, again=again)
            return tile

        def load_parameters(c: Tile) -> list[View]:
            loaded = []
            for buffer, source in parameters:
                tile = buffer.view(source.operand.tensor, (c.size,))
                e.load(tile, source.box((c.start,), (c.size,)))
                loaded.append(tile)
            return loaded

        def normalise(tile: View, r: Tile, c: Tile, loaded: list[View]) -> None:
            y_buffer.next()
            result = y_buffer.view(y.operand.tensor, tile.shape)
            attrs = (
                ("epsilon", self.epsilon),
                ("function", self.function),
                ("groups", self.groups * c.size // channels),
                ("rows", m),
            )
            e.vector(Opcode.GROUP_NORM, result, [tile, stats_view(c), *loaded], attrs)
            e.store(y.box((r.start, c.start), tile.shape), result)

        def collect(tile: View, r: Tile, c: Tile) -> None:
            e.vector(Opcode.CHANNEL_STATS, stats_view(c), [tile], (("first", int(r.index == 0)),))

        for c in e.tiles(channels, width):
            loaded = load_parameters(c)
            if way == "given":
                e.load(stats_view(c), columns(context.view(self.stats), c.start, c.size))
            if way == "two_passes":
                for r in e.tiles(m, size):
                    collect(load(r, c), r, c)
            for r in e.tiles(m, size):
                tile = load(r, c, again=way == "two_passes")
                if way == "resident":
                    collect(tile, r, c)
                normalise(tile, r, c, loaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm(RowKind):
    """x[...,c], gamma[c], [beta[c]] -> y; epsilon"""

    name: ClassVar[str] = "layer_norm"
    gamma: str = operand(Use.NORM)
    beta: str = operand(Use.NORM, optional=True)
    epsilon: float

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """Row tiles; the parameters stay."""
        attrs = (("beta", int(bool(self.beta))), ("epsilon", self.epsilon))
        parameters = {"gamma": self.gamma, "beta": self.beta}
        self.emit_rows(e, context, t, Opcode.LAYER_NORM, attrs, parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class RmsNorm(RowKind):
    """x[...,c], gamma[c] -> y; epsilon"""

    name: ClassVar[str] = "rms_norm"
    gamma: str = operand(Use.NORM)
    epsilon: float

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """Row tiles; gamma stays."""
        attrs = (("epsilon", self.epsilon),)
        self.emit_rows(e, context, t, Opcode.RMS_NORM, attrs, {"gamma": self.gamma})
