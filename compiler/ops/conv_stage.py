"""Convolutions under way: tiles of rows and columns of the result times tiles of its channels.

With the weights outermost, each weight tile is loaded once and the input stripes are read again for
every weight tile; with the rows outermost it is the other way round. Tiles of the result may have
fewer ``lines`` than the stripe of the input serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import gcd

from edgefusion.compiler.lowering.channel_constants import load_constants, reserve_constants
from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
from edgefusion.compiler.lowering.rule import OpContext, Stage, Tiling, channels_of_sweep
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.window import Source, Span, Window
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.specification import Attrs


def dense_image(view: View) -> View:
    """An image [1,h,w,c] as [h,w,c]."""
    return view.reshape(*view.shape[1:])


@dataclass
class ConvStage(Stage):
    """Buffers and views of one convolution while it is emitted.

    ``x_name``, ``w_name`` and ``bias_name`` ('' for none) are its operands, ``windows`` say what of
    x rows and columns of the result need, which repeats itself after ``period`` of them. ``attrs``
    are those of all its products.
    """

    e: Emitter
    context: OpContext
    tiling: Tiling
    x_name: str
    w_name: str
    bias_name: str
    windows: tuple[Window, Window]
    attrs: Attrs = ()
    period: tuple[int, int] = (1, 1)
    known: dict[tuple[int, int, int], tuple[Source, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        e, context, t = self.e, self.context, self.tiling
        self.look_up()
        self.w = context.view(self.w_name)
        rows, cols, size = t["rows"], t["columns"], t["channels"]
        taps = self.w.shape[1] * self.w.shape[2] * self.w.shape[3]
        stripe = self.windows[0].largest(rows) * self.windows[1].largest(cols)
        channels = self.y.shape[2]
        self.channels = channels_of_sweep(channels, t.sweeps, context.machine)
        self.in_parts = t.choice("outer") == "rows_weights"
        self.stays = self.in_parts or size >= self.channels
        self.lines = int(t.get("lines", rows))
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
                copies=int(t.choice("outer") == "weights_once"),
            )
            for start in starts
        ]
        self.constants = reserve_constants(
            e, context, self.w_name, self.bias_name, held, streamed=not self.stays
        )
        changed = EpilogueBuffers.changes(context.op)
        elements = self.lines * cols * size
        self.y_buffer = e.output_buffer("y", elements, self.y, needed=changed)
        self.epilogue = EpilogueBuffers.reserve(
            e, context, elements, size, in_order=cols >= self.y.shape[1]
        )

    def look_up(self) -> None:
        """Where x and y lie now."""
        self.x = dense_image(self.context.view(self.x_name))
        self.y = dense_image(self.context.output())

    def run(self, span: Span) -> None:
        """Whole rows of the image."""
        self.look_up()
        width, t = self.y.shape[1], self.tiling
        first, count = span.start // width, span.size // width
        swept = self.sweep > 0
        if t.choice("outer") in ("weights", "weights_once"):
            for c in self.channel_tiles():
                self.load_weights(c, again=first > 0)
                for r in self.row_tiles(first, count, t["rows"]):
                    for q in self.column_tiles(width):
                        stripe = self.load_stripe(r, q, again=swept or c.index > 0)
                        for line in self.row_tiles(r.start, r.size, self.lines):
                            self.compute(*stripe, line, q, c)
        else:
            for r in self.row_tiles(first, count, t["rows"]):
                for q in self.column_tiles(width):
                    stripe = self.load_stripe(r, q, again=swept)
                    again = r.start + q.start > 0
                    for c in self.channel_tiles():
                        self.load_weights(c, again=again)
                        for line in self.row_tiles(r.start, r.size, self.lines):
                            self.compute(*stripe, line, q, c)

    def channel_tiles(self) -> Iterator[Tile]:
        """Tiles of the channels that are made now."""
        part = self.swept
        return self.e.tiles(part.size, self.tiling["channels"], start=part.start)

    @property
    def swept(self) -> Tile:
        """The channels that the present sweep makes."""
        start = self.sweep * self.channels
        return Tile(self.sweep, start, min(self.channels, self.y.shape[2] - start))

    def row_tiles(self, first: int, count: int, size: int) -> Iterator[Tile]:
        """Tiles of up to ``size`` of the ``count`` rows of the result from ``first`` on."""
        period = self.period[0] // gcd(self.period[0], size)
        return self.e.tiles(count, size, edges=2, period=period, start=first)

    def column_tiles(self, count: int) -> Iterator[Tile]:
        """Tiles of the ``count`` columns of the result."""
        size = self.tiling["columns"]
        period = self.period[1] // gcd(self.period[1], size)
        return self.e.tiles(count, size, edges=2, period=period)

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
                load_constants(self.e, self.constants, replace(self.swept, index=0), again=again)
        if self.in_parts or not there:
            self.epilogue.load_vectors(self.e, c, again=again)

    def w_buffer(self, c: Tile) -> Buffer:
        """What holds the weights of channel tile ``c``."""
        return self.w_buffers[c.index if self.in_parts else 0]

    def weights(self, c: Tile) -> View:
        """The weight tile in SRAM."""
        return self.w_buffer(c).view(self.w.operand.tensor, (c.size, *self.w.shape[1:]))

    def reads(self, axis: int, tile: Tile, size: int) -> tuple[Source, int]:
        """What ``tile`` reads along an axis, and how much of it no earlier tile has read; kept, for
        stripes come by once for every tile of channels."""
        key = axis, tile.start, tile.size
        if key not in self.known:
            span = Span(tile.start, tile.size)
            window = self.windows[axis]
            self.known[key] = window.source(span), window.fresh(span, size)
        return self.known[key]

    def load_stripe(self, r: Tile, q: Tile, *, again: bool) -> tuple[View, Source, Source]:
        """The input for rows ``r`` and columns ``q`` of the output, halo included: what of it."""
        down, fresh_rows = self.reads(0, r, self.tiling["rows"])
        across, fresh_columns = self.reads(1, q, self.tiling["columns"])
        source = self.x.box(
            (down.span.start, across.span.start, 0),
            (down.span.size, across.span.size, self.x.shape[2]),
        )
        loaded = down.span.size * across.span.size
        reread = (loaded - fresh_rows * fresh_columns) * self.x.shape[2]
        reread *= source.operand.dtype.nbytes
        tile = self.e.bring(self.x_buffer, source, again=again, reread_bytes=reread)
        return tile, down, across

    def compute(self, x: View, down: Source, across: Source, r: Tile, q: Tile, c: Tile) -> None:
        """One output tile: multiply, run the epilogue, deliver."""
        starts = (r.start, q.start, c.start)
        target = self.y.box(starts, (r.size, q.size, c.size))
        tile = self.e.place(self.y_buffer, target, self.epilogue.stages[0])
        self.multiply(tile, x, down, across, r, q, c)
        first = r.start == 0 and q.start == 0
        tile = self.epilogue.apply(self.e, tile, starts, c, target, first=first)
        self.e.deliver(target, tile)

    def multiply(
        self, tile: View, x: View, down: Source, across: Source, r: Tile, q: Tile, c: Tile
    ) -> None:
        """Fill ``tile``, rows ``r``, columns ``q`` and channels ``c`` of the result, from ``x``,
        which is what the stripe that they are in reads ``down`` and ``across``."""
        self.product(tile, x, self.weights(c), c, down, across)

    def product(self, tile: View, x: View, w: View, c: Tile, down: Source, across: Source) -> None:
        """One instruction, with all its operands."""
        attrs = (
            ("bias", int(bool(self.bias_name))),
            ("pads", (down.pad_before, across.pad_before, down.pad_after, across.pad_after)),
            ("upsample_phase", (down.phase, across.phase)),
        )
        constants = [constant.current(c) for constant in self.constants]
        self.e.tensor(Opcode.CONV2D, tile, [x, w, *constants], tuple(sorted((*attrs, *self.attrs))))
