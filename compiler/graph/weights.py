"""Constant values that stay where they are until somebody reads them.

A U-Net holds gigabytes of weights; a pass looks at shapes. So every constant of a graph is one of
three kinds of ``Values``: bytes of a file (memory-mapped when read), a function of other values
(computed when read, so that quantized weights are never all in memory), or an array.
onnx-graphsurgeon takes them for its own ``LazyValues`` and never reads them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues

from edgefusion.compiler.graph.mapped_file import MappedFile
from edgefusion.runtime.errors import InputError

Array = npt.NDArray[Any]

PLACEHOLDER = "edgefusion:elsewhere"
"""External location of an initializer whose bytes were left out on purpose."""


class Values(LazyValues):  # type: ignore[misc]  # graphsurgeon ships no types
    """Shape and dtype now, values on ``load``. Subclasses say where the values come from."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Do not call the base class: it wants a TensorProto that we do not have."""
        self.shape = shape
        self.dtype = dtype
        self.nbytes = prod(shape) * dtype.itemsize

    @property
    def tensor(self) -> onnx.TensorProto:
        """What graphsurgeon exports: the tensor without its bytes, to be filled by the caller."""
        proto = onnx.TensorProto(
            dims=self.shape, data_type=onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        )
        _set_external(proto, PLACEHOLDER, 0, self.nbytes)
        return proto

    def load(self) -> Array:
        """The values; not cached, so hold on to the result only as long as it is needed."""
        raise NotImplementedError

    def reshaped(self, shape: tuple[int, ...]) -> Values:
        """The same values under another shape, still unread."""
        return DeferredValues(shape, self.dtype, lambda: self.load().reshape(shape))


class FileValues(Values):
    """Bytes of a file of external data; reading gives a view of the mapped file, no copy."""

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], file: MappedFile, offset: int
    ) -> None:
        """``offset`` is in bytes; the caller has checked that the file is long enough."""
        super().__init__(shape, dtype)
        self.file = file
        self.offset = offset

    def load(self) -> Array:
        """A read-only view into the mapped file."""
        return self.file.array(self.shape, self.dtype, self.offset)

    def reshaped(self, shape: tuple[int, ...]) -> Values:
        """The same bytes of the file under another shape."""
        return FileValues(shape, self.dtype, self.file, self.offset)


class DeferredValues(Values):
    """Values computed anew by every ``load``; ``compute`` must be pure."""

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], compute: Callable[[], Array]
    ) -> None:
        """``compute()`` returns ``shape`` and ``dtype``; anything else is a defect."""
        super().__init__(shape, dtype)
        self.compute = compute

    def load(self) -> Array:
        """Compute, and check that the promise about shape and dtype was kept."""
        values = self.compute()
        if values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError(
                f"expected a deferred constant of {self.dtype}{list(self.shape)}, "
                f"computed {values.dtype}{list(values.shape)}"
            )
        return values


class ArrayValues(Values):
    """Values that are in memory already."""

    def __init__(self, array: Array) -> None:
        """The array is shared, not copied, and must not change any more."""
        super().__init__(tuple(array.shape), array.dtype)
        self.array = array

    def load(self) -> Array:
        """The array itself."""
        return self.array


class ProtoValues(Values):
    """Values inside a TensorProto, decoded when read."""

    def __init__(self, proto: onnx.TensorProto) -> None:
        """The proto is kept as it is."""
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(proto.data_type))
        super().__init__(tuple(proto.dims), dtype)
        self.proto = proto

    def load(self) -> Array:
        """The decoded tensor."""
        return np.asarray(onnx.numpy_helper.to_array(self.proto))


def values_by_name(protos: Iterable[onnx.TensorProto], base: Path | None) -> dict[str, Values]:
    """The values of initializers; ``base`` is the folder that external data is relative to.

    Raises:
        InputError: external data is missing, too short, or outside ``base``.
    """
    files: dict[Path, MappedFile] = {}
    values: dict[str, Values] = {}
    for proto in protos:
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            values[proto.name] = _file_values(proto, base, files)
        else:
            values[proto.name] = ProtoValues(proto)
    return values


def _file_values(
    proto: onnx.TensorProto, base: Path | None, files: dict[Path, MappedFile]
) -> FileValues:
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    if base is None or not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise InputError(
            f"expected the external data of initializer '{proto.name}' beside its graph, "
            f"got location '{location}'; load the graph from its file, with its data next to it"
        )
    path = base / location
    if path not in files:
        if not path.is_file():
            raise InputError(
                f"external data '{path}' of initializer '{proto.name}' does not exist; "
                "copy the graph together with its data file"
            )
        files[path] = MappedFile(path)
    file, offset = files[path], int(entries.get("offset", "0"))
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(proto.data_type))
    values = FileValues(tuple(proto.dims), dtype, file, offset)
    length = int(entries.get("length", str(values.nbytes)))
    if length != values.nbytes:
        raise InputError(
            f"initializer '{proto.name}' of shape {list(values.shape)} needs {values.nbytes} "
            f"bytes, but the graph records {length}; export the model again"
        )
    if offset + length > file.nbytes:
        raise InputError(
            f"external data '{path}' is truncated: initializer '{proto.name}' ends at byte "
            f"{offset + length}, the file has {file.nbytes}; copy or export it again"
        )
    return values


def raw_values(constant: gs.Constant) -> Values:
    """The values of a constant of a graph, which are always of our kind."""
    values = constant._values
    if not isinstance(values, Values):
        raise TypeError(
            f"constant '{constant.name}' was not made by edgefusion.compiler.graph.graph"
        )
    return values


def stored_bytes(array: Array) -> npt.NDArray[np.uint8]:
    """The bytes of ``array`` as ONNX and safetensors store them: dense, little-endian."""
    dense = np.ascontiguousarray(array)
    if dense.dtype.byteorder == ">" or (dense.dtype.byteorder == "=" and sys.byteorder == "big"):
        dense = dense.astype(dense.dtype.newbyteorder("<"))
    return dense.reshape(-1).view(np.uint8)


def fill_inline(proto: onnx.TensorProto, values: Values) -> None:
    """Put the bytes into ``proto``."""
    del proto.external_data[:]
    proto.ClearField("data_location")
    proto.raw_data = stored_bytes(values.load()).tobytes()


def fill_external(proto: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Let ``proto`` refer to ``length`` bytes at ``offset`` of the file ``location``."""
    del proto.external_data[:]
    _set_external(proto, location, offset, length)


def _set_external(proto: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    proto.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        proto.external_data.add(key=key, value=str(value))
