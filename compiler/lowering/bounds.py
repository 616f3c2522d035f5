"""Lower limits of time and traffic that no schedule of an op on a machine can beat.

The work of an op is counted where the simulator counts it: its lowering rule emits the op in one
piece, as if SRAM had no end, and the instructions' work is added up without set-up, padding and
stalls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgefusion.compiler.lowering.emitter import Emitter, counts_array
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext
from edgefusion.compiler.network.kind import operand_name, shapes_of
from edgefusion.compiler.network.network import operands, results
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.cost import RATE_CLASSES, host_ns, to_ps
from edgefusion.runtime.isa import VECTOR_FUNCTIONS, EngineKind
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.work import derive_work

_ENDLESS_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class Bound:
    """``nbytes`` that must cross the bus, the useful ``macs``, and the time of the busiest engines
    at full rate: all of a kind compute at once, while all DMA channels share the bus."""

    nbytes: int
    macs: int
    compute_ps: int
    vector_ps: int
    dma_ps: int
    host_ps: int = 0

    @property
    def time_ps(self) -> int:
        """The largest engine's bound."""
        return max(self.compute_ps, self.vector_ps, self.dma_ps, self.host_ps)


@dataclass(frozen=True, slots=True)
class LeastWork:
    """What the engines have to do for an op: multiply-accumulates by rate class, elements by cost
    class of the vector engine, and the bytes that host calls move and the operations they take."""

    macs: Mapping[str, int]
    elements: Mapping[str, int]
    host_bytes: int
    host_operations: int


def least_work(context: OpContext) -> LeastWork:
    """The work of the op in one piece."""
    kind = context.op.kind
    assert isinstance(kind, LoweredKind)
    machine = context.machine.with_values(sram_bytes=_ENDLESS_BYTES)
    schedule = schedule_named("mlt")
    emitter = Emitter(ProgramBuilder("bound", machine.name, schedule.name), machine, schedule, True)
    emitter.begin(0, context.op.name, schedule.slots)
    kind.emit(emitter, context, next(iter(kind.tilings(context))))
    work = derive_work(emitter.builder.build())
    counts = counts_array(emitter)
    macs = np.zeros(len(RATE_CLASSES), dtype=np.int64)
    np.add.at(macs, work.tensor.rate_class, work.tensor.macs * counts[work.tensor.index])
    elements = np.zeros(len(VECTOR_FUNCTIONS), dtype=np.int64)
    np.add.at(elements, work.vector.function, work.vector.elements * counts[work.vector.index])
    return LeastWork(
        {name: int(n) for name, n in zip(RATE_CLASSES, macs, strict=True) if n},
        {name: int(n) for name, n in zip(VECTOR_FUNCTIONS, elements, strict=True) if n},
        int(work.host.moved_bytes.sum()),
        int(work.host.operations.sum()),
    )


def op_bound(context: OpContext) -> Bound:
    """The bound of one op whose operands start and end in DRAM."""
    machine, work = context.machine, least_work(context)
    if not context.op.kind.on_npu:
        needed = host_ns(machine, work.host_bytes, work.host_operations)
        return Bound(0, 0, 0, 0, 0, int(to_ps(needed)))
    macs = sum(work.macs.values())
    nbytes = max(_compulsory_bytes(context), context.op.kind.least_bytes(macs, machine.sram_bytes))
    macs_per_cycle = machine.tensor_macs_per_cycle * machine.engines[EngineKind.TENSOR]
    peak = {name: macs_per_cycle * rate for name, rate in machine.tensor_rate.items()}
    lanes = machine.vector_lanes * machine.engines[EngineKind.VECTOR]
    cycles = sum(n * machine.vector_cycles[name] for name, n in work.elements.items())
    return Bound(
        nbytes,
        macs,
        int(sum(1e12 * n / (peak[name] * machine.clock_hz) for name, n in work.macs.items())),
        int(1e12 * cycles / (lanes * machine.clock_hz)),
        int(1e12 * (nbytes / machine.dma_bandwidth_bytes_per_s)),
    )


def _compulsory_bytes(context: OpContext) -> int:
    """Each operand once, as far as anything of it is read, and each result once."""
    op, tensors = context.op, context.tensors
    names = dict.fromkeys((*operands(op), *results(op)))
    names |= dict.fromkeys(tensors[n].scale_tensor for n in op.inputs if n)
    once = sum(tensors[name].nbytes for name in names if name)
    shapes, result = shapes_of(op.kind, tensors), tensors[op.outputs[0]].shape
    for key, elements in op.kind.touched(shapes, result).items():
        tensor = tensors[operand_name(op.kind, key)]
        once -= max(0, tensor.elements - elements) * tensor.dtype.nbytes
    return once
