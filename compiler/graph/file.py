"""ONNX files: reading what users bring, writing what bundles hold.

Part of the facade in ``compiler.graph``; works on protobufs, knows nothing of passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from edgefusion.compiler.graph.model_check import check_model
from edgefusion.compiler.graph.node_names import name_nodes
from edgefusion.compiler.graph.opset import OPSET, opset_of
from edgefusion.compiler.graph.safetensors_file import write_safetensors
from edgefusion.compiler.graph.static_shapes import constant_value, made_static
from edgefusion.compiler.graph.weights import Values, fill_external, fill_inline
from edgefusion.runtime.errors import InputError

__all__ = [
    "OPSET",
    "fill_inline",
    "inferred_types",
    "metadata",
    "normalized",
    "read",
    "write",
]

INLINE_BYTES = 1024
"""Constants below this size stay in the graph itself: shapes, axes, scalars."""

Types = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def read(path: Path) -> tuple[onnx.ModelProto, Path]:
    """The model in ``path`` without its external data, and the folder that the data lie in."""
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise InputError(f"graph file '{path}' does not exist; check the path") from None
    except (DecodeError, IsADirectoryError, PermissionError, onnx.checker.ValidationError) as e:
        raise InputError(f"expected an ONNX model in '{path}', could not read one: {e}") from None
    if not model.HasField("graph") or not model.graph.output:
        raise InputError(
            f"expected an ONNX model in '{path}', found no graph with outputs; "
            "check that the file is complete"
        )
    return model, path.parent


def normalized(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` at ``OPSET``, nodes named uniquely, ``Constant`` nodes made initializers.

    Raises:
        InputError: no valid ONNX, an operator set that is none of those that are read, or an
            initializer that is sparse.
        UnsupportedOpError: control flow whose course is decided at run time.
    """
    check_model(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name_nodes(copy.graph.node)
    if copy.graph.sparse_initializer:
        name = copy.graph.sparse_initializer[0].values.name
        raise InputError(f"initializer '{name}' is sparse; export the model with dense weights")
    branches = any(a.type == a.GRAPH for node in copy.graph.node for a in node.attribute)
    if opset_of(copy) != OPSET or branches:
        copy = made_static(copy)
    _constants_to_initializers(copy.graph)
    return copy


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            graph.initializer.append(constant_value(node))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def metadata(node: onnx.NodeProto) -> dict[str, str]:
    """A node's metadata as a dictionary."""
    return {prop.key: prop.value for prop in node.metadata_props}


def inferred_types(model: onnx.ModelProto) -> Types:
    """Static shapes and types of all tensors that ONNX can infer in ``model``."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise InputError(f"the shapes of the model contradict each other: {error}") from None
    types: Types = {}
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        tensor = info.type.tensor_type
        dims = tensor.shape.dim
        if (
            tensor.elem_type
            and tensor.HasField("shape")
            and all(d.HasField("dim_value") for d in dims)
        ):
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            types[info.name] = (tuple(d.dim_value for d in dims), dtype)
    return types


def write(
    model: onnx.ModelProto, values: Mapping[str, Values], graph_path: Path, weights_path: Path
) -> None:
    """Write ``model`` to ``graph_path``, large constants to ``weights_path`` as safetensors."""
    large = {name: value for name, value in values.items() if value.nbytes >= INLINE_BYTES}
    try:
        location = weights_path.resolve().relative_to(graph_path.resolve().parent).as_posix()
    except ValueError:
        raise ValueError(f"'{weights_path}' must lie in the folder of '{graph_path}'") from None
    offsets = write_safetensors(weights_path, large)
    for proto in model.graph.initializer:
        if proto.name in large:
            fill_external(proto, location, offsets[proto.name], large[proto.name].nbytes)
        else:
            fill_inline(proto, values[proto.name])
    graph_path.write_bytes(model.SerializeToString(deterministic=True))
