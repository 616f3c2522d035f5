"""Ops that treat rows alone: softmax, activations, additions and products, gated linear units."""

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
    matrix,
    row_tilings,
    rows,
)
from edgefusion.compiler.network.kind import Scaling, Shape, along, constant_or_name, operand
from edgefusion.compiler.network.ranges import Ranges, ScaleRemark
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Span
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

    def emit_rows(
        self,
        e: Emitter,
        context: OpContext,
        t: Tiling,
        opcode: Opcode,
        attrs: Attrs = (),
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        """One instruction a row tile: x in, y out. ``parameters``, by label, are one value a
        channel and stay; '' for an absent one."""
        x, y = matrix(context.view(self.x)), matrix(context.output())
        m, channels = x.shape
        x_buffer = e.buffer("x", t["rows"] * channels, x.operand.dtype)
        y_buffer = e.buffer("y", t["rows"] * channels, y.operand.dtype)
        loaded = []
        for label, name in (parameters or {}).items():
            if name:
                source = context.view(name).reshape(channels)
                buffer = e.buffer(label, channels, source.operand.dtype, streamed=False)
                tile = buffer.view(source.operand.tensor, (channels,))
                e.load(tile, source)
                loaded.append(tile)
        for r in e.tiles(m, t["rows"]):
            x_buffer.next()
            tile = x_buffer.view(x.operand.tensor, (r.size, channels))
            e.load(tile, rows(x, r.start, r.size))
            y_buffer.next()
            result = y_buffer.view(y.operand.tensor, tile.shape)
            e.vector(opcode, result, [tile, *loaded], attrs)
            e.store(rows(y, r.start, r.size), result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(RowKind):
    """x[...,n] -> y, along the last axis"""

    name: ClassVar[str] = "softmax"

    @property
    def scaling(self) -> Scaling:
        """Probabilities."""
        return Scaling.UNIT

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """One instruction a row tile."""
        self.emit_rows(e, context, t, Opcode.SOFTMAX)


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

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """One instruction a row tile."""
        self.emit_rows(e, context, t, Opcode.UNARY, (("function", self.function),))


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

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """x[m,2n] -> value * f(gate), both halves of one row tile."""
        x, y = matrix(context.view(self.x)), matrix(context.output())
        m, n = y.shape
        x_buffer = e.buffer("x", t["rows"] * 2 * n, x.operand.dtype)
        y_buffer = e.buffer("y", t["rows"] * n, y.operand.dtype)
        attrs = (("function", self.function),)
        for r in e.tiles(m, t["rows"]):
            x_buffer.next()
            tile = x_buffer.view(x.operand.tensor, (r.size, 2 * n))
            e.load(tile, rows(x, r.start, r.size))
            y_buffer.next()
            result = y_buffer.view(y.operand.tensor, (r.size, n))
            halves = [tile.box((0, start), (r.size, n)) for start in (0, n)]
            e.vector(Opcode.GLU, result, halves, attrs)
            e.store(rows(y, r.start, r.size), result)


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

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """An operand has the result's shape, or repeats along whole leading or last axes."""
        y = matrix(context.output())
        m, n = y.shape
        sources = [self._fold(context, name, m, n) for name in (self.a, self.b)]
        buffers = []
        for i, source in enumerate(sources):
            whole = source.shape[0] == 1
            elements = source.shape[1] * (1 if whole else t["rows"])
            buffers.append(e.buffer("ab"[i], elements, source.operand.dtype, streamed=not whole))
        y_buffer = e.buffer("y", t["rows"] * n, y.operand.dtype)
        attrs = (("function", self.function),)
        resident: dict[int, View] = {}
        for i, (source, buffer) in enumerate(zip(sources, buffers, strict=True)):
            if source.shape[0] == 1:
                resident[i] = buffer.view(source.operand.tensor, source.shape)
                e.load(resident[i], source)
        for r in e.tiles(m, t["rows"]):
            operands = []
            for i, (source, buffer) in enumerate(zip(sources, buffers, strict=True)):
                if i in resident:
                    tile = resident[i]
                else:
                    buffer.next()
                    tile = buffer.view(source.operand.tensor, (r.size, source.shape[1]))
                    e.load(tile, rows(source, r.start, r.size))
                operands.append(_broadcast(tile, r.size, n))
            y_buffer.next()
            result = y_buffer.view(y.operand.tensor, (r.size, n))
            e.vector(Opcode.BINARY, result, operands, attrs)
            e.store(rows(y, r.start, r.size), result)

    def _fold(self, context: OpContext, name: str, m: int, n: int) -> View:
        """Operand ``name`` as [m or 1, n or 1]."""
        view = context.view(name)
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


def _broadcast(tile: View, m: int, n: int) -> View:
    row_stride, column_stride = tile.operand.strides
    return tile.strided(
        (m, n),
        (
            row_stride if tile.shape[0] > 1 or m == 1 else 0,
            column_stride if tile.shape[1] == n else 0,
        ),
    )
