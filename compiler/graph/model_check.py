"""Whether a model is valid ONNX, asked before anything else reads it.

ONNX's own checker does the work; it sees a model without its weights, which it need not copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import onnx
from onnx import TensorProto, helper

from edgefusion.compiler.graph.opset import is_standard, opset_of, schema_of
from edgefusion.runtime.errors import InputError

_LARGE_BYTES = 1024
_UNCHECKED = "edgefusion.unchecked"
"""A domain that ONNX's checker does not know, and so leaves alone."""


def check_model(model: onnx.ModelProto) -> None:
    """Raise InputError, naming what is wrong, unless ``model`` keeps the rules of ONNX: operators
    with the operands and attributes of their definitions, tensors with as many values as their
    shapes say, names that something makes. UnsupportedOpError for a standard operator that is none.
    """
    version = opset_of(model)
    bare = _without_weights(model)
    try:
        for tensor in model.graph.initializer:
            _check_size(tensor)
        for node in filter(is_standard, bare.graph.node):
            if schema_of(node, version).deprecated:  # and read all the same
                node.domain = _UNCHECKED
        bare.opset_import.append(helper.make_opsetid(_UNCHECKED, 1))
        onnx.checker.check_model(bare)
        for node in model.graph.node:
            _check_node(node)
    except onnx.checker.ValidationError as error:
        reason = " ".join(str(error).split("==> Context")[0].split()).rstrip(". ")
        raise InputError(
            f"the model is not valid ONNX: {reason}. Check it with onnx.checker, and export it "
            "again"
        ) from None
    except UnicodeDecodeError:
        raise InputError("the model is not valid ONNX: a name in it is no text") from None


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with inputs in the place of its large constants."""
    bare = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(bare, field.name).extend(value)
        else:
            setattr(bare, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name in ("initializer", "input"):
            continue
        if field.is_repeated:
            getattr(bare.graph, field.name).extend(value)
        elif field.message_type is None:
            setattr(bare.graph, field.name, value)
    large = {t.name: t for t in model.graph.initializer if _is_large(t)}
    for node in model.graph.node:
        if (
            node.op_type == "Constant"
            and node.output
            and any(_is_large(a.t) for a in node.attribute)
        ):
            large[node.output[0]] = node.attribute[0].t
            bare.graph.node.remove(node)
    bare.graph.input.extend(info for info in model.graph.input if info.name not in large)
    bare.graph.input.extend(
        helper.make_tensor_value_info(name, t.data_type, t.dims) for name, t in large.items()
    )
    bare.graph.initializer.extend(t for t in model.graph.initializer if t.name not in large)
    return bare


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL or len(tensor.raw_data) > _LARGE_BYTES


def _check_size(tensor: TensorProto) -> None:
    """InputError where a tensor's bytes are not those of its shape, or its type is none."""
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == 0:
        raise InputError(f"initializer '{tensor.name}' has the unknown type {tensor.data_type}")
    if any(size < 0 for size in tensor.dims):
        raise InputError(f"initializer '{tensor.name}' has the shape {list(tensor.dims)}")
    if tensor.data_type == TensorProto.STRING or not tensor.HasField("raw_data"):
        return
    bits = _BITS.get(tensor.data_type)
    bits = bits or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    expected = -(-prod(tensor.dims) * bits // 8)
    if tensor.data_location != TensorProto.EXTERNAL and len(tensor.raw_data) != expected:
        raise InputError(
            f"initializer '{tensor.name}' of shape {list(tensor.dims)} has {len(tensor.raw_data)} "
            f"bytes, expected {expected}"
        )


def _check_node(node: onnx.NodeProto) -> None:
    """InputError for what ONNX's checker lets pass and its shape inference does not survive."""
    if not is_standard(node):
        return
    stated = next((a.i for a in node.attribute if a.name == "num_outputs"), len(node.output))
    if node.op_type == "Split" and stated != len(node.output):
        raise InputError(
            f"Split '{node.name}' says num_outputs = {stated} and has {len(node.output)} outputs"
        )
    if node.op_type == "Constant" and len(node.attribute) != 1:
        raise InputError(f"Constant '{node.name}' has {len(node.attribute)} values, expected one")


_BITS: Mapping[int, int] = {
    kind: bits
    for bits, kinds in {
        4: (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1),
        8: (TensorProto.BOOL,),
    }.items()
    for kind in kinds
}
"""Of a value in ``raw_data``, where it is not that of its numpy type."""
