"""What the groups of a program would take if DMA were always as far ahead as SRAM has room.

Between the latency that a program has and the bound of its groups lies what their tilings cost
(operands that pass again, ports of the array) and what waits cost. This figure tells them apart:
every instruction is there, each engine does those of a group while it works on that group, and no
more than one filling of SRAM has been transferred before. It is no lower limit of all programs of
these groups, as ops without a dependence between them may run side by side across a border.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.cost import to_ps
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.latency import ComponentLatency
from edgefusion.runtime.machine import Machine


def ahead_ps(component: ComponentLatency, machine: Machine) -> int:
    """Picoseconds of one run of ``component``.

    Of all ways to divide its groups, in order, into stretches, the most: in each the busiest engine
    does all the work of the stretch, DMA less what SRAM can hold of it when the stretch begins.
    """
    busy = np.zeros((len(EngineKind), len(component.groups)))
    ops = {op.name: op for op in component.ops}
    for index, group in enumerate(component.groups):
        for name in group.ops:
            for kind, ps in ops[name].busy_ps.items():
                busy[kind, index] += ps / machine.engines[kind]
    filling_ps = to_ps(1e9 * machine.sram_bytes / machine.dma_bandwidth_bytes_per_s)
    return int(_longest(busy, int(filling_ps)))


def _longest(busy: npt.NDArray[np.float64], filling_ps: int) -> float:
    """By dynamic programming over where the last stretch begins; ``busy`` is [kinds, groups]."""
    before = np.concatenate([np.zeros((len(busy), 1)), busy.cumsum(axis=1)], axis=1)
    most = np.zeros(busy.shape[1] + 1)
    for stop in range(1, len(most)):
        stretch = before[:, [stop]] - before[:, :stop]
        stretch[EngineKind.DMA, 1:] -= filling_ps  # at the very beginning SRAM is empty
        most[stop] = (most[:stop] + stretch.max(axis=0)).max()
    return float(most[-1])
