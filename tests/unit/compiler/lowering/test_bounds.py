"""Bounds against hand-computed values."""

from __future__ import annotations

import pytest

from edgefusion.compiler.lowering.bounds import Bound, op_bound
from edgefusion.compiler.lowering.lower import context_of
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.target import load_target
from tests.lowering_cases import attention_case, conv_case, matmul_case, simple_case

MACHINE = load_target("exynos2400").machine


def bound_of(network: Network, machine: Machine) -> Bound:
    return op_bound(context_of(network, network.ops[0], machine, schedule_named("mlt")))


def test_attention_bound_is_compulsory_traffic_and_softmax() -> None:
    network = attention_case(4096, 4096, heads=8, depth=40)
    bound = bound_of(network, MACHINE)
    assert bound.nbytes == 4 * 4096 * 320 * 2
    drained = 8 * 2 * 4096**2 / MACHINE.tensor_drain_bytes_per_cycle  # scores leave the array
    fed = 8 * 2 * 4096**2 / MACHINE.tensor_feed_bytes_per_cycle  # and come back for the values
    assert bound.compute_ps == pytest.approx(1e12 * (drained + fed) / MACHINE.clock_hz, rel=1e-9)
    softmax = 8 * 4096**2 * MACHINE.vector_cycles["softmax"]
    lanes = MACHINE.vector_lanes * MACHINE.clock_hz
    assert bound.vector_ps == pytest.approx(1e12 * softmax / lanes, rel=1e-9)
    assert bound.time_ps == max(bound.compute_ps, bound.vector_ps, bound.dma_ps)


def test_products_are_bound_by_multiplying_or_by_the_slowest_port() -> None:
    deep, shallow = matmul_case(64, 1280, 1280), matmul_case(4096, 320, 320)
    loaded = 1280 * 1280 / MACHINE.tensor_load_bytes_per_cycle
    clock_ps = 1e12 / MACHINE.clock_hz
    assert bound_of(deep, MACHINE).compute_ps == pytest.approx(clock_ps * loaded, abs=1)
    multiplied = 4096 * 320 * 320 / (MACHINE.tensor_macs_per_cycle * MACHINE.tensor_rate["w8a16"])
    ports = 4096 * 320 * 2 / MACHINE.tensor_drain_bytes_per_cycle
    assert ports > multiplied
    assert bound_of(shallow, MACHINE).compute_ps == pytest.approx(clock_ps * ports, abs=1)
    wide = MACHINE.with_values(tensor_feed_bytes_per_cycle=1e9, tensor_drain_bytes_per_cycle=1e9)
    assert bound_of(shallow, wide).compute_ps == pytest.approx(clock_ps * multiplied, abs=1)


def test_conv_bytes_count_every_operand_once() -> None:
    network = conv_case(24, 20, 48, 96)
    expected = 24 * 20 * 48 * 2 + 96 * 48 * 9 + 96 * 4 + 96 * 8  # x, w, scales, bias
    expected += 96 * 2 + 24 * 20 * 96 * 2 * 2 + 2 * 96 * 8  # time, residual and y, statistics
    assert bound_of(network, MACHINE).nbytes == expected


def test_strided_pointwise_conv_skips_rows_and_columns() -> None:
    network = conv_case(24, 20, 48, 96, kernel=1, pad=0, stride=2, epilogue=False)
    touched = 12 * 10 * 48 * 2
    rest = 96 * 48 + 96 * 4 + 96 * 8 + 12 * 10 * 96 * 2
    assert bound_of(network, MACHINE).nbytes == touched + rest


def test_large_product_is_bound_by_sram_size() -> None:
    small = MACHINE.with_values(sram_bytes=4096)
    network = matmul_case(4096, 4096, 4096)
    assert bound_of(network, small).nbytes == int(2 * 4096**3 / 64 - 2 * 4096)
    assert bound_of(network, small).nbytes > bound_of(network, MACHINE).nbytes


def test_host_call_is_bound_by_its_transfer() -> None:
    network = simple_case("host")
    bound = bound_of(network, MACHINE)
    moved = 2 * network.tensor("x").nbytes
    expected = MACHINE.host_call_ns + 1e9 * moved / MACHINE.host_bandwidth_bytes_per_s
    assert bound.time_ps == pytest.approx(1000 * expected, abs=1)
