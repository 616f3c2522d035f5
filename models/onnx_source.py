"""An .onnx file as SOURCE: checked whole, shapes made static, written in the exports' own form.

External weights are read in chunks and copied file to file; memory holds the graph file alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from edgefusion.models.checkpoint import file_digest
from edgefusion.models.onnx_weights import (
    ExternalSlice,
    check_finite_weights,
    external_slices,
)
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MIN_OPSET = 17  # LayerNormalization appears
MAX_OPSET = 22
INLINE_BYTES = 1024
"""Tensors below this stay in the graph file: shape inference reads shape constants there."""
_INPUTS = {
    frozenset({"input_ids"}): "text_encoder",
    frozenset({"sample", "timestep", "encoder_hidden_states"}): "unet",
    frozenset({"sample", "timestep", "encoder_hidden_states", "timestep_cond"}): "unet",
    frozenset({"latent"}): "vae_decoder",
}


def read_graph(path: Path) -> onnx.ModelProto:
    """The graph of an .onnx file, without its external weights. InputError when damaged."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise InputError(
            f"{path} ({path.stat().st_size if path.exists() else 0} bytes) is not a readable ONNX "
            f"model: {error}. The file is truncated or of another format: export or copy it again."
        ) from error
    if not model.graph.node:
        raise InputError(
            f"{path} holds a graph without nodes; expected an ONNX model. It may be truncated: "
            "export or copy it again."
        )
    return model


def component_of_onnx(path: Path) -> str:
    """The component whose input names the graph has, `model` for any other graph."""
    graph = read_graph(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    names = frozenset(value.name for value in graph.input if value.name not in weights)
    return _INPUTS.get(names, "model")


def onnx_digest(path: Path) -> str:
    """sha256, as hex, over the graph file and each of its external data files."""
    total = hashlib.sha256(file_digest(path).encode())
    for data in sorted({place.path for place in external_slices(read_graph(path), path).values()}):
        total.update(f"\n{data.relative_to(path.parent)}\0{file_digest(data)}".encode())
    return total.hexdigest()


def check_onnx(
    path: Path, *, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> onnx.ModelProto:
    """The graph with every shape static and known; big weights stay in their files.

    `shapes` gives inputs with dynamic dimensions their shape (`--shape name=1x3x224x224`).
    Raises InputError for: an unreadable file, an opset outside 17..22, missing or short external
    data, NaN or infinite weights, dynamic inputs left, a shape that contradicts the graph, and an
    invalid graph.
    """
    model = read_graph(path)
    _check_opset(model, path)
    slices = external_slices(model, path)
    check_finite_weights(model, slices, path)
    _inline_small_tensors(model, slices)
    _set_input_shapes(model, path, shapes or {})
    if shapes:
        del model.graph.value_info[:]  # stated for the old shapes
    try:
        model = onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{path}: the graph is inconsistent: {reason}. Check it with onnx.checker, and the "
            "shapes given with --shape."
        ) from error
    _check_static(model, path)
    return model


def is_static(value: onnx.ValueInfoProto) -> bool:
    """Whether the type is a tensor of known, positive dimensions."""
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(
        dimension.HasField("dim_value") and dimension.dim_value > 0
        for dimension in tensor.shape.dim
    )


def _check_opset(model: onnx.ModelProto, path: Path) -> None:
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    version = versions.get("ai.onnx", 0)
    if not MIN_OPSET <= version <= MAX_OPSET:
        raise InputError(
            f"{path} uses opset {version}; expected {MIN_OPSET} to {MAX_OPSET}. Convert it with "
            "onnx.version_converter, or export it again with opset 20."
        )


def _inline_small_tensors(model: onnx.ModelProto, slices: dict[str, ExternalSlice]) -> None:
    for tensor in model.graph.initializer:
        place = slices.get(tensor.name)
        if place is not None and place.length_bytes < INLINE_BYTES:
            with place.path.open("rb") as stream:
                stream.seek(place.offset_bytes)
                tensor.raw_data = stream.read(place.length_bytes)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def _set_input_shapes(
    model: onnx.ModelProto, path: Path, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    for name, shape in shapes.items():
        if name not in inputs:
            raise InputError(
                f"--shape names the input {name}, which {path} has not; its inputs are "
                f"{', '.join(inputs)}. Correct the name."
            )
        dimensions = inputs[name].type.tensor_type.shape.dim
        fixed = [d.dim_value if d.HasField("dim_value") else None for d in dimensions]
        agree = len(fixed) == len(shape) and all(
            size > 0 and known in (None, size) for known, size in zip(fixed, shape, strict=True)
        )
        if not agree:
            stated = "x".join("?" if size is None else str(size) for size in fixed)
            raise InputError(
                f"--shape {name}={'x'.join(map(str, shape))} contradicts {path}, which states "
                f"{stated}. Give a positive size for each ? and keep the rest."
            )
        for dimension, size in zip(dimensions, shape, strict=True):
            dimension.dim_value = size
    dynamic = [name for name, value in inputs.items() if not is_static(value)]
    if dynamic:
        raise InputError(
            f"{path}: the inputs {', '.join(dynamic)} have dynamic dimensions; expected static "
            f"ones, because the NPU program is compiled for one shape. Give each, as in "
            f"--shape {dynamic[0]}=1x77."
        )
    if shapes:
        for output in model.graph.output:  # stale where they were symbolic: inferred anew
            for dimension in output.type.tensor_type.shape.dim:
                if not dimension.HasField("dim_value"):
                    dimension.Clear()


def _check_static(model: onnx.ModelProto, path: Path) -> None:
    graph = model.graph
    known = {v.name for v in (*graph.value_info, *graph.output) if is_static(v)}
    for node in graph.node:
        for name in node.output:
            if name and name not in known:
                raise InputError(
                    f"{path}: the shape of {name}, made by {node.op_type} {node.name}, depends on "
                    "values known only at run time; expected static shapes throughout. Export "
                    "with fixed shapes, or fold constants first (onnxsim)."
                )
