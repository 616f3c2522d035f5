"""The text form of a graph: what pass dumps and change detection read."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefusion.compiler.graph.weights import FileValues, ProtoValues

if TYPE_CHECKING:
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.compiler.graph.node import Node, Tensor

SHOWN_ELEMENTS = 8
"""Constants up to this many elements are printed with their values."""


def graph_text(graph: Graph) -> str:
    """``graph`` as text: interface, a line a node with shapes, types and scope, constants,
    functions."""
    lines = [f"graph {graph.name} opset {graph.opset}"]
    lines += [f"input {_typed(tensor)}" for tensor in graph.inputs]
    lines += [f"output {_typed(tensor)}" for tensor in graph.outputs]
    lines += [node_text(node) for node in graph.nodes]
    lines += [_constant_text(tensor) for tensor in graph.constants]
    lines += [f"function {name}" for name in sorted({n.op for n in graph.nodes if n.domain})]
    return "\n".join(lines) + "\n"


def node_text(node: Node) -> str:
    """``%y: f32[1,4] = Add(%a, %b) {axis=1} @down.0 #node_add``."""
    outputs = ", ".join(_typed(tensor) for tensor in node.outputs)
    inputs = ", ".join(f"%{t.name}" if not t.is_absent else "-" for t in node.inputs)
    op = f"{node.domain}.{node.op}" if node.domain else node.op
    attrs = ", ".join(f"{key}={_attribute(value)}" for key, value in sorted(node.attrs.items()))
    notes = "".join(f" !{key}={value}" for key, value in sorted(node.annotations.items()))
    scope = f" @{node.scope}" if node.scope else ""
    braces = f" {{{attrs}}}" if attrs else ""
    return f"{outputs} = {op}({inputs}){braces}{notes}{scope} #{node.name}"


def type_text(tensor: Tensor) -> str:
    """``f32[1,320,64,64]``."""
    if not tensor.has_shape:
        return "?"
    return f"{_dtype_text(tensor.dtype)}[{','.join(map(str, tensor.shape))}]"


@cache
def _dtype_text(dtype: np.dtype[Any]) -> str:
    kind = dtype.name.rstrip("0123456789")
    short = {"float": "f", "int": "i", "uint": "u"}.get(kind, kind)
    return short + dtype.name.removeprefix(kind)


def _typed(tensor: Tensor) -> str:
    return f"%{tensor.name}: {type_text(tensor)}"


def _attribute(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _constant_text(tensor: Tensor) -> str:
    values = tensor.lazy
    if np.prod(tensor.shape, dtype=np.int64) <= SHOWN_ELEMENTS:
        shown = np.array2string(values.load().reshape(-1), max_line_width=200, separator=",")
    elif isinstance(values, FileValues):
        shown = f"{values.file.path.name}+{values.offset}"
    elif isinstance(values, ProtoValues):
        shown = "inline"
    else:
        shown = type(values).__name__.removesuffix("Values").lower()
    return f"constant {_typed(tensor)} = {shown}"
