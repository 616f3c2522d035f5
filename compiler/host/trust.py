"""What of a host function compiled code must not be left alone with, told from its model.

Compiled code checks nothing: it follows an index out of bounds, and an integer quotient that does
not exist ends the process. What comes in as an argument the runtime checks at every call
(``Bounds``); what is computed inside only ONNX Runtime checks, so it keeps such functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.graph.file import inferred_types

Array = npt.NDArray[Any]

INDEX_AXIS = {"Gather": 0, "GatherElements": 0}
"""Ops whose second operand holds indices along the attribute ``axis``, with its default."""

UNCHECKED_OPS = frozenset({
    "GatherND", "ScatterElements", "ScatterND", "Scatter", "Compress", "MaxUnpool",
    "ReverseSequence", "GridSample", "RoiAlign", "MaxRoiPool", "DeformConv", "Col2Im",
})  # fmt: skip
"""Ops with indices or coordinates that compiled code would follow out of bounds."""

DIVISIONS = ("Div", "Mod")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What inputs must keep to: ``extents`` of those that are indices, and those whose integers are
    divided (``dividends``). ``refusal`` says why compiled code is not trusted even so, or ''."""

    extents: Mapping[str, int] = field(default_factory=dict)
    dividends: frozenset[str] = frozenset()
    refusal: str = ""


def bounds(model: onnx.ModelProto) -> Bounds:
    """The bounds of ``model``, whose functions are inlined and whose shapes are static."""
    facts = _Facts.of(model)
    refusal = next(filter(None, _refusals(facts)), "")
    extents, unbounded = _extents(facts)
    return Bounds(extents, _dividends(facts), refusal or unbounded)


@dataclass(frozen=True, slots=True)
class _Facts:
    model: onnx.ModelProto
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[Any]]
    inputs: frozenset[str]
    constants: Mapping[str, onnx.TensorProto]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Facts:
        types = dict(inferred_types(model))
        for info in (*model.graph.input, *model.graph.output):
            kind = info.type.tensor_type
            shape = tuple(d.dim_value for d in kind.shape.dim)
            types[info.name] = shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        for entry in model.graph.initializer:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(entry.data_type)
            types[entry.name] = tuple(entry.dims), dtype
        return cls(
            model,
            {name: shape for name, (shape, _) in types.items()},
            {name: np.dtype(dtype) for name, (_, dtype) in types.items()},
            frozenset(info.name for info in model.graph.input),
            {entry.name: entry for entry in model.graph.initializer},
        )

    def value(self, name: str) -> Array | None:
        """What the constant ``name`` holds."""
        entry = self.constants.get(name)
        return None if entry is None else onnx.numpy_helper.to_array(entry)

    def divisions(self) -> Iterator[onnx.NodeProto]:
        """Nodes that divide integers."""
        for node in self.model.graph.node:
            if node.op_type in DIVISIONS:
                dtype = self.dtypes.get(node.output[0]) or self.dtypes.get(node.input[0])
                if dtype is None or dtype.kind in "iu":
                    yield node


def _refusals(facts: _Facts) -> Iterator[str]:
    for name, shape in facts.shapes.items():
        if 0 in shape:
            yield f"'{name}' has shape {list(shape)}: TVM takes no tensor of size 0"
    for node in facts.model.graph.node:
        if node.op_type in UNCHECKED_OPS:
            yield f"{node.op_type} has indices that only ONNX Runtime checks"
        if node.op_type == "IsInf" and any(a.name.startswith("detect") for a in node.attribute):
            yield "IsInf of one sign alone: TVM takes both, and trials draw nothing infinite"
    for node in facts.divisions():
        divisor = facts.value(node.input[1])
        if divisor is None:
            yield f"{node.op_type} of integers has a divisor that only ONNX Runtime checks"
        elif not divisor.all() or (divisor == -1).any():
            yield f"{node.op_type} of integers has a divisor of 0 or -1"


def _extents(facts: _Facts) -> tuple[dict[str, int], str]:
    """Bounds of the inputs that are indices, and why there are others, or ''."""
    extents: dict[str, int] = {}
    below: dict[str, int] = {}  # what an ArgMax makes lies in its axis
    for node in facts.model.graph.node:
        axis = next(
            (a.i for a in node.attribute if a.name == "axis"), INDEX_AXIS.get(node.op_type, 0)
        )
        if node.op_type not in ("ArgMax", "ArgMin", *INDEX_AXIS):
            continue
        shape = facts.shapes.get(node.input[0])
        if shape is None:
            return {}, f"{node.op_type} reads '{node.input[0]}', whose shape is not known"
        extent = shape[axis]
        if node.op_type not in INDEX_AXIS:
            below[node.output[0]] = extent
            continue
        indices = node.input[1]
        values = facts.value(indices)
        if values is not None:
            if values.size and not (-extent <= values.min() and values.max() < extent):
                return {}, f"{node.op_type} has indices out of bounds"
        elif indices in facts.inputs:
            extents[indices] = min(extent, extents.get(indices, extent))
        elif below.get(indices, extent + 1) > extent:
            return {}, f"{node.op_type} has computed indices, which only ONNX Runtime checks"
    return extents, ""


def _dividends(facts: _Facts) -> frozenset[str]:
    """Signed inputs of a function that may divide by -1: the least integer has no such quotient,
    and the CPU stops a process that asks for it."""
    for node in facts.divisions():
        divisor = facts.value(node.input[1])
        if divisor is None or (divisor == -1).any():
            return frozenset(name for name in facts.inputs if facts.dtypes[name].kind == "i")
    return frozenset()
