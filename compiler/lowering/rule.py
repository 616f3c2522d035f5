"""What a lowering rule is, and the little that rules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.view import View
from edgefusion.compiler.network.kind import Kind
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.network.tensor import Tensors
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.machine import Machine

TilingValue = int | str


@dataclass(frozen=True, slots=True)
class Tiling:
    """Named choices of a rule, such as ``rows=8 channels=64 outer=weights``."""

    values: tuple[tuple[str, TilingValue], ...]

    def __getitem__(self, name: str) -> int:
        return int(self._chosen(name))

    def get(self, name: str, default: TilingValue) -> TilingValue:
        """The choice ``name``, or ``default`` where a rule has no such choice."""
        for own, value in self.values:
            if own == name:
                return value
        return default

    @property
    def family(self) -> tuple[tuple[str, TilingValue], ...]:
        """All choices but the size of the streamed tiles."""
        return self.values[1:]

    @property
    def sweeps(self) -> int:
        """Into how many parts the result's channels are divided that are made one after the other,
        each over all rows."""
        return int(self.get("sweeps", 1))

    @property
    def splits(self) -> bool:
        """Whether it says how deep the parts of a reduction are (``ops.split_reduction``)."""
        return any(name == "depth" for name, _ in self.values)

    def choice(self, name: str) -> str:
        """The choice ``name`` as text."""
        return str(self._chosen(name))

    def _chosen(self, name: str) -> TilingValue:
        for own, value in self.values:
            if own == name:
                return value
        raise KeyError(name)

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values)


def tiling(**values: TilingValue) -> Tiling:
    """A tiling from keywords, in the order given."""
    return Tiling(tuple(values.items()))


@dataclass(frozen=True, slots=True)
class OpContext:
    """One op with its tensors, where these lie, and the machine it is tiled for."""

    op: NetOp
    machine: Machine
    tensors: Tensors
    views: Mapping[str, View]

    def view(self, name: str) -> View:
        """The whole tensor ``name``, where it lies; of one that rolls by, some rows are there."""
        return self.views[name]

    def output(self, index: int = 0) -> View:
        """Result ``index``, where it lies."""
        return self.views[self.op.outputs[index]]


class Stage:
    """An op under way: its buffers are reserved, stripes of its result follow one another.

    ``sweep`` says which part of the result's channels they are of (``Tiling.sweeps``).
    """

    sweep: int = 0

    def run(self, span: Span) -> None:
        """Emit the rows ``span`` of the result, seen as a matrix."""
        raise NotImplementedError

    def finish(self) -> None:
        """Emit what can be done only once all rows are there."""


@dataclass
class Whole(Stage):
    """The stage of an op that is emitted in one run."""

    emit: Callable[[], None]

    def run(self, span: Span) -> None:
        """Emit everything."""
        self.emit()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredKind(Kind):
    """A kind that becomes instructions: how it is tiled and emitted."""

    def tilings(self, context: OpContext) -> Iterator[Tiling]:
        """Candidates, feasible or not.

        The first value of a tiling is the size of its streamed tiles; candidates that agree in all
        others are a family and come largest first. The very first one is the op in one piece,
        whatever SRAM it takes: bounds count its work.
        """
        raise NotImplementedError

    def fallback(self, context: OpContext) -> Iterator[Tiling]:
        """What to try when none of the ``tilings`` fits."""
        return iter(())

    def is_cramped(self, context: OpContext, schedule: Schedule) -> bool:
        """Whether ``fallback`` may be faster although one of the ``tilings`` fits."""
        return False

    def stripe_tilings(self, context: OpContext, size: int) -> Iterator[Tiling]:
        """Tilings that take stripes of up to ``size`` rows of the result in one tile, most channels
        first, those with ``sweeps`` last; none where the op cannot be emitted stripe by stripe."""
        return iter(())

    @property
    def replaceable(self) -> tuple[str, ...]:
        """Operands in whose place in SRAM the result can be computed: a tile of it is made of the
        same elements of them, and nothing else of them is read after it is written."""
        return ()

    def pauses(self, context: OpContext, t: Tiling) -> tuple[int, int] | None:
        """How often DMA can load no more than so many bytes while the vector engine is at work;
        None where buffers are enough for engines to overlap freely. The time of one that pauses is
        found by scheduling it (``lowering.rehearsal``)."""
        return None

    def beginning(
        self, context: OpContext, t: Tiling, tiles: int
    ) -> tuple[OpContext, float] | None:
        """The first so many tiles as an op of its own, and how often that is done in all; None
        where these are all tiles, or later ones are other work."""
        return None

    def stage(self, e: Emitter, context: OpContext, t: Tiling) -> Stage:
        """Begin to emit one tiling. Raises DoesNotFitError, here or later, when its buffers exceed
        SRAM. Views of operands are looked up at every run, for stripes of them move."""
        return Whole(lambda: self.emit(e, context, t))

    def emit(self, e: Emitter, context: OpContext, t: Tiling) -> None:
        """Emit one tiling at once."""
        stage = self.stage(e, context, t)
        for sweep in range(t.sweeps):
            stage.sweep = sweep
            stage.run(Span(0, matrix(context.output()).shape[0]))
        stage.finish()


def replaceable(op: NetOp, tensors: Tensors) -> list[str]:
    """Operands in whose place in SRAM the result of ``op`` can be computed, which are as large:
    those of its kind, and what its epilogue reads. It must not read them under another name."""
    kind, result = op.kind, tensors[op.outputs[0]]
    if not isinstance(kind, LoweredKind) or len(op.outputs) > 1:
        return []
    own = () if op.epilogue else kind.replaceable
    return [
        name
        for name in (*own, *(step.reads for step in op.epilogue))
        if name
        and tensors[name].elements == result.elements
        and tensors[name].dtype is result.dtype
    ]


def row_tilings(total: int) -> Iterator[Tiling]:
    """Tilings that choose how many of ``total`` rows a tile has, and nothing else."""
    return (tiling(rows=size) for size in tile_sizes(total))


def tile_sizes(total: int, *, multiple: int = 1) -> list[int]:
    """Candidate tile sizes of a streamed extent, largest first.

    The whole, its even divisions into 2..16 tiles rounded up to ``multiple``, then powers of two
    down to ``multiple``. Even divisions waste less in the ragged tail than powers of two.
    """
    return _divisions(total, multiple, (2, 3, 4, 5, 6, 8, 10, 12, 16))


def stripe_sizes(total: int, *, multiple: int = 1) -> list[int]:
    """Candidate sizes of the stripes of a loop, largest first: those of tiles and, among the small
    ones, where each row counts, some between powers of two."""
    between = {count * multiple for count in (3, 5, 6, 7)}
    small = {size for size in between if size < total}
    return sorted({*tile_sizes(total, multiple=multiple), *small}, reverse=True)


def channel_sizes(
    total: int, *, multiple: int, parts: tuple[int, ...] = (2, 4, 8, 12, 16, 24)
) -> list[int]:
    """Candidate tile sizes of output channels, largest first: fewer, as each is a family."""
    return [size for size in _divisions(total, multiple, parts) if size * 32 >= total]


def channels_of_sweep(channels: int, sweeps: int, machine: Machine) -> int:
    """How many of the result's ``channels`` each of so many sweeps makes: whole columns of the
    array, the last of them the fewest."""
    granule = machine.tensor_granularity_n
    return min(channels, ceil(ceil(channels / sweeps) / granule) * granule)


def _divisions(total: int, multiple: int, parts: tuple[int, ...]) -> list[int]:
    sizes = {total}
    for count in parts:
        sizes.add(min(total, ceil(ceil(total / count) / multiple) * multiple))
    size = multiple
    while size < total:
        sizes.add(size)
        size *= 2
    return sorted(sizes, reverse=True)


def matrix(view: View) -> View:
    """A dense view as [product of leading axes, last axis]."""
    columns = view.shape[-1] if view.shape else 1
    elements = view.operand.elements
    return view.reshape(elements // max(columns, 1), columns)


def rows(view: View, start: int, size: int) -> View:
    """Rows ``[start, start + size)`` of a matrix view."""
    return view.box((start, 0), (size, view.shape[1]))


def columns(view: View, start: int, size: int) -> View:
    """Columns ``[start, start + size)`` of a matrix view."""
    return view.box((0, start), (view.shape[0], size))
