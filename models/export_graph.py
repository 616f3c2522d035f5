"""Makes an exporter's graph ours: names without the wrapper, one origin an op, nothing else.

The exporter attaches stack traces, class paths and its own node dumps; these name the machine they
came from, change from run to run, and weigh more than the graph. What stays of them is the module
an op came from, as node metadata `origin`.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgefusion.models.graph_modules import GRAPH_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

ORIGIN_KEY = "origin"
"""Node metadata key: the module path within the component, `<component>` for ops outside any."""
_SCOPES_KEY = "pkg.torch.onnx.name_scopes"


def clean_graph(model: ir.Model, component: str) -> None:
    """Changes `model` in place: see the module. Weights lose the prefix, other names stay."""
    graph = model.graph
    model.producer_name = "edgefusion"
    model.producer_version = None
    model.doc_string = graph.doc_string = None
    graph.name = component
    for holder in (model, graph):
        holder.metadata_props.clear()
    for node in graph:
        origin = _origin(node.metadata_props.get(_SCOPES_KEY), component)
        node.metadata_props.clear()
        node.metadata_props[ORIGIN_KEY] = origin
        node.doc_string = None
    for value in values_of(graph):
        value.metadata_props.clear()
        value.doc_string = None
    for name, value in list(graph.initializers.items()):
        if name.startswith(GRAPH_PREFIX):
            value.name = name.removeprefix(GRAPH_PREFIX)


def values_of(graph: ir.Graph) -> Iterator[ir.Value]:
    """Inputs, weights, and every op's outputs."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def first_dynamic_value(graph: ir.Graph) -> str | None:
    """The name of a value without a known type or static shape; None when there is none."""
    for value in values_of(graph):
        if value.name and (
            value.dtype is None or value.shape is None or not value.shape.is_static()
        ):
            return value.name
    return None


def _origin(scopes: str | None, component: str) -> str:
    """The deepest module of `['', 'model', 'model.conv_in', 'conv2d']`; the last is the op."""
    names: list[str] = ast.literal_eval(scopes) if scopes else []
    deepest = names[-2] if len(names) > 1 else ""
    if deepest == GRAPH_PREFIX.rstrip("."):
        deepest = ""
    return re.sub(rf"^{re.escape(GRAPH_PREFIX)}", "", deepest) or component
