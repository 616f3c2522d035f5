"""From a network to an NPU program: tile search, memory, instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgefusion.compiler.lowering.bounds import Bound, op_bound
from edgefusion.compiler.lowering.emitter import Emitter, View
from edgefusion.compiler.lowering.rule import OpContext
from edgefusion.compiler.lowering.tile_search import Candidate, best, lowered_kind, search
from edgefusion.compiler.memory.dram import DramPlan, plan_dram
from edgefusion.compiler.network.network import NetOp, Network
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.schedule.dependences import Region
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.compiler.schedule.synchronise import Reservation, synchronise
from edgefusion.runtime.errors import InputError, UnsupportedOpError
from edgefusion.runtime.isa import MAX_RANK, DType, Space
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import (
    Operand,
    OpRecord,
    Program,
    TensorRecord,
    dense_strides,
)
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.tensor_numbers import PLAIN, ROW_NORMALISED, UNCALIBRATED, Numbers

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program and how its memory was laid out."""

    program: Program
    dram: DramPlan


def lower(
    network: Network, machine: Machine, schedule: Schedule, progress: Progress | None = None
) -> Lowered:
    """Compile ``network`` for ``machine``.

    Raises UnsupportedOpError for an op kind without a rule, DoesNotFitError when no tiling of an op
    fits SRAM or the tensors exceed the DRAM address space, InputError for a network without ops.
    """
    if not network.ops:
        raise InputError(f"{network.name}: the graph has no ops to compile")
    plan = plan_dram(network, machine, schedule)
    builder = ProgramBuilder(network.name, machine.name, schedule.name)
    views = _tensor_views(builder, plan)
    emitter = Emitter(builder, machine, schedule, dry=False)
    chosen: dict[Any, tuple[Candidate, Bound]] = {}
    sram_bytes = 0
    ops = [op for op in network.ops if not op.kind.is_view]
    for index, op in enumerate(ops):
        if progress is not None and index % 25 == 0:
            progress(f"lowering {network.name}: op {index} of {len(ops)}")
        context = OpContext(op, machine, plan.tensors, views)
        signature = _signature(context)
        if signature not in chosen:
            chosen[signature] = best(context, schedule), op_bound(context)
        candidate, bound = chosen[signature]
        builder.ops.append(
            OpRecord(
                op.name,
                op.kind.name,
                op.origin,
                op.scope,
                bound.macs,
                bound.time_ps,
                bound.nbytes,
                str(candidate.tiling),
            )
        )
        emitter.begin(index, op.name, candidate.slots)
        lowered_kind(op).emit(emitter, context, candidate.tiling)
        sram_bytes = max(sram_bytes, candidate.sram_bytes)
    emitted = builder.build(sram_bytes=sram_bytes, dram_bytes=plan.total_bytes)
    reservations = emitter.reservations + _dram_reservations(plan, views)
    program = synchronise(emitted, emitter.accesses, reservations, machine, schedule)
    return Lowered(program, plan)


def bounds_of(network: Network, machine: Machine, schedule: Schedule) -> dict[str, Bound]:
    """The bound of each op, by name, on a machine that a program need not be lowered for."""
    plan = plan_dram(network, machine, schedule)
    views = _tensor_views(ProgramBuilder(network.name, machine.name, schedule.name), plan)
    bounds: dict[Any, Bound] = {}
    found = {}
    for op in network.ops:
        if not op.kind.is_view:
            context = OpContext(op, machine, plan.tensors, views)
            signature = _signature(context)
            if signature not in bounds:
                bounds[signature] = op_bound(context)
            found[op.name] = bounds[signature]
    return found


def candidates_of(
    network: Network, op_name: str, machine: Machine, schedule: Schedule
) -> list[Candidate]:
    """All tilings of one op, for inspection. Raises InputError for an unknown op."""
    op = next((op for op in network.ops if op.name == op_name), None)
    if op is None or op.kind.is_view:
        raise InputError(f"{network.name} has no op {op_name!r} with instructions of its own")
    return search(context_of(network, op, machine, schedule), schedule)


def context_of(network: Network, op: NetOp, machine: Machine, schedule: Schedule) -> OpContext:
    """One op of ``network`` as its lowering rule sees it."""
    plan = plan_dram(network, machine, schedule)
    builder = ProgramBuilder(network.name, machine.name, schedule.name)
    return OpContext(op, machine, plan.tensors, _tensor_views(builder, plan))


def _tensor_views(builder: ProgramBuilder, plan: DramPlan) -> dict[str, View]:
    """Enter all tensors in the program's table; a view of each, sharing state with its root."""
    index = {name: i for i, name in enumerate(plan.tensors)}
    regions: dict[str, Region] = {}
    views: dict[str, View] = {}
    for name, tensor in plan.tensors.items():
        if len(tensor.shape) > MAX_RANK:
            raise UnsupportedOpError(
                f"tensor {name} has {len(tensor.shape)} dimensions {tensor.shape}; "
                f"the NPU addresses at most {MAX_RANK}"
            )
        address = plan.addresses.get(name, 0)
        scale = index[tensor.scale_tensor] if tensor.scale_tensor else -1
        builder.tensors.append(
            TensorRecord(
                name,
                tensor.dtype,
                tensor.shape,
                tensor.role,
                address,
                tensor.nbytes,
                _numbers(tensor),
                scale,
                tensor.constant,
            )
        )
        region = regions.setdefault(plan.roots.get(name, name), Region(partial=True))
        strides = dense_strides(tensor.shape, tensor.dtype)
        operand = Operand(index[name], Space.DRAM, address, tensor.dtype, tensor.shape, strides)
        views[name] = View(operand, region, tensor.role)
    _note_reuse(plan, regions)
    return views


def _numbers(tensor: NetTensor) -> Numbers:
    if tensor.dtype is not DType.INT16:
        return PLAIN
    return ROW_NORMALISED if tensor.row_normalised else UNCALIBRATED


def _note_reuse(plan: DramPlan, regions: Mapping[str, Region]) -> None:
    """Tell each arena tensor which ones of an earlier life its bytes belonged to."""
    for name, (first, _) in plan.lifetimes.items():
        begin, end = plan.addresses[name], plan.addresses[name] + plan.tensors[name].nbytes
        for other, (_, last) in plan.lifetimes.items():
            start = plan.addresses[other]
            overlaps = start < end and begin < start + plan.tensors[other].nbytes
            if last < first and overlaps:
                regions[name].reuses.append(regions[other])


def _dram_reservations(plan: DramPlan, views: Mapping[str, View]) -> list[Reservation]:
    return [
        Reservation(
            name,
            Space.DRAM,
            plan.addresses[name],
            plan.tensors[name].nbytes,
            views[name].region,
        )
        for name in plan.lifetimes
    ]


def _signature(context: OpContext) -> Any:
    """What tile search and bound depend on: ops that agree in it get the same ones."""
    op = context.op
    named = (*op.inputs, *op.outputs, *(e.operand for e in op.epilogue))
    shapes: list[Any] = []
    for name in named:
        if not name:
            shapes.append(None)
            continue
        tensor = context.tensors[name]
        shapes.append((tensor.shape, tensor.dtype, bool(tensor.scale_tensor), tensor.role))
    same = tuple(named.index(name) for name in named)  # a tensor read twice moves once at least
    attributes = tuple(op.kind.attributes.items())
    functions = tuple(step.function for step in op.epilogue)
    return op.kind.name, tuple(shapes), same, attributes, functions
