"""Lower limits of time and traffic that no schedule of an op on a machine can beat."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt

from edgefusion.compiler.network.network import NetOp, Network, macs, operands, results
from edgefusion.runtime.cost import host_ns, to_ps
from edgefusion.runtime.isa import DType, EngineKind
from edgefusion.runtime.machine import Machine


@dataclass(frozen=True, slots=True)
class Bound:
    """``nbytes`` that must cross the bus, and the time of the busiest engines at full rate: all of
    a kind compute at once, while all DMA channels share the bus."""

    nbytes: int
    compute_ps: int
    vector_ps: int
    dma_ps: int

    @property
    def time_ps(self) -> int:
        """The largest engine's bound."""
        return max(self.compute_ps, self.vector_ps, self.dma_ps)


def op_bound(network: Network, op: NetOp, machine: Machine) -> Bound:
    """The bound of one op whose operands start and end in DRAM."""
    if op.kind == "host":
        moved = sum(network.tensor(n).nbytes for n in (*operands(op), *results(op)))
        return Bound(0, int(to_ps(host_ns(machine, moved))), 0, 0)
    nbytes = _compulsory_bytes(network, op, machine)
    rate = machine.tensor_rate[_rate_class(network, op)]
    macs_per_cycle = machine.tensor_macs_per_cycle * machine.engines[EngineKind.TENSOR]
    peak_per_s = macs_per_cycle * rate * machine.clock_hz
    lanes_per_s = machine.vector_lanes * machine.engines[EngineKind.VECTOR] * machine.clock_hz
    bus_seconds = nbytes / machine.dma_bandwidth_bytes_per_s
    return Bound(
        nbytes,
        int(1e12 * macs(network, op) / peak_per_s),
        int(1e12 * _lane_cycles(network, op, machine) / lanes_per_s),
        int(1e12 * bus_seconds),
    )


def _compulsory_bytes(network: Network, op: NetOp, machine: Machine) -> int:
    """Each operand once, each result once; for products also the limit that SRAM size sets.

    2mnk/sqrt(S) - 2S element transfers with a fast memory of S elements: Smith, Lowery, Langou,
    van de Geijn, "A tight I/O lower bound for matrix multiplication" (2019). One byte an element
    keeps it a bound for mixed types.
    """
    if op.kind == "slice":
        return 2 * sum(network.tensor(name).nbytes for name in op.outputs)
    names = dict.fromkeys((*operands(op), *results(op)))
    once = sum(network.tensor(name).nbytes for name in names)
    if op.kind in ("conv", "pool"):
        once -= _untouched_bytes(network, op)
    for name in op.inputs:
        scale = network.tensor(name).scale_tensor if name else ""
        once += network.tensor(scale).nbytes if scale else 0
    if op.kind == "matmul":
        size = machine.sram_bytes
        once = max(once, int(2 * macs(network, op) / sqrt(size) - 2 * size))
    return once


def _untouched_bytes(network: Network, op: NetOp) -> int:
    """Bytes of the input that no window covers (strides beyond the kernel, cut-off edges)."""
    x, y = network.tensor(op.inputs[0]), network.tensor(op.outputs[0])
    upsample = int(op.attrs.get("upsample", 1))
    kernel = op.attrs["kernel"] if op.kind == "pool" else network.tensor(op.inputs[1]).shape[2:]
    touched = 1
    for i in (0, 1):
        extent, size = x.shape[1 + i] * upsample, y.shape[1 + i]
        stride, pad = op.attrs["strides"][i], op.attrs["pads"][i]
        reach = (kernel[i] - 1) * op.attrs.get("dilations", (1, 1))[i] + 1
        span = min(extent, (size - 1) * stride - pad + reach) if reach >= stride else size
        touched *= span // upsample
    return max(0, x.nbytes - touched * x.shape[3] * x.dtype.nbytes)


def _rate_class(network: Network, op: NetOp) -> str:
    first = network.tensor(op.inputs[0]).dtype if op.inputs else DType.FP16
    if first == DType.FP16:
        return "fp16"
    if op.kind in ("attention", "batch_matmul"):
        return "a16a16"
    return "w8a16" if first == DType.INT16 else "w8a8"


def _lane_cycles(network: Network, op: NetOp, machine: Machine) -> float:
    """Lane-cycles that the vector engine cannot avoid."""
    cost = machine.vector_cycles
    elements = network.tensor(op.outputs[0]).elements
    total = 0.0
    for step in op.epilogue:
        name = "channel_stats" if step.function == "stats" else step.function
        total += elements * cost.get(name, cost["other_unary"])
    if op.kind == "attention":
        q, k = (network.tensor(name).shape for name in op.inputs[:2])
        total += prod(q[:-1]) * k[-2] * int(op.attrs["heads"]) * cost["softmax"]
    elif op.kind == "group_norm":
        silu = op.attrs.get("function") == "silu"
        total += elements * cost["group_norm_silu" if silu else "group_norm"]
    elif op.kind in ("layer_norm", "softmax", "glu", "resize"):
        total += elements * cost[op.kind]
    elif op.kind in ("unary", "binary"):
        total += elements * cost.get(str(op.attrs["function"]), cost[f"other_{op.kind}"])
    elif op.kind == "transpose":
        total += elements * cost["copy"]
    return total
