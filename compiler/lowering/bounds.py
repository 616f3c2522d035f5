"""Lower limits of time and traffic that no schedule of an op on a machine can beat.

The work of an op is counted where the simulator counts it: its lowering rule emits the op in one
piece, as if SRAM had no end, and the instructions' work is added up without set-up, padding and
stalls.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from edgefusion.compiler.lowering.emitter import Emitter, counts_array
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext
from edgefusion.compiler.network.kind import operand_name, shapes_of
from edgefusion.compiler.network.network import operands, results
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.cost import Array, host_ns, tensor_port_cycles, tensor_rates, to_ps
from edgefusion.runtime.groups import EngineBounds
from edgefusion.runtime.isa import VECTOR_FUNCTIONS, EngineKind, Opcode
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.work import TensorWork, derive_work

_ENDLESS_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class Bound:
    """``nbytes`` that must cross the bus, the useful ``macs``, and the time of the busiest engines
    at full rate: all of a kind compute at once, while all DMA channels share the bus. A tensor
    engine multiplies, or waits for its ports."""

    nbytes: int
    macs: int
    compute_ps: int
    vector_ps: int
    dma_ps: int
    host_ps: int = 0

    @property
    def time_ps(self) -> int:
        """The largest engine's bound."""
        return self.engines.ps

    @property
    def engines(self) -> EngineBounds:
        """By kind of engine."""
        return EngineBounds(self.compute_ps, self.vector_ps, self.dma_ps, self.host_ps)

    def moving(self, nbytes: int, machine: Machine) -> Bound:
        """With ``nbytes`` more over the bus."""
        total = self.nbytes + nbytes
        return replace(self, nbytes=total, dma_ps=bus_ps(total, machine))

    def part(self, size: int, total: int) -> Bound:
        """Where ``size`` of ``total`` rows are computed: none costs less than those left out."""
        counts = {f.name: getattr(self, f.name) * size // total for f in fields(self)}
        return Bound(**counts)


@dataclass(frozen=True, slots=True)
class LeastWork:
    """What the engines have to do for an op: multiply-accumulates, cycles of the tensor engine,
    elements by cost class of the vector engine, and the bytes that host calls move and the
    operations they take."""

    macs: int
    tensor_cycles: float
    elements: Mapping[str, int]
    host_bytes: int
    host_operations: int


def least_work(context: OpContext) -> LeastWork:
    """The work of the op in one piece."""
    kind = context.op.kind
    assert isinstance(kind, LoweredKind)
    machine = context.machine.with_values(sram_bytes=_ENDLESS_BYTES)
    schedule = schedule_named("mlt")
    emitter = Emitter.of_costs(machine, schedule)
    emitter.begin(0, context.op.name, schedule.slots)
    kind.emit(emitter, context, next(iter(kind.tilings(context))))
    program = emitter.builder.build()
    work = derive_work(program)
    counts = counts_array(emitter)
    tensor_counts = counts[work.tensor.index]
    tensor_cycles = _tensor_cycles(context.machine, program, work.tensor)
    elements = np.zeros(len(VECTOR_FUNCTIONS), dtype=np.int64)
    np.add.at(elements, work.vector.function, work.vector.elements * counts[work.vector.index])
    return LeastWork(
        int((work.tensor.macs * tensor_counts).sum()),
        float((tensor_cycles * tensor_counts).sum()),
        {name: int(n) for name, n in zip(VECTOR_FUNCTIONS, elements, strict=True) if n},
        int(work.host.moved_bytes.sum()),
        int(work.host.operations.sum()),
    )


def op_bound(context: OpContext, moves: OpContext | None = None) -> Bound:
    """The bound of one op, with its operands where ``context`` has them. ``moves`` has in DRAM what
    must cross the bus for it, if that is more than what is worked on there."""
    machine, work = context.machine, least_work(context)
    if not context.op.kind.on_npu:
        needed = host_ns(machine, work.host_bytes, work.host_operations)
        return Bound(0, 0, 0, 0, 0, int(to_ps(needed)))
    named = named_tensors(context)
    nbytes = compulsory_bytes(moves or context, named)
    if not any(context.view(name).in_sram for name in named):
        nbytes = max(nbytes, context.op.kind.least_bytes(work.macs, machine.sram_bytes))
    lanes = machine.vector_lanes * machine.engines[EngineKind.VECTOR]
    cycles = sum(n * machine.vector_cycles[name] for name, n in work.elements.items())
    return Bound(
        nbytes,
        work.macs,
        int(1e12 * work.tensor_cycles / (machine.engines[EngineKind.TENSOR] * machine.clock_hz)),
        int(1e12 * cycles / (lanes * machine.clock_hz)),
        bus_ps(nbytes, machine),
    )


def bus_ps(nbytes: int, machine: Machine) -> int:
    """How long so many bytes are on the bus."""
    return int(1e12 * (nbytes / machine.dma_bandwidth_bytes_per_s))


def _tensor_cycles(machine: Machine, program: Program, work: TensorWork) -> Array:
    """Of each product in one piece: the larger of its multiplications, without padding, and of what
    passes the ports. In pieces no product takes less: each of its terms adds up to as much or more.

    A convolution's feed does not count: with a stride, tiles may skip rows that one piece is fed.
    """
    peak = machine.tensor_macs_per_cycle * tensor_rates(machine)[work.rate_class]
    is_conv = program.columns.opcode[work.index] == Opcode.CONV2D
    feed = np.where(is_conv, 0, work.feed_bytes)
    ports = tensor_port_cycles(machine, feed, work.load_bytes, work.drain_bytes)
    return np.asarray(np.maximum(work.macs / peak, ports))


def named_tensors(context: OpContext) -> list[str]:
    """All tensors that the op reads and writes, each once."""
    op, tensors = context.op, context.tensors
    names = dict.fromkeys((*operands(op), *results(op)))
    names |= dict.fromkeys(tensors[n].scale_tensor for n in op.inputs if n)
    return [name for name in names if name]


def compulsory_bytes(context: OpContext, names: Collection[str]) -> int:
    """Of the tensors ``names``, each operand in DRAM once, as far as anything of it is read, and
    each result once."""
    op, tensors = context.op, context.tensors
    once = {n: tensors[n].nbytes for n in names if not context.view(n).in_sram}
    shapes, result = shapes_of(op.kind, tensors), tensors[op.outputs[0]].shape
    for key, elements in op.kind.touched(shapes, result).items():
        name = operand_name(op.kind, key)
        if name in once:
            tensor = tensors[name]
            once[name] -= max(0, tensor.elements - elements) * tensor.dtype.nbytes
    return sum(once.values())
