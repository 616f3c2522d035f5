"""How much SRAM is in use from when to when: a program's buffers, laid over its timeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgefusion.runtime.isa import Space
from edgefusion.runtime.program import I64
from edgefusion.toolchain.profiling.profile import ComponentProfile


@dataclass(frozen=True, slots=True, eq=False)
class Occupancy:
    """From ``at_ps[i]`` until ``at_ps[i + 1]``, ``in_use_bytes[i]`` are held; both are
    int64[changes], in order of time, and begin at 0."""

    at_ps: I64
    in_use_bytes: I64

    @property
    def peak_bytes(self) -> int:
        """The most that is held at any moment."""
        return int(self.in_use_bytes.max(initial=0))

    def mean_bytes(self, until_ps: int) -> float:
        """The average from 0 to ``until_ps``, which is not before the last change."""
        if not until_ps:
            return 0.0
        spans = np.diff(np.append(self.at_ps, until_ps))
        return float((spans * self.in_use_bytes).sum() / until_ps)


def sram_occupancy(component: ComponentProfile) -> Occupancy:
    """SRAM in use during one evaluation.

    A buffer is held from the start of the first instruction that uses it to the end of the last, in
    the program's order.
    """
    records = [buffer for buffer in component.program.buffers if buffer.space == Space.SRAM]
    table = np.array([(b.first, b.last, b.nbytes) for b in records], dtype=np.int64).reshape(-1, 3)
    first, last, nbytes = table.T
    timeline = component.timeline
    at = np.concatenate([[0], timeline.start_ps[first], timeline.end_ps[last]])
    change = np.concatenate([[0], nbytes, -nbytes])
    moments, group = np.unique(at, return_inverse=True)
    sums = np.zeros(len(moments), dtype=np.int64)
    np.add.at(sums, group, change)
    return Occupancy(moments.astype(np.int64), np.cumsum(sums))
