"""Random values for a host function: what it is tried on before anything is trusted.

One kind of values finds one kind of fault. So every tensor is drawn several times: as ordinary
numbers, as positive ones (roots, logarithms, divisors), as round ones with halves, zeros and the
function's own constants (ties, roundings, comparisons), and as large ones (integers beyond 32
bits). Indices stay within their extents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.runtime.host_signature import HostTensor

Array = npt.NDArray[Any]

KINDS = ("small", "positive", "round", "large", "zero")
"""What integers are in each draw; floats of the last are drawn as those of the first."""

_ROUND = (-2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5)
_BLOCK = 65521
"""Larger tensors repeat so many values (a prime, so that rows differ)."""
_POOLED = 64


def draws(tensors: Sequence[HostTensor], model: onnx.ModelProto) -> Iterator[dict[str, Array]]:
    """Values for ``tensors`` by name, once for each of ``KINDS``; the same every time."""
    pool = _constants(model)
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng(number)
        yield {tensor.name: _values(tensor, kind, pool, rng) for tensor in tensors}


def _values(
    tensor: HostTensor, kind: str, pool: Sequence[float], rng: np.random.Generator
) -> Array:
    count = int(np.prod(tensor.shape, dtype=np.int64))
    drawn = _drawn(tensor, kind, pool, min(count, _BLOCK), rng)
    values = drawn if count <= _BLOCK else np.resize(drawn, count)
    return values.reshape(tensor.shape)


def _drawn(
    tensor: HostTensor, kind: str, pool: Sequence[float], count: int, rng: np.random.Generator
) -> Array:
    dtype = np.dtype(tensor.dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, count).astype(dtype)
    if dtype.kind not in "iu":
        return _floats(kind, pool, count, rng).astype(dtype)
    if tensor.extent:
        return rng.integers(-tensor.extent, tensor.extent, count).astype(dtype)
    limits = np.iinfo(dtype)
    lowest, highest = int(limits.min), int(limits.max)
    match kind:
        case "small":
            return rng.integers(max(-3, lowest), 5, count).astype(dtype)
        case "positive":
            return rng.integers(1, 5, count).astype(dtype)
        case "round":
            own = [int(v) for v in pool if v == int(v) and lowest <= v <= highest]
            return rng.choice(np.array([0, 1, *own], dtype), count)
        case "large":
            return rng.integers(lowest // 2, highest // 2, count).astype(dtype)
        case _:
            return np.zeros(count, dtype)


def _floats(kind: str, pool: Sequence[float], count: int, rng: np.random.Generator) -> Array:
    match kind:
        case "positive":
            return rng.uniform(0.05, 1.5, count)
        case "round":
            return rng.choice(np.array([*_ROUND, *pool]), count)
        case "large":
            return 30 * rng.standard_normal(count)
        case _:
            return rng.standard_normal(count)


def _constants(model: onnx.ModelProto) -> tuple[float, ...]:
    """Values of the small numeric constants of ``model``, for what is compared with them."""
    found: dict[float, None] = {}
    for array in _numeric(model.graph.initializer):
        if array.size <= _POOLED:
            found |= dict.fromkeys(array.ravel().tolist())
    return tuple(v for v in found if np.isfinite(v))[:_POOLED]


def _numeric(entries: Iterable[onnx.TensorProto]) -> Iterator[Array]:
    for entry in entries:
        array = onnx.numpy_helper.to_array(entry)
        if array.dtype.kind in "iuf":
            yield array
