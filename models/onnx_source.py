"""An .onnx file as SOURCE: checked whole, shapes made static, written in the exports' own form.

External weights are read in chunks and copied file to file; memory holds the graph file alone.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError
from onnx.inliner import inline_local_functions

from edgefusion.compiler.graph.float_types import in_float32
from edgefusion.compiler.graph.model_check import check_model
from edgefusion.compiler.graph.opset import IR_VERSION, opset_of
from edgefusion.compiler.graph.static_shapes import made_static
from edgefusion.models.checkpoint import file_digest
from edgefusion.models.onnx_weights import (
    check_finite_weights,
    external_slices,
    take_in_small_tensors,
)
from edgefusion.runtime.errors import EdgeFusionError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

INLINE_BYTES = 1024
"""Tensors below this stay in the graph file: shape inference reads shape constants there."""


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


def onnx_digest(path: Path) -> str:
    """sha256, as hex, over the graph file and each of its external data files."""
    total = hashlib.sha256(file_digest(path).encode())
    files = {place.location: place.path for place in external_slices(read_graph(path), path)}
    for location, data in sorted(files.items()):
        total.update(f"\n{location}\0{file_digest(data)}".encode())
    return total.hexdigest()


def check_onnx(
    path: Path, *, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> onnx.ModelProto:
    """The graph at our operator set, computing in float32, every shape static and known; big
    weights stay in their files.

    `shapes` gives inputs with dynamic dimensions their shape (`--shape name=1x3x224x224`).
    Raises InputError for: an unreadable file, an operator set that is not read, missing or short
    external data, NaN or infinite weights, dynamic inputs left, tensors of size 0, a shape that
    contradicts the graph, and an invalid graph; UnsupportedOpError for ops and types that neither
    the NPU nor the host can run.
    """
    model = read_graph(path)
    take_in_small_tensors(model, path, INLINE_BYTES)
    with _naming(path):
        check_model(model)
    check_finite_weights(model, path)
    with _naming(path):
        return imported(model, shapes)


def imported(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> onnx.ModelProto:
    """As `check_onnx`, of a valid model in memory, whose large weights may lie anywhere."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    opset_of(made)
    _open_negative_sizes(made.graph)
    _set_input_shapes(made, shapes or {})
    if shapes:
        del made.graph.value_info[:]  # stated for the old shapes
    if made.functions:
        made = inline_local_functions(made)
    made = made_static(made)
    in_float32(made)
    made.ir_version = IR_VERSION
    try:
        return onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the graph is inconsistent: {reason}. Check it with onnx.checker, and the shapes "
            "given with --shape."
        ) from error


def _open_negative_sizes(graph: onnx.GraphProto) -> None:
    """Sizes below zero are how some exporters write that a size is open."""
    for info in (*graph.input, *graph.output, *graph.value_info):
        for dimension in info.type.tensor_type.shape.dim:
            if dimension.dim_value < 0:
                dimension.Clear()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors inside say which file they are about."""
    try:
        yield
    except EdgeFusionError as error:
        raise type(error)(f"{path}: {error}") from error


def _is_fixed(value: onnx.ValueInfoProto) -> bool:
    """Whether the sizes of a tensor, which may be 0, are stated; what is no tensor is told of
    elsewhere."""
    if not value.type.HasField("tensor_type"):
        return True
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)


def _open_axes(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return "of any number of axes"
    sizes = enumerate(tensor.shape.dim)
    return ", ".join(
        f"axis {axis}{' = ' + d.dim_param if d.dim_param else ''}"
        for axis, d in sizes
        if not d.HasField("dim_value")
    )


def _set_input_shapes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    for name, shape in shapes.items():
        if name not in inputs:
            raise InputError(
                f"--shape names the input {name}, which the graph has not; its inputs are "
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
                f"--shape {name}={'x'.join(map(str, shape))} contradicts the graph, which states "
                f"{stated}. Give a positive size for each ? and keep the rest."
            )
        for dimension, size in zip(dimensions, shape, strict=True):
            dimension.dim_value = size
    dynamic = [name for name, value in inputs.items() if not _is_fixed(value)]
    if dynamic:
        axes = ", ".join(f"{name} ({_open_axes(inputs[name])})" for name in dynamic)
        raise InputError(
            f"the inputs {axes} have dynamic dimensions; expected static ones, because the NPU "
            f"program is compiled for one shape. Give each, as in --shape {dynamic[0]}=1x77."
        )
    if shapes:
        for output in model.graph.output:  # stale where they were symbolic: inferred anew
            for dimension in output.type.tensor_type.shape.dim:
                if not dimension.HasField("dim_value"):
                    dimension.Clear()
