"""SRAM in use over time: from a program's buffers and a timeline of it."""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.isa import Space
from edgefusion.runtime.program import I64, Program
from edgefusion.runtime.simulator import Timeline


def sram_in_use(program: Program, timeline: Timeline) -> tuple[I64, I64]:
    """Picoseconds at which the bytes in use change, ascending, and the bytes from then on.

    A buffer is in use from the start of its first instruction to the end of its last one; what it
    gives way to is ordered after that, so no byte counts twice.
    """
    buffers = [b for b in program.buffers if b.space == Space.SRAM]
    table = np.array([(b.first, b.last, b.nbytes) for b in buffers], np.int64).reshape(-1, 3)
    first, last, nbytes = table.T
    times = np.concatenate([timeline.start_ps[first], timeline.end_ps[last]])
    at, index = np.unique(times, return_inverse=True)
    change = np.zeros(len(at), np.int64)
    np.add.at(change, index, np.concatenate([nbytes, -nbytes]))
    return at, np.cumsum(change)
