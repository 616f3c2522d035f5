"""Times a program on a machine: when each instruction starts and ends, and what engines wait for.

Every engine instance works through its instructions in program order. An instruction starts once
its engine is free and its dependencies have ended; a dependency that ran on another engine
instance costs a semaphore on top. A transfer is set up on its own DMA channel, then holds the DRAM
bus, which all channels share and which serves them in program order: bandwidth is conserved
exactly, and the end of an instruction depends on earlier instructions only. Times are integer
picoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefusion.runtime import cost
from edgefusion.runtime.compiled import compiled
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import I64, Program
from edgefusion.runtime.program_columns import describe
from edgefusion.runtime.work import Work, derive_work, durations_ps

STALL_REASONS = (*(kind.name.lower() for kind in EngineKind), "semaphore", "bus")
"""Why an engine waits: for a result from an engine of a kind (in the order of ``EngineKind``), for
the signal of it, or for the DRAM bus while another channel holds it."""
_DMA = int(EngineKind.DMA)
_SEMAPHORE, _BUS = STALL_REASONS.index("semaphore"), STALL_REASONS.index("bus")


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """A simulated program. For each engine, busy + stalls + idle is ``total_ps``, exactly.

    ``start_ps``, ``end_ps`` and ``duration_ps`` are int64[instructions]; the duration leaves out
    what a transfer waits for the bus, so ``end - start >= duration``. ``engine`` says which of
    ``engines`` ran an instruction. ``busy_ps`` and ``idle_ps`` (after the last instruction) are
    int64[engines], ``stall_ps`` int64[engines, STALL_REASONS].
    """

    start_ps: I64
    end_ps: I64
    duration_ps: I64
    engine: npt.NDArray[np.uint8]
    engines: tuple[str, ...]
    kinds: tuple[EngineKind, ...]
    busy_ps: I64
    stall_ps: I64
    idle_ps: I64
    work: Work

    @property
    def total_ps(self) -> int:
        """The makespan: end of the last instruction to end."""
        return int(self.end_ps.max(initial=0))

    def busy_ps_by_kind(self) -> dict[EngineKind, int]:
        """Busy time of all engines of each kind together."""
        total = dict.fromkeys(EngineKind, 0)
        for kind, busy in zip(self.kinds, self.busy_ps.tolist(), strict=True):
            total[kind] += busy
        return total

    def __repr__(self) -> str:
        return (
            f"<Timeline: {self.total_ps:,} ps, {len(self.start_ps):,} instructions on "
            f"{', '.join(self.engines)}>"
        )


def engine_instances(machine: Machine) -> dict[str, EngineKind]:
    """Names and kinds of a machine's engines: dma0.., tensor0.., vector0.., host0."""
    return {
        f"{kind.name.lower()}{unit}": kind
        for kind in EngineKind
        for unit in range(machine.engines[kind])
    }


def simulate(program: Program, machine: Machine) -> Timeline:
    """Time a program. Raises InputError for an engine that the machine lacks, a dependency that
    does not point backwards, and whatever ``derive_work`` refuses."""
    work = derive_work(program)
    duration = durations_ps(program, machine, work)
    instances = engine_instances(machine)
    kinds = tuple(instances.values())
    engine = _engine_of(program, kinds)
    count, reasons = len(kinds), len(STALL_REASONS)
    start, end = np.zeros_like(duration), np.zeros_like(duration)
    busy, stall = np.zeros(count, dtype=np.int64), np.zeros((count, reasons), dtype=np.int64)
    last_end = np.zeros(count, dtype=np.int64)
    setup_ps, semaphore_ps = cost.to_ps([machine.dma_setup_ns, machine.semaphore_ns]).tolist()
    broken = _run(
        engine,
        np.array(kinds, dtype=np.int64),
        duration,
        program.columns.dep_begin,
        program.columns.deps,
        setup_ps,
        semaphore_ps,
        start,
        end,
        busy,
        stall,
        last_end,
    )
    if broken >= 0:
        c = program.columns
        found = c.deps[c.dep_begin[broken] : c.dep_begin[broken + 1]].tolist()
        raise InputError(
            f"{describe(program, broken)}: expected dependencies on earlier instructions "
            f"(0 to {broken - 1}), found {found}. Compile the model again."
        )
    idle = end.max(initial=0) - last_end
    return Timeline(start, end, duration, engine, tuple(instances), kinds, busy, stall, idle, work)


def _engine_of(program: Program, kinds: tuple[EngineKind, ...]) -> npt.NDArray[np.uint8]:
    c = program.columns
    count = np.array([kinds.count(kind) for kind in EngineKind])
    first = np.cumsum(count) - count
    missing = c.unit >= count[c.engine]
    if missing.any():
        at = int(np.argmax(missing))
        kind = EngineKind(int(c.engine[at])).name.lower()
        raise InputError(
            f"{describe(program, at)}: it is for {kind}{c.unit[at]}, but the machine has "
            f"{count[c.engine[at]]} {kind} engines. Compile the model for this target."
        )
    engine: npt.NDArray[np.uint8] = (first[c.engine] + c.unit).astype(np.uint8)
    return engine


@compiled
def _run(
    engine: npt.NDArray[np.uint8],
    kinds: I64,
    duration: I64,
    dep_begin: I64,
    deps: npt.NDArray[np.int32],
    setup_ps: int,
    semaphore_ps: int,
    start: I64,
    end: I64,
    busy: I64,
    stall: I64,
    last_end: I64,
) -> int:
    """Fill the last five arrays; return the first instruction with a wrong dependency, or -1."""
    bus_free = 0
    for i in range(len(duration)):
        own = engine[i]
        free = last_end[own]
        ready, signal, waits_for = free, 0, 0
        for d in range(dep_begin[i], dep_begin[i + 1]):
            on = deps[d]
            if on < 0 or on >= i:
                return i
            delay = 0 if engine[on] == own else semaphore_ps
            if end[on] + delay > ready:  # the latest dependency decides; of equals, the first
                ready, signal, waits_for = end[on] + delay, delay, kinds[engine[on]]
        if ready > free:
            by_signal = min(signal, ready - free)
            stall[own, _SEMAPHORE] += by_signal
            stall[own, waits_for] += ready - free - by_signal
        start[i] = ready
        end[i] = ready + duration[i]
        if kinds[own] == _DMA:
            transfer_start = max(ready + setup_ps, bus_free)
            stall[own, _BUS] += transfer_start - (ready + setup_ps)
            end[i] = transfer_start + duration[i] - setup_ps
            bus_free = end[i]
        busy[own] += duration[i]
        last_end[own] = end[i]
    return -1
