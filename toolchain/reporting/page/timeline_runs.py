"""What the engines do over time, as runs: instructions of one op that follow each other on one
engine without a gap. Nothing is averaged; a page draws as few of them as its width can show.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.latency import PS_PER_MS
from edgefusion.runtime.simulator import STALL_REASONS
from edgefusion.toolchain.profiling.profile import ComponentProfile

PS_PER_US = 10**6


def timeline_runs(component: ComponentProfile) -> dict[str, list[Any]]:
    """Columns of one evaluation's runs, each engine's in order of time: ``engine`` and ``op`` are
    indices, ``start_us`` and ``end_us`` times, ``instructions`` how many, ``bytes`` what DMA moved
    (0 on other engines), and ``causes`` has the bit ``1 << Cause`` of each cause of them."""
    columns, timeline = component.program.columns, component.timeline
    order = np.argsort(timeline.engine, kind="stable")
    engine, op = timeline.engine[order], columns.op[order]
    start, end = timeline.start_ps[order], timeline.end_ps[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (engine[1:] != engine[:-1]) | (op[1:] != op[:-1]) | (start[1:] > end[:-1])
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(order)) - 1
    moved = np.zeros(len(order), dtype=np.int64)
    moved[timeline.work.dma.index] = timeline.work.dma.useful_bytes
    cause_bit = np.where(columns.engine == EngineKind.DMA, 1 << columns.cause.astype(np.int64), 0)
    return {
        "engine": engine[first].tolist(),
        "op": op[first].tolist(),
        "start_us": (start[first] / PS_PER_US).tolist(),
        "end_us": (end[last] / PS_PER_US).tolist(),
        "instructions": (last - first + 1).tolist(),
        "bytes": np.add.reduceat(moved[order], first).tolist(),
        "causes": np.bitwise_or.reduceat(cause_bit[order], first).tolist(),
    }


def engine_times(component: ComponentProfile) -> list[dict[str, Any]]:
    """For each engine of one evaluation, in ms: busy, waiting by reason, and idle after its last
    instruction; they add up to the component's latency."""
    timeline = component.timeline
    return [
        {
            "component": component.name,
            "evaluations": component.evaluations,
            "engine": name,
            "kind": timeline.kinds[index].name.lower(),
            "busy_ms": int(timeline.busy_ps[index]) / PS_PER_MS,
            "stalls_ms": {
                reason: int(ps) / PS_PER_MS
                for reason, ps in zip(STALL_REASONS, timeline.stall_ps[index], strict=True)
            },
            "idle_ms": int(timeline.idle_ps[index]) / PS_PER_MS,
        }
        for index, name in enumerate(timeline.engines)
    ]
