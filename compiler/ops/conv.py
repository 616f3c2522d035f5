"""Convolution: stripes of output rows times tiles of output channels.

With the weights outermost, each weight tile is loaded once and the input stripes are read again for
every weight tile; with the rows outermost it is the other way round. Where that does not fit, the
reduction is split (``compiler.ops.split_conv``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from edgefusion.compiler.lowering.channel_constants import load_constants, reserve_constants
from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Stage,
    Tiling,
    channel_sizes,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.kind import Accumulation, Kind, Shape, Use, operand
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Source, Span, Window
from edgefusion.compiler.ops.matmul import WEIGHT_LEVELS
from edgefusion.compiler.ops.split_conv import Filters, SplitConv, split_conv_tilings
from edgefusion.runtime.isa import Opcode

Pair = tuple[int, int]

_HEAVY = 4
"""Weights that take less than this part of SRAM leave room enough to stay while rows pass once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowedKind(Kind):
    """The base of kinds whose windows slide over the rows and columns of an image x[1,h,w,c].

    ``pads`` are before the rows, before the columns, after the rows, after the columns.
    """

    x: str = operand()
    strides: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def windows(self, shapes: Mapping[str, Shape]) -> tuple[Window, Window]:
        """Along rows and columns."""
        raise NotImplementedError

    def window_shape(self, shapes: Mapping[str, Shape]) -> Pair:
        """Rows and columns of the result."""
        rows, columns = self.windows(shapes)
        return (
            (rows.extent + self.pads[0] + self.pads[2] - rows.reach) // rows.stride + 1,
            (columns.extent + self.pads[1] + self.pads[3] - columns.reach) // columns.stride + 1,
        )

    def needs(
        self,
        shapes: Mapping[str, Shape],
        result: Shape,
        axis: int,
        span: Span,
    ) -> Mapping[str, tuple[int, Span]]:
        """The rows or columns below the windows."""
        return {"x": (axis, self.windows(shapes)[axis - 1].source(span).span)}

    def touched(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[str, int]:
        """Strides beyond the kernel and cut-off edges leave elements of x out."""
        rows, columns = self.windows(shapes)
        return {"x": rows.touched(result[1]) * columns.touched(result[2]) * shapes["x"][3]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(WindowedKind, LoweredKind):
    """x[1,h,w,ci], w[co,ci/g,kh,kw], [bias[co]] -> y[1,h',w',co]; strides, pads, dilations, groups,
    upsample (nearest factor applied to x first)"""

    name: ClassVar[str] = "conv"
    has_epilogue: ClassVar[bool] = True
    w: str = operand(Use.WEIGHT)
    bias: str = operand(Use.BIAS, optional=True)
    dilations: Pair = (1, 1)
    groups: int = 1
    upsample: int = 1

    def windows(self, shapes: Mapping[str, Shape]) -> tuple[Window, Window]:
        """Of the kernel, in elements of the upsampled input."""
        rows, columns = (
            Window(
                extent=shapes["x"][1 + i] * self.upsample,
                kernel=shapes["w"][2 + i],
                stride=self.strides[i],
                pad=self.pads[i],
                dilation=self.dilations[i],
                upsample=self.upsample,
            )
            for i in (0, 1)
        )
        return rows, columns

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The windows' positions, the filters."""
        return (1, *self.window_shape(shapes), shapes["w"][0])

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Rows, columns, and channels by whole groups."""
        return {1: 1, 2: 1, 3: result[3] // self.groups if self.groups > 1 else 1}

    def needs(
        self, shapes: Mapping[str, Shape], result: Shape, axis: int, span: Span
    ) -> Mapping[str, tuple[int, Span]]:
        """Of x what lies below the windows, or the groups of the channels; filters by channel."""
        if axis < 3:
            return WindowedKind.needs(self, shapes, result, axis, span)
        found = {"w": (0, span), "bias": (0, span)}
        if self.groups > 1:
            made, read = result[3] // self.groups, shapes["x"][3] // self.groups
            found["x"] = (3, Span(span.start // made * read, -(-span.size // made) * read))
        return found

    def accumulation(self, tensors: Tensors) -> Accumulation:
        """Over the taps of one filter."""
        weights = tensors[self.w]
        return Accumulation(weights.elements // weights.shape[0], WEIGHT_LEVELS)

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Stripes of whole rows."""
        _, height, width, channels = context.output().shape
        granule = context.machine.tensor_granularity_n
        for size in [channels] if self.groups > 1 else channel_sizes(channels, multiple=granule):
            for outer in ("weights", "rows") if size < channels else ("weights",):
                for rows in tile_sizes(height):
                    yield tiling(rows=rows, columns=width, channels=size, outer=outer)

    def fallback(self, context: OpContext) -> Iterator[Tiling]:
        """Stripes narrower than the image, and channels of a part of the array, for when not even
        one whole row fits."""
        _, height, width, channels = context.output().shape
        granule = max(context.machine.tensor_granularity_n // 4, 1)
        for size in [channels] if self.groups > 1 else tile_sizes(channels, multiple=granule):
            for columns in tile_sizes(width):
                for rows in (rows for rows in (8, 4, 2, 1) if rows <= height):
                    yield tiling(rows=rows, columns=columns, channels=size, outer="weights")
        yield from split_conv_tilings(context, self._filters(context))

    def _filters(self, context: OpContext) -> Filters:
        x, w = context.view(self.x), context.view(self.w)
        windows = self.windows({"x": x.shape, "w": w.shape})
        y = dense_image(context.output())
        return Filters(dense_image(x), w, y, windows, self.groups, self.w, self.bias)

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Lines as wide as the image. Weights stay while the result is made in parts of its
        channels (``rows_weights``), or pass in parts."""
        _, _, width, channels = context.output().shape
        granule = context.machine.tensor_granularity_n
        rows = -(-size // width)
        parts = [channels] if self.groups > 1 else channel_sizes(channels, multiple=granule)
        for part in parts:
            stays = "weights" if part == channels else "rows_weights"
            if part * 8 >= channels:
                yield tiling(rows=rows, columns=width, channels=part, outer=stays)
        for part in parts[1:]:
            yield tiling(rows=rows, columns=width, channels=part, outer="rows")
        if context.tensors[self.w].nbytes * _HEAVY < context.machine.sram_bytes:
            return
        for sweeps in (2, 4):
            swept, uneven = divmod(channels, sweeps)
            if self.groups > 1 or uneven or swept % granule:
                continue
            for part in channel_sizes(swept, multiple=granule):
                stays = "weights" if part == swept else "rows_weights"
                yield tiling(rows=rows, columns=width, channels=part, outer=stays, sweeps=sweeps)

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """See the module."""
        if t.splits:
            return SplitConv(self._filters(context), e, context, t)
        return _Stage(self, e, context, t)


def dense_image(view: View) -> View:
    """An image [1,h,w,c] as [h,w,c]."""
    return view.reshape(*view.shape[1:])


@dataclass
class _Stage(Stage):
    """Buffers and views of one convolution while it is emitted."""

    conv: Conv
    e: Emitter
    context: OpContext
    tiling: Tiling
    known: dict[tuple[int, int, int], tuple[Source, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        e, context, t = self.e, self.context, self.tiling
        self.look_up()
        self.w = context.view(self.conv.w)
        shapes = {"x": context.view(self.conv.x).shape, "w": self.w.shape}
        self.row_window, self.column_window = self.conv.windows(shapes)
        rows, cols, size = t["rows"], t["columns"], t["channels"]
        taps = self.w.shape[1] * self.w.shape[2] * self.w.shape[3]
        stripe = self.row_window.largest(rows) * self.column_window.largest(cols)
        channels = self.y.shape[2]
        self.channels = channels // t.sweeps
        self.in_parts = t.choice("outer") == "rows_weights"
        self.stays = self.in_parts or size >= self.channels
        outer_rows = t.choice("outer") == "rows"
        held = channels if self.stays else size
        self.x_buffer = e.input_buffer("x", stripe * self.x.shape[2], self.x)
        # Weights that stay come in parts of their own: the first product waits for the first alone.
        starts = range(0, self.channels, size) if self.in_parts else [0]
        self.w_buffers = [
            e.buffer(
                f"w{start}" if start else "w",
                min(size, self.channels - start) * taps,
                self.w.operand.dtype,
                streamed=not self.stays,
            )
            for start in starts
        ]
        self.constants = reserve_constants(
            e, context, self.conv.w, self.conv.bias, held, streamed=outer_rows
        )
        changed = EpilogueBuffers.changes(context.op)
        self.y_buffer = e.output_buffer("y", rows * cols * size, self.y, needed=changed)
        self.epilogue = EpilogueBuffers.reserve(
            e, context, rows * cols * size, size, in_order=cols >= self.y.shape[1]
        )

    def look_up(self) -> None:
        """Where x and y lie now."""
        self.x = dense_image(self.context.view(self.conv.x))
        self.y = dense_image(self.context.output())

    def run(self, span: Span) -> None:
        """Whole rows of the image."""
        self.look_up()
        width = self.y.shape[1]
        e, t = self.e, self.tiling
        first, count = span.start // width, span.size // width
        swept = self.sweep > 0
        if t.choice("outer") == "weights":
            for c in self.channel_tiles():
                self.load_weights(c, again=first > 0)
                for r in e.tiles(count, t["rows"], edges=2, start=first):
                    for q in e.tiles(width, t["columns"], edges=2):
                        x, pads = self.load_stripe(r, q, again=swept or c.index > 0)
                        self.compute(x, pads, r, q, c)
        else:
            for r in e.tiles(count, t["rows"], edges=2, start=first):
                for q in e.tiles(width, t["columns"], edges=2):
                    x, pads = self.load_stripe(r, q, again=swept)
                    again = r.start + q.start > 0
                    for c in self.channel_tiles():
                        self.load_weights(c, again=again)
                        self.compute(x, pads, r, q, c)

    def channel_tiles(self) -> Iterator[Tile]:
        """Tiles of the channels that are made now."""
        start = self.sweep * self.channels
        return self.e.tiles(self.channels, self.tiling["channels"], start=start)

    def finish(self) -> None:
        """Statistics."""
        self.epilogue.finish(self.e)

    def load_weights(self, c: Tile, *, again: bool) -> None:
        """Weights, bias and scales of channel tile ``c``, unless they are there, and its channel
        vectors."""
        there = again and self.stays
        if not there:
            source = self.w.box((c.start, 0, 0, 0), (c.size, *self.w.shape[1:]))
            self.e.bring(self.w_buffer(c), source, again=again)
            if not self.in_parts:
                load_constants(self.e, self.constants, c, again=again)
            elif c.index == 0:
                part = Tile(0, self.sweep * self.channels, self.channels)
                load_constants(self.e, self.constants, part, again=again)
        if self.in_parts or not there:
            self.epilogue.load_vectors(self.e, c, again=again)

    def w_buffer(self, c: Tile) -> Buffer:
        """What holds the weights of channel tile ``c``."""
        return self.w_buffers[c.index if self.in_parts else 0]

    def weights(self, c: Tile) -> View:
        """The weight tile in SRAM."""
        return self.w_buffer(c).view(self.w.operand.tensor, (c.size, *self.w.shape[1:]))

    def reads(self, axis: int, window: Window, tile: Tile, size: int) -> tuple[Source, int]:
        """What ``tile`` reads along an axis, and how much of it no earlier tile has read; kept, for
        stripes come by once for every tile of channels."""
        key = axis, tile.start, tile.size
        if key not in self.known:
            span = Span(tile.start, tile.size)
            self.known[key] = window.source(span), window.fresh(span, size)
        return self.known[key]

    def load_stripe(self, r: Tile, q: Tile, *, again: bool) -> tuple[View, tuple[int, ...]]:
        """The input for rows ``r`` and columns ``q`` of the output, halo included; its padding."""
        down, fresh_rows = self.reads(0, self.row_window, r, self.tiling["rows"])
        across, fresh_columns = self.reads(1, self.column_window, q, self.tiling["columns"])
        source = self.x.box(
            (down.span.start, across.span.start, 0),
            (down.span.size, across.span.size, self.x.shape[2]),
        )
        loaded = down.span.size * across.span.size
        reread = (loaded - fresh_rows * fresh_columns) * self.x.shape[2]
        reread *= source.operand.dtype.nbytes
        tile = self.e.bring(self.x_buffer, source, again=again, reread_bytes=reread)
        pads = (down.pad_before, across.pad_before, down.pad_after, across.pad_after)
        return tile, (*pads, down.phase, across.phase)

    def compute(self, x: View, pads: tuple[int, ...], r: Tile, q: Tile, c: Tile) -> None:
        """One output tile: convolve, run the epilogue, deliver."""
        starts = (r.start, q.start, c.start)
        target = self.y.box(starts, (r.size, q.size, c.size))
        tile = self.e.place(self.y_buffer, target, self.epilogue.stages[0])
        constants = [constant.current(c) for constant in self.constants]
        self.e.tensor(
            Opcode.CONV2D,
            tile,
            [x, self.weights(c), *constants],
            (
                ("bias", int(bool(self.conv.bias))),
                ("dilations", self.conv.dilations),
                ("groups", self.conv.groups),
                ("pads", pads[:4]),
                ("strides", self.conv.strides),
                ("upsample", self.conv.upsample),
                ("upsample_phase", pads[4:]),
            ),
        )
        first = r.start == 0 and q.start == 0
        tile = self.epilogue.apply(self.e, tile, starts, c, target, first=first)
        self.e.deliver(target, tile)
