"""The bound along a chain of cuts, on work and networks that can be added up by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from edgefusion.compiler.lowering.chain_bound import chain_ps
from edgefusion.compiler.lowering.dram_views import unlowered
from edgefusion.compiler.network.network import NetOp, Network
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.groups import EngineBounds
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.target import load_target
from tests.group_cases import ChainBuilder

SLOW = 1e9
"""Bytes a second: a byte takes a nanosecond."""
MACHINE = load_target("exynos2400").machine.with_values(dma_bandwidth_bytes_per_s=SLOW)
FAST = MACHINE.with_values(dma_bandwidth_bytes_per_s=1e15)


def ops_of(network: Network) -> list[NetOp]:
    return [op for op in network.ops if not op.kind.is_view]


def bound_ps(network: Network, machine: Machine, work: Mapping[str, EngineBounds]) -> int:
    ops = ops_of(network)
    assert set(work) <= {op.name for op in ops}
    least = {op.name: work.get(op.name, EngineBounds()) for op in ops}
    return chain_ps(ops, unlowered(network, machine, schedule_named("pipelined")), least)


def block() -> Network:
    """conv1, group_norm2, conv3, group_norm4, conv5."""
    c = ChainBuilder()
    x = c.input(1, 8, 8, 16)
    h = c.conv(x, 16, stats=True)
    h = c.conv(c.group_norm(h), 16, stats=True)
    return c.build(c.conv(c.group_norm(h), 16))


def tensor(ps: int) -> EngineBounds:
    return EngineBounds(tensor_ps=ps)


def vector(ps: int) -> EngineBounds:
    return EngineBounds(vector_ps=ps)


def test_without_a_cut_engines_overlap() -> None:
    c = ChainBuilder()
    network = c.build(c.conv(c.conv(c.input(1, 8, 8, 16), 16), 16))
    work = {"conv1": tensor(70_000), "conv2": vector(50_000)}
    assert bound_ps(network, FAST, work) == 70_000


def test_between_statistics_the_busiest_engine_counts() -> None:
    work = {
        "conv1": tensor(70_000),
        "group_norm2": vector(90_000),
        "conv3": tensor(30_000),
        "group_norm4": vector(1_000),
        "conv5": tensor(20_000),
    }
    assert bound_ps(block(), FAST, work) == 70_000 + 90_000 + 20_000


def test_an_operand_added_in_the_end_is_not_waited_for() -> None:
    """The conv behind both norms adds a tensor; a conv that makes it may run at any time."""
    c = ChainBuilder()
    x = c.input(1, 8, 8, 16)
    h = c.conv(x, 16, stats=True)
    beside = c.conv(x, 16, kernel=1)
    network = c.build(c.conv(c.group_norm(h), 16, add=beside))
    work = {"conv1": tensor(10_000), "conv2": vector(15_000), "conv4": tensor(20_000)}
    assert bound_ps(network, FAST, work) == 30_000


def test_what_reads_k_waits_for_all_of_it_with_its_results_alone() -> None:
    c = ChainBuilder()
    x = c.input(16, 32)
    q, k, v = (c.linear(x, 32) for _ in range(3))
    network = c.build(c.linear(c.attention(q, k, v, heads=2), 32))
    ops = {op.kind.name: op.name for op in ops_of(network)}
    last = [op.name for op in ops_of(network) if op.kind.name == "matmul"][-1]
    work = {"matmul2": tensor(10_000), last: tensor(5_000), ops["attention"]: vector(7_000)}
    # Some of the attention may be done while K comes in, but what follows may not begin.
    assert bound_ps(network, FAST, work) == 15_000


@pytest.mark.parametrize("sram_bytes", [1, 1000, 10**6])
def test_constants_cross_the_bus_less_one_filling_of_sram(sram_bytes: int) -> None:
    """While the first conv computes, what it does not need itself may come in already."""
    network = block()
    (first, *others) = ops_of(network)
    names = {n for op in others for n in op.inputs if n and network.tensor(n).constant}
    names |= {network.tensor(n).scale_tensor for n in names} - {""}
    left = max(0, sum(network.tensor(n).nbytes for n in names) - sram_bytes)
    machine = MACHINE.with_values(sram_bytes=sram_bytes)
    assert bound_ps(network, machine, {first.name: tensor(10**9)}) == 10**9 + left * 1000
