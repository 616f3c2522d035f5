"""Models in float16, bfloat16 or float64 compute in float32, as all passes expect.

Inputs and outputs keep their types: a Cast stands at each. How values are rounded on the NPU is
decided by the precision of each op, not by the type that a checkpoint was stored in.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgefusion.compiler.graph.node_names import free_name
from edgefusion.runtime.errors import InputError

OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)

SMALL_VALUES = 1 << 14
"""Constants of up to so many values, where they are in the graph itself, are converted here."""

_TYPE_ATTRIBUTES = ("to", "dtype", "stash_type", "softmax_precision", "output_datatype")
"""Attributes whose value is an element type."""


def in_float32(model: onnx.ModelProto) -> None:
    """Change ``model``, whose values all have types, in place.

    Large weights keep their type, with a Cast behind them, so that none is read here.

    Raises:
        InputError: a float64 constant that float32 cannot hold.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    taken = {name for node in graph.node for name in node.output} | weights
    taken |= {info.name for info in graph.input}
    renamed: dict[str, str] = {}
    before: list[onnx.NodeProto] = []
    for info in graph.input:
        if info.name not in weights and _is_other(info.type):
            renamed[info.name] = free_name(f"{info.name}.float32", taken)
            before.append(_cast(info.name, renamed[info.name], TensorProto.FLOAT))
            graph.value_info.append(_retyped(info, renamed[info.name]))
    for tensor in graph.initializer:
        if tensor.data_type not in OTHER_FLOATS:
            continue
        if tensor.data_location == TensorProto.EXTERNAL or prod(tensor.dims) > SMALL_VALUES:
            renamed[tensor.name] = free_name(f"{tensor.name}.float32", taken)
            before.append(_cast(tensor.name, renamed[tensor.name], TensorProto.FLOAT))
            kind = helper.make_tensor_value_info("", TensorProto.FLOAT, tensor.dims)
            graph.value_info.append(_retyped(kind, renamed[tensor.name]))
        else:
            tensor.CopyFrom(_constant(tensor))
    after: list[onnx.NodeProto] = []
    for info in graph.output:
        if _is_other(info.type):
            name = renamed.get(info.name) or free_name(f"{info.name}.float32", taken)
            if info.name not in renamed:
                graph.value_info.append(_retyped(info, name))
                after.append(_cast(name, info.name, info.type.tensor_type.elem_type))
            renamed[info.name] = name
    for info in graph.value_info:
        if _is_other(info.type):
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    for node in nodes:
        for values in (node.input, node.output):
            values[:] = [renamed.get(name, name) for name in values]
        for attribute in node.attribute:
            _set_attribute(attribute)
    del graph.node[:]
    graph.node.extend([*before, *nodes, *after])


def _set_attribute(attribute: onnx.AttributeProto) -> None:
    if attribute.type == attribute.INT and attribute.name in _TYPE_ATTRIBUTES:
        if attribute.i in OTHER_FLOATS:
            attribute.i = TensorProto.FLOAT
    elif attribute.type == attribute.TENSOR and attribute.t.data_type in OTHER_FLOATS:
        attribute.t.CopyFrom(_constant(attribute.t))


def _constant(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        made = values.astype(np.float32)
    lost = np.isinf(made) & np.isfinite(values.astype(np.float64))
    if lost.any():
        raise InputError(
            f"the constant '{tensor.name}' reaches {np.abs(values[lost]).max():g} in float64; "
            "expected numbers that float32 holds, which the model is computed in"
        )
    return numpy_helper.from_array(made, tensor.name)


def _is_other(kind: onnx.TypeProto) -> bool:
    return kind.tensor_type.elem_type in OTHER_FLOATS


def _retyped(info: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    made = onnx.ValueInfoProto(name=name, type=info.type)
    made.type.tensor_type.elem_type = TensorProto.FLOAT
    return made


def _cast(source: str, result: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}.cast", to=to)
