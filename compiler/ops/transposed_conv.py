"""Transposed convolution: a convolution of x with zeros between its pixels, none of which is
multiplied.

Rows of the result whose numbers leave the same remainder by the stride meet the same taps of the
kernel, every ``stride``-th one; so do columns. By these phases it is as many ordinary convolutions
as a stride has pixels, each of its own taps and padding. A tile of the result is made by one
instruction a phase, from the same tile of x: each writes every ``stride``-th row and column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

from edgefusion.compiler.lowering.emitter import Emitter, Tile
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Stage,
    Tiling,
    channel_sizes,
    stripe_sizes,
    tiling,
)
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.kind import Shape
from edgefusion.compiler.network.window import Source, Span, Window
from edgefusion.compiler.ops.conv import Convolving, Pair
from edgefusion.compiler.ops.conv_stage import ConvStage
from edgefusion.runtime.isa import DType

_PARTS = (2, 3, 4, 6, 8)
"""Into how many parts channels are cut where tiles have few lines: what x and weights leave of SRAM
is little, and the sizes between halves are the ones that fill it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransposedConv(Convolving):
    """x[1,h,w,ci], w[co,ci,kh,kw], [bias[co]] -> y[1,h',w',co]; strides, pads, output_padding; taps
    in the order in which a result meets them (ONNX's turned around)"""

    name: ClassVar[str] = "transposed_conv"
    output_padding: Pair = (0, 0)

    def windows(self, shapes: Mapping[str, Shape]) -> tuple[Window, Window]:
        """Of x with each pixel repeated instead of zeros after it: a kernel shorter by all zeros
        that may lie before its first pixel reaches the same pixels."""
        rows, columns = (
            Window(
                extent=shapes["x"][1 + i] * self.strides[i],
                kernel=shapes["w"][2 + i] - self.strides[i] + 1,
                pad=shapes["w"][2 + i] - self.strides[i] - self.pads[i],
                upsample=self.strides[i],
            )
            for i in (0, 1)
        )
        return rows, columns

    def window_shape(self, shapes: Mapping[str, Shape]) -> Pair:
        """ONNX's: pads cut the result off, ``output_padding`` adds to it."""
        rows, columns = (
            (shapes["x"][1 + i] - 1) * self.strides[i]
            + shapes["w"][2 + i]
            - self.pads[i]
            - self.pads[i + 2]
            + self.output_padding[i]
            for i in (0, 1)
        )
        return rows, columns

    @property
    def period(self) -> Pair:
        """The stride's phases."""
        return self.strides

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Stripes of whole rows; then such as serve tiles of a few lines, which leave room for more
        of x and of the weights."""
        yield from Convolving.tilings(self, context)
        _, height, width, channels = context.output().shape
        granule = context.machine.tensor_granularity_n
        for size in channel_sizes(channels, multiple=granule, parts=_PARTS):
            outers = ("weights", "weights_once", "rows") if size < channels else ("weights",)
            for outer in outers if size * 8 >= channels else ():
                for lines in self._lines(context):
                    for rows in stripe_sizes(height, multiple=self.period[0]):
                        if rows > lines:
                            yield tiling(
                                rows=rows, lines=lines, columns=width, channels=size, outer=outer
                            )

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Those of a convolution, each followed by ones whose tiles have fewer lines than the
        stripe: before channels are made in parts, each of which reads x for every phase."""
        for t in Convolving.stripe_tilings(self, context, size):
            yield t
            for lines in self._lines(context):
                if t["rows"] > lines:
                    yield Tiling((t.values[0], ("lines", lines), *t.values[1:]))

    def _lines(self, context: OpContext) -> tuple[int, ...]:
        """Lines of a tile, most first: as many as keep the array busy with the taps of a phase for
        as long as those of the next take to load, and half of them."""
        machine, w = context.machine, context.tensors[self.w].dtype
        rate = machine.tensor_rate["fp16" if w is DType.FP16 else "w8a16"]
        pixels = (
            machine.tensor_macs_per_cycle * rate * w.nbytes / machine.tensor_load_bytes_per_cycle
        )
        across = -(-context.output().shape[2] // self.strides[1])
        enough = ceil(pixels / across)
        parts = (enough, -(-3 * enough // 4), -(-enough // 2))
        return tuple(dict.fromkeys(self.strides[0] * n for n in parts))

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """See the module."""
        shapes = {"x": context.view(self.x).shape, "w": context.view(self.w).shape}
        phases = [
            Phases(shapes["x"][1 + i], shapes["w"][2 + i], self.strides[i], self.pads[i])
            for i in (0, 1)
        ]
        windows = self.windows(shapes)
        names = self.x, self.w, self.bias
        return _Stage(
            e, context, t, *names, windows, period=self.period, down=phases[0], across=phases[1]
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Of one axis, the part of a tile in one phase: results ``first``, ``first + stride``, ... of
    the tile, ``size`` of them, what these read, and the first of their taps, of which there are
    ``taps``."""

    first: int
    size: int
    source: Source
    tap: int
    taps: int


@dataclass(frozen=True, slots=True)
class Phases:
    """One axis of a transposed convolution of ``kernel`` taps over ``extent`` pixels, ``pad`` of
    whose results are cut off before the first."""

    extent: int
    kernel: int
    stride: int
    pad: int

    def parts(self, start: int, size: int) -> Iterator[Part]:
        """Results ``[start, start + size)`` by phase."""
        before = self.kernel - 1 - self.pad  # where zeros lie between pixels
        for phase in range(self.stride):
            at, stop = (-(-(edge - phase) // self.stride) for edge in (start, start + size))
            if at == stop:
                continue
            tap = (before - phase) % self.stride
            taps = len(range(tap, self.kernel, self.stride))
            window = Window(self.extent, taps, pad=(before - phase) // self.stride)
            source = window.source(Span(at, stop - at))
            yield Part(at * self.stride + phase - start, stop - at, source, tap, taps)


@dataclass(kw_only=True)
class _Stage(ConvStage):
    """A convolution whose tiles take an instruction for each phase."""

    down: Phases
    across: Phases
    parts: dict[tuple[int, int, int], list[Part]] = field(default_factory=dict)

    def multiply(
        self, tile: View, x: View, down: Source, across: Source, r: Tile, q: Tile, c: Tile
    ) -> None:
        """Phase by phase."""
        weights, steps = self.weights(c), (self.down.stride, self.across.stride)
        for row in self.parts_of(0, r):
            for column in self.parts_of(1, q):
                part = _every(
                    tile, (row.first, column.first, 0), (row.size, column.size, c.size), (*steps, 1)
                )
                taps = _every(
                    weights,
                    (0, 0, row.tap, column.tap),
                    (*weights.shape[:2], row.taps, column.taps),
                    (1, 1, *steps),
                )
                rows, columns = row.source.span, column.source.span
                below = x.box(
                    (rows.start - down.span.start, columns.start - across.span.start, 0),
                    (rows.size, columns.size, x.shape[2]),
                )
                self.product(part, below, taps, c, row.source, column.source)

    def parts_of(self, axis: int, tile: Tile) -> list[Part]:
        """``tile`` by phase along an axis; kept, as it comes by once for every tile of channels."""
        key = axis, tile.start, tile.size
        if key not in self.parts:
            phases = self.across if axis else self.down
            self.parts[key] = list(phases.parts(tile.start, tile.size))
        return self.parts[key]


def _every(
    view: View, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]
) -> View:
    """``sizes`` elements of ``view`` from ``starts`` on, ``steps`` apart."""
    box = view.box(starts, sizes)
    return box.strided(sizes, tuple(a * b for a, b in zip(box.operand.strides, steps, strict=True)))
