"""Ops that only move or rearrange data: views, concat, slice, transpose, resize, host calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from edgefusion.compiler.lowering.emitter import Emitter, Tile
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Stage,
    Tiling,
    row_tilings,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.kind import (
    Kind,
    Scaling,
    Shape,
    operand,
    operand_list,
    parts_of,
)
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Span, Window
from edgefusion.compiler.ops.conv_stage import dense_image
from edgefusion.runtime.isa import DType, Opcode


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
        return parts_of(shapes, axis, span)

    def side_by_side(self, tensors: Tensors) -> tuple[str, ...]:
        """Its parts, where rows are concatenated."""
        return self.parts if self.axis == len(tensors[self.parts[0]].shape) - 1 else ()

    def collects_statistics(self, tensors: Tensors) -> bool:
        """Where parts lie side by side in every row."""
        return bool(self.side_by_side(tensors))

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Tiles of rows, all axes before the concatenated one folded."""
        return row_tilings(prod(context.output().shape[: self.axis]))

    def fallback(self, context: OpContext) -> Iterator[Tiling]:
        """Pieces of a folded row, where that is much: all of a part, for the first axis."""
        if self.axis < len(context.output().shape) - 1:
            widest = max(prod(context.view(name).shape[self.axis :]) for name in self.parts)
            yield from (tiling(columns=size, rows=1) for size in tile_sizes(widest))

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Whole rows, if those are what is concatenated."""
        if self.axis == len(context.output().shape) - 1:
            yield tiling(rows=size)

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """Each input, folded to [outer, axis x inner], is copied into its columns of the result."""
        return _ConcatStage(self, e, context, t)


@dataclass
class _ConcatStage(Stage):
    """Buffers of one concatenation while it is emitted. Parts that go to SRAM are loaded there."""

    kind: Concat
    e: Emitter
    context: OpContext
    tiling: Tiling

    def __post_init__(self) -> None:
        y, sources = self.look_up()
        self.buffer = None
        if not y.in_sram and (self.rescales(y) or not all(v.in_sram for v in sources)):
            widest = max(self.piece(source) for source in sources)
            self.buffer = self.e.buffer("x", self.tiling["rows"] * widest, y.operand.dtype)
        self.epilogue = EpilogueBuffers.reserve(self.e, self.context, 0, 0)

    def piece(self, source: View) -> int:
        """Columns of a part that are copied at a time."""
        return min(source.shape[1], int(self.tiling.get("columns", source.shape[1])))

    def rescales(self, y: View) -> bool:
        """Whether the parts have steps of their own."""
        return y.operand.dtype is DType.INT16

    def look_up(self) -> tuple[View, list[View]]:
        """Where the result and the parts lie now, as matrices."""
        shape = self.context.output().shape
        outer = prod(shape[: self.kind.axis])
        y = self.context.output().reshape(outer, prod(shape[self.kind.axis :]))
        views = [self.context.view(name) for name in self.kind.parts]
        return y, [v.reshape(outer, prod(v.shape[self.kind.axis :])) for v in views]

    def run(self, span: Span) -> None:
        """A stripe of rows, or everything where rows are not what is concatenated."""
        y, sources = self.look_up()
        whole = self.kind.axis < len(self.context.output().shape) - 1
        rolled = Span(0, y.shape[0]) if whole else span
        column = 0
        for number, source in enumerate(sources):
            c = Tile(number, column, source.shape[1])
            for r in self.e.tiles(rolled.size, self.tiling["rows"], start=rolled.start):
                for p in self.e.tiles(c.size, self.piece(source)):
                    target = y.box((r.start, column + p.start), (r.size, p.size))
                    part = source.box((r.start, p.start), (r.size, p.size))
                    tile = self.copied(part, target)
                    if p.size == c.size:  # pieces are of no statistics
                        self.epilogue.collect_all(self.e, tile, c, first=r.start == 0)
                    self.e.deliver(target, tile)
            column += c.size

    def copied(self, part: View, target: View) -> View:
        """A part in SRAM in the result's steps, in its place if that is there."""
        e = self.e
        if part.in_sram:
            if not target.in_sram and not self.rescales(target):
                return part
            place = e.place(self.buffer, target)
            e.vector(Opcode.COPY, place, [part])
            return place
        tile = e.bring_into(target, part) if target.in_sram else e.bring(self.buffer, part)
        place = tile.as_tensor(target.operand.tensor)
        if self.rescales(target) or target.in_sram:
            e.vector(Opcode.COPY, place, [tile])
            return place
        return tile

    def finish(self) -> None:
        """Statistics."""
        self.epilogue.finish(self.e)


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
    """From where it lies to where it goes, in slabs along the largest axis."""
    axis = _largest_axis(target.shape)
    total = target.shape[axis]
    buffer = None
    if not (source.in_sram or target.in_sram):
        buffer = e.buffer("x", size * (target.operand.elements // total), target.operand.dtype)
    for r in e.tiles(total, size):
        starts = tuple(r.start if i == axis else 0 for i in range(len(target.shape)))
        shape = tuple(r.size if i == axis else n for i, n in enumerate(target.shape))
        part, place = source.box(starts, shape), target.box(starts, shape)
        if source.in_sram and target.in_sram:
            e.vector(Opcode.COPY, place, [part])
        elif target.in_sram:
            e.load(place, part)
        else:
            e.store(place, e.bring(buffer, part))


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
        x_buffer = e.input_buffer("x", elements, x)
        y_buffer = e.output_buffer("y", elements, y)
        for r in e.tiles(total, t["rows"]):
            starts = tuple(r.start if i == axis else 0 for i in range(len(y.shape)))
            shape = tuple(r.size if i == axis else n for i, n in enumerate(y.shape))
            source_starts, source_shape = [0] * len(perm), [0] * len(perm)
            for target_axis, source_axis in enumerate(perm):
                source_starts[source_axis] = starts[target_axis]
                source_shape[source_axis] = shape[target_axis]
            tile = e.bring(x_buffer, x.box(source_starts, source_shape))
            turned = tile.strided(shape, tuple(tile.operand.strides[i] for i in perm))
            target = y.box(starts, shape)
            result = e.place(y_buffer, target)
            e.vector(Opcode.COPY, result, [turned])
            e.deliver(target, result)


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
        x_buffer = e.input_buffer("x", t["rows"] * width * channels, x)
        y_buffer = e.output_buffer("y", t["rows"] * width * channels * factor**2, y)
        for r in e.tiles(height, t["rows"]):
            tile = e.bring(x_buffer, x.box((r.start, 0, 0), (r.size, width, channels)))
            shape = (r.size * factor, width * factor, channels)
            target = y.box((r.start * factor, 0, 0), shape)
            result = e.place(y_buffer, target)
            e.vector(Opcode.RESIZE, result, [tile], (("scale", factor),))
            e.deliver(target, result)


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
