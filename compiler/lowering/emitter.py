"""Emits the instructions of one op at a time; the tile search runs the same code dry.

A lowering rule is written once, against this interface: it asks for SRAM buffers, loops over tiles,
brings operands, computes, and delivers results. Operands and results may lie in SRAM already: then
nothing is loaded, stored or reserved for them. Emitting for real appends instructions with
addresses and dependencies. Emitting dry visits one representative of each run of equal tiles and
remembers how many it stands for, so that the cost of a candidate tiling is the cost of the very
instructions that lowering would emit, at a price independent of the number of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgefusion.compiler.lowering.view import Cells, Memory, Regions, View
from edgefusion.compiler.memory.placement import aligned
from edgefusion.compiler.schedule.dependences import Access, Region
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.compiler.schedule.synchronise import Reservation
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.isa import ROLE_CAUSE, Cause, DType, EngineKind, Opcode, Space
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Operand, dense_strides
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.specification import Attrs


@dataclass(frozen=True, slots=True)
class Tile:
    """One step of a tile loop: ``[start, start + size)`` of the tiled extent."""

    index: int
    start: int
    size: int


@dataclass(slots=True)
class Buffer:
    """One SRAM buffer of an op: ``slots`` copies of a tile, used in turn."""

    name: str
    addresses: tuple[int, ...]
    dtype: DType
    memories: tuple[Memory, ...]
    turn: int = -1

    def next(self) -> None:
        """Move to the next slot; call it once for each tile that is filled."""
        self.turn += 1

    def view(self, tensor: int, shape: Sequence[int]) -> View:
        """A dense view of the current slot for a tile of tensor ``tensor``."""
        slot = max(self.turn, 0) % len(self.addresses)
        shape = tuple(shape)
        strides = dense_strides(shape, self.dtype)
        operand = Operand(tensor, Space.SRAM, self.addresses[slot], self.dtype, shape, strides)
        return View(operand, self.memories[slot])


@dataclass(slots=True)
class _Occupant:
    """Bytes of SRAM and the regions that they are now."""

    start: int
    stop: int
    regions: Regions

    def outside(self, start: int, stop: int) -> Iterator[_Occupant]:
        """What is left of it where [start, stop) is taken over."""
        if stop <= self.start or self.stop <= start:
            yield self
            return
        if self.start < start:
            yield _Occupant(self.start, start, self.regions)
        if stop < self.stop:
            yield _Occupant(stop, self.stop, self.regions)


@dataclass(slots=True)
class Emitter:
    """Emits instructions for the current op ``op`` into ``builder``; see the module docstring.

    ``accesses`` and ``reservations`` collect what ``synchronise`` needs. ``counts`` (dry only) says
    how many instructions each dry one stands for; ``weight`` is that number for the next one.
    ``requests`` are the slots of SRAM asked for since ``begin_group``, by label, and
    ``streamed_bytes`` one copy of those that come in the op's number of slots; ``layout`` says
    where each lies (they are stacked from the bottom if there is none). ``repeats``: what is
    loaded now has been loaded before.
    """

    builder: ProgramBuilder
    machine: Machine
    schedule: Schedule
    dry: bool
    op: int = 0
    op_name: str = ""
    slots: int = 1
    accesses: list[Access] = field(default_factory=list)
    reservations: list[Reservation] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    sram_peak_bytes: int = 0
    streamed_bytes: int = 0
    layout: Mapping[str, int] | None = None
    requests: dict[str, int] = field(default_factory=dict)
    repeats: bool = False
    weight: int = 1
    _sram_top: int = 0
    _in_use: list[_Occupant] = field(default_factory=list)

    @classmethod
    def of_costs(cls, machine: Machine, schedule: Schedule) -> Emitter:
        """A dry one, whose program is no component's: it is asked for costs and room."""
        return cls(
            ProgramBuilder("costs", machine.name, schedule.name), machine, schedule, dry=True
        )

    def begin(self, op: int, name: str, slots: int) -> None:
        """Start an op with ``slots`` copies of each streamed buffer, in a group of its own."""
        self.begin_group()
        self.turn_to(op, name, slots)

    def begin_group(self, layout: Mapping[str, int] | None = None) -> None:
        """Start a group: its buffers are placed over those before."""
        self._sram_top, self.streamed_bytes, self.layout, self.requests = 0, 0, layout, {}

    def turn_to(self, op: int, name: str, slots: int) -> None:
        """Go on with an op of the group."""
        self.op, self.op_name, self.slots = op, name, slots

    def buffer(
        self,
        name: str,
        elements: int,
        dtype: DType,
        *,
        streamed: bool = True,
        copies: int = 0,
        cells: tuple[int, Sequence[int], int] | None = None,
    ) -> Buffer:
        """Reserve SRAM for tiles of up to ``elements``; raises DoesNotFitError when SRAM is full.

        A streamed buffer is refilled for every tile and gets the op's number of slots, or
        ``copies``. A tile that is read in parts is cut into ``cells``: bytes of a row, first rows
        of its bands, bytes of its columns (``view.Cells``).
        """
        slots = copies or (self.slots if streamed else 1)
        addresses = self.reserve(name, elements * dtype.nbytes, slots)
        if streamed and not copies:
            nbytes = elements * dtype.nbytes
            self.streamed_bytes += aligned(nbytes, self.machine.sram_align_bytes)
        memories = tuple(Region() if cells is None else Cells.whole(a, *cells) for a in addresses)
        if not self.dry:
            for label, address, memory in zip(
                self.labels(name, slots), addresses, memories, strict=True
            ):
                regions = [memory] if isinstance(memory, Region) else list(memory.all())
                self.occupy(label, address, elements * dtype.nbytes, regions)
        return Buffer(name, addresses, dtype, memories)

    def input_buffer(
        self, name: str, elements: int, source: View, *, streamed: bool = True
    ) -> Buffer | None:
        """A buffer for tiles of ``source``; None where it lies in SRAM already."""
        if source.in_sram:
            return None
        return self.buffer(name, elements, source.operand.dtype, streamed=streamed)

    def output_buffer(
        self,
        name: str,
        elements: int,
        target: View,
        *,
        needed: bool = False,
        streamed: bool = True,
    ) -> Buffer | None:
        """A buffer for tiles of ``target``; None where they can be computed in their place in
        SRAM, unless it is ``needed`` on the way."""
        if target.in_sram and not needed:
            return None
        return self.buffer(name, elements, target.operand.dtype, streamed=streamed)

    def labels(self, name: str, slots: int) -> list[str]:
        """What the slots of a buffer of the current op are called."""
        return [f"{self.op_name}:{name}" + (f"[{i}]" if slots > 1 else "") for i in range(slots)]

    def reserve(self, name: str, nbytes: int, slots: int) -> tuple[int, ...]:
        """Addresses of ``slots`` times ``nbytes`` of SRAM. Raises DoesNotFitError."""
        slot_bytes = aligned(nbytes, self.machine.sram_align_bytes)
        top = self._sram_top
        self._sram_top += slot_bytes * slots
        self.sram_peak_bytes = max(self.sram_peak_bytes, self._sram_top)
        limit = self.machine.sram_bytes
        if self.layout is None and self._sram_top > limit:
            raise DoesNotFitError(
                f"{self.op_name}: {self._sram_top - limit:,} bytes more than the "
                f"SRAM has, with buffer {name}"
            )
        labels = self.labels(name, slots)
        for label in labels:
            self.requests[label] = slot_bytes
        if self.layout is not None:
            return tuple(self.layout[label] for label in labels)
        return tuple(top + slot * slot_bytes for slot in range(slots))

    def occupy(self, label: str, address: int, nbytes: int, current: list[Region]) -> list[Region]:
        """Note that the regions ``current`` lie there and follow whatever lay there before.

        Who replaces regions by others keeps ``current`` up to date, so that later occupants wait
        for the right ones, and adds the new ones to the list that is returned: all that were there.
        """
        stop = address + aligned(nbytes, self.machine.sram_align_bytes)
        for region in current:
            region.reuses.extend(self.before(address, stop))
        self._in_use = [part for old in self._in_use for part in old.outside(address, stop)]
        self._in_use.append(_Occupant(address, stop, current))
        every = list(current)
        self.reservations.append(Reservation(label, Space.SRAM, address, stop - address, every))
        return every

    def before(self, start: int, stop: int) -> list[Region]:
        """The regions that lay in [start, stop) last."""
        return [
            region
            for old in self._in_use
            if old.start < stop and start < old.stop
            for region in old.regions
        ]

    def bring(
        self, buffer: Buffer | None, source: View, *, again: bool = False, reread_bytes: int = 0
    ) -> View:
        """``source`` in SRAM: where it lies, or loaded into the next slot of ``buffer``."""
        if buffer is None:
            return source
        buffer.next()
        tile = buffer.view(source.operand.tensor, source.shape)
        self.load(tile, source, again=again, reread_bytes=reread_bytes)
        return tile

    def bring_into(self, place: View, source: View) -> View:
        """``source`` loaded into the ``place`` in SRAM of a result to be computed over it."""
        tile = place.as_tensor(source.operand.tensor)
        self.load(tile, source)
        return tile

    def place(self, buffer: Buffer | None, target: View, tensor: int | None = None) -> View:
        """Where to compute a tile of ``target``, as ``tensor`` if that is another: in place, or in
        the next slot of ``buffer``."""
        tensor = target.operand.tensor if tensor is None else tensor
        if buffer is None:
            return target.as_tensor(tensor)
        buffer.next()
        return buffer.view(tensor, target.shape)

    def deliver(self, target: View, tile: View) -> None:
        """Store a finished tile, if its place is in DRAM."""
        if not target.in_sram:
            self.store(target, tile)

    def tiles(
        self, total: int, size: int, *, edges: int = 1, period: int = 1, start: int = 0
    ) -> Iterator[Tile]:
        """Cut ``total``, from ``start`` on, into tiles of ``size`` and a ragged tail.

        ``edges`` tiles at either end may differ from the rest: one for the first visit and the
        tail, more where padding and halo reach further in. Those between are alike, or repeat
        themselves after ``period`` tiles.
        """
        count = -(-total // size)
        inner = count - 2 * edges
        skips = self.dry and inner > period
        outer_weight = self.weight
        index = 0
        while index < count:
            phase = index - edges
            if skips and 0 <= phase < period:
                self.weight = outer_weight * len(range(phase, inner, period))
            else:
                self.weight = outer_weight
            yield Tile(index, start + index * size, min(size, total - index * size))
            index += 1 + inner - period if skips and phase == period - 1 else 1
        self.weight = outer_weight

    def load(
        self, target: View, source: View, *, again: bool = False, reread_bytes: int = 0
    ) -> None:
        """DMA from DRAM to SRAM; ``again`` marks a transfer of what this op has loaded before,
        ``reread_bytes`` how much of a new one it has."""
        again = again or self.repeats
        cause = Cause.REREAD if again else ROLE_CAUSE[source.role]
        attrs: Attrs = (("reread_bytes", reread_bytes),) if reread_bytes and not again else ()
        self._emit(EngineKind.DMA, Opcode.LOAD, [target], [source], attrs, cause)

    def store(self, target: View, source: View) -> None:
        """DMA from SRAM to DRAM."""
        self._emit(EngineKind.DMA, Opcode.STORE, [target], [source], cause=ROLE_CAUSE[target.role])

    def tensor(
        self, opcode: Opcode, output: View, inputs: Sequence[View], attrs: Attrs = ()
    ) -> None:
        """An instruction of the tensor engine."""
        self._emit(EngineKind.TENSOR, opcode, [output], inputs, attrs)

    def vector(
        self, opcode: Opcode, output: View, inputs: Sequence[View], attrs: Attrs = ()
    ) -> None:
        """An instruction of the vector engine."""
        self._emit(EngineKind.VECTOR, opcode, [output], inputs, attrs)

    def call(self, outputs: Sequence[View], inputs: Sequence[View], attrs: Attrs) -> None:
        """A host function on tensors in DRAM."""
        self._emit(EngineKind.HOST, Opcode.CALL, outputs, inputs, attrs)

    def _emit(
        self,
        engine: EngineKind,
        opcode: Opcode,
        outputs: Sequence[View],
        inputs: Sequence[View],
        attrs: Attrs = (),
        cause: Cause = Cause.NONE,
    ) -> None:
        if self.dry:
            self.counts.append(self.weight)
        else:
            reads = (region for view in inputs for region in view.regions())
            writes = (region for view in outputs for region in view.regions())
            self.accesses.append(Access(tuple(reads), tuple(writes)))
        self.builder.emit(
            engine,
            0,  # of several, scheduling chooses one
            opcode,
            [v.operand for v in outputs],
            [v.operand for v in inputs],
            self.op,
            cause=cause,
            attrs=attrs,
        )


def counts_array(emitter: Emitter) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How many instructions each dry one stands for."""
    return np.array(emitter.counts, dtype=np.int64)
