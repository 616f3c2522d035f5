"""What emitted instructions cost, by the simulator's own functions: how candidates are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.lowering.emitter import Emitter, counts_array
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.cost import to_ps
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.work import derive_work, durations_ps

Times = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


_KINDS = len(EngineKind)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """What engines do for each candidate: all that adds up as one array, [2 + 2 kinds, candidates],
    as candidates are many and their numbers few."""

    counts: Times

    @property
    def dma_bytes(self) -> Times:
        """What DMA moves, [candidates]."""
        moved: Times = self.counts[0]
        return moved

    @property
    def handoffs(self) -> Times:
        """How often one kind of engine hands over to another, [candidates]."""
        changes: Times = self.counts[1]
        return changes

    @property
    def busy_ps(self) -> Times:
        """By kind of engine, [kinds, candidates]."""
        return self.counts[2 : 2 + _KINDS]

    @property
    def instructions(self) -> Times:
        """By kind of engine, [kinds, candidates]."""
        return self.counts[2 + _KINDS :]

    @classmethod
    def of(cls, emitter: Emitter, machine: Machine, candidates: int) -> Tally:
        """Of what was emitted dry; the ops of its instructions are the candidates' numbers."""
        program = emitter.builder.build()
        counts = counts_array(emitter)
        work = derive_work(program)
        duration = durations_ps(program, machine, work) * counts
        op, engine = program.columns.op, program.columns.engine
        nbytes = np.zeros(len(program), dtype=np.int64)
        nbytes[work.dma.index] = work.dma.useful_bytes * counts[work.dma.index]
        # One kind of engine after the other: each change of engine costs a semaphore.
        changes = np.zeros(len(program), dtype=bool)
        changes[1:] = (engine[1:] != engine[:-1]) & (op[1:] == op[:-1])
        made = cls.nothing(candidates)
        np.add.at(made.dma_bytes, op, nbytes)
        np.add.at(made.handoffs, op, counts * changes)
        np.add.at(made.busy_ps, (engine, op), duration)
        np.add.at(made.instructions, (engine, op), counts)
        return made

    @classmethod
    def nothing(cls, candidates: int) -> Tally:
        """Before anything is counted."""
        return cls(np.zeros((2 + 2 * _KINDS, candidates), dtype=np.int64))

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.counts + other.counts)

    def only(self, candidate: int) -> Tally:
        """Of one candidate alone."""
        return Tally(self.counts[:, candidate : candidate + 1])

    def of_each(self, candidates: Times) -> Tally:
        """Of these candidates, in this order; each may be there several times."""
        return Tally(self.counts[:, candidates])

    def times(self, counts: Times) -> Tally:
        """What each candidate does, done so many times."""
        return Tally(self.counts * counts)

    @staticmethod
    def beside(tallies: Sequence[Tally]) -> Tally:
        """Of all candidates of the ``tallies``, in this order."""
        return Tally(np.concatenate([tally.counts for tally in tallies], axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """By candidate: bytes that DMA moves, instructions, time and DMA time in picoseconds.

    Times are exact for schedules without overlap, estimates with it: the busiest engine's time
    plus one tile of everything else. One copy overlaps little, and is taken not to. ``least_ps`` is
    what of it is left when the same work is cut as evenly as engines could wish. ``computing_ps``
    is the time of the busiest engine but for DMA, ``busy_ps`` what all engines do together.
    """

    dma_bytes: Times
    instructions: Times
    time_ps: Floats
    dma_ps: Times
    least_ps: Floats
    computing_ps: Times
    busy_ps: Times


def costs_of(
    tally: Tally,
    slots: int,
    machine: Machine,
    schedule: Schedule,
    pauses: Mapping[int, tuple[int, int]] | None = None,
) -> Costs:
    """What candidates with ``slots`` copies of streamed buffers cost. ``pauses`` says in which of
    them DMA waits for the vector engine (``LoweredKind.pauses``)."""
    busy, by_kind = tally.busy_ps, tally.instructions
    handoff_ps = tally.handoffs * to_ps(machine.semaphore_ns)
    if not schedule.overlap:
        least: Floats = busy.sum(axis=0).astype(np.float64)
        time = least + handoff_ps
    else:
        even, shares = _shares(busy, by_kind, slots, machine)
        least = even.sum(axis=0) if slots == 1 else even.max(axis=0)
        for i, (count, nbytes) in (pauses or {}).items():
            ahead = count * 1e12 * nbytes / machine.dma_bandwidth_bytes_per_s
            shares[EngineKind.DMA, i] += max(0.0, shares[EngineKind.VECTOR, i] - ahead)
        if slots == 1:
            time = shares.sum(axis=0) + handoff_ps
        else:
            busiest = shares.max(axis=0)
            most = by_kind[[EngineKind.DMA, EngineKind.TENSOR, EngineKind.VECTOR]].max(axis=0)
            time = busiest + (shares.sum(axis=0) - busiest) / np.maximum(most / 2, 1)
    return Costs(
        tally.dma_bytes,
        by_kind.sum(axis=0),
        time,
        busy[EngineKind.DMA],
        least,
        np.delete(busy, EngineKind.DMA, axis=0).max(axis=0),
        busy.sum(axis=0),
    )


def _shares(
    busy: Times, instructions: Times, slots: int, machine: Machine
) -> tuple[Floats, Floats]:
    """What each kind's ``busy`` time comes to when its engines share its ``instructions``; all are
    [kinds, candidates], in ps. First as if instructions could be cut, then as they are.

    Engines take whole instructions. While one copy of a buffer is filled, the others are computed
    on, each by one engine. DMA channels overlap set-ups, but the bus is one.
    """
    kinds = list(EngineKind)
    computing = max(1, slots - 1)
    units = np.array([[min(machine.engines[kind], computing)] for kind in kinds])
    units[EngineKind.DMA] = machine.engines[EngineKind.DMA]
    even: Floats = busy / units
    whole: Floats = busy * np.ceil(instructions / units) / np.maximum(instructions, 1)
    setup_ps = to_ps(machine.dma_setup_ns) * instructions[EngineKind.DMA]
    for shares in (even, whole):
        on_bus = busy[EngineKind.DMA] - setup_ps
        shares[EngineKind.DMA] = np.maximum(shares[EngineKind.DMA], on_bus)
    return even, whole
