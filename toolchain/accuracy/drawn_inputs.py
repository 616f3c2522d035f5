"""Random inputs that a graph can be run on, in the types and shapes that it declares.

Floats are normal. Indices stay within what they index, masks hold both values and mask nothing out
wholly, whole numbers that are neither are small and not zero (they may be divided by), bytes span
their type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.graph.expand_functions import expand_functions

Array = npt.NDArray[Any]

_MASK = re.compile(r"mask", re.IGNORECASE)
_SAME_VALUES = frozenset(
    {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice",
     "Concat", "Expand", "Split", "Tile"}
)  # fmt: skip
"""Ops whose results hold values of their inputs."""
_ARITHMETIC = frozenset(
    {"Add", "Sub", "Mul", "Div", "Mod", "Neg", "Abs", "Max", "Min", "Clip", "Where", "CumSum"}
)
_INDEXING = frozenset({"Gather", "GatherElements", "ScatterElements", "GatherND", "ScatterND"})


def drawn_inputs(model: onnx.ModelProto, rng: np.random.Generator) -> dict[str, Array]:
    """Values for all inputs of ``model``, whose shapes are static."""
    uses = _Uses()
    uses.read(expand_functions(model) if model.functions else model)
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        info.name: _drawn(info, uses, rng)
        for info in model.graph.input
        if info.name not in constants
    }


def fitted_inputs(model: onnx.ModelProto, found: Iterable[tuple[str, Array]]) -> dict[str, Array]:
    """Those of ``found`` that ``model`` takes, in its types; with its shape where a single value
    is given in another one. Others, and those of other sizes, are left out."""
    ports = {info.name: _type_of(info) for info in model.graph.input}
    fitted = {}
    for name, value in found:
        if name in ports:
            dtype, shape = ports[name]
            if value.shape == shape or (value.size == 1 and np.prod(shape) == 1):
                fitted[name] = np.asarray(value).reshape(shape).astype(dtype)
    return fitted


def zeroed(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """``feeds`` with zero for all whole numbers: valid as indices, whatever they index."""
    return {
        name: np.zeros_like(value) if value.dtype.kind in "iu" else value
        for name, value in feeds.items()
    }


@dataclass(slots=True)
class _Uses:
    """What a graph does with its inputs: the extent of what each one indexes, which are truth
    values, and from which ``computed`` ones indices are made."""

    extents: dict[str, int] = field(default_factory=dict)
    truths: set[str] = field(default_factory=set)
    computed: set[str] = field(default_factory=set)

    def read(self, model: onnx.ModelProto) -> None:
        """Follow each input through ops that keep its values."""
        graph = model.graph
        shapes = {t.name: tuple(t.dims) for t in graph.initializer}
        for info in (*graph.input, *graph.value_info):
            shapes.setdefault(info.name, _type_of(info)[1])
        origins = {info.name: {info.name} for info in graph.input}
        makers: dict[str, set[str]] = {}
        for node in graph.node:
            read: set[str] = set()
            made_of: set[str] = set()
            for name in node.input:
                read |= origins.get(name, set())
                made_of |= makers.get(name, set())
            if node.op_type in _SAME_VALUES:
                origins |= dict.fromkeys(node.output, read)
                makers |= dict.fromkeys(node.output, made_of)
            elif node.op_type in _ARITHMETIC:
                makers |= dict.fromkeys(node.output, made_of | read)
            truth = node.op_type in ("Not", "And", "Or", "Xor") or any(
                a.name == "to" and a.i == onnx.TensorProto.BOOL for a in node.attribute
            )
            if truth:
                self.truths |= read
            if node.op_type == "Where":
                self.truths |= origins.get(node.input[0], set())
            if node.op_type in _INDEXING and len(node.input) > 1:
                self.computed |= makers.get(node.input[1], set())
                extent = _extent(node, shapes.get(node.input[0], ()))
                for name in origins.get(node.input[1], set()):
                    self.extents[name] = min(extent, self.extents.get(name, extent))


def _extent(node: onnx.NodeProto, shape: tuple[int, ...]) -> int:
    """The least size among the axes that ``node`` indexes; 1 (index zero alone) if unknown."""
    if not shape:
        return 1
    if node.op_type.endswith("ND"):
        return max(1, min(shape))
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    return max(1, shape[axis])


def _drawn(info: onnx.ValueInfoProto, uses: _Uses, rng: np.random.Generator) -> Array:
    dtype, shape = _type_of(info)
    name = info.name
    if name in uses.extents and dtype.kind in "iu":
        return rng.integers(0, uses.extents[name], shape).astype(dtype)
    if dtype.kind == "b" or name in uses.truths or _MASK.search(name):
        return _mask(shape, rng).astype(dtype)
    if dtype.kind in "iu" and name in uses.computed:
        return np.zeros(shape, dtype)
    if dtype.kind in "iu":
        if dtype.itemsize == 1:
            values = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape)
            return np.where(values == 0, 1, values).astype(dtype)
        return rng.integers(1, 5, shape).astype(dtype)
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Both values along the last axis: neither meaning of true masks a row out."""
    values = np.asarray(rng.random(shape) < 0.7)
    if shape and shape[-1] > 1:
        values[..., 0], values[..., -1] = True, False
    else:
        values[...] = True
    return values


def _type_of(info: onnx.ValueInfoProto) -> tuple[np.dtype[Any], tuple[int, ...]]:
    tensor = info.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type or 1))
    return dtype, tuple(dim.dim_value for dim in tensor.shape.dim)
