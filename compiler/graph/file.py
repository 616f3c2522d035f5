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
from onnx import numpy_helper, version_converter

from edgefusion.compiler.graph.safetensors_file import write_safetensors
from edgefusion.compiler.graph.weights import Values, fill_external, fill_inline
from edgefusion.runtime.errors import InputError, UnsupportedOpError

__all__ = [
    "fill_inline",
    "inferred_types",
    "metadata",
    "normalized",
    "read",
    "write",
]

OPSET = 20
"""Standard operator set that passes know; older models are converted on loading."""

OLDEST_OPSET = 13
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
        InputError: the operator set is too old, or an initializer is sparse.
        UnsupportedOpError: control flow.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _name_nodes(copy.graph)
    version = next((o.version for o in copy.opset_import if o.domain in ("", "ai.onnx")), OPSET)
    if version < OLDEST_OPSET:
        raise InputError(
            f"expected operator set {OLDEST_OPSET} or newer, the model uses {version}; "
            f"export it again with opset_version={OPSET}"
        )
    if version < OPSET:
        copy = _converted(copy)
    if copy.graph.sparse_initializer:
        name = copy.graph.sparse_initializer[0].values.name
        raise InputError(f"initializer '{name}' is sparse; export the model with dense weights")
    _constants_to_initializers(copy.graph)
    for node in copy.graph.node:
        if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
            raise UnsupportedOpError(
                f"{node.op_type} '{node.name}' is control flow, which has no static schedule; "
                "export the model with the branch taken and loops unrolled"
            )
    return copy


def _name_nodes(graph: onnx.GraphProto) -> None:
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    for node in graph.node:
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        stem, count = node.name or f"{node.op_type}_{node.output[0]}", 0
        name = stem
        while name in taken or name in seen or not name:
            count += 1
            name = f"{stem}_{count}"
        node.name = name
        seen.add(name)


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` at ``OPSET``; node metadata is put back by name, for the converter drops it."""
    props = {node.name: list(node.metadata_props) for node in model.graph.node}
    try:
        converted = version_converter.convert_version(model, OPSET)
    except RuntimeError as error:
        raise InputError(
            f"could not convert the model to operator set {OPSET}: {error}; "
            f"export it again with opset_version={OPSET}"
        ) from None
    _name_nodes(converted.graph)
    for node in converted.graph.node:
        if not node.metadata_props:
            node.metadata_props.extend(props.get(node.name, []))
    return converted


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            graph.initializer.append(_constant(node))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto:
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
    else:
        dtype = np.int64 if attribute.name.startswith("value_int") else np.float32
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
    tensor.name = node.output[0]
    return tensor


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
