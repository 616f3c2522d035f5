"""Topological order of a graph's nodes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from edgefusion.compiler.graph.node import Node


def topological(nodes: Sequence[Node]) -> list[Node]:
    """Kahn's algorithm with the present order as priority, so that a sorted list stays as it is.

    Raises:
        ValueError: a cycle.
    """
    position = {node: index for index, node in enumerate(nodes)}
    waiting = {
        node: len({t.producer for t in node.inputs if t.producer is not None}) for node in nodes
    }
    ready = [position[node] for node in nodes if not waiting[node]]
    heapq.heapify(ready)
    result: list[Node] = []
    while ready:
        node = nodes[heapq.heappop(ready)]
        result.append(node)
        for consumer in {c: None for t in node.outputs for c in t.consumers}:
            waiting[consumer] -= 1
            if not waiting[consumer]:
                heapq.heappush(ready, position[consumer])
    if len(result) != len(nodes):
        stuck = next(node for node in nodes if waiting[node])
        raise ValueError(f"the graph has a cycle through {stuck.op} '{stuck.name}'")
    return result
