"""Waits of instructions are the stalls of the timeline, told apart."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.benchmarks.simulator_speed import synthetic_program
from edgefusion.runtime.simulator import STALL_REASONS, simulate
from edgefusion.runtime.target import load_target
from edgefusion.runtime.waits import waits_of

MACHINE = load_target("exynos2400").machine


@pytest.mark.parametrize("semaphore_ns", [0, 50, 10**7])
def test_waits_add_up_to_the_stalls(semaphore_ns: int) -> None:
    machine = MACHINE.with_values(semaphore_ns=semaphore_ns)
    program = synthetic_program(500)
    timeline = simulate(program, machine)
    waits = waits_of(program, timeline, machine)
    assert ((waits.on >= 0) == (waits.result_ps + waits.signal_ps > 0)).all()
    found = np.zeros_like(timeline.stall_ps)
    waiting = np.flatnonzero(waits.on >= 0)
    of = np.array(timeline.kinds)[timeline.engine[waits.on[waiting]]]
    np.add.at(found, (timeline.engine[waiting], of), waits.result_ps[waiting])
    for reason, values in (("semaphore", waits.signal_ps), ("bus", waits.bus_ps)):
        np.add.at(found, (timeline.engine, STALL_REASONS.index(reason)), values)
    assert found.tolist() == timeline.stall_ps.tolist()
    assert found.sum() > 0
