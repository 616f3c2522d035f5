"""Emits the instructions of one op at a time; the tile search runs the same code dry.

A lowering rule is written once, against this interface: it asks for SRAM buffers, loops over tiles,
and emits loads, computations and stores. Emitting for real appends instructions with addresses and
dependencies. Emitting dry visits one representative of each run of equal tiles and remembers how
many it stands for, so that the cost of a candidate tiling is the cost of the very instructions that
lowering would emit, at a price independent of the number of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgefusion.compiler.schedule.dependences import Access, Region
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.compiler.schedule.synchronise import Reservation
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.isa import ROLE_CAUSE, Cause, DType, EngineKind, Opcode, Role, Space
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


@dataclass(frozen=True, slots=True)
class View:
    """An operand together with the region of memory whose hazards it shares."""

    operand: Operand
    region: Region
    role: Role = Role.ACTIVATION

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in elements."""
        return self.operand.shape

    def box(self, starts: Sequence[int], sizes: Sequence[int]) -> View:
        """The sub-box of ``sizes`` elements that begins at ``starts``."""
        o = self.operand
        offset = sum(a * s for a, s in zip(starts, o.strides, strict=True))
        return self._with(o.address + offset, tuple(sizes), o.strides)

    def reshape(self, *shape: int) -> View:
        """The same bytes under another shape; the view must be dense."""
        o = self.operand
        if o.strides != dense_strides(o.shape, o.dtype):
            raise ValueError(f"cannot reshape a strided view {o}")
        return self._with(o.address, shape, dense_strides(shape, o.dtype))

    def strided(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> View:
        """The same start under any shape and byte strides (a stride of 0 broadcasts)."""
        return self._with(self.operand.address, shape, strides)

    def as_tensor(self, tensor: int) -> View:
        """The same memory holding tensor ``tensor``: a result overwritten in place."""
        o = self.operand
        operand = Operand(tensor, o.space, o.address, o.dtype, o.shape, o.strides)
        return View(operand, self.region, self.role)

    def _with(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> View:
        o = self.operand
        return View(
            Operand(o.tensor, o.space, address, o.dtype, shape, strides), self.region, self.role
        )


@dataclass(slots=True)
class Buffer:
    """One SRAM buffer of an op: ``slots`` copies of a tile, used in turn."""

    name: str
    address: int
    slot_bytes: int
    dtype: DType
    regions: tuple[Region, ...]
    turn: int = -1

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return self.slot_bytes * len(self.regions)

    def next(self) -> None:
        """Move to the next slot; call it once for each tile that is filled."""
        self.turn += 1

    def view(self, tensor: int, shape: Sequence[int]) -> View:
        """A dense view of the current slot for a tile of tensor ``tensor``."""
        slot = max(self.turn, 0) % len(self.regions)
        address = self.address + slot * self.slot_bytes
        shape = tuple(shape)
        strides = dense_strides(shape, self.dtype)
        operand = Operand(tensor, Space.SRAM, address, self.dtype, shape, strides)
        return View(operand, self.regions[slot])


@dataclass(slots=True)
class Emitter:
    """Emits instructions for the current op ``op`` into ``builder``; see the module docstring.

    ``accesses`` and ``reservations`` collect what ``synchronise`` needs. ``counts`` (dry only) says
    how many instructions each dry one stands for.
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
    _weight: int = 1
    _sram_top: int = 0
    _in_use: list[Buffer] = field(default_factory=list)

    def begin(self, op: int, name: str, slots: int) -> None:
        """Start an op with ``slots`` copies of each streamed buffer. Its buffers are placed from
        the bottom of SRAM, over those before."""
        self.op, self.op_name, self.slots, self._sram_top = op, name, slots, 0

    def buffer(self, name: str, elements: int, dtype: DType, *, streamed: bool = True) -> Buffer:
        """Reserve SRAM for tiles of up to ``elements``; raises DoesNotFitError when SRAM is full.

        A streamed buffer is refilled for every tile and gets the op's number of slots.
        """
        align = self.machine.sram_align_bytes
        slot_bytes = -(-elements * dtype.nbytes // align) * align
        slots = self.slots if streamed else 1
        address = self._sram_top
        self._sram_top += slot_bytes * slots
        self.sram_peak_bytes = max(self.sram_peak_bytes, self._sram_top)
        if self._sram_top > self.machine.sram_bytes:
            raise DoesNotFitError(
                f"{self.op_name}: {self._sram_top - self.machine.sram_bytes:,} bytes more than the "
                f"SRAM has, with buffer {name}"
            )
        made = Buffer(name, address, slot_bytes, dtype, tuple(Region() for _ in range(slots)))
        if not self.dry:
            self._take_over(made)
            for slot, region in enumerate(made.regions):
                label = f"{self.op_name}:{name}" + (f"[{slot}]" if slots > 1 else "")
                start = address + slot * slot_bytes
                self.reservations.append(Reservation(label, Space.SRAM, start, slot_bytes, region))
        return made

    def _take_over(self, made: Buffer) -> None:
        """Note which earlier buffers' bytes ``made`` reuses; those covered whole are forgotten."""
        end = made.address + made.nbytes
        for old in self._in_use:
            for i, old_region in enumerate(old.regions):
                begin = old.address + i * old.slot_bytes
                for j, region in enumerate(made.regions):
                    mine = made.address + j * made.slot_bytes
                    if begin < mine + made.slot_bytes and mine < begin + old.slot_bytes:
                        region.reuses.append(old_region)
        self._in_use = [
            old
            for old in self._in_use
            if old.address < made.address or old.address + old.nbytes > end
        ]
        self._in_use.append(made)

    def tiles(self, total: int, size: int, *, edges: int = 1) -> Iterator[Tile]:
        """Cut ``total`` into tiles of ``size`` and a ragged tail.

        ``edges`` tiles at either end may differ from the rest: one for the first visit and the
        tail, more where padding and halo reach further in.
        """
        count = -(-total // size)
        inner = count - 2 * edges
        outer_weight = self._weight
        index = 0
        while index < count:
            skipped = self.dry and inner > 1 and index == edges
            self._weight = outer_weight * inner if skipped else outer_weight
            yield Tile(index, index * size, min(size, total - index * size))
            index += inner if skipped else 1
        self._weight = outer_weight

    def load(
        self, target: View, source: View, *, again: bool = False, reread_bytes: int = 0
    ) -> None:
        """DMA from DRAM to SRAM; ``again`` marks a transfer of what this op has loaded before,
        ``reread_bytes`` how much of a new one it has."""
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
            self.counts.append(self._weight)
        else:
            self.accesses.append(
                Access(tuple(v.region for v in inputs), tuple(v.region for v in outputs))
            )
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
