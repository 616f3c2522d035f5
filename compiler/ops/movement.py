"""Ops that only move or rearrange data: views, concat, slice, transpose, resize, host calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from edgefusion.compiler.lowering.emitter import Emitter, View
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Tiling,
    row_tilings,
    rows,
    tiling,
)
from edgefusion.compiler.network.kind import Kind, Scaling, Shape, operand, operand_list
from edgefusion.compiler.network.window import Span, Window
from edgefusion.compiler.ops.conv import dense_image
from edgefusion.runtime.isa import DType, Opcode
from edgefusion.runtime.program import dense_strides


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Kind):
    """x -> y: the same bytes under another shape; costs nothing"""

    name: ClassVar[str] = "view"
    is_view: ClassVar[bool] = True
    is_element_work: ClassVar[bool] = True
    x: str = operand()

    @property
    def scaling(self) -> Scaling:
        """The same values."""
        return Scaling.MOVED

    def result_shape(self, shapes: Mapping[str, Shape]) -> None:
        """Any of as many elements."""

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """None: axes of one shape are not those of the other."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveKind(LoweredKind):
    """The base of kinds of one operand that moves through SRAM."""

    is_element_work: ClassVar[bool] = True
    x: str = operand()

    @property
    def scaling(self) -> Scaling:
        """The same values."""
        return Scaling.MOVED

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Slabs along the axis of the result with most elements."""
        shape = context.output().shape
        return row_tilings(shape[_largest_axis(shape)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(LoweredKind):
    """x... -> y; axis"""

    name: ClassVar[str] = "concat"
    is_element_work: ClassVar[bool] = True
    parts: tuple[str, ...] = operand_list()
    axis: int

    @property
    def scaling(self) -> Scaling:
        """Integers are rescaled on the way, for every branch has its own scale."""
        return Scaling.WIDEST

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The parts' extents along the axis added up."""
        parts = list(shapes.values())
        total = sum(shape[self.axis] for shape in parts)
        return (*parts[0][: self.axis], total, *parts[0][self.axis + 1 :])

    def needs(
        self,
        shapes: Mapping[str, Shape],
        result: Shape,
        axis: int,
        span: Span,
    ) -> Mapping[str, tuple[int, Span]]:
        """The same elements; along the axis itself, what of each part lies in the span."""
        if axis != self.axis:
            return dict.fromkeys(shapes, (axis, span))
        found, begin = {}, 0
        for key, shape in shapes.items():
            start, stop = (min(max(at - begin, 0), shape[axis]) for at in (span.start, span.stop))
            found[key] = axis, Span(start, stop - start)
            begin += shape[axis]
        return found

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Tiles of rows, all axes before the concatenated one folded."""
        return row_tilings(prod(context.output().shape[: self.axis]))

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """Each input, folded to [outer, axis x inner], is copied into its columns of the result."""
        axis, shape = self.axis, context.output().shape
        outer = prod(shape[:axis])
        y = context.output().reshape(outer, prod(shape[axis:]))
        views = [context.view(name) for name in self.parts]
        sources = [view.reshape(outer, prod(view.shape[axis:])) for view in views]
        widest = max(source.shape[1] for source in sources)
        buffer = e.buffer("x", t["rows"] * widest, y.operand.dtype)
        column = 0
        for source in sources:
            for r in e.tiles(outer, t["rows"]):
                buffer.next()
                tile = buffer.view(source.operand.tensor, (r.size, source.shape[1]))
                e.load(tile, rows(source, r.start, r.size))
                if y.operand.dtype is DType.INT16:
                    branch, tile = tile, tile.as_tensor(y.operand.tensor)
                    e.vector(Opcode.COPY, tile, [branch])
                e.store(y.box((r.start, column), tile.shape), tile)
            column += source.shape[1]


def _largest_axis(shape: tuple[int, ...]) -> int:
    return max(range(len(shape)), key=lambda axis: shape[axis])


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(MoveKind):
    """x -> y; starts, steps (one for each axis of x)"""

    name: ClassVar[str] = "slice"
    starts: tuple[int, ...]
    steps: tuple[int, ...]

    def result_shape(self, shapes: Mapping[str, Shape]) -> None:
        """The ends are the result's own."""

    def needs(
        self,
        shapes: Mapping[str, Shape],
        result: Shape,
        axis: int,
        span: Span,
    ) -> Mapping[str, tuple[int, Span]]:
        """Every so many elements from the start on."""
        window = Window(shapes["x"][axis], stride=self.steps[axis], pad=-self.starts[axis])
        return {"x": (axis, window.source(span).span)}

    def touched(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[str, int]:
        """As many elements as the result has."""
        return {"x": prod(result)}

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """A strided part of x becomes a dense tensor."""
        x, y = context.view(self.x), context.output()
        begun = x.box(self.starts, y.shape)
        pairs = zip(begun.operand.strides, self.steps, strict=True)
        strides = tuple(stride * step for stride, step in pairs)
        _copy(e, begun.strided(y.shape, strides), y, t["rows"])


def _copy(e: Emitter, source: View, target: View, size: int) -> None:
    """DRAM to DRAM through SRAM, in slabs along the largest axis."""
    axis = _largest_axis(target.shape)
    total = target.shape[axis]
    buffer = e.buffer("x", size * (target.operand.elements // total), target.operand.dtype)
    for r in e.tiles(total, size):
        starts = tuple(r.start if i == axis else 0 for i in range(len(target.shape)))
        shape = tuple(r.size if i == axis else n for i, n in enumerate(target.shape))
        buffer.next()
        tile = buffer.view(source.operand.tensor, shape)
        e.load(tile, source.box(starts, shape))
        e.store(target.box(starts, shape), tile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose(MoveKind):
    """x -> y; perm (that moves nothing, where only the element type changes)"""

    name: ClassVar[str] = "transpose"
    perm: tuple[int, ...]

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The axes of x in their new order."""
        return tuple(shapes["x"][axis] for axis in self.perm)

    def needs(
        self,
        shapes: Mapping[str, Shape],
        result: Shape,
        axis: int,
        span: Span,
    ) -> Mapping[str, tuple[int, Span]]:
        """The same elements along the axis that was moved there."""
        return {"x": (self.perm[axis], span)}

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """Slabs of x, rearranged in SRAM so that DRAM sees runs as long as the layouts allow."""
        x, y = context.view(self.x), context.output()
        perm = self.perm
        axis = _largest_axis(y.shape)
        total = y.shape[axis]
        elements = t["rows"] * (y.operand.elements // total)
        x_buffer = e.buffer("x", elements, x.operand.dtype)
        y_buffer = e.buffer("y", elements, y.operand.dtype)
        for r in e.tiles(total, t["rows"]):
            starts = tuple(r.start if i == axis else 0 for i in range(len(y.shape)))
            shape = tuple(r.size if i == axis else n for i, n in enumerate(y.shape))
            source_starts, source_shape = [0] * len(perm), [0] * len(perm)
            for target_axis, source_axis in enumerate(perm):
                source_starts[source_axis] = starts[target_axis]
                source_shape[source_axis] = shape[target_axis]
            x_buffer.next()
            tile = x_buffer.view(x.operand.tensor, source_shape)
            e.load(tile, x.box(source_starts, source_shape))
            strides = dense_strides(source_shape, x.operand.dtype)
            turned = tile.strided(shape, tuple(strides[i] for i in perm))
            y_buffer.next()
            result = y_buffer.view(y.operand.tensor, shape)
            e.vector(Opcode.COPY, result, [turned])
            e.store(y.box(starts, shape), result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(MoveKind):
    """x[1,h,w,c] -> y[1,h*s,w*s,c], nearest; scale"""

    name: ClassVar[str] = "resize"
    is_element_work: ClassVar[bool] = False
    scale: int

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Rows and columns times the factor."""
        _, height, width, channels = shapes["x"]
        return (1, height * self.scale, width * self.scale, channels)

    def needs(
        self, shapes: Mapping[str, Shape], result: Shape, axis: int, span: Span
    ) -> Mapping[str, tuple[int, Span]]:
        """Every element serves as many as the factor."""
        factor = result[axis] // shapes["x"][axis]
        return {"x": (axis, Window(result[axis], upsample=factor).source(span).span)}

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Stripes of rows of x."""
        return row_tilings(context.view(self.x).shape[1])

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """Nearest-neighbour enlargement by a whole factor, in stripes of rows."""
        factor = self.scale
        x = dense_image(context.view(self.x))
        y = dense_image(context.output())
        height, width, channels = x.shape
        x_buffer = e.buffer("x", t["rows"] * width * channels, x.operand.dtype)
        y_buffer = e.buffer("y", t["rows"] * width * channels * factor**2, y.operand.dtype)
        for r in e.tiles(height, t["rows"]):
            x_buffer.next()
            tile = x_buffer.view(x.operand.tensor, (r.size, width, channels))
            e.load(tile, x.box((r.start, 0, 0), tile.shape))
            shape = (r.size * factor, width * factor, channels)
            y_buffer.next()
            result = y_buffer.view(y.operand.tensor, shape)
            e.vector(Opcode.RESIZE, result, [tile], (("scale", factor),))
            e.store(y.box((r.start * factor, 0, 0), shape), result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host(LoweredKind):
    """inputs -> outputs, run on the host; reason"""

    name: ClassVar[str] = "host"
    on_npu: ClassVar[bool] = False
    operands: tuple[str, ...] = operand_list()
    reason: str
    nodes: tuple[str, ...] = ()
    operations: int = 0
    constant_bytes: int = 0

    def result_shape(self, shapes: Mapping[str, Shape]) -> None:
        """Whatever the functions make."""

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """None: what the functions read is not known here."""
        return {}

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """One."""
        yield tiling(whole=1)

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """One call; its operands stay in DRAM."""
        inputs = [context.view(name) for name in self.operands if name]
        outputs = [context.output(i) for i in range(len(context.op.outputs))]
        counts = (("operations", self.operations), ("constant_bytes", self.constant_bytes))
        given = tuple((name, count) for name, count in counts if count)
        e.call(outputs, inputs, (("function", context.op.name), *given))
