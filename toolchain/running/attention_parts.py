"""Attention whose scores memory has no room for, a part of the queries at a time.

Scores grow with the square of the tokens: those of one attention over 128 x 128 latents are 8.6 GB
in FP32, and ONNX Runtime holds them whole, before and behind the softmax. Rows of scores do not
depend on each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgefusion.compiler.graph.expand_functions import hidden_values
from edgefusion.compiler.graph.functions import DOMAIN, kind_and_tokens

_FLOAT_BYTES = 4


def attention_in_parts(
    model: onnx.ModelProto, limit_bytes: int
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """``model`` of fused ops, with no attention whose FP32 scores are more than ``limit_bytes``
    where queries can be parted; and what the values inside parts, by the names that
    ``expand_functions`` gives them, are parts of. ``model`` is not changed."""
    graph = model.graph
    shapes = _shapes(graph)
    functions = {function.name: function for function in model.functions}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    whole: dict[str, str] = {}
    for node in graph.node:
        counts = _rows_of_parts(node, shapes, limit_bytes)
        if len(counts) == 1:
            result.graph.node.add().CopyFrom(node)
            continue
        nodes, parts = _parted(node, counts, shapes, result.graph)
        result.graph.node.extend(nodes)
        values = hidden_values(node, functions[node.op_type]).values()
        for part in parts:
            inside = hidden_values(part, functions[part.op_type]).values()
            whole |= dict(zip(inside, values, strict=True))
    return result, whole


def _rows_of_parts(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], limit_bytes: int
) -> list[int]:
    """How many queries each part of ``node`` has, alike but for one; one part of what is no
    attention."""
    if node.domain != DOMAIN or kind_and_tokens(node.op_type)[0] != "Attention":
        return [1]
    (batch, queries, _), keys = shapes[node.input[0]], shapes[node.input[1]][1]
    heads = next(a.i for a in node.attribute if a.name == "num_heads")
    row_bytes = batch * heads * keys * _FLOAT_BYTES
    parts = -(-queries // max(1, limit_bytes // row_bytes))
    return [len(rows) for rows in np.array_split(np.arange(queries), parts)]


def _parted(
    node: onnx.NodeProto,
    counts: list[int],
    shapes: Mapping[str, tuple[int, ...]],
    graph: onnx.GraphProto,
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """All nodes in place of ``node``, and those of them that are its parts; ``graph`` gets the
    sizes as a constant."""
    sizes = f"{node.name}/counts"
    graph.initializer.append(numpy_helper.from_array(np.array(counts, np.int64), sizes))
    nodes: list[onnx.NodeProto] = []

    def split(value: str, name: str, axis: int) -> list[str]:
        made = [f"{name}{number}" for number in range(len(counts))]
        nodes.append(helper.make_node("Split", [value, sizes], made, name, axis=axis))
        return made

    query, *rest = node.input
    operands = [split(query, f"{node.name}/q", 1), *([name] * len(counts) for name in rest)]
    for index, mask in enumerate(node.input[3:], 3):
        shape = shapes[mask]
        if len(shape) > 1 and shape[-2] > 1:
            operands[index] = split(mask, f"{node.name}/mask", len(shape) - 2)
    parts = []
    for number, given in enumerate(zip(*operands, strict=True)):
        part = onnx.NodeProto()
        part.CopyFrom(node)
        part.name = f"{node.name}/{number}"
        part.input[:] = given
        part.output[:] = [f"{part.name}/y"]
        parts.append(part)
    results = [part.output[0] for part in parts]
    joined = helper.make_node("Concat", results, node.output, f"{node.name}/y", axis=1)
    return [*nodes, *parts, joined], parts


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    stated = {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in (*graph.input, *graph.value_info, *graph.output)
    }
    return stated | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
