"""Pooling windows and reductions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Tiling,
    matrix,
    row_tilings,
    rows,
)
from edgefusion.compiler.network.kind import Scaling, Shape, operand
from edgefusion.compiler.network.tensor import statistics_dtype
from edgefusion.compiler.network.window import Span, Window
from edgefusion.compiler.ops.conv import Pair, WindowedKind
from edgefusion.compiler.ops.conv_stage import dense_image
from edgefusion.runtime.isa import DType, Opcode


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool(WindowedKind, LoweredKind):
    """x[1,h,w,c] -> y; function (max, average), kernel, strides, pads, count_include_pad"""

    name: ClassVar[str] = "pool"
    function: str
    kernel: Pair
    count_include_pad: bool = False

    @property
    def scaling(self) -> Scaling:
        """A maximum is one of its inputs."""
        return Scaling.MOVED if self.function == "max" else Scaling.MEASURED

    def windows(self, shapes: Mapping[str, Shape]) -> tuple[Window, Window]:
        """Of the kernel."""
        rows, columns = (
            Window(shapes["x"][1 + i], self.kernel[i], self.strides[i], self.pads[i])
            for i in (0, 1)
        )
        return rows, columns

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The windows' positions, channels as they are."""
        return (1, *self.window_shape(shapes), shapes["x"][3])

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Rows, columns and channels."""
        return {1: 1, 2: 1, 3: 1}

    def needs(
        self, shapes: Mapping[str, Shape], result: Shape, axis: int, span: Span
    ) -> Mapping[str, tuple[int, Span]]:
        """What lies below the windows, or the same channels."""
        if axis == 3:
            return {"x": (3, span)}
        return WindowedKind.needs(self, shapes, result, axis, span)

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Stripes of output rows."""
        return row_tilings(context.output().shape[1])

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """Stripes of output rows over whole input rows, halo included."""
        x, y = dense_image(context.view(self.x)), dense_image(context.output())
        row_window, column_window = self.windows({"x": context.view(self.x).shape})
        _, width, channels = x.shape
        out_height, out_width, _ = y.shape
        x_elements = row_window.largest(t["rows"]) * width * channels
        x_buffer = e.input_buffer("x", x_elements, x)
        y_buffer = e.output_buffer("y", t["rows"] * out_width * channels, y)
        for r in e.tiles(out_height, t["rows"], edges=2):
            span = Span(r.start, r.size)
            source = row_window.source(span)
            halo = source.span.size - row_window.fresh(span, t["rows"])
            part = x.box((source.span.start, 0, 0), (source.span.size, width, channels))
            row_bytes = width * channels * part.operand.dtype.nbytes
            tile = e.bring(x_buffer, part, reread_bytes=halo * row_bytes)
            target = y.box((r.start, 0, 0), (r.size, out_width, channels))
            result = e.place(y_buffer, target)
            e.vector(
                Opcode.POOL,
                result,
                [tile],
                (
                    ("count_include_pad", int(self.count_include_pad)),
                    ("function", self.function),
                    ("kernel", self.kernel),
                    (
                        "pads",
                        (source.pad_before, column_window.pad, source.pad_after, self.pads[3]),
                    ),
                    ("strides", self.strides),
                ),
            )
            e.deliver(target, result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(LoweredKind):
    """x[1,h,w,c] -> y[1,1,1,c] or x[...,c] -> y[...,1]; function (mean, sum, max), axes, keepdims
    (else y lacks the axes)"""

    name: ClassVar[str] = "reduce"
    is_element_work: ClassVar[bool] = True
    x: str = operand()
    function: str
    axes: tuple[int, ...]
    keepdims: bool = True

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """x without the axes, or with size 1 there."""
        kept = [1 if i in self.axes else n for i, n in enumerate(shapes["x"])]
        return tuple(n for i, n in enumerate(kept) if self.keepdims or i not in self.axes)

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """The axes that are left."""
        kept = self._kept(shapes)
        return {axis if self.keepdims else i: 1 for i, axis in enumerate(kept)}

    def needs(
        self,
        shapes: Mapping[str, Shape],
        result: Shape,
        axis: int,
        span: Span,
    ) -> Mapping[str, tuple[int, Span]]:
        """The same elements."""
        return {"x": (axis if self.keepdims else self._kept(shapes)[axis], span)}

    def _kept(self, shapes: Mapping[str, Shape]) -> list[int]:
        return [axis for axis in range(len(shapes["x"])) if axis not in self.axes]

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Tiles of whole rows of x."""
        return row_tilings(matrix(context.view(self.x)).shape[0])

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """Over the last axis, row tiles are independent; over all others, they accumulate.

        Integer sums accumulate whole, in steps of x, and are rounded once, when all rows are in.
        """
        x = matrix(context.view(self.x))
        m, n = x.shape
        last = self.axes == (len(context.view(self.x).shape) - 1,)
        y = context.output().reshape(m, 1) if last else context.output().reshape(n)
        x_buffer = e.input_buffer("x", t["rows"] * n, x)
        y_buffer = None
        whole = y
        if not y.in_sram:
            y_buffer = e.buffer("y", t["rows"] if last else n, y.operand.dtype, streamed=last)
            whole = y_buffer.view(y.operand.tensor, (n,))
        carried = whole
        if not last and self.function != "max" and x.operand.dtype is DType.INT16:
            sums = e.buffer("sum", n, statistics_dtype(x.operand.dtype), streamed=False)
            carried = sums.view(x.operand.tensor, (n,))
        for r in e.tiles(m, t["rows"]):
            tile = e.bring(x_buffer, rows(x, r.start, r.size))
            result = carried
            if last:
                result = e.place(y_buffer, rows(y, r.start, r.size))
            attrs = (
                ("axis", 1 if last else 0),
                ("count", n if last else m),
                ("first", int(last or r.index == 0)),
                ("function", self.function),
                ("last", int(last or r.start + r.size == m)),
            )
            e.vector(Opcode.REDUCE, result, [tile], attrs)
            if last:
                e.deliver(rows(y, r.start, r.size), result)
        if carried is not whole:
            e.vector(
                Opcode.COPY, whole, [carried], (("count", m if self.function == "mean" else 1),)
            )
        if not last:
            e.deliver(y, whole)
