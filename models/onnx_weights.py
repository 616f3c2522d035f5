"""The weights of an untrusted .onnx file: where they lie, and whether they are sane.

Reads in chunks, so that memory stays small however large the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_CHUNK_BYTES = 1 << 24
_FLOATS: dict[int, type[np.floating]] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.FLOAT16: np.float16,
    onnx.TensorProto.DOUBLE: np.float64,
}
_MASKING_OPS = {"Add", "Where"}
"""Minus infinity is a legitimate value for what only these read: an attention mask."""


@dataclass(frozen=True, slots=True)
class ExternalSlice:
    """The bytes of one tensor within a data file beside the graph file."""

    path: Path
    offset_bytes: int
    length_bytes: int


def external_slices(model: onnx.ModelProto, path: Path) -> dict[str, ExternalSlice]:
    """Where each externally stored weight lies, by name; `path` is the graph file.

    Raises InputError for a data file that is missing, lies outside the graph's folder, or is too
    short, and for a length that contradicts the tensor's shape.
    """
    slices: dict[str, ExternalSlice] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        fields = {entry.key: entry.value for entry in tensor.external_data}
        location = fields.get("location", "")
        data = path.parent / location
        if not data.is_file() or not data.resolve().is_relative_to(path.parent.resolve()):
            raise InputError(
                f"{path}: the weight {tensor.name} lies in the file {location!r}, which is not "
                f"in {path.parent}. Copy it beside the .onnx file."
            )
        needed = tensor_bytes(tensor)
        offset, length = fields.get("offset", "0"), fields.get("length", str(needed))
        size = data.stat().st_size
        if (
            not (offset.isdecimal() and length.isdecimal())
            or int(length) != needed
            or int(offset) + needed > size
        ):
            raise InputError(
                f"{path}: the weight {tensor.name} needs {needed} bytes at offset {offset} of "
                f"{location}, which has {size} bytes and states {length} for it. The data file "
                "is truncated or belongs to another model: copy it again."
            )
        slices[tensor.name] = ExternalSlice(data, int(offset), needed)
    return slices


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's raw form, from its shape and type."""
    count = int(np.prod(tensor.dims, dtype=np.int64))
    if tensor.data_type in {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}:
        return (count + 1) // 2
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def check_finite_weights(
    model: onnx.ModelProto, slices: dict[str, ExternalSlice], path: Path
) -> None:
    """Raises InputError, naming the first such weight, for NaN or infinite values.

    Minus infinity passes in tensors that only Add and Where read (attention masks).
    """
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    for tensor in model.graph.initializer:
        if tensor.data_type not in _FLOATS:
            continue
        may_mask = readers.get(tensor.name, {""}) <= _MASKING_OPS
        for chunk in _chunks(tensor, slices.get(tensor.name)):
            sane = np.isfinite(chunk)
            if may_mask:
                sane |= np.isneginf(chunk)
            if not sane.all():
                raise InputError(
                    f"{path}: the weight {tensor.name} holds NaN or infinite values; expected "
                    "finite numbers. The checkpoint is damaged or its training diverged: use an "
                    "earlier one."
                )


def _chunks(
    tensor: onnx.TensorProto, place: ExternalSlice | None
) -> Iterator[NDArray[np.floating]]:
    if place is None:
        yield onnx.numpy_helper.to_array(tensor)
        return
    left_bytes = place.length_bytes
    with place.path.open("rb") as stream:
        stream.seek(place.offset_bytes)
        while left_bytes > 0:
            data = stream.read(min(left_bytes, _CHUNK_BYTES))
            left_bytes -= len(data)
            yield np.frombuffer(data, _FLOATS[tensor.data_type])
