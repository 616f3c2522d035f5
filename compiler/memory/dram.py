"""Where every tensor of a network lives in DRAM.

Constants come first, in order of use; then the network's inputs and outputs, which the host owns;
then one arena for activations and spilled scores, shared by lifetime. Views share the bytes of what
they view.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from edgefusion.compiler.memory.placement import Lifetime, aligned, place
from edgefusion.compiler.network.network import Network, operands, results, stage_names
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.isa import CONSTANT_ROLES, DType, Role
from edgefusion.runtime.machine import Machine


@dataclass(frozen=True, slots=True)
class DramPlan:
    """Tensors in table order with their roles resolved, their addresses and the bytes needed.

    ``roots`` maps a view to the tensor whose bytes it shares (itself for all others);
    ``lifetimes`` are first and last op index of each arena tensor.
    """

    tensors: Mapping[str, NetTensor]
    addresses: Mapping[str, int]
    roots: Mapping[str, str]
    lifetimes: Mapping[str, tuple[int, int]]
    constant_bytes: int
    total_bytes: int


def unplaced(network: Network, schedule: Schedule) -> DramPlan:
    """The tensors of ``network`` without addresses: all that costs and bounds ask for."""
    tensors = {
        **_used_tensors(network),
        **_inner_tensors(network, schedule),
        **_stage_tensors(network),
    }
    roots = _roots(network)
    return DramPlan(_resolve_roles(network, tensors, roots), {}, roots, {}, 0, 0)


def plan_dram(
    network: Network,
    machine: Machine,
    schedule: Schedule,
    moments: Mapping[str, tuple[int, int]] | None = None,
    elsewhere: Collection[str] = (),
    lasting: Mapping[str, int] = MappingProxyType({}),
) -> DramPlan:
    """Place all tensors of ``network``; DoesNotFitError if the address space is too small.

    ``moments`` are the first and last at which an op runs, by name (each has its own, if left out):
    ops of one moment run side by side, so that nothing of one takes the bytes of another. What is
    ``elsewhere`` (roots) gets none; ``lasting`` are moments up to which roots are wanted that
    nobody may read then.
    """
    named = unplaced(network, schedule)
    tensors, roots = named.tensors, named.roots
    lifetimes = _lifetimes(network, tensors, roots, moments)
    lifetimes = {
        name: (first, lasting.get(name, last))
        for name, (first, last) in lifetimes.items()
        if name not in elsewhere
    }
    align = machine.sram_align_bytes
    addresses: dict[str, int] = {}
    constant_bytes = _stack(tensors, roots, CONSTANT_ROLES, 0, align, addresses)
    top = _stack(tensors, roots, (Role.INPUT, Role.OUTPUT), constant_bytes, align, addresses)
    arena = [
        Lifetime(name, first, last, tensors[name].nbytes)
        for name, (first, last) in lifetimes.items()
    ]
    placement = place(arena, align_bytes=align, capacity_bytes=machine.dram_bytes - top)
    addresses |= {name: top + offset for name, offset in placement.offsets.items()}
    addresses |= {name: addresses[root] for name, root in roots.items() if root in addresses}
    return DramPlan(
        tensors,
        addresses,
        roots,
        lifetimes,
        constant_bytes,
        top + placement.height_bytes,
    )


def _stack(
    tensors: Mapping[str, NetTensor],
    roots: Mapping[str, str],
    wanted: tuple[Role, ...],
    top: int,
    align: int,
    addresses: dict[str, int],
) -> int:
    """Put the tensors of the ``wanted`` roles one after another from ``top``; returns the end."""
    for name, tensor in tensors.items():
        if tensor.role in wanted and roots.get(name, name) == name:
            addresses[name] = top
            top += aligned(tensor.nbytes, align)
    return top


def _used_tensors(network: Network) -> dict[str, NetTensor]:
    """Tensors that an op names, in order of first use, scales of weights beside their weights."""
    used: dict[str, NetTensor] = {}
    for op in network.ops:
        for name in (*operands(op), *results(op)):
            used[name] = network.tensor(name)
            if used[name].scale_tensor:
                used[used[name].scale_tensor] = network.tensor(used[name].scale_tensor)
    for name in (*network.inputs, *network.outputs):
        used[name] = network.tensor(name)
    return used


def _inner_tensors(network: Network, schedule: Schedule) -> dict[str, NetTensor]:
    """Values inside ops: spilled to DRAM, or named without bytes."""
    made = {}
    for op in network.ops:
        for inner in op.kind.inner(op.name, network.tensors):
            shape = (0, *inner.shape[1:]) if schedule.attention_in_sram else inner.shape
            dtype = network.tensor(op.inputs[0]).dtype
            made[inner.name] = NetTensor(
                inner.name,
                shape,
                dtype,
                Role.SPILL,
                row_normalised=inner.row_normalised and dtype is DType.INT16,
            )
    return made


def _stage_tensors(network: Network) -> dict[str, NetTensor]:
    """Results that an epilogue overwrites in SRAM: a name and a scale, no bytes."""
    return {
        name: NetTensor(name, (0,), network.tensor(op.outputs[0]).dtype, Role.SPILL)
        for op in network.ops
        for name in stage_names(op)[:-1]
    }


def _roots(network: Network) -> dict[str, str]:
    roots: dict[str, str] = {}
    for op in network.ops:
        if op.kind.is_view:
            roots[op.outputs[0]] = roots.get(op.inputs[0], op.inputs[0])
    return roots


def _resolve_roles(
    network: Network, tensors: dict[str, NetTensor], roots: Mapping[str, str]
) -> dict[str, NetTensor]:
    """A tensor viewed by a network output is that output's memory; a view has its root's role."""
    outputs = {roots.get(name, name) for name in network.outputs}
    resolved = {
        name: replace(tensor, role=Role.OUTPUT)
        if name in outputs and tensor.role is Role.ACTIVATION
        else tensor
        for name, tensor in tensors.items()
    }
    for name, root in roots.items():
        if name in resolved:
            resolved[name] = replace(resolved[name], role=resolved[root].role)
    return resolved


def _lifetimes(
    network: Network,
    tensors: Mapping[str, NetTensor],
    roots: Mapping[str, str],
    moments: Mapping[str, tuple[int, int]] | None,
) -> dict[str, tuple[int, int]]:
    """First and last moment of every tensor in the arena."""
    lives: dict[str, tuple[int, int]] = {}
    for index, op in enumerate(network.ops):
        if op.kind.is_view:
            continue
        begin, end = (index, index) if moments is None else moments[op.name]
        names = [*operands(op), *results(op)]
        names += [inner.name for inner in op.kind.inner(op.name, network.tensors)]
        for name in names:
            root = roots.get(name, name)
            if tensors[root].role in (Role.ACTIVATION, Role.SPILL) and tensors[root].nbytes:
                first, last = lives.get(root, (begin, end))
                lives[root] = (min(first, begin), max(last, end))
    return lives
