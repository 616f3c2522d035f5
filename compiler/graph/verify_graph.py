"""Structural rules that every graph between passes obeys.

A violation is a defect of the pass before it: ``InvalidGraphError`` is not a user's error.
"""

from __future__ import annotations

from collections import Counter

import onnx

from edgefusion.compiler.graph.functions import DOMAIN
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Node


class InvalidGraphError(Exception):
    """A graph breaks a rule; the message lists every violation."""


def verify_graph(graph: Graph) -> None:
    """Check ``graph``.

    Raises:
        InvalidGraphError: duplicate names, operands that nothing makes, cycles, undefined
            functions, wrong operand counts, unknown shapes, or nodes without origin.
    """
    try:
        nodes = graph.nodes
    except ValueError as error:
        raise InvalidGraphError(str(error)) from None
    defects = _duplicates(graph)
    known = {*graph.inputs, *graph.constants}
    for tensor in (t for node in nodes for t in node.outputs):
        known.add(tensor)
    for node in nodes:
        defects += [
            f"{_where(node)}: operand '{tensor.name}' is made by nothing"
            for tensor in node.inputs
            if not tensor.is_absent and tensor not in known
        ]
        defects += [
            f"{_where(node)}: result '{tensor.name}' has no known shape"
            for tensor in node.outputs
            if not tensor.is_absent and not tensor.has_shape
        ]
        if not node.origin:
            defects.append(f"{_where(node)}: has no origin")
        defects += _operator_defects(graph, node)
    defects += [
        f"graph output '{tensor.name}' is made by nothing"
        for tensor in graph.outputs
        if tensor not in known
    ]
    if defects:
        raise InvalidGraphError("\n".join(defects))


def _duplicates(graph: Graph) -> list[str]:
    tensors = graph.tensors
    nodes = Counter(node.name for node in graph.nodes)
    names = Counter(tensor.name for tensor in tensors)
    makers = {tensor.name: len(tensor.raw.inputs) for tensor in tensors}
    return [
        *(f"{count} nodes are called '{name}'" for name, count in nodes.items() if count > 1),
        *(f"{count} tensors are called '{name}'" for name, count in names.items() if count > 1),
        *(f"'{name}' is made by {count} nodes" for name, count in makers.items() if count > 1),
    ]


def _operator_defects(graph: Graph, node: Node) -> list[str]:
    given, made = len(node.inputs), len(node.outputs)
    if node.domain == DOMAIN:
        function = graph.functions.get(node.op)
        if function is None:
            return [f"{_where(node)}: function '{node.op}' is not defined"]
        if (given, made) != (len(function.input), len(function.output)):
            wanted = f"{len(function.input)} operands and {len(function.output)} results"
            return [f"{_where(node)}: expected {wanted}, got {given} and {made}"]
        absent = set(function.attribute) - set(node.attrs)
        return [f"{_where(node)}: attribute '{name}' is missing" for name in sorted(absent)]
    if node.domain or not onnx.defs.has(node.op):
        return [] if node.domain else [f"{_where(node)}: no such standard operator"]
    schema = onnx.defs.get_schema(node.op, graph.opset)
    if not schema.min_input <= given <= schema.max_input:
        wanted = f"{schema.min_input} to {schema.max_input} operands"
        return [f"{_where(node)}: expected {wanted}, got {given}"]
    return []


def _where(node: Node) -> str:
    return f"{node.op} '{node.name}' (from {', '.join(node.origin)})"
