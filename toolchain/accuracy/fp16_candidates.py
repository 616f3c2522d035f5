"""Which ops to run in FP16: what each would gain in accuracy, against what it would cost in time.

Each INT16 op is compiled twice by itself, as it is and in FP16 with conversions around it, and
timed by the simulator. Its gain is the noise that its own roundings, clipping and tables put on the
component's output (``sensitivity``), relative to the output and summed over all timesteps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgefusion.compiler.graph import names
from edgefusion.compiler.network.kind import Use
from edgefusion.compiler.network.network import NetOp, Network, operands, results, statistics
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.ops.movement import Transpose
from edgefusion.runtime.accuracy import decibels
from edgefusion.runtime.errors import EdgeFusionError
from edgefusion.runtime.isa import CONSTANT_ROLES, DType, Role
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.sensitivity import Contribution

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.compiler.schedule.schedule import Schedule
    from edgefusion.runtime.machine import Machine
    from edgefusion.toolchain.accuracy.npu_layers import LayerKey


_FP16 = {
    DType.INT16: DType.FP16,
    DType.INT8: DType.FP16,
    DType.INT64: DType.FP16,
    DType.FP32: DType.FP16,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An op: what it alone makes of the output's noise to signal ratio, summed over timesteps, and
    its latencies in one evaluation (FP16 includes the conversions of its inputs and results)."""

    component: str
    op: str
    noise: float
    int16_ms: float
    fp16_ms: float

    @property
    def extra_ms(self) -> float:
        """What FP16 costs."""
        return self.fp16_ms - self.int16_ms

    def to_json(self) -> dict[str, Any]:
        """A row of ``verify --suggest``."""
        return {
            "component": self.component,
            "op": self.op,
            "output_sqnr_db": round(decibels(1.0, self.noise), 3) if self.noise else None,
            "int16_ms": self.int16_ms,
            "fp16_ms": self.fp16_ms,
            "extra_ms": self.extra_ms,
            "noise_per_extra_ms": self.noise / self.extra_ms if self.extra_ms > 0 else None,
        }


def suggestions(
    bundle: Bundle, contributions: Mapping[LayerKey, Contribution], say: Say, *, count: int = 20
) -> tuple[Candidate, ...]:
    """The ``count`` noisiest INT16 ops by what they contribute to the output, best first: those
    that cost nothing, then by the noise that a millisecond takes away."""
    noise: dict[tuple[str, str], float] = {}
    for (component, op, _), share in contributions.items():
        noise[component, op] = noise.get((component, op), 0.0) + share.as_is
    noisiest = sorted(noise, key=lambda key: noise[key], reverse=True)
    networks: dict[str, Network] = {}
    found: list[Candidate] = []
    for component, op in noisiest:
        if len(found) == count:
            break
        if component not in networks:
            networks[component] = bundle.network(component)
        network = networks[component]
        node = next((o for o in network.ops if o.name == op), None)
        if node is None or not node.rounds:
            continue
        if network.tensor(node.outputs[0]).dtype is not DType.INT16:
            continue
        say(f"timing in FP16: op {len(found) + 1} of {count}, {op}")
        times = _times(network, node, bundle)
        if times is not None:
            found.append(Candidate(component, op, noise[component, op], *times))
    return tuple(sorted(found, key=_rank))


def _rank(candidate: Candidate) -> tuple[bool, float]:
    free = candidate.extra_ms <= 0
    return not free, -candidate.noise / (1.0 if free else candidate.extra_ms)


def extra_ms(bundle: Bundle, network: Network, ops: Sequence[str]) -> float:
    """What FP16 costs ``ops`` in one evaluation, each by itself: an upper estimate, as neighbours
    in FP16 need no conversion between them."""
    made = {op.name: op for op in network.ops}
    times = [_times(network, made[name], bundle) for name in ops if made[name].rounds]
    return sum(half - plain for plain, half in filter(None, times))


def _times(network: Network, op: NetOp, bundle: Bundle) -> tuple[float, float] | None:
    """Milliseconds of ``op`` alone in INT16 and in FP16; None if one of them does not fit."""
    from edgefusion.compiler.schedule.schedule import schedule_named

    schedule = schedule_named(bundle.manifest.schedule)
    try:
        plain = _latency_ms(alone(network, op), bundle.machine, schedule)
        half = _latency_ms(in_fp16(network, op), bundle.machine, schedule)
    except EdgeFusionError:
        return None
    return plain, half


def _latency_ms(network: Network, machine: Machine, schedule: Schedule) -> float:
    from edgefusion.compiler.lowering.lower import lower
    from edgefusion.runtime.measurement import component_latency

    return component_latency(lower(network, machine, schedule).program, machine).latency_ms


def alone(network: Network, op: NetOp) -> Network:
    """``op`` as a network of its own."""
    named = dict.fromkeys((*operands(op), *results(op)))
    named |= dict.fromkeys(network.tensor(n).scale_tensor for n in list(named))
    named.pop("", None)
    outputs = results(op)
    inputs = [n for n in operands(op) if network.tensor(n).role not in CONSTANT_ROLES]
    tensors = {name: _with_role(network.tensor(name), inputs, outputs) for name in named}
    return Network(network.name, tensors, (op,), tuple(dict.fromkeys(inputs)), outputs)


def in_fp16(network: Network, op: NetOp) -> Network:
    """``op`` in FP16 as a network of its own, its INT16 inputs and results converted around it."""
    plain = alone(network, op)
    tensors = {
        name: replace(tensor, dtype=_FP16.get(tensor.dtype, tensor.dtype), scale_tensor="")
        for name, tensor in plain.tensors.items()
    }
    sums = (*statistics(op), *op.kind.operands_for(Use.STATISTICS))
    tensors |= {name: replace(tensors[name], dtype=DType.FP32) for name in sums}
    before: list[NetOp] = []
    after: list[NetOp] = []
    inputs, outputs = list(plain.inputs), list(plain.outputs)
    for ends, ops in ((inputs, before), (outputs, after)):
        for position, name in enumerate(ends):
            if plain.tensor(name).dtype is not DType.INT16:
                continue
            outer = names.converted(name, "int16")
            tensors[outer] = replace(plain.tensor(name), name=outer)
            tensors[name] = replace(tensors[name], role=Role.ACTIVATION)
            way = (outer, name) if ends is inputs else (name, outer)
            ops.append(_conversion(*way, rank=len(tensors[name].shape)))
            ends[position] = outer
    return Network(network.name, tensors, (*before, op, *after), tuple(inputs), tuple(outputs))


def _with_role(tensor: NetTensor, inputs: Sequence[str], outputs: Sequence[str]) -> NetTensor:
    if tensor.name in inputs:
        return replace(tensor, role=Role.INPUT)
    return replace(tensor, role=Role.OUTPUT) if tensor.name in outputs else tensor


def _conversion(source: str, target: str, *, rank: int) -> NetOp:
    convert = Transpose(x=source, perm=tuple(range(rank)))
    return NetOp(names.conversion(target), convert, (target,))
