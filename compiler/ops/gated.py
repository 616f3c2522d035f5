"""A product and the gated unit that follows it as one op: the wide product never leaves SRAM.

``[value | gate] = x w + bias``, ``y = value * f(gate)``. For a tile of columns of y the columns of
both halves are multiplied, so that tiles of y need nothing of each other. Only lowering makes this
kind, of a ``MatMul`` that nothing but a ``Glu`` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgefusion.compiler.lowering.channel_constants import load_constants, reserve_constants
from edgefusion.compiler.lowering.emitter import Emitter, Tile
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Stage,
    Tiling,
    columns,
    rows,
)
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.kind import Shape
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.ops.matmul import MatMul, ProductKind, ProductStage
from edgefusion.runtime.isa import Opcode


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMatMul(ProductKind):
    """x[...,k], w[k,2n], [bias[2n]] -> y[...,n] = (x w)[..., :n] * f((x w)[..., n:]); function"""

    name: ClassVar[str] = "gated_matmul"
    function: str
    product: str
    """The tensor that would hold x w."""

    @classmethod
    def of(cls, product: MatMul, name: str, function: str) -> GatedMatMul:
        """What ``function`` gates is the product, called ``name``."""
        return cls(x=product.x, w=product.w, bias=product.bias, function=function, product=name)

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

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """See the module."""
        return _Stage(self, e, context, t)


class _Stage(ProductStage):
    """Of a product and its unit."""

    product: GatedMatMul

    def reserve(self) -> None:
        """Weights and constants of both halves, their products, results."""
        e, context, t = self.e, self.context, self.tiling
        k, size, channels = self.w.shape[0], t["rows"], t["channels"]
        self.half = self.y.shape[1]
        streamed = channels < self.half
        dtype = self.w.operand.dtype
        self.w_buffers = [
            e.buffer(label, k * channels, dtype, streamed=streamed) for label in ("value", "gate")
        ]
        w, bias = self.product.w, self.product.bias
        self.constants = [
            reserve_constants(e, context, w, bias, channels, streamed=streamed, of=label)
            for label in ("value ", "gate ")
        ]
        self.both_buffer = e.buffer("product", 2 * size * channels, self.y.operand.dtype)
        self.y_buffer = e.output_buffer("y", size * channels, self.y)
        self.wide = context.view(self.product.product).operand.tensor

    def load_weights(self, c: Tile, *, again: bool) -> None:
        """The columns of either half."""
        for side, (buffer, constants) in enumerate(
            zip(self.w_buffers, self.constants, strict=True)
        ):
            there = Tile(c.index, side * self.half + c.start, c.size)
            self.e.bring(buffer, columns(self.w, there.start, there.size), again=again)
            load_constants(self.e, constants, there, again=again)

    def compute(self, x: View, r: Tile, c: Tile) -> None:
        """Two products side by side, then the unit."""
        e = self.e
        self.both_buffer.next()
        both = self.both_buffer.view(self.wide, (2 * r.size, c.size))
        halves = [rows(both, side * r.size, r.size) for side in (0, 1)]
        for half, buffer, constants in zip(halves, self.w_buffers, self.constants, strict=True):
            w = buffer.view(self.w.operand.tensor, (self.w.shape[0], c.size))
            inputs = [x, w, *(constant.current(c) for constant in constants)]
            e.tensor(Opcode.MATMUL, half, inputs, (("bias", int(bool(self.product.bias))),))
        target = self.y.box((r.start, c.start), (r.size, c.size))
        tile = e.place(self.y_buffer, target)
        e.vector(Opcode.GLU, tile, halves, (("function", self.product.function),))
        e.deliver(target, tile)
