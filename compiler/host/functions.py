"""Host groups as standalone ONNX models of standard ops, one a group.

In goes a graph that ``partition-host`` has marked; out come models whose inputs are those of the
``CALL`` instruction, then the constants that are too large to be code (the token embedding table
of CLIP has 152 MB): those stay in the bundle's weights and are passed at every call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper
from onnx.inliner import inline_local_functions

from edgefusion.compiler.frontend.legality_rules import stored_constant
from edgefusion.compiler.frontend.placement import HostGroup, entering, host_groups, leaving
from edgefusion.compiler.graph.file import INLINE_BYTES
from edgefusion.compiler.graph.functions import DOMAIN
from edgefusion.compiler.graph.graph import Graph, Node, Tensor
from edgefusion.compiler.graph.opset import IR_VERSION
from edgefusion.compiler.host.trust import Bounds, bounds
from edgefusion.runtime.host_signature import HostSignature, HostTensor


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
        opset_imports=list(whole.opset_import),
        functions=list(whole.functions),
    )
    model = inline_local_functions(model)
    standard = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    limits = bounds(model)
    signature = HostSignature(
        group.name,
        tuple(_host_tensor(tensor, limits) for tensor in inputs),
        tuple(_host_tensor(tensor, limits) for tensor in large),
        tuple(_host_tensor(tensor, Bounds()) for tensor in outputs),
        limits.refusal,
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


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, dtype, tensor.shape)


def _host_tensor(tensor: Tensor, limits: Bounds) -> HostTensor:
    dtype = np.dtype(tensor.dtype).name
    extent, divided = limits.extents.get(tensor.name, 0), tensor.name in limits.dividends
    return HostTensor(tensor.name, tensor.shape, dtype, extent, divided)


def signatures(models: Iterable[HostModel]) -> tuple[HostSignature, ...]:
    """The signatures of ``models``."""
    return tuple(model.signature for model in models)
