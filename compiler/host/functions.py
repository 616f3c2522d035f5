"""Host groups as standalone ONNX models of standard ops, one a group.

In goes a graph that ``partition-host`` has marked; out come models whose inputs are those of the
``CALL`` instruction, then the constants that are too large to be code (the token embedding table
of CLIP has 152 MB): those stay in the bundle's weights and are passed at every call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper
from onnx.inliner import inline_local_functions

from edgefusion.compiler.frontend.legality_rules import stored_constant
from edgefusion.compiler.frontend.placement import HostGroup, entering, host_groups, leaving
from edgefusion.compiler.graph.file import INLINE_BYTES, OPSET, inferred_types
from edgefusion.compiler.graph.functions import DOMAIN
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.runtime.host_signature import HostSignature, HostTensor

IR_VERSION = 10
INDEX_AXIS = {"Gather": 0, "GatherElements": 0}
"""Ops whose second operand holds indices along the attribute ``axis``, with its default."""

UNCHECKED_OPS = frozenset({"GatherND", "ScatterElements", "ScatterND", "Scatter", "Compress"})
"""Ops with indices that compiled code would follow out of bounds."""


@dataclass(frozen=True, slots=True)
class HostModel:
    """A host group: its signature, and its ONNX model as bytes."""

    signature: HostSignature
    model: bytes


def host_models(graph: Graph) -> tuple[HostModel, ...]:
    """A model for each host group of ``graph``, in order; equal graphs give equal bytes."""
    groups = host_groups(graph)
    if not groups:
        return ()
    whole = graph.to_model(with_weights=False)
    return tuple(_host_model(group, whole) for group in groups)


def _host_model(group: HostGroup, whole: onnx.ModelProto) -> HostModel:
    nodes = _with_constant_makers(group.nodes)
    read = {t: None for node in nodes for t in node.inputs if t.is_constant}
    large = [t for t in read if t.lazy.nbytes >= INLINE_BYTES]
    inputs, outputs = entering(group.nodes), leaving(group.nodes)
    names = {node.name for node in nodes}
    small = {tensor.name for tensor in read} - {tensor.name for tensor in large}
    graph = helper.make_graph(
        [node for node in whole.graph.node if node.name in names],
        group.name,
        [_value_info(tensor) for tensor in (*inputs, *large)],
        [_value_info(tensor) for tensor in outputs],
        [initializer for initializer in whole.graph.initializer if initializer.name in small],
    )
    for node in graph.node:
        del node.metadata_props[:]
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        producer_name="edgefusion",
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        functions=list(whole.functions),
    )
    model = inline_local_functions(model)
    standard = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    extents, refusal = index_extents(model)
    signature = HostSignature(
        group.name,
        tuple(_host_tensor(tensor, extents) for tensor in inputs),
        tuple(_host_tensor(tensor, {}) for tensor in large),
        tuple(_host_tensor(tensor, {}) for tensor in outputs),
        refusal,
    )
    return HostModel(signature, model.SerializeToString(deterministic=True))


def _with_constant_makers(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """``nodes`` and the ones outside that unpack the constants which they read, makers first."""
    members = dict.fromkeys(nodes)
    makers = {
        t.producer: None
        for node in nodes
        for t in node.inputs
        if not t.is_absent and t.producer is not None and stored_constant(t) is not None
    }
    return (*(maker for maker in makers if maker not in members), *nodes)


def index_extents(model: onnx.ModelProto) -> tuple[dict[str, int], str]:
    """Bounds that the inputs of ``model`` must keep to, for they are indices; and why the model
    cannot be trusted to compiled code, which does not check indices, or ''.

    ONNX Runtime checks all indices itself; the runtime checks those that are inputs.
    """
    types = inferred_types(model)
    shapes = {name: shape for name, (shape, _) in types.items()}
    shapes |= {entry.name: tuple(entry.dims) for entry in model.graph.initializer}
    for info in model.graph.input:
        shapes[info.name] = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
    inputs = {info.name for info in model.graph.input}
    constants = {entry.name: entry for entry in model.graph.initializer}
    extents: dict[str, int] = {}
    below: dict[str, int] = {}  # what an ArgMax makes lies in its axis
    for node in model.graph.node:
        if node.op_type in UNCHECKED_OPS:
            return {}, f"{node.op_type} has indices that only ONNX Runtime checks"
        axis = next(
            (a.i for a in node.attribute if a.name == "axis"), INDEX_AXIS.get(node.op_type, 0)
        )
        if node.op_type in ("ArgMax", "ArgMin"):
            below[node.output[0]] = shapes[node.input[0]][axis]
        if node.op_type not in INDEX_AXIS:
            continue
        data, indices = node.input[:2]
        extent = shapes[data][axis]
        if indices in constants:
            values = onnx.numpy_helper.to_array(constants[indices])
            if values.size and not (-extent <= values.min() and values.max() < extent):
                return {}, f"{node.op_type} has indices out of bounds"
        elif indices in inputs:
            extents[indices] = min(extent, extents.get(indices, extent))
        elif below.get(indices, extent + 1) > extent:
            return {}, f"{node.op_type} has computed indices, which only ONNX Runtime checks"
    return extents, ""


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, dtype, tensor.shape)


def _host_tensor(tensor: Tensor, extents: Mapping[str, int]) -> HostTensor:
    dtype = np.dtype(tensor.dtype).name
    return HostTensor(tensor.name, tensor.shape, dtype, extents.get(tensor.name, 0))


def signatures(models: Iterable[HostModel]) -> tuple[HostSignature, ...]:
    """The signatures of ``models``."""
    return tuple(model.signature for model in models)
