"""A network's tensors in DRAM: the program's table of them, views, and who has whose bytes next."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edgefusion.compiler.lowering.held import BANDS
from edgefusion.compiler.lowering.scene import Scene
from edgefusion.compiler.lowering.view import Cells, Memory, View
from edgefusion.compiler.memory.dram import DramPlan, unplaced
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.rows import row_bytes, row_count
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.schedule.dependences import Region
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.compiler.schedule.synchronise import Reservation
from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.isa import MAX_RANK, DType, Role, Space
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Operand, TensorRecord, dense_strides
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.tensor_numbers import PLAIN, ROW_NORMALISED, UNCALIBRATED, Numbers


def scene_of(
    plan: DramPlan, machine: Machine, views: Mapping[str, View], dram: Mapping[str, View]
) -> Scene:
    """The scene of a network whose tensors lie where ``views`` say."""
    aliases: dict[str, tuple[str, ...]] = {}
    for name, root in plan.roots.items():
        aliases[root] = (*aliases.get(root, (root,)), name)
    return Scene(machine, plan.tensors, views, dram, plan.roots, aliases)


def unlowered(network: Network, machine: Machine, schedule: Schedule) -> Scene:
    """All tensors in DRAM, at no address yet."""
    plan = unplaced(network, schedule)
    views = tensor_views(ProgramBuilder(network.name, machine.name, schedule.name), plan)
    return scene_of(plan, machine, views, views)


def tensor_views(
    builder: ProgramBuilder, plan: DramPlan, elsewhere: Collection[str] = ()
) -> dict[str, View]:
    """Enter all tensors in the program's table; a view of each, sharing state with its root. What
    is ``elsewhere`` has all but bytes there."""
    index = {name: i for i, name in enumerate(plan.tensors)}
    memories: dict[str, Memory] = {}
    views: dict[str, View] = {}
    for name, tensor in plan.tensors.items():
        if len(tensor.shape) > MAX_RANK:
            raise UnsupportedOpError(
                f"tensor {name} has {len(tensor.shape)} dimensions {tensor.shape}; "
                f"the NPU addresses at most {MAX_RANK}"
            )
        address = plan.addresses.get(name, 0)
        scale = index[tensor.scale_tensor] if tensor.scale_tensor else -1
        root = plan.roots.get(name, name)
        gone = root in elsewhere
        builder.tensors.append(
            TensorRecord(
                name,
                tensor.dtype,
                tensor.shape,
                Role.SPILL if gone else tensor.role,
                address,
                0 if gone else tensor.nbytes,
                _numbers(tensor),
                scale,
                tensor.constant,
            )
        )
        if root not in memories:
            memories[root] = _in_dram(plan.tensors[root], plan.addresses.get(root, 0))
        strides = dense_strides(tensor.shape, tensor.dtype)
        operand = Operand(index[name], Space.DRAM, address, tensor.dtype, tensor.shape, strides)
        views[name] = View(operand, memories[root], tensor.role)
    _note_reuse(plan, views)
    return views


def dram_reservations(plan: DramPlan, views: Mapping[str, View]) -> list[Reservation]:
    """The memory of each tensor that has not all of DRAM to itself."""
    return [
        Reservation(
            name,
            Space.DRAM,
            plan.addresses[name],
            plan.tensors[name].nbytes,
            views[name].regions(),
        )
        for name in plan.lifetimes
    ]


def _numbers(tensor: NetTensor) -> Numbers:
    if tensor.dtype is not DType.INT16:
        return PLAIN
    return ROW_NORMALISED if tensor.row_normalised else UNCALIBRATED


def _in_dram(tensor: NetTensor, address: int) -> Memory:
    """What a tensor lies in: where it is computed, in bands of rows, as whoever reads some need not
    wait until the others are stored."""
    rows, nbytes = row_count(tensor), row_bytes(tensor)
    if tensor.constant or rows <= 1:
        return Region(partial=True)
    return Cells.cut(address, nbytes, range(0, rows, -(-rows // BANDS)), nbytes, ())


def _note_reuse(plan: DramPlan, views: Mapping[str, View]) -> None:
    """Tell each arena tensor which ones of an earlier life its bytes belonged to."""
    for name, (first, _) in plan.lifetimes.items():
        begin, end = plan.addresses[name], plan.addresses[name] + plan.tensors[name].nbytes
        for other, (_, last) in plan.lifetimes.items():
            start = plan.addresses[other]
            overlaps = start < end and begin < start + plan.tensors[other].nbytes
            if last < first and overlaps:
                for region in views[name].regions():
                    region.reuses.extend(views[other].regions())
