"""What emitted instructions cost, by the simulator's own functions: how candidates are compared."""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """By candidate: bytes that DMA moves, instructions, time and DMA time in picoseconds.

    Times are exact for schedules without overlap, estimates with it: the busiest engine's time
    plus one tile of everything else. One copy overlaps little, and is taken not to.
    """

    dma_bytes: Times
    instructions: Times
    time_ps: Floats
    dma_ps: Times


def measure(
    emitter: Emitter,
    slots: int,
    machine: Machine,
    schedule: Schedule,
    candidates: int,
    pauses: Mapping[int, tuple[int, int]] | None = None,
) -> Costs:
    """What was emitted dry costs; the ops of its instructions are the candidates' numbers.
    ``pauses`` says in which of them DMA waits for the vector engine (``LoweredKind.pauses``)."""
    program = emitter.builder.build()
    counts = counts_array(emitter)
    work = derive_work(program)
    duration = durations_ps(program, machine, work) * counts
    op, engine = program.columns.op, program.columns.engine
    dma_bytes = np.zeros(len(program), dtype=np.int64)
    dma_bytes[work.dma.index] = work.dma.useful_bytes * counts[work.dma.index]
    total_bytes = np.bincount(op, dma_bytes, candidates).astype(np.int64)
    instructions = np.bincount(op, counts, candidates).astype(np.int64)
    busy = np.zeros((len(EngineKind), candidates), dtype=np.int64)
    np.add.at(busy, (engine, op), duration)
    # One kind of engine after the other: each change of engine costs a semaphore.
    changes = np.zeros(len(program), dtype=bool)
    changes[1:] = (engine[1:] != engine[:-1]) & (op[1:] == op[:-1])
    handoffs = np.bincount(op, counts * changes, candidates) * to_ps(machine.semaphore_ns)
    if not schedule.overlap:
        return Costs(total_bytes, instructions, busy.sum(axis=0) + handoffs, busy[EngineKind.DMA])
    by_kind = np.zeros_like(busy)
    np.add.at(by_kind, (engine, op), counts)
    shares = _shares(busy, by_kind, slots, machine)
    for i, (count, nbytes) in (pauses or {}).items():
        ahead = count * 1e12 * nbytes / machine.dma_bandwidth_bytes_per_s
        shares[EngineKind.DMA, i] += max(0.0, shares[EngineKind.VECTOR, i] - ahead)
    if slots == 1:
        time = shares.sum(axis=0) + handoffs
    else:
        busiest = shares.max(axis=0)
        most = by_kind[[EngineKind.DMA, EngineKind.TENSOR, EngineKind.VECTOR]].max(axis=0)
        time = busiest + (shares.sum(axis=0) - busiest) / np.maximum(most / 2, 1)
    return Costs(total_bytes, instructions, time, busy[EngineKind.DMA])


def _shares(busy: Times, instructions: Times, slots: int, machine: Machine) -> Floats:
    """What each kind's ``busy`` time comes to when its engines share its ``instructions``; all are
    [kinds, candidates], in ps.

    Engines take whole instructions. While one copy of a buffer is filled, the others are computed
    on, each by one engine. DMA channels overlap set-ups, but the bus is one.
    """
    kinds = list(EngineKind)
    computing = max(1, slots - 1)
    units = np.array([[min(machine.engines[kind], computing)] for kind in kinds])
    units[EngineKind.DMA] = machine.engines[EngineKind.DMA]
    shares: Floats = busy * np.ceil(instructions / units) / np.maximum(instructions, 1)
    setup_ps = to_ps(machine.dma_setup_ns) * instructions[EngineKind.DMA]
    shares[EngineKind.DMA] = np.maximum(shares[EngineKind.DMA], busy[EngineKind.DMA] - setup_ps)
    return shares
