"""Ops that only move or rearrange data: concat, slice, transpose, resize, host calls."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from edgefusion.compiler.lowering.emitter import Emitter, View
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Rule,
    Tiling,
    rows,
    sequence,
    tile_sizes,
    tiling,
)
from edgefusion.runtime.isa import DType, Opcode
from edgefusion.runtime.program import dense_strides


def _concat_tilings(context: OpContext) -> Iterator[Tiling]:
    axis = int(context.op.attrs["axis"])
    outer = prod(context.output().shape[:axis])
    for size in tile_sizes(outer):
        yield tiling(rows=size)


def _emit_concat(e: Emitter, context: OpContext, t: Tiling) -> None:
    """Each input, folded to [outer, axis x inner], is copied into its columns of the result.

    Integers are rescaled on the way, for every branch has its own scale.
    """
    axis = int(context.op.attrs["axis"])
    shape = context.output().shape
    outer = prod(shape[:axis])
    y = context.output().reshape(outer, prod(shape[axis:]))
    sources = [
        context.input(i).reshape(outer, prod(context.input(i).shape[axis:]))
        for i in range(len(context.op.inputs))
    ]
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


def _axis_tilings(context: OpContext) -> Iterator[Tiling]:
    """Tiles along the axis of the result with most elements."""
    shape = context.output().shape
    for size in tile_sizes(shape[_largest_axis(shape)]):
        yield tiling(rows=size)


def _emit_slice(e: Emitter, context: OpContext, t: Tiling) -> None:
    """A strided part of x becomes a dense tensor."""
    x, y = context.input(0), context.output()
    starts, steps = sequence(context.op.attrs["starts"]), sequence(context.op.attrs["steps"])
    begun = x.box(starts, y.shape)
    strides = tuple(s * step for s, step in zip(begun.operand.strides, steps, strict=True))
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


def _emit_transpose(e: Emitter, context: OpContext, t: Tiling) -> None:
    """Slabs of x, rearranged in SRAM so that DRAM sees runs as long as the layouts allow."""
    x, y = context.input(0), context.output()
    perm = sequence(context.op.attrs["perm"])
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


def _resize_tilings(context: OpContext) -> Iterator[Tiling]:
    for size in tile_sizes(context.input(0).shape[1]):
        yield tiling(rows=size)


def _emit_resize(e: Emitter, context: OpContext, t: Tiling) -> None:
    """Nearest-neighbour enlargement by a whole factor, in stripes of rows."""
    factor = int(context.op.attrs["scale"])
    x = context.input(0).reshape(*context.input(0).shape[1:])
    y = context.output().reshape(*context.output().shape[1:])
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


def _host_tilings(_: OpContext) -> Iterator[Tiling]:
    yield tiling(whole=1)


def _emit_host(e: Emitter, context: OpContext, _: Tiling) -> None:
    """One call; its operands stay in DRAM."""
    inputs = [context.input(i) for i in range(len(context.op.inputs)) if context.has_input(i)]
    outputs = [context.output(i) for i in range(len(context.op.outputs))]
    e.call(outputs, inputs, (("function", context.op.name),))


CONCAT = Rule(_concat_tilings, _emit_concat)
SLICE = Rule(_axis_tilings, _emit_slice)
TRANSPOSE = Rule(_axis_tilings, _emit_transpose)
RESIZE = Rule(_resize_tilings, _emit_resize)
HOST = Rule(_host_tilings, _emit_host)
