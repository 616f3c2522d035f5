"""What an instruction costs: pure functions of a machine and the size of the work.

The tile search, the bounds and the simulator all call these functions, on scalars or on whole
columns. Times are nanoseconds; ``to_ps`` rounds them to the integer picoseconds that the simulator
adds up, so that sums are exact in any order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.isa import VECTOR_FUNCTIONS
from edgefusion.runtime.machine import TENSOR_RATES, Machine

Array = npt.NDArray[np.float64]

COST_MODEL_VERSION = 3
RATE_CLASSES = TENSOR_RATES


def bus_bytes(machine: Machine, rows: npt.ArrayLike, row_bytes: npt.ArrayLike) -> Array:
    """Bytes that cross the bus for ``rows`` contiguous runs of ``row_bytes``: whole bursts each."""
    burst = machine.dma_burst_bytes
    return np.asarray(np.ceil(np.divide(row_bytes, burst)) * burst * rows, dtype=np.float64)


def dma_ns(machine: Machine, rows: npt.ArrayLike, row_bytes: npt.ArrayLike) -> Array:
    """Time of one DMA transfer: set-up, then bus bytes over the bandwidth."""
    seconds = bus_bytes(machine, rows, row_bytes) / machine.dma_bandwidth_bytes_per_s
    return np.asarray(machine.dma_setup_ns + 1e9 * seconds)


def tensor_ns(
    machine: Machine,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    feed_bytes: npt.ArrayLike,
    load_bytes: npt.ArrayLike,
    drain_bytes: npt.ArrayLike,
    rate: npt.ArrayLike,
    batch: npt.ArrayLike = 1,
) -> Array:
    """Time of ``batch`` products m x n x k: the slowest of multiplying and of the array's three
    ports, plus one fill. Each product is padded to the array's granularity on its own.

    Of all the batch, ``feed_bytes`` of the first operand stream into the array, ``load_bytes`` of
    the second, which it holds, come before their turn (the array is double-buffered), and
    ``drain_bytes`` of results leave it; ``rate`` is the fraction of the peak for the operand types
    (``Machine.tensor_rate``).
    """
    padded = (
        _round_up(m, machine.tensor_granularity_m)
        * _round_up(n, machine.tensor_granularity_n)
        * _round_up(k, machine.tensor_granularity_k)
    )
    peak = machine.tensor_macs_per_cycle * machine.tensor_utilisation
    mac_cycles = np.multiply(padded, batch) / (peak * np.asarray(rate, dtype=np.float64))
    cycles = np.maximum(
        mac_cycles, tensor_port_cycles(machine, feed_bytes, load_bytes, drain_bytes)
    )
    return np.asarray((cycles + machine.tensor_fill_cycles) * 1e9 / machine.clock_hz)


def tensor_port_cycles(
    machine: Machine,
    feed_bytes: npt.ArrayLike,
    load_bytes: npt.ArrayLike,
    drain_bytes: npt.ArrayLike,
) -> Array:
    """Cycles of the tensor engine's slowest port: feeding, loading and draining overlap."""
    feed = np.divide(feed_bytes, machine.tensor_feed_bytes_per_cycle)
    load = np.divide(load_bytes, machine.tensor_load_bytes_per_cycle)
    drain = np.divide(drain_bytes, machine.tensor_drain_bytes_per_cycle)
    return np.asarray(np.maximum(np.maximum(feed, load), drain))


def vector_ns(
    machine: Machine, elements: npt.ArrayLike, cycles_per_element: npt.ArrayLike
) -> Array:
    """Time of a vector instruction over ``elements`` at a lane cost (``Machine.vector_cycles``)."""
    waves = np.ceil(np.divide(elements, machine.vector_lanes))
    cycles = waves * cycles_per_element + machine.vector_startup_cycles
    return np.asarray(cycles * 1e9 / machine.clock_hz)


def host_ns(machine: Machine, moved_bytes: npt.ArrayLike, operations: npt.ArrayLike = 0) -> Array:
    """Time of a host call: the launch, then the slower of moving ``moved_bytes`` and of computing
    ``operations``, each as much as an FP32 multiply-accumulate, on one CPU core."""
    moving = np.divide(moved_bytes, machine.host_bandwidth_bytes_per_s)
    computing = np.divide(operations, machine.host_macs_per_s)
    return np.asarray(machine.host_call_ns + 1e9 * np.maximum(moving, computing))


def vector_costs(machine: Machine) -> Array:
    """Lane-cycles per element in the order of ``isa.VECTOR_FUNCTIONS``."""
    return np.array([machine.vector_cycles[name] for name in VECTOR_FUNCTIONS])


def tensor_rates(machine: Machine) -> Array:
    """Fractions of the peak in the order of ``RATE_CLASSES``."""
    return np.array([machine.tensor_rate[name] for name in RATE_CLASSES])


def to_ps(ns: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Nanoseconds as integer picoseconds."""
    return np.rint(np.multiply(ns, 1000.0)).astype(np.int64)


def _round_up(value: npt.ArrayLike, multiple: int) -> Array:
    return np.asarray(np.ceil(np.divide(value, multiple)) * multiple, dtype=np.float64)
