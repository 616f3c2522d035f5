"""Ops that treat rows alone: softmax, activations, additions and products, gated linear units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Stage,
    Tiling,
    matrix,
    row_tilings,
    rows,
    tiling,
)
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.kind import (
    Kind,
    Scaling,
    Shape,
    along,
    constant_or_name,
    operand,
)
from edgefusion.compiler.network.ranges import Ranges, ScaleRemark
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.ops.gated import GatedMatMul
from edgefusion.compiler.ops.matmul import MatMul
from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.specification import Attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKind(LoweredKind):
    """The base of kinds of one operand, tiled by rows: all axes but the last are free to cut."""

    x: str = operand()

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """As x."""
        return shapes["x"]

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Every axis but the last."""
        return dict.fromkeys(range(len(result) - 1), 1)

    def needs(
        self,
        shapes: Mapping[str, Shape],
        result: Shape,
        axis: int,
        span: Span,
    ) -> Mapping[str, tuple[int, Span]]:
        """The same elements of x."""
        return {"x": (axis, span)}

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Tiles of whole rows."""
        return row_tilings(matrix(context.output()).shape[0])

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Whole rows."""
        yield tiling(rows=size)

    @property
    def replaceable(self) -> tuple[str, ...]:
        """x, row by row."""
        return (self.x,)

    def instruction(self) -> tuple[Opcode, Attrs]:
        """What computes a tile of rows."""
        raise NotImplementedError

    def pieces(self, tile: View) -> list[View]:
        """A tile of x as the operands that it is."""
        return [tile]

    def parameters(self) -> Mapping[str, str]:
        """Operands with one value a channel that stay, by label; '' for an absent one."""
        return {}

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """One instruction a row tile: x in, y out."""
        return _RowStage(self, e, context, t)


@dataclass
class _RowStage(Stage):
    """Buffers of one row-wise op while it is emitted.

    A result that stays in SRAM is computed over the x that was loaded there.
    """

    kind: RowKind
    e: Emitter
    context: OpContext
    tiling: Tiling
    loaded: list[View] = field(default_factory=list)

    def __post_init__(self) -> None:
        e, size = self.e, self.tiling["rows"]
        x, y = self.look_up()
        same = y.shape == x.shape and y.operand.dtype is x.operand.dtype
        self.in_place = same and y.in_sram and not x.in_sram
        self.x_buffer = None
        if not self.in_place:
            self.x_buffer = e.input_buffer("x", size * x.shape[1], x)
        self.y_buffer = e.output_buffer("y", size * y.shape[1], y)
        self.buffers = {
            label: e.input_buffer(label, x.shape[1], self.context.view(name), streamed=False)
            for label, name in self.kind.parameters().items()
            if name
        }

    def look_up(self) -> tuple[View, View]:
        """Where x and y lie now."""
        return matrix(self.context.view(self.kind.x)), matrix(self.context.output())

    def run(self, span: Span) -> None:
        """A stripe of rows."""
        e = self.e
        x, y = self.look_up()
        if not self.loaded:
            for label, buffer in self.buffers.items():
                source = self.context.view(self.kind.parameters()[label]).reshape(x.shape[1])
                self.loaded.append(e.bring(buffer, source))
        opcode, attrs = self.kind.instruction()
        for r in e.tiles(span.size, self.tiling["rows"], start=span.start):
            source, target = rows(x, r.start, r.size), rows(y, r.start, r.size)
            tile = e.bring_into(target, source) if self.in_place else e.bring(self.x_buffer, source)
            result = e.place(self.y_buffer, target)
            e.vector(opcode, result, [*self.kind.pieces(tile), *self.loaded], attrs)
            e.deliver(target, result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(RowKind):
    """x[...,n] -> y, along the last axis"""

    name: ClassVar[str] = "softmax"

    @property
    def scaling(self) -> Scaling:
        """Probabilities."""
        return Scaling.UNIT

    def instruction(self) -> tuple[Opcode, Attrs]:
        """Over whole rows."""
        return Opcode.SOFTMAX, ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary(RowKind):
    """x -> y; function"""

    name: ClassVar[str] = "unary"
    is_element_work: ClassVar[bool] = True
    function: str

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Every axis."""
        return dict.fromkeys(range(len(result)), 1)

    def tabulated(self) -> tuple[tuple[str, str], ...]:
        """x goes through the function."""
        return ((self.x, self.function),)

    def instruction(self) -> tuple[Opcode, Attrs]:
        """Element by element."""
        return Opcode.UNARY, (("function", self.function),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glu(RowKind):
    """x[...,2c] -> y[...,c] = x[...,:c] * f(x[...,c:]); function"""

    name: ClassVar[str] = "glu"
    function: str

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Half the columns of x."""
        return (*shapes["x"][:-1], shapes["x"][-1] // 2)

    def tabulated(self) -> tuple[tuple[str, str], ...]:
        """The gate is half of x."""
        return ((self.x, self.function),)

    def instruction(self) -> tuple[Opcode, Attrs]:
        """value * f(gate)."""
        return Opcode.GLU, (("function", self.function),)

    def joined(self, maker: Kind) -> GatedMatMul | None:
        """With a product."""
        return GatedMatMul.of(maker, self.x, self.function) if isinstance(maker, MatMul) else None

    def pieces(self, tile: View) -> list[View]:
        """Both halves of every row."""
        m, n = tile.shape
        return [tile.box((0, start), (m, n // 2)) for start in (0, n // 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary(LoweredKind):
    """a, b -> y with numpy broadcasting; function"""

    name: ClassVar[str] = "binary"
    is_element_work: ClassVar[bool] = True
    a: str = operand()
    b: str = operand()
    function: str

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The operands broadcast together."""
        a, b = shapes["a"], shapes["b"]
        rank = max(len(a), len(b))
        padded = [(1,) * (rank - len(shape)) + shape for shape in (a, b)]
        return tuple(n if m == 1 else m for m, n in zip(*padded, strict=True))

    def needs(
        self, shapes: Mapping[str, Shape], result: Shape, axis: int, span: Span
    ) -> Mapping[str, tuple[int, Span]]:
        """The same elements, but all of an operand that repeats along the axis."""
        reads = {key: along(shape, result, axis, span) for key, shape in shapes.items()}
        return {key: read for key, read in reads.items() if read is not None}

    def remarks(self, op_name: str, tensors: Tensors, ranges: Ranges) -> Iterator[ScaleRemark]:
        """A divisor is known to half a step, which is much of it near zero."""
        found = ranges.get(constant_or_name(tensors[self.b])) if self.function == "div" else None
        if found is not None and found.low <= 0 <= found.high:
            yield ScaleRemark(
                "divisor",
                self.b,
                f"spans {found.low:.3g} to {found.high:.3g} and divides in '{op_name}': quotients "
                "by values near zero are coarse; try precision fp16 for that op",
            )

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Tiles of whole rows."""
        return row_tilings(matrix(context.output()).shape[0])

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Whole rows."""
        yield tiling(rows=size)

    @property
    def replaceable(self) -> tuple[str, ...]:
        """Each operand, as far as it does not repeat."""
        return self.a, self.b

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """An operand has the result's shape, or repeats along whole leading or last axes."""
        return _BinaryStage(self, e, context, t)

    def folded(self, context: OpContext, name: str) -> View:
        """Operand ``name`` of a result [m, n] as [m or 1, n or 1]."""
        view = context.view(name)
        m, n = matrix(context.output()).shape
        columns = view.shape[-1] if view.shape else 1
        leading = prod(view.shape[:-1])
        if columns in (1, n) and leading in (1, m):
            return view.reshape(leading, columns)
        raise UnsupportedOpError(
            f"{context.op.name} ({self.function}): operand {name} of shape {view.shape} repeats "
            f"along inner axes of the result {context.output().shape}; the vector engine repeats "
            "whole rows or single elements. Expand the operand in the model. Origin: "
            f"{', '.join(context.op.origin)}"
        )


@dataclass
class _BinaryStage(Stage):
    """Buffers of one binary op while it is emitted; what repeats along rows stays."""

    kind: Binary
    e: Emitter
    context: OpContext
    tiling: Tiling
    resident: dict[int, View] = field(default_factory=dict)

    def __post_init__(self) -> None:
        e, size = self.e, self.tiling["rows"]
        y = matrix(self.context.output())
        self.buffers = []
        for i, source in enumerate(self.sources()):
            whole = source.shape[0] == 1
            elements = source.shape[1] * (1 if whole else size)
            self.buffers.append(e.input_buffer("ab"[i], elements, source, streamed=not whole))
        self.y_buffer = e.output_buffer("y", size * y.shape[1], y)

    def sources(self) -> list[View]:
        """Where the operands lie now."""
        return [self.kind.folded(self.context, name) for name in (self.kind.a, self.kind.b)]

    def run(self, span: Span) -> None:
        """A stripe of rows."""
        e, y, sources = self.e, matrix(self.context.output()), self.sources()
        n = y.shape[1]
        if span.start == 0:
            for i, source in enumerate(sources):
                if source.shape[0] == 1:
                    self.resident[i] = e.bring(self.buffers[i], source)
        attrs = (("function", self.kind.function),)
        for r in e.tiles(span.size, self.tiling["rows"], start=span.start):
            operands = []
            for i, source in enumerate(sources):
                tile = self.resident.get(i)
                if tile is None:
                    tile = e.bring(self.buffers[i], rows(source, r.start, r.size))
                operands.append(_broadcast(tile, r.size, n))
            target = rows(y, r.start, r.size)
            result = e.place(self.y_buffer, target)
            e.vector(Opcode.BINARY, result, operands, attrs)
            e.deliver(target, result)


def _broadcast(tile: View, m: int, n: int) -> View:
    row_stride, column_stride = tile.operand.strides
    return tile.strided(
        (m, n),
        (
            row_stride if tile.shape[0] > 1 or m == 1 else 0,
            column_stride if tile.shape[1] == n else 0,
        ),
    )
