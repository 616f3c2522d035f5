"""Counters of a trace: DRAM bandwidth and SRAM in use, over one evaluation of a component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.program import I64
from edgefusion.runtime.waits import Waits
from edgefusion.toolchain.profiling.profile import ComponentProfile
from edgefusion.toolchain.reporting.sram_occupancy import sram_occupancy

GB_PER_S = "GB/s"
BYTES = "bytes"
_WINDOWS = 512
_NS, _US = 10**3, 10**6


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """``value`` holds from ``time_ps`` (ascending) on, in ``unit``; the last one is 0."""

    name: str
    unit: str
    time_ps: I64
    value: npt.NDArray[Any]


def curves_of(component: ComponentProfile, waits: Waits) -> tuple[Curve, ...]:
    """Useful bytes a second of DRAM, as a mean over 1/512 of the evaluation and of each transfer
    while it holds the bus, and the bytes of SRAM in use."""
    timeline, sram = component.timeline, sram_occupancy(component)
    index, nbytes = timeline.work.dma.index, timeline.work.dma.useful_bytes
    held = timeline.duration_ps[index] > 0
    order = np.argsort(waits.bus_start_ps[index][held], kind="stable")
    index, nbytes = index[held][order], nbytes[held][order]
    begin, end = waits.bus_start_ps[index], timeline.end_ps[index]
    return (
        _mean_rate(begin, end, nbytes, timeline.total_ps),
        _transfer_rate(begin, end, nbytes),
        Curve("SRAM in use", BYTES, sram.at_ps, sram.in_use_bytes),
    )


def _mean_rate(begin: I64, end: I64, nbytes: I64, total_ps: int) -> Curve:
    """Bytes arrive evenly while a transfer holds the bus, which has one at a time."""
    window_ps = max(1, -(-total_ps // (_WINDOWS * _NS))) * _NS
    edges = np.arange(0, total_ps + window_ps, window_ps, dtype=np.int64)
    known = np.stack([begin, end], axis=1).ravel().astype(np.float64)
    moved = np.cumsum(nbytes).astype(np.float64)
    so_far = np.stack([moved - nbytes, moved], axis=1).ravel()
    at_edges = np.interp(edges, known, so_far) if len(known) else np.zeros(len(edges))
    length_ps = np.diff(np.append(edges[:-1], max(total_ps, 1)))
    rate = np.append(np.diff(at_edges) * 1e3 / length_ps, 0.0)
    times = np.append(edges[:-1], total_ps)
    return Curve(f"DRAM bandwidth (mean of {window_ps / _US:g} µs)", GB_PER_S, times, rate)


def _transfer_rate(begin: I64, end: I64, nbytes: I64) -> Curve:
    rate = np.stack([nbytes * 1e3 / np.maximum(end - begin, 1), np.zeros(len(begin))], axis=1)
    times = np.stack([begin, end], axis=1)
    return Curve("DRAM transfer rate", GB_PER_S, times.ravel(), rate.ravel())
