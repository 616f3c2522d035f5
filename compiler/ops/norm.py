"""Normalisation: GroupNorm in one of three ways, LayerNorm and RMSNorm row by row.

GroupNorm needs the statistics of whole channels before it can normalise any element. They come from
the producer's epilogue; or from a tile of whole channel groups that fits SRAM; or, where nothing
else fits, from a first pass over the tensor, which is then read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from edgefusion.compiler.lowering.emitter import Emitter, Tile
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Stage,
    Tiling,
    columns,
    matrix,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.kind import Shape, Use, operand, operand_list, parts_of
from edgefusion.compiler.network.tensor import statistics_dtype
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.ops.elementwise import RowKind
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.specification import Attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNorm(LoweredKind):
    """x[1,...,c], gamma[c], beta[c], stats[2,c]... -> y; groups, epsilon, function ('', 'silu')"""

    name: ClassVar[str] = "group_norm"
    x: str = operand()
    gamma: str = operand(Use.NORM)
    beta: str = operand(Use.NORM)
    stats: tuple[str, ...] = operand_list(Use.STATISTICS, optional=True)
    groups: int
    epsilon: float
    function: str = ""

    @property
    def summed(self) -> str:
        """x."""
        return "" if self.stats else self.x

    def with_statistics(self, *names: str) -> GroupNorm:
        """Sums of every channel."""
        return replace(self, stats=names)

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
        sums = {key: shape for key, shape in shapes.items() if key.startswith("stats")}
        return {
            "x": (axis, span),
            "gamma": (0, span),
            "beta": (0, span),
            **parts_of(sums, 1, span),
        }

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

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """With given statistics."""
        if self.stats:
            channels = matrix(context.output()).shape[1]
            yield tiling(rows=size, channels=channels, statistics="given")

    @property
    def replaceable(self) -> tuple[str, ...]:
        """x, of which other rows have been read before if statistics are given."""
        return (self.x,) if self.stats else ()

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """See the module."""
        return _GroupNormStage(self, e, context, t)


@dataclass
class _GroupNormStage(Stage):
    """Buffers of one group normalisation while it is emitted.

    A result that stays in SRAM is computed over the x that was loaded there, where statistics are
    given.
    """

    norm: GroupNorm
    e: Emitter
    context: OpContext
    tiling: Tiling
    loaded: list[View] = field(default_factory=list)

    def __post_init__(self) -> None:
        e, context = self.e, self.context
        self.way = self.tiling.choice("statistics")
        size, width = self.tiling["rows"], self.tiling["channels"]
        x, y = self.look_up()
        self.in_place = self.way == "given" and y.in_sram and not x.in_sram
        self.x_buffer = None if self.in_place else e.input_buffer("x", size * width, x)
        self.y_buffer = e.output_buffer("y", size * width, y)
        self.parameters = [
            (e.buffer(label, width, context.view(name).operand.dtype, streamed=False), name)
            for label, name in (("gamma", self.norm.gamma), ("beta", self.norm.beta))
        ]
        self.sums = e.buffer("stats", 2 * width, statistics_dtype(x.operand.dtype), streamed=False)

    def look_up(self) -> tuple[View, View]:
        """Where x and y lie now."""
        return matrix(self.context.view(self.norm.x)), matrix(self.context.output())

    def run(self, span: Span) -> None:
        """All columns, a tile after the other."""
        e, (x, y) = self.e, self.look_up()
        m, channels = x.shape
        size = self.tiling["rows"]
        for c in e.tiles(channels, self.tiling["channels"]):
            if span.start == 0:
                self.load_parameters(c)
            if self.way == "two_passes":
                for r in e.tiles(m, size):
                    self.collect(self.bring(x, r, c), r, c)
            for r in e.tiles(span.size, size, start=span.start):
                target = y.box((r.start, c.start), (r.size, c.size))
                if self.in_place:
                    tile = e.bring_into(target, x.box((r.start, c.start), target.shape))
                else:
                    tile = self.bring(x, r, c, again=self.way == "two_passes")
                if self.way == "resident":
                    self.collect(tile, r, c)
                self.normalise(tile, target, c)

    def statistics(self, c: Tile) -> View:
        """Sums of the channels ``c`` in SRAM."""
        x = self.context.view(self.norm.x)
        return self.sums.view(x.operand.tensor, (2, c.size))

    def load_parameters(self, c: Tile) -> None:
        """Scales, shifts and given statistics of the channels ``c``."""
        self.loaded = []
        for buffer, name in self.parameters:
            source = self.context.view(name)
            flat = source.reshape(source.operand.elements)
            self.loaded.append(self.e.bring(buffer, flat.box((c.start,), (c.size,))))
        if self.way == "given":
            sums, column = self.statistics(c), 0
            given = {name: self.context.view(name) for name in self.norm.stats}
            shapes = {name: view.shape for name, view in given.items()}
            for name, (_, part) in parts_of(shapes, 1, Span(c.start, c.size)).items():
                if part.size:
                    target = columns(sums, column, part.size)
                    self.e.load(target, columns(given[name], part.start, part.size))
                column += part.size

    def bring(self, x: View, r: Tile, c: Tile, *, again: bool = False) -> View:
        """A tile of x."""
        source = x.box((r.start, c.start), (r.size, c.size))
        return self.e.bring(self.x_buffer, source, again=again)

    def collect(self, tile: View, r: Tile, c: Tile) -> None:
        """Add a tile to the sums."""
        attrs = (("first", int(r.index == 0)),)
        self.e.vector(Opcode.CHANNEL_STATS, self.statistics(c), [tile], attrs)

    def normalise(self, tile: View, target: View, c: Tile) -> None:
        """One tile of the result."""
        m, channels = matrix(self.context.output()).shape
        result = self.e.place(self.y_buffer, target)
        attrs = (
            ("epsilon", self.norm.epsilon),
            ("function", self.norm.function),
            ("groups", self.norm.groups * c.size // channels),
            ("rows", m),
        )
        self.e.vector(Opcode.GROUP_NORM, result, [tile, self.statistics(c), *self.loaded], attrs)
        self.e.deliver(target, result)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm(RowKind):
    """x[...,c], gamma[c], [beta[c]] -> y; epsilon"""

    name: ClassVar[str] = "layer_norm"
    gamma: str = operand(Use.NORM)
    beta: str = operand(Use.NORM, optional=True)
    epsilon: float

    def instruction(self) -> tuple[Opcode, Attrs]:
        """Over whole rows."""
        return Opcode.LAYER_NORM, (("beta", int(bool(self.beta))), ("epsilon", self.epsilon))

    def parameters(self) -> Mapping[str, str]:
        """Scale and shift."""
        return {"gamma": self.gamma, "beta": self.beta}


@dataclass(frozen=True, slots=True, kw_only=True)
class RmsNorm(RowKind):
    """x[...,c], gamma[c] -> y; epsilon"""

    name: ClassVar[str] = "rms_norm"
    gamma: str = operand(Use.NORM)
    epsilon: float

    def instruction(self) -> tuple[Opcode, Attrs]:
        """Over whole rows."""
        return Opcode.RMS_NORM, (("epsilon", self.epsilon),)

    def parameters(self) -> Mapping[str, str]:
        """Scale."""
        return {"gamma": self.gamma}
