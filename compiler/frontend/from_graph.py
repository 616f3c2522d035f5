"""From the graph that passes leave to the network that tiling and lowering read.

Every node becomes network ops (``nodes``), except that a host group becomes one
``host`` op and that nodes which only unpack constants vanish into the constants' names.
"""

from __future__ import annotations

import networkx as nx

from edgefusion.compiler.frontend.builder import NetworkBuilder
from edgefusion.compiler.frontend.host_work import host_workload
from edgefusion.compiler.frontend.legality import makes_constant, refusal
from edgefusion.compiler.frontend.nodes import CONVERT
from edgefusion.compiler.frontend.placement import HostGroup, entering, host_groups, leaving
from edgefusion.compiler.graph import names
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.scope import common_scope
from edgefusion.compiler.network.network import NetOp, Network, operands, results
from edgefusion.compiler.network.verify_network import verify_network
from edgefusion.compiler.ops.movement import Host
from edgefusion.runtime.errors import UnsupportedOpError


def network_from_graph(graph: Graph, component: str, default_precision: str = "fp16") -> Network:
    """The network called ``component``.

    ``default_precision`` is for nodes without the annotation of ``assign-precision``.

    Raises:
        UnsupportedOpError: a node that no rule admits and no host group holds.
    """
    builder = NetworkBuilder(graph, default_precision)
    for tensor in graph.inputs:
        builder.external(tensor)
    hosted = host_groups(graph)
    for group in hosted:
        for tensor in leaving(group.nodes):
            builder.external(tensor)
    builder.ops += [_host_op(builder, group) for group in hosted]
    for node in graph.nodes:
        if names.HOST_GROUP in node.annotations or makes_constant(node):
            continue
        reason = refusal(node)
        if reason:
            raise UnsupportedOpError(
                f"{node.op} '{node.name}' (from {', '.join(node.origin)}) cannot run on the NPU: "
                f"{reason}; run the pass partition-host before building the network"
            )
        CONVERT[kind_and_tokens(node.op)[0]](builder, node)
    network = Network(
        component,
        builder.tensors,
        _ordered(builder.ops),
        tuple(tensor.name for tensor in graph.inputs),
        tuple(tensor.name for tensor in graph.outputs),
    )
    verify_network(network)
    return network


def _host_op(builder: NetworkBuilder, group: HostGroup) -> NetOp:
    nodes = group.nodes
    workload = host_workload(nodes)
    return NetOp(
        group.name,
        Host(
            operands=tuple(tensor.name for tensor in entering(nodes)),
            reason=group.reason,
            nodes=tuple(node.name for node in nodes),
            operations=workload.operations,
            constant_bytes=workload.constant_bytes,
        ),
        tuple(builder.external(tensor) for tensor in leaving(nodes)),
        (),
        tuple(dict.fromkeys(origin for node in nodes for origin in node.origin)),
        common_scope([node.scope for node in nodes]),
    )


def _ordered(ops: list[NetOp]) -> tuple[NetOp, ...]:
    """``ops`` so that every tensor is made before it is read, else as they come."""
    maker = {name: index for index, op in enumerate(ops) for name in results(op)}
    flow = nx.DiGraph()
    flow.add_nodes_from(range(len(ops)))
    for index, op in enumerate(ops):
        flow.add_edges_from((maker[name], index) for name in operands(op) if name in maker)
    return tuple(ops[index] for index in nx.lexicographical_topological_sort(flow))
