"""The weights of an untrusted .onnx file: where they lie, and whether they are sane.

Reads in chunks, so that memory stays small however large the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_CHUNK_BYTES = 1 << 24
_FLOATS: dict[int, np.dtype[np.generic]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.BFLOAT16: onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
}
_MASKING_OPS = {"Add", "Where"}
"""Minus infinity is a legitimate value for what only these read: an attention mask."""


@dataclass(frozen=True, slots=True)
class ExternalSlice:
    """The bytes of one tensor within a data file beside the graph file.

    ``location`` is what the graph calls the file, ``path`` where it was found.
    """

    location: str
    path: Path
    offset_bytes: int
    length_bytes: int


def all_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every stored tensor, with what to call it: initializers, and attributes of nodes, those of
    subgraphs too."""
    for tensor in graph.initializer:
        yield f"the weight {tensor.name}", tensor
    for node in graph.node:
        for attribute in node.attribute:
            tensors = [attribute.t] if attribute.type == attribute.TENSOR else attribute.tensors
            for tensor in tensors:
                yield (
                    f"the {attribute.name} of {node.op_type} {node.name or node.output[0]}",
                    tensor,
                )
            subgraphs = [attribute.g] if attribute.type == attribute.GRAPH else attribute.graphs
            for subgraph in subgraphs:
                yield from all_tensors(subgraph)


def external_slices(model: onnx.ModelProto, path: Path) -> Iterator[ExternalSlice]:
    """Where each externally stored tensor of ``model`` lies; ``path`` is the graph file.

    Raises InputError as ``external_slice`` does.
    """
    for what, tensor in all_tensors(model.graph):
        place = external_slice(tensor, what, path)
        if place is not None:
            yield place


def external_slice(tensor: onnx.TensorProto, what: str, path: Path) -> ExternalSlice | None:
    """Where ``tensor``, to be called ``what``, lies; None if it is in the graph file ``path``.

    Data files lie beside the graph file, as ``path`` names it or where that link leads: the cache
    of the Hugging Face hub has both as links into a folder of blobs.

    Raises InputError for a data file that is missing, whose name leads out of the graph's folder,
    or that is too short, and for a length that contradicts the tensor's shape.
    """
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return None
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = fields.get("location", "")
    data = data_file(path, location, what)
    needed = tensor_bytes(tensor)
    offset, length = fields.get("offset", "0"), fields.get("length", str(needed))
    size = data.stat().st_size
    if (
        not (offset.isdecimal() and length.isdecimal())
        or int(length) != needed
        or int(offset) + needed > size
    ):
        raise InputError(
            f"{path}: {what} needs {needed} bytes at offset {offset} of {location}, which has "
            f"{size} bytes and states {length} for it. The data file is truncated or belongs to "
            "another model: copy it again."
        )
    return ExternalSlice(location, data, int(offset), needed)


def data_file(path: Path, location: str, what: str) -> Path:
    """The data file that the graph file ``path`` calls ``location``, for ``what`` it stores.

    Raises InputError for a name that leads elsewhere, and for a file that is not there.
    """
    leads_out = (
        PurePosixPath(location).is_absolute()
        or PureWindowsPath(location).drive
        or ".." in PureWindowsPath(location).parts
    )
    if leads_out or not location:
        raise InputError(
            f"{path}: {what} is said to lie in the file {location!r}. A graph may name files in "
            "its own folder alone, lest it read others: save the model again with its data file "
            "beside it."
        )
    places = dict.fromkeys((path.parent, path.resolve().parent))
    found = next((place / location for place in places if (place / location).is_file()), None)
    if found is None:
        raise InputError(
            f"{path}: {what} lies in the file {location!r}, which is not in {path.parent}. Copy it "
            "beside the .onnx file."
        )
    return found


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's raw form, from its shape and type."""
    count = int(np.prod(tensor.dims, dtype=np.int64))
    if tensor.data_type in {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}:
        return (count + 1) // 2
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def take_in_small_tensors(model: onnx.ModelProto, path: Path, below_bytes: int) -> None:
    """Move external tensors of less than ``below_bytes`` into ``model``: shapes and axes, which
    decide what the rest is. Raises InputError as ``external_slice`` does, for larger ones too."""
    for what, tensor in all_tensors(model.graph):
        place = external_slice(tensor, what, path)
        if place is not None and place.length_bytes < below_bytes:
            with place.path.open("rb") as stream:
                stream.seek(place.offset_bytes)
                tensor.raw_data = stream.read(place.length_bytes)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def check_finite_weights(model: onnx.ModelProto, path: Path) -> None:
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
        place = external_slice(tensor, f"the weight {tensor.name}", path)
        for chunk in _chunks(tensor, place):
            sane = np.isfinite(chunk)
            if may_mask:
                sane |= chunk == -np.inf
            if not sane.all():
                raise InputError(
                    f"{path}: the weight {tensor.name} holds NaN or infinite values; expected "
                    "finite numbers. The checkpoint is damaged or its training diverged: use an "
                    "earlier one."
                )


def _chunks(tensor: onnx.TensorProto, place: ExternalSlice | None) -> Iterator[NDArray[np.generic]]:
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
