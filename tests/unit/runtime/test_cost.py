"""The cost model at points computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.runtime import cost
from edgefusion.runtime.isa import VECTOR_FUNCTIONS
from edgefusion.runtime.target import load_target

MACHINE = load_target("exynos2400").machine.with_values(
    clock_hz=1e9,
    dma_bandwidth_bytes_per_s=1e9,
    dma_setup_ns=10.0,
    dma_burst_bytes=64,
    tensor_macs_per_cycle=1000,
    tensor_utilisation=0.5,
    tensor_granularity_m=16,
    tensor_granularity_n=32,
    tensor_granularity_k=32,
    tensor_feed_bytes_per_cycle=8.0,
    tensor_load_bytes_per_cycle=5.0,
    tensor_drain_bytes_per_cycle=4.0,
    tensor_fill_cycles=7.0,
    vector_lanes=8,
    vector_startup_cycles=3.0,
    host_call_ns=100.0,
    host_bandwidth_bytes_per_s=2e9,
    host_macs_per_s=1e9,
)


@pytest.mark.parametrize(
    ("rows", "row_bytes", "expected"),
    [(1, 64, 64), (1, 65, 128), (10, 2, 640), (10, 0, 0), (3, 200, 768)],
)
def test_every_row_pays_whole_bursts(rows: int, row_bytes: int, expected: int) -> None:
    assert cost.bus_bytes(MACHINE, rows, row_bytes) == expected
    assert cost.dma_ns(MACHINE, rows, row_bytes) == 10 + expected


def test_dma_columns_equal_scalars() -> None:
    rows, row_bytes = np.array([1, 4]), np.array([100, 3])
    together = cost.dma_ns(MACHINE, rows, row_bytes)
    singly = [float(cost.dma_ns(MACHINE, *pair)) for pair in zip(rows, row_bytes, strict=True)]
    assert together.tolist() == singly


@pytest.mark.parametrize(
    ("sizes", "ports", "rate", "cycles"),
    [
        ((16, 32, 32), (200, 100, 100), 1.0, 16 * 32 * 32 / 500),  # multiplies
        ((1, 1, 1), (8, 8, 8), 0.125, 16 * 32 * 32 / 62.5),  # padded in m, n and k
        ((16, 32, 32), (40000, 1000, 1000), 1.0, 5000),  # fed
        ((16, 32, 32), (1000, 40000, 1000), 1.0, 8000),  # loaded
        ((16, 32, 32), (1000, 1000, 40000), 1.0, 10000),  # drained
    ],
)
def test_tensor_takes_its_slowest_part(
    sizes: tuple[int, int, int], ports: tuple[int, int, int], rate: float, cycles: float
) -> None:
    assert cost.tensor_ns(MACHINE, *sizes, *ports, rate) == pytest.approx(cycles + 7)


def test_tensor_batch_multiplies_all_but_fill_and_ports() -> None:
    one = cost.tensor_ns(MACHINE, 20, 40, 320, 1, 1, 1, 1.0) - 7
    assert cost.tensor_ns(MACHINE, 20, 40, 320, 1, 1, 1, 1.0, 6) == pytest.approx(6 * one + 7)
    assert cost.tensor_ns(MACHINE, 1, 1, 1, 10**6, 1, 1, 1.0, 6) == pytest.approx(125_000 + 7)


@pytest.mark.parametrize(("elements", "waves"), [(0, 0), (1, 1), (8, 1), (9, 2), (80, 10)])
def test_vector_works_in_waves(elements: int, waves: int) -> None:
    assert cost.vector_ns(MACHINE, elements, 2.5) == waves * 2.5 + 3


def test_host_call_moves_or_computes_whichever_is_slower() -> None:
    assert cost.host_ns(MACHINE, 1000) == 100 + 500
    assert cost.host_ns(MACHINE, 1000, 499) == 100 + 500
    assert cost.host_ns(MACHINE, 1000, 5000) == 100 + 5000


def test_tables_follow_their_order() -> None:
    assert cost.tensor_rates(MACHINE).tolist() == [
        MACHINE.tensor_rate[name] for name in ("w8a8", "w8a16", "a16a16", "fp16")
    ]
    softmax = VECTOR_FUNCTIONS.index("softmax")
    assert cost.vector_costs(MACHINE)[softmax] == MACHINE.vector_cycles["softmax"]


def test_picoseconds_are_rounded_integers() -> None:
    ps = cost.to_ps([0.0, 1.0, 0.0004, 0.0006, 1e6])
    assert ps.dtype == np.int64
    assert ps.tolist() == [0, 1000, 0, 1, 10**9]
