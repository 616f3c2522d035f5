"""The streaming safetensors writer, read back by the safetensors library."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from edgefusion.compiler.graph.safetensors_file import ALIGNMENT, write_safetensors
from edgefusion.compiler.graph.weights import ArrayValues, DeferredValues, Values

ARRAYS = {
    "odd": np.arange(7, dtype=np.int8),
    "weights": np.arange(64, dtype=np.float32).reshape(8, 8),
    "half": np.arange(3, dtype=np.float16),
    "wide": np.arange(4, dtype=np.int64),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "turned": np.arange(32, dtype=np.float32).reshape(4, 8).T,
    "flags": np.array([True, False]),
    "other-endian": np.arange(5, dtype=">f4"),
}


def values() -> dict[str, Values]:
    return {name: ArrayValues(array) for name, array in ARRAYS.items()}


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "w.safetensors", values())
    loaded = load_file(tmp_path / "w.safetensors")
    assert set(loaded) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded[name], array)


def test_offsets_point_at_the_data_and_are_aligned(tmp_path: Path) -> None:
    offsets = write_safetensors(tmp_path / "w.safetensors", values())
    content = (tmp_path / "w.safetensors").read_bytes()
    for name, array in ARRAYS.items():
        dense = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
        start = offsets[name]
        assert content[start : start + array.nbytes] == dense.tobytes()
        assert start % (ALIGNMENT if array.nbytes % ALIGNMENT == 0 else array.itemsize) == 0


def test_bfloat16(tmp_path: Path) -> None:
    array = np.arange(4).astype(ml_dtypes.bfloat16)
    write_safetensors(tmp_path / "w.safetensors", {"b": ArrayValues(array)})
    header = (tmp_path / "w.safetensors").read_bytes()[8:]
    assert b'"dtype":"BF16"' in header


def test_one_tensor_at_a_time(tmp_path: Path) -> None:
    """A value is computed only when its turn has come, and once."""
    order: list[str] = []

    def deferred(name: str) -> Values:
        def compute() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            order.append(name)
            return np.zeros(16, np.float32)

        return DeferredValues((16,), np.dtype(np.float32), compute)

    write_safetensors(tmp_path / "w", {name: deferred(name) for name in ("b", "a", "c")})
    assert order == ["a", "b", "c"]


def test_a_type_that_safetensors_lacks(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_safetensors(tmp_path / "w", {"c": ArrayValues(np.zeros(2, np.complex64))})
