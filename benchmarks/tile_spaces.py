"""All sizes that a lowering rule could be given, walked without its list of candidates.

Extents go up in granules of the array, lines of an image or rows of a matrix; every order of
operands is combined with every size. Forms that rules keep for what else fits no way (reductions in
parts; tiles narrower than an image) are left out. Attention whose K and V stream has millions of
tilings, of which some are drawn, where its rule thinks of streaming.

Beside each tiling stands what it does at least (``AtLeast``), from its number of tiles alone: most
tilings are told by it not to be the fastest, without being emitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from random import Random

from edgefusion.compiler.lowering.bounds import Bound, bus_ps, compulsory_bytes
from edgefusion.compiler.lowering.rule import (
    LoweredKind,
    OpContext,
    Tiling,
    channels_of_sweep,
    matrix,
    tiling,
)
from edgefusion.compiler.ops.attention import Attention
from edgefusion.compiler.ops.conv import Convolving
from edgefusion.compiler.ops.matmul import ProductKind
from edgefusion.compiler.ops.norm import GroupNorm
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.cost import to_ps
from edgefusion.runtime.groups import EngineBounds
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine

SAMPLED = 4000
"""Streamed tilings of an attention that are drawn: there are millions."""
SURE = 0.9999
"""Bounds are rounded as a whole, and the times of instructions one by one."""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """What a tiling adds to the op's bound at least: bytes that cross the bus again, and
    instructions by kind of engine."""

    again_bytes: int = 0
    transfers: int = 0
    products: int = 0
    vectors: int = 0

    def engines(self, bound: Bound, machine: Machine) -> EngineBounds:
        """The least time of each kind of engine, in picoseconds."""
        bus = bound.dma_ps + bus_ps(self.again_bytes, machine)
        setup = int(to_ps(machine.dma_setup_ns)) * self.transfers
        cycle_ps = 1e12 / machine.clock_hz
        # Where an engine has something to do at all, it has for every tile.
        fill = (bound.compute_ps > 0) * self.products * machine.tensor_fill_cycles * cycle_ps
        startup = (bound.vector_ps > 0) * self.vectors * machine.vector_startup_cycles * cycle_ps
        count = machine.engines
        return EngineBounds(
            bound.compute_ps + int(fill / count[EngineKind.TENSOR]),
            bound.vector_ps + int(startup / count[EngineKind.VECTOR]),
            max(bus, (bus + setup) // count[EngineKind.DMA]),
        )


def least_ps(engines: EngineBounds, schedule: Schedule) -> float:
    """What no emission takes less than, given the least times of its engines."""
    kinds = (engines.tensor_ps, engines.vector_ps, engines.dma_ps, engines.host_ps)
    return SURE * (max(kinds) if schedule.overlap else sum(kinds))


Points = Iterator[tuple[Tiling, AtLeast]]


def sizes(total: int, multiple: int = 1) -> list[int]:
    """All multiples below ``total``, and ``total``."""
    return [*range(multiple, total, multiple), total]


def alone(context: OpContext, schedule: Schedule) -> Points:
    """The tilings of an op by itself. Those that differ in their first value alone follow one
    another, smallest first."""
    kind = context.op.kind
    if isinstance(kind, Convolving):
        yield from _convolutions(context, kind)
    elif isinstance(kind, ProductKind):
        yield from _products(context, kind)
    elif isinstance(kind, GroupNorm) and not kind.stats:
        yield from _group_norms(context, kind)
    elif isinstance(kind, Attention):
        yield from _attentions(context, kind, schedule)
    elif isinstance(kind, LoweredKind) and kind.on_npu:
        yield from _one_extent(context, kind)


def is_sampled(context: OpContext, schedule: Schedule) -> bool:
    """Whether ``alone`` draws from the space, instead of walking through it."""
    return isinstance(context.op.kind, Attention) and context.op.kind.is_cramped(context, schedule)


def in_loop(context: OpContext, size: int, steps: int, *, last: bool) -> Points:
    """The tilings of an op in a loop of ``steps`` for stripes of up to ``size`` rows, which one
    tile takes; those in several sweeps if it is the ``last``."""
    kind = context.op.kind
    if isinstance(kind, Convolving):
        yield from _convolutions_in_loop(context, kind, size, steps, last=last)
    elif isinstance(kind, ProductKind):
        n = matrix(context.output()).shape[1]
        nbytes = _moved_bytes(context, kind.w)
        for channels in sizes(n, min(n, context.machine.tensor_granularity_n)):
            parts = ceil(n / channels)
            outer = "weights" if channels == n else "rows"
            yield (
                tiling(rows=size, channels=channels, outer=outer),
                _passing(nbytes, parts, steps, stays=channels == n),
            )
    elif isinstance(kind, Attention):
        keys = matrix(context.view(kind.k)).shape[0]
        for queries in sizes(size, min(size, context.machine.tensor_granularity_m)):
            # Not every step has a whole stripe to make, but each has some.
            least = AtLeast(0, 0, 2 * kind.heads * steps, kind.heads * steps)
            yield tiling(queries=queries, keys=keys), least
    elif isinstance(kind, LoweredKind):
        for t in list(kind.stripe_tilings(context, size))[:1]:
            yield t, AtLeast()


def _one_extent(context: OpContext, kind: LoweredKind) -> Points:
    """Of a rule that cuts along one axis: what the first tiling does not cut."""
    largest = next(iter(kind.tilings(context)))
    name, total = largest.values[0]
    ends = [context.view(context.op.inputs[0]), context.output()]
    most = max(view.operand.elements for view in ends)
    # Not what repeats along the axis, or is made once for all tiles.
    streamed = [v for v in ends if not v.in_sram and 2 * v.operand.elements >= most]
    for size in sizes(int(total)):
        count = ceil(int(total) / size)
        moved = len(streamed) * count if int(total) > 2 else 0
        yield Tiling(((name, size), *largest.values[1:])), AtLeast(0, moved, 0, count)


def _passing(w_bytes: int, parts: int, steps: int, *, stays: bool) -> AtLeast:
    """Of a product in a loop."""
    if stays:
        return AtLeast(0, int(w_bytes > 0), parts * steps)
    return AtLeast(w_bytes * (steps - 1), parts * steps * int(w_bytes > 0), parts * steps)


def _convolutions_in_loop(
    context: OpContext, kind: Convolving, size: int, steps: int, *, last: bool
) -> Points:
    _, _, width, channels = context.output().shape
    rows, w_bytes = ceil(size / width), _moved_bytes(context, kind.w)
    for sweeps in _sweeps(context, kind) if last else (1,):
        swept = channels_of_sweep(channels, sweeps, context.machine)
        for part in _channels(context, kind, swept):
            ways = ["weights"] if part == swept else ["rows_weights", "rows"]
            for outer in ways[: 1 if sweeps > 1 else 2]:
                for lines in _lines(kind, rows):
                    count = ceil(swept / part) * sweeps
                    least = _passing(w_bytes, count, steps, stays=outer != "rows")
                    chosen: dict[str, int | str] = {"rows": rows, "columns": width}
                    chosen |= {"channels": part, "outer": outer}
                    yield _conv_tiling(chosen, rows, lines, sweeps), least


def _conv_tiling(chosen: dict[str, int | str], rows: int, lines: int, sweeps: int) -> Tiling:
    if lines < rows:
        chosen["lines"] = lines
    if sweeps > 1:
        chosen["sweeps"] = sweeps
    return tiling(**chosen)


def _sweeps(context: OpContext, kind: Convolving) -> list[int]:
    channels, machine = context.output().shape[-1], context.machine
    granule = machine.tensor_granularity_n
    if not kind.cuts_channels:
        return [1]
    parts = (
        channels_of_sweep(channels, n, machine) for n in range(1, ceil(channels / granule) + 1)
    )
    return sorted({ceil(channels / part) for part in parts})


def _channels(context: OpContext, kind: Convolving, total: int) -> list[int]:
    return sizes(total, context.machine.tensor_granularity_n) if kind.cuts_channels else [total]


def _lines(kind: Convolving, rows: int) -> list[int]:
    """Lines of tiles; fewer than the stripe's where a rule knows of such."""
    return sizes(rows, kind.period[0]) if kind.period[0] > 1 else [rows]


def _convolutions(context: OpContext, kind: Convolving) -> Points:
    """Rows, lines, channels, sweeps and what stays."""
    _, height, width, channels = context.output().shape
    x_bytes, w_bytes = (_moved_bytes(context, name) for name in (kind.x, kind.w))
    stored = _in_dram(context, context.op.outputs[0])
    phased = kind.period[0] > 1
    for sweeps in _sweeps(context, kind):
        swept = channels_of_sweep(channels, sweeps, context.machine)
        for part in _channels(context, kind, swept):
            count = ceil(swept / part)
            outers = ["rows_weights"] if part < swept else ["weights"]
            if part < swept and sweeps == 1:
                outers += ["rows", "weights", *(["weights_once"] if phased else [])]
            for outer in outers:
                for lines in _lines(kind, height):
                    for rows in sizes(height, kind.period[0]):
                        if lines < height and rows <= lines:
                            continue
                        stripes = ceil(height / rows)
                        tiles = max(stripes, ceil(height / lines)) * count * sweeps
                        x_passes = sweeps * (count if outer.startswith("weights") else 1)
                        w_passes = stripes if outer == "rows" else 1
                        loads = x_passes * stripes * int(x_bytes > 0)
                        loads += count * sweeps * w_passes * int(w_bytes > 0)
                        least = AtLeast(
                            x_bytes * (x_passes - 1) + w_bytes * (w_passes - 1),
                            loads + tiles * stored,
                            tiles,
                        )
                        chosen: dict[str, int | str] = {"rows": rows, "columns": width}
                        chosen |= {"channels": part, "outer": outer}
                        yield _conv_tiling(chosen, rows, min(lines, rows), sweeps), least


def _products(context: OpContext, kind: ProductKind) -> Points:
    m, n = matrix(context.output()).shape
    machine = context.machine
    x_bytes, w_bytes = (_moved_bytes(context, name) for name in (kind.x, kind.w))
    stored = _in_dram(context, context.op.outputs[0])
    for channels in sizes(n, min(n, machine.tensor_granularity_n)):
        count = ceil(n / channels)
        for outer in ("weights", "rows") if count > 1 else ("weights",):
            for size in sizes(m, min(m, machine.tensor_granularity_m)):
                tiles = ceil(m / size)
                x_passes = count if outer == "weights" else 1
                w_passes = tiles if outer == "rows" else 1
                loads = x_passes * tiles * int(x_bytes > 0) + w_passes * count * int(w_bytes > 0)
                yield (
                    tiling(rows=size, channels=channels, outer=outer),
                    AtLeast(
                        x_bytes * (x_passes - 1) + w_bytes * (w_passes - 1),
                        loads + tiles * count * stored,
                        tiles * count,
                    ),
                )


def _group_norms(context: OpContext, kind: GroupNorm) -> Points:
    m, channels = matrix(context.output()).shape
    moved = _moved_bytes(context, kind.x)
    for width in sizes(channels, channels // kind.groups):
        yield tiling(rows=m, channels=width, statistics="resident"), AtLeast()
    for size in sizes(m):
        count = ceil(m / size)
        least = AtLeast(moved, 2 * count * int(moved > 0), 0, 2 * count)
        yield tiling(rows=size, channels=channels, statistics="two_passes"), least


def _attentions(context: OpContext, kind: Attention, schedule: Schedule) -> Points:
    """Queries, with all keys; parts of both where K and V leave little room."""
    queries, keys = (matrix(context.view(name)).shape[0] for name in (kind.q, kind.k))
    machine = context.machine
    row = min(queries, machine.tensor_granularity_m)
    for size in sizes(queries, row):
        count = ceil(queries / size) * kind.heads
        for choices in ({}, {"heads_ahead": 0}) if kind.heads > 1 else ({},):
            yield tiling(queries=size, keys=keys, **choices), AtLeast(0, 0, 2 * count, count)
    if not is_sampled(context, schedule):
        return
    column, depth = machine.tensor_granularity_n, matrix(context.view(kind.v)).shape[1]
    parts = sizes(depth // kind.heads, min(depth // kind.heads, column))
    key = min(keys, column)
    again = sum(_moved_bytes(context, name) for name in (kind.k, kind.v))
    copies = range(2, 9) if schedule.overlap else range(1, 2)
    draw = Random(0)
    # Scores of a query tile stay.
    most = machine.sram_bytes // (keys * context.tensors[kind.q].dtype.nbytes)
    possible = [size for size in sizes(queries, row) if size <= most] or [row]
    for _ in range(SAMPLED):
        size = draw.choice(possible)
        ahead = draw.choice((0, 1)) if schedule.overlap else 0
        block = draw.choice(sizes(size, min(size, row))) if schedule.overlap and not ahead else size
        t = tiling(
            queries=size,
            keys=draw.choice(sizes(keys, key)[:-1]),
            values=draw.choice(parts),
            copies=draw.choice(copies),
            block=block,
            queries_ahead=ahead,
        )
        yield t, AtLeast(again * (ceil(queries / size) - 1))


def _in_dram(context: OpContext, name: str) -> int:
    return int(not context.view(name).in_sram)


def _moved_bytes(context: OpContext, name: str) -> int:
    """What crosses the bus at least whenever all of an operand is loaded."""
    return compulsory_bytes(context, [name])
