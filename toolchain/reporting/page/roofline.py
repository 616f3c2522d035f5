"""What the machine could do at most, and how near each op comes to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.machine import TENSOR_RATES, Machine
from edgefusion.toolchain.profiling.profile import ComponentProfile, OpProfile, Profile

_PS_PER_S = 1e12


def machine_roofs(machine: Machine) -> list[dict[str, Any]]:
    """Multiply-accumulates a second that all tensor engines reach, by pair of operand types."""
    peak = (
        machine.tensor_macs_per_cycle
        * machine.tensor_utilisation
        * machine.clock_hz
        * machine.engines[EngineKind.TENSOR]
    )
    return [
        {"precision": name, "macs_per_s": peak * machine.tensor_rate[name]} for name in TENSOR_RATES
    ]


def roofline_points(profile: Profile) -> list[dict[str, Any]]:
    """A row an op that multiplies: its MACs for a DRAM byte, and those a second that it reaches.

    The time is what stands against its bound, so no op can lie above its roof.
    """
    precisions = {c.name: _precisions(c) for c in profile.components}
    return [
        {
            "component": op.component,
            "name": op.latency.name,
            "path": op.path,
            "precision": precisions[op.component].get(op.latency.name, ""),
            "macs_per_byte": op.macs / op.dram_bytes,
            "macs_per_s": op.macs * _PS_PER_S / op.latency.reached_ps,
            "ratio": op.latency.ratio,
            "limited_by": op.limited_by.name.lower(),
            "share_percent": 100 * op.share,
        }
        for op in profile.ops
        if _has_place(op)
    ]


def _has_place(op: OpProfile) -> bool:
    return bool(op.macs and op.dram_bytes and op.latency.reached_ps)


def _precisions(component: ComponentProfile) -> dict[str, str]:
    """By op: the operand types of most of its multiply-accumulates."""
    program, work = component.program, component.timeline.work.tensor
    sums = np.zeros((len(program.ops), len(TENSOR_RATES)), dtype=np.int64)
    np.add.at(sums, (program.columns.op[work.index], work.rate_class), work.macs)
    return {
        record.name: TENSOR_RATES[int(np.argmax(row))]
        for record, row in zip(program.ops, sums, strict=True)
        if row.any()
    }
