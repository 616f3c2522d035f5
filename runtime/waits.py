"""What each instruction of a simulated program waited for, and how long.

A ``Timeline`` has these times added up by engine and reason; here they stand by instruction, told
apart by the simulator's own rule: the latest dependency decides, of equals the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgefusion.runtime import cost
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import I64, Program
from edgefusion.runtime.simulator import Timeline


@dataclass(frozen=True, slots=True, eq=False)
class Waits:
    """All int64[instructions]. ``on`` is the instruction whose end decided the start, -1 where the
    engine was free too late for any to matter; ``result_ps`` the time until that end, after which
    ``signal_ps`` passed until its semaphore was seen. ``bus_ps`` is what a transfer that was set up
    waited for the DRAM bus, and ``bus_start_ps`` when it got it (its start, for others).
    """

    on: I64
    result_ps: I64
    signal_ps: I64
    bus_ps: I64
    bus_start_ps: I64


def waits_of(program: Program, timeline: Timeline, machine: Machine) -> Waits:
    """The waits behind ``timeline``, which is ``program``'s on ``machine``."""
    setup_ps, semaphore_ps = cost.to_ps([machine.dma_setup_ns, machine.semaphore_ns]).tolist()
    start, engine = timeline.start_ps, timeline.engine
    free = _free_ps(timeline)
    on, signal = _deciding(program, timeline, semaphore_ps)
    gap = start - free
    on[gap == 0] = -1
    signal_ps = np.where(gap > 0, np.minimum(signal, gap), 0)
    is_dma = np.array(timeline.kinds)[engine] == EngineKind.DMA
    bus_start = np.where(is_dma, timeline.end_ps - (timeline.duration_ps - setup_ps), start)
    bus_ps = np.where(is_dma, bus_start - (start + setup_ps), 0)
    return Waits(on, gap - signal_ps, signal_ps, bus_ps, bus_start)


def _free_ps(timeline: Timeline) -> I64:
    """When the engine of each instruction had ended what it had to do before."""
    free = np.zeros_like(timeline.start_ps)
    order = np.argsort(timeline.engine, kind="stable")
    same = timeline.engine[order[1:]] == timeline.engine[order[:-1]]
    free[order[1:][same]] = timeline.end_ps[order[:-1][same]]
    return free


def _deciding(program: Program, timeline: Timeline, semaphore_ps: int) -> tuple[I64, I64]:
    """Of each instruction, the dependency that is seen last (-1 if it has none), and the part of
    that time which its semaphore took."""
    c = program.columns
    count = np.diff(c.dep_begin)
    of = np.repeat(np.arange(len(program)), count)
    signal = np.where(timeline.engine[c.deps] == timeline.engine[of], 0, semaphore_ps)
    seen = timeline.end_ps[c.deps] + signal
    order = np.lexsort((np.arange(len(of)), -seen, of))
    first = order[c.dep_begin[:-1][count > 0]]
    on, signals = np.full(len(program), -1, np.int64), np.zeros(len(program), np.int64)
    on[count > 0], signals[count > 0] = c.deps[first], signal[first]
    return on, signals
