"""Which input element a nearest-neighbour Resize reads for each output element."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.graph.graph import Node

Floats = npt.NDArray[np.float32]

_HALF = np.float32(0.5)


def _half_pixel(i: Floats, scale: np.float32, size: int) -> Floats:  # noqa: ARG001
    return (i + _HALF) / scale - _HALF


def _pytorch_half_pixel(i: Floats, scale: np.float32, size: int) -> Floats:  # noqa: ARG001
    return (i + _HALF) / scale - _HALF if len(i) > 1 else 0 * i


def _asymmetric(i: Floats, scale: np.float32, size: int) -> Floats:  # noqa: ARG001
    return i / scale


def _align_corners(i: Floats, scale: np.float32, size: int) -> Floats:  # noqa: ARG001
    return i * np.float32(size - 1) / np.float32(len(i) - 1) if len(i) > 1 else 0 * i


_COORDINATES: Mapping[str, Callable[[Floats, np.float32, int], Floats]] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "asymmetric": _asymmetric,
    "align_corners": _align_corners,
}
"""By ``coordinate_transformation_mode``: where output i of as many lies in an input of ``size``."""

_ROUNDING: Mapping[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def nearest_factor(node: Node, spatial: tuple[int, int] = (1, 2)) -> int | None:
    """The whole factor by which a Resize repeats elements along both axes ``spatial`` (those of
    x[n,h,w,c]), and changes nothing else; None if it does otherwise.

    ONNX operators, Resize: the scale decides which input an output reads, and the scale need not be
    the quotient of the sizes (2.1 times 5 elements are 10).
    """
    x, y = node.inputs[0].shape, node.output.shape
    if len(x) != 4 or 0 in x or "axes" in node.attrs:
        return None
    factor = y[spatial[0]] // x[spatial[0]]
    repeats = tuple(factor if axis in spatial else 1 for axis in range(4))
    if y != tuple(n * m for n, m in zip(x, repeats, strict=True)):
        return None
    for axis, each in enumerate(repeats):
        read = nearest_indices(node, axis)
        if read is None or not np.array_equal(read, np.arange(y[axis]) // each):
            return None
    return factor


def nearest_indices(node: Node, axis: int) -> npt.NDArray[np.int64] | None:
    """For each output along ``axis`` the input that a Resize over all axes reads, in single
    precision as ONNX Runtime computes it; None where the NPU's compiler does not know."""
    size, count = node.inputs[0].shape[axis], node.output.shape[axis]
    where = _COORDINATES.get(node.get_str("coordinate_transformation_mode", "half_pixel"))
    rounding = _ROUNDING.get(node.get_str("nearest_mode", "round_prefer_floor"))
    scale = _scale(node, axis)
    if node.get_str("mode", "nearest") != "nearest" or not where or not rounding or scale is None:
        return None
    place = where(np.arange(count, dtype=np.float32), scale, size)
    found = rounding(place.astype(np.float64))  # half of a number may be lost in single precision
    indices: npt.NDArray[np.int64] = np.clip(found, 0, size - 1).astype(np.int64)
    return indices


def _scale(node: Node, axis: int) -> np.float32 | None:
    scales = node.input(2)
    if scales is not None:
        return np.float32(scales.values()[axis]) if scales.is_constant else None
    if node.get_str("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    return np.float32(node.output.shape[axis]) / np.float32(node.inputs[0].shape[axis])
