"""Chains of ops, drawn: any plan gives the same bits, the cheapest is never slower than none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.measurement import bound_violations, component_latency
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target
from tests.group_cases import CASES, EVERYTHING, KIB, ChainBuilder, any_plan, execute, in_half

MACHINE = load_target("exynos2400").machine


@st.composite
def chains(draw: st.DrawFn) -> Network:
    """A few ops on an image, some with statistics, some with sums of what came before."""
    c = ChainBuilder()
    channels = draw(st.sampled_from([8, 12]))
    height, width = draw(st.integers(5, 14)), draw(st.integers(4, 10))
    x = c.conv(c.input(1, height, width, 4), channels, stats=draw(st.booleans()))
    known = [x]
    for _ in range(draw(st.integers(1, 5))):
        what = draw(st.sampled_from(["conv", "conv", "norm", "unary", "scale", "concat"]))
        same = [name for name in known if c.shape(name) == c.shape(x)]
        if what == "norm" and x in c.sums:
            x = c.group_norm(x)
        elif what == "unary":
            x = c.unary(x, "silu")
        elif what == "scale" and c.shape(x)[1] > 4:
            x = c.conv(x, channels, stride=2)
        elif what == "scale" and draw(st.booleans()):
            x = c.conv(x, channels, upsample=2)
        elif what == "scale":
            x = c.transposed(x, channels, kernel=draw(st.integers(2, 5)))
        elif what == "concat" and len(same) > 1:
            x = c.concat(x, same[0])
        elif draw(st.booleans()) and c.shape(x)[-1] == channels:
            x = c.conv(x, channels, add=draw(st.sampled_from(same)))
        else:
            kernel = draw(st.sampled_from([1, 3, 5]))
            x = c.conv(x, channels, kernel=kernel, stats=draw(st.booleans()))
        known.append(x)
    return c.build(x)


@settings(max_examples=12)
@given(chains(), st.sampled_from([6, 8, 12, 20]), st.integers(0, 2**16), st.booleans())
def test_any_plan_gives_the_same_bits(
    network: Network, sram_kib: int, seed: int, two_engines: bool
) -> None:
    (name,) = network.outputs
    wanted = execute(network, MACHINE, schedule_named("serial")).execution.outputs[name]
    engines = 1 + two_engines
    machine = MACHINE.with_values(
        sram_bytes=sram_kib * KIB, tensor_engines=engines, vector_engines=engines
    )
    try:
        with any_plan(seed):
            run = execute(network, machine, EVERYTHING)
    except DoesNotFitError:
        assume(False)
    np.testing.assert_array_equal(run.execution.outputs[name], wanted)
    assert bound_violations(component_latency(run.lowered.program, machine)) == []


@pytest.mark.parametrize(
    ("case", "half"),
    [
        ("wide tail", False),
        ("wide tail", True),
        ("transformer", True),
        ("image transformer", False),
        ("convs", True),
    ],
)
def test_pipelined_is_never_slower_than_mlt(case: str, half: bool) -> None:
    network = in_half(CASES[case]()) if half else CASES[case]()
    for sram_kib in (32, 256):
        for bandwidth in (1e9, 60e9):
            machine = MACHINE.with_values(
                sram_bytes=sram_kib * KIB, dma_bandwidth_bytes_per_s=bandwidth
            )
            mlt, pipelined = (
                simulate(lower(network, machine, schedule_named(name)).program, machine).total_ps
                for name in ("mlt", "pipelined")
            )
            assert pipelined <= mlt, f"{sram_kib} KiB, {bandwidth / 1e9} GB/s"
