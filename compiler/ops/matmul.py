"""Matrix products: activations times weights, and activations times activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import ClassVar

from edgefusion.compiler.lowering.channel_constants import load_constants, reserve_constants
from edgefusion.compiler.lowering.emitter import Emitter, Tile, View
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Tiling,
    channel_sizes,
    columns,
    matrix,
    rows,
    tile_sizes,
    tiling,
)
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
class MatMul(LoweredKind):
    """x[...,k], w[k,n], [bias[n]] -> y[...,n]"""

    name: ClassVar[str] = "matmul"
    has_epilogue: ClassVar[bool] = True
    x: str = operand()
    w: str = operand(Use.WEIGHT)
    bias: str = operand(Use.BIAS, optional=True)

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

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Tiles of rows and columns, either outermost."""
        m, n = matrix(context.output()).shape
        machine = context.machine
        for channels in channel_sizes(n, multiple=channel_granule(machine, n)):
            for outer in ("weights", "rows") if channels < n else ("weights",):
                for size in tile_sizes(m, multiple=row_granule(machine, m)):
                    yield tiling(rows=size, channels=channels, outer=outer)

    def fallback(self, context: OpContext) -> Iterator[Tiling]:
        """The reduction in parts, or narrower columns."""
        yield from split_matmul_tilings(context, self._factors(context))

    def _factors(self, context: OpContext) -> Factors:
        x, y = matrix(context.view(self.x)), matrix(context.output())
        return Factors(x, context.view(self.w), y, self.w, self.bias)

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """x[m,k] w[k,n]: weight column tiles against row tiles, the reduction whole or in parts."""
        if t.splits:
            factors = self._factors(context)
            split = SplitMatmul.reserve(e, context, factors, t)
            split.emit(factors.x, factors.w, factors.y)
            split.finish()
            return
        x, w = matrix(context.view(self.x)), context.view(self.w)
        y = matrix(context.output())
        (m, k), n = x.shape, y.shape[1]
        size, channels = t["rows"], t["channels"]
        outer_rows = t.choice("outer") == "rows"
        x_buffer = e.buffer("x", size * k, x.operand.dtype)
        w_buffer = e.buffer("w", k * channels, w.operand.dtype, streamed=channels < n)
        constants = reserve_constants(e, context, self.w, self.bias, channels, streamed=outer_rows)
        y_buffer = e.buffer("y", size * channels, y.operand.dtype)
        epilogue = EpilogueBuffers.reserve(e, context, size * channels, channels)

        def load_weights(c: Tile, *, again: bool) -> None:
            w_buffer.next()
            tile = w_buffer.view(w.operand.tensor, (k, c.size))
            e.load(tile, columns(w, c.start, c.size), again=again)
            load_constants(e, constants, c, again=again)
            epilogue.load_vectors(e, c, again=again)

        def load_rows(r: Tile, *, again: bool) -> View:
            x_buffer.next()
            tile = x_buffer.view(x.operand.tensor, (r.size, k))
            e.load(tile, rows(x, r.start, r.size), again=again)
            return tile

        def compute(x_tile: View, r: Tile, c: Tile) -> None:
            y_buffer.next()
            tile = y_buffer.view(epilogue.stages[0], (r.size, c.size))
            w_tile = w_buffer.view(w.operand.tensor, (k, c.size))
            inputs = [x_tile, w_tile, *(constant.current(c) for constant in constants)]
            e.tensor(Opcode.MATMUL, tile, inputs, (("bias", int(bool(self.bias))),))
            tile = epilogue.apply(e, tile, (r.start, c.start), c, first=r.index == 0)
            e.store(y.box((r.start, c.start), tile.shape), tile)

        if outer_rows:
            for r in e.tiles(m, size):
                x_tile = load_rows(r, again=False)
                for c in e.tiles(n, channels):
                    load_weights(c, again=r.index > 0)
                    compute(x_tile, r, c)
        else:
            for c in e.tiles(n, channels):
                load_weights(c, again=False)
                for r in e.tiles(m, size):
                    compute(load_rows(r, again=c.index > 0), r, c)
        epilogue.finish(e)


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
                split.emit(*(_pair(v, batch.start) for v in (a, b, y)))
            return
        size, channels = t["rows"], t["channels"]
        a_buffer = e.buffer("a", size * k, a.operand.dtype)
        b_buffer = e.buffer("b", k * channels, b.operand.dtype)
        y_buffer = e.buffer("y", size * channels, y.operand.dtype)
        for batch in e.tiles(batches, 1):
            a_batch, b_batch, y_batch = (_pair(v, batch.start) for v in (a, b, y))
            for c in e.tiles(n, channels):
                b_buffer.next()
                b_tile = b_buffer.view(b.operand.tensor, (k, c.size))
                e.load(b_tile, columns(b_batch, c.start, c.size))
                for r in e.tiles(m, size):
                    a_buffer.next()
                    a_tile = a_buffer.view(a.operand.tensor, (r.size, k))
                    e.load(a_tile, rows(a_batch, r.start, r.size), again=c.index > 0)
                    y_buffer.next()
                    tile = y_buffer.view(y.operand.tensor, (r.size, c.size))
                    e.tensor(Opcode.MATMUL, tile, [a_tile, b_tile], (("bias", 0),))
                    e.store(y_batch.box((r.start, c.start), tile.shape), tile)


def _pair(view: View, batch: int) -> View:
    """Matrix ``batch`` of [b,m,n]; one alone is that of every pair."""
    start = (batch % view.shape[0], 0, 0)
    return view.box(start, (1, *view.shape[1:])).reshape(*view.shape[1:])
