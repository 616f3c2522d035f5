"""Convolution: stripes of output rows times tiles of output channels.

With the weights outermost, each weight tile is loaded once and the input stripes are read again for
every weight tile; with the rows outermost it is the other way round. The reduction is never split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile, View
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Rule,
    Tiling,
    channel_sizes,
    sequence,
    tile_sizes,
    tiling,
)
from edgefusion.runtime.isa import Opcode


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a sliding window along one axis, in elements of the (upsampled) input."""

    kernel: int
    stride: int
    pad: int
    dilation: int
    extent: int
    upsample: int

    def source(self, tile: Tile) -> tuple[int, int, int, int, int]:
        """(start, size) to load for output ``tile``, the padding before and after, and the phase.

        ``phase`` is where the window starts within the first upsampled element that is loaded.
        """
        low = tile.start * self.stride - self.pad
        high = (
            (tile.start + tile.size - 1) * self.stride
            - self.pad
            + (self.kernel - 1) * self.dilation
            + 1
        )
        inner_low, inner_high = max(low, 0), min(high, self.extent)
        start = inner_low // self.upsample
        stop = -(-inner_high // self.upsample)
        phase = inner_low - start * self.upsample
        return start, stop - start, inner_low - low, high - inner_high, phase

    def fresh(self, tile: Tile, size: int) -> int:
        """How many of the elements that ``tile`` loads no earlier tile of ``size`` has loaded."""
        start, count, *_ = self.source(tile)
        if tile.index == 0:
            return count
        before, loaded, *_ = self.source(Tile(tile.index - 1, tile.start - size, size))
        return min(count, start + count - (before + loaded))

    def largest(self, size: int) -> int:
        """Most elements that any output tile of ``size`` loads."""
        span = (size - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
        return min(-(-span // self.upsample) + 1, -(-self.extent // self.upsample))


def windows(context: OpContext, kernel: tuple[int, int]) -> tuple[Window, Window]:
    """The row and column windows of a convolution or pooling op."""
    attrs = context.op.attrs
    _, height, width, _ = context.input(0).shape
    upsample = int(attrs.get("upsample", 1))
    pads, strides = sequence(attrs["pads"]), sequence(attrs["strides"])
    dilations = sequence(attrs.get("dilations", (1, 1)))
    extents = (height * upsample, width * upsample)
    made = [
        Window(kernel[i], strides[i], pads[i], dilations[i], extents[i], upsample) for i in (0, 1)
    ]
    return made[0], made[1]


def _tilings(context: OpContext) -> Iterator[Tiling]:
    _, height, width, channels = context.output().shape
    groups = int(context.op.attrs.get("groups", 1))
    for size in [channels] if groups > 1 else channel_sizes(channels, multiple=32):
        for outer in ("weights", "rows") if size < channels else ("weights",):
            for rows in tile_sizes(height):
                yield tiling(rows=rows, columns=width, channels=size, outer=outer)


def _narrow_tilings(context: OpContext) -> Iterator[Tiling]:
    """Stripes narrower than the image, for when not even one whole row fits."""
    _, height, width, channels = context.output().shape
    grouped = int(context.op.attrs.get("groups", 1)) > 1
    for size in [channels] if grouped else tile_sizes(channels, multiple=8):
        for columns in tile_sizes(width):
            for rows in (rows for rows in (8, 4, 2, 1) if rows <= height):
                yield tiling(rows=rows, columns=columns, channels=size, outer="weights")


@dataclass
class _Conv:
    """Buffers and views of one convolution while it is emitted."""

    e: Emitter
    context: OpContext
    tiling: Tiling

    def __post_init__(self) -> None:
        e, context, t = self.e, self.context, self.tiling
        self.x = context.input(0).box((0, 0, 0, 0), (1, *context.input(0).shape[1:]))
        self.x = self.x.reshape(*self.x.shape[1:])
        self.y = context.output().reshape(*context.output().shape[1:])
        self.w = context.input(1)
        kernel = (self.w.shape[2], self.w.shape[3])
        self.row_window, self.column_window = windows(context, kernel)
        rows, cols, size = t["rows"], t["columns"], t["channels"]
        taps = self.w.shape[1] * kernel[0] * kernel[1]
        stripe = self.row_window.largest(rows) * self.column_window.largest(cols)
        dtype = self.x.operand.dtype
        outer_rows = t.choice("outer") == "rows"
        self.x_buffer = e.buffer("x", stripe * self.x.shape[2], dtype)
        single = size >= self.y.shape[2]
        self.w_buffer = e.buffer("w", size * taps, self.w.operand.dtype, streamed=not single)
        self.constants = reserve_constants(e, context, size, streamed=outer_rows)
        self.y_buffer = e.buffer("y", rows * cols * size, self.y.operand.dtype)
        self.epilogue = EpilogueBuffers.reserve(e, context, rows * cols * size, size)

    def emit(self) -> None:
        height, width, channels = self.y.shape
        e, t = self.e, self.tiling
        if t.choice("outer") == "weights":
            for c in e.tiles(channels, t["channels"]):
                self.load_weights(c, again=False)
                for r in e.tiles(height, t["rows"], edges=2):
                    for q in e.tiles(width, t["columns"], edges=2):
                        x, pads = self.load_stripe(r, q, again=c.index > 0)
                        self.compute(x, pads, r, q, c)
        else:
            for r in e.tiles(height, t["rows"], edges=2):
                for q in e.tiles(width, t["columns"], edges=2):
                    x, pads = self.load_stripe(r, q, again=False)
                    for c in e.tiles(channels, t["channels"]):
                        self.load_weights(c, again=r.index + q.index > 0)
                        self.compute(x, pads, r, q, c)
        self.epilogue.finish(e)

    def load_weights(self, c: Tile, *, again: bool) -> None:
        """Weights, bias, scales and channel vectors of channel tile ``c``."""
        source = self.w.box((c.start, 0, 0, 0), (c.size, *self.w.shape[1:]))
        self.w_buffer.next()
        self.e.load(self.weights(c), source, again=again)
        load_constants(self.e, self.constants, c, again=again)
        self.epilogue.load_vectors(self.e, c, again=again)

    def weights(self, c: Tile) -> View:
        """The weight tile in SRAM."""
        return self.w_buffer.view(self.w.operand.tensor, (c.size, *self.w.shape[1:]))

    def load_stripe(self, r: Tile, q: Tile, *, again: bool) -> tuple[View, tuple[int, ...]]:
        """The input for rows ``r`` and columns ``q`` of the output, halo included; its padding."""
        top, high, before, after, row_phase = self.row_window.source(r)
        left, wide, west, east, column_phase = self.column_window.source(q)
        source = self.x.box((top, left, 0), (high, wide, self.x.shape[2]))
        self.x_buffer.next()
        tile = self.x_buffer.view(source.operand.tensor, source.shape)
        fresh = self.row_window.fresh(r, self.tiling["rows"])
        fresh *= self.column_window.fresh(q, self.tiling["columns"])
        reread = (high * wide - fresh) * self.x.shape[2] * tile.operand.dtype.nbytes
        self.e.load(tile, source, again=again, reread_bytes=reread)
        return tile, (before, west, after, east, row_phase, column_phase)

    def compute(self, x: View, pads: tuple[int, ...], r: Tile, q: Tile, c: Tile) -> None:
        """One output tile: convolve, run the epilogue, store."""
        attrs = self.context.op.attrs
        self.y_buffer.next()
        tile = self.y_buffer.view(self.epilogue.stages[0], (r.size, q.size, c.size))
        constants = [constant.current(c) for constant in self.constants]
        self.e.tensor(
            Opcode.CONV2D,
            tile,
            [x, self.weights(c), *constants],
            (
                ("bias", int(self.context.has_input(2))),
                ("dilations", sequence(attrs.get("dilations", (1, 1)))),
                ("groups", int(attrs.get("groups", 1))),
                ("pads", pads[:4]),
                ("strides", sequence(attrs["strides"])),
                ("upsample", int(attrs.get("upsample", 1))),
                ("upsample_phase", pads[4:]),
            ),
        )
        starts = (r.start, q.start, c.start)
        first = r.index == 0 and q.index == 0
        tile = self.epilogue.apply(self.e, tile, starts, c, first=first)
        self.e.store(self.y.box(starts, tile.shape), tile)


@dataclass(slots=True)
class ChannelConstant:
    """A constant with one value an output channel: a bias, or the scales of INT8 weights."""

    buffer: Buffer
    source: View

    def current(self, c: Tile) -> View:
        """The channels ``c`` in SRAM."""
        return self.buffer.view(self.source.operand.tensor, (c.size,))


def reserve_constants(
    e: Emitter, context: OpContext, size: int, *, streamed: bool
) -> list[ChannelConstant]:
    """Buffers for the bias and the weight scales of tiles of ``size`` channels."""
    made = []
    scale = context.tensors[context.op.inputs[1]].scale_tensor
    names = [("bias", context.op.inputs[2])] if context.has_input(2) else []
    names += [("scale", scale)] if scale else []
    for label, name in names:
        source = context.view(name)
        flat = source.reshape(source.operand.elements)
        made.append(
            ChannelConstant(e.buffer(label, size, flat.operand.dtype, streamed=streamed), flat)
        )
    return made


def load_constants(e: Emitter, constants: list[ChannelConstant], c: Tile, *, again: bool) -> None:
    """Load the constants of channel tile ``c``."""
    for constant in constants:
        constant.buffer.next()
        e.load(constant.current(c), constant.source.box((c.start,), (c.size,)), again=again)


def _emit(e: Emitter, context: OpContext, t: Tiling) -> None:
    _Conv(e, context, t).emit()


CONV = Rule(_tilings, _emit, fallback=_narrow_tilings)
