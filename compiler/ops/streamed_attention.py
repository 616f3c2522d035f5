"""Attention whose K and V of a head are too big to stay: they stream past each tile of queries.

A softmax needs whole rows, so SRAM holds all scores of a query tile, and K and V pass as often as
there are query tiles. All else makes room for scores, and keeps DMA at work:

- Tiles of K and V, and of results, pass through one *ring* of ``copies`` slots. While a query tile
  is in the softmax, its first tiles of V fill the ring; no more can be loaded.
- Queries are done with when sums begin: both share one place, row by row.
- V passes by parts of ``values`` columns, in tiles with more keys for as many bytes: sums leave the
  array and come back with each tile.
- The softmax takes ``block`` rows at a time: those that are through it are multiplied with V while
  others are in it.

Tiles of V come in the order of the keys, so that sums are chains in their order
(``docs/arithmetic_fp16.md``): values do not depend on the tiling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from edgefusion.compiler.lowering.emitter import Emitter, Tile
from edgefusion.compiler.lowering.rule import Tiling, columns, rows, tiling
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.memory.placement import aligned
from edgefusion.compiler.network.tensor import statistics_dtype
from edgefusion.compiler.ops.attention_forms import Operands
from edgefusion.compiler.ops.matmul import channel_granule, row_granule
from edgefusion.runtime.isa import DType, Opcode
from edgefusion.runtime.specification import Attrs

_SUM_BYTES = DType.INT64.nbytes

_VALUE_PARTS = (1, 2, 4)
"""Into how many parts of its columns V is cut."""

_QUERY_TILES = 4
"""Sizes of query tiles that are tried."""

_COPIES = ((1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (8, 2))
"""Slots of the ring, and the blocks of a query tile. One slot is for
schedules without overlap, where blocks are for nothing."""


def streamed_tilings(a: Operands) -> Iterator[Tiling]:
    """Tilings that fill SRAM: for sizes of query tiles, from the largest that fits on, the longest
    tiles of K and V.

    Of sizes that make as many tiles the least leaves most room. No more are tried of query tiles
    than ``_QUERY_TILES``: with each, K and V pass once more.
    """
    machine = a.context.machine
    row, key = row_granule(machine, a.queries), channel_granule(machine, a.keys)
    column = channel_granule(machine, a.value_depth)
    parts = (1,) if a.v.in_sram else _VALUE_PARTS
    for values in dict.fromkeys(_even(a.value_depth, n, column) for n in parts):
        for ahead in (0, 1):
            found = 0
            for size in _sizes(a.queries, row):
                fitting = list(_fitting(a, size, values, key, ahead))
                yield from fitting
                found += bool(fitting)
                if found == _QUERY_TILES:
                    break
    # What the message of an op that does not fit asks for.
    yield _tiling(row, key, column, 1, row, 0)


def _fitting(a: Operands, size: int, values: int, key: int, ahead: int) -> Iterator[Tiling]:
    """By slots of the ring, the tiling with the longest tiles of K that SRAM has room for."""
    machine, nbytes = a.context.machine, a.dtype.nbytes
    align, row = machine.sram_align_bytes, row_granule(machine, a.queries)
    row_bytes = a.keys * nbytes
    rows_bytes = [row_bytes, pitch_bytes(a, values), row_bytes if a.mask is not None else 0]
    room = machine.sram_bytes - (1 + ahead) * sum(aligned(size * n, align) for n in rows_bytes)
    width = max(a.depth, values) * nbytes
    for copies, blocks in _COPIES:
        block = size if ahead else _even(size, blocks, row)
        longest = room // copies // align * align // width // key * key
        if size * values * nbytes > longest * width and not a.y.in_sram:
            # Results need room of their own.
            left = room - (1 + ahead) * aligned(block * values * nbytes, align)
            longest = left // copies // align * align // width // key * key
        if longest < key:
            return
        keys = _even(a.keys, max(2, -(-a.keys // longest)), key)
        yield _tiling(size, keys, values, copies, block, ahead)


def _tiling(queries: int, keys: int, values: int, copies: int, block: int, ahead: int) -> Tiling:
    return tiling(
        queries=queries, keys=keys, values=values, copies=copies, block=block, queries_ahead=ahead
    )


def _sizes(total: int, multiple: int) -> Iterator[int]:
    """Tile sizes, each the least of those that make as many tiles, largest first."""
    size, tiles = total, 1
    while True:
        yield size
        if size <= multiple:
            return
        tiles = -(-total // size) + 1
        size = min(_even(total, tiles, multiple), size - multiple)


def _even(total: int, parts: int, multiple: int) -> int:
    """The size of ``parts`` even parts of ``total``, rounded up to ``multiple``."""
    return min(total, ceil(ceil(total / parts) / multiple) * multiple)


def pitch_bytes(a: Operands, values: int) -> int:
    """From row to row of the place that queries and their sums share."""
    sum_dtype = statistics_dtype(a.dtype)
    sums = (values + (sum_dtype is DType.INT64)) * sum_dtype.nbytes
    return aligned(sums if a.q.in_sram else max(sums, a.depth * a.dtype.nbytes), _SUM_BYTES)


def slot_elements(a: Operands, t: Tiling) -> int:
    """Elements of a slot of the ring; 0 where K and V lie in SRAM."""
    return 0 if a.k.in_sram and a.v.in_sram else t["keys"] * max(a.depth, t["values"])


def value_keys(a: Operands, t: Tiling) -> int:
    """Rows of a tile of V: all, where it lies in SRAM, or as many as a slot has room for."""
    if a.v.in_sram:
        return a.keys
    multiple = channel_granule(a.context.machine, a.keys)
    longest = max(t["keys"], slot_elements(a, t) // t["values"] // multiple * multiple)
    return min(longest, _even(a.keys, -(-a.keys // longest), multiple))


class StreamedAttention:
    """Buffers of one attention op while it is emitted, and what passes through them."""

    def __init__(self, e: Emitter, a: Operands, t: Tiling) -> None:
        self.e, self.a = e, a
        self.queries, self.keys, self.values = t["queries"], t["keys"], t["values"]
        self.block, self.value_keys = t["block"], value_keys(a, t)
        # Integer sums are in steps of V, and their last column sums the exponentials, for the copy
        # to divide by.
        self.sum_dtype = statistics_dtype(a.dtype)
        self.copied = self.sum_dtype is DType.INT64
        ahead = t["queries_ahead"] == 1
        size, bands = self.queries, range(0, self.queries, self.block)
        slot = slot_elements(a, t)
        self.ring = e.buffer("kv", slot, a.dtype, copies=t["copies"]) if slot else None
        self.pitch = pitch_bytes(a, self.values)
        cells = self.pitch, bands, self.pitch
        elements = size * self.pitch // a.dtype.nbytes
        self.place = e.buffer("q", elements, a.dtype, streamed=ahead, cells=cells)
        cells = a.keys * a.dtype.nbytes, bands, self.keys * a.dtype.nbytes
        self.scores = e.buffer("scores", size * a.keys, a.dtype, streamed=ahead, cells=cells)
        self.mask = a.mask_buffer(e, size, streamed=ahead)
        # A whole tile of the result takes one slot of the ring; of one too large for that, blocks
        # have a buffer.
        self.y_block = self.queries if size * self.values <= slot else self.block
        self.y_buffer = self.ring
        if size * self.values > slot:
            self.y_buffer = e.output_buffer("y", self.block * self.values, a.y, streamed=ahead)

    def run(self) -> None:
        """All heads, all queries."""
        for group in self.e.tiles(self.a.key_heads, 1):
            for h, r in self.a.tiles(self.e, group, self.queries):
                self._tile(group, h, r)

    def _tile(self, group: Tile, h: Tile, r: Tile) -> None:
        a, e = self.a, self.e
        again = h.index + r.index > 0
        q = self._queries(rows(a.head(a.q, h, a.depth), r.start, r.size))
        self.scores.next()
        scores_in = self.scores.view(a.scores_in.operand.tensor, (r.size, a.keys))
        scores_out = self.scores.view(a.scores_out.operand.tensor, (r.size, a.keys))
        keys, values = a.head(a.k, group, a.depth), a.head(a.v, group, a.value_depth)
        for c in e.tiles(a.keys, self.keys):
            k = self._bring(rows(keys, c.start, c.size), again=again)
            a.multiply_keys(e, q, k, columns(scores_in, c.start, c.size))
        a.add_mask(e, self.mask, scores_in, h, r)
        for b in e.tiles(r.size, self.block):
            block = rows(scores_in, b.start, b.size)
            e.vector(Opcode.SOFTMAX, rows(scores_out, b.start, b.size), [block])
        target = rows(a.head(a.y, h, a.value_depth), r.start, r.size)
        for j in e.tiles(a.value_depth, self.values):
            v = columns(values, j.start, j.size)
            self._sum(r, scores_out, v, columns(target, j.start, j.size), again=again)

    def _queries(self, source: View) -> View:
        self.place.next()
        if source.in_sram:
            return source
        q = self._in_place(source.operand.tensor, source.shape, self.a.dtype)
        self.e.load(q, source)
        return q

    def _in_place(self, tensor: int, shape: tuple[int, ...], dtype: DType) -> View:
        """Rows of ``dtype`` in the place that queries and sums share."""
        view = replace(self.place, dtype=dtype).view(tensor, shape)
        return view.strided(shape, (self.pitch, dtype.nbytes))

    def _bring(self, source: View, *, again: bool) -> View:
        """A tile of K or V."""
        return self.e.bring(None if source.in_sram else self.ring, source, again=again)

    def _sum(self, r: Tile, scores: View, values: View, target: View, *, again: bool) -> None:
        """Some columns of the result: the products with all tiles of theirs of V."""
        e, a = self.e, self.a
        shape = r.size, target.shape[1] + self.copied
        sums = self._in_place(a.v.operand.tensor, shape, self.sum_dtype)
        for c in e.tiles(a.keys, self.value_keys):
            v = self._bring(rows(values, c.start, c.size), again=again)
            part = columns(scores, c.start, c.size)
            first, last = c.index == 0, c.start + c.size == a.keys
            if last and not self.copied:
                self._finish(target, part, v, sums, first=first)
                continue
            attrs = (("accumulate", int(not first)), ("bias", 0))
            for b in e.tiles(r.size, self.block):
                inputs = [rows(part, b.start, b.size), v]
                e.tensor(Opcode.MATMUL, rows(sums, b.start, b.size), inputs, attrs)
        if self.copied:
            for y, b in self._results(target):
                e.vector(Opcode.COPY, y, [rows(sums, b.start, b.size)])

    def _finish(self, target: View, part: View, v: View, sums: View, *, first: bool) -> None:
        """The last product, rounded with the sums before it."""
        attrs: Attrs = (("bias", 0),) if first else (("bias", 0), ("sums", 1))
        for y, b in self._results(target):
            before = [] if first else [rows(sums, b.start, b.size)]
            inputs = [rows(part, b.start, b.size), v, *before]
            self.e.tensor(Opcode.MATMUL, y, inputs, attrs)

    def _results(self, target: View) -> Iterator[tuple[View, Tile]]:
        """Where to compute each block of ``target``, which is delivered then."""
        for s in self.e.tiles(target.shape[0], self.y_block):
            whole = rows(target, s.start, s.size)
            tile = self.e.place(None if target.in_sram else self.y_buffer, whole)
            for b in self.e.tiles(s.size, self.block):
                yield rows(tile, b.start, b.size), replace(b, start=s.start + b.start)
            self.e.deliver(whole, tile)
