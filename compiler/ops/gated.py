"""A product and the gated unit that follows it as one op: the wide product never leaves SRAM.

``[value | gate] = x w + bias``, ``y = value * f(gate)``. For a tile of columns of y the columns of
both halves are multiplied, so that tiles of y need nothing of each other. Only lowering makes this
kind, of a ``MatMul`` that nothing but a ``Glu`` reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgefusion.compiler.lowering.channel_constants import load_constants, reserve_constants
from edgefusion.compiler.lowering.emitter import Emitter, Tile
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Stage,
    Tiling,
    channel_sizes,
    columns,
    matrix,
    rows,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.kind import Shape, Use, operand
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.ops.elementwise import Glu
from edgefusion.compiler.ops.matmul import MatMul, channel_granule, row_granule
from edgefusion.runtime.isa import Opcode


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMatMul(LoweredKind):
    """x[...,k], w[k,2n], [bias[2n]] -> y[...,n] = (x w)[..., :n] * f((x w)[..., n:]); function"""

    name: ClassVar[str] = "gated_matmul"
    x: str = operand()
    w: str = operand(Use.WEIGHT)
    bias: str = operand(Use.BIAS, optional=True)
    function: str
    product: str
    """The tensor that would hold x w."""

    @property
    def attributes(self) -> dict[str, Any]:
        """What the product is called changes nothing."""
        return {"function": self.function}

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """x with half the columns of w."""
        return (*shapes["x"][:-1], shapes["w"][1] // 2)

    def cuts(self, shapes: Mapping[str, Shape], result: Shape) -> Mapping[int, int]:
        """Every axis but the last."""
        return dict.fromkeys(range(len(result) - 1), 1)

    def needs(
        self, shapes: Mapping[str, Shape], result: Shape, axis: int, span: Span
    ) -> Mapping[str, tuple[int, Span]]:
        """Rows of x."""
        return {"x": (axis, span)}

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Tiles of rows and columns, either outermost."""
        m, n = matrix(context.output()).shape
        machine = context.machine
        for channels in channel_sizes(n, multiple=channel_granule(machine, n)):
            for outer in ("weights", "rows") if channels < n else ("weights",):
                for size in tile_sizes(m, multiple=row_granule(machine, m)):
                    yield tiling(rows=size, channels=channels, outer=outer)

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Parts of the columns pass while the rows stay."""
        n = matrix(context.output()).shape[1]
        for part in channel_sizes(n, multiple=channel_granule(context.machine, n)):
            yield tiling(rows=size, channels=part, outer="weights" if part == n else "rows")

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """See the module."""
        return _Stage(self, e, context, t)


def gated(product: NetOp, unit: NetOp) -> NetOp | None:
    """The two as one op; None where they are not a product and the unit that it feeds."""
    kind, gate = product.kind, unit.kind
    if not isinstance(kind, MatMul) or not isinstance(gate, Glu) or product.epilogue:
        return None
    if gate.x != product.outputs[0]:
        return None
    both = GatedMatMul(x=kind.x, w=kind.w, bias=kind.bias, function=gate.function, product=gate.x)
    origin = (*product.origin, *unit.origin)
    return NetOp(product.name, both, unit.outputs, unit.epilogue, origin, product.scope)


@dataclass
class _Stage:
    """Buffers and views of one op while it is emitted."""

    kind: GatedMatMul
    e: Emitter
    context: OpContext
    tiling: Tiling

    def __post_init__(self) -> None:
        e, context, t = self.e, self.context, self.tiling
        self.look_up()
        self.w = context.view(self.kind.w)
        k, size, channels = self.w.shape[0], t["rows"], t["channels"]
        self.half = self.y.shape[1]
        self.x_buffer = e.input_buffer("x", size * k, self.x)
        streamed = channels < self.half
        dtype = self.w.operand.dtype
        self.w_buffers = [
            e.buffer(label, k * channels, dtype, streamed=streamed) for label in ("value", "gate")
        ]
        outer_rows = t.choice("outer") == "rows"
        self.constants = [
            reserve_constants(
                e, context, self.kind.w, self.kind.bias, channels, streamed=outer_rows, of=label
            )
            for label in ("value ", "gate ")
        ]
        self.product_buffer = e.buffer("product", 2 * size * channels, self.y.operand.dtype)
        self.y_buffer = e.output_buffer("y", size * channels, self.y)
        self.product = context.view(self.kind.product).operand.tensor

    def look_up(self) -> None:
        """Where x and y lie now."""
        self.x, self.y = matrix(self.context.view(self.kind.x)), matrix(self.context.output())

    def run(self, span: Span) -> None:
        """Rows of the result."""
        self.look_up()
        e, size, channels = self.e, self.tiling["rows"], self.tiling["channels"]
        if self.tiling.choice("outer") == "rows":
            for r in e.tiles(span.size, size, start=span.start):
                x = self.load_rows(r, again=False)
                for c in e.tiles(self.half, channels):
                    self.load_weights(c, again=r.start > 0)
                    self.compute(x, r, c)
        else:
            for c in e.tiles(self.half, channels):
                self.load_weights(c, again=span.start > 0)
                for r in e.tiles(span.size, size, start=span.start):
                    self.compute(self.load_rows(r, again=c.index > 0), r, c)

    def finish(self) -> None:
        """Nothing is left."""

    def load_weights(self, c: Tile, *, again: bool) -> None:
        """Both columns ``c`` of the weights and what belongs to them; all of them stay."""
        if again and c.size >= self.half:
            return
        for side, (buffer, constants) in enumerate(
            zip(self.w_buffers, self.constants, strict=True)
        ):
            there = Tile(c.index, side * self.half + c.start, c.size)
            self.e.bring(buffer, columns(self.w, there.start, there.size), again=again)
            load_constants(self.e, constants, there, again=again)

    def load_rows(self, r: Tile, *, again: bool) -> View:
        """Rows ``r`` of x."""
        return self.e.bring(self.x_buffer, rows(self.x, r.start, r.size), again=again)

    def compute(self, x: View, r: Tile, c: Tile) -> None:
        """One tile: two products side by side, then the unit."""
        e = self.e
        self.product_buffer.next()
        both = self.product_buffer.view(self.product, (2 * r.size, c.size))
        halves = [rows(both, side * r.size, r.size) for side in (0, 1)]
        for half, buffer, constants in zip(halves, self.w_buffers, self.constants, strict=True):
            w = buffer.view(self.w.operand.tensor, (self.w.shape[0], c.size))
            inputs = [x, w, *(constant.current(c) for constant in constants)]
            e.tensor(Opcode.MATMUL, half, inputs, (("bias", int(bool(self.kind.bias))),))
        target = self.y.box((r.start, c.start), (r.size, c.size))
        tile = e.place(self.y_buffer, target)
        e.vector(Opcode.GLU, tile, halves, (("function", self.kind.function),))
        e.deliver(target, tile)
