"""Matrix products: activations times weights, and activations times activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import ClassVar

from edgefusion.compiler.lowering.channel_constants import load_constants, reserve_constants
from edgefusion.compiler.lowering.emitter import Emitter, Tile
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
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
from edgefusion.compiler.network.kind import Accumulation, Shape, Use, along, operand
from edgefusion.compiler.network.ranges import LEVELS
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.ops.split_matmul import Factors, SplitMatmul, split_matmul_tilings
from edgefusion.runtime.isa import Opcode
from edgefusion.runtime.machine import Machine

WEIGHT_LEVELS = 127
"""Largest magnitude of an INT8 weight."""


def channel_granule(machine: Machine, channels: int) -> int:
    """Column tiles are multiples of two granules of the array: narrower ones are fed more often
    than they are drained."""
    return min(channels, 2 * machine.tensor_granularity_n)


def row_granule(machine: Machine, count: int) -> int:
    """Row tiles are multiples of the array's granularity."""
    return min(count, machine.tensor_granularity_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductKind(LoweredKind):
    """The base of products of rows with weights: tiles of rows by tiles of the result's columns."""

    x: str = operand()
    w: str = operand(Use.WEIGHT)
    bias: str = operand(Use.BIAS, optional=True)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(ProductKind):
    """x[...,k], w[k,n], [bias[n]] -> y[...,n]"""

    name: ClassVar[str] = "matmul"
    has_epilogue: ClassVar[bool] = True

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """x with the columns of w."""
        return (*shapes["x"][:-1], shapes["w"][1])

    def needs(
        self,
        shapes: Mapping[str, Shape],
        result: Shape,
        axis: int,
        span: Span,
    ) -> Mapping[str, tuple[int, Span]]:
        """Rows of x, or columns of weights and bias."""
        if axis == len(result) - 1:
            return {"w": (1, span), "bias": (0, span)}
        return {"x": (axis, span)}

    def accumulation(self, tensors: Tensors) -> Accumulation:
        """Along the rows of w."""
        return Accumulation(tensors[self.w].shape[0], WEIGHT_LEVELS)

    def least_bytes(self, macs: int, sram_bytes: int) -> int:
        """2mnk/sqrt(S) - 2S element transfers with a fast memory of S elements: Smith, Lowery,
        Langou, van de Geijn, "A tight I/O lower bound for matrix multiplication" (2019). One byte
        an element keeps it a bound for mixed types."""
        return int(2 * macs / sqrt(sram_bytes) - 2 * sram_bytes)

    def fallback(self, context: OpContext) -> Iterator[Tiling]:
        """The reduction in parts, or narrower columns."""
        yield from split_matmul_tilings(context, self._factors(context))

    def _factors(self, context: OpContext) -> Factors:
        x, y = matrix(context.view(self.x)), matrix(context.output())
        return Factors(x, context.view(self.w), y, self.w, self.bias)

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """x[m,k] w[k,n]: weight column tiles against row tiles, the reduction whole or in parts."""
        if t.splits:
            return SplitMatmul.reserve(e, context, self._factors(context), t)
        return _Stage(self, e, context, t)


@dataclass
class ProductStage(Stage):
    """Buffers and views of one product with weights while it is emitted."""

    product: ProductKind
    e: Emitter
    context: OpContext
    tiling: Tiling

    def __post_init__(self) -> None:
        self.look_up()
        self.w = self.context.view(self.product.w)
        elements = self.tiling["rows"] * self.w.shape[0]
        self.x_buffer = self.e.input_buffer("x", elements, self.x)
        self.reserve()

    def reserve(self) -> None:
        """Buffers of all but x."""
        raise NotImplementedError

    def look_up(self) -> None:
        """Where x and y lie now."""
        self.x, self.y = matrix(self.context.view(self.product.x)), matrix(self.context.output())

    def run(self, span: Span) -> None:
        """Rows of the result. Weights that are all there stay."""
        self.look_up()
        e, size, channels = self.e, self.tiling["rows"], self.tiling["channels"]
        n = self.y.shape[1]
        if self.tiling.choice("outer") == "rows":
            for r in e.tiles(span.size, size, start=span.start):
                x = self.load_rows(r, again=False)
                for c in e.tiles(n, channels):
                    self.load_columns(c, again=r.start > 0)
                    self.compute(x, r, c)
        else:
            for c in e.tiles(n, channels):
                self.load_columns(c, again=span.start > 0)
                for r in e.tiles(span.size, size, start=span.start):
                    self.compute(self.load_rows(r, again=c.index > 0), r, c)

    def load_columns(self, c: Tile, *, again: bool) -> None:
        """The weights of columns ``c`` of the result, unless all of them are there."""
        if not again or c.size < self.y.shape[1]:
            self.load_weights(c, again=again)

    def load_rows(self, r: Tile, *, again: bool) -> View:
        """Rows ``r`` of x."""
        return self.e.bring(self.x_buffer, rows(self.x, r.start, r.size), again=again)

    def load_weights(self, c: Tile, *, again: bool) -> None:
        """The weights of columns ``c`` of the result and what belongs to them."""
        raise NotImplementedError

    def compute(self, x: View, r: Tile, c: Tile) -> None:
        """One tile of the result."""
        raise NotImplementedError


class _Stage(ProductStage):
    """Of a product by itself."""

    def reserve(self) -> None:
        """Weights and constants, results and what their epilogue takes."""
        e, context, t = self.e, self.context, self.tiling
        k, n = self.w.shape
        size, channels = t["rows"], t["channels"]
        streamed = channels < n
        self.w_buffer = e.buffer("w", k * channels, self.w.operand.dtype, streamed=streamed)
        self.constants = reserve_constants(
            e, context, self.product.w, self.product.bias, channels, streamed=streamed
        )
        changed = EpilogueBuffers.changes(context.op)
        self.y_buffer = e.output_buffer("y", size * channels, self.y, needed=changed)
        self.epilogue = EpilogueBuffers.reserve(e, context, size * channels, channels)

    def finish(self) -> None:
        """Statistics."""
        self.epilogue.finish(self.e)

    def load_weights(self, c: Tile, *, again: bool) -> None:
        """The same columns of w."""
        self.e.bring(self.w_buffer, columns(self.w, c.start, c.size), again=again)
        load_constants(self.e, self.constants, c, again=again)
        self.epilogue.load_vectors(self.e, c, again=again)

    def compute(self, x: View, r: Tile, c: Tile) -> None:
        """Multiply, run the epilogue, deliver."""
        target = self.y.box((r.start, c.start), (r.size, c.size))
        tile = self.e.place(self.y_buffer, target, self.epilogue.stages[0])
        w = self.w_buffer.view(self.w.operand.tensor, (self.w.shape[0], c.size))
        inputs = [x, w, *(constant.current(c) for constant in self.constants)]
        self.e.tensor(Opcode.MATMUL, tile, inputs, (("bias", int(bool(self.product.bias))),))
        starts = (r.start, c.start)
        tile = self.epilogue.apply(self.e, tile, starts, c, target, first=r.start == 0)
        self.e.deliver(target, tile)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMatMul(LoweredKind):
    """a[b...,m,k], b[b...,k,n] -> y[b...,m,n]; both activations"""

    name: ClassVar[str] = "batch_matmul"
    a: str = operand()
    b: str = operand()

    def result_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The batch of the larger operand."""
        a, b = shapes["a"], shapes["b"]
        batch = a[:-2] if prod(a[:-2]) >= prod(b[:-2]) else b[:-2]
        return (*batch, a[-2], b[-1])

    def needs(
        self, shapes: Mapping[str, Shape], result: Shape, axis: int, span: Span
    ) -> Mapping[str, tuple[int, Span]]:
        """Rows of a, columns of b, or pairs of the batch."""
        if axis >= len(result) - 2:
            key = "a" if axis == len(result) - 2 else "b"
            return {key: (axis - len(result) + len(shapes[key]), span)}
        reads = {key: along(shape, result, axis, span) for key, shape in shapes.items()}
        return {key: read for key, read in reads.items() if read is not None}

    def accumulation(self, tensors: Tensors) -> Accumulation:
        """Along the columns of a."""
        return Accumulation(tensors[self.a].shape[-1], LEVELS)

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Tiles of rows and columns of each product."""
        m, n = context.output().shape[-2:]
        machine = context.machine
        for channels in channel_sizes(n, multiple=channel_granule(machine, n)):
            for size in tile_sizes(m, multiple=row_granule(machine, m)):
                yield tiling(rows=size, channels=channels)

    def fallback(self, context: OpContext) -> Iterator[Tiling]:
        """The reduction in parts, or narrower columns."""
        yield from split_matmul_tilings(context, self._factors(context))

    def _factors(self, context: OpContext) -> Factors:
        """The first of the pairs."""
        views = (context.view(self.a), context.view(self.b), context.output())
        a, b, y = (_pair(v.reshape(prod(v.shape[:-2]), *v.shape[-2:]), 0) for v in views)
        return Factors(a, b, y, self.b, batches=prod(views[2].shape[:-2]))

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """a[b,m,k] b[b,k,n] for each of the b pairs; a batch of one on either side broadcasts."""
        a, b, y = context.view(self.a), context.view(self.b), context.output()
        (m, k), n = a.shape[-2:], b.shape[-1]
        batches = prod(y.shape[:-2])
        a, b, y = (v.reshape(prod(v.shape[:-2]), *v.shape[-2:]) for v in (a, b, y))
        split = SplitMatmul.reserve(e, context, self._factors(context), t) if t.splits else None
        if split is not None:
            for batch in e.tiles(batches, 1):
                split.product(*(_pair(v, batch.start) for v in (a, b, y)))
            return
        size, channels = t["rows"], t["channels"]
        a_buffer = e.input_buffer("a", size * k, a)
        b_buffer = e.input_buffer("b", k * channels, b)
        y_buffer = e.output_buffer("y", size * channels, y)
        for batch in e.tiles(batches, 1):
            a_batch, b_batch, y_batch = (_pair(v, batch.start) for v in (a, b, y))
            for c in e.tiles(n, channels):
                b_tile = e.bring(b_buffer, columns(b_batch, c.start, c.size))
                for r in e.tiles(m, size):
                    a_rows = rows(a_batch, r.start, r.size)
                    a_tile = e.bring(a_buffer, a_rows, again=c.index > 0)
                    target = y_batch.box((r.start, c.start), (r.size, c.size))
                    tile = e.place(y_buffer, target)
                    e.tensor(Opcode.MATMUL, tile, [a_tile, b_tile], (("bias", 0),))
                    e.deliver(target, tile)


def _pair(view: View, batch: int) -> View:
    """Matrix ``batch`` of [b,m,n]; one alone is that of every pair."""
    start = (batch % view.shape[0], 0, 0)
    return view.box(start, (1, *view.shape[1:])).reshape(*view.shape[1:])
