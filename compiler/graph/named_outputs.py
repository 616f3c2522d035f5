"""Outputs of a graph that are initializers get a node that makes them, as all others have."""

from __future__ import annotations

import onnx

from edgefusion.compiler.graph.node_names import free_name


def make_constant_outputs(model: onnx.ModelProto) -> None:
    """Change ``model`` in place: an initializer that is an output is renamed, and an Identity hands
    it on under the output's name. Nodes that read it go on reading the initializer."""
    graph = model.graph
    outputs = {info.name for info in graph.output}
    stored = {proto.name: proto for proto in graph.initializer if proto.name in outputs}
    if not stored:
        return
    taken = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
    taken.update(info.name for info in (*graph.input, *graph.output, *graph.initializer))
    for output, proto in stored.items():
        proto.name = free_name(f"{output}.value", taken)
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == output:
                    node.input[index] = proto.name
        made = onnx.helper.make_node(
            "Identity", [proto.name], [output], name=free_name(f"{output}.output", taken)
        )
        graph.node.append(made)
