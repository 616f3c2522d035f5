"""Normalisation: GroupNorm in one of three ways, LayerNorm row by row.

GroupNorm needs the statistics of whole channels before it can normalise any element. They come from
the producer's epilogue; or from a tile of whole channel groups that fits SRAM; or, where nothing
else fits, from a first pass over the tensor, which is then read again.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgefusion.compiler.lowering.emitter import Emitter, Tile, View
from edgefusion.compiler.lowering.rule import (
    OpContext,
    Rule,
    Tiling,
    columns,
    matrix,
    rows,
    tile_sizes,
    tiling,
)
from edgefusion.compiler.network.network import statistics_dtype
from edgefusion.runtime.isa import Opcode


def _group_norm_tilings(context: OpContext) -> Iterator[Tiling]:
    m, channels = matrix(context.output()).shape
    groups = int(context.op.attrs["groups"])
    if context.has_input(3):
        for size in tile_sizes(m):
            yield tiling(rows=size, channels=channels, statistics="given")
        return
    for count in tile_sizes(groups):
        yield tiling(rows=m, channels=count * (channels // groups), statistics="resident")
    for size in tile_sizes(m):
        yield tiling(rows=size, channels=channels, statistics="two_passes")


def _emit_group_norm(e: Emitter, context: OpContext, t: Tiling) -> None:
    x, y = matrix(context.input(0)), matrix(context.output())
    m, channels = x.shape
    groups = int(context.op.attrs["groups"])
    size, width, way = t["rows"], t["channels"], t.choice("statistics")
    dtype = x.operand.dtype
    x_buffer = e.buffer("x", size * width, dtype)
    y_buffer = e.buffer("y", size * width, y.operand.dtype)
    gamma, beta = (context.input(i).reshape(channels) for i in (1, 2))
    parameters = [
        (e.buffer(label, width, v.operand.dtype, streamed=False), v)
        for label, v in (("gamma", gamma), ("beta", beta))
    ]
    sums = e.buffer("stats", 2 * width, statistics_dtype(dtype), streamed=False)

    def stats_view(c: Tile) -> View:
        return sums.view(x.operand.tensor, (2, c.size))

    def load(r: Tile, c: Tile, *, again: bool = False) -> View:
        source = x.box((r.start, c.start), (r.size, c.size))
        x_buffer.next()
        tile = x_buffer.view(x.operand.tensor, source.shape)
        e.load(tile, source, again=again)
        return tile

    def load_parameters(c: Tile) -> list[View]:
        loaded = []
        for buffer, source in parameters:
            tile = buffer.view(source.operand.tensor, (c.size,))
            e.load(tile, source.box((c.start,), (c.size,)))
            loaded.append(tile)
        return loaded

    def normalise(tile: View, r: Tile, c: Tile, loaded: list[View]) -> None:
        y_buffer.next()
        result = y_buffer.view(y.operand.tensor, tile.shape)
        attrs = (
            ("epsilon", float(context.op.attrs["epsilon"])),
            ("function", str(context.op.attrs.get("function", ""))),
            ("groups", groups * c.size // channels),
            ("rows", m),
        )
        e.vector(Opcode.GROUP_NORM, result, [tile, stats_view(c), *loaded], attrs)
        e.store(y.box((r.start, c.start), tile.shape), result)

    def collect(tile: View, r: Tile, c: Tile) -> None:
        e.vector(Opcode.CHANNEL_STATS, stats_view(c), [tile], (("first", int(r.index == 0)),))

    for c in e.tiles(channels, width):
        loaded = load_parameters(c)
        if way == "given":
            e.load(stats_view(c), columns(context.input(3), c.start, c.size))
        if way == "two_passes":
            for r in e.tiles(m, size):
                collect(load(r, c), r, c)
        for r in e.tiles(m, size):
            tile = load(r, c, again=way == "two_passes")
            if way == "resident":
                collect(tile, r, c)
            normalise(tile, r, c, loaded)


def _row_tilings(context: OpContext) -> Iterator[Tiling]:
    for size in tile_sizes(matrix(context.input(0)).shape[0]):
        yield tiling(rows=size)


def _emit_layer_norm(e: Emitter, context: OpContext, t: Tiling) -> None:
    x, y = matrix(context.input(0)), matrix(context.output())
    m, channels = x.shape
    x_buffer = e.buffer("x", t["rows"] * channels, x.operand.dtype)
    y_buffer = e.buffer("y", t["rows"] * channels, y.operand.dtype)
    loaded = []
    for i, label in ((1, "gamma"), (2, "beta")):
        if context.has_input(i):
            source = context.input(i).reshape(channels)
            buffer = e.buffer(label, channels, source.operand.dtype, streamed=False)
            tile = buffer.view(source.operand.tensor, (channels,))
            e.load(tile, source)
            loaded.append(tile)
    attrs = (
        ("beta", int(context.has_input(2))),
        ("epsilon", float(context.op.attrs["epsilon"])),
    )
    for r in e.tiles(m, t["rows"]):
        x_buffer.next()
        tile = x_buffer.view(x.operand.tensor, (r.size, channels))
        e.load(tile, rows(x, r.start, r.size))
        y_buffer.next()
        result = y_buffer.view(y.operand.tensor, tile.shape)
        e.vector(Opcode.LAYER_NORM, result, [tile, *loaded], attrs)
        e.store(rows(y, r.start, r.size), result)


GROUP_NORM = Rule(_group_norm_tilings, _emit_group_norm)
LAYER_NORM = Rule(_row_tilings, _emit_layer_norm)
