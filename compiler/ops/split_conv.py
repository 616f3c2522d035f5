"""Convolutions accumulated over parts of their reduction, and in tiles narrower than a row.

Integer sums are exact, so a part is a range of input channels under the whole kernel: the weights
of a filter are then read in runs. FP16 sums are one chain in the order kernel row, kernel column,
channel, so there a part is a range of channels under one tap (``taps=1``), unless the kernel has
only one: an ordinary CONV2D of a kernel of one element, with the padding moved.

``keep`` says what a tile of the result keeps whole: the stripe of x for all tiles of channels, the
weights for all stripes, or none of them. Groups of channels are independent of each other: a tile
of channels has whole groups, or lies within one, whose reduction alone may be split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from edgefusion.compiler.lowering.channel_constants import (
    ChannelConstant,
    load_constants,
    reserve_constants,
)
from edgefusion.compiler.lowering.emitter import Buffer, Emitter, Tile
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
from edgefusion.compiler.lowering.rule import OpContext, Stage, Tiling, tile_sizes, tiling
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.window import Source, Span, Window
from edgefusion.compiler.ops.split_reduction import (
    Largest,
    Sums,
    depths,
    doublings,
    least_depth,
)
from edgefusion.runtime.isa import DType, Opcode


@dataclass(frozen=True, slots=True)
class Filters:
    """A convolution's operands, x[h,w,c], w[n,c/groups,kh,kw] and y[h',w',n], its windows
    down and across, and the names of ``weights`` and ``bias`` ('' for none)."""

    x: View
    w: View
    y: View
    windows: tuple[Window, Window]
    groups: int
    weights: str
    bias: str

    @property
    def filters(self) -> int:
        """Filters of a group."""
        return self.y.shape[2] // self.groups

    @property
    def depth(self) -> int:
        """Input channels of a group."""
        return self.w.shape[1]

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return self.w.shape[2] * self.w.shape[3]

    def groups_in(self, channels: int) -> int:
        """How many groups a tile of ``channels`` filters covers; at least the one it lies in."""
        return max(1, channels // self.filters)


def split_conv_tilings(context: OpContext, f: Filters) -> Iterator[Tiling]:
    """Tilings of whole rows, and where none fits, down to one pixel, a quarter of the array's
    columns and one channel."""
    machine, (height, width, _) = context.machine, f.y.shape
    granule = max(machine.tensor_granularity_n // 4, 1)
    within = tile_sizes(f.filters, multiple=min(f.filters, granule))
    wider = [f.filters * count for count in tile_sizes(f.groups) if count > 1]
    in_order = f.x.operand.dtype is DType.FP16 and f.taps > 1

    def family(
        keep: str, stripe: tuple[int, int], depth: int, taps: int
    ) -> tuple[list[Tiling], str, int, int, int, int]:
        """Tilings that differ in their filters, and all that they have in common."""
        rows, columns = stripe
        whole = depth == f.depth and taps == f.taps
        made = [
            tiling(channels=size, rows=rows, columns=columns, depth=depth, taps=taps, keep=keep)
            for size in ([*wider, *within] if whole else within)
        ]
        return made, keep, rows, columns, depth, taps

    largest = Largest(machine, lambda e, t: SplitConv(f, e, context, t))
    taps = 1 if in_order else f.taps
    parts = [(f.depth, f.taps), *((depth, taps) for depth in depths(machine, f.depth, taps))]
    for keep in ("x", "w", "none"):
        for stripe in [(rows, width) for rows in doublings(height, 1)]:
            for depth, taps in dict.fromkeys(parts):
                if (depth, taps) != parts[0] or keep != "none":
                    yield from largest.of(*family(keep, stripe, depth, taps))
    if not largest.found:
        shallow = [(depth, taps) for depth in doublings(least_depth(machine, f.depth), 1)]
        for columns in doublings(width, 1):
            for part in dict.fromkeys((*parts[1:], *shallow)):
                yield from largest.of(*family("none", (1, columns), *part))
        # What the message of an op that does not fit asks for.
        yield family("none", (1, 1), 1, taps)[0][-1]


@dataclass(frozen=True, slots=True)
class _Part:
    """Kernel rows, kernel columns and channels of a group that an instruction reduces over."""

    down: Tile
    across: Tile
    depth: Tile
    first: bool
    last: bool


@dataclass
class SplitConv(Stage):
    """Buffers and views of one convolution while it is emitted; making it reserves SRAM, and raises
    DoesNotFitError."""

    filters: Filters
    e: Emitter
    context: OpContext
    tiling: Tiling
    known: dict[tuple[int, int, int], tuple[Source, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        e, f, t = self.e, self.filters, self.tiling
        rows, cols, size = t["rows"], t["columns"], t["channels"]
        keep, depth = t.choice("keep"), t["depth"]
        self.together = f.groups_in(size)
        self.kernel = f.w.shape[2:] if t["taps"] == f.taps else (1, 1)
        stripe = f.windows[0].largest(rows) * f.windows[1].largest(cols)
        x_channels = self.together * (f.depth if keep == "x" else depth)
        self.x_buffer: Buffer | None = e.input_buffer("x", stripe * x_channels, f.x)
        taps, deep = (f.taps, f.depth) if keep == "w" else (t["taps"], depth)
        self.w_buffer: Buffer = e.buffer("w", size * taps * deep, f.w.operand.dtype)
        self.constants: list[ChannelConstant] = reserve_constants(
            e, self.context, f.weights, f.bias, size, streamed=size < f.y.shape[2]
        )
        self.epilogue = EpilogueBuffers.reserve(
            e, self.context, rows * cols * size, size, in_order=cols >= f.y.shape[1]
        )
        parts = -(-f.depth // depth) * (f.taps // t["taps"])
        self.sums = Sums.reserve(e, rows * cols * size, f.y, self.epilogue.stages[0], parts=parts)
        changed = EpilogueBuffers.changes(self.context.op)
        self.y_buffer = e.output_buffer("y", rows * cols * size, f.y, needed=changed)

    def run(self, span: Span) -> None:
        """The whole op."""
        e, f, t = self.e, self.filters, self.tiling
        height, width, _ = f.y.shape
        for g in e.tiles(f.groups, self.together):
            band = g.size * f.filters if self.together > 1 else f.filters
            size = min(t["channels"], band)
            if t.choice("keep") == "x":
                for r in e.tiles(height, t["rows"], edges=2):
                    for q in e.tiles(width, t["columns"], edges=2):
                        at_first = r.index == 0 and q.index == 0
                        stripe = self._load_stripe(r, q, g, Tile(0, 0, f.depth), again=False)
                        for c in self._channels(g, band, size):
                            if at_first or size < band:
                                self._load_constants(c, again=not at_first)
                            self._tile(r, q, c, g, x=stripe)
                continue
            for c in self._channels(g, band, size):
                self._load_constants(c, again=False)
                weights = None
                if t.choice("keep") == "w":
                    weights = self._load_weights(c, (0, 0, 0), f.w.shape[1:], again=False)
                for r in e.tiles(height, t["rows"], edges=2):
                    for q in e.tiles(width, t["columns"], edges=2):
                        self._tile(r, q, c, g, w=weights)

    def finish(self) -> None:
        """Statistics."""
        self.epilogue.finish(self.e)

    def _channels(self, g: Tile, band: int, size: int) -> Iterator[Tile]:
        """Tiles of the filters of groups ``g``: counted from 0, placed where they lie in y."""
        for c in self.e.tiles(band, size):
            yield Tile(c.index, g.start * self.filters.filters + c.start, c.size)

    def _parts(self) -> Iterator[_Part]:
        e, f = self.e, self.filters
        kh, kw = f.w.shape[2:]
        for down in e.tiles(kh, self.kernel[0]):
            for across in e.tiles(kw, self.kernel[1]):
                for depth in e.tiles(f.depth, self.tiling["depth"]):
                    last = (
                        down.start + down.size == kh
                        and across.start + across.size == kw
                        and depth.start + depth.size == f.depth
                    )
                    first = down.index + across.index + depth.index == 0
                    yield _Part(down, across, depth, first, last)

    def _tile(
        self, r: Tile, q: Tile, c: Tile, g: Tile, *, x: View | None = None, w: View | None = None
    ) -> None:
        """One tile of the result; operands that are not kept are loaded part by part."""
        e, f, streams = self.e, self.filters, x is None
        shape = (r.size, q.size, c.size)
        self.sums.begin()
        for part in self._parts():
            d = part.depth
            if streams:
                # All channels at once serve all taps, otherwise each tap reads its own again.
                other_tap = part.down.index + part.across.index > 0
                if x is None or not other_tap or self.tiling["depth"] < f.depth:
                    x = self._load_stripe(r, q, g, d, again=c.index > 0 or other_tap)
                left = x
            else:
                assert x is not None
                left = x if self.together > 1 else x.box((0, 0, d.start), (*x.shape[:2], d.size))
            begin = d.start, part.down.start, part.across.start
            sizes = d.size, part.down.size, part.across.size
            if w is None:
                right = self._load_weights(c, begin, sizes, again=r.index + q.index > 0)
            else:
                right = w.box((0, *begin), (c.size, *sizes))
            attrs = self._attributes(r, q, part, g.size)
            if not part.last:
                self.sums.add(e, Opcode.CONV2D, shape, [left, right], attrs, first=part.first)
                continue
            starts = (r.start, q.start, c.start)
            target = f.y.box(starts, shape)
            tile = e.place(self.y_buffer, target, self.epilogue.stages[0])
            inputs = [left, right, *(constant.current(c) for constant in self.constants)]
            attrs = (("bias", int(bool(f.bias))), *attrs)
            self.sums.finish(e, Opcode.CONV2D, tile, inputs, attrs, first=part.first)
            at_first = r.index == 0 and q.index == 0
            tile = self.epilogue.apply(e, tile, starts, c, target, first=at_first)
            e.deliver(target, tile)

    def _attributes(
        self, r: Tile, q: Tile, part: _Part, groups: int
    ) -> tuple[tuple[str, int | tuple[int, ...]], ...]:
        """Of a convolution with the taps of ``part``: without those before and after it, more of
        the padding is left out, or some of the tile is cut off."""
        kernel, before, after = self.filters.w.shape[2:], [], []
        sources = [self._reads(axis, tile)[0] for axis, tile in ((0, r), (1, q))]
        for i, taps in enumerate((part.down, part.across)):
            step = self.filters.windows[i].dilation
            before.append(sources[i].pad_before - taps.start * step)
            after.append(sources[i].pad_after - (kernel[i] - taps.start - taps.size) * step)
        down, across = self.filters.windows
        return (
            ("dilations", (down.dilation, across.dilation)),
            ("groups", groups),
            ("pads", (*before, *after)),
            ("strides", (down.stride, across.stride)),
            ("upsample", down.upsample),
            ("upsample_phase", (sources[0].phase, sources[1].phase)),
        )

    def _reads(self, axis: int, tile: Tile) -> tuple[Source, int]:
        """What ``tile`` reads along an axis, and how much of it no earlier tile has read."""
        key = axis, tile.start, tile.size
        if key not in self.known:
            window, span = self.filters.windows[axis], Span(tile.start, tile.size)
            size = self.tiling["columns" if axis else "rows"]
            self.known[key] = window.source(span), window.fresh(span, size)
        return self.known[key]

    def _load_stripe(self, r: Tile, q: Tile, g: Tile, d: Tile, *, again: bool) -> View:
        """What the windows of rows ``r`` and columns ``q`` cover, of channels ``d`` of group ``g``,
        or of all channels of groups ``g``."""
        f = self.filters
        (down, fresh_rows), (across, fresh_columns) = self._reads(0, r), self._reads(1, q)
        channels = g.size * f.depth if self.together > 1 else d.size
        source = f.x.box(
            (down.span.start, across.span.start, g.start * f.depth + d.start),
            (down.span.size, across.span.size, channels),
        )
        loaded = down.span.size * across.span.size
        reread = (loaded - fresh_rows * fresh_columns) * channels * source.operand.dtype.nbytes
        return self.e.bring(self.x_buffer, source, again=again, reread_bytes=reread)

    def _load_weights(
        self, c: Tile, starts: tuple[int, ...], sizes: tuple[int, ...], *, again: bool
    ) -> View:
        """Channels, kernel rows and kernel columns of the filters ``c``."""
        source = self.filters.w.box((c.start, *starts), (c.size, *sizes))
        return self.e.bring(self.w_buffer, source, again=again)

    def _load_constants(self, c: Tile, *, again: bool) -> None:
        load_constants(self.e, self.constants, c, again=again)
        self.epilogue.load_vectors(self.e, c, again=again)
