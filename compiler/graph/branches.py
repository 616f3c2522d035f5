"""The branch of an ``If`` in the place of the ``If``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import helper

from edgefusion.compiler.graph.opset import named


def outer_names(node: onnx.NodeProto) -> Iterator[str]:
    """Names that ``node`` reads, in its subgraphs too (some of them are the subgraphs' own)."""
    yield from (name for name in node.input if name)
    for graph in _subgraphs(node):
        yield from (info.name for info in graph.output)
        for inner in graph.node:
            yield from outer_names(inner)


def branch_nodes(
    node: onnx.NodeProto, attribute: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants of one branch of the ``If`` ``node``, which make what it makes.

    Values inside are renamed after ``node``, for two branches may use the same names.
    """
    graph = next(a.g for a in node.attribute if a.name == attribute)
    made = [name for inner in graph.node for name in inner.output if name]
    made += [tensor.name for tensor in graph.initializer]
    names = {name: f"{node.name}.{name}" for name in made}
    nodes = [_renamed(inner, names, node.name) for inner in graph.node]
    for result, info in zip(node.output, graph.output, strict=True):
        if result:
            source = names.get(info.name, info.name)
            nodes.append(
                helper.make_node("Identity", [source], [result], name=f"{node.name}.{result}")
            )
    return nodes, [named(tensor, names[tensor.name]) for tensor in graph.initializer]


def _renamed(node: onnx.NodeProto, names: Mapping[str, str], stem: str) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.name = f"{stem}.{node.name or node.op_type + '_' + node.output[0]}"
    _rename(made, names)
    return made


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for values in (node.input, node.output):
        values[:] = [names.get(name, name) for name in values]
    for graph in _subgraphs(node):
        own = {name for inner in graph.node for name in inner.output}
        own |= {info.name for info in (*graph.input, *graph.initializer)}
        seen = {name: new for name, new in names.items() if name not in own}
        for inner in graph.node:
            _rename(inner, seen)
        for info in graph.output:
            info.name = seen.get(info.name, info.name)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == attribute.GRAPH:
            yield attribute.g
        yield from attribute.graphs
