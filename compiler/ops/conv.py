"""Convolution: stripes of output rows times tiles of output channels (``compiler.ops.conv_stage``).

Where that does not fit, the reduction is split (``compiler.ops.split_conv``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Stage,
    Tiling,
    channel_sizes,
    channels_of_sweep,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.network.kind import Accumulation, Kind, Shape, Use, operand
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Span, Window
from edgefusion.compiler.ops.conv_stage import ConvStage, dense_image
from edgefusion.compiler.ops.matmul import WEIGHT_LEVELS
from edgefusion.compiler.ops.split_conv import Filters, SplitConv, split_conv_tilings
from edgefusion.runtime.specification import Attrs

Pair = tuple[int, int]

_SWEEPS = (2, 3, 4)

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
class Convolving(WindowedKind, LoweredKind):
    """The base of kinds that multiply what is below their windows by filters
    w[co,ci,kh,kw], and add a bias[co]."""

    has_epilogue: ClassVar[bool] = True
    w: str = operand(Use.WEIGHT)
    bias: str = operand(Use.BIAS, optional=True)

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The windows' positions, the filters."""
        return (1, *self.window_shape(shapes), shapes["w"][0])

    def needs(
        self, shapes: Mapping[str, Shape], result: Shape, axis: int, span: Span
    ) -> Mapping[str, tuple[int, Span]]:
        """Of x what lies below the windows; filters by channel."""
        if axis < 3:
            return WindowedKind.needs(self, shapes, result, axis, span)
        return {"w": (0, span), "bias": (0, span)}

    def accumulation(self, tensors: Tensors) -> Accumulation:
        """Over the taps of one filter."""
        weights = tensors[self.w]
        return Accumulation(weights.elements // weights.shape[0], WEIGHT_LEVELS)

    @property
    def cuts_channels(self) -> bool:
        """Whether tiles may have a part of the filters."""
        return True

    @property
    def period(self) -> Pair:
        """After how many rows and columns of the result the work for one repeats itself."""
        return 1, 1

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Stripes of whole rows."""
        _, height, width, channels = context.output().shape
        granule = context.machine.tensor_granularity_n
        for size in channel_sizes(channels, multiple=granule) if self.cuts_channels else [channels]:
            for outer in ("weights", "rows") if size < channels else ("weights",):
                for rows in tile_sizes(height, multiple=self.period[0]):
                    yield tiling(rows=rows, columns=width, channels=size, outer=outer)
        for size, outer, sweeps in self._swept(context):
            for rows in tile_sizes(height, multiple=self.period[0]):
                yield tiling(rows=rows, columns=width, channels=size, outer=outer, sweeps=sweeps)

    def fallback(self, context: OpContext) -> Iterator[Tiling]:
        """Stripes narrower than the image, and channels of a part of the array, for when not even
        one whole row fits."""
        _, height, width, channels = context.output().shape
        granule = max(context.machine.tensor_granularity_n // 4, 1)
        period = self.period[0]
        few = sorted({-(-rows // period) * period for rows in (8, 4, 2, 1)}, reverse=True)
        for size in tile_sizes(channels, multiple=granule) if self.cuts_channels else [channels]:
            for columns in tile_sizes(width, multiple=self.period[1]):
                for rows in (rows for rows in few if rows <= height or rows == few[-1]):
                    yield tiling(
                        rows=min(rows, height), columns=columns, channels=size, outer="weights"
                    )

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Lines as wide as the image. Weights stay while the result is made in parts of its
        channels (``rows_weights``), or pass in parts."""
        _, _, width, channels = context.output().shape
        granule = context.machine.tensor_granularity_n
        rows = -(-size // width)
        parts = channel_sizes(channels, multiple=granule) if self.cuts_channels else [channels]
        for part in parts:
            stays = "weights" if part == channels else "rows_weights"
            if part * 8 >= channels:
                yield tiling(rows=rows, columns=width, channels=part, outer=stays)
        for part in parts[1:]:
            yield tiling(rows=rows, columns=width, channels=part, outer="rows")
        for part, stays, sweeps in self._swept(context):
            yield tiling(rows=rows, columns=width, channels=part, outer=stays, sweeps=sweeps)

    def _swept(self, context: OpContext) -> Iterator[tuple[int, str, int]]:
        """Channels of a tile, what stays, and the number of sweeps, for weights that are heavy."""
        machine, channels = context.machine, context.output().shape[-1]
        if context.tensors[self.w].nbytes * _HEAVY < machine.sram_bytes or not self.cuts_channels:
            return
        for sweeps in _SWEEPS:
            swept = channels_of_sweep(channels, sweeps, machine)
            if ceil(channels / swept) < sweeps:
                continue
            for part in channel_sizes(swept, multiple=machine.tensor_granularity_n):
                yield part, "weights" if part == swept else "rows_weights", sweeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Convolving):
    """x[1,h,w,ci], w[co,ci/g,kh,kw], [bias[co]] -> y[1,h',w',co]; strides, pads, dilations, groups,
    upsample (nearest factor applied to x first)"""

    name: ClassVar[str] = "conv"
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

    @property
    def cuts_channels(self) -> bool:
        """Groups of channels are made together."""
        return self.groups == 1

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Rows, columns, and channels by whole groups."""
        return {1: 1, 2: 1, 3: result[3] // self.groups if self.groups > 1 else 1}

    def needs(
        self, shapes: Mapping[str, Shape], result: Shape, axis: int, span: Span
    ) -> Mapping[str, tuple[int, Span]]:
        """Of x what lies below the windows, or the groups of the channels; filters by channel."""
        found = dict(Convolving.needs(self, shapes, result, axis, span))
        if axis == 3 and self.groups > 1:
            made, read = result[3] // self.groups, shapes["x"][3] // self.groups
            found["x"] = (3, Span(span.start // made * read, -(-span.size // made) * read))
        return found

    def fallback(self, context: OpContext) -> Iterator[Tiling]:
        """Narrower stripes, and parts of the reduction."""
        yield from Convolving.fallback(self, context)
        yield from split_conv_tilings(context, self._filters(context))

    def _filters(self, context: OpContext) -> Filters:
        x, w = context.view(self.x), context.view(self.w)
        windows = self.windows({"x": x.shape, "w": w.shape})
        y = dense_image(context.output())
        return Filters(dense_image(x), w, y, windows, self.groups, self.w, self.bias)

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """See the module."""
        if t.splits:
            return SplitConv(self._filters(context), e, context, t)
        shapes = {"x": context.view(self.x).shape, "w": context.view(self.w).shape}
        attrs: Attrs = (
            ("dilations", self.dilations),
            ("groups", self.groups),
            ("strides", self.strides),
            ("upsample", self.upsample),
        )
        return ConvStage(e, context, t, self.x, self.w, self.bias, self.windows(shapes), attrs)
