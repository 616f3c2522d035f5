"""Which nodes run on the host, why, and in which groups.

A node runs on the host because a legality rule refuses it, or because it is small element work
between the host and itself: handing 160 numbers to the NPU and back costs more than it saves, and
rounds the timestep to 16 bits on the way to a sine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod

import networkx as nx
import onnx

from edgefusion.compiler.frontend.legality import SUPPORTED, makes_constant, refusal
from edgefusion.compiler.frontend.legality_rules import stored_constant
from edgefusion.compiler.graph.functions import DOMAIN, kind_and_tokens
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.compiler.graph.names import HOST_GROUP, HOST_REASON
from edgefusion.runtime.cost import dma_ns, vector_ns
from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.isa import DType
from edgefusion.runtime.machine import Machine


@dataclass(frozen=True, slots=True)
class HostGroup:
    """Nodes that make one call to the host, in order, each with its reason."""

    name: str
    nodes: tuple[Node, ...]
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All reasons, each once."""
        return "; ".join(dict.fromkeys(self.reasons))


def host_groups(graph: Graph) -> tuple[HostGroup, ...]:
    """The groups that the pass ``partition-host`` marked, in order."""
    groups: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if name := node.annotations.get(HOST_GROUP):
            groups.setdefault(name, []).append(node)
    return tuple(
        HostGroup(name, tuple(nodes), tuple(node.annotations[HOST_REASON] for node in nodes))
        for name, nodes in groups.items()
    )


def entering(nodes: Sequence[Node]) -> list[Tensor]:
    """Activations that a host group reads from elsewhere, each once: the inputs of its call."""
    members = set(nodes)
    read = {t: None for node in nodes for t in node.inputs if not t.is_absent}
    return [t for t in read if stored_constant(t) is None and t.producer not in members]


def leaving(nodes: Sequence[Node]) -> list[Tensor]:
    """Results of a host group that something else reads: the outputs of its call."""
    members = set(nodes)
    made = [tensor for node in nodes for tensor in node.outputs if not tensor.is_absent]
    return [t for t in made if t.is_output or any(c not in members for c in t.consumers)]


def worth_no_transfer(machine: Machine) -> float:
    """Up to how many values element work is not worth handing from the host to the NPU.

    The NPU loads, computes and stores: two transfers are set up, one vector instruction is started,
    and each of the three waits for a signal, whatever the number of values n. Then 2n values cross
    the bus, as against 2n at the speed of the host, which is called anyway. Both take as long at

        n = (2 set-up + start-up + 3 semaphore) / (2 bytes (1 / host speed - 1 / DMA speed))

    with times and speeds of the target and activations of 16 bits. A bus no faster than the host
    gives infinity: nothing is worth it.
    """
    fixed_ns = 2 * dma_ns(machine, 1, 0) + vector_ns(machine, 0, 0) + 3 * machine.semaphore_ns
    speeds = machine.host_bandwidth_bytes_per_s, machine.dma_bandwidth_bytes_per_s
    ns_per_byte = 1e9 / speeds[0] - 1e9 / speeds[1]
    if ns_per_byte <= 0:
        return inf
    return float(fixed_ns / (2 * DType.INT16.nbytes * ns_per_byte))


def host_nodes(graph: Graph, machine: Machine) -> dict[Node, str]:
    """The nodes that run on the host beside ``machine``, in order, each with the reason.

    Raises:
        UnsupportedOpError: neither the NPU nor ONNX Runtime can run a node.
    """
    nodes = graph.nodes
    reasons = {node: reason for node in nodes if (reason := refusal(node))}
    for node, reason in reasons.items():
        _check_runnable(node, graph.opset, reason)
    small = worth_no_transfer(machine)
    changed = bool(reasons)
    while changed:
        changed = False
        for node in nodes:
            if node not in reasons and (reason := _drawn_to_host(node, reasons, small)):
                reasons[node] = reason
                changed = True
    return {node: reasons[node] for node in nodes if node in reasons}


def _check_runnable(node: Node, opset: int, reason: str) -> None:
    standard = not node.domain and onnx.defs.has(node.op, opset)
    if standard or node.domain == DOMAIN:
        return
    op = f"{node.domain}.{node.op}" if node.domain else node.op
    raise UnsupportedOpError(
        f"{op} '{node.name}' (from {', '.join(node.origin)}) can run neither on the NPU, for "
        f"{reason}, nor on the host, which runs standard ONNX operators of set {opset}; "
        "replace it by standard operators before exporting"
    )


def _drawn_to_host(node: Node, reasons: Mapping[Node, str], small: float) -> str:
    """Why a legal ``node`` is better off on the host; '' if it is not, or makes more values than
    ``small``."""
    readers = {c for t in node.outputs for c in t.consumers}
    exported = any(t.is_output for t in node.outputs)
    feeds_host_only = bool(readers) and not exported and readers <= reasons.keys()
    if makes_constant(node):
        return "unpacks a constant for the host" if feeds_host_only else ""
    support = SUPPORTED[kind_and_tokens(node.op)[0]]
    size = max(prod(t.shape) for t in node.outputs if not t.is_absent)
    if not support.kind.is_element_work or size > small:
        return ""
    makers = {t.producer for t in node.inputs if t.producer is not None}
    makers = {maker for maker in makers if not makes_constant(maker)}
    if makers and makers <= reasons.keys():
        return f"small element work on {size} values that the host has made"
    if feeds_host_only:
        return f"small element work on {size} values for the host"
    return ""


def group_host_nodes(graph: Graph, reasons: Mapping[Node, str]) -> tuple[HostGroup, ...]:
    """Merge neighbouring host nodes where the group stays convex (no way out and back in)."""
    flow = nx.DiGraph()
    flow.add_nodes_from(graph.nodes)
    for node in graph.nodes:
        flow.add_edges_from((node, c) for t in node.outputs for c in t.consumers)
    group_of: dict[Node, list[Node]] = {}
    for node in reasons:
        members = [node]
        group_of[node] = members
        neighbours = [*flow.predecessors(node), *flow.successors(node)]
        for neighbour in neighbours:
            other = group_of.get(neighbour)
            if other is None or other is members or not _convex(flow, {*members, *other}):
                continue
            members.extend(other)
            for moved in other:
                group_of[moved] = members
    order = {node: index for index, node in enumerate(graph.nodes)}
    groups: list[list[Node]] = []
    for members in group_of.values():
        if not any(members is known for known in groups):
            groups.append(members)
    groups = [sorted(members, key=order.__getitem__) for members in groups]
    groups.sort(key=lambda members: order[members[0]])
    return tuple(
        HostGroup(f"host{i}", tuple(members), tuple(reasons[node] for node in members))
        for i, members in enumerate(groups)
    )


def _convex(flow: nx.DiGraph, members: set[Node]) -> bool:
    """Whether no path leaves ``members`` and comes back."""
    after = {d for node in members for d in nx.descendants(flow, node)}
    before = {a for node in members for a in nx.ancestors(flow, node)}
    return not (after & before) - members
